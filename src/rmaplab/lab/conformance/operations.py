"""The operations of a script: each makes its call and says what should have come of it.

    Mmap  Munmap  Mprotect  Mremap  Brk         the address space changes; so does the model
    Madvise  Mlock                              with what the kernel knows of them
    Touch  Write                                pages come, and are copied where they are shared
    Spawn  Fork  Vfork  Exit                    tasks come and go

A call may be refused where memory is short or where it makes no sense. What is mapped then is read off the kernel, as far as
the call could have changed it (`Stake`); contents must be as before.
"""

from dataclasses import dataclass
from typing import Any

from rmaplab.calls.table import CALLS, MADV, MREMAP, PROT, RANGE
from rmaplab.calls.task import Task
from rmaplab.calls.words import FlagsKind
from rmaplab.lab.conformance.run import ModelProcess, Named, Refused, Run, Spot, named, pages
from rmaplab.lab.memory import Stake, marked
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_KEEPONFORK,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    PROT_READ,
    PROT_WRITE,
    VM_DONTCOPY,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)
from rmaplab.units import PAGE_SHIFT

READ_WRITE = PROT_READ | PROT_WRITE
FIXED = Named(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, "MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED")
MARKING = {  # advice: (marks that go, marks that come)
    MADV_NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
    MADV_RANDOM: (VM_SEQ_READ, VM_RAND_READ),
    MADV_SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
    MADV_DONTFORK: (0, VM_DONTCOPY),
    MADV_DOFORK: (VM_DONTCOPY, 0),
    MADV_WIPEONFORK: (0, VM_WIPEONFORK),
    MADV_KEEPONFORK: (VM_WIPEONFORK, 0),
}
TREATING = {  # advice: (whether contents go, whether locked memory refuses it, the protection it needs)
    MADV_DONTNEED: (True, True, 0),
    MADV_DONTNEED_LOCKED: (True, False, 0),
    MADV_FREE: (False, True, 0),
    MADV_COLD: (False, True, 0),
    MADV_POPULATE_READ: (False, False, PROT_READ),
    MADV_POPULATE_WRITE: (False, False, PROT_WRITE),
}
LOCKING = {call.name: call.locks for call in CALLS.values() if call.locks is not None and call.arguments[:2] == RANGE}


@dataclass(frozen=True)
class Ranged:
    """What is done to `nr_pages` at a place of a task; 0 of them is all that is mapped alike from there on."""

    task: int
    at: Spot
    nr_pages: int

    def find(self, run: Run) -> tuple[ModelProcess, Named, int, int]:
        """What that means now: the process, the address, its page, and how many."""
        process = run.process(self.task)
        at = run.place(process, self.at)
        return process, at, at >> PAGE_SHIFT, run.length(process, at, self.nr_pages)


@dataclass(frozen=True)
class Spawn:
    """Another first task."""

    def run(self, run: Run) -> None:
        """An empty address space."""
        run.spawn()


@dataclass(frozen=True)
class Fork:
    """fork(2)."""

    task: int

    def run(self, run: Run) -> None:
        """The child sees what the parent sees."""
        parent = run.process(self.task)
        run.need_room(len(parent.memory.prots))
        run.start(parent.memory.copy(), lambda name: run.call(parent, Task.fork, target=name))


@dataclass(frozen=True)
class Vfork:
    """vfork(2), and the child touches something and exits."""

    task: int
    at: Spot

    def run(self, run: Run) -> None:
        """What it does to memory, it does to its parent's."""
        parent = run.process(self.task)
        at = run.place(parent, self.at)
        child = run.start(parent.memory, lambda name: run.call(parent, Task.vfork, target=name))
        try:
            run.access(child, at, write=True)
        except Refused:
            if child not in run.processes:  # killed
                raise
        run.exit(child)


@dataclass(frozen=True)
class Exit:
    """exit(2)."""

    task: int

    def run(self, run: Run) -> None:
        """One less; the last one stays until the end."""
        if len(run.processes) == 1:
            raise Refused
        run.exit(run.process(self.task))


@dataclass(frozen=True)
class Mmap:
    """mmap(2): anywhere (`at` None), at a hint, or `fixed`."""

    task: int
    nr_pages: int
    prot: int
    at: Spot | None = None
    fixed: bool = False

    def run(self, run: Run) -> None:
        """Fresh pages, on free addresses unless it was an order."""
        process = run.process(self.task)
        run.need_room(self.nr_pages)
        options: dict[str, Any] = {} if self.prot == READ_WRITE else {"prot": named(PROT, self.prot)}
        stake = Stake()
        at = None if self.at is None else run.place(process, self.at)
        if at is not None:
            options |= {"flags": FIXED, "address": at} if self.fixed else {"address": at}
            stake = Stake([(at >> PAGE_SHIFT, self.nr_pages)] if self.fixed else [])
        target = run.next_letter()
        start = run.call(process, Task.mmap, pages(self.nr_pages), target=target, stake=stake, **options)
        run.found(start)
        if at is not None and self.fixed:
            run.claim(start == at, f"assert {target} == {at!r}")
        else:
            run.claim(process.memory.is_free(start >> PAGE_SHIFT, self.nr_pages), f"{target} was not free")
        process.memory.map(start >> PAGE_SHIFT, self.nr_pages, self.prot)


@dataclass(frozen=True)
class Munmap(Ranged):
    """munmap(2)."""

    def run(self, run: Run) -> None:
        """They go."""
        process, at, first, nr = self.find(run)
        run.call(process, Task.munmap, at, pages(nr), stake=Stake([(first, nr)]))
        process.memory.unmap(first, nr)


@dataclass(frozen=True)
class Mprotect(Ranged):
    """mprotect(2)."""

    prot: int

    def run(self, run: Run) -> None:
        """A hole in the range is an error, and what precedes it is changed."""
        process, at, first, nr = self.find(run)
        hole, stake = process.memory.has_hole(first, nr), Stake([(first, nr)])
        run.call(process, Task.mprotect, at, pages(nr), named(PROT, self.prot), stake=stake, refusable=hole)
        run.claim(not hole, f"{run.lines[-1]} must be ENOMEM")
        process.memory.protect(first, nr, self.prot)


@dataclass(frozen=True)
class Mremap:
    """mremap(2). `flags` say whether it stays where it is (0), may move, or must move `to` a place."""

    task: int
    at: Spot
    old_pages: int
    new_pages: int
    flags: int
    to: Spot

    def run(self, run: Run) -> None:
        """Pages keep what is in them. Where mappings begin and end is the kernel's business: it may refuse."""
        process = run.process(self.task)
        at = run.place(process, self.at)
        run.need_room(max(self.new_pages, self.old_pages))
        old, target = at >> PAGE_SHIFT, run.next_letter()
        old_pages = run.length(process, at, self.old_pages)
        stays = bool(self.flags & MREMAP_DONTUNMAP)
        new_pages = old_pages if stays else self.new_pages
        arguments: list[object] = [at, pages(old_pages), pages(new_pages), named(MREMAP, self.flags)]
        spans, cleared, moved = [(old, max(old_pages, new_pages))], [], 0
        if self.flags & MREMAP_FIXED:
            arguments.append(to := run.place(process, self.to))
            cleared, moved = [(to >> PAGE_SHIFT, new_pages)], (to >> PAGE_SHIFT) - old
        stake = Stake(spans + cleared, cleared, grows=True, moved=moved)
        result = run.call(process, Task.mremap, *arguments, target=target, refusable=True, stake=stake)
        run.found(result)
        new, memory = result >> PAGE_SHIFT, process.memory
        short = run.armed or run.scarce
        tail = {page: memory.stamps[page] for page in range(old + new_pages, old + old_pages) if page in memory.stamps}
        free = new == old or bool(cleared) or memory.is_free(new, new_pages)
        run.claim(free, f"{target} was not free")
        if cleared:
            run.claim((new, new_pages) == cleared[0], f"assert {target} == {arguments[-1]!r}")
        if cleared and old_pages == new_pages:  # since 6.17 a move may take more than one VMA along, and gaps
            for first, nr in memory.parts(old, old_pages):
                memory.move(first, nr, new + first - old, nr, stays=stays)
        else:
            memory.move(old, old_pages, new, new_pages, stays=stays)
        if stays:  # the whole source VMA is unlocked, of which we know no borders
            memory.marks = marked(process.mm)
        careless = not run.system.kernel.rules.mremap_minds_munmap  # what could not be cut off stays as it was
        uncut = run.armed and new != old  # a source that could not be cut stays, empty: move_vma does not look
        if (short and careless) or uncut:
            changed = memory.adopt(run.system, process.mm, Stake([(old, old_pages)]))
            run.claim(changed is None, f"{run.lines[-1]} has changed {changed}")
            memory.stamps |= {page: stamp for page, stamp in tail.items() if page in memory.prots}


@dataclass(frozen=True)
class Brk:
    """brk(2)."""

    task: int
    nr_pages: int

    def run(self, run: Run) -> None:
        """The heap ends so many pages from its beginning."""
        process = run.process(self.task)
        run.need_room(self.nr_pages)
        memory, heap = process.memory, run.places[1]
        first, now, then = heap >> PAGE_SHIFT, memory.heap_pages, self.nr_pages
        stake = Stake([(first + min(now, then), abs(now - then))])
        end = run.call(process, Task.brk, heap.plus(then), refusable=then > now, stake=stake)
        if end != heap.plus(then):  # it has failed to shrink, and says so by where it ends
            changed = memory.adopt(run.system, process.mm, stake)
            run.claim(changed is None and (run.armed or run.scarce), f"brk ends at {end:#x}, and has changed {changed}")
            raise Refused
        if then > now:
            memory.map(first + now, then - now, READ_WRITE)
        else:
            memory.unmap(first + then, now - then)
        memory.heap_pages = then


@dataclass(frozen=True)
class Touch(Ranged):
    """A byte of every page is read, or written back unchanged."""

    write: bool

    def run(self, run: Run) -> None:
        """Nobody sees a difference."""
        process, at, _, nr = self.find(run)
        run.access(process, at, nr, write=self.write)


@dataclass(frozen=True)
class Write(Ranged):
    """Something new is written into each page."""

    def run(self, run: Run) -> None:
        """The writer sees it, nobody else does."""
        process = run.process(self.task)
        for page in range(self.nr_pages):
            at = run.place(process, Spot(self.at.index, self.at.page + page))
            run.nr_stamps += 1
            stamp = b"%08d" % run.nr_stamps
            run.access(process, at, stamp=stamp, write=True)
            process.memory.stamps[at >> PAGE_SHIFT] = int.from_bytes(stamp, "little")


@dataclass(frozen=True)
class Madvise(Ranged):
    """madvise(2) with an advice that marks pages, or that does something to them at once."""

    advice: int

    def run(self, run: Run) -> None:
        """A hole does not stop it, and is an error all the same."""
        process, at, first, nr = self.find(run)
        memory, span, range_ = process.memory, (first, nr), range(first, first + nr)
        bad = memory.has_hole(first, nr)
        advice = named(MADV, self.advice)
        if self.advice in MARKING:
            go, come = MARKING[self.advice]
            run.call(process, Task.madvise, at, pages(nr), advice, stake=Stake([span]), refusable=bad)
            memory.mark(first, nr, go, come)
        else:
            forgets, minds_locks, needed = TREATING[self.advice]
            bad |= minds_locks and any(memory.marks.get(page, 0) & VM_LOCKED for page in range_)
            bad |= bool(needed) and any(not memory.prots.get(page, 0) & needed for page in range_)
            stake = Stake([span], [span] if forgets else [])
            run.call(process, Task.madvise, at, pages(nr), advice, stake=stake, refusable=bad)
            if forgets:
                memory.forget(first, nr)
        run.claim(not bad, f"{run.lines[-1]} must fail")


@dataclass(frozen=True)
class Mlock(Ranged):
    """One of LOCKING, with all its flags: mlock(2) and its relatives."""

    call: str

    def run(self, run: Run) -> None:
        """Up to a hole; and pages that nobody may read are locked all the same, with an error where the kernel looks."""
        process, at, first, nr = self.find(run)
        memory, call, come = process.memory, CALLS[self.call], LOCKING[self.call]
        bad, rules = memory.has_hole(first, nr), run.system.kernel.rules
        if come and not come & VM_LOCKONFAULT and rules.mlock_tells_faults:  # they are brought in
            locked = (
                VM_LOCKED if rules.mlock_faults_each_vma else 0
            )  # whose pages have come, or not, are not asked again
            bad |= any(
                not memory.prots.get(page, 0) and not memory.marks.get(page, 0) & locked
                for page in range(first, first + nr)
            )
        kinds = [argument.kind for argument in call.arguments if isinstance(argument.kind, FlagsKind)]
        flags = [named(kind, sum(kind.words.values())) for kind in kinds]
        run.call(process, call.method, at, pages(nr), *flags, stake=Stake([(first, nr)]), refusable=bad)
        run.claim(not bad, f"{run.lines[-1]} must fail")
        memory.mark(first, nr, VM_LOCKED_MASK, come)
