"""Pages of a file on a disk on their way out of memory: their flags, counts and lists after each step, as reclaim.md A.1 to A.4, D.3 and D.4 have them.

file: [p0 p1 ... p23]    "page 0", "page 1" ... on a disk; read by read(2), or mapped; the tail of the inactive list is p0
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.reclaim.tools import make_old, scan_once

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import DiskError, KernelBug, SyscallError
from rmaplab.kernels.box import Box
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.frames import PG_ACTIVE, PG_DIRTY, PG_LRU, PG_RECLAIM, PG_REFERENCED, PG_WRITEBACK
from rmaplab.mm.filemap import make_ways
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.truncate import remove_pages
from rmaplab.objects.flags import MADV_RANDOM, MAP_PRIVATE, MAP_SHARED, MS_SYNC, PROT_READ, PROT_WRITE
from rmaplab.objects.mm_types import VmArea
from rmaplab.reclaim.shrink import Scan, Shrinker
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7")
THREE = ("2.6.2", "2.6.5-rc1-aa1", "2.6.7")
STATE = PG_LRU | PG_ACTIVE | PG_DIRTY | PG_WRITEBACK | PG_RECLAIM | PG_REFERENCED
RW = PROT_READ | PROT_WRITE
NR = 24


class Stage:
    """A kernel, a file of NR pages, one task that has it open, and reclaim that acts when it is told to."""

    def __init__(self, kernel: str, *, disk: bool = True) -> None:
        box = Box(ram="16M", swap="1M", boot_use=0, overcommit=1, paging=None)
        if not disk:
            box = replace(box, disk_seek_us=0, disk_rpm=0, disk_kib_per_s=0)
        self.system = rmaplab.boot(kernel, box=box)
        self.k = self.system.kernel
        self.lists, self.frames = self.k.machine.allocator.lru, self.k.machine.frames
        self.task: Task = self.system.spawn(root=True)
        data = b"".join(b"page %d" % page + bytes(PAGE_SIZE - len(b"page %d" % page)) for page in range(NR))
        self.file = self.system.new_file(data)
        self.fd = self.task.open(self.file, writable=True)

    def read(self, first: int = 0, last: int = NR) -> None:
        """One read(2) of [first, last), and nobody has used what else has come with it."""
        self.task.pread(self.fd, (last - first) * PAGE_SIZE, first * PAGE_SIZE)
        self.settle()

    def settle(self) -> None:
        self.k.machine.disk.settle()
        self.k.lru_add.drain_all()

    def map(self, first: int = 0, last: int = NR, *, prot: int = PROT_READ, flags: int = MAP_SHARED) -> int:
        """Where the file's page 0 would be; [first, last) are mapped, and touched."""
        start = self.task.mmap((last - first) * PAGE_SIZE, prot, flags, file=self.fd, pgoff=first)
        for page in range(last - first):
            self.task.touch(start + page * PAGE_SIZE, 1, write=bool(prot & PROT_WRITE))
        self.settle()
        return start - first * PAGE_SIZE

    def forget(self) -> None:
        """Nobody has used any of it: all is inactive."""
        self.k.lru_add.drain_all()
        make_old(self.system, self.pfns)

    @property
    def pfns(self) -> list[int]:
        """Those that are in the cache, by index."""
        return [self.file.pages[index] for index in sorted(self.file.pages)]

    def scan(self) -> Scan:
        """shrink_cache, once: all that is inactive is looked at once, in one batch."""
        return scan_once(self.system)

    def state(self, page: int) -> tuple[int, int]:
        """(Flags, count); (0, 0) if it is not in the cache."""
        pfn = self.file.pages.get(page, -1)
        return (int(self.frames.flags[pfn]) & STATE, int(self.frames.count[pfn])) if pfn >= 0 else (0, 0)

    def order(self, *, active: bool) -> list[int]:
        """The file's pages on a list, from the tail."""
        pages = [self.lists.pages(zone, active=active) for zone in range(self.lists.ends.size)]
        mine = {pfn: index for index, pfn in zip(sorted(self.file.pages), self.pfns, strict=True)}
        return [mine[pfn] for pfn in np.concatenate(pages).tolist() if pfn in mine]

    def counted(self, event: str) -> int:
        return self.k.machine.ledger.counts[event]


# -- which list ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_read_brings_inactive_pages_the_second_one_makes_them_active(kernel: str) -> None:
    """mark_page_accessed where the read begins with the page: first the flag, then the active list, and the flag has gone."""
    stage = Stage(kernel)
    stage.read()
    assert stage.order(active=False) == list(range(NR))
    assert {stage.state(page) for page in range(NR)} == {(PG_LRU | PG_REFERENCED, 1)}
    stage.task.pread(stage.fd, 100, 3 * PAGE_SIZE + 1)  # not from its beginning on
    stage.task.pread(stage.fd, 100, 5 * PAGE_SIZE)
    assert stage.state(3) == (PG_LRU | PG_REFERENCED, 1)
    assert stage.state(5) == (PG_LRU | PG_ACTIVE, 1)
    assert stage.order(active=True) == [5]
    stage.system.check()


@pytest.mark.parametrize("kernel", THREE)
def test_faults_count_as_use_and_so_do_young_entries_that_go(kernel: str) -> None:
    """filemap_nopage, and zap_pte_range."""
    stage = Stage(kernel)
    stage.read()
    stage.forget()
    start = stage.map(4, 8)
    assert {stage.state(page) for page in range(4, 8)} == {(PG_LRU | PG_REFERENCED, 2)}
    stage.task.munmap(start + 4 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert [stage.state(page) for page in (4, 5, 6)] == [(PG_LRU | PG_ACTIVE, 1)] * 2 + [(PG_LRU | PG_REFERENCED, 2)]
    referenced(stage.k.rmap, np.array(stage.pfns))
    stage.task.munmap(start + 6 * PAGE_SIZE, 2 * PAGE_SIZE)  # old by now
    assert stage.order(active=True) == [4, 5]
    stage.system.check()


@pytest.mark.parametrize("kernel", THREE)
def test_written_pages_are_on_it_as_well(kernel: str) -> None:
    stage = Stage(kernel)
    stage.task.pwrite(stage.fd, b"x" * (4 * PAGE_SIZE), NR * PAGE_SIZE)
    assert stage.state(NR) == (PG_LRU | PG_DIRTY | PG_REFERENCED, 1)
    assert stage.order(active=False) == list(range(NR, NR + 4))


@pytest.mark.parametrize("kernel", THREE)
def test_what_a_fault_reads_alone_waits_for_fifteen_others(kernel: str) -> None:
    """add_to_page_cache_lru: a pagevec beside the one of anonymous pages; who cuts the file meanwhile frees the page later."""
    stage = Stage(kernel)
    start = stage.task.mmap(NR * PAGE_SIZE, PROT_READ, MAP_SHARED, file=stage.fd)
    stage.task.madvise(start, NR * PAGE_SIZE, MADV_RANDOM)
    other = stage.task.mmap(NR * PAGE_SIZE)
    for page in range(15):
        stage.task.read(start + page * PAGE_SIZE, 1)
        stage.task.write(other + page * PAGE_SIZE, b"anonymous: it does not fill it up")
    assert stage.order(active=False) == []
    assert {stage.state(page) for page in range(15)} == {(PG_REFERENCED, 3)}
    free = stage.k.machine.allocator.nr_unused
    stage.task.ftruncate(stage.fd, 10 * PAGE_SIZE)
    assert stage.k.machine.allocator.nr_unused == free
    stage.system.check()
    stage.task.ftruncate(stage.fd, NR * PAGE_SIZE)
    stage.task.read(start + 20 * PAGE_SIZE, 1)
    assert stage.k.machine.allocator.nr_unused == free - 1 + 5
    assert stage.order(active=False) == [*range(10), 20]
    stage.system.check()


def test_what_is_on_no_list() -> None:
    """Today any, as yet."""
    stage = Stage("6.18")
    stage.read()
    stage.task.pwrite(stage.fd, b"x" * PAGE_SIZE, 0)
    assert {stage.state(page)[0] & ~PG_DIRTY for page in range(NR)} <= {0}
    assert not stage.lists.pages(0, active=False).size
    stage.system.check()


# -- clean ones ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_clean_pages_go_at_once_used_or_not_if_nobody_maps_the_file(kernel: str) -> None:
    """PG_referenced is no help. They are read again."""
    stage = Stage(kernel)
    stage.read()
    read, free = stage.counted("disk_read"), stage.k.machine.allocator.nr_unused
    assert stage.scan().freed == NR
    assert stage.k.machine.allocator.nr_unused >= free + NR  # and the nodes of its index
    assert not len(stage.file.pages)
    assert stage.task.pread(stage.fd, 7, 11 * PAGE_SIZE) == b"page 11"
    assert stage.counted("disk_read") > read
    assert not stage.counted("disk_write")


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1", "2.6.7"])
def test_used_pages_stay_if_somebody_maps_the_file_wherever(kernel: str) -> None:
    """page_mapping_inuse: one page is mapped, all that were read become active. aa1 does not ask for the flag of a page that nobody maps."""
    for design, active in ((kernel, NR), ("2.6.5-rc1-aa1", 1)):
        stage = Stage(design)
        stage.read()
        stage.forget()
        stage.task.pread(stage.fd, (NR - 1) * PAGE_SIZE, 0)
        stage.map(NR - 1, NR)
        assert stage.scan().freed == NR - active
        assert len(stage.order(active=True)) == active


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mapped_page_is_unmapped_and_gone_in_one_pass(kernel: str) -> None:
    """Nothing is left in its entry; who touches it reads it. Private and shared alike, but for copies."""
    stage = Stage(kernel)
    start, other = stage.map(), stage.map(prot=PROT_READ, flags=MAP_PRIVATE)
    stage.forget()
    assert stage.scan().freed == NR
    assert stage.task.mm is not None
    assert stage.task.mm.rss == 0
    assert stage.task.read(start + 9 * PAGE_SIZE, 6) == stage.task.read(other + 9 * PAGE_SIZE, 6) == b"page 9"
    assert not stage.counted("pswpout")
    stage.system.check()


@pytest.mark.parametrize("kernel", THREE)
def test_who_is_used_or_locked_or_read_stays(kernel: str) -> None:
    """Young: active. mlocked: active, by try_to_unmap. On its way from the disk: kept. Held by somebody: kept."""
    stage = Stage(kernel)
    start = stage.map(0, 4)
    stage.forget()
    stage.task.read(start + PAGE_SIZE, 1)
    stage.task.mlock(start + 2 * PAGE_SIZE, PAGE_SIZE)
    stage.forget()
    stage.task.read(start + PAGE_SIZE, 1)
    stage.frames.count[stage.file.pages[3]] += 1
    with pytest.raises(KernelBug, match="page_count"):  # as nobody says that he holds it
        stage.scan()
    stage.frames.count[stage.file.pages[3]] -= 1
    assert sorted(stage.file.pages) == [1, 2, 3]
    assert sorted(stage.order(active=True)) == [1, 2]
    assert stage.order(active=False) == [3]
    stage.k.page_cache.start_reading(stage.file, np.array([3]), np.array([stage.file.pages[3]]))
    assert stage.scan().freed == 0
    stage.settle()
    assert stage.scan().freed == 1


@pytest.mark.parametrize("kernel", THREE)
def test_reclaim_may_take_what_a_fault_is_about_to_map(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps for page tables, and the pages that it has found are somebody else's then."""
    stage, nr = Stage(kernel), 0
    stage.read()
    stage.forget()

    def slow(k: Kernel, vma: VmArea, start: int, end: int) -> None:
        nonlocal nr
        make_ways(k, vma, start, end)
        if not nr:
            nr = stage.scan().freed
            k.machine.allocator.sleeps += 1  # as an allocation that reclaims

    monkeypatch.setattr("rmaplab.mm.file_fault.make_ways", slow)
    start = stage.task.mmap(NR * PAGE_SIZE, PROT_READ, MAP_PRIVATE, file=stage.fd)
    stage.forget()
    stage.task.touch(start, NR * PAGE_SIZE)
    assert nr == NR
    stage.system.check()
    assert stage.task.read(start + 9 * PAGE_SIZE, 6) == b"page 9"


# -- dirty ones -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", THREE)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_dirty_page_is_written_once_and_goes_when_it_is(kernel: str, mapped: bool) -> None:
    """First pass: under way, inactive, clean, in no entry. Written: at the tail. Then free; its bytes are in the store, and nothing in swap."""
    stage = Stage(kernel)
    stage.read()
    if mapped:
        start = stage.map(8, 16, prot=RW)
        for page in range(8, 16):
            stage.task.write(start + page * PAGE_SIZE, b"NEW")
    else:
        for page in range(8, 16):
            stage.task.pwrite(stage.fd, b"NEW", page * PAGE_SIZE)
    stage.forget()
    assert stage.file.store[8][:3] == b"pag"
    assert stage.scan().freed == NR - 8
    assert sorted(stage.file.pages) == list(range(8, 16))
    assert {stage.state(page) for page in range(8, 16)} == {(PG_LRU | PG_WRITEBACK | PG_RECLAIM, 1)}
    assert stage.counted("disk_write") == 8
    assert stage.system.vmstat()["nr_writeback"] == 8
    assert stage.scan().freed == 0, "what is under way is kept"
    stage.settle()
    assert stage.system.vmstat()["nr_writeback"] == 0
    assert {stage.state(page) for page in range(8, 16)} == {(PG_LRU, 1)}
    assert stage.order(active=False)[:8] == list(range(15, 7, -1)), "the last one written is the next to be looked at"
    stage.scan()
    assert not len(stage.file.pages)
    assert {stage.file.store[page][:4] for page in range(8, 16)} == {b"NEWe"}
    assert (stage.counted("disk_write"), stage.counted("pswpout")) == (8, 0)
    assert stage.task.pread(stage.fd, 3, 9 * PAGE_SIZE) == b"NEW"


@pytest.mark.parametrize("kernel", THREE)
def test_a_page_that_is_written_to_again_meanwhile_stays_where_it_is_and_is_written_again(kernel: str) -> None:
    stage = Stage(kernel)
    stage.task.pwrite(stage.fd, b"one", 0)
    stage.forget()
    stage.scan()
    stage.task.pwrite(stage.fd, b"two", 0)
    stage.settle()
    assert stage.state(0)[0] & (PG_DIRTY | PG_WRITEBACK | PG_RECLAIM) == PG_DIRTY
    assert stage.file.store[0][:3] == b"one"
    stage.task.fsync(stage.fd)
    assert stage.file.store[0][:3] == b"two"
    assert stage.counted("disk_write") == 2
    assert not stage.state(0)[0] & (PG_DIRTY | PG_WRITEBACK)


@pytest.mark.parametrize("kernel", THREE)
def test_dirty_and_used_is_kept_for_a_round(kernel: str) -> None:
    """Nobody maps the file, so it does not become active; but it is not written either. aa1 does not see the flag."""
    stage = Stage(kernel)
    stage.task.pwrite(stage.fd, b"one", 0)
    stage.scan()
    kept = kernel != "2.6.5-rc1-aa1"
    assert stage.counted("disk_write") == (not kept)
    stage.scan()
    assert stage.counted("disk_write") == 1


@pytest.mark.parametrize(("kernel", "passes"), [("2.6.2", 2), ("2.6.5-rc1-aa1", 2), ("2.6.7", 1)])
def test_a_disk_that_takes_no_time(kernel: str, passes: int) -> None:
    """2.6.7 frees a page that is written by the time writepage returns."""
    stage = Stage(kernel, disk=False)
    stage.task.pwrite(stage.fd, b"one", 0)
    stage.forget()
    assert [stage.scan().freed for _ in range(passes)][-1] == 1
    assert not len(stage.file.pages)
    assert stage.file.store[0][:3] == b"one"


@pytest.mark.parametrize("kernel", THREE)
@pytest.mark.parametrize("later", [False, True])
def test_who_cuts_the_file_waits_for_what_is_being_written(kernel: str, later: bool) -> None:
    """Also if that has begun `later` than vmtruncate's first look."""
    stage = Stage(kernel)
    stage.task.pwrite(stage.fd, b"one" * 4000, 0)
    stage.forget()
    stage.scan()
    assert stage.state(1)[0] & PG_WRITEBACK
    if later:
        remove_pages(stage.k, stage.file, 0, NR)
    else:
        stage.task.ftruncate(stage.fd, 0)
    assert not stage.k.machine.disk.busy
    assert not len(stage.file.pages)
    stage.system.check()


class Broken(dict[int, bytes]):
    """A store that nothing can be written to any more."""

    def __setitem__(self, index: int, data: bytes) -> None:
        raise DiskError(f"page {index}")


@pytest.mark.parametrize("kernel", THREE)
def test_an_error_of_the_disk_is_told_at_the_next_fsync_once(kernel: str) -> None:
    """AS_EIO. The page counts as clean, and is freed with what it had."""
    stage = Stage(kernel)
    stage.task.pwrite(stage.fd, b"one", 0)
    stage.forget()
    stage.file.store = Broken(stage.file.store)
    stage.scan()
    stage.scan()
    assert not len(stage.file.pages)
    with pytest.raises(SyscallError, match="Errno 5"):
        stage.task.fsync(stage.fd)
    stage.task.fsync(stage.fd)
    assert not stage.counted("disk_write")


@pytest.mark.parametrize("kernel", THREE)
def test_a_page_behind_the_end_is_not_written(kernel: str) -> None:
    """block_write_full_page: truncate has moved the end, and not come by yet."""
    stage = Stage(kernel)
    stage.task.pwrite(stage.fd, b"one", 5 * PAGE_SIZE)
    stage.forget()
    page, size, stage.file.size = stage.file.pages[5], stage.file.size, 5 * PAGE_SIZE
    Shrinker(stage.k, stage.system.spec.reclaim_rules(4)).files.page_out(np.array([page]))
    assert not stage.counted("file_writepage"), "its count is 1: it is not isolated"
    stage.frames.count[page] += 1
    Shrinker(stage.k, stage.system.spec.reclaim_rules(4)).files.page_out(np.array([page]))
    stage.frames.count[page] -= 1
    stage.file.size = size
    assert not stage.counted("disk_write")
    assert not stage.state(5)[0] & PG_DIRTY
    assert stage.file.store[5][:6] == b"page 5"


# -- active ones ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", THREE)
@pytest.mark.parametrize("swap", ["1M", "0"])
def test_refill_takes_pages_that_nobody_maps_and_without_swap_only_files(kernel: str, swap: str) -> None:
    """An anonymous page has no way out without swap: it stays active, however long ago it was used."""
    system = rmaplab.boot(kernel, ram="16M", swap=swap, boot_use=0, overcommit=1)
    k, task = system.kernel, system.spawn()
    fd = task.open(system.new_file(b"x" * (8 * PAGE_SIZE)))
    for _ in range(2):
        task.pread(fd, 8 * PAGE_SIZE, 0)
    start = task.mmap(8 * PAGE_SIZE)
    task.touch(start, 8 * PAGE_SIZE, write=True)
    k.lru_add.drain_all()
    shrinker = Shrinker(k, system.spec.reclaim_rules(4))
    for _ in range(2):  # as hard as it can be: mapped ones are taken too, when they are old
        for zone in range(k.machine.allocator.lru.ends.size):
            shrinker.refill_inactive_zone(zone, 100, 0)
    nr = k.machine.allocator.lru.nr.sum(axis=0).tolist()
    assert nr == ([16, 0] if swap != "0" else [8, 8])
    system.check()


# -- all of it -----------------------------------------------------------------------------------------------------------------


def times(system: rmaplab.System, how: str) -> dict[str, Any]:
    """A file of 3 times the RAM is gone through, page by page: what was counted, and whether its store is right in the end."""
    nr = 3 * 256
    file = system.new_file(b"".join(bytes([page % 251]) * PAGE_SIZE for page in range(nr)))
    task = system.spawn()
    fd = task.open(file, writable=True)
    start = task.mmap(nr * PAGE_SIZE, RW, MAP_SHARED, file=fd) if how != "read" else 0
    for page in range(nr):
        if how == "read":
            assert task.pread(fd, 1, page * PAGE_SIZE) == bytes([page % 251])
        elif how == "mmap":
            assert task.read(start + page * PAGE_SIZE, 1) == bytes([page % 251])
        else:
            task.write(start + page * PAGE_SIZE, bytes([(page + 7) % 251]))
    if how == "write":
        task.msync(start, nr * PAGE_SIZE, MS_SYNC)
        assert all(file.store[page][0] == (page + 7) % 251 for page in range(nr))
    system.check()
    return dict(system.machine.ledger.counts)


@pytest.mark.parametrize("how", ["read", "mmap", "write"])
@pytest.mark.parametrize("kernel", THREE)
def test_a_file_of_three_times_the_ram(kernel: str, how: str) -> None:
    """Nobody is killed, nothing goes to swap, and each page is read once and, if it was dirtied, written once."""
    system = rmaplab.boot(kernel, ram=256 * PAGE_SIZE, swap="1M", boot_use=0, overcommit=1)
    killer = system.start_reclaim()
    counts = times(system, how)
    assert killer is not None
    assert not killer.killed
    assert counts["pgsteal"] > 2 * 256
    assert not counts.get("pswpout", 0)
    assert counts["disk_read"] == 3 * 256
    assert counts.get("disk_write", 0) == (3 * 256 if how == "write" else 0)


@pytest.mark.parametrize("kernel", THREE)
def test_tasks_that_run_wait_for_each_others_pages_and_lose_nothing(kernel: str) -> None:
    """Three programs, each with a file of 60 pages shared and its neighbour's private, on 112 frames and two CPUs."""
    system = rmaplab.boot(
        kernel, ram=112 * PAGE_SIZE, swap="2M", boot_use=0, pages_min=4, overcommit=1, paging="i386", cpus=2
    )
    install(system)
    system.machine.allocator.kswapd = None  # which gives so small a zone up (test_kswapd.py)
    files, ended = [system.new_file(bytes([i]) * (60 * PAGE_SIZE)) for i in range(3)], []

    def program(task: Task) -> None:
        mine, other = task.open(files[task.pid - 1], writable=True), task.open(files[task.pid % 3])
        start = task.mmap(60 * PAGE_SIZE, RW, MAP_SHARED, file=mine)
        copy = task.mmap(60 * PAGE_SIZE, RW, MAP_PRIVATE, file=other)
        for turn in range(2):
            for page in range(60):
                task.write(start + page * PAGE_SIZE, b"%d %d %d" % (task.pid, turn, page))
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
    assert system.machine.ledger.counts["pgsteal"] > 300
