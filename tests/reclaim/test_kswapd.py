"""kswapd: who wakes it, what it looks at by era, when it gives up, and that nothing is lost beside it.

DMA 16 MiB | NORMAL                 a zone lacks something: no more than pages_high free
   .       |   low                  2.6.2 looks at NORMAL, 2.6.5-rc1 at DMA as well: it lies below
"""

import pytest
from tests.reclaim.tools import two_come_right

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import Hung
from rmaplab.kernels.system import System
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.allocator import Gfp
from rmaplab.reclaim.direct import DirectReclaim
from rmaplab.reclaim.kswapd import Kswapd, PageReclaim
from rmaplab.reclaim.shrink import Scan
from rmaplab.units import PAGE_SIZE

BIG = "96M"
"""Some 57 MiB are free after boot."""
KERNELS = ("2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "2.6.7")


def boot(
    kernel: str, ram: int | str = 160 * PAGE_SIZE, swap: str = "8M", cpus: int = 2
) -> tuple[System, DirectReclaim, Kswapd]:
    system = rmaplab.boot(
        kernel,
        ram=ram,
        swap=swap,
        boot_use=None if ram == BIG else 0,
        pages_min=4,
        overcommit=1,
        paging="i386",
        cpus=cpus,
    )  # fmt: skip
    reclaim = install(system)
    assert isinstance(reclaim, PageReclaim)
    return system, reclaim, reclaim.kswapd


class Looked:
    """In the place of the shrinker: says which zones were looked at, and that this was in vain."""

    def __init__(self, reclaim: DirectReclaim) -> None:
        self.lists = reclaim.shrinker.lists
        self.lists.nr[:] = 5000, 0
        self.zones: list[tuple[int, int]] = []

    def sample_mapped(self) -> None:
        """Nothing is."""

    def refill_inactive_zone(self, zone: int, nr: int, prev_priority: int) -> None:
        """Nobody is."""

    def shrink_cache(self, zone: int, budget: int, wanted: int, scan: Scan) -> int:
        self.zones.append((zone, budget))
        return budget


def looked_at(kernel: str, zones: set[int]) -> tuple[Looked, Kswapd]:
    """One call of balance_pgdat on a box of two zones, of which `zones` have as much free as their low mark."""
    system, reclaim, kswapd = boot(kernel, ram="64M")
    stand_in = Looked(reclaim)
    reclaim.shrinker = stand_in  # type: ignore[assignment]
    for zone in zones:
        each = system.machine.allocator.zones[zone]
        each.buddy.alloc(each.nr_free - each.marks.low)
    kswapd.balance_pgdat()
    return stand_in, kswapd


@pytest.mark.parametrize(("kernel", "pages"), [("2.6.2", 200), ("2.6.5-rc1-aa1", 8000), ("2.6.7", 8000)])
def test_programs_wake_it_and_nothing_is_lost(kernel: str, pages: int) -> None:
    """Two programs that want more than the RAM: it frees pages beside them, and all bytes are there."""
    system, _, kswapd = boot(kernel, ram=160 * PAGE_SIZE if pages == 200 else BIG, swap="256M")
    two_come_right(system, pages)
    counts = system.machine.ledger.counts
    assert 50 < counts["kswapd_steal"] <= counts["pgsteal"]
    found = system.vmstat()
    assert (found["kswapd_steal"], found["pageoutrun"]) == (counts["kswapd_steal"], counts["pageoutrun"])
    assert kswapd.asleep


def test_a_small_zone_that_is_given_up_hangs() -> None:
    """2.6.5-rc1 saves up what priority 12 would look at: a 4096th of 150 pages is none. Believed: nobody says so of boxes that small."""
    system, _, _ = boot("2.6.5-rc1")

    def program(task: Task) -> None:
        start = task.mmap(130 * PAGE_SIZE)
        for page in range(260):
            task.write(start + page % 130 * PAGE_SIZE, b"%d" % page)

    for _ in range(3):
        system.spawn(program)
    with pytest.raises(Hung, match="slots of swap are free"):
        system.run()
    system.close()


def test_whoever_drives_from_outside_has_none() -> None:
    """Nobody would run it."""
    system, _, kswapd = boot("2.6.2")
    task = system.spawn()
    start = task.mmap(200 * PAGE_SIZE)
    task.touch(start, 200 * PAGE_SIZE, write=True)
    assert kswapd.asleep
    assert system.machine.allocator.kswapd_wakes > 0
    assert system.machine.ledger.counts["pageoutrun"] == 0


@pytest.mark.parametrize(("kernel", "also_below"), [("2.6.2", False), ("2.6.5-rc1", True), ("2.6.7", True)])
def test_which_zones_are_looked_at(kernel: str, also_below: bool) -> None:
    """NORMAL lacks something, DMA does not (reclaim.md D.6)."""
    stand_in, _ = looked_at(kernel, {1})
    assert {zone for zone, _ in stand_in.zones} == ({0, 1} if also_below else {1})
    stand_in, _ = looked_at(kernel, {0})
    assert {zone for zone, _ in stand_in.zones} == {0}
    stand_in, _ = looked_at(kernel, set())
    assert stand_in.zones == []


def test_how_much_2_6_2_looks_at() -> None:
    """A zone at its low mark (8) of a high one of 12 lacks 4: 32 at least, and 5000 >> p where that is more; 12 to 1."""
    stand_in, _ = looked_at("2.6.2", {0})
    zone = stand_in.lists.nr[0, 0]
    assert next(budget for _, budget in stand_in.zones) == max(int(zone) >> 12, 32)
    assert stand_in.zones[-1][1] == 2500
    assert len(stand_in.zones) <= 12


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_zone_is_given_up_and_comes_back(kernel: str) -> None:
    """Twice its pages were looked at in vain: only priority 12 looks again, until a block comes back to the buddy system."""
    stand_in, kswapd = looked_at(kernel, {0})
    reclaim, zone = kswapd.reclaim, kswapd.k.machine.allocator.zones[0]
    while not reclaim.is_given_up(0):
        kswapd.balance_pgdat()
    stand_in.zones.clear()
    kswapd.balance_pgdat()
    assert len([each for each in stand_in.zones if each[0] == 0]) <= 1
    stand_in.zones.clear()
    assert not reclaim.try_to_free_pages(Gfp.KERNEL)
    assert len([each for each in stand_in.zones if each[0] == 0]) <= 1
    zone.buddy.free(zone.buddy.alloc(1))
    assert not reclaim.is_given_up(0)
