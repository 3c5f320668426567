"""Locks in simulated time: who waits, how, how long, and what may not be done.

A task here is a function that takes and drops locks and works in between; the log says who did what when. Time is in ns,
slices are long. CPU 0 gets the first task that is started, CPU 1 the second, then by load.

Sources: eras.md 9 (S spins, M and R/W sleep); 2.6.2 include/asm-i386/spinlock.h, lib/rwsem.c (waiters are served in order).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.locks import Lock, LockClasses, Locks
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules

from .tools import due_ns, try_take

RULES = SchedRules(
    timeslice_ns=10**6, max_timeslice_ns=10**6, tick_ns=1, busy_balance_ns=10**6, one_queue=False, child_first=True
)
ORDER: LockClasses = (("sem", True, False), ("spin", False, False), ("pair", False, True), ("last", False, False))


class Event(NamedTuple):
    now_ns: int
    who: str
    what: str


@dataclass
class Box:
    """A machine that has only locks, CPUs and time."""

    cpus: int = 2
    prices: dict[str, int] = field(default_factory=lambda: {"step": 1})
    log: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sched = Scheduler(RULES, self.cpus)
        self.ledger = Ledger(PriceList("test", "", self.prices))
        self.locks = Locks(ORDER, self.sched, self.ledger)
        self.jobs: dict[str, SchedEntity] = {}

    def new(self, of_class: str, name: str = "") -> Lock:
        return self.locks.new(of_class, name)

    def start(self, name: str, body: Callable[[], None]) -> None:
        job = self.jobs[name] = SchedEntity()

        def whole() -> None:
            body()
            self.locks.forget(job)
            self.note(name, "exit")
            self.sched.exited(job, None)

        self.sched.start(job, whole)

    def note(self, who: str, what: str) -> None:
        self.log.append(Event(self.sched.now_ns, who, what))

    def work(self, ns: int) -> None:
        self.sched.spend(ns, user=False)

    def section(self, name: str, lock: Lock, before: int, inside: int, *, write: bool = True) -> None:
        """A task that works, holds the lock for `inside` ns, and ends."""

        def body() -> None:
            self.work(before)
            self.note(name, "asks")
            self.locks.take(lock, write=write)
            self.note(name, "has it")
            self.work(inside)
            self.locks.drop(lock)

        self.start(name, body)

    def when(self, who: str, what: str) -> int:
        (event,) = [e for e in self.log if (e.who, e.what) == (who, what)]
        return event.now_ns


# -- waiting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_class", "keeps_cpu"), [("spin", True), ("sem", False)])
def test_a_spinner_keeps_its_cpu_and_a_sleeper_does_not(of_class: str, keeps_cpu: bool) -> None:
    """CPU 0: A holds it from 0 to 100. CPU 1: B asks at 10; C, queued behind B, runs in the meantime or does not."""
    box = Box()
    lock = box.new(of_class, "it")
    box.section("A", lock, 0, 100)
    box.section("B", lock, 10, 5)
    box.start("D", lambda: box.work(200))  # behind A, so that C goes behind B and stays there
    box.start("C", lambda: box.work(20))
    box.sched.run()
    assert box.when("B", "asks") == 10
    assert box.when("B", "has it") == 100
    assert box.when("C", "exit") == (105 + 20 if keeps_cpu else 10 + 20)
    kind = box.locks.classes[of_class]
    assert (kind.waits, kind.wait_ns) == (1, 90)
    #   spinning is system time, sleeping is none
    assert box.jobs["B"].system_ns == 10 + 5 + (90 if keeps_cpu else 0)
    assert (kind.writes, kind.reads, kind.trylock_failures) == (2, 0, 0)


def test_a_sleeper_waits_for_a_cpu_too() -> None:
    """The semaphore is B's from 100 on, but its CPU is C's until 10 + 200."""
    box = Box()
    lock = box.new("sem")
    box.section("A", lock, 0, 100)
    box.section("B", lock, 10, 5)
    box.start("D", lambda: box.work(500))
    box.start("C", lambda: box.work(200))
    box.sched.run()
    assert box.when("B", "has it") == 210


def test_readers_share_and_are_served_in_order() -> None:
    """Two readers at once; a writer waits for both; a reader that comes after the writer waits for it."""
    box = Box(cpus=4)
    lock = box.new("sem")
    box.section("R1", lock, 0, 100, write=False)
    box.section("R2", lock, 10, 200, write=False)
    box.section("W", lock, 20, 50)
    box.section("R3", lock, 30, 10, write=False)
    box.sched.run()
    got = {who: box.when(who, "has it") for who in ("R1", "R2", "W", "R3")}
    assert got == {"R1": 0, "R2": 10, "W": 210, "R3": 260}
    kind = box.locks.classes["sem"]
    assert (kind.reads, kind.writes, kind.waits, kind.wait_ns) == (3, 1, 2, 190 + 230)


@pytest.mark.parametrize("of_class", ["spin", "sem"])
def test_handed_over_in_the_order_of_asking(of_class: str) -> None:
    """First come, first served; the readers at the head of the line all at once."""
    box = Box(cpus=6)
    lock = box.new(of_class, "it")
    box.section("A", lock, 0, 100)
    for i, write in enumerate([True, False, False, True, False]):
        box.section("BCDEF"[i], lock, 10 * (i + 1), 10, write=write)
    box.sched.run()
    got = {who: box.when(who, "has it") for who in "ABCDEF"}
    assert got == {"A": 0, "B": 100, "C": 110, "D": 110, "E": 120, "F": 130}
    kind = box.locks.classes[of_class]
    assert (kind.fought_over, kind.most_waits) == ("it", 5)


def test_the_object_most_fought_over() -> None:
    """By waits, not by acquisitions."""
    box = Box(cpus=4)
    quiet, busy = box.new("spin", "quiet"), box.new("spin", "busy")
    for _ in range(10):
        box.locks.pass_through(quiet)
    for name in "ABC":
        box.section(name, busy, 0, 10)
    box.sched.run()
    assert box.locks.as_json()["spin"]["most_fought_over"] == "busy"


def test_passing_through_waits_too() -> None:
    """Take and drop within a burst: it has to wait its turn, is counted, and holds nothing afterwards."""
    box = Box()
    lock = box.new("spin")
    box.section("A", lock, 0, 100)

    def passer() -> None:
        box.work(30)
        box.locks.pass_through(lock)
        box.note("B", "through")
        assert box.locks.held() == []

    box.start("B", passer)
    box.sched.run()
    assert box.when("B", "through") == 100
    kind = box.locks.classes["spin"]
    assert (kind.writes, kind.waits, kind.wait_ns) == (2, 1, 70)


# -- time held -------------------------------------------------------------------------------------------------------


def test_time_held_is_simulated_time() -> None:
    """In total and at most; work that is charged and not yet spent counts; waiting to get it does not."""
    box = Box()
    lock = box.new("spin")
    box.section("A", lock, 5, 100)
    box.section("B", lock, 50, 30)
    box.sched.run()
    kind = box.locks.classes["spin"]
    assert (kind.held_ns, kind.held_max_ns) == (130, 100)
    box.locks.take(lock)
    box.ledger.charge("step", 200)
    box.locks.drop(lock)
    assert (kind.held_ns, kind.held_max_ns) == (330, 200)
    assert box.locks.as_json()["spin"]["held_s"] == pytest.approx(330e-9)


def test_readers_hold_it_from_the_first_to_the_last() -> None:
    """[0, 100) and [10, 210) together are 210."""
    box = Box()
    lock = box.new("sem")
    box.section("R1", lock, 0, 100, write=False)
    box.section("R2", lock, 10, 200, write=False)
    box.sched.run()
    assert box.locks.classes["sem"].held_ns == 210


# -- what may not be done --------------------------------------------------------------------------------------------


def test_against_the_order() -> None:
    """At the spot, whether or not anybody would have waited; two of a class that nests may."""
    locks = Box().locks
    early, late = locks.new("sem"), locks.new("spin")
    locks.take(late)
    for call in (locks.take, locks.pass_through):
        with pytest.raises(KernelBug, match="sem is taken while spin is held") as error:
            call(early)
        assert error.value.where == "lockdep"
    with pytest.raises(KernelBug, match="spin is taken while spin is held"):
        locks.take(locks.new("spin"))
    locks.drop(late)
    child, parent = locks.new("pair"), locks.new("pair")
    locks.take(early)
    locks.take(child)
    locks.take(parent)
    locks.take(locks.new("last"))
    assert [lock.type.name for lock in locks.held()] == ["sem", "pair", "pair", "last"]


def test_twice() -> None:
    """A task that takes what it has would wait for itself, even where two of a class may be nested."""
    locks = Box().locks
    for of_class in ("sem", "spin", "pair"):
        lock = locks.new(of_class, "this")
        locks.take(lock)
        for call in (locks.take, locks.pass_through):
            with pytest.raises(KernelBug, match="this is taken twice"):
                call(lock)
        locks.drop(lock)


def test_dropping_what_is_not_held() -> None:
    """Never taken, dropped before, or somebody else's."""
    box = Box()
    lock = box.new("spin", "this")
    with pytest.raises(KernelBug, match="this is not held") as error:
        box.locks.drop(lock)
    assert error.value.where == "unlock"
    box.locks.take(lock)
    box.locks.drop(lock)
    with pytest.raises(KernelBug, match="not held"):
        box.locks.drop(lock)
    box.locks.take(lock)

    def thief() -> None:
        with pytest.raises(KernelBug, match="not held"):
            box.locks.drop(lock)

    box.start("B", thief)
    box.sched.run()
    assert lock.busy(write=False)


def test_nobody_could_drop_it() -> None:
    """Driven from outside there is nobody else: waiting would never end. And a task must not exit with a lock."""
    box = Box()
    lock = box.new("sem", "this")
    box.start("A", lambda: box.locks.take(lock))
    with pytest.raises(KernelBug, match="exits with sem held"):
        box.sched.run()
    with pytest.raises(KernelBug, match="this is held, and nobody runs") as error:
        box.locks.take(lock)
    assert error.value.where == "deadlock"


# -- any run ---------------------------------------------------------------------------------------------------------

steps = st.tuples(
    st.integers(0, 60), st.sampled_from(["take", "read", "pass", "try"]), st.integers(0, 3), st.integers(0, 60)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(steps, max_size=5), min_size=2, max_size=6), st.integers(1, 4))
def test_whatever_they_do(programs: list[list[tuple[int, str, int, int]]], cpus: int) -> None:
    """It is the same run twice; writers are alone, all come to an end, and the counts are those of the log."""
    runs = []
    for _ in range(2):
        box = Box(cpus)
        all_locks = [box.new("sem", "0"), box.new("sem", "1"), box.new("spin", "2"), box.new("spin", "3")]
        inside: list[tuple[set[str], set[str]]] = [(set(), set()) for _ in all_locks]  # (readers, writers)
        waited = {"sem": 0, "spin": 0}
        taken = {"sem": 0, "spin": 0}

        def body(
            name: str,
            program: list[tuple[int, str, int, int]],
            box: Box = box,
            all_locks: list[Lock] = all_locks,
            inside: list[tuple[set[str], set[str]]] = inside,
            waited: dict[str, int] = waited,
            taken: dict[str, int] = taken,
        ) -> None:
            for before, how, which, work in program:
                box.work(before)
                lock, kind = all_locks[which], all_locks[which].type.name
                asked = box.sched.now_ns
                if how == "try":
                    if not try_take(box.locks, lock):
                        continue
                elif how == "pass":
                    box.locks.pass_through(lock)
                else:
                    box.locks.take(lock, write=how == "take")
                waited[kind] += box.sched.now_ns - asked
                taken[kind] += 1
                box.note(name, f"has {which}")
                if how == "pass":
                    continue
                readers, writers = inside[which]
                assert not writers
                assert how == "read" or not readers
                (readers if how == "read" else writers).add(name)
                box.work(work)
                (readers if how == "read" else writers).remove(name)
                box.locks.drop(lock)

        for i, program in enumerate(programs):
            box.start("ABCDEF"[i], lambda i=i, program=program: body("ABCDEF"[i], program))  # type: ignore[misc]
        box.sched.run()
        for kind in ("sem", "spin"):
            counted = box.locks.classes[kind]
            assert counted.reads + counted.writes == taken[kind]
            assert counted.wait_ns == waited[kind]
        assert sorted(e.who for e in box.log if e.what == "exit") == sorted("ABCDEF"[: len(programs)])
        assert not any(lock.busy(write=True) for lock in all_locks)
        runs.append((box.log, box.locks.as_json()))
    assert runs[0] == runs[1]


# -- moments within a burst ------------------------------------------------------------------------------------------


def test_bursts_that_reach_a_lock_in_the_same_moment_wait_for_each_other() -> None:
    """A's burst reaches it after 40 of 100 ns and holds it for 30; B's, 10 later, waits 20, which come on top of its burst."""
    box = Box(prices={"step": 1, "spin_held": 30})
    lock = box.new("spin", "it")

    def burst(before: int, after: int) -> Callable[[], None]:
        def body() -> None:
            box.ledger.charge("step", before)
            box.locks.pass_through(lock)
            box.ledger.charge("step", after)
            box.work(due_ns(box.ledger))

        return body

    box.start("A", burst(40, 60))
    box.start("B", burst(50, 50))
    box.sched.run()
    assert box.when("A", "exit") == 100
    assert box.when("B", "exit") == 100 + 20
    kind = box.locks.classes["spin"]
    assert (kind.writes, kind.waits, kind.wait_ns, kind.fought_over) == (2, 1, 20, "it")
    assert kind.held_ns == 2 * 30


def test_who_passes_earlier_than_a_burst_that_began_before_it_does_not_wait() -> None:
    """A's burst reaches the lock at 90; B's, which begins later, at 10."""
    box = Box(prices={"step": 1, "spin_held": 30})
    lock = box.new("spin", "it")
    for name, before in (("A", 90), ("B", 10)):

        def body(before: int = before) -> None:
            box.ledger.charge("step", before)
            box.locks.pass_through(lock)
            box.work(due_ns(box.ledger))

        box.start(name, body)
    box.sched.run()
    assert (box.when("A", "exit"), box.when("B", "exit")) == (90, 10)
    assert box.locks.classes["spin"].waits == 0


# -- page after page -------------------------------------------------------------------------------------------------


def sweeps(box: Box, name: str, before: int, takes: int, first: int = 7, nr: int = 16) -> None:
    """A task that works for `before`, then goes through pages, which alone takes it `takes`."""

    def body() -> None:
        if before:
            box.work(before)
        box.locks.sweep("last", np.array([[first]]), nr)
        box.work(takes + box.locks.wait_for_sweeps(takes))

    box.start(name, body)


def test_who_goes_through_the_same_pages_cannot_overtake() -> None:
    """A is in the pages from 0 to 100. B, faster and behind, comes out with A; C, slower, is not held up; D is elsewhere."""
    box = Box(cpus=4)
    sweeps(box, "A", 0, 100)
    sweeps(box, "B", 20, 50)
    sweeps(box, "C", 30, 90)
    sweeps(box, "D", 10, 20, first=8)
    box.sched.run()
    assert [box.when(name, "exit") for name in "ABCD"] == [100, 100, 120, 30]
    kind = box.locks.classes["last"]
    assert (kind.writes, kind.waits, kind.wait_ns) == (4 * 16, 1, 30)
    assert box.jobs["B"].system_ns == 20 + 50 + 30


def test_a_convoy_queues_up() -> None:
    """Everybody behind the slowest: B waits for A, C for B, and who comes when all are through waits for nobody."""
    box = Box(cpus=4)
    sweeps(box, "A", 0, 100)
    sweeps(box, "B", 10, 50)
    sweeps(box, "C", 20, 50)
    sweeps(box, "D", 100, 5)
    box.sched.run()
    assert [box.when(name, "exit") for name in "ABCD"] == [100, 100, 100, 105]


def test_one_page_is_no_sweep() -> None:
    """A single page is held for too short a time to matter; outside of tasks there is nobody to meet."""
    box = Box()
    sweeps(box, "A", 0, 100)
    sweeps(box, "B", 10, 5, nr=1)
    box.sched.run()
    assert box.when("B", "exit") == 15
    box.locks.sweep("last", np.array([[7]]), 16)
    assert box.locks.wait_for_sweeps(10) == 0
