"""Random calls on nonlinear mappings: what FileRun does with files, and remap_file_pages in windows on one more, which nobody cuts, with reclaim beside it.

A window of it is shared; every place shows the page that it was given last, whoever has taken its entry meanwhile. What has no entry shows its linear page:
so it is after MADV_DONTNEED, and where a mapping grows or is made once more (old length 0), which is left out here.
"""

from collections.abc import Callable

import numpy as np

from rmaplab.errors import SyscallError
from rmaplab.lab.conformance.file_model import HERE, PAGES, ROOM, FileUser, Shown
from rmaplab.lab.conformance.file_run import Calls, FileRun
from rmaplab.mm.file_rules import RemapPages
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE, VM_NONLINEAR
from rmaplab.rmap.queries import referenced, unmap
from rmaplab.units import PAGE_SIZE


class NonlinearRun(FileRun):
    """One system, driven at random, with nonlinear mappings. Raises as FileRun."""

    def __init__(
        self, kernel: str, seed: int, *, index: str | None = None, paging: str | None = None, thief: bool = False
    ) -> None:
        super().__init__(kernel, seed, index=index, paging=paging, thief=thief)
        self.kept = self.make(on_disk=False)
        self.fd = self.processes[0].task.open(self.kept.space, writable=True)
        self._linear_only = False

    def weights(self) -> Calls:
        """FileRun's, and its own."""
        return {**super().weights(), self.window: 4, self.remap: 12, self.reclaim: 3}

    def window(self, process: FileUser) -> None:
        """A shared mapping of the file that is never cut."""
        at, nr, pgoff = HERE + self.choose.randrange(ROOM), self.choose.randrange(4, 13), self.choose.randrange(8)
        flags = MAP_FIXED | MAP_SHARED
        process.task.mmap(
            nr * PAGE_SIZE, PROT_READ | PROT_WRITE, flags, at * PAGE_SIZE, file=self.fd, pgoff=pgoff
        )  # fmt: skip
        for i in range(nr):
            process.pages[at + i] = Shown(self.kept, pgoff + i, shared=True, writable=True, may_write=True)

    def remap(self, process: FileUser) -> None:
        """Some places of a window; 2.6.7 may say that it has a cursor."""
        run = self.stretch(process)
        if not run or process.pages[run[0]].of is not self.kept:
            return
        pgoff = self.choose.randrange(PAGES - len(run))
        try:
            process.task.remap_file_pages(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, 0, pgoff)
        except SyscallError:
            if not self.system.kernel.rules.remap_minds_cursor:
                raise
            return
        mapped_anew = self.system.kernel.rules.remap_pages is RemapPages.MMAP
        for i, page in enumerate(run):
            shown = process.pages[page]
            shown.index = pgoff + i
            shown.linear = shown.index if mapped_anew else shown.linear

    def reclaim(self, process: FileUser) -> None:
        """A page of that file is asked for, twice."""
        del process
        pfn = self.kept.space.pages.find(self.choose.randrange(PAGES))
        if pfn < 0:
            return
        rmap, frames = self.system.kernel.rmap, self.system.machine.frames
        frames.count[pfn] += 1  # isolated
        for _ in range(2):
            referenced(rmap, np.array([pfn]))
            unmap(rmap, np.array([pfn]), np.zeros(1, np.int64))
        frames.count[pfn] -= 1

    def stretch(self, process: FileUser) -> range:
        """As FileRun says; for some calls nothing of a nonlinear mapping."""
        run = super().stretch(process)
        if run and self._linear_only and process.task.mm is not None:
            vma = process.task.mm.find_vma(run[0] * PAGE_SIZE)
            return range(0) if vma is not None and vma.flags & VM_NONLINEAR else run
        return run

    def again(self, process: FileUser) -> None:
        """Of linear mappings."""
        self._of_linear(super().again, process)

    def resize_map(self, process: FileUser) -> None:
        """Likewise."""
        self._of_linear(super().resize_map, process)

    def dontneed(self, process: FileUser) -> None:
        """Likewise."""
        self._of_linear(super().dontneed, process)

    def _of_linear(self, call: Callable[[FileUser], None], process: FileUser) -> None:
        self._linear_only = True
        call(process)
        self._linear_only = False
