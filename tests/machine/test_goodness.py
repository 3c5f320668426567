"""2.4's run queue: weights by 2.4.27 kernel/sched.c, goodness; who sleeps gathers ticks and is preferred when it wakes.

slices of 60 ns, ticks of 10: a counter of 6; + 20 for nice 0, + 15 on the CPU it ran on last, + 1 for its address space
"""

from __future__ import annotations

from rmaplab.machine.goodness import GoodnessQueue
from rmaplab.machine.runqueue import Cpu, RunQueue, SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules

RULES = SchedRules(60, 60, 10, 200, one_queue=True, child_first=False)


def entity(queue: GoodnessQueue, slice_ns: int, cpu: Cpu | None = None) -> SchedEntity:
    task = SchedEntity()
    task.slice_ns, task.cpu = slice_ns, cpu
    queue.add(task)
    return task


def test_weights() -> None:
    """Counter 6: 26 anywhere, 41 where it ran, 42 with its memory still there; none without a tick left."""
    queue = GoodnessQueue(10, 60)
    here, there = Cpu(0, queue), Cpu(1, queue)
    task = entity(queue, 60, here)
    assert [queue.weight(task, cpu) for cpu in (there, here)] == [26, 41]
    here.last = task
    assert queue.weight(task, here) == 42
    task.slice_ns = 1  # a tick that has begun counts
    assert queue.weight(task, there) == 21
    task.slice_ns = 0
    assert queue.weight(task, here) == 0


def test_the_heaviest_goes_and_among_equals_the_one_that_came_last() -> None:
    """More ticks, the same CPU, then the front of the list."""
    queue = GoodnessQueue(10, 60)
    here, there = Cpu(0, queue), Cpu(1, queue)
    far, near, tired, newest = (entity(queue, ns, cpu) for ns, cpu in ((60, there), (60, here), (10, here), (60, here)))
    assert [queue.take(here) for _ in range(4)] == [newest, near, tired, far]
    assert queue.take(here) is None


def test_when_nobody_waiting_has_a_tick_everybody_gets_a_slice_and_keeps_half() -> None:
    """Sleepers too: who keeps out of the way for long has nearly two slices."""
    queue = GoodnessQueue(10, 60)
    cpu = Cpu(0, queue)
    sleeper, worker = entity(queue, 60, cpu), entity(queue, 60, cpu)
    queue.active.remove(sleeper)
    for _ in range(12):
        worker.slice_ns = 0
        assert queue.take(cpu) is worker
        assert worker.slice_ns == 60
        queue.expire(worker)
    assert 110 < sleeper.slice_ns <= 120
    queue.forget(sleeper)
    worker.slice_ns = 0
    queue.take(cpu)
    assert 110 < sleeper.slice_ns <= 120


def test_who_wakes_preempts_who_has_fewer_ticks() -> None:
    """A rested parent and tired children on one CPU: when one wakes it, it runs before the others go on."""
    sched = Scheduler(RULES, 1)
    order: list[str] = []
    parent = SchedEntity()

    def body() -> None:
        for name in "ABC":
            sched.start(SchedEntity(), lambda name=name: child(name))  # type: ignore[misc]
        sched.sleep()
        order.append("parent")

    def child(name: str) -> None:
        sched.spend(300 if name == "A" else 500, user=True)
        order.append(name)
        if name == "A":
            sched.wake(parent)
            sched.spend(100, user=True)

    sched.start(parent, body)
    sched.run()
    assert order[:2] == ["A", "parent"]
    assert set(order[2:]) == {"B", "C"}


def test_an_exiting_child_takes_its_waiting_parent_over_where_the_rules_say_so() -> None:
    """2.6, two CPUs: the parent waits on CPU 0, its child exits on CPU 1, and there the parent goes on; else it stays."""
    for moves, expected in ((True, 1), (False, 0)):
        rules = SchedRules(100, 200, 1, 200, one_queue=False, child_first=True, sync_wakes_move=moves)
        sched = Scheduler(rules, 2)
        where: list[int] = []
        parent = SchedEntity()

        def child(sched: Scheduler = sched, parent: SchedEntity = parent) -> None:
            sched.spend(500, user=True)
            sched.wake(parent, sync=True)

        def body(sched: Scheduler = sched, parent: SchedEntity = parent, where: list[int] = where) -> None:
            sched.start(SchedEntity(), child)
            sched.spend(50, user=True)
            assert parent.cpu is not None
            home = parent.cpu.index
            sched.sleep()
            where.append(parent.cpu.index == home)

        sched.start(parent, body)
        sched.run()
        assert where == [not expected]
        assert isinstance(sched.cpus[0].queue, RunQueue)
