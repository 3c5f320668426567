"""Random scripts for both sides, the same for the same seed: one random step after the other. habits.py makes others.

    make_script(seed, 17, calls)    the 17th script of a seed: made on its own, so that it can be made again without the others

A maker follows what its processes have mapped where, as a plain set of pages (lab/memory.py), so that most operations meet something: a
mapping, part of one, two that touch. It need not be right: what an operation does is for the two sides to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

from rmaplab.calls.table import BIRTHS, CALLS, HINT, MADV, MAP, MREMAP, PROTECTION, RANGE
from rmaplab.calls.words import Address, Length
from rmaplab.lab.differential.fuzz_steps import LEAF, OF_FILES, OF_SEGMENTS, Steps
from rmaplab.lab.memory import Memory
from rmaplab.objects.flags import (
    CLONE_VM,
    MAP_FIXED_NOREPLACE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    RLIMIT_NPROC,
    RLIMIT_STACK,
)
from rmaplab.workloads.script import FIRST, Lives, Op, Script, op

LEAST_OPS, MOST_OPS = 4, 24
MOST_ALIVE, NAMES = 5, "BCDEFGHIJKLMNOP"
# a flag of mmap once in so many
MAP_CHANCES = {
    "NORESERVE": 20,
    "LOCKED": 25,
    "POPULATE": 15,
    "GROWSDOWN": 40,
    "STACK": 80,
    "NONBLOCK": 80,
    "DROPPABLE": 30,
}
MAYMOVE, FIXED, DONTUNMAP = MREMAP.words.values()
USUAL_ADVICE = (
    "DONTNEED", "DONTNEED", "FREE", "FREE", "DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "POPULATE_WRITE", "REMOVE"
)  # fmt: skip
MORE_ADVICE = [word for word in MADV.words if "MERGEABLE" not in word]  # ksmd would act on it


def make_script(seed: int, number: int, calls: frozenset[str]) -> Script:
    """The `number`-th script of a seed, of those calls only."""
    return _Maker(Random(f"{seed}:{number}"), calls).make(f"script {number} of seed {seed}")  # noqa: S311


class _Maker(Steps):
    """One script in the making."""

    def __init__(self, random: Random, calls: frozenset[str]) -> None:
        super().__init__(random)
        self.shows_files = "create" in calls and random.random() < 0.5
        self.attaches = "shmget" in calls and random.random() < 0.25
        self.shares = self.attaches or random.random() < 0.4
        left_out = {*(OF_FILES if not self.shows_files else ()), *(OF_SEGMENTS if not self.attaches else ())}
        left_out |= {"remap_file_pages"} if not (self.shares or self.shows_files) else set()
        self.calls = [call for call in CALLS if call in calls and CALLS[call].often and call not in left_out]
        self.weights = [
            CALLS[call].often * (2 if call in OF_FILES or call in OF_SEGMENTS else 1) for call in self.calls
        ]
        self.alive = {FIRST: Memory()}
        self.locks = (
            "limit" if self.large else random.choice(["limit", "mlockall"])
        )  # the agent's own memory counts for both: docs/divergences.md
        self.names = iter(NAMES)
        self.lives = Lives()
        self.ops: list[Op] = []

    def make(self, name: str) -> Script:
        """All of it."""
        for number in range(self.random.randint(LEAST_OPS, 10 if self.large else MOST_OPS)):
            ready = [process for process in self.alive if process not in self.lives.waits]
            process = self.random.choice(ready)
            call = self.random.choices(self.calls, self.weights)[0]
            if number == 0 or (number == 1 and not self.random.randrange(3)):
                call = "mmap"
            if number == 0 and self.shows_files:
                call = self.random.choice(["create", "create", "memfd"]) if "memfd" in self.calls else "create"
            if number == 1 and self.attaches:
                call = "shmget"
            if self.soon and self.soon[0].process in ready:
                made: Op | None = self.soon.pop(0)
            else:
                made = self.own.get(call, _Maker._by_its_arguments)(self, call, process, self.alive[process])
            if made is not None and self.lives.problem(made) is None:
                for gone in self.lives.ends(made):
                    del self.alive[gone]
                self.ops.append(replace(made, line=len(self.ops) + 1))
                self.lives.do(made)
        return Script(tuple(self.ops), name)

    def _by_its_arguments(self, call: str, process: str, memory: Memory) -> Op:
        """A call that is its name and its arguments: a range somewhere, and values that the table has for the others."""
        arguments = CALLS[call].arguments
        more = [self._tried(argument) for argument in arguments if argument.tried]
        return self._ranged(call, process, memory, *more) if arguments[:2] == RANGE else op(process, call, *more)

    def _ranged(self, call: str, process: str, memory: Memory, *more: Any) -> Op:
        page, nr = self._span(memory)
        return op(process, call, self._address(page), self._length(nr), *more)

    def _mmap(self, call: str, process: str, memory: Memory) -> Op:
        nr = self.random.choice([LEAF, LEAF, 2 * LEAF, LEAF + 9, 5]) if self.large else self.random.randint(1, 8)
        prot = self._tried(PROTECTION)
        flags = 0
        for flag, chance in MAP_CHANCES.items():
            if not self.random.randrange(chance) and (
                "mlock" in self.calls or flag in ("NORESERVE", "STACK", "DROPPABLE")
            ):
                flags |= MAP.words[flag]
        shown = self._shown()
        if shown and self.random.randrange(2):
            flags |= MAP.words["SHARED"] | (0 if self.random.randrange(30) else MAP.words["PRIVATE"])
        elif not shown and self.shares and not self.random.randrange(4):
            flags |= MAP.words["SHARED"] | (0 if self.random.randrange(60) else MAP.words["PRIVATE"])
        if not self.random.randrange(16):
            return op(process, call, "any", self._length(nr), prot, flags, *shown)
        page = self._goal(memory, nr)
        match self.random.randrange(20):
            case 0:
                flags |= HINT
            case 1:
                flags |= MAP_FIXED_NOREPLACE
        if not flags & (HINT | MAP_FIXED_NOREPLACE):
            memory.map(page, nr, prot)
            if flags & MAP.words["SHARED"]:
                self.shared.append((page, nr))
                if "remap_file_pages" in self.calls and not self.random.randrange(5):
                    self.soon.append(self._remap_file_pages("remap_file_pages", process, memory))
        return op(process, call, self._address(page), self._length(nr), prot, flags, *shown)

    def _munmap(self, call: str, process: str, memory: Memory) -> Op:
        page, nr = self._span(memory)
        memory.unmap(page, nr)
        return op(process, call, self._address(page), self._length(nr))

    def _mprotect(self, call: str, process: str, memory: Memory) -> Op:
        page, nr = self._span(memory)
        prot = self._tried(PROTECTION)
        memory.protect(page, nr, prot)
        return op(process, call, self._address(page), self._length(nr), prot)

    def _mremap(self, call: str, process: str, memory: Memory) -> Op:
        page, nr = self._span(memory)
        flags = self.random.choice([MAYMOVE | FIXED, MAYMOVE | FIXED, MAYMOVE, MAYMOVE | FIXED | DONTUNMAP, *range(8)])
        new = nr
        if self.random.random() < (0.15 if flags & DONTUNMAP else 0.4):
            new = self.random.choice([max(1, nr - 1), nr + 1, nr + self.random.randint(1, 6), 1, 0])
        old = self._length(nr) if self.random.randrange(30) else Length(0)
        to = None
        if flags & FIXED or (flags & DONTUNMAP and self.random.randrange(4)):
            goal = self._goal(memory, new)
            to = self._address(goal)
            if flags & FIXED and flags & MAYMOVE and page in memory.prots and not goal - nr < page < goal + new:
                memory.move(page, nr, goal, new)
                if flags & DONTUNMAP:
                    memory.map(page, nr, memory.prots[goal] if new else 0)
        elif new < nr:
            memory.unmap(page + new, nr - new)
        return op(process, call, self._address(page), old, self._length(new), flags, to)

    def _remap_file_pages(self, call: str, process: str, memory: Memory) -> Op:
        """Of what is shared, most often."""
        made = self._by_its_arguments(call, process, memory)
        if not self.shared or not self.random.randrange(8):
            return made
        page, nr = self.random.choice([self.shared[-1], self.random.choice(self.shared)])
        first = self.random.randrange(nr)
        part = self.random.choice([1, 1, nr - first, self.random.randint(1, nr)])
        return op(process, call, self._address(page + first), self._length(part), *made.arguments[2:])

    def _brk(self, call: str, process: str, memory: Memory) -> Op:
        return op(process, call, Address("h", self.random.randint(0, 6)))

    def _madvise(self, call: str, process: str, memory: Memory) -> Op:
        usual = self.random.random() < 0.7
        advice = MADV.words[self.random.choice(USUAL_ADVICE if usual else MORE_ADVICE)]
        return self._ranged(call, process, memory, advice)

    def _process_madvise(self, call: str, process: str, memory: Memory) -> Op:
        who = self.random.choice([process, *self.alive])
        spans = [self._span(self.alive[who]) for _ in range(self.random.choice([1, 2, 2]))]
        words = ("COLD", "WILLNEED") if who != process and self.random.randrange(4) else (*USUAL_ADVICE, "COLD")
        ranges = [(self._address(page), self._length(nr)) for page, nr in spans]
        return op(
            process, call, who, *ranges[0], MADV.words[self.random.choice(words)], *(ranges[1] if ranges[1:] else ())
        )

    def _mlockall(self, call: str, process: str, memory: Memory) -> Op | None:
        return None if self.locks == "limit" else self._by_its_arguments(call, process, memory)

    def _access(self, call: str, process: str, memory: Memory) -> Op:
        where = self.random.randrange(40)
        if where == 0:
            return op(process, call, Address("h", self.random.randint(0, 4)), self.random.randint(1, 2))
        if where == 1:
            return op(process, call, Address("m", -self.random.randint(1, 12)), 1)
        page, nr = self._span(memory)
        if self.large and self.random.randrange(4):
            page, nr = page + self.random.randrange(nr), 1
        wanted = PROT_READ if call == "read" else PROT_WRITE
        if self.random.random() < 0.8 and not memory.prots.get(page, 0) & wanted:  # most should succeed
            possible = [mapped for mapped, prot in memory.prots.items() if prot & wanted]
            page = self.random.choice(possible) if possible else page
            nr = memory.alike(page)[-1] - page + 1 if self.random.randrange(2) else 1
        return op(process, call, Address("w", page), nr if self.random.random() < 0.6 else 1)

    def _fetch(self, call: str, process: str, memory: Memory) -> Op | None:
        """What the first 256 pages of a write begin with may be run."""
        return None if self.large else op(process, call, Address("w", self._page(memory)))

    def _birth(self, call: str, process: str, memory: Memory) -> Op | None:
        child = next(self.names, None) if len(self.alive) < MOST_ALIVE else None
        if child is None:
            return None
        self.alive[child] = memory if CALLS[call].clone_flags & CLONE_VM else memory.copy()
        return op(process, call, child, *(self._tried(argument) for argument in CALLS[call].arguments[1:]))

    def _exec(self, call: str, process: str, memory: Memory) -> Op:
        self.alive[process] = Memory()
        return op(process, call)

    def _exit(self, call: str, process: str, memory: Memory) -> Op | None:
        ended = op(process, call, *(0 for _ in CALLS[call].arguments))
        if len(self.lives.ends(ended)) == len(self.alive):
            return None
        return self._by_its_arguments(call, process, memory)

    def _limit(self, call: str, process: str, memory: Memory) -> Op:
        if self.locks == "limit" and self.random.randrange(2):
            return op(process, call, RLIMIT_MEMLOCK, Length(self.random.choice([0, 3, 9, 9, 200])))
        if not self.random.randrange(3):
            return op(process, call, RLIMIT_STACK, Length(self.random.choice([0, 2, 9, 2048])))
        if not self.random.randrange(3):
            return op(process, call, RLIMIT_DATA, Length(self.random.choice([0, 3, 12, 40])))
        if not self.random.randrange(6):
            return op(process, call, RLIMIT_NPROC, Length(self.random.choice([0, 2, 3, 4])))
        return op(process, call, RLIMIT_AS, Length(self.random.choice([16, 40, 4000])))

    own: ClassVar[Mapping[str, Callable[["_Maker", str, str, Memory], Op | None]]] = {
        "mmap": _mmap, "munmap": _munmap, "mprotect": _mprotect, "mremap": _mremap, "brk": _brk, "madvise": _madvise,
        "mlockall": _mlockall, "process_madvise": _process_madvise, "read": _access, "write": _access, "fetch": _fetch, **dict.fromkeys(BIRTHS, _birth),
        "exec": _exec, "exit": _exit, "kill": _exit,
        "limit": _limit, **dict.fromkeys(OF_FILES, Steps.of_file), "create": Steps.create, "memfd": Steps.memfd,
        **dict.fromkeys(OF_SEGMENTS, Steps.of_segment), "shmget": Steps.shmget, "shmat": Steps.shmat, "shmdt": Steps.shmdt, "remap_file_pages": _remap_file_pages,
    }  # fmt: skip  # the calls that change what is mapped where, or for which random arguments would seldom mean anything
