"""rmap-test 3 under pressure: one process walks over very many VMAs of one file that does not fit into RAM, a relative has the same mappings.

    file      |.7 pages.| |.7 pages.| |.7 pages.| ...        one VMA each, shared, a page of the file between two
    parent    maps all, and writes to all; forks; waits
    child     writes all of it, in order; and again, ROUNDS times; reads it

So whoever looks for a page of the file through its VMAs has two that map it and thousands that do not. The program is Andrew Morton's, `rmap-test -l -i 10 -n 10000 -s 7 -t 1` on 256 MB (5 April 2003,
<20030405040614.66511e1e.akpm@digeo.com>): here there are as many VMAs as that is for the RAM there is, and fewer rounds. Every page is written whole, and compared at last.
workloads/manyvmas.py has all seven programs at their sizes, without pressure.
"""

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size
from rmaplab.workloads.busy import Checked
from rmaplab.workloads.swapload import contents

BASE = 0x1000_0000
VMAS, ON = 10_000, 256 << 20
PAGES = 7
ROUNDS = 2
LEAST, MOST = 16, 60_000  # VMAs; max_map_count is 65,536


def usual_vmas(ram_bytes: int) -> int:
    """As many as the program had, for the RAM it had."""
    return VMAS * ram_bytes // ON


class RmapTest(Checked):
    """One run. Raises UsageError."""

    name = "rmap-test"

    def __init__(self, ram_bytes: int) -> None:
        super().__init__()
        self.vmas = usual_vmas(ram_bytes)
        if not LEAST <= self.vmas <= MOST:
            raise UsageError(
                f"{self.vmas:,} VMAs on {format_size(ram_bytes)}: rmap-test has {LEAST} to {MOST:,}, such as on --ram 16M"
            )

    @property
    def file_bytes(self) -> int:
        """Pages that are mapped."""
        return self.vmas * PAGES * PAGE_SIZE

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory, Hung."""
        space = system.new_file(size=self.vmas * (PAGES + 1) * PAGE_SIZE)
        system.spawn(self.guarded(lambda task: self._parent(task, space)))
        system.run()

    def _place(self, vma: int) -> int:
        return BASE + vma * (PAGES + 1) * PAGE_SIZE

    def _written(self, vma: int, turn: int) -> bytes:
        pages = vma * (PAGES + 1) + np.arange(PAGES)
        return contents(np.ones(PAGES, np.int64), pages, np.full(PAGES, turn))

    def _parent(self, task: Task, space: AddressSpace) -> int:
        fd = task.open(space, writable=True)
        for vma in range(self.vmas):
            at, pgoff = self._place(vma), vma * (PAGES + 1)
            task.mmap(PAGES << PAGE_SHIFT, flags=MAP_SHARED | MAP_FIXED, address=at, file=fd, pgoff=pgoff)
            task.write(at, self._written(vma, 0))
        self.written_bytes += self.file_bytes
        task.fork(self.guarded(self._child))
        while task.children:
            task.wait()
        return 0

    def _child(self, task: Task) -> int:
        for turn in range(1, ROUNDS + 1):
            for vma in range(self.vmas):
                task.write(self._place(vma), self._written(vma, turn))
        fine = True
        for vma in range(self.vmas):
            at = self._place(vma)
            seen = task.read(at, PAGES << PAGE_SHIFT)
            fine = self.compare(task, 1, at, seen, self._written(vma, ROUNDS)) and fine
        return 0 if fine else 1
