"""task_struct: what can run: a pid, an address space, a family, an exit code."""

from rmaplab.machine.arrays import I64
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.objects.mm_types import Limits, MmStruct


class TaskStruct(SchedEntity):
    """One task. A zombie once `exit_code` is set, gone once its parent has waited for it.

    `address`, `stack` and `sighand` are where its bytes lie: task_struct, kernel stack, signal handlers. `limits` are its own,
    whomever it shares an address space with. A thread is a task whose `leader` is another: the process that it is a thread of, which has it
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
    ) -> None:
        super().__init__()
        self.pid = pid
        self.parent = parent
        self.mm: MmStruct | None = mm
        self.limits = limits
        self.address = address
        self.stack = stack
        self.sighand = sighand
        self.children: list[TaskStruct] = []
        self.leader: TaskStruct = self
        self.threads: list[TaskStruct] = []
        self.exit_code: int | None = None
        self.waits = False
        self.vfork_child: TaskStruct | None = None
