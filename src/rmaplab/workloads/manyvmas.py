"""rmap-test and test-mmap: programs that map one file with very many VMAs, which objrmap's lists were measured by in March 2004.

    rmap-test    every process maps stretches of one file, shared and writable, a page of the file between two
                 |== 600 pages ==| . |== 600 pages ==| . ...        x 101 processes
    test-mmap    every process maps pages of one file, each by itself, the last one first
                 |17,999| |17,998| |17,997| ...                     x 1 or 32

All pages are written to, by every process. That rmap-test-2 touches them at random, in 2 of its 100 VMAs at a time, is nothing to a
walk: the VMAs are those of rmap-test-1.

Sizes: Andrew Morton's rmap-test (LKML, 5 April 2003), as autotest has it; Ingo Molnar's test-mmap, test-mmap2 and test-mmap3 (LKML, 9 March
2004); files.md E4.
"""

from typing import NamedTuple, Self

from rmaplab.calls.task import Task
from rmaplab.kernels.system import System
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

BASE = 0x1000_0000


class ManyVmas(NamedTuple):
    """One of the programs: VMAs a process, pages each, pages of the file between two, processes; whether the last page is mapped first."""

    name: str
    vmas: int
    pages: int
    gap: int
    processes: int
    backwards: bool = False

    @property
    def nr_vmas(self) -> int:
        """Of all processes: so many map the file."""
        return self.vmas * self.processes

    def smaller(self, by: int) -> Self:
        """The same with one VMA in `by`; of processes that have one VMA each, with one process in `by`."""
        if self.vmas > 1:
            return self._replace(vmas=max(self.vmas // by, 1))
        return self._replace(processes=max(self.processes // by, 1))

    def run(self, system: System) -> tuple[AddressSpace, list[Task]]:
        """The file, and all processes with all pages faulted in, the parent first. Raises SyscallError, NoMemory, OomKilled."""
        parent = system.spawn()
        space = system.new_file(size=(self.vmas * (self.pages + self.gap) + 1) * PAGE_SIZE, on_disk=False)
        opened = parent.open(space, writable=True)
        length = self.pages * PAGE_SIZE
        places = range(BASE, BASE + self.vmas * (length + PAGE_SIZE), length + PAGE_SIZE)
        for vma, at in enumerate(places):
            parent.mmap(length, flags=MAP_SHARED | MAP_FIXED, address=at, file=opened, pgoff=self._first_page(vma))
            parent.touch(at, length, write=True)
        tasks = [parent]
        for _ in range(self.processes - 1):
            child = parent.fork()
            tasks.append(child)
            for at in places:
                child.touch(at, length, write=True)
        return space, tasks

    def file_page(self, nr: int) -> int:
        """Which page of the file is mapped as number `nr`, in the order in which the VMAs were."""
        vma, within = divmod(nr, self.pages)
        return self._first_page(vma) + within

    def sample(self, most: int) -> list[int]:
        """Of the pages, by number, about `most`, evenly spread: each with its mirror image, so that their mean on a list is that of all."""
        total = self.vmas * self.pages
        some = range(0, total, (-(-2 * total // most)) | 1)
        return sorted({*some, *(total - 1 - nr for nr in some)})

    def _first_page(self, vma: int) -> int:
        return self.vmas - vma if self.backwards else vma * (self.pages + self.gap)


PROGRAMS = {
    program.name: program
    for program in (
        ManyVmas("rmap-test-1", 100, 600, 1, 101),
        ManyVmas("rmap-test-2", 100, 600, 1, 101),
        ManyVmas("rmap-test-3", 10_000, 7, 1, 2),
        ManyVmas("rmap-test-4", 1, 65_536, 0, 513),
        ManyVmas("test-mmap", 18_000, 1, 0, 1, backwards=True),
        ManyVmas("test-mmap2", 1_800, 1, 0, 32, backwards=True),
        ManyVmas("test-mmap3", 18_000, 1, 0, 32, backwards=True),
    )
}
"""By name, at their published sizes."""
