"""swapoff: what lies in an area comes back to all who have it, byte for byte, and then the area is gone.

    box     area 0: 24 slots @5 (memory)    area 1: 24 slots @5 (a file)    area 2: 60 slots @1
    mmlist  init_mm - parent - last child - ... - first child - whoever came before

Everything is patterned and recounted; areas that others use are as they were.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tests.mm.test_swap_failure import Faulty

import rmaplab
from rmaplab.cache.area_store import AreaStore
from rmaplab.cache.swap_area import SWAP_MAP_MAX, SwapHeader, write_header
from rmaplab.errors import KernelBug, NoMemory, NotModelled, SyscallError, UsageError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.lab.conformance.pressure_run import PressureRun, install
from rmaplab.lab.conformance.run import Step
from rmaplab.machine.arrays import I64, U8
from rmaplab.machine.batch import PFN, Batch
from rmaplab.machine.entries import ACCESSED, DIRTY, RW, EntryKind
from rmaplab.machine.frames import PG_DIRTY, PG_WRITEBACK
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import PROT_NONE, PROT_READ, PROT_WRITE
from rmaplab.reclaim.direct import DirectReclaim
from rmaplab.reclaim.oom_kill import OomKiller
from rmaplab.reclaim.page_out import page_out
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

everywhere = pytest.mark.parametrize(
    ("kernel", "paging"), [(kernel, paging) for kernel in EVERY_KIND for paging in find_kernel(kernel).architectures]
)
kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
RECLAIMING = ("2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.7")
RW_ = PROT_READ | PROT_WRITE


def text(pid: int, i: int) -> bytes:
    return b"%3d %3d " % (pid, i) * (PAGE_SIZE // 8)


class Stage:
    """A parent of `pages` pages, two children who have some of their own, and all pages that were forked out in swap."""

    def __init__(
        self, kernel: str, paging: str | None = None, *, swap: object = ("96K@5", "96K@5", "240K@1"), pages: int = 20
    ) -> None:
        changes: dict[str, object] = {"swap": list(swap) if isinstance(swap, tuple) else swap, "paging": paging}
        self.system: System = rmaplab.boot(kernel, ram="64M", **changes)  # type: ignore[arg-type]
        self.k, self.pages = self.system.kernel, pages
        self.parent = self.system.spawn()
        self.at = self.parent.mmap(pages * PAGE_SIZE)
        self.truth: dict[tuple[int, int], bytes] = {}
        self.write(self.parent, range(pages))
        self.first = self.fork()
        self.last = self.fork()
        self.tasks = [self.parent, self.first, self.last]
        self.k.lru_add.drain_all()

    def write(self, task: rmaplab.Task, which: range) -> None:
        for i in which:
            task.write(self.at + i * PAGE_SIZE, text(task.pid, i))
            self.truth[task.pid, i] = text(task.pid, i)

    def fork(self) -> rmaplab.Task:
        child = self.parent.fork()
        self.truth |= {(child.pid, i): what for (pid, i), what in list(self.truth.items()) if pid == self.parent.pid}
        return child

    def entry(self, task: rmaplab.Task, i: int) -> int:
        assert task.mm is not None
        return lookup(*self.system.machine.geometry, task.mm.pgd, self.at + i * PAGE_SIZE)[0]

    def out(self, task: rmaplab.Task, which: range) -> None:
        for i in which:
            for _ in range(6):  # young entries are spared the first time, in some eras
                entry = self.entry(task, i)
                if not entry & self.system.machine.mapped or page_out(self.k, entry >> PAGE_SHIFT):
                    break

    def areas(self) -> set[int]:
        """Which are named by any entry of any task."""
        found: set[int] = set()
        for mm in self.k.mms.values():
            others = read_page_tables(self.system.machine, mm.pgd)[0].others
            found |= set(self.system.machine.encoding.swap_slots(others)[0].tolist())
        return found

    def verify(self) -> None:
        self.system.check()
        for task in self.tasks:
            for i in range(self.pages):
                if (task.pid, i) in self.truth and task.mm is not None:
                    assert task.read(self.at + i * PAGE_SIZE, PAGE_SIZE) == self.truth[task.pid, i]
        self.system.check()


@everywhere
def test_all_comes_back_to_everybody_and_the_area_is_gone(kernel: str, paging: str) -> None:
    """Shared pages and own ones, in both areas of priority 5; one is emptied, then the other."""
    stage = Stage(kernel, paging)
    stage.write(stage.first, range(0, 20, 3))
    stage.k.lru_add.drain_all()
    for task in stage.tasks:
        stage.out(task, range(20))
    assert stage.areas() == {0, 1}
    assert [row.used for row in stage.system.swaps] == [13, 14, 0]
    stage.system.check()
    stage.system.swapoff(1)
    assert stage.areas() == {0}
    stage.system.check()
    assert [(row.number, row.priority) for row in stage.system.swaps] == [(0, 5), (2, 1)]
    stage.system.swapoff(0)
    assert not stage.areas()
    assert (stage.k.swap.nr_used, len(stage.k.swap.cached)) == (0, 0)
    stage.verify()
    with pytest.raises(SyscallError, match="there is no swap area"):
        stage.system.swapoff(0)


@kernels
def test_a_page_comes_back_old_and_read_only(kernel: str) -> None:
    """And hidden where nobody may touch it; dirty, as its slot is gone; one frame for all who share it."""
    stage = Stage(kernel, pages=2)
    stage.first.mprotect(stage.at, PAGE_SIZE, PROT_NONE)
    stage.out(stage.parent, range(2))
    before = [task.mm.rss for task in stage.tasks if task.mm is not None]
    stage.system.swapoff(0)
    stage.system.swapoff(1)
    found = [stage.entry(task, 0) for task in stage.tasks]
    assert len({entry >> PAGE_SHIFT for entry in found}) == 1
    assert not any(entry & (RW | ACCESSED | DIRTY) for entry in found)
    kinds = [stage.system.machine.encoding.kind(entry) for entry in found]
    assert kinds == [EntryKind.PAGE, EntryKind.HIDDEN, EntryKind.PAGE]
    assert stage.system.machine.frames.flags[found[0] >> PAGE_SHIFT] & PG_DIRTY
    assert [task.mm.rss for task in stage.tasks if task.mm is not None] == [rss + 2 for rss in before]
    stage.first.mprotect(stage.at, PAGE_SIZE, RW_)
    stage.verify()


@kernels
def test_pages_that_are_in_the_cache_leave_it(kernel: str) -> None:
    """One that was read back by one of three, and one that nobody has any more."""
    stage = Stage(kernel, pages=4)
    stage.out(stage.parent, range(4))
    stage.last.read(stage.at, 1)
    for task in stage.tasks:
        task.munmap(stage.at + PAGE_SIZE, PAGE_SIZE)
        del stage.truth[task.pid, 1]
    for number in (0, 1):
        stage.system.swapoff(number)
    assert not stage.k.swap.cached
    assert len({stage.entry(task, 0) >> PAGE_SHIFT for task in stage.tasks}) == 1
    stage.verify()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.7"])
def test_the_search_goes_round_the_mmlist(kernel: str) -> None:
    """Worked by hand. Everybody has 20 entries in one table of his; the list: parent, last, first (the newest child stands behind its parent).

    Slot 1 is page 0 of all: from init_mm on, 1 + 1 + 1 looks; the parent was the first to have it. Slot 2 is page 5 of `first` alone: parent and last
    in vain, 20 + 20, then 6; `first` is next to begin with. Slot 3 is page 7 of first and parent: 8, and behind init_mm 8; whoever comes first behind that is
    next to begin with, the parent. Slot 4 is page 8 of `last`: the parent in vain, 20, then 9.
    """
    stage = Stage(kernel, swap="96K", pages=20)
    stage.write(stage.first, range(5, 6))
    stage.write(stage.last, range(7, 9))
    stage.k.lru_add.drain_all()
    assert [mm.address for mm in stage.k.mmlist] == [
        task.mm.address for task in (stage.parent, stage.last, stage.first) if task.mm
    ]
    stage.out(stage.parent, range(1))
    stage.out(stage.first, range(5, 6))
    stage.out(stage.parent, range(7, 8))
    stage.out(stage.last, range(8, 9))
    assert [int(users) for users in stage.k.swap.users[1:5]] == [3, 1, 2, 1]
    counts = stage.system.machine.ledger.counts
    before = counts["unuse_pte"]
    stage.system.swapoff(0)
    assert stage.system.machine.ledger.counts["unuse_pte"] - before == 3 + (20 + 20 + 6) + (8 + 8) + (20 + 9)
    stage.verify()


class Meddler(Faulty):
    """A store that has somebody do something when a slot is read."""

    def __init__(self, store: AreaStore, slot: int, does: Callable[[], object]) -> None:
        super().__init__(store, 1 << 30, reading=True)
        self.slot, self.does = slot, does

    def read(self, slot: int) -> U8:
        if slot == self.slot:
            self.does()
        return super().read(slot)


@pytest.mark.parametrize("kernel", ["2.4.21", *RECLAIMING])
def test_entries_that_come_and_go_meanwhile(kernel: str) -> None:
    """Slots 8 to 12 are in the cache, as page 8 was touched. While slot 1 is read page 8 goes out once more, and page 5 is unmapped.

    So slots 1 to 5, 7 and 9 are read, each once: the entries of slot 9 are found though they were not there when tables were read.
    """
    stage = Stage(kernel, swap="96K", pages=12)
    stage.out(stage.parent, range(12))
    for task in stage.tasks:
        task.read(stage.at + 8 * PAGE_SIZE, 1)
    stage.k.lru_add.drain_all()

    def meddle() -> None:
        for task in stage.tasks:
            stage.out(task, range(8, 9))
            task.munmap(stage.at + 5 * PAGE_SIZE, PAGE_SIZE)
            del stage.truth[task.pid, 5]

    stage.k.swap.stores[0] = Meddler(stage.k.swap.stores[0], 1, meddle)
    counts = stage.system.machine.ledger.counts
    before = counts["pswpin"]
    stage.system.swapoff(0)
    assert stage.system.machine.ledger.counts["pswpin"] - before == 7
    stage.verify()


@pytest.mark.parametrize("kernel", ["2.4.21", *RECLAIMING])
def test_whoever_cannot_be_found_gets_what_the_page_had(kernel: str) -> None:
    """An mm is off the list for a while. So the page of slot 1, which is dirty, is written, and leaves the cache; the next round reads it again."""
    stage = Stage(kernel, swap="96K", pages=12)
    stage.out(stage.parent, range(12))
    stage.last.read(stage.at, 1)
    pfn, mm = stage.entry(stage.last, 0) >> PAGE_SHIFT, stage.first.mm
    assert mm is not None
    stage.system.machine.ram.bytes[pfn] = 7
    stage.system.machine.frames.flags[pfn] |= np.uint32(PG_DIRTY)
    stage.truth.update(dict.fromkeys([(task.pid, 0) for task in stage.tasks], b"\7" * PAGE_SIZE))
    stage.k.mmlist.remove(mm)
    stage.k.swap.stores[0] = Meddler(stage.k.swap.stores[0], 9, lambda: stage.k.mmlist.add(mm))
    stage.system.swapoff(0)
    assert stage.entry(stage.first, 0) >> PAGE_SHIFT != stage.entry(stage.last, 0) >> PAGE_SHIFT
    stage.verify()


@pytest.mark.parametrize("kernel", RECLAIMING)
def test_nobody_takes_the_page_that_is_being_brought_back(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is locked: reclaim, at an allocation for the second who gets it, would take it from the first."""
    stage = Stage(kernel, swap="96K", pages=1)
    stage.out(stage.parent, range(1))
    reserve, taken = stage.k.design.reserve, []

    def meddle(batch: Batch) -> None:
        reserve(batch)
        taken.append(page_out(stage.k, int(batch.columns[PFN, 0])))

    monkeypatch.setattr(stage.k.design, "reserve", meddle)
    stage.system.swapoff(0)
    assert taken == [False] * 3
    assert all(stage.entry(task, 0) & stage.system.machine.mapped for task in stage.tasks)
    stage.verify()


@pytest.mark.parametrize("kernel", RECLAIMING)
def test_a_page_on_its_way_to_the_area_is_waited_for(kernel: str) -> None:
    stage = Stage(kernel, swap="96K", pages=1)
    stage.out(stage.parent, range(1))
    stage.last.read(stage.at, 1)
    pfn, flags = stage.entry(stage.last, 0) >> PAGE_SHIFT, stage.system.machine.frames.flags
    flags[pfn] |= np.uint32(PG_WRITEBACK)
    done: list[bool] = []

    def finish(pfns: I64) -> None:
        done.append(pfn in stage.k.swap.cached.values())
        flags[pfns] &= ~np.uint32(PG_WRITEBACK)

    stage.k.swap.start_writing(np.array([pfn]), finish)
    stage.system.swapoff(0)
    assert done == [True]
    stage.verify()


def test_a_child_stands_behind_its_parent_in_the_mmlist() -> None:
    """And who dies leaves the list; a program that is started comes first."""
    system = rmaplab.boot("2.6.7", ram="64M")
    one = system.spawn()
    two, three = one.fork(), one.fork()
    four = two.fork()
    other = system.spawn()

    def order() -> list[int]:
        return [mm.pid for mm in system.kernel.mmlist]

    assert order() == [task.pid for task in (other, one, three, two, four)]
    two.exit()
    assert order() == [task.pid for task in (other, one, three, four)]
    assert system.kernel.mmlist.nr == 4


@pytest.mark.parametrize(("kernel", "asks"), [("2.4.21", False), ("2.6.2", True), ("2.6.7", True)])
def test_swapoff_asks_for_the_whole_area_first(kernel: str, asks: bool) -> None:
    """512 MiB of swap, of which nothing is used, and 64 of RAM: free swap counts, also that of the area itself; not so where a fork was promised half of it."""
    system = rmaplab.boot(kernel, ram="64M", swap=["512M", "4M"], overcommit=2 if asks else 0, overcommit_ratio=0)
    task = system.spawn(root=True)
    task.mmap(8 << 20, PROT_READ | PROT_WRITE)
    if asks:
        with pytest.raises(SyscallError, match="overcommit: 131,071 pages") as refused:
            system.swapoff(0)
        assert refused.value.name == "ENOMEM"
        assert system.machine.swap_pages == 129 << 10
        task.exit()
    system = rmaplab.boot(kernel, ram="64M", swap=["16M", "4M"])
    system.swapoff(0)
    assert system.machine.swap_pages == system.kernel.overcommit.swap == 1 << 10
    system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", *RECLAIMING])
def test_whichever_allocation_fails_the_area_is_back(kernel: str) -> None:
    """ENOMEM; the priority is the same, what has come back stays, the rest is in swap, and the next swapoff does it."""
    for nth in range(100):
        stage = Stage(kernel, swap=("96K@3", "96K@3"), pages=6)
        for task in stage.tasks:
            stage.out(task, range(6))
        allocator = stage.system.machine.allocator
        allocator.fail_after = nth
        try:
            stage.system.swapoff(0)
        except SyscallError as failure:
            assert failure.name == "ENOMEM"
            assert allocator.fail_after is None
            assert [(row.number, row.priority) for row in stage.system.swaps] == [(0, 3), (1, 3)]
            stage.system.check()
            stage.system.swapoff(0)
        over, allocator.fail_after = allocator.fail_after is not None, None
        assert stage.areas() <= {1}
        stage.verify()
        if over:
            break
    else:
        raise AssertionError("it does not end")
    assert nth >= 3


@pytest.mark.parametrize("kernel", ["2.4.21", *RECLAIMING])
def test_more_than_ram_goes_to_the_other_area(kernel: str, tmp_path: Path) -> None:
    """90 frames, 200 pages of two tasks; a file is emptied while the rest is full, and pages go out to make room. It can be used again then."""
    path = tmp_path / "area"
    path.write_bytes(write_header(SwapHeader(99)) + bytes(99 * PAGE_SIZE))
    system = rmaplab.boot(
        kernel, ram=90 * PAGE_SIZE, swap=[f"{path}@9", "2M@1"], boot_use=0, pages_min=4, overcommit=1, paging="i386"
    )  # fmt: skip
    install(system)
    tasks = [system.spawn(), system.spawn()]
    places = [task.mmap(100 * PAGE_SIZE) for task in tasks]
    for i in range(100):
        for task, at in zip(tasks, places, strict=True):
            task.write(at + i * PAGE_SIZE, text(task.pid, i))
    assert next(iter(system.swaps)).used > 60
    system.swapoff(path)
    system.check()
    assert [row.number for row in system.swaps] == [1]
    assert system.swapon(f"{path}@9") == 0
    for i in range(100):
        for task, at in zip(tasks, places, strict=True):
            assert task.read(at + i * PAGE_SIZE, PAGE_SIZE) == text(task.pid, i)
    assert next(iter(system.swaps)).used
    system.check()


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7"])
def test_where_nothing_has_room_nothing_is_lost(kernel: str) -> None:
    """RAM and the other area are full: whoever reclaims gives up, or the OOM killer takes swapoff itself (PF_SWAPOFF), which is EINTR."""
    system = rmaplab.boot(
        kernel, ram=64 * PAGE_SIZE, swap=["200K@9", "40K@1"], boot_use=0, pages_min=4, overcommit=1, paging="i386"
    )
    task = system.spawn()
    reclaim = install(system)
    at = task.mmap(80 * PAGE_SIZE)
    for i in range(80):
        task.write(at + i * PAGE_SIZE, text(task.pid, i))
    with pytest.raises(NoMemory, match="RAM and swap are full"):
        system.swapoff(0)
    system.check()
    assert isinstance(reclaim, DirectReclaim)
    reclaim.out_of_memory = OomKiller(system.kernel).out_of_memory
    system.machine.allocator.reclaim = reclaim.make_room
    with pytest.raises(SyscallError, match="swapoff is killed") as killed:
        system.swapoff(0)
    assert killed.value.name == "EINTR"
    assert task.mm is not None
    assert [(row.number, row.priority) for row in system.swaps] == [(0, 9), (1, 1)]
    system.check()
    for i in range(80):
        assert task.read(at + i * PAGE_SIZE, PAGE_SIZE) == text(task.pid, i)


@pytest.mark.parametrize("kernel", ["2.4.21", *RECLAIMING])
def test_what_cannot_be_read_is_lost_and_told_of(kernel: str) -> None:
    """Up to 2.6.7 swapoff maps it like other pages: that page alone is lost, to all who share it."""
    stage = Stage(kernel, swap="96K", pages=6)
    stage.out(stage.parent, range(6))
    stage.parent.write(stage.parent.mmap(16 * PAGE_SIZE), b"x" * 16 * PAGE_SIZE)
    stage.k.swap.stores[0] = Faulty(stage.k.swap.stores[0], 2, reading=True)
    stage.system.swapoff(0)
    (loss,) = stage.k.swap.lost
    at = stage.at + 2 * PAGE_SIZE
    assert sorted(loss.seen) == sorted((task.pid, at) for task in stage.tasks)
    for task in stage.tasks:
        assert task.read(at, PAGE_SIZE) != stage.truth.pop((task.pid, 2))
    stage.verify()


def test_what_cannot_be_read_today_is_not_modelled() -> None:
    stage = Stage("6.18", swap="96K", pages=6)
    stage.out(stage.parent, range(6))
    stage.k.swap.stores[0] = Faulty(stage.k.swap.stores[0], 2, reading=True)
    with pytest.raises(NotModelled, match="leaves a mark today"):
        stage.system.swapoff(0)
    stage.system.check()
    assert [row.used for row in stage.system.swaps] == [4]


def test_a_slot_that_was_used_too_often_is_freed_all_the_same() -> None:
    """SWAP_MAP_MAX: nobody knows how often, so everybody is asked, and then it is one (the cache's)."""
    stage = Stage("2.6.2", swap="96K", pages=1)
    stage.out(stage.parent, range(1))
    stage.k.swap.users[1] = SWAP_MAP_MAX
    stage.system.swapoff(0)
    stage.verify()


def test_a_use_that_nobody_has_is_a_bug() -> None:
    stage = Stage("2.6.2", swap="96K", pages=1)
    stage.k.swap.get_slot()
    assert stage.k.swap.users[1] == 1
    stage.k.swap.users[1] = 2
    with pytest.raises(KernelBug, match="slot 1 of area 0 is used, and nobody is found who does"):
        stage.system.swapoff(0)


def test_swapon_of_words_and_swapoff_of_names(tmp_path: Path) -> None:
    path = tmp_path / "area"
    path.write_bytes(write_header(SwapHeader(9)) + bytes(9 * PAGE_SIZE))
    system = rmaplab.boot("2.6.7", ram="64M")
    assert not list(system.swaps)
    assert [system.swapon("64K@3"), system.swapon(path), system.swapon(8192)] == [0, 1, 2]
    assert [tuple(row) for row in system.swaps] == [
        (0, "memory", 15, 0, 3), (1, str(path), 8, 0, -1), (2, "memory", 1, 0, -2),
    ]  # fmt: skip
    assert system.machine.swap_pages == 16 + 8 + 2
    with pytest.raises(SyscallError, match="swapped to already") as busy:
        system.swapon(path)
    assert busy.value.name == "EBUSY"
    for bad in ("8K,8K", "100", "nothing", "./nothing"):
        with pytest.raises(UsageError):
            system.swapon(bad)
    system.swapoff(str(path))
    for what in (str(path), "memory", 1, 7, -1):
        with pytest.raises(SyscallError) as gone:
            system.swapoff(what)
        assert gone.value.name == "EINVAL"
    assert system.swapon(path) == 1
    system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", *RECLAIMING])
def test_areas_come_and_go_under_pressure(kernel: str) -> None:
    """Random calls; in between any area is emptied, if there is room, and put back with any priority. Everything recounted, all contents compared."""
    dice = Random(7)
    run = PressureRun(kernel, 7, priorities=(1, 1, 2))
    system, done = run.system, 0
    size = system.kernel.swap.areas.areas[0].pages + 1
    run.begin()
    while run.nr_calls < 40:
        run.step(Step(run._operation()))
        if dice.random() < 0.3:
            try:
                number = dice.choice(list(system.swaps)).number
                system.swapoff(number)
            except NoMemory:
                pass
            else:
                done += 1
                assert system.swapon(f"{size * PAGE_SIZE}@{dice.randrange(3)}") == number
            run.verify()
    assert done > 3
    run.finish()
