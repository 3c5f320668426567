"""Out of memory, with nothing that could be reclaimed: what the kernel of the day does then.

    2.4      the allocation fails: ENOMEM, and a fault kills its task (Kernel does that itself)
    2.6.2    badness: who has mapped most, root a sixteenth of that; the first of those alike
    6.18     oom_badness: who has most pages and page tables in memory; the last of those alike, no vfork child
             with the chosen one die all who share its address space; then the allocation is tried again

With swap a kernel would make room there first. No policy says which pages here, so that is NotModelled.

Left out: a victim that wants a lock which the caller holds (a segment's, in shmget): it frees its memory first and waits then, and here it cannot wait; what time a task has run, in 2.6.2 (it counts from 8 s on), the seconds until it believes that memory is out; oom_score_adj.

Source: 2.6.2 mm/oom_kill.c, badness, select_bad_process, oom_kill; from memory; 6.18 mm/oom_kill.c, oom_badness, oom_evaluate_task,
__oom_kill_process.
"""

from rmaplab.errors import NoMemory, NotModelled
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.process import do_exit
from rmaplab.objects.task import TaskStruct

SIGKILL = 9


class OomKiller:
    """Installed on a kernel whose tasks are driven from outside: those that do not call are at rest, and may be killed at once.

    `chosen` is the caller, if it was: its call must be undone first (NoMemory goes up). Whoever made it calls kill_chosen() then.
    """

    def __init__(self, k: Kernel) -> None:
        self.k = k
        self.chosen: TaskStruct | None = None
        if k.machine.swap_pages or not k.rules.small_allocations_fail:
            k.machine.allocator.reclaim = self._out_of_memory

    def kill_chosen(self) -> bool:
        """The caller dies, if it was chosen, and all who share its memory: whether it was."""
        victim, self.chosen = self.chosen, None
        if victim is not None:
            self._kill(victim)
        return victim is not None

    def _out_of_memory(self, nr: int, order: int) -> None:
        if self.k.machine.swap_pages:
            raise NotModelled(
                "RAM is full, and pages would go to swap: nothing chooses them yet; use fewer pages, or a box without swap"
            )
        living = [task for task in self.k.tasks.values() if task.mm is not None and not self._is_spared(task)]
        if not living:
            raise NoMemory(f"{nr} blocks of order {order}, and nobody is left to kill", waiting_helps=True)
        if self.k.rules.oom_last_of_equals:
            living.reverse()
        victim, caller = max(living, key=self._points), self.k.current
        if caller is not None and victim.mm is caller.mm:
            self.chosen = caller
            raise NoMemory(f"{nr} blocks of order {order}: task {caller.pid} is killed for them", waiting_helps=True)
        self._kill(victim)

    def _kill(self, victim: TaskStruct) -> None:
        """All threads and processes of its address space, in a context of their own: whoever asks for memory may hold locks."""
        mm = victim.mm
        with self.k.machine.locks.apart("out_of_memory"):
            for task in list(self.k.tasks.values()):
                if task.mm is mm and task.exit_code is None:
                    do_exit(self.k, task, -SIGKILL)

    def _is_spared(self, task: TaskStruct) -> bool:
        """in_vfork: it has nothing of its own yet."""
        return self.k.rules.oom_counts_resident and task.parent is not None and task.parent.vfork_child is task

    def _points(self, task: TaskStruct) -> int:
        mm = task.mm
        assert mm is not None
        if self.k.rules.oom_counts_resident:
            return mm.rss + mm.nr_tables
        return mm.total_vm // (16 if task.limits.uid == 0 else 1)
