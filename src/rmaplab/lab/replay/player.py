"""Makes the calls of a plan on a booted system, one after the other, from outside.

Where the kernel has put a region is remembered by region, whoever maps it: a child has it where its parent has. What fails here and went well on the
host, or the other way round, is counted by call and errnos; what had been made by a call that should have failed is unmapped again. A
call about what is not there, because what should have made it has failed here, is `lost`.

What of memory is touched strace does not tell. Three assumptions:

    none    nothing but what calls do themselves (MAP_POPULATE, mlock, read and write of files, execve's own)
    used    and what calls show: buffers, thread pointers, futex words, the top of a new thread's stack; what a loader makes read-only it has written;
            the first page of anonymous memory that may be written, and of what the heap grows by (malloc writes there); the first page of what may be
            executed of a file
    all     and every private mapping that may be written or executed, whole, when it is made or becomes so
"""

from collections import Counter
from collections.abc import Callable
from functools import partial

from rmaplab.errors import OomKilled, Oops, SegmentationFault, SyscallError, UsageError
from rmaplab.kernels.system import System
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.play_files import FilePlayer
from rmaplab.lab.replay.play_memory import MemoryPlayer
from rmaplab.lab.replay.play_processes import ProcessPlayer
from rmaplab.lab.replay.playing import NotThere

TOUCH = ("none", "used", "all")


class LogPlayer(MemoryPlayer, FilePlayer, ProcessPlayer):
    """Plays a plan on `system`. `calls` are those made, `differs` by (call, on the host, here), `not_modelled` and `lost` by call."""

    def __init__(self, system: System, plan: Plan, touch: str) -> None:
        super().__init__(system, plan, touch)
        self.calls: Counter[str] = Counter()
        self.differs: Counter[tuple[str, str, str]] = Counter()
        self.not_modelled: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.line = 0
        """Plan the log: where it is, or had to stop."""
        self._do: dict[str, Callable[..., None]] = {
            name: getattr(self, f"_{name}", None) or partial(self._ranged, name)
            for name in {step.call for step in plan.steps}
        }

    def play(self, after: Callable[[], None]) -> None:
        """All steps, in order; `after` each. Raises NoMemory, where the box is too small for them, and KernelBug."""
        do, tasks, calls = self._do, self.tasks, self.calls
        for step in self.plan.steps:
            self.line, who, name, about, expected = step
            task, got = tasks[who], ""
            if name != "spawn" and (task is None or task.mm is None):
                if expected is not None:
                    self.lost[name] += 1
                continue
            try:
                do[name](task, step, *about)
            except SyscallError as error:
                got = error.name
            except (NotThere, SegmentationFault) as error:
                if expected is not None or isinstance(error, SegmentationFault):
                    self.lost[name] += 1
                continue
            except UsageError:  # NotModelled among them
                self.not_modelled[name] += 1
                continue
            except (OomKilled, Oops) as error:
                got = type(error).__name__
            if expected is not None:
                calls[name] += 1
                if got != expected:
                    self.differs[name, expected or "ok", got or "ok"] += 1
            after()
