"""The fork benchmark of 18 March 2004, as a program for simulated tasks. forkbench.c is the same for the real kernel.

    level 0    one process maps 512 MiB and writes a byte into every page
    level 1    it forks; both read a byte of every page                                2 processes
    level 2    both fork; all four read a byte of every page                           4 processes
    ...
    level L    2^L processes; each waits for its children and exits

Whatever the level, (2^L - 1) * 131,072 page-table entries are copied and 131,072 pages are faulted in. A failed fork ends
the process it happened to, as in the C program; the others go on.
"""

from functools import partial

from rmaplab.calls.task import Task
from rmaplab.errors import SyscallError, UsageError
from rmaplab.kernels.system import System
from rmaplab.units import PAGE_SHIFT, format_size

SIZE = 512 << 20
NR_PAGES = SIZE >> PAGE_SHIFT
MAX_LEVEL = 14  # 16,384 processes; the next power of two needs more than the 32,767 pids there are


class Forkbench:
    """One run of the benchmark: `levels` forks deep. Keeps the first system call that failed."""

    name = "forkbench"

    def __init__(self, levels: int) -> None:
        if not 1 <= levels <= MAX_LEVEL:
            raise UsageError(f"level {levels}: forkbench has levels 1 to {MAX_LEVEL}, such as 6")
        self.levels = levels
        self.failed: SyscallError | None = None

    @staticmethod
    def check_ram(ram_bytes: int) -> None:
        """Refuse a box that cannot even hold the 512 MiB that the first process writes. Raises UsageError."""
        if ram_bytes <= SIZE:
            raise UsageError(
                f"forkbench writes 512 MiB, and {format_size(ram_bytes)} of RAM cannot hold that: try --ram 1G"
            )

    def run(self, system: System) -> None:
        """Run it to the end. Raises NoMemory if memory runs out where no errno can say so."""
        system.spawn(self._first)
        system.run()

    def _first(self, task: Task) -> int:
        try:
            memory = task.mmap(SIZE)
        except SyscallError as failure:
            self.failed = self.failed or failure
            return 1
        task.touch(memory, SIZE, write=True)
        return self._rest(task, memory, 0)

    def _child(self, task: Task, memory: int, level: int) -> int:
        task.touch(memory, SIZE)
        return self._rest(task, memory, level)

    def _rest(self, task: Task, memory: int, level: int) -> int:
        while level < self.levels:
            level += 1
            try:
                task.fork(partial(self._child, memory=memory, level=level))
            except SyscallError as failure:
                self.failed = self.failed or failure
                return 1
            task.touch(memory, SIZE)
        while task.children:
            task.wait()
        return 0
