"""Where one kernel's scheduler differs from another's: the small interface between the engine and its two policies.

    sched.py   the engine: clock, events, CPUs; tasks start, work, sleep, wake, exit
      |  next_task, runnable, wake_idle, tick         ^  dispatch, ask_for_tick
      v                                               |
    o1.py      2.6: a queue per CPU, ticks, balancing
    goodness.py    2.4: one queue for all CPUs

A policy says who goes next on a CPU, and makes sure that nobody who waits is overlooked. Where in a queue a task stands is the
queue's (runqueue.py, goodness.py).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from rmaplab.machine.runqueue import Cpu, RunQueue, SchedEntity


@dataclass(frozen=True)
class SchedRules:
    """Nanoseconds: what a kernel's scheduler goes by."""

    timeslice_ns: int
    max_timeslice_ns: int
    tick_ns: int
    busy_balance_ns: int
    one_queue: bool
    """All CPUs take from one queue, and none waits for a tick to look into it."""
    child_first: bool
    """A fork's child stands before its parent, who is asked to make way."""
    sync_wakes_move: bool = False
    """Who wakes a task and is about to leave its CPU takes it over (an exiting child its waiting parent)."""
    knows_siblings: bool = False
    """An idle CPU on an idle core is preferred."""


class Engine(Protocol):
    """What a policy sees of the machine that it schedules."""

    now_ns: int
    cpus: list[Cpu]

    def dispatch(self, cpu: Cpu) -> None:
        """`cpu` is idle: it takes its next task, if the policy has one for it."""

    def ask_for_tick(self, cpu: Cpu) -> None:
        """`cpu` is idle: `tick` is called for it at the next tick, if somebody waits then."""


class SchedPolicy(ABC):
    """One kernel's way to hand tasks to CPUs. One instance serves one machine."""

    renewed_ns: int
    """What a slice that is used up becomes."""

    def __init__(self, rules: SchedRules, engine: Engine) -> None:
        self.rules, self.engine = rules, engine

    @abstractmethod
    def queue(self) -> RunQueue:
        """The queue of one more CPU."""

    @abstractmethod
    def next_task(self, cpu: Cpu) -> SchedEntity | None:
        """schedule(): who goes next on a CPU, off its queue."""

    @abstractmethod
    def wake_idle(self) -> None:
        """Somebody may wait for a CPU: those that are idle are to look for work."""

    def runnable(self, entity: SchedEntity) -> None:
        """A task has been queued: an idle CPU may take it."""
        del entity
        self.wake_idle()

    def tick(self, cpu: Cpu) -> None:
        """The tick that was asked for: `cpu` is idle still, and somebody waits."""

    def idle_cpus(self) -> list[Cpu]:
        """Those without work; where siblings are known, CPUs on idle cores first (2.4.27 kernel/sched.c, reschedule_idle)."""
        idle = [cpu for cpu in self.engine.cpus if cpu.current is None]
        return sorted(idle, key=lambda cpu: cpu.shares_core) if self.rules.knows_siblings else idle
