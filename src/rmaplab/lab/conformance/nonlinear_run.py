"""Random calls on nonlinear mappings with reclaim beside them: FileRun's, SharedRun's remap_file_pages, and windows on a file that nobody cuts.

Every place of a window shows the page that it was given last, whoever has taken its entry meanwhile: a file entry says which that was.
"""

import numpy as np

from rmaplab.lab.conformance.file_model import HERE, PAGES, ROOM, FileUser, Shown
from rmaplab.lab.conformance.file_run import Calls, FileRun
from rmaplab.lab.conformance.shared_run import RW, SharedRun
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED
from rmaplab.rmap.queries import referenced, unmap
from rmaplab.units import PAGE_SIZE


class NonlinearRun(SharedRun):
    """One system, driven at random. Raises as FileRun."""

    def __init__(
        self, kernel: str, seed: int, *, index: str | None = None, paging: str | None = None, thief: bool = False
    ) -> None:
        super().__init__(kernel, seed, index=index, paging=paging, thief=thief)
        self.kept = self.make(on_disk=False)
        self.files.append(self.kept)
        self.fd = self.processes[0].task.open(self.kept.space, writable=True)

    def weights(self) -> Calls:
        """FileRun's, without other memory that is shared, and its own."""
        return {**FileRun.weights(self), self.window: 4, self.reorder: 14, self.reclaim: 3}

    def window(self, process: FileUser) -> None:
        """A shared mapping of the file that is never cut."""
        at, nr, pgoff = HERE + self.choose.randrange(ROOM), self.choose.randrange(4, 13), self.choose.randrange(8)
        process.task.mmap(
            nr * PAGE_SIZE, RW, MAP_FIXED | MAP_SHARED, at * PAGE_SIZE, file=self.fd, pgoff=pgoff
        )  # fmt: skip
        for i in range(nr):
            process.pages[at + i] = Shown(self.kept, pgoff + i, shared=True, writable=True, may_write=True)

    def reclaim(self, process: FileUser) -> None:
        """A page of that file is asked for, twice: what was young is old then."""
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
