"""Random calls on shared memory of all kinds, on files and on anonymous memory, on a box that is too small for them: what SharedRun and FilePressureRun do, under reclaim.

    RAM    96 to 224 frames      segments, /dev/zero, shared anonymous memory, three files on tmpfs; files on disks and copies beside them
    swap   1024 slots            and a second area of 256, of a higher priority, that goes (swapoff) and comes back

    lock   SHM_LOCK: nothing more of that segment goes to swap; SHM_UNLOCK
    press  three quarters of RAM are written, and unmapped again: what was there has gone to swap

Pages of shared memory go to swap and come back by fault, read(2), write(2), ftruncate and swapoff, and nothing may be lost. At the end, when nobody has anything any more, no slot is used.

Files that some place shows out of order are not cut: what that leaves is SharedRun's, without reclaim.
"""

from rmaplab.cache.swap_area import SWAP_MAP_BAD
from rmaplab.calls.task import Task
from rmaplab.errors import NoMemory, SyscallError
from rmaplab.lab.conformance.file_model import PAGES, Bytes, FileBytes, FileUser
from rmaplab.lab.conformance.file_pressure_run import FilePressureRun
from rmaplab.lab.conformance.file_run import Calls
from rmaplab.lab.conformance.shared_run import Attachable, SharedRun, is_nonlinear
from rmaplab.objects.flags import SHM_LOCK, SHM_UNLOCK
from rmaplab.units import PAGE_SIZE

SECOND = 256 * PAGE_SIZE


class SharedPressureRun(FilePressureRun, SharedRun):
    """One seed. `moved` pages of shared memory have come back from swap, `refused` swapoffs had no room. Raises as FileRun."""

    def __init__(self, kernel: str, seed: int, *, index: str | None = None, paging: str | None = None) -> None:
        super().__init__(kernel, seed, index=index, paging=paging)
        self.processes[0].task.limits.may_lock = True
        self.second: int | None = self.system.swapon(f"{SECOND}@5")
        self.refused = 0
        first = self.processes[0].task
        for each in [self.make(on_disk=False) for _ in range(2)]:
            self.files.append(each)
            self.open(first, each, (True, True, False))
        self.locked: dict[Attachable, int] = {}

    def begin_anew(self) -> Task:
        """As its parent; and it may lock segments, and map zeros."""
        task = super().begin_anew()
        task.limits.may_lock, self.zero = True, task.open_zero()
        return task

    @property
    def moved(self) -> int:
        """Pages of shared memory that have come back."""
        return self.system.machine.ledger.counts["shmem_swap_in"]

    def weights(self) -> Calls:
        """Its parents', and its own."""
        own: Calls = {
            self.read_all: 9,
            self.write_all: 4,
            self.lock: 2,
            self.swap: 1,
            self.press: 9,
            self.truncate: 5,
            self.read_on: 1,
            self.fill: 14,
        }
        return super().weights() | own

    def step(self) -> None:
        """One call, check(); and what is locked stays."""
        super().step()
        for segment, before in self.locked.items():
            now = self.swapped(segment)
            if now > before:
                raise AssertionError(f"segment {segment.shmid} is locked, and {now - before} of its pages went to swap")
            self.locked[segment] = now

    def swapped(self, segment: Attachable) -> int:
        """How many of its pages lie there."""
        return len(self.system.kernel.shm.slots[segment.shmid % (1 << 15)].file.mapping.slots)

    def lock(self, process: FileUser) -> None:
        """A segment, or not any more."""
        segment, task = self.choose.choice(self.segments), process.task
        if segment.removed:
            self.locked.pop(segment, None)
        elif segment in self.locked:
            task.shmctl(segment.shmid, SHM_UNLOCK)
            del self.locked[segment]
        else:
            task.shmctl(segment.shmid, SHM_LOCK)
            self.locked[segment] = self.swapped(segment)

    def remove(self, process: FileUser) -> None:
        """It may go at once."""
        super().remove(process)
        self.locked = {segment: nr for segment, nr in self.locked.items() if not segment.removed}

    def swap(self, process: FileUser) -> None:
        """The second area goes, if there is room for what lies there, or comes."""
        del process
        if self.second is None:
            self.second = self.system.swapon(f"{SECOND}@5")
            return
        try:
            self.system.swapoff(self.second)
            self.second = None
        except (NoMemory, SyscallError):
            self.refused += 1

    def read_all(self, process: FileUser) -> None:
        """A file on tmpfs, from its beginning to its end."""
        of, opened = self.choose.choice([each for each in self.opened if not self.is_on_disk(each[0])])
        there = b"".join(of.page(index) for index in range(-(-of.size // PAGE_SIZE)))[: of.size]
        if process.task.pread(opened, of.size + 1, 0) != there:
            raise AssertionError(f"descriptor {opened} shows other bytes than its file has")

    def write_all(self, process: FileUser) -> None:
        """Some bytes into each page of one."""
        writable = [each for each in self.opened if each[1] in self.writable and not self.is_on_disk(each[0])]
        of, opened = self.choose.choice(writable)
        for index in range(of.size // PAGE_SIZE):
            offset, data = self.choose.randrange(PAGE_SIZE - 9), self.choose.randbytes(9)
            process.task.pwrite(opened, data, index * PAGE_SIZE + offset)
            of.page(index)[offset : offset + 9] = data

    @staticmethod
    def is_on_disk(of: Bytes) -> bool:
        """Whether it is a file on a disk."""
        return isinstance(of, FileBytes) and of.space.on_disk

    def press(self, process: FileUser) -> None:
        """Somebody needs memory, and not for long."""
        nr = self.nr_long // 4  # the long file has three times the RAM
        at = process.task.mmap(nr * PAGE_SIZE)
        process.task.touch(at, nr * PAGE_SIZE, write=True)
        process.task.munmap(at, nr * PAGE_SIZE)

    def truncate(self, process: FileUser) -> None:
        """To a whole number of pages, where a disk has it, and mostly of many; and nothing that is shown out of order."""
        of, opened = self.choose.choice([each for each in self.opened if each[1] in self.writable])
        pages = PAGES - self.choose.choice((1, 2, 2, 3, 5, 9, PAGES))
        size = pages * PAGE_SIZE + (0 if self.is_on_disk(of) else self.choose.choice((0, 100, 4000)))
        if not any(of in (shown.of, shown.home) for shown in self.shown() if is_nonlinear(shown)):
            process.task.ftruncate(opened, size)
            self.cut(of, size)

    def finish(self) -> None:
        """All that is mapped goes, and segments: what has a name is all that is in swap."""
        SharedRun.finish(self)
        super().finish()
        k = self.system.kernel
        named = {slot for each in self.files for slot in each.space.slots.values()}
        used = {int(slot) for slot in ((k.swap.users > 0) & (k.swap.users != SWAP_MAP_BAD)).nonzero()[0]}
        if left := {slot for slot in used - named if k.swap.users[slot] > (slot in k.swap.cached)}:
            raise AssertionError(f"slots {sorted(left)} are used, and nobody has anything there")
