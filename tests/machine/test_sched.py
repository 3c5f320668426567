"""CPUs, tasks and time. A program here is a list of steps; time is in ticks: slice 100, at most 200, balance every 200.

    program   [User(30), Fork([User(50)]), Kernel(5), Wait()]
    log       (when, who, what, CPU), in the order it happened

Expected times are worked out by hand or by a naive queue; the rules are those of 2.6.2 kernel/sched.c as eras.md 8 has them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.smt import NO_SMT, Smt

RULES = SchedRules(
    timeslice_ns=100, max_timeslice_ns=200, tick_ns=1, busy_balance_ns=200, one_queue=False, child_first=True
)


@dataclass(frozen=True)
class User:
    """Compute for so long."""

    ns: int


@dataclass(frozen=True)
class Kernel:
    """Work in the kernel for so long."""

    ns: int


@dataclass(frozen=True)
class Fork:
    """Start a child."""

    program: list[Step]


@dataclass(frozen=True)
class Wait:
    """Sleep until all children have exited."""


@dataclass(frozen=True)
class Resched:
    """cond_resched()."""


Step = User | Kernel | Fork | Wait | Resched


class Event(NamedTuple):
    """One line of the log."""

    now_ns: int
    who: str
    what: str
    cpu: int


class Job(SchedEntity):
    """A task that runs a program, and what it was asked to spend."""

    def __init__(self, name: str, parent: Job | None) -> None:
        super().__init__()
        self.name, self.parent = name, parent
        self.nr_alive = self.nr_children = 0
        self.waits = False
        self.asked_user_ns = self.asked_system_ns = 0


class Bench:
    """A scheduler, the jobs that run on it, and the log of what they did."""

    def __init__(self, cpus: int, rules: SchedRules = RULES, smt: Smt = NO_SMT) -> None:
        self.sched = Scheduler(rules, cpus, smt)
        self.log: list[Event] = []
        self.jobs: dict[str, Job] = {}

    def start(self, name: str, program: list[Step], parent: Job | None = None) -> Job:
        job = self.jobs[name] = Job(name, parent)
        self.sched.start(job, lambda: self.body(job, program))
        return job

    def run(self) -> Bench:
        self.sched.run()
        return self

    def note(self, job: Job, what: str) -> None:
        assert job.cpu is not None
        assert self.sched.current is job
        assert job.cpu.current is job
        self.log.append(Event(self.sched.now_ns, job.name, what, job.cpu.index))

    def body(self, job: Job, program: list[Step]) -> None:
        for step in program:
            match step:
                case User(ns):
                    job.asked_user_ns += ns
                    self.sched.spend(ns, user=True)
                    self.note(job, f"user {ns}")
                case Kernel(ns):
                    job.asked_system_ns += ns
                    self.note(job, "kernel in")
                    self.sched.spend(ns, user=False)
                    self.note(job, f"kernel {ns}")
                case Fork(child):
                    job.nr_children += 1
                    job.nr_alive += 1
                    self.start(f"{job.name}{job.nr_children}", child, job)
                    self.note(job, "fork")
                case Wait():
                    while job.nr_alive:
                        job.waits = True
                        self.sched.sleep()
                    self.note(job, "wait")
                case Resched():
                    self.sched.cond_resched()
                    self.note(job, "resched")
        self.note(job, "exit")
        self.sched.exited(job, job.parent)
        if job.parent is not None:
            job.parent.nr_alive -= 1
            if job.parent.waits:
                job.parent.waits = False
                self.sched.wake(job.parent)

    def when(self, who: str, what: str = "exit") -> int:
        """When it happened, the only time."""
        (event,) = [e for e in self.log if (e.who, e.what) == (who, what)]
        return event.now_ns

    def cpu_of(self, who: str) -> set[int]:
        """All CPUs that a job was seen on."""
        return {e.cpu for e in self.log if e.who == who}


work: st.SearchStrategy[Step] = st.one_of(
    st.builds(User, st.integers(0, 350)), st.builds(Kernel, st.integers(0, 150)), st.just(Wait()), st.just(Resched())
)
programs: st.SearchStrategy[list[Step]] = st.recursive(
    st.lists(work, max_size=3),
    lambda inner: st.lists(st.one_of(work, st.builds(Fork, inner)), max_size=5),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(programs, min_size=1, max_size=4), st.integers(1, 5))
def test_whatever_runs(first_programs: list[list[Step]], cpus: int) -> None:
    """Truths of every run: it is the same again, all finish, time goes forward and is conserved, kernel work is in one piece."""
    benches = [Bench(cpus), Bench(cpus)]
    for bench in benches:
        for i, program in enumerate(first_programs):
            bench.start("ABCD"[i], program)
        bench.run()
    bench, again = benches
    sched = bench.sched
    assert bench.log == again.log
    assert sched.now_ns == again.sched.now_ns

    assert sorted(e.who for e in bench.log if e.what == "exit") == sorted(bench.jobs)
    assert [e.now_ns for e in bench.log] == sorted(e.now_ns for e in bench.log)
    assert all(cpu.nr_running == 0 for cpu in sched.cpus)

    for job in bench.jobs.values():
        assert (job.user_ns, job.system_ns) == (job.asked_user_ns, job.asked_system_ns)
    assert sched.user_ns == sum(job.user_ns for job in bench.jobs.values())
    assert sched.system_ns == sum(job.system_ns for job in bench.jobs.values())
    total, end = sched.user_ns + sched.system_ns, max(e.now_ns for e in bench.log)
    assert total <= end * cpus
    assert end <= total, "as long as there is work, one CPU at least does it"

    # a job's two log lines about one piece of kernel work are that much time apart, and its CPU did nothing in between
    for job in bench.jobs.values():
        mine = [(i, e) for i, e in enumerate(bench.log) if e.who == job.name]
        for (i, begin), (j, done) in pairwise(mine):
            if begin.what == "kernel in":
                assert done.what == f"kernel {done.now_ns - begin.now_ns}"
                assert done.cpu == begin.cpu
                assert not [e for e in bench.log[i + 1 : j] if e.cpu == begin.cpu]


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_as_many_tasks_as_cpus_take_the_time_of_one(cpus: int) -> None:
    """CPU-bound tasks that each have a CPU do not get in each other's way."""
    bench = Bench(cpus)
    for i in range(cpus):
        bench.start("ABCD"[i], [User(1234)])
    bench.run()
    assert bench.sched.now_ns == 1234
    assert bench.sched.user_ns == cpus * 1234


def round_robin(works: list[int]) -> list[int]:
    """When each is done, on one CPU: the head of the queue runs for a slice at most and goes to the tail."""
    queue, now, done = deque(enumerate(works)), 0, [0] * len(works)
    while queue:
        i, left = queue.popleft()
        now += min(left, RULES.timeslice_ns)
        if left > RULES.timeslice_ns:
            queue.append((i, left - RULES.timeslice_ns))
        else:
            done[i] = now
    return done


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 450), min_size=1, max_size=4))
def test_tasks_on_one_cpu_take_turns(works: list[int]) -> None:
    """CPU-bound tasks share a CPU by whole slices: the active and the expired queue together are one round robin."""
    bench = Bench(1)
    for i, ns in enumerate(works):
        bench.start("ABCD"[i], [User(ns)])
    bench.run()
    assert [bench.when("ABCD"[i]) for i in range(len(works))] == round_robin(works)


def test_the_child_runs_first() -> None:
    """A child stands just before its parent: it runs as soon as the parent's system call is over, and not before."""
    #   CPU 0   A: fork, kernel 7 | A1: user 10 | A: user 20
    bench = Bench(1)
    bench.start("A", [Fork([User(10)]), Kernel(7), User(20)])
    bench.run()
    assert bench.when("A", "kernel 7") == 7
    assert bench.when("A1") == 17
    assert bench.when("A") == 37


def test_a_parent_keeps_its_place_in_the_queue() -> None:
    """Who makes way for its child goes on right after it, before those who waited already: it has not left the queue."""
    #   queue   [A* B]    fork    [A1 A* B]    2.6.2: list_add_tail(&p->run_list, &current->run_list), "just before"
    bench = Bench(1)
    bench.start("A", [Fork([User(10)]), User(10)])
    bench.start("B", [User(10)])
    bench.run()
    assert [e.who for e in bench.log if e.what == "exit"] == ["A1", "A", "B"]


def test_kernel_time_is_not_preempted() -> None:
    """Work in the kernel goes on beyond the slice while others wait; cond_resched() gives the CPU away."""
    bench = Bench(1)
    bench.start("A", [Kernel(250), Kernel(250), Resched(), Kernel(10)])
    bench.start("B", [User(10)])
    bench.run()
    assert bench.when("A", "kernel 10") == 520
    assert bench.when("B") == 510


def test_user_time_is_preempted_at_the_end_of_the_slice() -> None:
    """A task computes until its slice is gone; then the next one runs, and it goes on after that one's slice."""
    bench = Bench(1)
    bench.start("A", [User(101)])
    bench.start("B", [User(500)])
    bench.run()
    assert (bench.when("A"), bench.when("B")) == (201, 601)


def slices(bench: Bench, *names: str) -> list[int]:
    return [bench.jobs[name].slice_ns for name in names]


def test_slices_halve_at_fork() -> None:
    """Parent and child share what the parent has left: 100, 50 + 50, 25 + 25 + 50; 2.6.2 copy_process."""
    bench = Bench(1)
    seen: list[list[int]] = []

    def family() -> None:
        parent = bench.jobs["A"]
        seen.append(slices(bench, "A"))
        bench.start("A1", [], parent)
        seen.append(slices(bench, "A", "A1"))
        bench.start("A2", [], parent)
        seen.append(slices(bench, "A", "A1", "A2"))

    bench.jobs["A"] = Job("A", None)
    bench.sched.start(bench.jobs["A"], family)
    bench.run()
    assert seen == [[100], [50, 50], [25, 50, 25]]


def test_an_unused_first_slice_goes_back_to_the_parent() -> None:
    """A child that exits within its first slice gives back the rest, up to the maximum; one that had a second gives nothing."""
    short = Bench(1)
    short.start("A", [Fork([User(20)]), Wait()])
    short.run()
    assert slices(short, "A") == [50 + 30]
    long = Bench(1)
    long.start("A", [Fork([User(51)]), Wait()])
    long.run()
    assert slices(long, "A") == [50]
    parent, child = Job("A", None), Job("A1", None)
    parent.slice_ns, child.slice_ns = 190, 50
    Scheduler(RULES, 1).exited(child, parent)
    assert parent.slice_ns == RULES.max_timeslice_ns


def test_a_slice_that_runs_out_in_the_kernel_is_renewed_by_the_tick() -> None:
    """The tick renews a slice that has run out, in the kernel too, so a fork after long work halves a new slice.

    2.6.2 kernel/sched.c, scheduler_tick: `if (!--p->time_slice) { ... p->time_slice = task_timeslice(p); ... }`, whatever
    mode the tick came in; then the task stands in the expired array and further ticks leave the new slice alone. A fork that
    copies many entries is such long work.
    """
    bench = Bench(1)
    seen: list[int] = []

    def long_fork() -> None:
        bench.sched.spend(130, user=False)
        bench.start("A1", [], bench.jobs["A"])
        seen.extend(slices(bench, "A", "A1"))

    bench.jobs["A"] = Job("A", None)
    bench.sched.start(bench.jobs["A"], long_fork)
    bench.run()
    assert seen == [50, 50]


def test_who_forks_after_its_slice_ran_out_waits_with_its_child() -> None:
    """The tick has put the parent among the expired; the child goes before it there, behind all that are still active."""
    #   0   A in the kernel, slice gone at 100    130 fork    B 130-150    A1 150-160    A 160-165
    bench = Bench(1)
    bench.start("A", [Kernel(130), Fork([User(10)]), User(5)])
    bench.start("B", [User(20)])
    bench.run()
    assert [bench.when(name) for name in ("B", "A1", "A")] == [150, 160, 165]


def test_an_idle_cpu_pulls_half_the_difference_at_its_next_tick() -> None:
    """Six tasks on one CPU, none on the other: at the next tick three of them move."""
    #   CPU 0   A in the kernel until 4, five children wait        CPU 1   idle until the tick at 1, then three of them
    bench = Bench(2)
    bench.start("A", [*[Fork([User(2)])] * 5, Kernel(4)])
    bench.run()
    children = [name for name in bench.jobs if name != "A"]
    assert [bench.cpu_of(name) for name in children].count({1}) == 3
    assert sorted(bench.when(name) for name in children if bench.cpu_of(name) == {1}) == [1 + 2, 1 + 4, 1 + 6]
    assert sorted(bench.when(name) for name in children if bench.cpu_of(name) == {0}) == [4 + 2, 4 + 4]


def test_a_cpu_that_becomes_idle_pulls_at_once_from_the_tail() -> None:
    """When its last task exits a CPU does not wait for the tick; it takes who would have had to wait longest."""
    #   CPU 0   A B C D       CPU 1   K until 4        first tasks go to the emptiest CPU: A, K, B, L ... in turn
    rules = replace(RULES, tick_ns=1000)
    bench = Bench(2, rules)
    for name in "AKBLCMD":
        bench.start(name, [Kernel(2)] if name in "KLM" else [User(50)])
    bench.run()
    #   CPU 0   A 0-50  B 50-100        CPU 1   K L M 0-6, then D and C
    assert {name: bench.when(name) for name in "ABCD"} == {"A": 50, "B": 100, "D": 56, "C": 106}
    assert [bench.cpu_of(name) for name in "ABCD"] == [{0}, {0}, {1}, {1}]


def test_expired_tasks_are_pulled_first() -> None:
    """Of a task that has used up its slice and one that still waits for its first, the former moves: its cache is cold."""
    #   CPU 0   A 0-100, expired    X 100-        Y waits        CPU 1   K until 150, L until 151, then A
    bench = Bench(2)
    programs: dict[str, list[Step]] = {"A": [User(120)], "X": [User(300)], "Y": [User(10)]}
    for name in "AKXLY":
        bench.start(name, programs.get(name, [Kernel(150 if name == "K" else 1)]))
    bench.run()
    assert {name: (bench.when(name), bench.cpu_of(name)) for name in programs} == {
        "A": (151 + 20, {1}),
        "Y": (171 + 10, {1}),
        "X": (100 + 300, {0}),
    }


def test_a_family_spreads_over_the_cpus() -> None:
    """Children are born on their parent's CPU; idle CPUs fetch them, so four tasks on four CPUs take hardly more than one."""
    bench = Bench(4)
    bench.start("A", [*[Fork([User(1000)])] * 3, User(1000)])
    bench.run()
    assert {cpu for name in bench.jobs for cpu in bench.cpu_of(name)} == {0, 1, 2, 3}
    assert 1000 <= bench.sched.now_ns <= 1000 + 4 * RULES.tick_ns


@pytest.mark.parametrize(("longer", "shorter", "moves"), [(2, 1, False), (3, 1, True), (5, 2, False), (5, 1, True)])
def test_a_busy_cpu_balances_when_the_difference_is_large(longer: int, shorter: int, moves: bool) -> None:
    """A CPU with work of its own pulls every 200 ms, and only if half the difference is a quarter of the longer queue.

    2.6.2 find_busiest_queue: imbalance (max_load - nr_running) / 2 against (max_load + 3) / 4.
    """
    #   CPU 0   A in the kernel, its children wait        CPU 1   B computes, its children take turns with it
    bench = Bench(2)
    bench.start("A", [*[Fork([User(1)])] * (longer - 1), Kernel(390), User(1)])
    bench.start("B", [*[Fork([User(1000)])] * (shorter - 1), User(1000)])
    bench.run()
    moved = [name for name in bench.jobs if name.startswith("A") and 1 in bench.cpu_of(name)]
    assert bool(moved) == moves
    assert min(map(bench.when, bench.jobs)) == (201 if moves else 391)


def test_who_sleeps_takes_no_time_until_woken() -> None:
    """A waiting parent leaves its CPU to others; the last child's exit wakes it."""
    bench = Bench(1)
    bench.start("A", [Fork([User(30)]), Wait(), User(5)])
    bench.start("B", [User(60)])
    bench.run()
    #   CPU 0   A1 0-30 | A woken, behind B | B 30-90 | A 90-95
    assert bench.when("A1") == 30
    assert bench.when("B") == 90
    assert bench.when("A") == 95
    assert bench.jobs["A"].user_ns == 5


def test_nobody_sleeps_outside_a_task() -> None:
    """sleep() without a running task is a bug."""
    with pytest.raises(KernelBug, match="schedule"):
        Scheduler(RULES, 1).sleep()


def test_driven_from_outside_the_clock_just_moves() -> None:
    """Without run() there is nobody to wait for: time passes and is counted."""
    sched = Scheduler(RULES, 2)
    sched.spend(30, user=True)
    sched.spend(12, user=False)
    sched.cond_resched()
    assert (sched.now_ns, sched.user_ns, sched.system_ns) == (42, 30, 12)


def test_an_exception_in_a_task_comes_out_of_run() -> None:
    """What a task's program raises reaches whoever called run(), and nobody is current any more."""
    bench = Bench(2)

    def body() -> None:
        bench.sched.spend(10, user=True)
        raise ZeroDivisionError("mine")

    bench.sched.start(Job("A", None), body)
    with pytest.raises(ZeroDivisionError, match="mine"):
        bench.run()
    assert bench.sched.now_ns == 10
    assert bench.sched.current is None


def test_after_an_exception_the_others_can_go_on() -> None:
    """A task that died of an exception has left its CPU: a second run() brings the others home."""
    bench = Bench(1)

    def body() -> None:
        raise ZeroDivisionError("mine")

    bench.sched.start(Job("A", None), body)
    bench.start("B", [User(10)])
    with pytest.raises(ZeroDivisionError):
        bench.run()
    bench.run()
    assert bench.when("B") == 10


def test_the_clock_does_not_go_back() -> None:
    """A program is started at 0, others are driven from outside until 100; when it runs at last, it is 100 or later."""
    bench = Bench(1)
    bench.start("A", [User(10)])
    bench.sched.spend(100, user=False)
    bench.run()
    assert bench.when("A") == 110


def test_the_clock_stands_where_the_last_task_stopped() -> None:
    """Run until nobody can: a tick that finds nothing to do does not lengthen the run."""
    rules = replace(RULES, tick_ns=50)
    bench = Bench(2, rules)
    bench.start("A", [Fork([User(3)]), User(4)])
    bench.run()
    assert bench.when("A") == 7
    assert bench.sched.now_ns == 7


# -- hyper-threading -------------------------------------------------------------------------------------------------

HALF_MORE = Smt(threads_per_core=2, shared_permille=1500)


def test_siblings_slow_each_other_down() -> None:
    """Two CPUs of one core: what takes 1000 alone takes 1500 for both, and is accounted so; on two cores it takes 1000."""
    for smt, took in ((HALF_MORE, 1500), (NO_SMT, 1000)):
        bench = Bench(2, smt=smt)
        bench.start("A", [Kernel(1000)])
        bench.start("B", [User(60), Kernel(940)])
        bench.run()
        assert (bench.sched.now_ns, bench.jobs["A"].system_ns) == (took, took)
        assert bench.jobs["B"].user_ns == 60 * took // 1000


def test_a_sibling_that_stops_lets_the_other_go_faster_at_once() -> None:
    """B is done after 150 that would be 100 alone; A has done 100 by then, and its other 900 take 900."""
    bench = Bench(2, smt=HALF_MORE)
    bench.start("A", [Kernel(1000)])
    bench.start("B", [Kernel(100)])
    bench.run()
    assert (bench.when("B"), bench.when("A")) == (150, 150 + 900)


def test_a_sibling_that_begins_slows_the_other_down_at_once() -> None:
    """A1 is pulled to CPU 1 at the tick after its birth at 500: A has 500 left, which take 750 from there."""
    bench = Bench(2, rules=replace(RULES, child_first=False, tick_ns=600), smt=HALF_MORE)
    bench.start("A", [Kernel(500), Fork([Kernel(1000)]), Kernel(500)])
    bench.run()
    #   500-600 alone: 100 done; then A's 400 take 600, until 1200; A1 has done 400 then, and goes on alone for 600
    assert bench.when("A") == 600 + 600
    assert bench.when("A1") == 1200 + 600


@pytest.mark.parametrize("one_queue", [True, False])
@pytest.mark.parametrize("knows", [True, False])
def test_a_scheduler_that_knows_siblings_uses_an_idle_core_first(one_queue: bool, knows: bool) -> None:
    """CPUs 0 and 1 share a core, 2 and 3 another. A works on CPU 0; its child goes to 1, or to 2 where the scheduler knows."""
    rules = replace(RULES, child_first=False, one_queue=one_queue, knows_siblings=knows)
    bench = Bench(4, rules=rules, smt=HALF_MORE)
    bench.start("A", [Fork([Kernel(1000)]), Kernel(1000)])
    bench.run()
    assert bench.cpu_of("A") == {0}
    assert bench.cpu_of("A1") == {2 if knows else 1}
    assert bench.sched.now_ns == pytest.approx(1000 if knows else 1500, abs=2)  # a tick until it is pulled


@settings(max_examples=60, deadline=None)
@given(st.lists(programs, min_size=1, max_size=4), st.integers(1, 5), st.booleans(), st.booleans())
def test_whatever_runs_on_siblings(first_programs: list[list[Step]], cpus: int, one_queue: bool, knows: bool) -> None:
    """All finish, the same in every run; time is accounted as it passes, and lies between alone and shared."""
    rules = replace(RULES, one_queue=one_queue, knows_siblings=knows)
    benches = [Bench(cpus, rules, HALF_MORE), Bench(cpus, rules, HALF_MORE)]
    for bench in benches:
        for i, program in enumerate(first_programs):
            bench.start("ABCD"[i], program)
        bench.run()
    bench, again = benches
    assert bench.log == again.log
    assert sorted(e.who for e in bench.log if e.what == "exit") == sorted(bench.jobs)
    for job in bench.jobs.values():
        rounding = 2 * len(bench.log)  # a nanosecond each time a sibling begins or ends
        assert job.asked_user_ns <= job.user_ns <= job.asked_user_ns * 3 // 2 + rounding
        assert job.asked_system_ns <= job.system_ns <= job.asked_system_ns * 3 // 2 + rounding
    assert bench.sched.user_ns + bench.sched.system_ns <= max(e.now_ns for e in bench.log) * cpus


def test_an_observer_sees_all_work() -> None:
    """Every piece of work once, with its task and its time."""
    seen: list[tuple[str, int, int, bool]] = []

    class Log:
        def burst(self, entity: SchedEntity, ns: int) -> None:
            raise AssertionError("bursts are announced by who ends them, not by the scheduler")

        def work(self, entity: SchedEntity, began_ns: int, ended_ns: int, *, user: bool) -> None:
            assert isinstance(entity, Job)
            seen.append((entity.name, began_ns, ended_ns, user))

    bench = Bench(1)
    bench.sched.observer = Log()
    bench.start("A", [User(130), Kernel(20)])
    bench.start("B", [User(10)])
    bench.run()
    #   A's slice is 100 long
    assert seen == [("A", 0, 100, True), ("B", 100, 110, True), ("A", 110, 140, True), ("A", 140, 160, False)]


def test_who_is_abandoned_is_let_go_of() -> None:
    """Tasks that cannot go on keep nothing alive: what only they hold is gone, whatever their cleaning up would raise."""
    import gc
    import weakref

    class Held:
        """Something on a suspended stack."""

    def build() -> weakref.ref[Held]:
        sched = Scheduler(RULES, 2)
        held = Held()

        def sleeper(sched: Scheduler = sched, held: Held = held) -> None:
            try:
                sched.sleep()
            finally:
                raise KernelBug("unlock", f"{held}")

        sched.start(SchedEntity(), sleeper)
        sched.start(SchedEntity(), sleeper)
        sched.run()
        sched.abandon()
        return weakref.ref(held)

    known = build()
    gc.collect()
    assert known() is None
