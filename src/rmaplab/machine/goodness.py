"""The run queue of 2.4: one list for all CPUs, and whoever is best goes next.

    list    newest .. oldest by the time they became runnable; who runs keeps its place, and so does who is preempted
    counter ticks left of a slice
    weight  0 without any; else counter + 20, + 15 on the CPU it last ran on, + 1 for who has the CPU's address space

A CPU that looks for work reads the whole list: O(n). The first of the heaviest goes. When nobody on the list has a tick left,
everybody who lives, asleep or not, gets a slice and keeps half of what was left: so who sleeps gathers up to two slices,
and is preferred when it wakes. That is why a parent that waited for its child is soon back to reap it.

Source: 2.4.27 kernel/sched.c, goodness, schedule, add_to_runqueue, reschedule_idle; include/asm-i386/smp.h, PROC_CHANGE_PENALTY.
"""

from __future__ import annotations

from rmaplab.machine.runqueue import Cpu, RunQueue, SchedEntity

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

    def preempted(self, entity: SchedEntity) -> None:
        """It keeps its place."""
        self.active.append(entity)

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
