"""Pages of shared memory on their way to swap: flags, counts, lists, slots and charges after each step, as reclaim.md A.1, A.2 and J.1 have them.

object: [p0 p1 ... p23], shared anonymous memory, mapped by a task and perhaps its child; the tail of the inactive list is p0
"""

from dataclasses import replace

import pytest
from tests.reclaim.tools import make_old, scan_once

import rmaplab
from rmaplab.errors import KernelBug
from rmaplab.kernels.box import Box
from rmaplab.machine.frames import PG_ACTIVE, PG_DIRTY, PG_LRU, PG_RECLAIM, PG_REFERENCED, PG_SWAPCACHE, PG_WRITEBACK
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import IPC_PRIVATE, MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE, SHM_LOCK, SHM_UNLOCK
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.objects.shmem import Account
from rmaplab.reclaim.shrink import Scan
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7")
STATE = PG_LRU | PG_ACTIVE | PG_DIRTY | PG_WRITEBACK | PG_RECLAIM | PG_REFERENCED | PG_SWAPCACHE
RW = PROT_READ | PROT_WRITE
NR = 24


class Stage:
    """A kernel, a task that maps an object of NR pages, and reclaim that acts when it is told to."""

    def __init__(self, kernel: str, *, slots: int = 256, disk: bool = True, segment: bool = False) -> None:
        box = Box(ram="16M", swap=f"{(slots + 2) * 4}K", boot_use=0, overcommit=1, paging=None)
        if not disk:
            box = replace(box, disk_seek_us=0, disk_rpm=0, disk_kib_per_s=0)
        self.system = rmaplab.boot(kernel, box=box)
        self.k: Kernel = self.system.kernel
        self.lists, self.frames = self.k.machine.allocator.lru, self.k.machine.frames
        self.task: rmaplab.Task = self.system.spawn(root=True)
        if segment:
            self.shmid = self.task.shmget(IPC_PRIVATE, NR * PAGE_SIZE, 0o600)
            self.at = self.task.shmat(self.shmid)
        else:
            self.at = self.task.mmap(NR * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
        assert self.task.mm is not None
        file = self.task.mm.vmas[-1].file
        assert file is not None
        self.file: AddressSpace = file.mapping

    def write(self, *pages: int) -> None:
        """To these, or to all."""
        for page in pages or range(NR):
            self.task.write(self.at + page * PAGE_SIZE, b"page %d" % page)
        self.settle()

    def settle(self) -> None:
        self.k.machine.disk.settle()
        self.k.lru_add.drain_all()

    def age(self) -> None:
        """Nobody has used any of it: all is inactive, the object's pages in order."""
        self.settle()
        make_old(self.system, self.pfns)

    @property
    def pfns(self) -> list[int]:
        """Those that are in memory, by index."""
        found = {
            **dict(self.file.pages.items()),
            **{i: self.k.swap.cached[s] for i, s in self.file.slots.items() if s in self.k.swap.cached},
        }
        return [found[index] for index in sorted(found)]

    def scan(self) -> Scan:
        """shrink_cache, once: all that is inactive is looked at once, in one batch."""
        return scan_once(self.system)

    def swap_out(self) -> None:
        """All of it, and nothing of it is in memory any more."""
        self.age()
        for _ in range(3):
            self.scan()
            self.settle()
        assert not self.file.pages
        assert not self.pfns

    def state(self, page: int) -> tuple[int, int]:
        """(Flags, count); (0, 0) if it is not in memory."""
        pfn = self.file.pages.get(page, self.k.swap.cached.get(self.file.slots.get(page, 0), -1))
        return (int(self.frames.flags[pfn]) & STATE, int(self.frames.count[pfn])) if pfn >= 0 else (0, 0)

    def users(self, page: int) -> int:
        """Of its slot."""
        return int(self.k.swap.users[self.file.slots[page]])

    def sees(self, *pages: int) -> bool:
        """Whether the task finds its bytes."""
        return all(
            self.task.read(self.at + i * PAGE_SIZE, 8) == (b"page %d" % i).ljust(8, b"\0") for i in pages or range(NR)
        )

    def counted(self, event: str) -> int:
        return self.k.machine.ledger.counts[event]


# -- lists --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_new_pages_are_inactive_and_wait_by_sixteens(kernel: str) -> None:
    """A fault each or all at once: lru_cache_add, and shmem_nopage says mark_page_accessed."""
    for at_once in (False, True):
        stage = Stage(kernel)
        if at_once:
            stage.task.touch(stage.at, NR * PAGE_SIZE, write=True)
        else:
            for page in range(NR):
                stage.task.touch(stage.at + page * PAGE_SIZE, 1, write=True)
        assert {stage.state(page) for page in range(16)} == {(PG_LRU | PG_REFERENCED, 2)}
        assert {stage.state(page) for page in range(16, NR)} == {(PG_REFERENCED, 3)}
        stage.settle()
        child = stage.task.fork()
        child.read(stage.at)
        assert stage.state(0) == (PG_LRU | PG_REFERENCED, 3)
        child.munmap(stage.at, PAGE_SIZE)  # its entry was young
        assert stage.state(0) == (PG_LRU | PG_ACTIVE, 2)
        stage.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_read_and_write_say_that_a_page_was_used(kernel: str) -> None:
    """write(2) each time, read(2) where it begins with the page."""
    stage = Stage(kernel)
    file = stage.system.new_file(size=4 * PAGE_SIZE, on_disk=False)
    fd = stage.task.open(file, writable=True)
    stage.task.pwrite(fd, b"x" * 3 * PAGE_SIZE, 0)
    stage.settle()
    stage.task.pread(fd, 9, 5)
    stage.task.pread(fd, 9, PAGE_SIZE)
    states = [int(stage.frames.flags[file.pages[i]]) & STATE for i in range(3)]
    assert states == [
        PG_LRU | PG_DIRTY | PG_REFERENCED,
        PG_LRU | PG_DIRTY | PG_ACTIVE,
        PG_LRU | PG_DIRTY | PG_REFERENCED,
    ]


# -- out ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_goes_in_three_passes_and_comes_back_with_its_bytes(kernel: str, shared: bool) -> None:
    """Unmapped and moved to the swap cache; written; freed. Its slot is the vector's then, and free when it is back."""
    stage = Stage(kernel)
    stage.write()
    child = stage.task.fork() if shared else None
    if child is not None:
        child.touch(stage.at, NR * PAGE_SIZE)
    stage.age()
    assert stage.scan().freed == 0
    assert stage.state(3) == (PG_LRU | PG_DIRTY | PG_SWAPCACHE, 1)
    assert (stage.users(3), len(stage.file.slots), stage.file.nr_allocated) == (2, NR, NR)
    assert stage.task.mm is not None
    assert stage.task.mm.rss == 0
    assert not stage.counted("pswpout")
    assert stage.scan().freed == 0
    assert stage.state(3) == (PG_LRU | PG_WRITEBACK | PG_RECLAIM | PG_SWAPCACHE, 1)
    assert stage.counted("pswpout") == NR
    stage.settle()
    assert stage.state(3) == (PG_LRU | PG_SWAPCACHE, 1)
    assert stage.scan().freed == NR
    assert (stage.state(3), stage.users(3)) == ((0, 0), 1)
    assert stage.sees()
    for process in (stage.task, child) if child is not None else ():
        assert process.read(stage.at + 5 * PAGE_SIZE, 6) == b"page 5"
    assert not stage.file.slots
    assert stage.k.swap.nr_used == 0
    assert stage.counted("shmem_swap_in") == NR
    stage.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_of_zeros_is_dropped_and_charged_until_somebody_looks(kernel: str) -> None:
    """Nobody has written to it: it is clean, and gone without a slot; its block and, where pages are charged, its promise stay until shmem_recalc_inode."""
    stage = Stage(kernel)
    file = stage.system.new_file(size=NR * PAGE_SIZE, on_disk=False)
    at = stage.task.mmap(NR * PAGE_SIZE, RW, MAP_SHARED, file=stage.task.open(file, writable=True))
    before = stage.k.committed_pages
    stage.task.touch(at, NR * PAGE_SIZE)
    charged = stage.k.committed_pages
    assert charged - before in (0, NR)
    stage.file = file
    stage.age()
    assert stage.scan().freed == NR
    assert not file.slots
    assert (stage.k.committed_pages, file.nr_blocks) == (charged, NR + 2)  # and the vector's pages
    assert stage.task.read(at + 3 * PAGE_SIZE, 2) == b"\0\0"
    assert (stage.k.committed_pages - before, len(file.pages)) == ((charged - before) // NR, 1)
    stage.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_locked_segment_stays(kernel: str) -> None:
    """SHM_LOCK is found out in writepage: the page has lost its entries by then, and becomes active. No slot is asked for."""
    stage = Stage(kernel, segment=True)
    stage.write()
    stage.task.shmctl(stage.shmid, SHM_LOCK)
    stage.age()
    assert stage.scan().freed == 0
    assert stage.state(3) == (PG_LRU | PG_ACTIVE | PG_DIRTY, 1)
    assert (stage.counted("pgactivate"), stage.k.swap.nr_used) == (NR, 0)
    stage.task.shmctl(stage.shmid, SHM_UNLOCK)
    stage.swap_out()
    assert stage.sees()


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_slot_a_page_becomes_active(kernel: str) -> None:
    stage = Stage(kernel, slots=10)
    stage.write()
    stage.age()
    stage.scan()
    moved = len(stage.file.slots)
    assert 0 < moved < NR
    assert stage.k.swap.nr_free == 0
    assert sorted(stage.file.slots) == list(range(moved))
    assert {stage.state(page) for page in range(moved, NR)} == {(PG_LRU | PG_ACTIVE | PG_DIRTY, 1)}
    assert stage.sees()
    stage.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mapping_that_is_locked_keeps_its_pages(kernel: str) -> None:
    """mlock: try_to_unmap fails, or 2.6.7 finds the page in use; unlike an anonymous page it gets no slot."""
    stage = Stage(kernel)
    stage.write()
    stage.task.mlock(stage.at, NR * PAGE_SIZE)
    stage.age()
    stage.scan()
    assert stage.state(3) == (PG_LRU | PG_ACTIVE, 2)
    assert stage.k.swap.nr_used == 0
    stage.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_who_is_wanted_on_the_way_is_back_at_once(kernel: str) -> None:
    """In the swap cache it is a minor fault. Under writeback the fault sleeps until it is written (wait_on_page_writeback): then the slot is free all the same."""
    stage = Stage(kernel)
    stage.write()
    stage.age()
    stage.scan()
    assert stage.sees(2)
    assert (stage.state(2), stage.counted("pgmajfault"), 2 in stage.file.slots) == (
        (PG_LRU | PG_DIRTY | PG_REFERENCED, 2),
        0,
        False,
    )
    stage.scan()
    before = stage.k.machine.sched.now_ns
    assert stage.sees(3)
    assert stage.k.machine.sched.now_ns > before
    assert stage.state(3)[0] & (PG_WRITEBACK | PG_SWAPCACHE | PG_DIRTY) == PG_DIRTY
    stage.system.check()


def test_a_disk_without_a_delay_frees_in_the_second_pass_of_2_6_7() -> None:
    stage = Stage("2.6.7", disk=False)
    stage.write()
    stage.age()
    assert [stage.scan().freed for _ in range(2)] == [0, NR]
    assert stage.sees()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_block_of_slots_comes_back_together(kernel: str) -> None:
    """swapin_readahead: one major fault, and the others of the block are in the swap cache, and active."""
    stage = Stage(kernel)
    stage.write()
    stage.swap_out()
    assert stage.sees(8)
    near = [page for page, each in stage.file.slots.items() if each in stage.k.swap.cached]
    assert len(near) == 7
    assert {stage.state(page) for page in near} == {(PG_LRU | PG_ACTIVE | PG_SWAPCACHE, 1)}
    assert (stage.counted("pgmajfault"), stage.counted("pswpin")) == (1, 8)
    assert stage.sees(*near)
    assert (stage.counted("pgmajfault"), stage.counted("pswpin")) == (1, 8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_page_by_page_comes_to_the_same(kernel: str) -> None:
    """If somebody watches, every page is locked by itself: the same counts and slots."""
    ends = []
    for watched in (False, True):
        stage = Stage(kernel)
        if watched:
            stage.system.watch(lambda *_: None)
        stage.write()
        stage.swap_out()
        slots = dict(stage.file.slots)
        assert stage.sees()
        stage.system.check()
        ends.append(
            (
                slots,
                [
                    stage.counted(name)
                    for name in ("pswpin", "pswpout", "pgsteal", "pgscan", "shmem_swap_in", "add_to_swap")
                ],
            )
        )
    assert ends[0] == ends[1]


# -- check() sees ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["swapped", "slots", "both", "users", "charge"])
def test_what_is_miscounted_is_seen(wrong: str) -> None:
    stage = Stage("2.6.7")
    stage.write()
    stage.age()
    stage.scan()
    info, file = stage.file.shmem, stage.file
    assert info is not None
    if wrong == "swapped":
        info.swapped += 1
    elif wrong == "slots":
        info.swapped -= 1
        del file.slots[3]
    elif wrong == "both":
        file.store[3] = bytes(PAGE_SIZE)
    elif wrong == "users":
        stage.k.swap.users[file.slots[3]] += 1
    else:
        file.dropped += 1
        info.account = Account.PAGES
    with pytest.raises(KernelBug, match=r"shmem_|swap_map|vm_committed_space"):
        stage.system.check()


def test_a_use_that_is_forgotten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that moves and does not count its slot's second use."""
    stage = Stage("2.6.2")
    stage.write()
    stage.age()
    monkeypatch.setattr(stage.k.swap, "use_all", lambda _: None)
    with pytest.raises(KernelBug, match="swap_map"):
        stage.scan()


# -- programs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7"])
def test_programs_share_more_than_there_is_memory_for(kernel: str) -> None:
    """A file on tmpfs, larger than RAM: two programs write a half of it each, and look at it again, the last one at both. kswapd and they make room."""
    system = rmaplab.boot(kernel, ram="16M", swap="64M", boot_use=0, overcommit=1, paging="i386", cpus=2, reclaim=True)
    half, ended = 2080, list[int]()
    file = system.new_file(size=2 * half * PAGE_SIZE, on_disk=False)
    words = b"".join(b"page %d." % page + bytes(PAGE_SIZE - len(b"page %d." % page)) for page in range(2 * half))

    def program(task: rmaplab.Task) -> None:
        first, fd = (task.pid - 1) * half, task.open(file, writable=True)
        mine = words[first * PAGE_SIZE : (first + half) * PAGE_SIZE]
        at = task.mmap(half * PAGE_SIZE, RW, MAP_SHARED, file=fd, pgoff=first)
        task.write(at, mine)
        for page in range(0, half, 7):
            assert task.read(at + page * PAGE_SIZE, 8) == mine[page * PAGE_SIZE :][:8]
        other = half - first
        for page in range(other, other + half, 7) if ended else ():
            assert task.pread(fd, 8, page * PAGE_SIZE) == words[page * PAGE_SIZE :][:8]
        ended.append(task.pid)
        task.exit()

    for _ in range(2):
        system.spawn(program)
    system.run()
    system.check()
    counts = system.machine.ledger.counts
    assert sorted(ended) == [1, 2]
    assert counts["shmem_swap_in"] > 100
    assert 20 < counts["pgmajfault"] <= counts["pswpin"]
    assert counts["kswapd_steal"] > 100
