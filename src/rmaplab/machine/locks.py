"""Locks: who holds what, for how long in simulated time, who had to wait, and in which order they may be taken.

    CPU 0   take(ptl) ======== a burst passes ======== drop(ptl)
    CPU 1                    take(ptl): spins ...................|===============
                             counted: one wait, so many ns, and which lock it was

A lock class is what lockdep calls one: mmap_sem, page_table_lock, anon_vma_lock ... A kernel states the order of its classes;
taking one while holding a later one is a KernelBug at the spot, whether or not anybody would have deadlocked. Two locks of
one class may be nested only where the kernel says so (fork: the child's page_table_lock, then the parent's).

What is taken and given back within one burst (`pass_through`) is held for a moment of it: for the time that the price list
gives as CLASS_held, if it gives one. Who comes in that moment, from a burst of another CPU, waits for the rest of it.

A spinning task keeps its CPU; one that waits for a semaphore sleeps. Uncontended locks cost the machine nothing but a count:
what an acquisition takes is in the price list. Bit locks that are taken page by page (PG_chainlock, PG_maplock) are counted in
bulk, and are no less exact for it. A burst goes through its pages in order, locking each, and another CPU's burst over the same
pages cannot overtake it: the work outside the lock is the same for both, so whoever is behind finds the next page locked again.
So it ends no earlier than the one before it, and waits for that (`sweep`):

    page    ^        ________ CPU 0: exit, which searches long chains
            |      _/    ___
            |    _/  ___/......  CPU 1: fork, faster, began later; from where they meet it goes at CPU 0's pace
            |  _/___/
            +----------------------> time

Source: eras.md 9 for who takes what in which order; the order of 2.6.2 to 2.6.7 is stated in mm/rmap.c and mm/filemap.c.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.ledger import Ledger
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler


@dataclass(slots=True)
class LockClass:
    """One class and what was counted about all its locks. Times in ns of simulated time."""

    name: str
    rank: int
    sleeps: bool
    nests: bool
    moment_ns: int = 0
    """How long pass_through holds one of them."""
    reads: int = 0
    writes: int = 0
    trylock_failures: int = 0
    waits: int = 0
    wait_ns: int = 0
    held_ns: int = 0
    held_max_ns: int = 0
    fought_over: str = ""
    most_waits: int = 0


class Lock:
    """One lock. `of` names the object it protects, for "the one most fought over"."""

    __slots__ = ("grants", "of", "readers", "since_ns", "type", "until_ns", "waiters", "waits", "writer")

    def __init__(self, of_class: LockClass, of: str) -> None:
        self.type = of_class
        self.of = of
        self.writer: LockOwner | None = None
        self.readers = 0
        self.grants = 0  # for writing, ever: which writer this is
        self.since_ns = 0
        self.until_ns = 0  # of the last moment for which pass_through held it
        self.waits = 0
        self.waiters: deque[tuple[LockOwner, bool]] | None = None

    def busy(self, write: bool) -> bool:
        """Whether a newcomer has to wait."""
        return self.writer is not None or (write and self.readers > 0) or bool(self.waiters)


@dataclass(slots=True, eq=False)
class LockOwner:
    """Who takes locks: a task, or whoever drives the machine from outside. `held` in order of taking."""

    entity: SchedEntity | None
    held: list[Lock] = field(default_factory=list)


MIGHT_SLEEP = "might_sleep"
"""The point at which memory is asked for, by a request that may sleep."""


class Point(NamedTuple):
    """A place where another task may act. `name` is the class of the lock that is about to be taken, or what else is about to happen.

    `of` names the object of a lock, `held` are the classes of locks that whoever has come here holds; `waits_for` is the lock, if he will wait.
    """

    name: str
    of: str = ""
    held: tuple[str, ...] = ()
    waits_for: Lock | None = None


Listener = Callable[[Point], None]
"""Is told of a point, and may act there as somebody else would: what it takes it must give back before it returns."""

LockClasses = tuple[tuple[str, bool, bool], ...]
"""Classes in the order in which they may be taken: (name, whether a waiter sleeps, whether two may be nested)."""


class Locks:
    """All locks of one machine."""

    def __init__(self, order: LockClasses, sched: Scheduler, ledger: Ledger) -> None:
        moments = ledger.prices.ns
        self.classes = {
            name: LockClass(name, rank, sleeps, nests, moments.get(f"{name}_held", 0))
            for rank, (name, sleeps, nests) in enumerate(order)
        }
        self._sched, self._ledger = sched, ledger
        self._sweeps: dict[tuple[str, int], int] = {}  # (class, first page) -> when the last burst over it ends
        self._sweeping: list[tuple[str, int]] = []  # by the burst under way
        self.listener: Listener | None = None
        """Who is told of points; Machine.watch sets it."""
        self.visits = 0  # how many points it was told of
        self.acting = False  # a listener acts at a point: he can wait for nobody, and does better to try
        self.bits_held = 0
        """Bit locks between enter_bits and leave_bits that were really taken."""
        self._bits: dict[tuple[str, int], Lock] = {}  # bit locks that were ever really taken
        self._outside = LockOwner(None)
        self.holders: dict[SchedEntity, LockOwner] = {}  # whoever has ever taken one, and still runs

    def new(self, class_name: str, of: str = "") -> Lock:
        """A lock of one of the kernel's classes."""
        return Lock(self.classes[class_name], of)

    def take(self, lock: Lock, *, write: bool = True) -> None:
        """Take it, waiting if somebody else holds it. Raises KernelBug against the order."""
        if self.listener is not None:
            self.reach(lock.type.name, lock.of, lock)
        holder = self._outside if self._sched.current is None else self._holder()
        if holder.held:
            self._check_order(holder, lock)
        if write and lock.writer is None and not lock.readers and not lock.waiters:
            lock.type.writes += 1  # _grant, without the call: this is the most travelled path
            lock.writer = holder
            lock.grants += 1
            lock.since_ns = self._sched.now_ns + self._ledger.pending_ns
            holder.held.append(lock)
        elif lock.busy(write):
            self._wait(lock, holder, write)  # whoever drops it hands it over
        else:
            self._grant(lock, holder, write)

    def try_take(self, lock: Lock, *, write: bool = True) -> bool:
        """spin_trylock, down_read_trylock: whether it was free, and is taken. Allowed against the order: that is what they are for."""
        if self.listener is not None:
            self.reach(lock.type.name, lock.of)
        if lock.busy(write):
            lock.type.trylock_failures += 1
            return False
        self._grant(lock, self._outside if self._sched.current is None else self._holder(), write)
        return True

    def enter(self, lock: Lock) -> None:
        """Take it for what follows within this burst, which ends with leave(). It is really held if somebody watches, else passed through."""
        if self.listener is None:
            self.pass_through(lock)
        else:
            self.take(lock)

    def leave(self, lock: Lock) -> None:
        """What followed enter() is done. Whoever listens may have ended that meanwhile: what was really taken is dropped."""
        if lock.writer is not None and lock.writer is self._holder():
            self.drop(lock)

    def pass_through(self, lock: Lock, *, write: bool = True) -> None:
        """Take and drop within one burst: the waiting, the order and the count of it."""
        if self.listener is not None:
            self.reach(lock.type.name, lock.of, lock)
        holder = self._outside if self._sched.current is None else self._holder()
        if holder.held:
            self._check_order(holder, lock)
        if (lock.writer is not None or lock.readers or lock.waiters) and lock.busy(write):
            self._wait(lock, holder, write)
            self.drop(lock)
            return
        if write:
            lock.type.writes += 1
            if lock.type.moment_ns:
                self._hold_a_moment(lock)
        else:
            lock.type.reads += 1

    def drop(self, lock: Lock) -> None:
        """Give it back; the next in line has it from now on."""
        holder = self._outside if self._sched.current is None else self._holder()
        kind, held = lock.type, holder.held
        if held and held[-1] is lock:
            held.pop()
        elif lock in held:
            held.remove(lock)
        else:
            raise KernelBug("unlock", f"{kind.name} of {lock.of} is not held by who drops it")
        held_ns = self._sched.now_ns + self._ledger.pending_ns - lock.since_ns
        if lock.writer is holder:
            lock.writer = None
        else:
            lock.readers -= 1
        if held_ns and not lock.readers:
            kind.held_ns += held_ns
            kind.held_max_ns = max(kind.held_max_ns, held_ns)
        while lock.waiters:
            waiter, write = lock.waiters[0]
            if lock.writer is not None or (write and lock.readers):
                break
            lock.waiters.popleft()
            self._grant(lock, waiter, write)
            if waiter.entity is not None:
                (self._sched.wake if kind.sleeps else self._sched.stop_spinning)(waiter.entity)

    def count(self, class_name: str, nr: int, *, write: bool = True) -> None:
        """`nr` acquisitions of locks that are taken and dropped page by page."""
        if write:
            self.classes[class_name].writes += nr
        else:
            self.classes[class_name].reads += nr

    def sweep(self, class_name: str, batch: I64, nr: int) -> None:
        """`nr` acquisitions of the bit locks of pages, one after the other; the waiting is end_burst's.

        `batch` are columns as the page-table kernels make them: the first page is batch[0, 0], and names the stretch.
        """
        self.count(class_name, nr)
        if nr > 1 and self._sched.current is not None:
            self._sweeping.append((class_name, int(batch[0, 0])))

    def wait_for_sweeps(self, ns: int) -> int:
        """A burst of `ns` begins: how much longer it takes, because it cannot overtake those on other CPUs."""
        if not self._sweeping:
            return 0
        sched, waited = self._sched, 0
        for place in self._sweeping:
            until = self._sweeps.get(place, 0)
            behind = until - (sched.now_ns + sched.lasts(ns + waited))
            if sched.now_ns < until and behind > 0:
                kind = self.classes[place[0]]
                kind.waits += 1
                kind.wait_ns += behind
                waited += sched.work_in(behind)
            self._sweeps[place] = max(until, sched.now_ns + sched.lasts(ns + waited))
        self._sweeping.clear()
        return waited

    def enter_bits(self, class_name: str, batch: I64, nr: int) -> None:
        """sweep(), before the work: if somebody watches, a batch is one page, and its bit lock is really held until leave_bits()."""
        if self.listener is None or nr != 1:
            self.sweep(class_name, batch, nr)
        else:
            self.bits_held += 1
            self.take(self.bit(class_name, int(batch[0, 0])))

    def bit(self, class_name: str, pfn: int) -> Lock:
        """The bit lock of one page, for who really takes it."""
        return self._bits.setdefault((class_name, pfn), Lock(self.classes[class_name], f"page {pfn}"))

    def leave_bits(self, class_name: str, batch: I64, nr: int) -> None:
        """The work is done."""
        lock = self._bits.get((class_name, int(batch[0, 0]))) if self.bits_held and nr == 1 else None
        if lock is not None and lock.writer is self._holder():
            self.bits_held -= 1
            self.drop(lock)

    def reach(self, name: str, of: str = "", lock: Lock | None = None) -> None:
        """A point: whoever watches may act here, as somebody of his own, who holds nothing. What he does has points too, and nobody is told of them."""
        if self.listener is None or self.acting:
            return
        point = Point(name, of, tuple(held.type.name for held in self.held()), lock)
        self.visits += 1
        self.acting = True
        try:
            with self.apart(name):
                self.listener(point)
        finally:
            self.acting = False

    @contextmanager
    def apart(self, name: str) -> Iterator[None]:
        """Somebody else acts, who holds nothing: at a point, or because he is killed. Raises KernelBug if he keeps a lock."""
        outside, self._outside = self._outside, LockOwner(None)
        running, self._sched.current = self._sched.current, None
        try:
            yield
            if self._outside.held:
                raise KernelBug("watch", f"who acted at {name} has kept {self._outside.held[0].type.name}")
        finally:
            self._outside, self._sched.current = outside, running

    @property
    def owner(self) -> LockOwner:
        """Who takes locks now: the running task, or whoever acts from outside."""
        return self._holder()

    def held(self) -> list[Lock]:
        """What the running task holds: nothing, between system calls."""
        return self._holder().held

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Counts by class, of those that were taken; times in seconds."""
        return {
            kind.name: {
                "reads": kind.reads,
                "writes": kind.writes,
                "trylock_failures": kind.trylock_failures,
                "waits": kind.waits,
                "wait_s": kind.wait_ns * 1e-9,
                "held_s": kind.held_ns * 1e-9,
                "held_max_s": kind.held_max_ns * 1e-9,
                "most_fought_over": kind.fought_over,
            }
            for kind in self.classes.values()
            if kind.reads or kind.writes
        }

    # -- inside --------------------------------------------------------------------------------------------------

    def _holder(self) -> LockOwner:
        entity = self._sched.current
        if entity is None:
            return self._outside
        holder = self.holders.get(entity)
        if holder is None:
            holder = self.holders[entity] = LockOwner(entity)
        return holder

    def forget(self, entity: SchedEntity) -> None:
        """A task is gone; it must hold nothing."""
        holder = self.holders.pop(entity, None)
        if holder is not None and holder.held:
            raise KernelBug("do_exit", f"a task exits with {holder.held[-1].type.name} held")

    def _grant(self, lock: Lock, holder: LockOwner, write: bool) -> None:
        if write:
            lock.type.writes += 1
            lock.writer = holder
            lock.grants += 1
        else:
            lock.type.reads += 1
            lock.readers += 1
        if lock.readers <= 1:
            lock.since_ns = self._sched.now_ns + self._ledger.pending_ns
        holder.held.append(lock)

    def _check_order(self, holder: LockOwner, lock: Lock) -> None:
        kind = lock.type
        for other in holder.held:
            if other is lock:
                raise KernelBug("lockdep", f"{kind.name} of {lock.of} is taken twice by one task")
            if other.type.rank > kind.rank or (other.type is kind and not kind.nests):
                raise KernelBug("lockdep", f"{kind.name} is taken while {other.type.name} is held: against the order")

    def _hold_a_moment(self, lock: Lock) -> None:
        """The burst reaches the lock now; what it has to wait is added to it.

        A burst's effects come at its beginning, so another one may have passed here "later": then nobody waits.
        """
        kind, reached = lock.type, self._sched.now_ns + self._ledger.pending_ns
        if lock.until_ns - kind.moment_ns <= reached < lock.until_ns:
            waited = lock.until_ns - reached
            self._ledger.pending_ns += waited
            self._count_wait(lock, waited)
            reached = lock.until_ns
        lock.until_ns = max(lock.until_ns, reached + kind.moment_ns)
        kind.held_ns += kind.moment_ns

    def _count_wait(self, lock: Lock, waited_ns: int) -> None:
        kind = lock.type
        kind.waits += 1
        kind.wait_ns += waited_ns
        lock.waits += 1
        if lock.waits > kind.most_waits:
            kind.most_waits, kind.fought_over = lock.waits, lock.of

    def _wait(self, lock: Lock, holder: LockOwner, write: bool) -> None:
        if holder.entity is None:
            raise KernelBug("deadlock", f"{lock.type.name} of {lock.of} is held, and nobody runs who could drop it")
        kind = lock.type
        began = self._sched.now_ns
        if lock.waiters is None:
            lock.waiters = deque()
        lock.waiters.append((holder, write))
        if kind.sleeps:
            self._sched.sleep()
        else:
            self._sched.spin()
        self._count_wait(lock, self._sched.now_ns - began)
