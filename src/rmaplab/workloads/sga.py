"""A database's shared memory segment (its SGA), and users: processes that attach and touch all of it, one after the other.

    listener   nothing but itself; forks a server process for each user
    user 1     |======================= segment =======================|     707,789 pages of 2.7 GiB
    user 2     |======================= segment =======================|     the same pages
      ...

"just create a 2.7G file in /dev/shm, and mmap(MAP_SHARED) it from 1k processes and fault in all the pagetables from all tasks [...] you need
probably 8G" (Andrea Arcangeli, 27 February 2004, <20040227211548.GI8834@dualathlon.random>). A user attaches after fork, as a server process of a
database does, so fork copies no page table of the segment.

The segment is mapped at 256 MiB, below where mmap begins to look, as database administrators moved it there: with 3:1 that leaves 51 MiB for a
stack above 2.7 GiB, and with 2:2 as much above 1.7 GiB.

Windows: databases with more buffers than addresses mapped them through a window, 32 KiB at a time (Ingo Molnar, 9 March 2004: 512 MiB are 16,000
VMAs); files.md H. They show a file of tmpfs, as shmat maps no part of a segment.
"""

from collections.abc import Iterator
from enum import Enum

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.mm.ipc_shm import find_segment
from rmaplab.objects.flags import IPC_PRIVATE, MAP_FIXED, MAP_SHARED
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size, page_align, typed_size

BASE = 0x1000_0000
SEGMENT = page_align(27 * (1 << 30) // 10)
STACK = (3 << 30) - BASE - SEGMENT  # what the mails' 2.7 GiB leave of 3 GiB
WINDOW = 32 << 10


class How(Enum):
    """How a user maps the segment."""

    WHOLE = "whole"
    """In one piece: System V shared memory, for which the box needs a kernel.shmmax of that."""
    IN_ORDER = "windows, in order"
    """Window after window: a kernel may merge them."""
    BACKWARDS = "windows, backwards"
    """The last block first: none goes on where its neighbour ends."""
    REMAPPED = "remap_file_pages"
    """The last block first, by remap_file_pages in one mapping."""


class Sga:
    """The segment on one system, and who forks its users. Raises UsageError for a segment that a user's addresses do not hold; SyscallError, NoMemory."""

    def __init__(self, system: System, segment: int, how: How = How.WHOLE) -> None:
        room = largest(system)
        if not 0 < segment <= room:
            raise UsageError(
                f"a segment of {format_size(segment)}: a user has addresses for up to {format_size(room)}, try --segment {typed_size(room >> 20 << 20)}"
            )
        unit = PAGE_SIZE if how is How.WHOLE else WINDOW
        self.segment, self.how = -(-segment // unit) * unit, how
        self.listener = system.spawn()
        if how is How.WHOLE:
            self._id = self.listener.shmget(IPC_PRIVATE, self.segment, 0o600)
            self.file = find_segment(system.kernel, self._id, "shmat").file.mapping
        else:
            self.file = system.new_file(size=self.segment, on_disk=False)

    @property
    def nr_pages(self) -> int:
        """Of the segment."""
        return self.segment >> PAGE_SHIFT

    def attach(self) -> Task:
        """A user more, who has written to all pages of the segment. Raises SyscallError, NoMemory, OomKilled."""
        user = self.listener.fork()
        if self.how is How.WHOLE:
            user.shmat(self._id, BASE)
            user.touch(BASE, self.segment, write=True)
            return user
        opened = user.open(self.file, writable=True)
        if self.how is How.REMAPPED:
            self._map(user, opened, 0, self.segment, 0)
            for place, block in self._windows():
                user.remap_file_pages(BASE + place, WINDOW, 0, block >> PAGE_SHIFT)
        else:
            for place, block in self._windows():
                self._map(user, opened, place, WINDOW, block)
        user.touch(BASE, self.segment, write=True)
        return user

    def _windows(self) -> Iterator[tuple[int, int]]:
        """(place, the block of the segment that shows there), in bytes."""
        for place in range(0, self.segment, WINDOW):
            yield place, place if self.how is How.IN_ORDER else self.segment - WINDOW - place

    def _map(self, user: Task, opened: int, place: int, length: int, offset: int) -> None:
        flags = MAP_SHARED | MAP_FIXED
        user.mmap(length, flags=flags, address=BASE + place, file=opened, pgoff=offset >> PAGE_SHIFT)


def largest(system: System) -> int:
    """The largest segment that a user's addresses hold, beside what is below it and a stack above."""
    return system.machine.paging.task_size - BASE - STACK
