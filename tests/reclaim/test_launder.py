"""Pages of a file on a disk under 2.4's reclaim: flags, counts and places after each visit, as reclaim.md A.1, C.3 and C.6 have them.

file: [p0 p1 ... p23]    "page 0", "page 1" ... on a disk; read by read(2), or mapped; the tail of the inactive list is p0

    a mapping has written   entry goes --> PG_dirty --visit--> locked, launder --written--> clean --visit--> free
    write(2) has            buffers dirty --visit--> wait_IO --visit--> under writeback --visit, waits--> free
"""

from collections.abc import Callable

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import DiskError, KernelBug, SyscallError
from rmaplab.kernels.system import System
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.frames import (
    BH_DIRTY,
    BH_WAIT_IO,
    PG_ACTIVE,
    PG_DIRTY,
    PG_ERROR,
    PG_LAUNDER,
    PG_LOCKED,
    PG_LRU,
    PG_REFERENCED,
    PG_WRITEBACK,
)
from rmaplab.machine.ledger import Ledger
from rmaplab.mm.filemap import make_ways
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import read_window
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED, MS_SYNC, PROT_READ, PROT_WRITE
from rmaplab.objects.mm_types import VmArea
from rmaplab.reclaim.virtual import Attempt, VirtualReclaim
from rmaplab.units import PAGE_SIZE

STATE = (
    PG_LRU | PG_ACTIVE | PG_DIRTY | PG_WRITEBACK | PG_REFERENCED | PG_LOCKED | PG_LAUNDER | PG_ERROR | BH_DIRTY | BH_WAIT_IO
)  # fmt: skip
RW = PROT_READ | PROT_WRITE
NR = 24
MS = 10**6
"""Of nanoseconds; a seek takes some."""


class Stage:
    """2.4.21, a file of NR pages, one task that has it open, and reclaim that acts when it is told to."""

    def __init__(self, kernel: str = "2.4.21", *, size: int = NR * PAGE_SIZE, paging: str = "i386") -> None:
        self.system = rmaplab.boot(kernel, ram="16M", swap="1M", boot_use=0, overcommit=1, paging=paging)
        self.k = self.system.kernel
        self.lists, self.frames = self.k.machine.allocator.lru, self.k.machine.frames
        reclaim = install(self.system)
        assert isinstance(reclaim, VirtualReclaim)
        self.reclaim = reclaim
        self.task: Task = self.system.spawn()
        data = b"".join(b"page %d" % page + bytes(PAGE_SIZE - len(b"page %d" % page)) for page in range(NR))
        self.file = self.system.new_file(data[:size])
        self.fd = self.task.open(self.file, writable=True)

    def read(self) -> None:
        """All of it, and nobody has used it."""
        self.task.pread(self.fd, NR * PAGE_SIZE, 0)
        self.settle()
        self.forget()

    def write(self, data: bytes, first: int = 0, last: int = 1) -> None:
        """By write(2), at the beginning of [first, last); and nobody has used it."""
        for page in range(first, last):
            self.task.pwrite(self.fd, data, page * PAGE_SIZE)
        self.forget()

    def store(self, data: bytes, first: int = 0, last: int = 1) -> int:
        """By a mapping, which has lost its entries since: where the file's page 0 would be mapped."""
        start = self.task.mmap((last - first) * PAGE_SIZE, RW, MAP_SHARED, file=self.fd, pgoff=first)
        for page in range(last - first):
            self.task.write(start + page * PAGE_SIZE, data)
        self.settle()
        self.unmap()
        return start - first * PAGE_SIZE

    def unmap(self) -> None:
        """swap_out takes all entries: the first turn finds them young."""
        for _ in range(2):
            self.forget()
            self.reclaim.swap_out(self.nr_zones - 1)
        self.system.check()

    def settle(self) -> None:
        self.k.machine.disk.settle()

    def forget(self) -> None:
        """Nobody has used any page: all is inactive, in the order of the file."""
        pages = np.array([self.file.pages[index] for index in sorted(self.file.pages)], np.int64)
        self.lists.remove(pages)
        self.lists.add(pages, active=False)
        self.frames.flags[pages] &= ~np.uint32(PG_REFERENCED)

    @property
    def nr_zones(self) -> int:
        return int(self.lists.ends.size)

    def visit(self, *, max_mapped: int = 1000) -> int:
        """shrink_cache meets each inactive page once: how many have gone. `max_mapped` of them may be mapped."""
        nr = int(self.lists.nr[:, 0].sum())
        attempt = Attempt(self.nr_zones - 1)
        self.reclaim.shrink_cache(attempt, max_scan=nr, max_mapped=max_mapped)
        self.system.check()
        return attempt.total

    def state(self, page: int) -> tuple[int, int]:
        """(Flags, count); (0, 0) if it is not in the cache."""
        pfn = self.file.pages.get(page, -1)
        return (int(self.frames.flags[pfn]) & STATE, int(self.frames.count[pfn])) if pfn >= 0 else (0, 0)

    def states(self, first: int, last: int) -> set[tuple[int, int]]:
        return {self.state(page) for page in range(first, last)}

    def counted(self, event: str) -> int:
        return self.k.machine.ledger.counts[event]

    def now(self) -> int:
        return self.k.machine.sched.now_ns


# -- where they come -------------------------------------------------------------------------------------------------------------


def test_a_read_brings_inactive_pages_and_uses_them() -> None:
    """By its beginning, or by the first read of an open file (f_reada), wherever in the page that begins. The second use makes it active."""
    stage = Stage()
    stage.read()
    assert stage.states(0, NR) == {(PG_LRU, 1)}
    assert stage.lists.pages(0, active=False).tolist() == [stage.file.pages[page] for page in range(NR)]
    stage.task.pread(stage.fd, 10, 5 * PAGE_SIZE + 1)
    assert stage.state(5) == (PG_LRU, 1)
    other = stage.task.open(stage.file)
    for _ in range(2):
        stage.task.pread(other, 10, 5 * PAGE_SIZE + 1)
    assert stage.state(5) == (PG_LRU | PG_REFERENCED, 1)
    stage.task.pread(stage.fd, 10, 5 * PAGE_SIZE)
    assert stage.state(5) == (PG_LRU | PG_ACTIVE, 1)
    stage.system.check()


def test_a_write_is_no_second_use() -> None:
    """SetPageReferenced: however often. And what is dirty is not the page (BH_Dirty)."""
    stage = Stage()
    for _ in range(3):
        stage.task.pwrite(stage.fd, b"x" * PAGE_SIZE, NR * PAGE_SIZE)
    assert stage.state(NR) == (PG_LRU | PG_REFERENCED | BH_DIRTY, 1)


def test_a_fault_uses_its_page_and_an_entry_that_goes_does_not() -> None:
    """filemap_nopage; zap_pte_range of 2.4 looks at no young bit."""
    stage = Stage()
    stage.read()
    start = stage.task.mmap(4 * PAGE_SIZE, PROT_READ, MAP_SHARED, file=stage.fd)
    stage.task.touch(start, 4 * PAGE_SIZE)
    assert stage.states(0, 4) == {(PG_LRU | PG_REFERENCED, 2)}
    stage.task.munmap(start, 4 * PAGE_SIZE)
    assert stage.states(0, 4) == {(PG_LRU | PG_REFERENCED, 1)}


# -- clean ones ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["2.4.21", "2.4.21+pte_chain", "2.4.21+anon_vma"])
def test_clean_pages_that_nobody_maps_go_at_once(kernel: str) -> None:
    """Used or not. They are read again."""
    stage = Stage(kernel)
    stage.read()
    stage.task.pread(stage.fd, NR * PAGE_SIZE, 0)
    free, read = stage.k.machine.allocator.nr_unused, stage.counted("disk_read")
    assert stage.visit() == NR
    assert not len(stage.file.pages)
    assert stage.k.machine.allocator.nr_unused == free + NR
    assert stage.task.pread(stage.fd, 7, 11 * PAGE_SIZE) == b"page 11"
    assert stage.counted("disk_read") > read
    assert not stage.counted("disk_write")


def test_mapped_ones_are_counted_and_stay_and_lead_to_swap_out() -> None:
    """Eight are mapped. The eighth is one too many: swap_out takes the entries, which are old, and the next visit all."""
    stage = Stage()
    stage.read()
    start = stage.task.mmap(8 * PAGE_SIZE, PROT_READ, MAP_PRIVATE, file=stage.fd)
    stage.task.touch(start, 8 * PAGE_SIZE)
    stage.reclaim.swap_out(stage.nr_zones - 1)  # they are old now
    stage.forget()
    assert stage.visit(max_mapped=8) == NR - 8
    assert stage.states(0, 8) == {(PG_LRU, 2)}
    assert stage.visit(max_mapped=7) == 0
    assert stage.states(0, 8) == {(PG_LRU, 1)}
    assert not stage.counted("pswpout")
    assert stage.visit() == 8
    assert stage.task.read(start + 3 * PAGE_SIZE, 6) == b"page 3"


def test_what_is_being_read_is_passed_by() -> None:
    """Locked, but not by reclaim: nobody waits."""
    stage = Stage()
    assert read_window(stage.k, stage.file, 0, 6) == 6
    assert stage.states(0, 6) == {(PG_LRU | PG_LOCKED, 1)}
    before = stage.now()
    assert stage.visit() == 0
    assert stage.now() == before
    assert stage.states(0, 6) == {(PG_LRU | PG_LOCKED, 1)}
    stage.settle()
    assert stage.visit() == 6


def test_a_page_that_cannot_be_read_goes_too() -> None:
    """Not uptodate, and not locked any more."""
    stage = Stage()
    stage.file.store = Unreadable(stage.file.store)
    with pytest.raises(SyscallError, match="Errno 5"):
        stage.task.pread(stage.fd, 1, 0)
    stage.settle()
    assert len(stage.file.pages)
    assert stage.visit() >= 1
    assert not len(stage.file.pages)


def test_reclaim_may_take_what_a_fault_is_about_to_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps for page tables, and the pages that it has found are somebody else's then."""
    stage, nr = Stage(), 0
    stage.read()

    def slow(k: Kernel, vma: VmArea, start: int, end: int) -> None:
        nonlocal nr
        make_ways(k, vma, start, end)
        if not nr:
            nr = stage.visit()
            k.machine.allocator.sleeps += 1  # as an allocation that reclaims

    monkeypatch.setattr("rmaplab.mm.file_fault.make_ways", slow)
    start = stage.task.mmap(NR * PAGE_SIZE, PROT_READ, MAP_PRIVATE, file=stage.fd)
    stage.task.touch(start, NR * PAGE_SIZE)
    assert nr == NR
    stage.system.check()
    assert stage.task.read(start + 9 * PAGE_SIZE, 6) == b"page 9"


# -- dirty pages -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
def test_what_a_mapping_has_written_goes_in_three_steps(paging: str) -> None:
    """swap_out passes the dirty bit on; writepage, locked; written: clean, where it was. Its bytes are on the disk, and nothing is in swap."""
    stage = Stage(paging=paging)
    start = stage.store(b"NEW", 8, 16)
    assert stage.states(8, 16) == {(PG_LRU | PG_DIRTY, 1)}
    stage.visit()
    assert stage.states(8, 16) == {(PG_LRU | PG_LOCKED | PG_LAUNDER, 1)}
    assert stage.counted("disk_write") == stage.counted("file_writepage") == 8
    stage.settle()
    assert stage.states(8, 16) == {(PG_LRU, 1)}
    assert {stage.file.store[page][:4] for page in range(8, 16)} == {b"NEWe"}
    assert stage.visit() == 8
    assert not len(stage.file.pages)
    assert stage.task.read(start + 9 * PAGE_SIZE, 4) == b"NEWe"
    assert (stage.counted("disk_write"), stage.counted("pswpout")) == (8, 0)


def test_whoever_comes_by_again_waits() -> None:
    """PG_launder. It is not freed by who has waited, but by the next."""
    stage = Stage()
    stage.store(b"NEW", 0, 4)
    stage.visit()
    before = stage.now()
    assert stage.visit() < 4
    assert stage.now() > before
    assert stage.counted("wait_on_page") == 1
    stage.visit()
    assert not len(stage.file.pages)


def test_who_writes_to_it_meanwhile_sleeps_and_who_reads_does_not() -> None:
    """__grab_cache_page locks the page; do_generic_file_read asks whether it is uptodate."""
    stage = Stage()
    stage.store(b"NEW")
    stage.visit()
    before = stage.now()
    assert stage.task.pread(stage.fd, 3, 0) == b"NEW"
    assert stage.now() - before < MS
    assert stage.state(0)[0] & PG_LOCKED
    for data in (b"part", b"whole".ljust(PAGE_SIZE, b"\0")):
        stage.task.pwrite(stage.fd, data, 0)
        assert stage.now() - before > MS
        assert not stage.state(0)[0] & PG_LOCKED
        stage.task.fsync(stage.fd)
        assert stage.file.store[0][:4] == data[:4]
        stage.store(b"NEW")
        stage.visit()
        before = stage.now()


def test_a_part_of_a_page_at_the_end_is_left_to_its_buffers() -> None:
    """block_write_full_page: __block_commit_write makes them dirty, and unlocks the page."""
    stage = Stage(size=2 * PAGE_SIZE + 100)
    stage.store(b"NEW", 1, 3)
    stage.visit()
    assert stage.state(1)[0] == PG_LRU | PG_LOCKED | PG_LAUNDER
    assert stage.state(2)[0] == PG_LRU | BH_DIRTY
    assert stage.file.store[2][:3] == b"pag"
    for _ in range(4):
        stage.visit()
    assert not len(stage.file.pages)
    assert stage.file.store[2][:3] == b"NEW"


def test_what_lies_behind_the_end_is_not_written() -> None:
    """Truncate has moved the end, and not come by yet: -EIO, which nobody hears of."""
    stage = Stage()
    stage.store(b"NEW", 5, 6)
    size, stage.file.size = stage.file.size, 5 * PAGE_SIZE
    stage.reclaim.shrink_cache(Attempt(stage.nr_zones - 1), max_scan=len(stage.file.pages))
    stage.file.size = size
    assert stage.state(5) == (PG_LRU, 1)
    assert not stage.counted("disk_write")
    assert stage.file.store[5][:6] == b"page 5"


@pytest.mark.parametrize("by_mapping", [True, False])
def test_who_cuts_the_file_waits(by_mapping: bool) -> None:
    stage = Stage()
    (stage.store if by_mapping else stage.write)(b"NEW", 0, 4)
    for _ in range(1 if by_mapping else 2):
        stage.visit()
    assert stage.state(1)[0] & (PG_LOCKED | PG_WRITEBACK)
    stage.task.ftruncate(stage.fd, 0)
    assert not stage.k.machine.disk.busy
    assert not len(stage.file.pages)
    stage.system.check()


# -- dirty buffers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_what_write_has_written_is_met_three_times(mapped: bool) -> None:
    """BH_Wait_IO; written, though somebody maps it; waited for, and free at once, or counted as mapped."""
    stage = Stage()
    stage.read()
    assert stage.visit() == NR
    stage.write(b"NEW", 2, 6)
    start = stage.task.mmap(8 * PAGE_SIZE, PROT_READ, MAP_SHARED, file=stage.fd)
    if mapped:
        stage.task.touch(start + 2 * PAGE_SIZE, 4 * PAGE_SIZE)
        stage.forget()
    states = [BH_DIRTY | BH_WAIT_IO, PG_WRITEBACK | BH_WAIT_IO]
    for state in states:
        assert stage.visit() == 0
        assert stage.states(2, 6) == {(PG_LRU | state, 1 + mapped)}
    assert stage.counted("disk_write") == 4
    before = stage.now()
    assert stage.visit() == (0 if mapped else 4)
    assert stage.now() > before
    assert {stage.file.store[page][:4] for page in range(2, 6)} == {b"NEWe"}
    assert stage.states(2, 6) == ({(PG_LRU, 2)} if mapped else {(0, 0)})
    assert stage.task.read(start + 2 * PAGE_SIZE, 4) == b"NEWe"


@pytest.mark.parametrize(("max_mapped", "turns"), [(4, 0), (3, 1)])
def test_mapped_ones_whose_buffers_have_gone_count_as_mapped(max_mapped: int, turns: int) -> None:
    """Four of them: the one that was waited for, and three that were written with it. If three may be, swap_out is called."""
    stage = Stage()
    stage.write(b"NEW", 0, 4)
    stage.task.touch(stage.task.mmap(4 * PAGE_SIZE, PROT_READ, MAP_SHARED, file=stage.fd), 4 * PAGE_SIZE)
    stage.forget()
    for _ in range(2):
        stage.visit()
    assert stage.states(0, 4) == {(PG_LRU | PG_WRITEBACK | BH_WAIT_IO, 2)}
    stage.visit(max_mapped=max_mapped)
    assert stage.counted("wait_on_page") == 1
    assert bool(stage.counted("swap_out_mm")) == bool(turns)


def test_what_is_written_to_again_meanwhile_begins_anew() -> None:
    """Whoever has waited finds the buffers dirty; they have lost BH_Wait_IO with their lock."""
    stage = Stage()
    stage.write(b"one")
    for _ in range(2):
        stage.visit()
    stage.task.pwrite(stage.fd, b"two", 0)
    assert stage.file.store[0][:3] == b"one"
    assert stage.visit() == 0
    assert stage.state(0)[0] & ~PG_REFERENCED == PG_LRU | BH_DIRTY
    for _ in range(3):
        stage.visit()
    assert not len(stage.file.pages)
    assert stage.file.store[0][:3] == b"two"


def test_a_dirty_page_with_dirty_buffers_is_written_as_a_page() -> None:
    """All of its buffers are clean then."""
    stage = Stage()
    stage.write(b"one")
    stage.store(b"two", 0, 1)
    assert stage.state(0)[0] == PG_LRU | PG_DIRTY | BH_DIRTY
    stage.visit()
    assert stage.state(0)[0] == PG_LRU | PG_LOCKED | PG_LAUNDER
    stage.settle()
    assert stage.visit() == 1
    assert stage.file.store[0][:3] == b"two"


# -- fsync, and errors of the disk -----------------------------------------------------------------------------------------------


def test_pages_that_fsync_writes_are_passed_by() -> None:
    """Locked, but not PG_launder: reclaim does not wait. Buffers that it writes are waited for, at the second visit."""
    stage = Stage()
    stage.store(b"NEW", 0, 2)
    stage.write(b"NEW", 4, 6)
    stage.forget()
    seen = list[tuple[int, int]]()
    cache = stage.k.page_cache
    wait = cache.wait_for_writes

    def visit(file: object) -> None:
        if not seen:
            seen.extend([stage.state(0), stage.state(4)])
            stage.visit()
            seen.extend([stage.state(0), stage.state(4)])
        wait(stage.file)

    cache.wait_for_writes = visit  # type: ignore[method-assign]
    stage.task.fsync(stage.fd)
    locked, buffers = (PG_LRU | PG_LOCKED, 1), (PG_LRU | PG_WRITEBACK, 1)
    assert seen == [locked, buffers, locked, (PG_LRU | PG_WRITEBACK | BH_WAIT_IO, 1)]
    assert {stage.file.store[page][:4] for page in (0, 1, 4, 5)} == {b"NEWe"}
    assert stage.states(4, 6) == {(PG_LRU, 1)}
    assert stage.visit() >= 4


class Broken(dict[int, bytes]):
    """A store that nothing can be written to any more."""

    def __setitem__(self, index: int, data: bytes) -> None:
        raise DiskError(f"page {index}")


class Unreadable(dict[int, bytes]):
    """One that nothing can be read from."""

    def __getitem__(self, index: int) -> bytes:
        raise DiskError(f"page {index}")


@pytest.mark.parametrize("by_mapping", [True, False])
@pytest.mark.parametrize("in_time", [True, False])
def test_fsync_hears_of_an_error_while_the_disk_has_the_page(by_mapping: bool, in_time: bool) -> None:
    """PageError, buffer_uptodate: of pages that it waits for. Else the bytes are lost, and nobody hears of it. (2.6: the file remembers, test_shrink_file.py.)"""
    stage = Stage()
    (stage.store if by_mapping else stage.write)(b"NEW")
    stage.file.store = Broken(stage.file.store)
    for _ in range(1 if by_mapping else 2):
        stage.visit()
    assert stage.state(0)[0] & PG_ERROR
    if in_time:
        with pytest.raises(SyscallError, match="Errno 5"):
            stage.task.fsync(stage.fd)
        stage.system.check()
    stage.settle()
    stage.task.fsync(stage.fd)
    assert stage.visit() == 1
    assert stage.task.pread(stage.fd, 6, 0) == b"page 0"


# -- all of it -------------------------------------------------------------------------------------------------------------------


def through(system: System, how: str) -> Callable[[str], int]:
    """A file of 3 times the RAM is gone through, page by page: what was counted, and whether its store is right in the end."""
    nr = 3 * 256
    file = system.new_file(b"".join(bytes([page % 251]) * PAGE_SIZE for page in range(nr)))
    task = system.spawn()
    fd = task.open(file, writable=True)
    start = task.mmap(nr * PAGE_SIZE, RW, MAP_SHARED, file=fd) if how in ("mmap", "store") else 0
    for page in range(nr):
        if how == "read":
            assert task.pread(fd, 1, page * PAGE_SIZE) == bytes([page % 251])
        elif how == "mmap":
            assert task.read(start + page * PAGE_SIZE, 1) == bytes([page % 251])
        elif how == "store":
            task.write(start + page * PAGE_SIZE, bytes([(page + 7) % 251]))
        else:
            task.pwrite(fd, bytes([(page + 7) % 251]), page * PAGE_SIZE)
    if how == "store":
        task.msync(start, nr * PAGE_SIZE, MS_SYNC)
    if how in ("store", "write"):
        task.fsync(fd)
        assert all(file.store[page][0] == (page + 7) % 251 for page in range(nr))
    system.check()
    ledger: Ledger = system.machine.ledger
    return lambda name: ledger.counts[name]


@pytest.mark.parametrize("how", ["read", "mmap", "store", "write"])
@pytest.mark.parametrize("swap", ["1M", "0"])
def test_a_file_of_three_times_the_ram(how: str, swap: str) -> None:
    """Nobody is killed, nothing goes to swap, and each page is read once and, if it was dirtied, written once. Swap or not."""
    system = rmaplab.boot("2.4.21", ram=256 * PAGE_SIZE, swap=swap, boot_use=0, overcommit=1)
    killer = system.start_reclaim()
    counted = through(system, how)
    assert not killer.killed
    assert counted("pgsteal") > 2 * 256
    assert not counted("pswpout")
    assert counted("disk_read") == 3 * 256
    assert counted("disk_write") == (3 * 256 if how in ("store", "write") else 0)


def test_meminfo_has_them() -> None:
    """Active and Inactive are what the lists have; Cached what the cache has."""
    stage = Stage()
    stage.read()
    stage.task.pread(stage.fd, 4 * PAGE_SIZE, 0)
    stage.task.pread(stage.fd, 4 * PAGE_SIZE, 0)
    found = stage.system.meminfo()
    assert (found["Active"], found["Inactive"], found["Cached"]) == (16, 4 * (NR - 4), 4 * NR)
    stage.forget()
    stage.visit()
    found = stage.system.meminfo()
    assert (found["Active"], found["Inactive"], found["Cached"]) == (0, 0, 0)


def test_a_page_that_is_written_and_does_not_say_so_is_seen() -> None:
    stage = Stage()
    stage.store(b"NEW")
    stage.visit()
    stage.frames.flags[stage.file.pages[0]] &= ~np.uint32(PG_LOCKED)
    with pytest.raises(KernelBug, match="being written does not say so"):
        stage.system.check()


def test_tasks_that_run_wait_for_each_others_pages_and_lose_nothing() -> None:
    """Three programs, each with a file of 60 pages shared and its neighbour's private, on 112 frames and two CPUs, and kswapd beside them."""
    system = rmaplab.boot(
        "2.4.21", ram=112 * PAGE_SIZE, swap="2M", boot_use=0, pages_min=4, overcommit=1, paging="i386", cpus=2
    )
    install(system)
    files, ended = [system.new_file(bytes([i]) * (60 * PAGE_SIZE)) for i in range(3)], []

    def program(task: Task) -> None:
        mine, other = task.open(files[task.pid - 1], writable=True), task.open(files[task.pid % 3])
        start = task.mmap(60 * PAGE_SIZE, RW, MAP_SHARED, file=mine)
        copy = task.mmap(60 * PAGE_SIZE, RW, MAP_PRIVATE, file=other)
        for turn in range(2):
            for page in range(60):
                word = b"%d %d %d" % (task.pid, turn, page)
                if page % 2:
                    task.write(start + page * PAGE_SIZE, word)
                else:
                    task.pwrite(mine, word, page * PAGE_SIZE)
                if not page % 3:
                    task.write(copy + page * PAGE_SIZE + 100, b"own %d" % page)
            task.fsync(mine)
            for page in range(60):
                word, own = b"%d %d %d" % (task.pid, turn, page), b"own %d" % page
                assert task.read(start + page * PAGE_SIZE, len(word)) == word
                assert task.pread(mine, len(word), page * PAGE_SIZE) == word
                assert page % 3 or task.read(copy + page * PAGE_SIZE + 100, len(own)) == own
        ended.append(task.pid)
        task.exit()

    for _ in range(3):
        system.spawn(program)
    system.run()
    system.check()
    assert sorted(ended) == [1, 2, 3]
    counts = system.machine.ledger.counts
    assert counts["pgsteal"] > 300
    assert counts["kswapd_steal"] > 0
