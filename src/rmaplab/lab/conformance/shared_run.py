"""Random calls on memory that processes share without a file's name: what FileRun does with files, and with these among them.

    anonymous    an object of the mapping's length, which nobody else can map; beyond it SIGBUS
    segments     of System V: attached, detached in parts, removed while they are attached; gone with their last VMA, and a new one takes their place

All FileRun's calls are made on their mappings too: fork, mprotect and mremap in their middle, advice.
"""

from dataclasses import dataclass

from rmaplab.lab.conformance.file_model import Bytes, FileUser, Shown, refused
from rmaplab.lab.conformance.file_run import Calls, FileRun
from rmaplab.objects.flags import (
    IPC_PRIVATE,
    IPC_RMID,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    SHM_DEST,
    SHM_RDONLY,
    SHM_REMAP,
)
from rmaplab.units import PAGE_SIZE

RW = PROT_READ | PROT_WRITE


@dataclass(eq=False)
class Attachable:
    """A segment: its id, its bytes; whether it has been removed."""

    shmid: int
    of: Bytes
    removed: bool = False


class SharedRun(FileRun):
    """One system, driven at random, with shared memory of all kinds. Raises as FileRun."""

    def __init__(
        self, kernel: str, seed: int, *, index: str | None = None, paging: str | None = None, thief: bool = False
    ) -> None:
        super().__init__(kernel, seed, index=index, paging=paging, thief=thief)
        self.segments: list[Attachable] = [self.new_segment() for _ in range(2)]

    def weights(self) -> Calls:
        """FileRun's, and its own."""
        return {**super().weights(), self.anonymous: 3, self.attach: 4, self.detach: 2, self.remove: 1}

    def step(self) -> None:
        """One call, check(), and a look at the segments: one that was removed is there as long as somebody shows it."""
        super().step()
        task = self.processes[0].task
        for i, segment in enumerate(self.segments):
            if segment.removed and not self.is_shown(segment.of):
                refused("EINVAL", lambda shmid=segment.shmid: task.shm_stat(shmid))  # type: ignore[misc]
                self.segments[i] = self.new_segment()
            elif bool(task.shm_stat(segment.shmid).mode & SHM_DEST) != segment.removed:
                raise AssertionError(f"segment {segment.shmid} has the wrong mode")

    def finish(self) -> None:
        """All segments are removed."""
        for segment in self.segments:
            if not segment.removed:
                self.processes[0].task.shmctl(segment.shmid, IPC_RMID)

    def run(self, steps: int) -> None:
        """As FileRun; then the files that have a name are all that is left."""
        super().run(steps)
        k = self.system.kernel
        left = k.inode_cache.nr_objects - len(self.files), len(k.shm.slots), k.committed_pages + k.committed_drift
        if any(left):
            raise AssertionError(f"{left[0]} inodes, {left[1]} segments and {left[2]} promised pages are left")

    def new_segment(self) -> Attachable:
        """A part of a page longer than whole pages, or not."""
        size = self.choose.randrange(1, 7 * PAGE_SIZE) if self.choose.random() < 0.5 else 6 * PAGE_SIZE
        return Attachable(self.processes[0].task.shmget(IPC_PRIVATE, size, 0o600), Bytes({}, size))

    def is_shown(self, of: Bytes) -> bool:
        """Whether somebody maps some of it."""
        return any(shown.of is of for process in self.processes for shown in process.pages.values())

    def anonymous(self, process: FileUser) -> None:
        """A new object."""
        at, nr, prot = self.place(), self.choose.randrange(1, 9), self.choose.choice((RW, RW, PROT_READ))
        flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED
        process.task.mmap(nr * PAGE_SIZE, prot, flags, at * PAGE_SIZE)
        of = Bytes({}, nr * PAGE_SIZE)
        process.pages.update({at + i: Shown(of, i, True, prot == RW, True) for i in range(nr)})

    def attach(self, process: FileUser) -> None:
        """In place of what is there, or where nothing is."""
        segment, at, flags = self.choose.choice(self.segments), self.place(), self.choose.choice((0, SHM_RDONLY))
        flags |= SHM_REMAP if self.choose.random() < 0.7 else 0
        pages = range(at, at + -(-segment.of.size // PAGE_SIZE))
        if not flags & SHM_REMAP and any(page in process.pages for page in pages):
            refused("EINVAL", lambda: process.task.shmat(segment.shmid, at * PAGE_SIZE, flags))
            return
        process.task.shmat(segment.shmid, at * PAGE_SIZE, flags)
        writable = not flags & SHM_RDONLY
        may_write = writable or not self.system.kernel.rules.shm_file_data_bytes
        process.pages.update({page: Shown(segment.of, page - at, True, writable, may_write) for page in pages})

    def detach(self, process: FileUser) -> None:
        """Where a page that is there would have its segment begin. What goes lies so; the first that does goes; in 2.4 all."""
        objects = [segment.of for segment in self.segments]
        parts = {at: at - shown.linear for at, shown in process.pages.items() if shown.of in objects}
        if not parts or process.task.mm is None:
            return
        begin = self.choose.choice(sorted(parts.values()))
        process.task.shmdt(begin * PAGE_SIZE)
        there = [range(vma.start // PAGE_SIZE, vma.end // PAGE_SIZE) for vma in process.task.mm.vmas]
        gone = {at for at in process.pages if not any(at in run for run in there)}
        could = {at for at, where in parts.items() if where == begin}
        must = could if self.system.kernel.rules.shmdt_takes_all else {min(at for at in could if at >= begin)}
        if not must <= gone <= could:
            raise AssertionError(f"shmdt at page {begin:#x} has taken {sorted(gone)}")
        for at in gone:
            del process.pages[at]

    def remove(self, process: FileUser) -> None:
        """For the first time, or again."""
        segment = self.choose.choice(self.segments)
        process.task.shmctl(segment.shmid, IPC_RMID)
        segment.removed = True
