"""kswapd of 2.4: which classes it frees for, how long, when it sleeps, and that nothing is lost beside it (reclaim.md C.7).

DMA 16 MiB | NORMAL ... 896 MiB | HIGHMEM
   class 1: a request for low memory ends here   class 2: any memory
"""

from collections.abc import Callable

import pytest
from tests.reclaim.tools import two_come_right

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import NoMemory
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.reclaim.class_kswapd import KSWAPD_SLEEP_NS, class_of, high_marks
from rmaplab.reclaim.virtual import VirtualReclaim
from rmaplab.units import PAGE_SIZE

NR_FREE = 32


class Stage:
    """A box whose pages are all taken but `left` above the low marks of a class, and a kswapd that only notes what it is asked to free."""

    def __init__(self, gfp: Gfp, *, ram: str = "64M", left: int = 0) -> None:
        self.system = rmaplab.boot("2.4.21", ram=ram, swap="64M", overcommit=1, paging="i386", cpus=2)
        self.k = self.system.kernel
        reclaim = install(self.system)
        assert isinstance(reclaim, VirtualReclaim)
        self.reclaim, self.kswapd = reclaim, reclaim.kswapd
        self.asked = list[tuple[int, int]]()
        self.gfp, self.found = gfp, True
        self.kswapd._free = self.free
        allocator = self.k.machine.allocator
        self.held = list[I64]()
        for place, low in allocator.marks.passes[gfp][0]:
            zone = allocator.zones[place]
            if zone.nr_free > low + left:
                self.held.append(zone.buddy.alloc(zone.nr_free - low - left))

    def free(self, number: int) -> bool:
        """32 pages come back to the highest zone of the class, if there are any to be `found`."""
        self.asked.append((number, self.k.machine.sched.now_ns))
        if self.found:
            pages, self.held[0] = self.held[0][:NR_FREE], self.held[0][NR_FREE:]
            self.k.machine.allocator.zones[number].buddy.free(pages)
        return self.found

    def run(self, *programs: Callable[[Task], None]) -> None:
        for program in programs:
            self.system.spawn(program)
        self.system.run()

    def ask(self, _: Task, gfp: Gfp | None = None) -> None:
        """A page, below the low marks."""
        self.k.machine.allocator.alloc(1, gfp or self.gfp)

    def spend(self, ns: int) -> Callable[[Task], None]:
        """A program that needs the CPU for so long."""
        return lambda _: self.k.machine.sched.spend(ns, user=True)


@pytest.mark.parametrize("gfp", [Gfp.KERNEL, Gfp.HIGHUSER])
def test_the_class_that_was_short_until_a_zone_is_above_its_high_mark(gfp: Gfp) -> None:
    """1 GiB: low memory is class 1, any memory class 2. Each zone is at its low mark; so many times 32 pages are wanted, and one more round finds that."""
    stage = Stage(gfp, ram="1G")
    allocator = stage.k.machine.allocator
    number = class_of(allocator.zones, gfp)
    marks = dict(high_marks(allocator, gfp))
    assert number == max(marks) == {Gfp.KERNEL: 1, Gfp.HIGHUSER: 2}[gfp]
    assert (
        marks[0] - allocator.marks.zones[0].high
        == sum(z.extent.present for z in allocator.zones[1 : number + 1]) // 256
    )
    high = allocator.zones[number].marks.high
    assert allocator.zones[number].nr_free < high - NR_FREE
    stage.run(stage.ask)
    assert {asked for asked, _ in stage.asked} == {number}
    free = allocator.zones[number].nr_free
    assert high < free <= high + NR_FREE
    assert stage.kswapd.need_balance == [False] * 3
    assert stage.kswapd.asleep


def test_any_zone_of_the_class_is_enough() -> None:
    """check_classzone_need_balance: DMA has more than its high mark, so once is enough."""
    stage = Stage(Gfp.KERNEL)
    dma = stage.k.machine.allocator.zones[0]

    def program(task: Task) -> None:
        stage.ask(task)
        dma.buddy.free(stage.held[1])

    stage.run(program)
    assert len(stage.asked) == 1
    assert stage.kswapd.asleep


def test_in_vain_it_sleeps_for_five_seconds_whoever_wants_it() -> None:
    """A request meanwhile is noted, and heeded when it wakes."""
    stage = Stage(Gfp.HIGHUSER, left=-2)
    stage.found = False

    def program(task: Task) -> None:
        stage.ask(task)
        stage.spend(3 * 10**9)(task)
        stage.ask(task)
        assert stage.kswapd.need_balance[1]
        stage.spend(3 * 10**9)(task)
        stage.found = True

    stage.run(program, stage.spend(12 * 10**9))
    times = [ns for _, ns in stage.asked]
    assert times[1] - times[0] >= KSWAPD_SLEEP_NS
    assert times[1] < 6 * 10**9
    assert stage.kswapd.need_balance == [False] * 2


def test_that_sleep_is_not_waited_for_and_who_comes_later_ends_it() -> None:
    """All programs have ended; the next one finds that five seconds have gone."""
    stage = Stage(Gfp.HIGHUSER)
    stage.found = False
    stage.run(stage.ask)
    assert stage.k.machine.sched.now_ns < KSWAPD_SLEEP_NS
    assert len(stage.asked) == 1
    stage.k.machine.sched.now_ns += KSWAPD_SLEEP_NS
    stage.found = True
    stage.run(stage.ask)
    assert len(stage.asked) > 1
    assert stage.kswapd.asleep


def test_whoever_drives_from_outside_has_none_but_its_passes() -> None:
    """Nobody would run it: 60 passes in the place of who comes to the min marks."""
    system = rmaplab.boot(
        "2.4.21", ram=160 * PAGE_SIZE, swap="8M", boot_use=0, pages_min=4, overcommit=1, paging="i386"
    )
    reclaim = install(system)
    assert isinstance(reclaim, VirtualReclaim)
    task = system.spawn()
    start = task.mmap(200 * PAGE_SIZE)
    task.touch(start, 200 * PAGE_SIZE, write=True)
    assert reclaim.kswapd.asleep
    counts = system.machine.ledger.counts
    assert counts["balance_classzone"] > 0
    assert counts["kswapd_balance"] == counts["kswapd_steal"] == 0


def test_a_program_makes_its_own_passes_and_kswapd_its_own() -> None:
    """In vain: 60 of the program's, and kswapd's beside it; then the request is refused."""
    stage, asked = Stage(Gfp.HIGHUSER), list[bool]()
    stage.found = False

    def in_vain(classzone: int, wanted: str, *, by_kswapd: bool = False) -> bool:
        del classzone, wanted
        asked.append(by_kswapd)
        return False

    def program(_: Task) -> None:
        stage.kswapd._free = stage.reclaim._free_for_kswapd
        allocator = stage.k.machine.allocator
        allocator.alloc(allocator.obtainable(Gfp.HIGHUSER), Gfp.HIGHUSER)
        with pytest.raises(NoMemory, match="in 60 passes nothing could be reclaimed"):
            allocator.alloc(1, Gfp.HIGHUSER)

    stage.reclaim.try_to_free_pages_zone = in_vain  # type: ignore[method-assign,assignment]
    stage.run(program)
    assert sorted(asked) == [False, True]


def test_without_anybody_left_to_kill_it_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants memory hears of it; kswapd goes on."""
    stage = Stage(Gfp.HIGHUSER)

    def no_memory(number: int) -> bool:
        stage.asked.append((number, 0))
        raise NoMemory("nobody is left to kill")

    monkeypatch.setattr(stage.kswapd, "_free", no_memory)
    stage.run(stage.ask)
    assert len(stage.asked) == 1


def test_on_one_cpu_it_preempts_who_wakes_it() -> None:
    """It has slept since boot, and so weighs more than who runs (goodness.py). Else the program makes the passes that must be in vain, as all its pages are young, and is killed."""
    system = rmaplab.boot(
        "2.4.21",
        ram=128 * PAGE_SIZE,
        swap=256 * PAGE_SIZE,
        boot_use=0,
        pages_min=4,
        overcommit=1,
        paging="i386",
        cpus=1,
    )
    install(system)
    ended = list[int]()

    def program(task: Task) -> None:
        start = task.mmap(200 * PAGE_SIZE)
        for page in range(200):
            task.write(start + page * PAGE_SIZE, b"%d" % page)
        ended.append(task.pid)

    system.spawn(program)
    system.run()
    assert ended == [1]
    assert system.machine.ledger.counts["kswapd_balance"] >= 1


def test_programs_wake_it_and_nothing_is_lost() -> None:
    """Two programs that want more than the RAM: it frees pages beside them, and all bytes are there."""
    system = rmaplab.boot("2.4.21", ram="16M", swap="64M", boot_use=0, overcommit=1, paging="i386", cpus=2)
    reclaim = install(system)
    assert isinstance(reclaim, VirtualReclaim)
    two_come_right(system, 2500)
    counts = system.machine.ledger.counts
    assert 0 < counts["kswapd_steal"] <= counts["pgsteal"]
    assert reclaim.kswapd.asleep or reclaim.kswapd._nap_ends_ns is not None
