"""task_struct: what can run: a pid, an address space, open files, a family, an exit code."""

from collections.abc import Callable

from rmaplab.machine.arrays import I64
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import File, MmStruct

FIRST_FD = 3
"""Of those that are free: the standard streams are taken, by nothing that is here."""


class FilesStruct:
    """files_struct: which open file a descriptor means. Threads share one; a child has a copy, of the same open files."""

    def __init__(self, fd: dict[int, File] | None = None) -> None:
        self.fd = fd or {}
        self.users = 1

    def install(self, file: File, fd: int | None = None) -> int:
        """The descriptor that means `file` now: the lowest that is free, or `fd`, whatever it has meant. O(descriptors)."""
        fd = self.lowest() if fd is None else fd
        self.fd[fd] = file
        return fd

    def lowest(self) -> int:
        """The lowest that is free. O(descriptors)."""
        fd = FIRST_FD
        while fd in self.fd:
            fd += 1
        return fd


class TaskStruct(SchedEntity):
    """One task. A zombie once `exit_code` is set, gone once its parent has waited for it.

    `address`, `stack` and `sighand` are where its bytes lie: task_struct, kernel stack, signal handlers. `files` are its descriptors, `limits` its own,
    whomever it shares an address space with. It was born at `start_ns` of simulated time. A thread is a task whose `leader` is another: the process that it is a thread of, which has it
    among its `threads`, and its children among its own.
    """

    def __init__(
        self,
        pid: int,
        parent: "TaskStruct | None",
        mm: MmStruct,
        limits: Limits,
        address: int,
        stack: I64,
        sighand: int,
        files: FilesStruct,
    ) -> None:
        super().__init__()
        self.pid = pid
        self.parent = parent
        self.mm: MmStruct | None = mm
        self.limits = limits
        self.address = address
        self.stack = stack
        self.sighand = sighand
        self.files = files
        self.start_ns = 0
        self.children: list[TaskStruct] = []
        self.born_of: TaskStruct | None = parent  # the thread that has forked it
        self.leader: TaskStruct = self
        self.threads: list[TaskStruct] = []
        self.exit_code: int | None = None
        self.waits = False
        self.vfork_child: TaskStruct | None = None
        self.at_exit: Callable[[int], None] | None = None  # is told that it has ended, and with which exit code
