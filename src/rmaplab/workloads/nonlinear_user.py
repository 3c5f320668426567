"""An unprivileged user who shows himself a file by remap_file_pages, and somebody who works beside him.

    file        |b0|b1|b2| ... |bn|             as long as RAM
    window      |bn| ... |b2|b1|b0|             one mapping, in blocks of 32 KiB, the last one first: no page is at its linear place
    user        reads all of it, and once more, backwards
    bystander   |======| |=|                    an eighth of RAM: goes over it, computes, maps some pages more, writes and unmaps them: again and again
                                                until the user has done, or has got nowhere for STUCK_S

"it's like allowing a bad user to use mlock, so he can turn down the machine locally", said the announcement of the kernel that did not find such pages (Andrea Arcangeli, 18 March 2004).
To have a comparison, the same can be done with a window that shows the file in order (`remapped` False), which any user may have.

The file entries come first (MAP_NONBLOCK), while no page of the file is there: so the pages come when they are read, as the window's owner touches them. Everything that is read is compared.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.system import System
from rmaplab.machine.arrays import I64
from rmaplab.objects.flags import MAP_NONBLOCK, MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SHIFT, format_size
from rmaplab.workloads.busy import NS, Checked, compute
from rmaplab.workloads.swapload import contents

BLOCK = 8  # pages: 32 KiB
LEAST = 2 << 20
OFTEN = 8  # blocks, after which it is counted how much is mapped
COMPUTE_NS = 50_000_000
PIECE = 64  # pages that the bystander reads in one go, or maps and unmaps in a round
STUCK_S = 30
_USER, _BYSTANDER = 1, 2


class NonlinearUser(Checked):
    """One run: a window of `size` bytes, which should be as long as RAM. Raises UsageError."""

    name = "nonlinear-user"

    def __init__(self, size: int, *, remapped: bool) -> None:
        if size < LEAST:
            raise UsageError(f"a window of {format_size(size)}: it is as long as RAM, give 2 MiB or more")
        super().__init__()
        self.nr_blocks = (size >> PAGE_SHIFT) // BLOCK // 2 * 2  # of an odd number one would be at its place
        self.bystanders_pages = self.nr_blocks * BLOCK // 8
        self.remapped = remapped
        self.passes = 0
        """Of the user over his window."""
        self.most_mapped = 0
        """Pages of the file that he had mapped at once."""
        self.rounds_s: list[float] = []
        """What each of the bystander's rounds has taken, in simulated time."""
        self._user_runs, self._user_was_ns = True, 0

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory, Hung."""
        nr = self.nr_blocks * BLOCK
        space = system.new_file(contents(np.full(nr, _USER), np.arange(nr), np.zeros(nr, np.int64)))
        system.spawn(self.guarded(self._bystander))
        system.spawn(self.guarded(partial(self._user, space=space)))
        system.run()

    def _user(self, task: Task, space: AddressSpace) -> int:
        try:
            return self._read_all(task, space)
        finally:
            self._user_runs = False

    def _read_all(self, task: Task, space: AddressSpace) -> int:
        fd, nr = task.open(space, writable=True), self.nr_blocks
        at = task.mmap(nr * BLOCK << PAGE_SHIFT, PROT_READ | PROT_WRITE, MAP_SHARED, file=fd)
        size = BLOCK << PAGE_SHIFT
        if self.remapped:
            for place in range(nr):
                task.remap_file_pages(at + place * size, size, 0, (nr - 1 - place) * BLOCK, MAP_NONBLOCK)
        self.written_bytes += 2 * nr * size
        for places in (range(nr), reversed(range(nr))):
            for done, place in enumerate(places):
                block = nr - 1 - place if self.remapped else place
                pages = np.arange(block * BLOCK, (block + 1) * BLOCK)
                written = contents(np.full(BLOCK, _USER), pages, np.zeros(BLOCK, np.int64))
                if not self.compare(task, _USER, at + place * size, task.read(at + place * size, size), written):
                    return 1
                self._user_was_ns = task.kernel.machine.sched.now_ns
                if done % OFTEN == OFTEN - 1:
                    self._count(task, space)
            self.passes += 1
        self._count(task, space)
        return 0

    def _count(self, task: Task, space: AddressSpace) -> None:
        pages: I64 = np.fromiter(space.pages.values(), np.int64, len(space.pages))
        self.most_mapped = max(self.most_mapped, int((task.kernel.machine.frames.mapcount[pages] > 0).sum()))

    def _bystander(self, task: Task) -> int:
        nr, sched = self.bystanders_pages, task.kernel.machine.sched
        at = task.mmap(nr << PAGE_SHIFT)
        mine = list(_pieces(at, nr))
        for where, written in mine:
            task.write(where, written)
        self.written_bytes += nr << PAGE_SHIFT
        fine = True
        while True:
            began = sched.now_ns
            last = not self._user_runs or began - self._user_was_ns > STUCK_S * NS
            for where, written in mine:
                seen = task.read(where, len(written))
                fine = self.compare(task, _BYSTANDER, where, seen, written, counts=last) and fine
            compute(task, COMPUTE_NS)
            fine = self._work(task) and fine
            self.rounds_s.append((sched.now_ns - began) / NS)
            if last:
                return 0 if fine else 1

    def _work(self, task: Task) -> bool:
        """As a short program does: it takes memory, uses it, and gives it back."""
        at = task.mmap(PIECE << PAGE_SHIFT)
        ((_, written),) = _pieces(at, PIECE)
        task.write(at, written)
        fine = self.compare(task, _BYSTANDER, at, task.read(at, len(written)), written, counts=False)
        task.munmap(at, PIECE << PAGE_SHIFT)
        return fine


def _pieces(at: int, nr: int) -> Iterator[tuple[int, bytes]]:
    """(Address, what is to be there.)"""
    for first in range(0, nr, PIECE):
        pages = (at >> PAGE_SHIFT) + np.arange(first, min(first + PIECE, nr))
        written = contents(np.full(pages.size, _BYSTANDER), pages, np.ones(pages.size, np.int64))
        yield at + (first << PAGE_SHIFT), written
