"""Direct reclaim: how much each era scans, when it naps and when it is content; nothing is lost; and how it ends when nothing can be had."""

import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import NoMemory
from rmaplab.kernels.system import System
from rmaplab.lab.conformance.pressure_run import PressureRun, install
from rmaplab.machine.allocator import Gfp
from rmaplab.reclaim import direct
from rmaplab.reclaim.direct import DirectReclaim
from rmaplab.reclaim.shrink import Scan
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "2.6.7")
SECOND = 10**9


def small(kernel: str, frames: int = 128, slots: int = 512) -> System:
    """A box of so many frames, with swap."""
    return rmaplab.boot(
        kernel, ram=frames * PAGE_SIZE, swap=slots * PAGE_SIZE, boot_use=0, pages_min=4, overcommit=1, paging="i386"
    )


class Told:
    """In the place of the shrinker: says what it was asked for, and that it has freed `gives` pages each time."""

    def __init__(self, reclaim: DirectReclaim, inactive: int, active: int, gives: int = 0) -> None:
        self.lists = reclaim.shrinker.lists
        self.lists.nr[:] = 0
        self.lists.nr[0] = inactive, active
        self.asked: list[tuple[str, int]] = []
        self.gives = gives

    def sample_mapped(self) -> None:
        """Nothing is."""

    def refill_inactive_zone(self, zone: int, nr: int, prev_priority: int) -> None:
        if zone == 0:
            self.asked.append(("active", nr))

    def shrink_cache(self, zone: int, budget: int, wanted: int, scan: Scan) -> int:
        if zone == 0:
            self.asked.append(("inactive", budget))
            scan.freed += self.gives
        return budget


def told(kernel: str, inactive: int, active: int, gives: int = 0) -> tuple[DirectReclaim, Told]:
    reclaim = install(small(kernel))
    assert isinstance(reclaim, DirectReclaim)
    stand_in = Told(reclaim, inactive, active, gives)
    reclaim.shrinker = stand_in  # type: ignore[assignment]
    return reclaim, stand_in


@pytest.mark.parametrize(
    ("kernel", "first", "last"),
    [
        # 32 x 1000 / (2 x 501) + 1 = 32 a time: more than 32 with the second. At least 64 inactive ones each time; all 500 at the end.
        ("2.6.2", [("inactive", 64), ("active", 64), ("inactive", 64)], ("inactive", 500)),
        # The same 32 are enough. 500 >> 12 ... >> 4 = 0 0 0 0 0 1 3 7 15 31: 57 saved up, with the priority of 4.
        ("2.6.5-rc1", [("active", 32)] * 9, ("inactive", 500)),
        # 1500 >> 12 ... = 0 0 1 2 5 11 23: 42 with priority 6; of active ones each x 1000 // 1001 and 1: 1 1 1 2 5 11 23, 44 by then.
        ("2.6.7", [("active", 44), ("inactive", 42)], ("inactive", 1500)),
    ],
)
def test_how_much_is_scanned(kernel: str, first: list[tuple[str, int]], last: tuple[str, int]) -> None:
    """500 inactive and 1000 active pages, nothing can be freed: priority 12 to 0 (reclaim.md D.1)."""
    reclaim, shrinker = told(kernel, 500, 1000)
    assert not reclaim.try_to_free_pages(Gfp.KERNEL)
    assert shrinker.asked[: len(first)] == first
    assert [amount for amount in shrinker.asked if amount[0] == "inactive"][-1] == last


def test_many_active_pages_beside_few_inactive_ones_in_2_6_7() -> None:
    """1,000 >= 4 x (2 x 10 + 1): four active ones for each. 1010 >> 12 ... = 0 0 0 1 3 7: 4 x 11 and 6 are 50 at priority 7."""
    reclaim, shrinker = told("2.6.7", 10, 1000)
    assert not reclaim.try_to_free_pages(Gfp.KERNEL)
    assert shrinker.asked[0] == ("active", 50)


@pytest.mark.parametrize(("kernel", "content"), [("2.6.2", True), ("2.6.5-rc1", True), ("2.6.7", False)])
def test_pages_that_come_in_drops_add_up_but_in_2_6_7(kernel: str, content: bool) -> None:
    """20 pages each time: two priorities make 40. 2.6.7 begins anew with each priority, and ends at out_of_memory with 20 freed in each."""
    reclaim, _ = told(kernel, 100_000, 1000, gives=20)
    assert reclaim.try_to_free_pages(Gfp.KERNEL) is content


@pytest.mark.parametrize(("kernel", "naps"), [("2.6.2", 13), ("2.6.5-rc1", 10), ("2.6.7", 0)])
def test_naps(kernel: str, naps: int) -> None:
    """HZ/10 after each priority; later only below 10, and if something was scanned: of 2.6.7's own sum, which this stand-in does not add to."""
    reclaim, _ = told(kernel, 200_000, 1000)
    before = reclaim.k.machine.sched.now_ns
    reclaim.try_to_free_pages(Gfp.KERNEL)
    assert reclaim.k.machine.sched.now_ns - before == naps * SECOND // 10


@pytest.mark.parametrize("kernel", ["2.4.21", *KERNELS])
def test_nothing_is_lost(kernel: str) -> None:
    """Three times as many pages as there is RAM, in a parent and, copied on write, its child."""
    system = small(kernel)
    install(system)
    parent = system.spawn()
    start = parent.mmap(200 * PAGE_SIZE)
    for page in range(200):
        parent.write(start + page * PAGE_SIZE, b"parent %d" % page)
    child = parent.fork()
    for page in range(0, 200, 2):
        child.write(start + page * PAGE_SIZE, b"child %d." % page)
    system.check()
    for page in range(200):
        at = start + page * PAGE_SIZE
        assert parent.read(at, 12).rstrip(b"\0") == b"parent %d" % page
        expected = b"child %d." % page if page % 2 == 0 else b"parent %d" % page
        assert child.read(at, 12).rstrip(b"\0").startswith(expected)
    system.check()
    counts = system.machine.ledger.counts
    assert counts["pswpout"] > 200
    assert counts["pswpin"] > 200


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7"])
def test_what_cannot_be_taken_is_a_hang(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of RAM is mlocked, and swap is free: nothing is ever freed, and free swap keeps the killer away. After 60 simulated seconds, here 10, that is said.

    Each request has its own: the next one is not hung for what another has waited.
    """
    monkeypatch.setattr(direct, "HANG_NS", 10 * SECOND)
    system = small(kernel, frames=72)
    install(system)
    for _ in range(2):
        task = system.spawn(root=True)
        start = task.mmap(200 * PAGE_SIZE)
        before = system.machine.sched.now_ns
        with pytest.raises(NoMemory, match=r"hung: for 10 seconds no page could be freed.*slots of swap are free"):
            task.mlock(start, 200 * PAGE_SIZE)
        assert system.machine.sched.now_ns - before >= 10 * SECOND
        task.exit()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seed", [3, 5])
def test_random_calls_under_pressure(kernel: str, seed: int) -> None:
    """Everything recounted and all contents compared after each; `make pressure` runs many."""
    run = PressureRun(kernel, seed)
    run.run(60)
    assert run.nr_calls >= 60
    assert run.outs


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7"])
def test_tasks_that_run_sleep_for_the_disk_and_lose_nothing(kernel: str) -> None:
    """Three programs of 130 pages each on 160 frames and two CPUs: whoever waits for a page lets others run, who take from him what he has."""
    system = rmaplab.boot(
        kernel, ram=160 * PAGE_SIZE, swap=512 * PAGE_SIZE, boot_use=0, pages_min=4, overcommit=1, paging="i386", cpus=2
    )
    install(system)
    system.machine.allocator.kswapd = None  # which gives so small a zone up (test_kswapd.py)
    ended = []

    def program(task: Task) -> None:
        start = task.mmap(130 * PAGE_SIZE)
        for turn in range(2):
            for page in range(130):
                task.write(start + page * PAGE_SIZE, b"%d %d %d" % (task.pid, turn, page))
            for page in range(130):
                word = b"%d %d %d" % (task.pid, turn, page)
                assert task.read(start + page * PAGE_SIZE, len(word)) == word
        ended.append(task.pid)
        task.exit()

    for _ in range(3):
        system.spawn(program)
    system.run()
    system.check()
    assert sorted(ended) == [1, 2, 3]
    assert system.machine.ledger.counts["pswpin"] > 500


@pytest.mark.parametrize(
    ("kernel", "priorities"),
    [("2.4.21", (2, 2, 1)), ("2.6.2", (3, 3)), ("2.6.5-rc1-aa1", (1, 2, 2)), ("2.6.7", (5, 5, 5, 0))],
)
def test_random_calls_on_several_areas(kernel: str, priorities: tuple[int, ...]) -> None:
    run = PressureRun(kernel, 1, priorities=priorities)
    run.run(30)
    assert run.outs
    assert run.ins
    assert sum(area.cluster_next > 0 for area in run.system.kernel.swap.areas.areas) > 1
