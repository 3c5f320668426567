"""Random scripts for both sides, the same for the same seed: one random step after the other. habits.py makes others.

    make_script(seed, 17, calls)    the 17th script of a seed: made on its own, so that it can be made again without the others

A maker follows what its processes have mapped where, as a plain set of pages (lab/memory.py), so that most operations meet something: a
mapping, part of one, two that touch. It need not be right: what an operation does is for the two sides to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

from rmaplab.calls.table import BIRTHS, CALLS, HINT, MADV, MAP, MREMAP, PROTECTION, RANGE, Argument
from rmaplab.calls.words import Address, FileKind, Length, LengthKind, NumberKind
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
FILES = 6  # descriptors
FILE_PAGES = 12
LEAF = 512  # pages that one leaf table maps
SPOTS = ((0, 24), (0, 24), (0, 24), (500, 524), (300, 316))  # where in the window: around one leaf table's end, too
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
OF_FILES = [row.name for row in CALLS.values() if row.arguments and isinstance(row.arguments[0].kind, FileKind)]
MAYMOVE, FIXED, DONTUNMAP = MREMAP.words.values()
USUAL_ADVICE = ("DONTNEED", "DONTNEED", "FREE", "DONTFORK", "DOFORK", "WIPEONFORK", "KEEPONFORK", "POPULATE_WRITE")
MORE_ADVICE = [word for word in MADV.words if "MERGEABLE" not in word]  # ksmd would act on it


def make_script(seed: int, number: int, calls: frozenset[str]) -> Script:
    """The `number`-th script of a seed, of those calls only."""
    return _Maker(Random(f"{seed}:{number}"), calls).make(f"script {number} of seed {seed}")  # noqa: S311


class _Maker:
    """One script in the making."""

    def __init__(self, random: Random, calls: frozenset[str]) -> None:
        self.random = random
        self.shows_files = "create" in calls and random.random() < 0.5
        self.files: list[int] = []  # descriptors that somebody has given
        self.calls = [
            call for call in CALLS if call in calls and CALLS[call].often and (self.shows_files or call not in OF_FILES)
        ]
        self.weights = [CALLS[call].often * (2 if call in OF_FILES else 1) for call in self.calls]
        self.alive = {FIRST: Memory()}
        self.large = not random.randrange(25)  # whole leaf tables
        self.spot = (0, 4 * LEAF) if self.large else random.choice(SPOTS)
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
                call = "create"
            made = self.own.get(call, _Maker._by_its_arguments)(self, call, process, self.alive[process])
            if made is not None and self.lives.problem(made) is None:
                for gone in self.lives.ends(made):
                    del self.alive[gone]
                self.ops.append(replace(made, line=len(self.ops) + 1))
                self.lives.do(made)
        return Script(tuple(self.ops), name)

    # -- where ----------------------------------------------------------------------------------------------------------

    def _page(self, memory: Memory) -> int:
        """A page of the spot; most often one that is mapped."""
        if memory.prots and self.random.random() < 0.85:
            return self.random.choice(list(memory.prots))
        return self.random.randint(*self.spot) if not self.large else LEAF * self.random.randrange(4)

    def _span(self, memory: Memory) -> tuple[int, int]:
        """A first page and a number: a whole mapping, part of one, or anything."""
        first = self._page(memory)
        match self.random.randrange(8):
            case 0 | 1 | 2:
                run = memory.alike(first)
                return run[0], len(run)
            case 3:
                run = memory.alike(first)
                return first, run[-1] - first + 1
            case 4:
                return first, 1
            case 5:
                return first, self.random.randint(1, 6)
            case _:
                return first, self.random.randint(1, memory.alike(first)[-1] - first + 1)

    def _goal(self, memory: Memory, nr: int) -> int:
        """Where something of so many pages could go: beside a mapping, or anywhere in the spot."""
        if memory.prots and self.random.random() < 0.6:
            run = memory.alike(self.random.choice(list(memory.prots)))
            return self.random.choice([run[-1] + 1, max(0, run[0] - nr)])
        return LEAF * self.random.randrange(6) if self.large else self.random.randint(self.spot[0], self.spot[1] + 8)

    def _address(self, page: int) -> Address:
        """It, seldom a few bytes off; pages count from the window's."""
        return Address("w", page, 17 if not self.random.randrange(150) else 0)

    def _length(self, nr: int) -> Length:
        if not self.random.randrange(60):
            return Length(0)
        return Length(nr, 100 if not self.random.randrange(80) else 0)

    # -- what -----------------------------------------------------------------------------------------------------------

    def _tried(self, argument: Argument) -> Any:
        """One of the values that the table has for it."""
        return self.random.choice(argument.tried) if len(argument.tried) > 1 else argument.tried[0]

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
        return op(process, call, self._address(page), self._length(nr), prot, flags, *shown)

    def _shown(self) -> tuple[Any, ...]:
        """Perhaps a file, and from where on."""
        if not self.files or self.random.random() < 0.4:
            return ()
        return self._file(), Length(
            self.random.choice([0, 0, 0, self.random.randrange(FILE_PAGES)]),
            17 if not self.random.randrange(150) else 0,
        )

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

    def _file(self) -> int:
        """A descriptor: most often one that means something."""
        return (
            self.random.choice(self.files) if self.files and self.random.randrange(12) else self.random.randrange(FILES)
        )

    def _size(self) -> Length:
        """Of a file, or a place in it: seldom within a page."""
        most = LEAF + 40 if self.large and self.random.randrange(2) else FILE_PAGES
        return Length(self.random.randint(0, most), self.random.choice([0, 0, 0, 0, 100, 4090]))

    def _create(self, call: str, process: str, memory: Memory) -> Op:
        file = self.random.randrange(FILES)
        self.files.append(file)
        return op(process, call, file, self._size(), self._tried(CALLS[call].arguments[2]))

    def _of_file(self, call: str, process: str, memory: Memory) -> Op | None:
        """Whatever else begins with a descriptor."""
        if not self.files:
            return None
        file, left = self._file(), CALLS[call].arguments[1:]
        values = list[Any]()
        for argument in left:
            match argument.kind:
                case FileKind():
                    values.append(self._file())
                case LengthKind():
                    values.append(self._size())
                case NumberKind():
                    values.append(self.random.randint(1, 4))
                case _:
                    values.append(self._tried(argument))
        if call in ("open", "dup"):
            file = self.random.randrange(FILES)
            self.files.append(file)
        return op(process, call, file, *values)

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
        "limit": _limit, **dict.fromkeys(OF_FILES, _of_file), "create": _create,
    }  # fmt: skip  # the calls that change what is mapped where, or for which random arguments would seldom mean anything
