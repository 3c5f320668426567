"""The out-of-memory killer among programs that run: it sends a signal, and the victim dies when it gets there.

    task 7   fork() ... no memory: try_to_free_pages ... out_of_memory() ----> task 3 has mapped most: SIGKILL
    task 3   sleeps in wait()        is woken, and dies
             touches pages           dies when the fault is over, back in user mode
             wants memory itself     is a victim: gets none (NULL), so that its call ends, and it dies

The same choice as oom_kill.py, by badness; who is dying already is not chosen again. Whoever shares the victim's address space dies with it.

Left out: that a victim may have the last pages below the min marks (PF_MEMDIE): here it gets NULL, and dies of that; that its time slice is raised.

Source: 2.4.27, 2.6.2, 2.6.7 mm/oom_kill.c, oom_kill, __oom_kill_task; kernel/signal.c; reclaim.md B.4.
"""

from rmaplab.errors import NoMemory
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.task import TaskStruct
from rmaplab.reclaim.oom_kill import OomKiller


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
        task.fatal = True
        if task.waits:
            task.waits = False
            self.k.machine.sched.wake(task)
