"""The scheduler of 2.4: one list for all CPUs, and whoever is best goes next.

    fork    half the slice; the child goes to an idle CPU at once (an interrupt, no tick) or waits, the parent goes on
    wake    to an idle CPU at once; where there is none, whoever weighs less by most makes way
    exit    what is left of a first slice goes back to the parent

    list    newest .. oldest by the time they became runnable; a running task keeps its place, and so does a preempted one
    counter ticks left of a slice
    weight  0 without any; else counter + 20, + 15 on the CPU it last ran on, + 1 for who has the CPU's address space

A CPU that looks for work reads the whole list: O(n). The first of the heaviest goes. When nobody on the list has a tick left,
everybody who lives, asleep or not, gets a slice and keeps half of what was left: so a sleeper gathers up to two slices, and is
preferred when it wakes. That is why a parent that waited for its child is soon back to reap it.

Source: 2.4.27 kernel/sched.c, goodness, schedule, add_to_runqueue, reschedule_idle; kernel/fork.c, do_fork; kernel/exit.c,
release_task; include/asm-i386/smp.h, PROC_CHANGE_PENALTY.
"""

from rmaplab.machine.runqueue import Cpu, RunQueue, SchedEntity
from rmaplab.machine.sched_policy import Engine, SchedPolicy, SchedRules

PROC_CHANGE_PENALTY = 15
NICE_0 = 20


class GoodnessQueue(RunQueue):
    """All tasks that wait for any CPU, in no order; `everybody` are all that live."""

    def __init__(self, tick_ns: int, slice_ns: int) -> None:
        super().__init__()
        self.everybody: dict[SchedEntity, None] = {}
        self._tick_ns, self._slice_ns = tick_ns, slice_ns
        self._nr_woken = 0

    def add(self, entity: SchedEntity) -> None:
        """To the front of the list."""
        self._nr_woken += 1
        entity.woken = self._nr_woken
        self.everybody[entity] = None
        self.active.append(entity)

    def add_child(self, entity: SchedEntity, *, expired: bool) -> None:
        """As anybody."""
        del expired
        self.add(entity)

    def expire(self, entity: SchedEntity) -> None:
        """It keeps its place."""
        self.active.append(entity)

    preempted = expire

    def forget(self, entity: SchedEntity) -> None:
        """It lives no more."""
        self.everybody.pop(entity, None)

    def take(self, cpu: Cpu) -> SchedEntity | None:
        """The best for this CPU. O(tasks)."""
        if not self.active:
            return None
        best = max(self.active, key=lambda entity: (self.weight(entity, cpu), entity.woken))
        if not self.weight(best, cpu):
            for entity in self.everybody:
                entity.slice_ns = max(entity.slice_ns, 0) // 2 + self._slice_ns
            best = max(self.active, key=lambda entity: (self.weight(entity, cpu), entity.woken))
        self.active.remove(best)
        return best

    def weight(self, entity: SchedEntity, cpu: Cpu) -> int:
        """goodness()."""
        if entity.slice_ns <= 0:
            return 0
        counter = -(-entity.slice_ns // self._tick_ns)
        return counter + NICE_0 + (PROC_CHANGE_PENALTY if entity.cpu is cpu else 0) + (entity is cpu.last)

    def to_preempt(self, entity: SchedEntity, cpus: list[Cpu]) -> SchedEntity | None:
        """Who should make way for a task that has just become runnable: whom it outweighs most, if anybody."""
        most, victim = 0, None
        for cpu in cpus:
            if cpu.current is not None:
                gain = self.weight(entity, cpu) - self.weight(cpu.current, cpu)
                if gain > most:
                    most, victim = gain, cpu.current
        return victim


class GoodnessPolicy(SchedPolicy):
    """2.4: who waits, waits for any CPU, and no CPU is idle meanwhile. A slice that is used up stays so until all are."""

    renewed_ns = 0

    def __init__(self, rules: SchedRules, engine: Engine) -> None:
        super().__init__(rules, engine)
        self._queue = GoodnessQueue(rules.tick_ns, rules.timeslice_ns)

    def queue(self) -> RunQueue:
        """The same for all."""
        return self._queue

    def next_task(self, cpu: Cpu) -> SchedEntity | None:
        """The best for this CPU. O(tasks)."""
        return self._queue.take(cpu)

    def wake_idle(self) -> None:
        """At once, one after the other."""
        while self._queue and (idle := self.idle_cpus()):
            self.engine.dispatch(idle[0])

    def runnable(self, entity: SchedEntity) -> None:
        """reschedule_idle: an idle CPU takes it, or whoever weighs less by most is to make way."""
        self.wake_idle()
        if entity in self._queue.active:
            victim = self._queue.to_preempt(entity, self.engine.cpus)
            if victim is not None:
                victim.need_resched = True
