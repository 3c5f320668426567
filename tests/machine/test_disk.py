"""A disk with figures that can be added up: who waits, for how long, and who runs meanwhile."""

from functools import partial

from rmaplab.machine.disk import MOST_REQUESTS, Disk
from rmaplab.machine.hardware import NO_TIME, DiskSpeed
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules

SEEK, TURN, PAGE = 1000, 200, 10
AWAY = SEEK + TURN // 2
RULES = SchedRules(
    timeslice_ns=10**6, max_timeslice_ns=10**6, tick_ns=10**6, busy_balance_ns=10**6, one_queue=False, child_first=True
)


class Box:
    """Some CPUs and a disk; `done` says what was finished, and when."""

    def __init__(self, cpus: int = 1, speed: DiskSpeed | None = None) -> None:
        self.sched, self.ledger = Scheduler(RULES, cpus), Ledger(PriceList("none", "a test's", {}))
        self.disk = Disk(speed or DiskSpeed(SEEK, TURN, PAGE), self.sched, self.ledger)
        self.done: list[tuple[str, int]] = []

    def tell(self, what: str) -> None:
        self.done.append((what, self.sched.now_ns))


def test_a_data_sheet_in_nanoseconds() -> None:
    """7,200 turns a minute: 8.333 ms each; 56,000 KiB a second: 14,000 pages."""
    assert DiskSpeed.of(8500, 7200, 56_000) == DiskSpeed(8_500_000, 8_333_333, 71_428)
    assert DiskSpeed.of(0, 0, 0) == NO_TIME


def test_one_after_the_other_and_what_goes_on_needs_no_seek() -> None:
    box = Box()
    requests = [
        box.disk.submit("disk_read", *where, lambda: None) for where in ((1, 0, 16), (1, 16, 4), (2, 20, 1), (1, 20, 1))
    ]
    ends = [AWAY + 16 * PAGE, AWAY + 20 * PAGE, 2 * AWAY + 21 * PAGE, 3 * AWAY + 22 * PAGE]
    assert [request.when_ns for request in requests] == ends
    assert (box.ledger.counts["disk_request"], box.ledger.counts["disk_read"]) == (4, 22)
    box.sched.now_ns = 10**6  # the head stays where it is
    assert box.disk.submit("disk_write", 1, 21, 2, lambda: None).when_ns == 10**6 + 2 * PAGE


def test_from_outside_time_passes_to_the_end_of_the_request() -> None:
    """And what was asked for before it is done before it."""
    box = Box()
    box.disk.submit("disk_read", 1, 0, 1, lambda: box.tell("first"))
    second = box.disk.submit("disk_read", 1, 1, 1, lambda: box.tell("second"))
    box.disk.submit("disk_read", 1, 2, 1, lambda: box.tell("third"))
    assert not box.done
    box.disk.wait(second)
    assert [what for what, _ in box.done] == ["first", "second"]
    assert box.sched.now_ns == second.when_ns == AWAY + 2 * PAGE
    assert box.disk.busy
    box.disk.settle()
    assert box.done[-1] == ("third", AWAY + 3 * PAGE)
    assert not box.disk.busy


def test_a_task_sleeps_and_another_has_its_cpu() -> None:
    """One CPU: the other works while the disk does, and goes on when the first one's work is done."""
    box = Box()
    sleeper, worker = SchedEntity(), SchedEntity()

    def reads() -> None:
        box.disk.wait(box.disk.submit("disk_read", 1, 0, 1, lambda: box.tell("read")))
        box.tell("reader goes on")

    def works() -> None:
        for _ in range(3):
            box.sched.spend(AWAY // 4, user=False)
        box.tell("worker")

    box.sched.start(sleeper, reads)
    box.sched.start(worker, works)
    box.sched.run()
    assert box.done == [("worker", 3 * (AWAY // 4)), ("read", AWAY + PAGE), ("reader goes on", AWAY + PAGE)]


def test_all_who_wait_are_woken() -> None:
    box = Box(cpus=2)
    request = box.disk.submit("disk_read", 1, 0, 1, lambda: box.tell("read"))

    def waits(name: str) -> None:
        box.disk.wait(request)
        box.tell(name)

    for name in "abc":
        box.sched.start(SchedEntity(), partial(waits, name))
    box.sched.run()
    assert {what for what, _ in box.done} == {"read", "a", "b", "c"}
    assert {when for _, when in box.done} == {AWAY + PAGE}


def test_one_that_is_done_keeps_nobody_waiting() -> None:
    box = Box(speed=NO_TIME)
    request = box.disk.submit("disk_read", 1, 0, 8, lambda: box.tell("read"))
    box.disk.reap()
    assert request.done
    box.disk.wait(request)
    assert box.done == [("read", 0)]


def test_the_queue_takes_so_many_writes_of_files_and_of_swap_together() -> None:
    """Whoever has handed in more waits for the oldest; reads have a list of their own."""
    box = Box()
    for nr in range(MOST_REQUESTS):
        box.disk.submit("swap_write" if nr % 2 else "disk_write", 1, 2 * nr, 1, partial(box.tell, f"{nr}"))
        box.disk.submit("disk_read", 2, 2 * nr, 1, lambda: None)
    box.disk.get_request_wait()
    assert not box.done, "there is room"
    box.disk.submit("swap_write", 3, 0, 1, lambda: None)
    box.disk.submit("disk_write", 4, 0, 1, lambda: None)
    box.disk.get_request_wait()
    assert [what for what, _ in box.done] == ["0", "1"]
    box.disk.settle()
