"""What workloads share that look at their bytes again: how many were right, and which page was not; and programs that compute.

class Sort(Checked):   run(system): system.spawn(self.guarded(program)), and in the program
                       task.write(...)  ->  compute(task, ns)  ->  self.compare(task, me, address, task.read(...), written)
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.errors import SyscallError
from rmaplab.units import PAGE_SHIFT

NS = 10**9


class Damage(NamedTuple):
    """A page whose bytes are not those that were written: which process has seen that, and where."""

    process: int
    pid: int
    address: int

    def __str__(self) -> str:
        return f"process {self.process} (pid {self.pid}) has other bytes at page {self.address >> PAGE_SHIFT:#x} than were written there"


class Checked:
    """Of one run, by all its processes. Keeps the first system call that failed, and the first page with wrong bytes."""

    def __init__(self) -> None:
        self.failed: SyscallError | None = None
        self.damage: Damage | None = None
        self.verified_bytes = 0
        self.written_bytes = 0
        """What should be seen at the end, added up over processes."""
        self.unfinished = 0
        """Processes that have begun and did not come to the end of their program: killed, or still waiting."""

    def guarded(self, program: Callable[[Task], int]) -> Callable[[Task], int]:
        """A call that fails ends the process."""

        def program_guarded(task: Task) -> int:
            self.unfinished += 1
            try:
                code = program(task)
            except SyscallError as failure:
                self.failed = self.failed or failure
                code = 1
            self.unfinished -= 1
            return code

        return program_guarded

    def compare(self, task: Task, me: int, address: int, seen: bytes, written: bytes, *, counts: bool = True) -> bool:
        """Whether bytes that process `me` has read at `address` are those that were written; right ones are counted. O(bytes)."""
        if seen == written:
            self.verified_bytes += len(seen) * counts
            return True
        nr = min(len(seen), len(written))
        wrong = np.frombuffer(seen[:nr], np.uint8) != np.frombuffer(written[:nr], np.uint8)
        first = address + (int(wrong.argmax()) if wrong.any() else nr)
        self.damage = self.damage or Damage(me, task.pid, first >> PAGE_SHIFT << PAGE_SHIFT)
        return False


def compute(task: Task, ns: int) -> None:
    """User time in which nothing is touched; who is due meanwhile runs. Raises OomKilled."""
    machine = task.kernel.machine
    machine.ledger.pending_ns += ns
    machine.end_burst(user=True)
