"""Random calls on files that live in memory, memfds among them, which get holes and seals: what SharedRun does, and these among it.

    allocate    fallocate: the file grows, with pages that nobody has touched
    punch       fallocate with PUNCH_HOLE: what lay there is zeros for all who share it; private copies stay, or are lost, by era
    forget      MADV_REMOVE: the same, of what a mapping shows
    seal        a memfd is filled, mapped, sealed, tried, and closed: its mapping lives on

Where a call or an advice is not there yet it says so.
"""

from rmaplab.lab.conformance.file_model import PAGES, Bytes, FileBytes, FileUser, Shown, refused
from rmaplab.lab.conformance.file_run import Calls
from rmaplab.lab.conformance.shared_run import SharedRun
from rmaplab.objects.flags import (
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_REMOVE,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MFD_ALLOW_SEALING,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class HolesRun(SharedRun):
    """One system, driven at random. Raises as FileRun."""

    def __init__(
        self, kernel: str, seed: int, *, index: str | None = None, paging: str | None = None, thief: bool = False
    ) -> None:
        super().__init__(kernel, seed, index=index, paging=paging, thief=thief)
        first, self.rules = self.processes[0].task, self.system.kernel.rules
        if self.rules.memfd_flags:
            fd, of = first.memfd_create(), Bytes({}, PAGES // 2 * PAGE_SIZE)
            first.ftruncate(fd, of.size)
            self.opened += [(of, fd)] * 2
            self.writable.add(fd)

    def weights(self) -> Calls:
        """SharedRun's, and its own."""
        return {**super().weights(), self.allocate: 1, self.punch: 2, self.forget: 2, self.seal: 2}

    def in_memory(self) -> tuple[Bytes, int]:
        """A file of those that have no disk, and a descriptor that may write to it."""
        files = [(of, fd) for of, fd in self.opened if fd in self.writable and not is_on_disk(of)]
        return self.choose.choice(files)

    def span(self) -> tuple[int, int]:
        """(From which byte on, how many.)"""
        return self.choose.randrange(PAGES * PAGE_SIZE), self.choose.randrange(1, 5 * PAGE_SIZE)

    def allocate(self, process: FileUser) -> None:
        """Perhaps behind the end."""
        (of, fd), (offset, length) = self.in_memory(), self.span()
        if not self.rules.fallocate_known:
            refused("ENOSYS", lambda: process.task.fallocate(fd, 0, offset, length))
            return
        process.task.fallocate(fd, 0, offset, length)
        if offset + length > of.size:
            self.resize(of, offset + length)

    def punch(self, process: FileUser) -> None:
        """Perhaps behind the end."""
        (of, fd), (offset, length) = self.in_memory(), self.span()
        if not self.rules.fallocate_known:
            refused("ENOSYS", lambda: process.task.fallocate(fd, HOLE, offset, length))
            return
        process.task.fallocate(fd, HOLE, offset, length)
        self.empty(of, offset, length)

    def forget(self, process: FileUser) -> None:
        """Of what is shared and may be written to."""
        run = self.stretch(process)
        if not run:
            return
        shown = process.pages[run[0]]

        def call() -> None:
            process.task.madvise(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, MADV_REMOVE)

        if not self.rules.madvise_advice >> MADV_REMOVE & 1:
            refused("EINVAL", call)
        elif not shown.shared or not shown.may_write:
            refused("EACCES", call)
        elif not is_on_disk(shown.of):
            call()
            self.empty(shown.of, shown.index * PAGE_SIZE, len(run) * PAGE_SIZE)

    def empty(self, of: Bytes, offset: int, length: int) -> None:
        """A hole."""
        for index in [index for index in of.pages if offset <= index * PAGE_SIZE + PAGE_SIZE - 1]:
            begin, end = (max(0, min(at - index * PAGE_SIZE, PAGE_SIZE)) for at in (offset, offset + length))
            of.pages[index][begin:end] = bytes(end - begin)
        whole = range(-(-offset // PAGE_SIZE), (offset + length) // PAGE_SIZE)
        for shown in self.shown() if self.rules.punch_loses_copies else ():
            if shown.of is of and shown.index in whole:
                shown.copy = None

    def seal(self, process: FileUser) -> None:
        """What is sealed is refused, and the rest is not; and no seal against writing where somebody may write."""
        if not self.rules.memfd_flags:
            refused("ENOSYS", process.task.memfd_create)
            return
        task, nr, at, shared = process.task, self.choose.randrange(1, 6), self.place(), self.choose.random() < 0.5
        size, of = nr * PAGE_SIZE, Bytes({}, nr * PAGE_SIZE)
        fd = task.memfd_create(MFD_ALLOW_SEALING)
        task.ftruncate(fd, size)
        task.pwrite(fd, b"sealed", size - 6)
        of.page(nr - 1)[-6:] = b"sealed"
        writable = self.choose.random() < 0.5
        prot = PROT_READ | (PROT_WRITE if writable else 0)
        task.mmap(size, prot, MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE), at * PAGE_SIZE, file=fd)
        for i in range(nr):
            process.pages[at + i] = Shown(of, i, shared=shared, writable=writable, may_write=True)
        seals = self.choose.choice((F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_WRITE))
        if not shared:
            seals |= self.choose.choice((0, F_SEAL_FUTURE_WRITE))
        if shared and seals & F_SEAL_WRITE:
            refused("EBUSY", lambda: task.add_seals(fd, seals))
            seals = 0
        else:
            task.add_seals(fd, seals)
        if task.get_seals(fd) != seals:
            raise AssertionError(f"the seals {seals:#x} are {task.get_seals(fd):#x}")
        self.try_seals(process, fd, of, seals)
        task.close(fd)

    def try_seals(self, process: FileUser, fd: int, of: Bytes, seals: int) -> None:
        """Each against what it is for; and what changes nothing is allowed without."""
        task, size = process.task, of.size
        writing, data = seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE), bytes(of.page(0)[:9])
        attempts = (
            (seals & F_SEAL_SHRINK, lambda: task.ftruncate(fd, size - 1)),
            (seals & F_SEAL_GROW, lambda: task.ftruncate(fd, size + PAGE_SIZE)),
            (writing, lambda: task.mmap(PAGE_SIZE, PROT_WRITE, MAP_SHARED | MAP_FIXED, 1 << 40, file=fd)),
        )
        harmless = (lambda: task.pwrite(fd, data, 0), lambda: task.fallocate(fd, HOLE, size, PAGE_SIZE))
        for sealed, attempt in (*attempts, *((writing, attempt) for attempt in harmless)):
            if sealed:
                refused("EPERM", attempt)
            elif attempt in harmless:
                attempt()


def is_on_disk(of: Bytes) -> bool:
    """Whether it is a file on a disk."""
    return isinstance(of, FileBytes) and of.space.on_disk
