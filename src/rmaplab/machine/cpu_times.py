"""Where the time of CPUs goes: to user and system mode, to nothing, or to nothing while a disk is waited for.

    CPU 0   |== user ==|=== system ===|      iowait       |   idle    |     iowait: nothing runs, and a task that went to sleep here waits
            task A                    A reads ......... A is read, and ended                            for a disk

Time is counted when it has passed; of work that is under way the part up to now is added when somebody asks. Changing over takes none.

Source: 2.6.2 kernel/sched.c, scheduler_tick (cpustat->iowait if rq->nr_iowait), io_schedule; 2.4 has no iowait.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rmaplab.machine.runqueue import Cpu


class CpuTimes(NamedTuple):
    """What all CPUs together have done since boot, in ns: the first line of /proc/stat."""

    user: int
    system: int
    idle: int
    iowait: int


class IdleClock:
    """The time that CPUs had nothing to do because of a disk."""

    def __init__(self) -> None:
        self._iowait_ns = 0

    def reach(self, cpu: Cpu, now_ns: int) -> None:
        """It is `now_ns`, and what the CPU has done or has waited for is about to change. O(1)."""
        if cpu.ran is None:
            if cpu.nr_iowait:
                self._iowait_ns += now_ns - cpu.idle_since_ns
            cpu.idle_since_ns = now_ns

    def times(self, cpus: Sequence[Cpu], now_ns: int, user_ns: int, system_ns: int) -> CpuTimes:
        """All of it, if `user_ns` and `system_ns` are those of work that is done. O(CPUs)."""
        for cpu in cpus:
            self.reach(cpu, now_ns)
            entity = cpu.current
            if entity is not None and entity.since_ns >= 0:
                took = now_ns - entity.since_ns
                user_ns += took * entity.in_user
                system_ns += took * (not entity.in_user)
        idle_ns = len(cpus) * now_ns - user_ns - system_ns - self._iowait_ns
        return CpuTimes(user_ns, system_ns, idle_ns, self._iowait_ns)


def nr_running(cpus: Sequence[Cpu]) -> int:
    """Tasks that run or could, where every CPU has a queue, or all have one. O(CPUs)."""
    waiting = {id(cpu.queue): len(cpu.queue) for cpu in cpus}
    return sum(waiting.values()) + sum(cpu.current is not None for cpu in cpus)
