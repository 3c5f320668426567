"""Where the time of CPUs goes, what a context switch is, and timers that only watch. Times are in ns and small.

CPU 0   |= user 30 =|= kernel 20 =|   the disk, 1000   |= user 5 =|
                                     idle: iowait
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from rmaplab.machine.cpu_times import CpuTimes, nr_running
from rmaplab.machine.disk import Disk
from rmaplab.machine.hardware import DiskSpeed
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules

LONG = 10**6
RULES = SchedRules(
    timeslice_ns=LONG, max_timeslice_ns=LONG, tick_ns=LONG, busy_balance_ns=LONG, one_queue=False, child_first=True
)
READ = 1000


def machine(cpus: int, rules: SchedRules = RULES) -> tuple[Scheduler, Disk]:
    """CPUs and a disk that takes READ for a page."""
    sched = Scheduler(rules, cpus)
    return sched, Disk(DiskSpeed(0, 0, READ), sched, Ledger(PriceList("none", "a test's", {})))


def read(disk: Disk) -> None:
    """A page that is read, and waited for."""
    disk.wait(disk.submit("disk_read", 1, 0, 1, lambda: None))


def test_user_system_iowait_and_idle_make_all_time() -> None:
    """One task of the drawing, on two CPUs: the other is idle, and waits for nothing."""
    sched, disk = machine(2)

    def body() -> None:
        sched.spend(30, user=True)
        sched.spend(20, user=False)
        read(disk)
        sched.spend(5, user=True)

    sched.start(SchedEntity(), body)
    sched.run()
    assert sched.now_ns == 1055
    assert sched.cpu_times() == CpuTimes(35, 20, 1055, READ)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (10, CpuTimes(10, 0, 10, 0)),
        (40, CpuTimes(30, 10, 40, 0)),
        (450, CpuTimes(30, 20, 450, 400)),
        (1052, CpuTimes(32, 20, 1052, READ)),
    ],
)
def test_work_that_is_under_way_counts_up_to_now(when: int, expected: CpuTimes) -> None:
    """Whoever watches in the middle of it sees that part; nothing is different afterwards."""
    sched, disk = machine(2)
    seen: list[CpuTimes] = []

    def body() -> None:
        sched.spend(30, user=True)
        sched.spend(20, user=False)
        read(disk)
        sched.spend(5, user=True)

    sched.start(SchedEntity(), body)
    sched.at(when, lambda: seen.append(sched.cpu_times()), watches=True)
    sched.run()
    assert seen == [expected]
    assert sched.cpu_times() == CpuTimes(35, 20, 1055, READ)


def test_whoever_runs_may_ask_himself() -> None:
    """In between his work nothing of it is under way, also when a timer came in the middle of it."""
    sched, _ = machine(1)
    seen: list[CpuTimes] = []

    def body() -> None:
        sched.spend(30, user=True)
        seen.append(sched.cpu_times())
        sched.spend(10, user=False)
        seen.append(sched.cpu_times())

    sched.start(SchedEntity(), body)
    sched.at(20, lambda: None)
    sched.run()
    assert seen == [CpuTimes(30, 0, 0, 0), CpuTimes(30, 10, 0, 0)]


def test_a_cpu_with_other_work_does_not_wait() -> None:
    """While one task reads another works for 300: 700 of 1000 are iowait (2.6.2 kernel/sched.c, scheduler_tick: idle ticks only)."""
    sched, disk = machine(1)
    sched.start(SchedEntity(), partial(read, disk))
    sched.start(SchedEntity(), partial(sched.spend, 300, user=True))
    sched.run()
    assert sched.cpu_times() == CpuTimes(300, 0, 0, 700)


def test_who_waits_for_a_task_does_not_wait_for_a_disk() -> None:
    """An ordinary sleep is idle time."""
    sched, _ = machine(1)
    sleeper = SchedEntity()
    sched.start(sleeper, sched.sleep)
    sched.at(100, partial(sched.wake, sleeper))
    sched.run()
    assert sched.cpu_times() == CpuTimes(0, 0, 100, 0)


def test_context_switches_are_those_to_another_task_or_to_none() -> None:
    """A reads: A, idle, A, idle are 4; two tasks on one CPU, one after the other: A, B, idle are 3. A task that gives way to a timer goes nowhere."""
    sched, disk = machine(1)
    sched.start(SchedEntity(), partial(read, disk))
    sched.run()
    assert sched.nr_switches == 4
    sched, _ = machine(1)
    for _ in range(2):
        sched.start(SchedEntity(), partial(sched.spend, 50, user=True))
    sched.at(20, lambda: None)
    sched.run()
    assert sched.nr_switches == 3


@pytest.mark.parametrize("one_queue", [False, True])
def test_tasks_that_run_or_could(one_queue: bool) -> None:
    """Five on two CPUs, whether they stand in one queue or in two."""
    sched, _ = machine(
        2, SchedRules(LONG, LONG, LONG, LONG, one_queue=one_queue, child_first=True, sync_wakes_move=False)
    )
    seen: list[int] = []
    for _ in range(5):
        sched.start(SchedEntity(), partial(sched.spend, 50, user=True))
    sched.at(20, lambda: seen.append(nr_running(sched.cpus)), watches=True)
    sched.run()
    assert seen == [5]


def again(sched: Scheduler, every: int, seen: list[int]) -> Callable[[], None]:
    """A timer that comes every so often, and only watches."""

    def fire() -> None:
        seen.append(sched.now_ns)
        sched.at(sched.now_ns + every, fire, watches=True)

    return fire


def test_who_watches_keeps_nobody_running() -> None:
    """Work of 250, a look every 100: at 0, 100, 200, and the clock stands at 250; a real timer is waited for."""
    for timer, looks in ((None, [0, 100, 200]), (420, [0, 100, 200, 300, 400])):
        sched, _ = machine(1)
        seen: list[int] = []
        sched.start(SchedEntity(), partial(sched.spend, 250, user=True))
        sched.at(0, again(sched, 100, seen), watches=True)
        if timer:
            sched.at(timer, lambda: None)
        sched.run()
        assert (seen, sched.now_ns) == (looks, timer or 250)


def test_a_request_to_read_does_not_join_one_to_write() -> None:
    """Neighbours in the area, one after the other: two requests; of a kind, one."""
    _, disk = machine(1)
    for operation, slot in (("swap_write", 1), ("swap_read", 2), ("swap_read", 3)):
        disk.submit(operation, -2, slot, 1, lambda: None, merges=True)
    assert (disk.under_way("swap_write"), disk.under_way("swap_read"), disk.nr_done) == (1, 2, 0)
    disk.settle()
    assert (disk.under_way("swap_read"), disk.nr_done) == (0, 2)
