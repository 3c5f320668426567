"""A process: what its threads have in common beside their address space.

    Process (pid of its first thread)
      threads      each a task of the simulated kernel, with registers of its own (thread.py)
      descriptors  what open files its numbers mean (files/open_file.py)
      handlers     what it does on a signal (signals.py)
      children     processes that wait4 tells of

A thread is to the simulated kernel a task that shares an address space (clone(CLONE_VM)); that they are one process is known here. So it is on
every kernel, those of 2004 included, whose thread groups are not modelled.

Source: kernel/fork.c, copy_process; kernel/exit.c, do_exit, wait_task_zombie; 6.18.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rmaplab.calls.task import Task
from rmaplab.cpu.abi import Abi
from rmaplab.cpu.engine import Space
from rmaplab.cpu.files.open_file import Descriptors
from rmaplab.cpu.pending import PendingSignals, SignalInfo
from rmaplab.cpu.waiting import Sleeper, WaitQueue
from rmaplab.machine.timer import Timer

SIGALRM, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH = 14, 17, 18, 19, 20, 21, 22, 23, 28
IGNORED_BY_DEFAULT = (SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU)
"""Those that stop a process among them: job control is not modelled, and nobody would let it go on."""
SIG_DFL, SIG_IGN = 0, 1
SA_NOCLDWAIT, SA_SIGINFO, SA_RESTORER = 2, 4, 0x0400_0000
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x0800_0000, 0x1000_0000, 0x4000_0000, 0x8000_0000
CLD_EXITED, CLD_KILLED = 1, 2
FATAL = 0x7F
"""Of a status: the signal."""
DEFAULT_UMASK = 0o022


@dataclass(frozen=True)
class Action:
    """struct sigaction."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


class MemberThread(Sleeper, Protocol):
    """A thread, as its process knows it."""

    task: Task
    process: Process
    ends_alone: bool

    def send(self, info: SignalInfo) -> None:
        """A signal for this thread."""

    def rouse(self) -> None:
        """It goes on, whether or not what it waits for is there."""

    @property
    def wanted(self) -> bool:
        """Whether a signal wants it."""


class Process:
    """One process. `ended` is its status as wait4 has it, once all its threads are gone; None before."""

    def __init__(self, pid: int, parent: Process | None, abi: Abi) -> None:
        self.pid = pid
        self.parent = parent
        self.abi = abi
        self.threads: list[MemberThread] = []
        self.first_task: Task | None = None
        """Of the thread whose number is the process's."""
        self.children: list[Process] = []
        self.descriptors = Descriptors()
        self.handlers: dict[int, Action] = {}
        self.pending = PendingSignals()
        """Signals for any of its threads."""
        self.pgid = self.sid = pid
        self.cwd: Any = None
        self.root: Any = None
        """Directories of the tree of files."""
        self.umask = DEFAULT_UMASK
        self.name = b""
        """comm."""
        self.executable = b""
        """The path of its program, as /proc/self/exe has it."""
        self.arguments: list[bytes] = []
        self.space: Space | None = None
        self.child_changed = WaitQueue()
        self.threads_changed = WaitQueue()
        self.dying: int | None = None
        """exit_group: the status that all its threads end with."""
        self.ended: int | None = None
        self.exit_signal = SIGCHLD
        self.alarm_ns = 0
        self.alarm: Timer | None = None
        self.alarm_interval_ns = 0
        self.alarm_taken: Callable[[], None] | None = None
        """What the next SIGALRM that is taken is to do."""
        self.limits: dict[int, tuple[int, int]] = {}
        self.children_user_ns = self.children_system_ns = 0
        self.user_ns = self.system_ns = 0
        self.min_faults = 0
        self.start_code = self.start_stack = 0
        self.personality = 0

    def has_taken(self, number: int) -> None:
        """dequeue_signal: a signal is not pending any more."""
        if number == SIGALRM and self.alarm_taken is not None:
            does, self.alarm_taken = self.alarm_taken, None
            does()

    def fork(self, pid: int, *, files_shared: bool, handlers_shared: bool) -> Process:
        """The process of a child."""
        child = Process(pid, self, self.abi)
        self.children.append(child)
        if files_shared:
            child.descriptors = self.descriptors
            child.descriptors.users += 1
        else:
            child.descriptors = self.descriptors.copy()
        child.handlers = self.handlers if handlers_shared else dict(self.handlers)
        child.pgid, child.sid, child.cwd, child.root, child.umask = self.pgid, self.sid, self.cwd, self.root, self.umask
        child.name, child.executable, child.arguments = self.name, self.executable, self.arguments
        child.limits, child.personality = dict(self.limits), self.personality
        child.start_code, child.start_stack = self.start_code, self.start_stack
        return child

    def action(self, signal: int) -> Action:
        """What it does on `signal`."""
        return self.handlers.get(signal, _DEFAULT)

    def ignores(self, signal: int) -> bool:
        """Whether nothing comes of `signal`."""
        handler = self.action(signal).handler
        return handler == SIG_IGN or (handler == SIG_DFL and signal in IGNORED_BY_DEFAULT)


_DEFAULT = Action()


def exited(code: int) -> int:
    """The status of a process that has called exit(code)."""
    return (code & 0xFF) << 8


def how(status: int) -> tuple[int, int]:
    """What a siginfo of SIGCHLD says of that: its si_code, and the exit code or the signal's number."""
    return (CLD_KILLED, status & FATAL) if status & FATAL else (CLD_EXITED, status >> 8)


def killed(signal: int) -> int:
    """Of one that a signal has ended."""
    return signal
