"""The out-of-memory killer among programs that run: it sends a signal, and the victim dies when it gets there.

    task 7   fork() ... no memory: try_to_free_pages ... out_of_memory() ----> task 3 has mapped most: SIGKILL
    task 3   sleeps in wait()        is woken, and dies
             touches pages           dies when the fault is over, back in user mode
             wants memory itself     is a victim (PF_MEMDIE): has any page that is left, below all marks, so that its call ends, and it dies

The same choice as oom_kill.py, by badness; who is dying already is not chosen again. Whoever shares the victim's address space dies with it.

With the last page gone it gets NULL, and dies of that. Its time slice is a second from now on, so that it is soon over.

Source: 2.6.2, 2.6.7 mm/oom_kill.c, oom_kill, __oom_kill_task; kernel/signal.c; reclaim.md B.2, B.4.
"""

from rmaplab.errors import NoMemory
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.task import TaskStruct
from rmaplab.reclaim.oom_kill import OomKiller

SLICE_NS = 10**9
"""p->time_slice = HZ: a second."""


class SignallingKiller(OomKiller):
    """Installed on a kernel whose tasks are programs. `killed` are the pids it chose, in order."""

    def __init__(self, k: Kernel) -> None:
        super().__init__(k)
        self.killed: list[int] = []

    def oom_kill(self, wanted: str) -> None:
        """SIGKILL for somebody, and all who share its memory. Raises NoMemory: nobody can be killed (2.6 panics). Who is driven from outside dies at once."""
        if self.k.machine.sched.current is None:
            super().oom_kill(wanted)
            return
        victim = self.choose()
        if victim is None:
            raise NoMemory(f"{wanted}, and nobody is left to kill", waiting_helps=True)
        self.killed.append(victim.pid)
        mm = victim.mm
        for task in list(self.k.tasks.values()):
            if task.mm is mm and task.exit_code is None:
                self._signal(task)

    def _signal(self, task: TaskStruct) -> None:
        """force_sig(SIGKILL): who sleeps in wait() wakes; others meet it on their way."""
        task.fatal = task.memalloc = task.memdie = True
        task.slice_ns = SLICE_NS
        if task.waits:
            task.waits = False
            self.k.machine.sched.wake(task)
