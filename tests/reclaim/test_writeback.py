"""Dirty pages of files reach their disk though nobody reclaims: pdflush, and writers who have made too many of them dirty.

pages     ....dddddddd|ddddddddddddddddddd|            no more than the dirty limit and what a writer may write unasked
          clean   background            dirty
seconds   0 write .... 5 .... 30 .... 35 written       nobody asks for memory meanwhile
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug
from rmaplab.kernels.system import System
from rmaplab.machine.disk import CONGESTED_FROM, CONGESTED_TO
from rmaplab.machine.frames import PG_DIRTY, PG_REFERENCED
from rmaplab.objects.flags import MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.reclaim.reclaimer import SECOND
from rmaplab.reclaim.shrink import Scan
from rmaplab.reclaim.writeback import RATELIMIT_EXCEEDED, Writeback, WritebackControl
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1-aa1", "2.6.7")
NR = 1024
"""Pages of RAM of the small box."""


def boot(kernel: str, *, cpus: int = 1, ram: int | str = NR * PAGE_SIZE) -> tuple[System, Writeback]:
    system = rmaplab.boot(
        kernel, ram=ram, swap="1M", boot_use=0, pages_min=8, overcommit=1, paging="i386", cpus=cpus, reclaim=True,
    )  # fmt: skip
    writeback = system.kernel.page_cache.writeback
    assert isinstance(writeback, Writeback)
    return system, writeback


def bytes_of(index: int) -> bytes:
    return b"%07d\n" % index * (PAGE_SIZE // 8)


def write(task: Task, file: AddressSpace, first: int, nr: int) -> None:
    fd = task.open(file, writable=True)
    task.pwrite(fd, b"".join(bytes_of(first + i) for i in range(nr)), first * PAGE_SIZE)
    task.close(fd)


def is_stored(file: AddressSpace, pages: range) -> bool:
    return all(file.store.get(index) == bytes_of(index) for index in pages)


def is_dirty(system: System, file: AddressSpace, index: int) -> bool:
    page = file.pages.find(index)
    return page >= 0 and bool(system.machine.frames.flags[page] & PG_DIRTY)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_writer_of_twice_the_ram_has_no_more_than_the_limit_dirty(kernel: str) -> None:
    """After each write(2) what is dirty is at most the limit and a batch; what was counted as dirty when it did wait, likewise. All bytes are there."""
    system, writeback = boot(kernel)
    file, step, naps, most = system.new_file(), 32, list[float](), list[int]()

    def writer(task: Task) -> None:
        for first in range(0, 2 * NR, step):
            began = system.machine.sched.now_ns
            write(task, file, first, step)
            naps.append(system.machine.sched.now_ns - began)
            now = writeback.state()
            assert now.nr_dirty <= now.dirty + writeback.ratelimit_pages + 1
            most.append(now.nr_dirty + now.nr_writeback - now.dirty)

    system.spawn(writer)
    system.run()
    chunk = writeback.ratelimit_pages * 3 // 2
    slack = writeback.ratelimit_pages + (RATELIMIT_EXCEEDED + 1) * (writeback.state().dirty // chunk + 2)
    assert 0 < max(most) <= slack  # a writer that has written its chunk goes on, whatever is under way
    assert max(naps) > SECOND // 1000  # who is over the limit waits for the disk
    assert not [i for i in range(2 * NR) if file.store.get(i) != bytes_of(i) and not is_dirty(system, file, i)]
    writeback.check()
    system.check()


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    kernel=st.sampled_from(KERNELS),
    seconds=st.integers(0, 70),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    by_mapping=st.booleans(),
)
def test_what_is_dirty_reaches_the_disk_in_35_seconds(
    kernel: str, seconds: int, sizes: list[int], by_mapping: bool
) -> None:
    """However little it is, whenever it was written, through write(2) or a mapping that has gone; and not before it is 30 s old."""
    system, writeback = boot(kernel)
    files, sched = [system.new_file(size=PAGE_SIZE * 12) for _ in sizes], system.machine.sched

    def writer(task: Task) -> None:
        sched.spend(seconds * SECOND, user=True)
        for file, nr in zip(files, sizes, strict=True):
            if by_mapping:
                fd = task.open(file, writable=True)
                start = task.mmap(nr * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file=fd)
                for index in range(nr):
                    task.write(start + index * PAGE_SIZE, bytes_of(index))
                task.munmap(start, nr * PAGE_SIZE)
            else:
                write(task, file, 0, nr)
        writeback.check()
        sched.spend(29 * SECOND, user=True)
        assert not any(file.store for file in files)
        sched.spend(7 * SECOND, user=True)
        assert all(is_stored(file, range(nr)) for file, nr in zip(files, sizes, strict=True))
        assert not writeback.any_dirty

    system.spawn(writer)
    system.run()
    assert system.vmstat()["allocstall"] == system.vmstat()["pageoutrun"] == 0
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_above_the_background_threshold_pdflush_does_not_wait_for_that(kernel: str) -> None:
    """More than a tenth of RAM is dirty: within two seconds no more than that is, and the writer has not waited."""
    system, writeback = boot(kernel)
    file, sched, slept = system.new_file(), system.machine.sched, list[int]()

    def writer(task: Task) -> None:
        for first in range(0, 240, 24):
            began = sched.now_ns
            write(task, file, first, 24)
            slept.append(sched.now_ns - began)
        sched.spend(2 * SECOND, user=True)

    system.spawn(writer)
    system.run()
    now = writeback.state()
    assert now.background < 240 <= now.dirty
    assert now.nr_dirty <= now.background
    assert len(file.store) >= 240 - now.background


@pytest.mark.parametrize("kernel", KERNELS)
def test_who_makes_room_wakes_it(kernel: str) -> None:
    """wakeup_bdflush: as many pages as were scanned are written, though less than the background threshold is dirty; 2.6.7 asks only when 48 have been scanned."""
    system, writeback = boot(kernel)
    reclaim = system.machine.allocator.reclaim.__self__  # type: ignore[attr-defined]
    file, sched = system.new_file(), system.machine.sched

    def writer(task: Task) -> None:
        write(task, file, 0, 40)
        reclaim._wake_pdflush(40, 40)
        sched.spend(SECOND, user=True)
        assert bool(file.store) == (kernel != "2.6.7")
        reclaim._wake_pdflush(0, 49)
        sched.spend(SECOND, user=True)
        assert is_stored(file, range(40))

    system.spawn(writer)
    system.run()
    assert writeback.state().background > 40


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    kernel=st.sampled_from(KERNELS),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    orders=st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.booleans()), min_size=1, max_size=8),
    again=st.lists(st.integers(0, 79), max_size=6),
)
def test_orders_write_what_they_say_and_lose_nothing(
    kernel: str, sizes: list[int], orders: list[tuple[int, bool, bool]], again: list[int]
) -> None:
    """Each order writes as many pages as it may, or all there are to be; what is left stays known, file by file; in the end all is stored."""
    system, writeback = boot(kernel)
    task, k = system.spawn(root=True), system.kernel
    files = [system.new_file() for _ in sizes]
    for file, nr in zip(files, sizes, strict=True):
        write(task, file, 0, nr)
    for nr, nonblocking, old in orders:
        k.machine.disk.settle()
        dirty = writeback.nr_dirty
        control = WritebackControl(nr, older_than_ns=-1 if old else None, nonblocking=nonblocking, for_kupdate=old)
        writeback.writeback_inodes(control)
        written, most = nr - control.nr_to_write, 0 if old else min(nr, dirty)
        assert written == dirty - writeback.nr_dirty
        # 2.6.7 goes on where it ended, and comes to what lies before that with the next order
        assert written == most or (kernel == "2.6.7" and 0 < written < most)
        writeback.check()
        for index in again[:1]:  # becomes dirty once more while it may be under way
            which = index % len(files)
            write(task, files[which], index % sizes[which], 1)
    k.machine.disk.settle()
    while writeback.any_dirty:
        writeback.writeback_inodes(WritebackControl(1000))
        k.machine.disk.settle()
    assert all(is_stored(file, range(nr)) for file, nr in zip(files, sizes, strict=True))
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_inode_that_is_not_done_goes_on_or_makes_way(kernel: str) -> None:
    """2.6.2: the first file is written to its end before the second; 2.6.7: they take turns, and each goes on where it ended."""
    system, writeback = boot(kernel)
    task = system.spawn(root=True)
    files = [system.new_file(), system.new_file()]
    for file in files:
        write(task, file, 0, 20)
    seen = []
    for _ in range(4):
        writeback.writeback_inodes(WritebackControl(10))
        seen.append(tuple(len(file.store) for file in files))
        system.machine.sched.now_ns += 1
    in_turns = [(10, 0), (10, 10), (20, 10), (20, 20)]
    assert seen == (in_turns if kernel == "2.6.7" else [(10, 0), (20, 0), (20, 10), (20, 20)])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_congested_queue_is_for_kswapd_and_for_who_writes(kernel: str) -> None:
    """Others who make room leave dirty pages of files where they are; pdflush says so and stops. It ends a little below where it began."""
    system, writeback = boot(kernel)
    task, k = system.spawn(root=True), system.kernel
    file, disk = system.new_file(), k.machine.disk
    write(task, file, 0, 16)
    k.lru_add.drain_all()
    reclaim = k.machine.allocator.reclaim.__self__  # type: ignore[attr-defined]
    for nr in range(CONGESTED_FROM):
        assert not disk.is_write_congested
        disk.submit("swap_write", 1, 2 * nr, 1, lambda: None)
    assert disk.is_write_congested
    for writes, by_kswapd in ((False, False), (True, False), (False, True)):
        task.writes_to_disk = writes
        may = reclaim.shrinker.files.may_be_written(np.array([file.pages[i] for i in range(16)]), by_kswapd=by_kswapd)
        assert may.tolist() == [writes or by_kswapd] * 16
    task.writes_to_disk = False
    k.machine.frames.flags[[file.pages[i] for i in range(16)]] &= ~np.uint32(PG_REFERENCED)
    reclaim.shrinker.shrink_cache(0, 33, 32, Scan())
    assert writeback.nr_dirty == 16
    reclaim.shrinker.shrink_cache(0, 33, 32, Scan(by_kswapd=True))
    assert writeback.nr_dirty == 0
    write(task, file, 0, 16)
    control = WritebackControl(100, nonblocking=True)
    writeback.writeback_inodes(control)
    assert (control.nr_to_write, control.encountered_congestion) == (100, True)
    while disk.is_write_congested:
        disk.congestion_wait(SECOND)
    assert disk._nr_writes == CONGESTED_TO - 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_reclaim_unmaps_and_may_not_write_is_known(kernel: str) -> None:
    """Entries alone knew that 16 pages are dirty. Reclaim takes them from who maps them, and leaves them, as the queue is congested: pdflush has them from there."""
    system, writeback = boot(kernel)
    task, k = system.spawn(root=True), system.kernel
    file = system.new_file(size=16 * PAGE_SIZE)
    start = task.mmap(16 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file=task.open(file, writable=True))
    for index in range(16):
        task.write(start + index * PAGE_SIZE, bytes_of(index))
    k.lru_add.drain_all()
    pages = np.array([file.pages[i] for i in range(16)])
    referenced(k.rmap, pages)  # young no more
    k.machine.frames.flags[pages] &= ~np.uint32(PG_REFERENCED)
    assert not writeback.any_dirty
    for nr in range(CONGESTED_FROM):
        k.machine.disk.submit("swap_write", 1, 2 * nr, 1, lambda: None)
    k.machine.allocator.reclaim.__self__.shrinker.shrink_cache(0, 33, 32, Scan())  # type: ignore[attr-defined]
    assert (int(k.machine.frames.mapcount[pages].sum()), writeback.nr_dirty) == (0, 16)
    system.check()
    writeback.writeback_inodes(WritebackControl(16))
    assert is_stored(file, range(16))


def test_a_page_that_is_under_way_is_not_sent_again() -> None:
    """It has become dirty meanwhile: its inode waits as the newest, and the page goes when it has arrived."""
    system, writeback = boot("2.6.2")
    task, disk, file = system.spawn(root=True), system.machine.disk, system.new_file()
    write(task, file, 0, 2)
    writeback.writeback_inodes(WritebackControl(10))
    write(task, file, 0, 1)
    control = WritebackControl(10)
    writeback.writeback_inodes(control)
    assert (control.nr_to_write, disk.under_way("disk_write"), writeback.nr_dirty) == (10, 2, 1)
    assert list(writeback.s_dirty) == [file]
    disk.settle()
    writeback.writeback_inodes(control)
    assert (control.nr_to_write, writeback.nr_dirty) == (9, 0)


def test_thresholds_are_those_of_get_dirty_limits() -> None:
    """Half of what nobody maps at most, no less than 5 %; the background below that; fewer where little of RAM is low memory."""
    system, writeback = boot("2.6.2")
    frames = system.machine.frames
    for mapped, dirty, background in ((0, 40, 10), (100, 40, 10), (NR // 2, 25, 10), (NR - 160, 8, 4), (NR, 5, 2)):
        frames.mapcount[:] = 0
        frames.mapcount[:mapped] = 1
        now = writeback.state()
        assert (now.dirty, now.background) == (dirty * NR // 100, background * NR // 100)
    frames.mapcount[:] = 0
    big, large = boot("2.6.2", ram="1G", cpus=4)
    assert (large.dirty_ratio, large.background_ratio, large.ratelimit_pages) == (40, 10, 1024)
    assert big.machine.allocator.zones[-1].extent.is_high


def test_a_dirty_page_that_pdflush_does_not_know_of_is_noticed() -> None:
    system, writeback = boot("2.6.2")
    task = system.spawn(root=True)
    file = system.new_file()
    write(task, file, 0, 1)
    writeback.check()
    writeback.s_dirty.clear()
    with pytest.raises(KernelBug, match="pdflush does not know"):
        writeback.check()
    assert replace(writeback.state(), nr_writeback=10**6).exceeds
