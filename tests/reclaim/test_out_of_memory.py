"""When 2.4 to 2.6.7 believe that memory is out, and whom they kill then: both against tables worked out by hand from the words of reclaim.md B.4."""

from __future__ import annotations

from math import isqrt

import pytest

import rmaplab
from rmaplab.errors import NoMemory
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.reclaim.badness import badness, rough_root, select_bad_process, shift_hz
from rmaplab.reclaim.oom_kill import OomKiller
from rmaplab.reclaim.out_of_memory import OutOfMemory
from rmaplab.units import PAGE_SIZE

# -- when: calls at HZ 100, so 100 is a second and 500 are five ----------------------------------------------------------

Calls = list[int | tuple[int, int]]
"""Times in jiffies; a pair is one at which so many pages of swap are free."""

NINE = list(range(1100, 1109))
"""Nine calls that count, the first of them exactly a second after a call at 1000."""


@pytest.mark.parametrize(
    ("calls", "kills"),
    [
        pytest.param([1000, *NINE], [], id="nine are too few"),
        pytest.param([1000, *NINE, 1109], [1109], id="the tenth kills"),
        pytest.param([1000, 1001, 1050, 1099, *NINE, 1109], [1109], id="within the first second none counts"),
        pytest.param(
            [1000, *NINE, (1109, 1), 1110], [1110], id="a page of swap is a veto, and the call does not count"
        ),
        pytest.param([1000, *NINE, (1400, 1), 1608], [1608], id="a gap of exactly 5 s, whoever was vetoed in it"),
        pytest.param([1000, *NINE, (1400, 1), 1609], [], id="a call that is vetoed does not shorten the gap"),
        pytest.param([1000, 1500, *range(1501, 1510)], [1509], id="5 s without a call are no gap yet"),
        pytest.param([1000, 1501, *range(1502, 1513)], [], id="a jiffy more, and the first second begins anew"),
        pytest.param([1000, *NINE, 1609, 1709], [], id="after a gap what was counted is forgotten"),
        pytest.param([1000, 1050, 1540, *range(1541, 1550)], [1549], id="a call that is too early ends a gap too"),
        pytest.param([1000, 1501, 1990, *range(1991, 2000)], [1999], id="and so does one that began anew"),
        pytest.param(
            [1000, *NINE, 1109, *range(1110, 1130), 1609], [1109], id="a kill begins a second anew: too early"
        ),
        pytest.param([1000, *NINE, 1109, *range(1209, 1230), 1608], [1109], id="nobody else within 5 s of a kill"),
        pytest.param([1000, *NINE, 1109, *range(1209, 1230), 1608, 1609], [1109, 1609], id="5 s later another one"),
        pytest.param(
            [1000, *NINE, 1109, *range(1209, 1230), 1609, 2009, 2409, 2809],
            [1109, 1609],
            id="a kill begins the count anew",
        ),
        pytest.param([0, *range(100, 110)], [109], id="the clock begins when boot was long ago"),
        pytest.param([499, *range(500, 510)], [], id="so the first call never counts"),
    ],
)
def test_when_memory_is_believed_to_be_out(calls: Calls, kills: list[int]) -> None:
    memory = OutOfMemory(100)
    pairs = [call if isinstance(call, tuple) else (call, 0) for call in calls]
    assert [now for now, free_swap in pairs if memory.kills(now, free_swap)] == kills


def test_the_clock_may_tick_faster() -> None:
    """At HZ 1000 the same seconds are ten times as many jiffies."""
    memory = OutOfMemory(1000)
    calls = [10_000, 10_999, *range(11_000, 11_010), *range(12_009, 12_030), 16_008, 16_009]
    assert [now for now in calls if memory.kills(now, 0)] == [11_009, 16_009]


def test_what_is_remembered() -> None:
    memory = OutOfMemory(100)
    for now in (1000, 1050, 1100, 1101):
        memory.kills(now, 0)
    assert (memory.first, memory.last, memory.count) == (1000, 1101, 2)
    memory.kills(1102, 1)
    assert (memory.first, memory.last, memory.count) == (1000, 1101, 2)
    for now in range(1102, 1110):
        memory.kills(now, 0)
    assert (memory.first, memory.last, memory.count, memory.lastkill) == (1109, 1109, 0, 1109)


# -- whom: points --------------------------------------------------------------------------------------------------------

CPU_26, RUN_26 = 8192, 1_048_576
"""Units at HZ 1000: 2^13 and 2^20 jiffies."""
CPU_24, RUN_24 = 1024, 131_072
"""Units at HZ 100: 2^10 and 2^17 jiffies."""


@pytest.mark.parametrize(
    ("total_vm", "cpu_time", "run_time", "points"),
    [
        (10_000, 0, 0, 10_000),
        (10_000, 4 * CPU_26 - 1, 0, 10_000),  # 3 units: 1
        (10_000, 4 * CPU_26, 0, 5000),  # 2
        (10_000, 15 * CPU_26, 0, 3333),  # 3
        (10_000, 16 * CPU_26, 0, 2500),  # 4
        (10_000, 0, 16 * RUN_26 - 1, 10_000),  # 15: 3: 1
        (10_000, 0, 16 * RUN_26, 5000),  # 4: 2
        (10_000, 0, 81 * RUN_26, 3333),  # 9: 3
        (10_000, 9 * CPU_26, 16 * RUN_26, 1666),  # 3333 / 2
        (0, 0, 0, 0),
    ],
)
def test_points_in_2_6(total_vm: int, cpu_time: int, run_time: int, points: int) -> None:
    assert badness(total_vm, cpu_time, run_time, hz=1000, root=isqrt) == points


@pytest.mark.parametrize(
    ("total_vm", "cpu_time", "run_time", "points"),
    [
        (10_000, 0, 0, 10_000),
        (10_000, 4 * CPU_24 - 1, 0, 10_000),  # 3 units: 1
        (10_000, 4 * CPU_24, 0, 5000),  # 2
        (10_000, 6 * CPU_24, 0, 3333),  # 3, and not 2
        (10_000, 16 * CPU_24, 0, 3333),  # 3, and not 4
        (10_000, 20 * CPU_24, 0, 2500),  # 4
        (10_000, 0, 4 * RUN_24, 10_000),  # 2: 1
        (10_000, 0, 31 * RUN_24, 3333),  # 6: 3
        (10_000, 0, 64 * RUN_24, 3333),  # 6: 3, and not 2
        (10_000, 6 * CPU_24, 64 * RUN_24, 1111),  # 3333 / 3
    ],
)
def test_points_in_2_4(total_vm: int, cpu_time: int, run_time: int, points: int) -> None:
    assert badness(total_vm, cpu_time, run_time, hz=100, root=rough_root) == points


def test_the_rough_root() -> None:
    """Halved for each division by four, and a quarter less if 1 is left: 20: 5: 1, so 10, 5, and 4; 63: 15: 3: 0, so 31, 15, 7."""
    roots = {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 6: 3, 8: 2, 12: 3, 16: 3, 20: 4, 31: 6, 63: 7, 64: 6, 100: 9}
    assert {x: rough_root(x) for x in roots} == roots


def test_the_power_of_two_nearest_to_hz() -> None:
    shifts = {12: 4, 95: 6, 96: 7, 100: 7, 191: 7, 192: 8, 250: 8, 1000: 10, 1024: 10, 1535: 10}
    assert {hz: shift_hz(hz) for hz in shifts} == shifts


def test_who_is_nice_counts_twice() -> None:
    assert [badness(10_000, hz=1000, nice=nice) for nice in (-5, 0, 1, 19)] == [10_000, 10_000, 20_000, 20_000]
    assert badness(7, 4 * CPU_26, hz=1000, nice=1) == 6  # 3 twice
    assert badness(7, hz=1000, nice=1, sys_admin=True) == 3  # 14 by 4


def test_privileges_make_a_quarter_each() -> None:
    """Whatever makes somebody root, it is one; direct access to hardware is another one."""
    assert badness(10_000, hz=1000, sys_admin=True) == 2500
    assert badness(10_000, hz=1000, uid=0) == 2500
    assert badness(10_000, hz=1000, euid=0) == 2500
    assert badness(10_000, hz=1000, uid=0, euid=0, sys_admin=True) == 2500
    assert badness(10_000, hz=1000, sys_rawio=True) == 2500
    assert badness(10_000, hz=1000, uid=0, sys_rawio=True) == 625


def test_who_has_no_points() -> None:
    """No address space, or a victim already."""
    assert badness(None, hz=1000) == 0
    assert badness(10_000, hz=1000, memdie=True) == 0


@pytest.mark.parametrize(
    ("tasks", "pid"),
    [
        ([(1, 5, False), (2, 7, False), (3, 6, False)], 2),
        ([(1, 5, False), (2, 7, False), (3, 7, False)], 2),  # the first of those alike
        ([(0, 9, False), (1, 5, False)], 1),
        ([(0, 9, True), (1, 5, False)], 1),
        ([(1, 0, False), (2, 0, False)], None),
        ([(1, 0, False), (2, 1, False)], 2),
        ([(1, 9, False), (2, 0, True), (3, 20, True)], 2),  # swapoff, at once
        ([], None),
    ],
)
def test_who_is_chosen(tasks: list[tuple[int, int, bool]], pid: int | None) -> None:
    assert select_bad_process(tasks) == pid


# -- whom: tasks ---------------------------------------------------------------------------------------------------------

RW, PLAIN = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
NS = 10**9


def machine(kernel: str, mapped: list[int], *, root: int | None = None) -> tuple[OomKiller, list[rmaplab.Task]]:
    """Tasks that have mapped so many pages, the `root`-th as root."""
    system = rmaplab.boot(kernel, ram="64M", boot_use="4M", paging="x86-64", overcommit=1)
    tasks = [system.spawn(root=index == root) for index in range(len(mapped))]
    for task, nr in zip(tasks, mapped, strict=True):
        task.mmap(nr * PAGE_SIZE, RW, PLAIN)
    return OomKiller(system.kernel), tasks


@pytest.mark.parametrize(
    ("kernel", "user_s", "system_s", "dies"),
    [
        ("2.4.21", 40, 0, 0),
        ("2.4.21", 40, 1, 1),
        ("2.4.21", 1, 40, 1),
        ("2.6.2", 32, 0, 0),
        ("2.6.2", 32, 1, 1),
        ("2.6.7", 1, 32, 1),
    ],
)
def test_cpu_time_spares(kernel: str, user_s: int, system_s: int, dies: int) -> None:
    """41 s in 2.4 and 33 s in 2.6 halve the points of the first of two that are alike; otherwise it is chosen."""
    killer, tasks = machine(kernel, [5000, 5000])
    tasks[0].user_ns, tasks[0].system_ns = user_s * NS, system_s * NS
    assert killer.choose() is tasks[dies]


def test_cpu_time_does_not_matter_today() -> None:
    """Of two alike the last is chosen, however long it has worked."""
    killer, tasks = machine("6.18", [5000, 5000])
    tasks[1].user_ns = 42 * NS
    assert killer.choose() is tasks[1]


@pytest.mark.parametrize(("seconds", "dies"), [(16_777, 0), (16_778, 1)])
def test_age_spares(seconds: int, dies: int) -> None:
    """16 units of 2^20 ms: 16,777.2 s. The younger one was born when the clock stood there."""
    killer, tasks = machine("2.6.2", [5000])
    sched = killer.k.machine.sched
    born = sched.now_ns
    sched.now_ns = born + seconds * NS
    tasks.append(tasks[0].fork())
    assert [task.start_ns for task in tasks] == [0, born + seconds * NS]
    assert killer.choose() is tasks[dies]


@pytest.mark.parametrize(
    ("kernel", "cpu_s", "dies"), [("2.4.21", 130, 0), ("2.6.2", 130, 0), ("2.4.21", 170, 0), ("2.6.2", 170, 1)]
)
def test_whose_root_is_rough(kernel: str, cpu_s: int, dies: int) -> None:
    """130 s are 12 units in 2.4 and 15 in 2.6, whose root is 3; of 170 s, 16 and 20, it is 3 in 2.4 and 4 in 2.6: 2250 points."""
    killer, tasks = machine(kernel, [9000, 2500])
    tasks[0].user_ns = cpu_s * NS
    assert killer.choose() is tasks[dies]


@pytest.mark.parametrize(("pages", "dies"), [(313, 1), (312, 0)])
def test_root_counts_a_sixteenth(pages: int, dies: int) -> None:
    """312 of 5000, for its two capabilities."""
    killer, tasks = machine("2.6.2", [5000, pages], root=0)
    assert killer.choose() is tasks[dies]


@pytest.mark.parametrize(("kernel", "dies"), [("2.6.2", 0), ("2.6.7", 0), ("6.18", 1)])
def test_threads_stand_behind_their_process(kernel: str, dies: int) -> None:
    """A thread that has not worked, unlike its process, is as bad as the next process. 2.6 meets the thread first, though it was born last; today the last process is chosen."""
    killer, tasks = machine(kernel, [5000, 5000])
    tasks[0].thread()
    tasks[0].user_ns = 42 * NS
    found = killer.choose()
    assert found is not None
    assert found.mm is tasks[dies].mm


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "6.18"])
def test_a_zombie_is_passed_over(kernel: str) -> None:
    """It has mapped most, once."""
    killer, tasks = machine(kernel, [10])
    child = tasks[0].fork()
    child.mmap(20 * PAGE_SIZE, RW, PLAIN)
    child.exit()
    assert child.pid in killer.k.tasks
    assert killer.choose() is tasks[0]


def test_who_has_nothing_is_not_killed() -> None:
    """15 pages of root's are no points, in any order of divisions: nobody is left, and the kernel would panic."""
    killer, _ = machine("2.6.2", [15], root=0)
    assert killer.choose() is None
    with pytest.raises(NoMemory, match="a page, and nobody is left to kill"):
        killer.oom_kill("a page")


def test_reclaim_may_kill_by_itself() -> None:
    """What waits for out_of_memory to believe it needs no allocation that fails."""
    killer, tasks = machine("2.6.2", [20, 10])
    killer.oom_kill("a page")  # in the call that was made last, of the second
    assert [task.mm is None for task in tasks] == [True, False]
