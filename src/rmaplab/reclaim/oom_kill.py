"""Out of memory, with nothing that can be reclaimed, or not any more: what the kernel of the day does then.

    2.4      the allocation fails: ENOMEM, and a fault kills its task (Kernel does that itself); with CONFIG_OOM_KILLER, which nobody can ask for
             here, as 2.6.2
    2.6.2    badness: who has mapped most, and has worked and lived least, root a sixteenth of that; the first of those alike
    6.18     oom_badness: who has most pages and page tables in memory; the last of those alike, no vfork child
             with the chosen one die all who share its address space; then the allocation is tried again

With swap a kernel makes room there first: 2.4 (virtual.py) gives up when it finds nothing; 2.6.2 to 2.6.7 (direct.py) call out_of_memory() then, which kills when that has gone on for long
enough. The reclaim of 6.18 is not here, so that is NotModelled.

Left out: a victim that wants a lock which the caller holds (a segment's, in shmget): it frees its memory first and waits then, and here it cannot wait; on a box without swap, the seconds until
2.4 to 2.6.7 believe that memory is out; that they send SIGTERM to who has CAP_SYS_RAWIO; nice; oom_score_adj.

Source: 2.4.27, 2.6.2, 2.6.7 mm/oom_kill.c, select_bad_process, oom_kill (reclaim.md B.4); 6.18 mm/oom_kill.c, oom_badness, select_bad_process,
oom_evaluate_task, __oom_kill_process.
"""

from collections.abc import Callable, Iterator
from math import isqrt

from rmaplab.errors import NoMemory, NotModelled
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.process import do_exit
from rmaplab.objects.task import TaskStruct
from rmaplab.reclaim.badness import badness, rough_root, select_bad_process
from rmaplab.reclaim.out_of_memory import OutOfMemory

SIGKILL = 9


class OomKiller:
    """Installed on a kernel whose tasks are driven from outside: those that do not call are at rest, and may be killed at once.

    `chosen` is the caller, if it was: its call must be undone first (NoMemory goes up). Whoever made it calls kill_chosen() then.
    `told` is called when somebody is about to die: memory is full as yet.
    """

    def __init__(self, k: Kernel) -> None:
        self.k = k
        self.chosen: TaskStruct | None = None
        self.told: Callable[[], None] = _nobody
        self.memory = OutOfMemory(10**9 // k.machine.sched.rules.tick_ns)
        if k.machine.swap_pages or not k.rules.small_allocations_fail:
            k.machine.allocator.reclaim = self._out_of_memory

    def choose(self) -> TaskStruct | None:
        """Whom the kernel of the day would kill now; None if nobody can be. O(tasks)."""
        tasks = list(self._task_list())
        if self.k.rules.oom_last_of_equals:
            tasks.reverse()
        if self.k.rules.oom_counts_resident:
            living = [task for task in tasks if task.mm is not None and not self._is_spared(task)]
            return max(living, key=self._resident, default=None)
        pid = select_bad_process((task.pid, self._badness(task), False) for task in tasks)
        return None if pid is None else self.k.tasks[pid]

    def oom_kill(self, wanted: str) -> None:
        """Somebody dies, and all who share its memory. Raises NoMemory, which says what was `wanted`: nobody can be killed (2.6 panics), the caller is `chosen`, or swapoff is."""
        if self.k.swapoff_runs and self.k.rules.oom_kills_swapoff:
            self.k.swapoff_is_killed = True
            raise NoMemory(f"{wanted}: swapoff is killed for them", waiting_helps=True)
        victim, caller = self.choose(), self.k.current
        if victim is None:
            raise NoMemory(f"{wanted}, and nobody is left to kill", waiting_helps=True)
        if caller is not None and victim.mm is caller.mm:
            self.chosen = caller
            raise NoMemory(f"{wanted}: task {caller.pid} is killed for them", waiting_helps=True)
        self._kill(victim)

    def out_of_memory(self, wanted: str) -> None:
        """Reclaim has found nothing: somebody dies if it has been so for long enough. Raises as oom_kill."""
        sched = self.k.machine.sched
        if self.memory.kills(sched.now_ns // sched.rules.tick_ns, self.k.swap.nr_free):
            self.told()
            self.oom_kill(wanted)

    def kill_chosen(self) -> bool:
        """The caller dies, if it was chosen, and all who share its memory: whether it was."""
        victim, self.chosen = self.chosen, None
        if victim is not None:
            self._kill(victim)
        return victim is not None

    def _out_of_memory(self, nr: int, order: int) -> None:
        if self.k.machine.swap_pages:
            raise NotModelled(
                "RAM is full, and pages would go to swap: this kernel's reclaim is not here yet; use 2.4.21 or 2.6.2 to 2.6.7, fewer pages, or a box without swap"
            )
        self.oom_kill(f"{nr} blocks of order {order}")

    def _kill(self, victim: TaskStruct) -> None:
        """All threads and processes of its address space, in a context of their own: whoever asks for memory may hold locks."""
        mm = victim.mm
        with self.k.machine.locks.apart("out_of_memory"):
            for task in list(self.k.tasks.values()):
                if task.mm is mm and task.exit_code is None:
                    do_exit(self.k, task, -SIGKILL)

    def _task_list(self) -> Iterator[TaskStruct]:
        """Processes in the order of their birth, each with its threads behind it. 6.18 looks at processes only: their threads are as bad as they."""
        for task in self.k.tasks.values():
            if task.leader is task:
                yield task
                yield from task.threads

    def _is_spared(self, task: TaskStruct) -> bool:
        """in_vfork: it has nothing of its own yet."""
        return task.parent is not None and task.parent.vfork_child is task

    def _resident(self, task: TaskStruct) -> int:
        mm = task.mm
        assert mm is not None
        return mm.rss + mm.nr_tables

    def _badness(self, task: TaskStruct) -> int:
        """In jiffies as the clock has them. A task that is driven from outside has no CPU time; root has all capabilities."""
        sched = self.k.machine.sched
        tick_ns, uid = sched.rules.tick_ns, task.limits.uid
        return badness(
            None if task.mm is None or task.fatal else task.mm.total_vm,
            (task.user_ns + task.system_ns) // tick_ns,
            sched.now_ns // tick_ns - task.start_ns // tick_ns,
            hz=10**9 // tick_ns,
            root=rough_root if self.k.rules.oom_rough_root else isqrt,
            uid=uid,
            euid=uid,
            sys_admin=uid == 0,
            sys_rawio=uid == 0,
        )


def _nobody() -> None:
    """Nobody wants to know."""
