"""A thread of the kernel that has slept since boot: who wakes it first has the scheduler start it.

    KernelThread(sched, run)  .wake()  run begins, beside programs, on a CPU of its own if one is idle      .sleep(), in run, until the next .wake()

It has no address space, and borrows that of whom it follows. Who drives a machine from outside has no scheduler that would run it.

Source: 2.6.2 mm/vmscan.c, kswapd; mm/pdflush.c, __pdflush; 2.4.27 mm/vmscan.c, kswapd.
"""

from collections.abc import Callable

from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler


class KernelThread:
    """One of them. `run` never returns; `slice_ns` is what it brings along, if it is not as a new one."""

    def __init__(self, sched: Scheduler, run: Callable[[], None], *, name: str = "", slice_ns: int = 0) -> None:
        self._sched, self._run, self._slice_ns = sched, run, slice_ns
        self.entity = SchedEntity()
        self.entity.comm = name
        self._began = False

    def wake(self) -> None:
        """It sleeps, and goes on. From within a task."""
        if self._began:
            self._sched.wake(self.entity)
            return
        self._began = True
        self.entity.slice_ns = self._slice_ns
        self._sched.start(self.entity, self._run, kernel_thread=True)
