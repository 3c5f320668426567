"""task_struct: what can run: a pid, an address space, open files, a family, an exit code."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator

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


class Children:
    """The children of a process, in the order in which they came to it; and which of them have ended, in that order too, so that wait() need not look for one."""

    def __init__(self) -> None:
        self._places: dict[TaskStruct, int] = {}
        self._zombies: list[tuple[int, TaskStruct]] = []
        self._nr_ever = 0

    def append(self, child: "TaskStruct") -> None:
        """One more, behind all others; it may have ended. O(1), with a memory move where it has."""
        self._places[child] = self._nr_ever
        self._nr_ever += 1
        if child.exit_code is not None:
            self.has_ended(child)

    def has_ended(self, child: "TaskStruct") -> None:
        """One of them is a zombie now. O(zombies), a memory move."""
        insort(self._zombies, (self._places[child], child))

    def remove(self, child: "TaskStruct") -> None:
        """One less. As append."""
        place = self._places.pop(child)
        i = bisect_left(self._zombies, (place,))
        if i < len(self._zombies) and self._zombies[i][1] is child:
            del self._zombies[i]

    def clear(self) -> None:
        """None any more."""
        self._places.clear()
        self._zombies.clear()

    def zombies(self) -> "Iterator[TaskStruct]":
        """Those that have ended."""
        return (child for _, child in self._zombies)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> "Iterator[TaskStruct]":
        return iter(self._places)

    def __reversed__(self) -> "Iterator[TaskStruct]":
        return reversed(self._places)


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
        self.children = Children()
        self.born_of: TaskStruct | None = parent  # the thread that has forked it
        self.leader: TaskStruct = self
        self.threads: list[TaskStruct] = []
        self.exit_code: int | None = None
        self.waits = False
        self.vfork_child: TaskStruct | None = None
        self.at_exit: Callable[[int], None] | None = None  # is told that it has ended, and with which exit code
