"""CPUs, tasks and simulated time: a deterministic discrete-event machine.

    hub (run)      pops the earliest event: (time, class, sequence)
      |  switch
      v
    greenlet of task 7, on CPU 2:    ... fork copies 32 page tables ...  spend(25 ms) ----> to the task that is due next, or to the hub
                                     ... goes on when somebody pops that event ...

A system call is a plain function. Between two bursts of work it calls `spend`, which in a task's greenlet means: other CPUs
may now do what they do in that time. Kernel code is not preempted (the kernels of 2004 that we model are not built with
CONFIG_PREEMPT): only a sleep, cond_resched() or the return to user mode gives the CPU away. User time is preempted at the
end of the time slice. Driven from outside, without run(), the same calls just move the clock.

A task's slice is halved at fork, is used up by all its work, and if it never got a second one what is left goes back to its
parent when it exits. A policy decides who runs when and where (sched_policy.py), one of two: the O(1) scheduler of 2.6 (o1.py)
or 2.4's one queue (goodness.py). CPUs may share a core (smt.py).

Source: 2.6.2 kernel/sched.c; 2.4 kernel/sched.c; kernel/fork.c, do_fork; eras.md 8.
"""

import contextlib
import heapq
from collections.abc import Callable
from typing import Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from rmaplab.errors import KernelBug
from rmaplab.machine.cpu_times import CpuTimes, IdleClock
from rmaplab.machine.goodness import GoodnessPolicy
from rmaplab.machine.o1 import O1Policy
from rmaplab.machine.runqueue import Cpu, SchedEntity
from rmaplab.machine.sched_policy import SchedPolicy, SchedRules
from rmaplab.machine.smt import NO_SMT, Smt
from rmaplab.machine.timer import Timer, Waited, nothing


class Observer(Protocol):
    """Who wants to see every burst of work, and the pieces in which it was done."""

    def burst(self, entity: SchedEntity, ns: int) -> None:
        """`entity` is to work for `ns`, as the ledger has it."""

    def work(self, entity: SchedEntity, began_ns: int, ended_ns: int, *, user: bool) -> None:
        """`entity` had a CPU and worked from `began_ns` to `ended_ns`."""


_GO_ON, _TICK, _TIMER = 0, 1, 2  # event classes: at equal times running tasks go before ticks, and ticks before timers


class Scheduler:
    """The event heap, the CPUs and the clock (`now_ns`)."""

    def __init__(self, rules: SchedRules, nr_cpus: int, smt: Smt = NO_SMT) -> None:
        self.rules = rules
        self.smt = smt
        self.observer: Observer | None = None
        self.now_ns = 0
        self._policy: SchedPolicy = (GoodnessPolicy if rules.one_queue else O1Policy)(rules, self)
        self.cpus = [Cpu(i, self._policy.queue()) for i in range(nr_cpus)]
        smt.pair_up(self.cpus)
        self.current: SchedEntity | None = None
        self.user_ns = 0
        self.system_ns = 0
        self._events: list[tuple[int, int, int, SchedEntity | Cpu | Timer]] = []
        self._sequence = 0
        self._waited = Waited()
        self._idle = IdleClock()
        self.nr_switches = 0
        """nr_context_switches: how often a CPU went over to another task, the idle one among them."""
        self.switches = 0
        """How often a task gave way to whatever was due; more than those."""
        self._hub: greenlet | None = None
        self._abandoned = False
        self._alive: dict[SchedEntity, None] = {}
        self.switch_mm: Callable[[Cpu, SchedEntity], None] = nothing
        """Is told who runs next on a CPU (tlb.py)."""

    # -- tasks come, sleep and wake ------------------------------------------------------------------------------

    def start(self, entity: SchedEntity, body: Callable[[], None], *, kernel_thread: bool = False) -> None:
        """Make `entity` runnable: a fork's child on its parent's CPU, a first task or a kernel's thread on the emptiest."""
        entity.context = greenlet(body)
        self._alive[entity] = None
        parent = None if kernel_thread else self.current
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
            entity.slice_ns = entity.slice_ns or self.rules.timeslice_ns  # who has slept long may bring some
            cpu = entity.cpu = min(self.cpus, key=lambda c: c.nr_running)
            cpu.queue.add(entity)
            if cpu.current is None:
                self.dispatch(cpu)
        self._policy.runnable(entity)

    def alive(self) -> list[SchedEntity]:
        """Whoever was started and has not come to its end, kernel threads among them, in order of birth. O(those)."""
        return list(self._alive)

    def running(self) -> SchedEntity | None:
        """Whose greenlet this is, also where somebody else acts in his place (Locks.apart). None: driven from outside, or the hub. O(those alive)."""
        here = getcurrent()
        return next((entity for entity in self._alive if entity.context is here), None)

    def exited(self, entity: SchedEntity, parent: SchedEntity | None) -> None:
        """sched_exit: an unused first slice goes back to the parent."""
        if parent is not None and entity.first_slice:
            parent.slice_ns = min(parent.slice_ns + max(entity.slice_ns, 0), self.rules.max_timeslice_ns)

    def sleep(self, *, io: bool = False) -> None:
        """The running task sleeps until somebody wakes it. `io`: for a disk, and its CPU waits for that until it goes on (io_schedule)."""
        entity = self.current
        if entity is None:
            raise KernelBug("schedule", "nobody is running that could sleep")
        cpu = entity.cpu
        if not io or cpu is None:
            self._leave(entity)
            return
        cpu.nr_iowait += 1
        self._leave(entity)
        self._idle.reach(cpu, self.now_ns)
        cpu.nr_iowait -= 1

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
            self.dispatch(cpu)
            return
        self._policy.runnable(entity)

    def spin(self) -> None:
        """The running task waits for a spinlock and keeps its CPU, until stop_spinning."""
        entity = self.current
        if entity is None:
            raise KernelBug("spin_lock", "nobody is running that could spin")
        began = self.now_ns
        self._give_way(entity, user=False)
        spun = self.now_ns - began
        entity.system_ns += spun
        self.system_ns += spun
        self._use_slice(entity, spun)

    def stop_spinning(self, entity: SchedEntity) -> None:
        """The lock that it spins for is free: it goes on now."""
        self._at(self.now_ns, _GO_ON, entity)

    def at(self, when_ns: int, action: Callable[[], None], *, watches: bool = False) -> Timer:
        """A timer: `action` is called at `when_ns`, while run() lasts, in no task's name. It may wake tasks.

        One that `watches` changes nothing: when nothing else is to come it is dropped, and the clock stays where it is.
        """
        timer = Timer(action, self._waited, watches=watches)
        self._at(when_ns, _TIMER, timer)
        return timer

    def cpu_times(self) -> CpuTimes:
        """As it is now, with work that is under way. O(CPUs)."""
        return self._idle.times(self.cpus, self.now_ns, self.user_ns, self.system_ns)

    def this_cpu(self) -> int:
        """smp_processor_id(); 0 when driven from outside."""
        current = self.current
        return current.cpu.index if current is not None and current.cpu is not None else 0

    # -- time passes ---------------------------------------------------------------------------------------------

    def spend(self, ns: int, *, user: bool) -> None:
        """The running task works for `ns`. Kernel time is spent in one piece; user time may be cut by the slice."""
        entity = self.current
        if entity is None:
            self.now_ns += ns
            self.user_ns += ns * user
            self.system_ns += ns * (not user)
            return
        if not user:
            self._pass(entity, ns, user=False)
            return
        while ns > 0:
            if entity.need_resched:
                self.cond_resched()
            step = min(ns, self.work_in(entity.slice_ns))
            self._pass(entity, step, user=True)
            ns -= step

    def work_in(self, ns: int) -> int:
        """How much work the running task gets done in `ns`, if its siblings go on as they do now."""
        cpu = self.current.cpu if self.current is not None else None
        return ns if cpu is None or not cpu.siblings else self.smt.work_in(cpu, ns)

    def lasts(self, ns: int) -> int:
        """How long the running task needs for work of `ns`, if its siblings go on as they do now."""
        cpu = self.current.cpu if self.current is not None else None
        return ns if cpu is None or not cpu.siblings else self.smt.lasts(cpu, ns)

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

    def run(self, until_ns: int | None = None) -> None:
        """Run until nobody can, or until that time, and it may go on. An exception in a task's program comes out here."""
        self._hub = getcurrent()
        if until_ns is not None:
            self.at(until_ns, nothing, watches=True)
        while self._events and (until_ns is None or self.now_ns < until_ns):
            when_ns, _, sequence, target = heapq.heappop(self._events)
            if isinstance(target, Cpu):
                target.tick_pending = False
                if target.current is None and any(cpu.queue for cpu in self.cpus):
                    self.now_ns = max(self.now_ns, when_ns)
                    self._policy.tick(target)
                continue
            if isinstance(target, Timer):
                if target.watches and not self._goes_on:
                    continue
                target.leave()
                self.now_ns = max(self.now_ns, when_ns)
                target.action()
                continue
            if sequence != target.sequence:  # its work takes longer or shorter than was thought then
                continue
            self.now_ns = max(self.now_ns, when_ns)  # whoever drove from outside may have been further
            try:
                self._switch_to(target)
            finally:  # tasks switch to each other: who comes back is not always who went
                last, self.current = self.current, None
                if last is not None and last.context is not None and last.context.dead and last.cpu is not None:
                    cpu, last.cpu, last.context = last.cpu, None, None
                    cpu.queue.forget(last)
                    self._alive.pop(last, None)
                    cpu.current = None
                    self.dispatch(cpu)

    def abandon(self) -> None:
        """Let go of every task that has not come to its end: nobody will run it again.

        A suspended greenlet's stack is out of the garbage collector's sight, and holds the whole machine.
        """
        self._events.clear()
        self._abandoned = True
        for entity in list(self._alive):
            if entity.context is not None and entity.context and not entity.context.dead:
                self.current = entity
                entity.context.parent = getcurrent()
                with contextlib.suppress(BaseException):  # what its cleaning up meets is nobody's concern now
                    entity.context.throw(GreenletExit)
            entity.context = None
        self._alive.clear()
        self._events.clear()
        self._waited = Waited()
        self.current = None
        self._abandoned = False

    # -- what the policy asks of the engine ------------------------------------------------------------------------------

    def dispatch(self, cpu: Cpu) -> None:
        """Give an empty CPU its next task, if there is one for it."""
        entity = self._policy.next_task(cpu)
        if entity is not cpu.ran:
            self._idle.reach(cpu, self.now_ns)
            self.nr_switches += 1
            cpu.ran, cpu.idle_since_ns = entity, self.now_ns
        cpu.current = entity
        if entity is not None:
            entity.cpu = cpu
            cpu.last = entity
            self.switch_mm(cpu, entity)
            self._at(self.now_ns, _GO_ON, entity)
        if cpu.siblings:
            self._core_changed(cpu)

    def ask_for_tick(self, cpu: Cpu) -> None:
        """An idle CPU is to look for work at the next tick."""
        if not cpu.tick_pending:
            cpu.tick_pending = True
            self._at((self.now_ns // self.rules.tick_ns + 1) * self.rules.tick_ns, _TICK, cpu)

    # -- inside ---------------------------------------------------------------------------------------------------

    @property
    def _goes_on(self) -> bool:
        """Whether anything is to come but who watches."""
        return self._waited.nr > 0 or any(cpu.current is not None or cpu.queue for cpu in self.cpus)

    def _at(self, when_ns: int, event_class: int, target: SchedEntity | Cpu | Timer) -> None:
        self._sequence += 1
        if isinstance(target, SchedEntity):
            target.sequence = self._sequence
        heapq.heappush(self._events, (when_ns, event_class, self._sequence, target))

    def _switch_away(self) -> None:
        """The running task stops here: to whoever is due, straight if that is a task, else by way of the hub."""
        if self._abandoned:  # what it does on its way out takes no time, and nobody else runs
            raise GreenletExit
        if self._hub is None:
            raise KernelBug("schedule", "no hub to switch to")
        self.switches += 1
        if self._events:
            when_ns, _, sequence, target = self._events[0]
            # who has not begun is begun by the hub: a greenlet's stack is as deep as that of who started it, and more
            if isinstance(target, SchedEntity) and sequence == target.sequence and target.context:
                heapq.heappop(self._events)
                self.now_ns = max(self.now_ns, when_ns)
                if target is not self.current:
                    self._switch_to(target)
                return
        self._hub.switch()

    def _switch_to(self, entity: SchedEntity) -> None:
        """A task goes on; when it comes to its end the hub does."""
        context = entity.context
        if context is None:
            raise KernelBug("schedule", "a task without a context runs")
        context.parent = self._hub
        self.current = entity
        context.switch()

    def _pass(self, entity: SchedEntity, ns: int, *, user: bool) -> None:
        """Work of `ns`; it takes longer while a sibling works, and what it took is what is accounted. No switch if nobody is due before."""
        cpu, began = entity.cpu, self.now_ns
        if cpu is not None and cpu.siblings:
            cpu.left_ns = ns
            self._at(self.smt.set_off(cpu, began), _GO_ON, entity)
            self._give_way(entity, user=user)
            cpu.left_ns = 0
        else:
            self._sequence = entity.sequence = sequence = self._sequence + 1
            if self._events and self._events[0][:2] <= (began + ns, _GO_ON):
                heapq.heappush(self._events, (began + ns, _GO_ON, sequence, entity))
                self._give_way(entity, user=user)
            else:
                self.now_ns = began + ns
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

    def _give_way(self, entity: SchedEntity, *, user: bool) -> None:
        """In the middle of its work, to who is due before."""
        entity.since_ns, entity.in_user = self.now_ns, user
        self._switch_away()
        entity.since_ns = -1

    def _core_changed(self, cpu: Cpu) -> None:
        """A CPU began or ended to work: its siblings' work goes on at another pace."""
        for sibling in cpu.siblings:
            if sibling.left_ns and sibling.current is not None:
                self.smt.set_down(sibling, self.now_ns)
                self._at(self.smt.set_off(sibling, self.now_ns), _GO_ON, sibling.current)

    def _use_slice(self, entity: SchedEntity, ns: int) -> None:
        """scheduler_tick: a slice that is used up is renewed, and the task is to leave the CPU when it can."""
        entity.slice_ns -= ns
        if entity.slice_ns <= 0:
            entity.slice_ns = self._policy.renewed_ns
            entity.first_slice = False
            entity.expired = entity.need_resched = True

    def _leave(self, entity: SchedEntity) -> None:
        """schedule(): the CPU goes to the next task, and this one stops here until it is dispatched again."""
        if entity.cpu is None:
            raise KernelBug("schedule", "a task leaves a CPU it is not on")
        entity.cpu.current = None
        self.dispatch(entity.cpu)
        self._policy.wake_idle()
        self._switch_away()
