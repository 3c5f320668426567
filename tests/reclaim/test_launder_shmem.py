"""Pages of shared memory under 2.4's reclaim, visit by visit: reclaim.md J.1.

file on tmpfs: [p0 p1 ... p11], written by write(2); nobody maps it; the tail of the inactive list is p0

    dirty --visit--> in the swap cache, dirty, unlocked --visit--> locked, launder --written--> clean --visit--> free
"""

import numpy as np

import rmaplab
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.frames import PG_ACTIVE, PG_DIRTY, PG_LAUNDER, PG_LOCKED, PG_LRU, PG_REFERENCED, PG_SWAPCACHE
from rmaplab.objects.flags import IPC_PRIVATE, SHM_LOCK, SHM_UNLOCK
from rmaplab.reclaim.virtual import Attempt, VirtualReclaim
from rmaplab.units import PAGE_SIZE

STATE = PG_LRU | PG_ACTIVE | PG_DIRTY | PG_REFERENCED | PG_LOCKED | PG_LAUNDER | PG_SWAPCACHE
NR = 12


class Stage:
    """2.4.21, the file, and reclaim that acts when it is told to."""

    def __init__(self, *, slots: int = 256) -> None:
        swap = f"{(slots + 2) * 4}K"
        self.system = rmaplab.boot("2.4.21", ram="16M", swap=swap, boot_use=0, overcommit=1, paging="i386")
        self.k = self.system.kernel
        self.lists, self.frames = self.k.machine.allocator.lru, self.k.machine.frames
        reclaim = install(self.system)
        assert isinstance(reclaim, VirtualReclaim)
        self.reclaim = reclaim
        self.task = self.system.spawn(root=True)
        self.file = self.system.new_file(size=NR * PAGE_SIZE, on_disk=False)
        self.fd = self.task.open(self.file, writable=True)

    def write(self) -> None:
        for page in range(NR):
            self.task.pwrite(self.fd, b"page %d" % page, page * PAGE_SIZE)
        self.forget()

    def forget(self) -> None:
        """Nobody has used any page: all is inactive, in the order of the file."""
        pages = np.array([self.file.pages[index] for index in sorted(self.file.pages)], np.int64)
        self.lists.remove(pages)
        self.lists.add(pages, active=False)
        self.frames.flags[pages] &= ~np.uint32(PG_REFERENCED)

    def visit(self) -> int:
        """shrink_cache meets each inactive page once: how many have gone."""
        attempt = Attempt(self.lists.ends.size - 1)
        self.reclaim.shrink_cache(attempt, max_scan=int(self.lists.nr[:, 0].sum()), max_mapped=1000)
        self.system.check()
        return attempt.total

    def state(self, page: int) -> tuple[int, int]:
        """(Flags, count); (0, 0) if it is not in memory."""
        pfn = self.file.pages.get(page, self.k.swap.cached.get(self.file.slots.get(page, 0), -1))
        return (int(self.frames.flags[pfn]) & STATE, int(self.frames.count[pfn])) if pfn >= 0 else (0, 0)

    def states(self) -> set[tuple[int, int]]:
        return {self.state(page) for page in range(NR)}


def test_a_page_goes_in_three_visits_and_comes_back_with_its_bytes() -> None:
    stage = Stage()
    stage.write()
    assert stage.states() == {(PG_LRU | PG_DIRTY, 1)}
    assert stage.visit() == 0
    assert stage.states() == {(PG_LRU | PG_DIRTY | PG_SWAPCACHE, 1)}
    assert {int(stage.k.swap.users[slot]) for slot in stage.file.slots.values()} == {2}
    assert stage.visit() == 0
    assert stage.states() == {(PG_LRU | PG_SWAPCACHE | PG_LOCKED | PG_LAUNDER, 1)}
    stage.k.machine.disk.settle()
    assert stage.states() == {(PG_LRU | PG_SWAPCACHE, 1)}
    assert stage.visit() == NR
    assert (stage.states(), stage.k.swap.nr_used, stage.file.nr_blocks) == ({(0, 0)}, NR, NR)
    for page in range(NR):
        assert stage.task.pread(stage.fd, 8, page * PAGE_SIZE) == (b"page %d" % page).ljust(8, b"\0")
    assert (stage.k.swap.nr_used, stage.file.slots) == (0, {})
    stage.system.check()


def test_who_wants_a_page_that_is_being_written_sleeps() -> None:
    stage = Stage()
    stage.write()
    stage.visit()
    stage.visit()
    before = stage.k.machine.sched.now_ns
    stage.task.pwrite(stage.fd, b"!", 3 * PAGE_SIZE)
    assert stage.k.machine.sched.now_ns > before
    assert stage.state(3)[0] & (PG_LOCKED | PG_LAUNDER | PG_SWAPCACHE | PG_DIRTY) == PG_DIRTY
    stage.system.check()


def test_a_page_of_zeros_is_dropped_and_its_block_with_it() -> None:
    """shmem_removepage: nobody has to look first."""
    stage = Stage()
    at = stage.task.mmap(NR * PAGE_SIZE, 1, 1, file=stage.fd)
    stage.task.touch(at, NR * PAGE_SIZE)
    stage.task.munmap(at, NR * PAGE_SIZE)
    stage.forget()
    assert stage.file.nr_blocks == NR
    assert stage.visit() == NR
    assert (stage.file.nr_blocks, stage.k.swap.nr_used) == (0, 0)


def test_what_writepage_refuses_is_active_and_used() -> None:
    """fail_writepage: no slot, or SHM_LOCK."""
    stage = Stage(slots=5)
    stage.write()
    stage.visit()
    moved = len(stage.file.slots)
    assert 0 < moved < NR
    assert sorted(stage.file.slots) == list(range(moved))
    assert {stage.state(page) for page in range(moved, NR)} == {(PG_LRU | PG_ACTIVE | PG_REFERENCED | PG_DIRTY, 1)}
    stage = Stage()
    shmid = stage.task.shmget(IPC_PRIVATE, NR * PAGE_SIZE, 0o600)
    at = stage.task.shmat(shmid)
    stage.task.touch(at, NR * PAGE_SIZE, write=True)
    stage.task.shmctl(shmid, SHM_LOCK)
    stage.file = next(file for file in stage.k.page_cache.files.values() if file.pages.get(0) is not None)
    stage.task.shmdt(at)
    stage.forget()
    stage.visit()
    assert stage.states() == {(PG_LRU | PG_ACTIVE | PG_REFERENCED | PG_DIRTY, 1)}
    stage.task.shmctl(shmid, SHM_UNLOCK)
    stage.forget()
    stage.visit()
    assert len(stage.file.slots) == NR


def test_a_read_uses_a_page_by_its_beginning_or_by_being_the_first() -> None:
    """f_reada, as for other files; write(2) sets PG_referenced, however often."""
    stage = Stage()
    stage.write()
    for _ in range(3):
        stage.task.pwrite(stage.fd, b"x", PAGE_SIZE)
    assert stage.state(1) == (PG_LRU | PG_DIRTY | PG_REFERENCED, 1)
    other = stage.task.open(stage.file)
    for _ in range(2):
        stage.task.pread(other, 9, 5 * PAGE_SIZE + 1)
    assert stage.state(5) == (PG_LRU | PG_DIRTY | PG_REFERENCED, 1)
    stage.task.pread(other, 9, 5 * PAGE_SIZE)
    assert stage.state(5) == (PG_LRU | PG_DIRTY | PG_ACTIVE, 1)
