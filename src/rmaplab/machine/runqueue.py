"""A task as the scheduler sees it, the CPU it runs on, and the queue between them: that of 2.6's O(1) scheduler, one per CPU.

    active    [A] [B] [C]      the head goes next; who wakes stands at the tail; a fork's child just before its parent
    expired   [D] [E]          a new slice already; the two change places when nobody is active

Source: 2.6.2 kernel/sched.c, schedule, scheduler_tick, wake_up_forked_process.
"""

from collections import deque
from typing import Protocol

from greenlet import greenlet


class CpuMask(Protocol):
    """An address space, as far as CPUs load it: bit n of `cpu_vm_mask` says that CPU n is told of its changes (tlb.py)."""

    cpu_vm_mask: int


class SchedEntity:
    """What the scheduler knows about a task (the sched part of task_struct)."""

    def __init__(self) -> None:
        self.comm = ""
        """Its name, where it has one."""
        self.mm: CpuMask | None = None
        self.context: greenlet | None = None
        self.cpu: Cpu | None = None
        self.slice_ns = 0
        self.first_slice = True
        self.need_resched = False
        self.fatal = False  # SIGKILL is pending
        self.memalloc = False  # PF_MEMALLOC: it makes room for others
        self.memdie = False  # PF_MEMDIE: it is to die, so that there is room
        self.writes_to_disk = False  # backing_dev_info: it is in the middle of a write(2) to the one disk
        self.expired = False
        self.user_ns = 0
        self.system_ns = 0
        self.sequence = 0  # of its one event to come
        self.since_ns = -1  # when the work began that it is in the middle of, while others are due; -1: it is in none
        self.in_user = False  # whether that is work in user mode
        self.woken = 0  # 2.4: the greater, the nearer to the front of the list


class RunQueue:
    """Tasks that wait for a CPU."""

    def __init__(self) -> None:
        self.active: deque[SchedEntity] = deque()
        self.expired: deque[SchedEntity] = deque()

    def __len__(self) -> int:
        return len(self.active) + len(self.expired)

    def add(self, entity: SchedEntity) -> None:
        """It has become runnable: to the tail."""
        self.active.append(entity)

    def add_child(self, entity: SchedEntity, *, expired: bool) -> None:
        """A fork's child stands before its parent, whom the tick may have queued with the expired."""
        if expired:
            self.expired.append(entity)
        else:
            self.active.appendleft(entity)

    def expire(self, entity: SchedEntity) -> None:
        """Its slice is used up."""
        self.expired.append(entity)

    def preempted(self, entity: SchedEntity) -> None:
        """It makes way for whoever stands first now, and keeps its place: second."""
        self.active.insert(1, entity)

    def forget(self, entity: SchedEntity) -> None:
        """It lives no more."""

    def take(self, cpu: "Cpu") -> SchedEntity | None:
        """The head of the active tasks; active and expired change places when there is none."""
        if not self.active:
            self.active, self.expired = self.expired, self.active
        return self.active.popleft() if self.active else None


class Cpu:
    """A CPU: the task that runs on it, and the queue it takes the next from."""

    def __init__(self, index: int, queue: RunQueue) -> None:
        self.index = index
        self.queue = queue
        self.current: SchedEntity | None = None
        self.last: SchedEntity | None = None
        """Who ran before: its address space is still the CPU's."""
        self.ran: SchedEntity | None = None
        """Who runs, None for the idle task, as schedule() has decided last."""
        self.idle_since_ns = 0
        self.nr_iowait = 0
        """Tasks that went to sleep here until a disk is done, and have not gone on yet."""
        self.tick_pending = False
        self.last_balance_ns = 0
        self.siblings: tuple[Cpu, ...] = ()
        self.left_ns = 0  # of the work under way, as it would take alone
        self.since_ns = 0
        self.permille = 1000

    @property
    def shares_core(self) -> bool:
        """Whether a sibling works."""
        return any(sibling.current is not None for sibling in self.siblings)

    @property
    def nr_running(self) -> int:
        """Tasks that run or could."""
        return len(self.queue) + (self.current is not None)
