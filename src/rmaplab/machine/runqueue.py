"""The run queue of 2.6's O(1) scheduler, one per CPU: tasks with some of their slice left, and tasks without.

    active    [A] [B] [C]      the head goes next; who wakes stands at the tail; a fork's child just before its parent
    expired   [D] [E]          a new slice already; the two change places when nobody is active

Source: 2.6.2 kernel/sched.c, schedule, scheduler_tick, wake_up_forked_process.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmaplab.machine.sched import Cpu, SchedEntity


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

    def take(self, cpu: Cpu) -> SchedEntity | None:
        """The head of the active tasks; active and expired change places when there is none."""
        if not self.active:
            self.active, self.expired = self.expired, self.active
        return self.active.popleft() if self.active else None
