"""Random calls on a box that is too small for them: pages go to swap and come back all the time, and nothing may be lost.

    RAM   64 to 256 frames     as many pages are written at the beginning; then tasks have up to 400 mapped
    swap  64 to 512 slots      the rest of it

After every call everything is recounted, and the contents of all memory, here or in swap, are what a plain model says. A call that gets no memory because RAM
and swap are full must leave things as they were, as everywhere in this kit. Nobody is killed.

Marks: min is a page for every 32 frames, so low and high are two and three.
"""

from random import Random

from rmaplab.errors import NoMemory, UsageError
from rmaplab.kernels.system import System, boot
from rmaplab.lab.conformance.operations import (
    READ_WRITE,
    Brk,
    Exit,
    Fork,
    Madvise,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Spawn,
    Touch,
    Write,
)
from rmaplab.lab.conformance.run import Operation, Run, Spot, Step
from rmaplab.objects.flags import MADV_DONTNEED, MREMAP_MAYMOVE, PROT_READ
from rmaplab.reclaim.reclaimer import Reclaimer
from rmaplab.units import PAGE_SIZE

FRAMES, SLOTS = (64, 96, 128, 256), (64, 128, 256, 512)
MOST = 400  # pages mapped by all tasks


class PressureRun(Run):
    """One seed. `priorities` has one for each area that swap is divided into. `outs` and `ins` are pages that have gone to swap and come back."""

    def __init__(
        self, kernel: str, seed: int, *, paging: str | None = None, priorities: tuple[int, ...] = (0,)
    ) -> None:
        self.random = random = Random(seed)  # noqa: S311
        self._frames = frames = random.choice(FRAMES)
        slots = random.choice(SLOTS)
        format_ = {"paging": paging} if paging else {}
        system = boot(
            kernel,
            ram=frames * PAGE_SIZE,
            swap=[f"{slots // len(priorities) * PAGE_SIZE}@{priority}" for priority in priorities],
            boot_use=0,
            pages_min=frames // 32,
            overcommit=1,
            cpus=2,
            **format_,  # type: ignore[arg-type]
        )
        how = f"paging={paging!r}, priorities={priorities}"
        super().__init__(system, f"PressureRun({kernel!r}, {seed}, {how})", scarce=True)
        install(system)

    def run(self, nr_calls: int) -> None:
        """So many calls, and the end. Raises whatever is wrong."""
        self.begin()
        self.step(Step(Mmap(0, self._frames, READ_WRITE)))  # RAM is full from here on
        self.step(Step(Touch(0, Spot(0, 0), self._frames, write=True)))
        while self.nr_calls < nr_calls:
            while len(self.processes) > 1 and self._mapped > MOST:
                self.exit(self.random.choice(self.processes))
                self.verify()
            self.step(Step(self._operation()))
        self.finish()

    @property
    def outs(self) -> int:
        """Pages written to swap."""
        return self.system.machine.ledger.counts["pswpout"]

    @property
    def ins(self) -> int:
        """Pages read from it."""
        return self.system.machine.ledger.counts["pswpin"]

    @property
    def _mapped(self) -> int:
        return sum(len(process.memory.prots) for process in self.processes)

    def _operation(self) -> Operation:
        random = self.random
        task, spot = random.randrange(6), Spot(random.choice((0, 0, 1, 2, 3)), random.choice((0, 0, 0, 2, 7)))
        few = random.choice((1, 2, 5, 16))
        kinds: dict[Operation, int] = {
            Mmap(task, random.choice((4, 16, 40, 64)), READ_WRITE): 6,
            Write(task, spot, few): 14,
            Touch(task, spot, random.choice((0, few)), random.random() < 0.6): 24,
            Fork(task): 7,
            Munmap(task, spot, random.choice((0, few))): 3,
            Mremap(task, spot, few, random.choice((few, 24)), MREMAP_MAYMOVE, Spot(0, 0)): 4,
            Mprotect(task, spot, few, random.choice((READ_WRITE, READ_WRITE, PROT_READ))): 4,
            Madvise(task, spot, few, MADV_DONTNEED): 3,
            Mlock(task, spot, random.choice((1, 2)), random.choice(("mlock", "munlock"))): 2,
            Brk(task, random.randrange(24)): 2,
            Exit(task): 3,
            Spawn(): 1,
        }
        return random.choices(list(kinds), list(kinds.values()))[0]


def install(system: System) -> Reclaimer:
    """The kernel's reclaim, and when that has come to nothing and swap is full the call has no memory. Raises UsageError: it has none here."""
    k, reclaim = system.kernel, system.spec.reclaim_class()
    if reclaim is None:
        raise UsageError(f"{system.spec.name} does not reclaim here: try 2.4.21, or 2.6.2 to 2.6.7")

    def out_of_memory(wanted: str) -> None:
        if k.swap.nr_free <= 0:
            raise NoMemory(f"{wanted}: RAM and swap are full", waiting_helps=True)

    return reclaim(k, system.spec.reclaim_rules(system.machine.paging.word_bytes), out_of_memory)
