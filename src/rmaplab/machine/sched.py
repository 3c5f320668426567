"""CPUs, tasks and simulated time: a deterministic discrete-event machine.

    hub (run)      pops the earliest event: (time, class, sequence)
      |  switch
      v
    greenlet of task 7, on CPU 2:    ... fork copies 32 page tables ...  spend(25 ms) ----> back to the hub
                                     ... goes on when the hub pops that event ...

A system call is a plain function. Between two bursts of work it calls `spend`, which in a task's greenlet means: other CPUs
may now do what they do in that time. Kernel code is not preempted (the kernels of 2004 that we model are not built with
CONFIG_PREEMPT): only a sleep, cond_resched() or the return to user mode gives the CPU away. User time is preempted at the
end of the time slice. Driven from outside, without run(), the same calls just move the clock.

Two schedulers, as far as CPU-bound tasks of one priority see them. The O(1) scheduler of 2.6 has a queue per CPU:
    fork        the child takes half the parent's slice and stands just before it in its queue: child runs first,
                unless the parent's slice ran out during the fork; then both wait with the expired
    slice gone  a new slice, and the tail of the expired queue; when the active queue is empty the two are exchanged
    idle CPU    pulls half the surplus of the longest queue, from the tail, expired tasks first: at once, then every tick
    busy CPU    does the same every 200 ms if the difference is at least a quarter
    exit        a child that never got a second slice gives the rest of its first one back to its parent
    wait        a child that exits takes its waiting parent over to its own CPU, to the tail (a sync wakeup; no bonus for
                having slept: __activate_task leaves the priority alone)
The scheduler of 2.4 has one queue for all CPUs (goodness.py): a fork's child goes to an idle CPU at once or waits, the parent
goes on; the best goes next, and who wakes may preempt.
Hyper-threading (`Smt`): neighbouring CPUs share a core, as Linux numbers them by APIC id. While a sibling works, work takes
longer by a factor, from and to the very nanosecond at which the sibling begins or ends; like the kernel's own accounting, a
task's time is then the longer one. A scheduler that knows siblings lets an idle CPU on an idle core look for work first.
Left out, and believed not to matter for such tasks: dynamic priorities, cache-hot limits, moving a running task to a free core.

Source: 2.6.2 kernel/sched.c, wake_up_forked_process, sched_exit, scheduler_tick, load_balance, find_busiest_queue; 2.4
kernel/sched.c, reschedule_idle, schedule, and kernel/fork.c, do_fork; eras.md 8.
"""

import contextlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from rmaplab.errors import KernelBug
from rmaplab.machine.goodness import GoodnessQueue
from rmaplab.machine.runqueue import Cpu, RunQueue, SchedEntity


@dataclass(frozen=True)
class SchedRules:
    """Nanoseconds: what a kernel's scheduler goes by."""

    timeslice_ns: int
    max_timeslice_ns: int
    tick_ns: int
    busy_balance_ns: int
    one_queue: bool
    """All CPUs take from one queue, and none waits for a tick to look into it."""
    child_first: bool
    """A fork's child stands before its parent, who is asked to make way."""
    sync_wakes_move: bool = False
    """Who wakes a task and is about to leave its CPU takes it over (an exiting child its waiting parent)."""
    knows_siblings: bool = False
    """An idle CPU on an idle core is preferred."""


@dataclass(frozen=True)
class Smt:
    """CPUs that share a core. `shared_permille`: how long what takes 1000 alone takes while a sibling works too."""

    threads_per_core: int = 1
    shared_permille: int = 1000


NO_SMT = Smt()


class Observer(Protocol):
    """Who wants to see every burst of work, and the pieces in which it was done."""

    def burst(self, entity: SchedEntity, ns: int) -> None:
        """`entity` is to work for `ns`, as the ledger has it."""

    def work(self, entity: SchedEntity, began_ns: int, ended_ns: int, *, user: bool) -> None:
        """`entity` had a CPU and worked from `began_ns` to `ended_ns`."""


_GO_ON, _TICK = 0, 1  # event classes: at equal times running tasks go before ticks


class Scheduler:
    """The event heap, the CPUs and the clock (`now_ns`)."""

    def __init__(self, rules: SchedRules, nr_cpus: int, smt: Smt = NO_SMT) -> None:
        self.rules = rules
        self.smt = smt
        self.observer: Observer | None = None
        self._goodness = GoodnessQueue(rules.tick_ns, rules.timeslice_ns) if rules.one_queue else None
        self.cpus = [Cpu(i, RunQueue() if self._goodness is None else self._goodness) for i in range(nr_cpus)]
        for cpu in self.cpus:
            core = cpu.index // smt.threads_per_core
            cpu.siblings = tuple(c for c in self.cpus if c.index // smt.threads_per_core == core and c is not cpu)
        self.now_ns = 0
        self.current: SchedEntity | None = None
        self.user_ns = 0
        self.system_ns = 0
        self._events: list[tuple[int, int, int, SchedEntity | Cpu]] = []
        self._sequence = 0
        self._hub: greenlet | None = None
        self._alive: dict[SchedEntity, None] = {}

    # -- tasks come, sleep and wake ------------------------------------------------------------------------------

    def start(self, entity: SchedEntity, body: Callable[[], None]) -> None:
        """Make `entity` runnable: a fork's child where the rules say, a first task on the emptiest CPU."""
        entity.context = greenlet(body)
        self._alive[entity] = None
        parent = self.current
        if parent is not None and parent.cpu is not None:
            half = parent.slice_ns // 2
            entity.slice_ns = max(half, 1)
            parent.slice_ns -= half
            cpu = entity.cpu = parent.cpu
            if self.rules.child_first:
                cpu.queue.add_child(entity, expired=parent.expired)
                parent.need_resched = True
            else:
                cpu.queue.add(entity)
        else:
            entity.slice_ns = self.rules.timeslice_ns
            cpu = entity.cpu = min(self.cpus, key=lambda c: c.nr_running)
            cpu.queue.add(entity)
            if cpu.current is None:
                self._dispatch(cpu)
        self._wake_idle_cpus()
        self._preempt_for(entity)

    def _preempt_for(self, entity: SchedEntity) -> None:
        """2.4's reschedule_idle, when no CPU was idle: whoever weighs less by most is to make way."""
        if self._goodness is not None and entity in self._goodness.active:
            victim = self._goodness.to_preempt(entity, self.cpus)
            if victim is not None:
                victim.need_resched = True

    def exited(self, entity: SchedEntity, parent: SchedEntity | None) -> None:
        """sched_exit: an unused first slice goes back to the parent."""
        if parent is not None and entity.first_slice:
            parent.slice_ns = min(parent.slice_ns + max(entity.slice_ns, 0), self.rules.max_timeslice_ns)

    def sleep(self) -> None:
        """The running task sleeps until somebody wakes it."""
        entity = self.current
        if entity is None:
            raise KernelBug("schedule", "nobody is running that could sleep")
        self._leave(entity)

    def wake(self, entity: SchedEntity, *, sync: bool = False) -> None:
        """wake_up: back to the queue of its CPU, or, where the waker is about to sleep (`sync`), to that of the waker."""
        cpu = entity.cpu
        if cpu is None:
            return
        if sync and self.rules.sync_wakes_move and self.current is not None and self.current.cpu is not None:
            cpu = entity.cpu = self.current.cpu
        if entity is cpu.current or entity in cpu.queue.active or entity in cpu.queue.expired:
            raise KernelBug("wake_up", "a task that does not sleep is woken")
        cpu.queue.add(entity)
        if cpu.current is None:
            self._dispatch(cpu)
            return
        self._wake_idle_cpus()
        self._preempt_for(entity)

    def spin(self) -> None:
        """The running task waits for a spinlock and keeps its CPU, until stop_spinning."""
        entity = self.current
        if entity is None:
            raise KernelBug("spin_lock", "nobody is running that could spin")
        began = self.now_ns
        self._switch_to_hub()
        spun = self.now_ns - began
        entity.system_ns += spun
        self.system_ns += spun
        self._use_slice(entity, spun)

    def stop_spinning(self, entity: SchedEntity) -> None:
        """The lock that it spins for is free: it goes on now."""
        self._at(self.now_ns, _GO_ON, entity)

    # -- time passes ---------------------------------------------------------------------------------------------

    def spend(self, ns: int, *, user: bool) -> None:
        """The running task works for `ns`. Kernel time is spent in one piece; user time may be cut by the slice."""
        entity = self.current
        if entity is None:
            self.now_ns += ns
            if user:
                self.user_ns += ns
            else:
                self.system_ns += ns
            return
        if not user:
            self._pass(entity, ns, user=False)
            return
        while ns > 0:
            self.cond_resched()
            step = min(ns, self.work_in(entity.slice_ns))
            self._pass(entity, step, user=True)
            ns -= step

    def work_in(self, ns: int) -> int:
        """How much work the running task gets done in `ns`, if its siblings go on as they do now."""
        entity = self.current
        if entity is None or entity.cpu is None or not entity.cpu.shares_core:
            return ns
        return max(ns * 1000 // self.smt.shared_permille, 1)

    def lasts(self, ns: int) -> int:
        """How long the running task needs for work of `ns`, if its siblings go on as they do now."""
        entity = self.current
        if entity is None or entity.cpu is None or not entity.cpu.shares_core:
            return ns
        return -(-ns * self.smt.shared_permille // 1000)

    def cond_resched(self) -> None:
        """Give the CPU away if somebody else should have it: also what a task does on its way back to user mode."""
        entity = self.current
        if entity is None or entity.cpu is None:
            return
        cpu = entity.cpu
        if entity.expired:
            entity.expired = entity.need_resched = False
            cpu.queue.expire(entity)
            self._leave(entity)
        elif entity.need_resched:
            entity.need_resched = False
            if cpu.queue.active:
                cpu.queue.preempted(entity)
                self._leave(entity)

    def run(self) -> None:
        """Run until nobody can. An exception in a task's program comes out here."""
        self._hub = getcurrent()
        while self._events:
            when_ns, _, sequence, target = heapq.heappop(self._events)
            if isinstance(target, Cpu):
                target.tick_pending = False
                if target.current is None and any(cpu.queue for cpu in self.cpus):
                    self.now_ns = max(self.now_ns, when_ns)
                    self._dispatch(self._idle_cpus()[0] if self.rules.knows_siblings else target)
                    self._wake_idle_cpus()
                continue
            if sequence != target.sequence:  # its work takes longer or shorter than was thought then
                continue
            self.now_ns = max(self.now_ns, when_ns)  # whoever drove from outside may have been further
            context = target.context
            if context is None:
                raise KernelBug("schedule", "a task without a context runs")
            context.parent = self._hub
            self.current = target
            try:
                context.switch()
            finally:
                self.current = None
                if context.dead and target.cpu is not None:
                    cpu, target.cpu, target.context = target.cpu, None, None
                    cpu.queue.forget(target)
                    self._alive.pop(target, None)
                    cpu.current = None
                    self._dispatch(cpu)

    def abandon(self) -> None:
        """Let go of every task that has not come to its end: nobody will run it again.

        A suspended greenlet's stack is out of the garbage collector's sight, and holds the whole machine.
        """
        for entity in list(self._alive):
            if entity.context is not None and entity.context and not entity.context.dead:
                self.current = entity
                entity.context.parent = getcurrent()
                with contextlib.suppress(
                    BaseException
                ):  # what its cleaning up meets on the way is nobody's concern now
                    entity.context.throw(GreenletExit)
            entity.context = None
        self._alive.clear()
        self._events.clear()
        self.current = None

    # -- inside ---------------------------------------------------------------------------------------------------

    def _at(self, when_ns: int, event_class: int, target: SchedEntity | Cpu) -> None:
        self._sequence += 1
        if not isinstance(target, Cpu):
            target.sequence = self._sequence
        heapq.heappush(self._events, (when_ns, event_class, self._sequence, target))

    def _switch_to_hub(self) -> None:
        if self._hub is None:
            raise KernelBug("schedule", "no hub to switch to")
        self._hub.switch()

    def _pass(self, entity: SchedEntity, ns: int, *, user: bool) -> None:
        """Work of `ns`; it takes longer while a sibling works, and what it took is what is accounted."""
        cpu, began = entity.cpu, self.now_ns
        if cpu is None or not cpu.siblings:
            self._at(began + ns, _GO_ON, entity)
            self._switch_to_hub()
        else:
            cpu.left_ns = ns
            self._set_off(cpu, entity)
            self._switch_to_hub()
            cpu.left_ns = 0
        took = self.now_ns - began
        if user:
            self.user_ns += took
            entity.user_ns += took
        else:
            self.system_ns += took
            entity.system_ns += took
        if self.observer is not None:
            self.observer.work(entity, began, self.now_ns, user=user)
        self._use_slice(entity, took)

    def _set_off(self, cpu: Cpu, entity: SchedEntity) -> None:
        """The work that is left on a CPU will be done then, if its siblings go on as they do now."""
        cpu.since_ns = self.now_ns
        cpu.permille = self.smt.shared_permille if cpu.shares_core else 1000
        self._at(self.now_ns + -(-cpu.left_ns * cpu.permille // 1000), _GO_ON, entity)

    def _core_changed(self, cpu: Cpu) -> None:
        """A CPU began or ended to work: its siblings' work goes on at another pace."""
        for sibling in cpu.siblings:
            if sibling.left_ns and sibling.current is not None:
                done = (self.now_ns - sibling.since_ns) * 1000 // sibling.permille
                sibling.left_ns = max(sibling.left_ns - done, 0)
                self._set_off(sibling, sibling.current)

    def _use_slice(self, entity: SchedEntity, ns: int) -> None:
        """scheduler_tick: a slice that is used up is renewed, and the task is to leave the CPU when it can."""
        entity.slice_ns -= ns
        if entity.slice_ns <= 0:
            entity.slice_ns = 0 if self._goodness is not None else self.rules.timeslice_ns
            entity.first_slice = False
            entity.expired = entity.need_resched = True

    def _leave(self, entity: SchedEntity) -> None:
        """schedule(): the CPU goes to the next task, and this one stops here until it is dispatched again."""
        if entity.cpu is None:
            raise KernelBug("schedule", "a task leaves a CPU it is not on")
        entity.cpu.current = None
        self._dispatch(entity.cpu)
        self._wake_idle_cpus()
        self._switch_to_hub()

    def _dispatch(self, cpu: Cpu) -> None:
        """Give an empty CPU its next task, pulled from elsewhere if need be."""
        if not cpu.queue:
            self._pull(cpu, idle=True)
        elif self.now_ns - cpu.last_balance_ns >= self.rules.busy_balance_ns:
            self._pull(cpu, idle=False)
        entity = cpu.queue.take(cpu)
        cpu.current = entity
        if entity is not None:
            entity.cpu = cpu
            cpu.last = entity
            self._at(self.now_ns, _GO_ON, entity)
        if cpu.siblings:
            self._core_changed(cpu)

    def _pull(self, cpu: Cpu, *, idle: bool) -> None:
        """load_balance: half the difference to the longest queue, from its tail, expired tasks first."""
        cpu.last_balance_ns = self.now_ns
        busiest = max(self.cpus, key=lambda c: (c.nr_running, -c.index))
        surplus = (busiest.nr_running - cpu.nr_running) // 2
        if busiest.queue is cpu.queue or surplus <= 0 or (not idle and surplus < (busiest.nr_running + 3) // 4):
            return
        for _ in range(surplus):
            queue = busiest.queue.expired or busiest.queue.active
            if not queue:
                return
            entity = queue.pop()
            entity.cpu = cpu
            cpu.queue.active.append(entity)

    def _wake_idle_cpus(self) -> None:
        """Somebody waits for a CPU: those that are idle look for work, at their next tick or, with one queue, now."""
        if not any(c.queue for c in self.cpus):
            return
        tick = self.rules.tick_ns
        if self.rules.one_queue:
            while self.cpus[0].queue and (idle := self._idle_cpus()):
                self._dispatch(idle[0])
            return
        for cpu in self.cpus:
            if cpu.current is None and not cpu.tick_pending:
                cpu.tick_pending = True
                self._at((self.now_ns // tick + 1) * tick, _TICK, cpu)

    def _idle_cpus(self) -> list[Cpu]:
        """Those without work; where siblings are known, CPUs on idle cores first (2.4.27 kernel/sched.c, reschedule_idle)."""
        idle = [cpu for cpu in self.cpus if cpu.current is None]
        return sorted(idle, key=lambda cpu: cpu.shares_core) if self.rules.knows_siblings else idle
