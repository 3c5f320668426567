"""The surface: what a task can call. Each call here is one line of a program; the work is done next door.

    from outside                            in a program
    child = task.fork()                     def program(task):
    child.write(address, b"x")                  task.fork(other_program)
    child.exit()                                task.touch(address, "1M", write=True)
    task.wait()                                 task.wait()

Driven from outside, calls run at once and fork() returns the child's Task. A program given to System.spawn runs in its own
greenlet while System.run() does, and forks children that run programs of their own.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from rmaplab.errors import AllocationFailed, NeedsReclaim, OomKilled, SegmentationFault, SyscallError, UsageError
from rmaplab.machine.sched import SchedEntity
from rmaplab.mm.fault import read_bytes, touch, write_bytes
from rmaplab.mm.fork import dup_mm
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mm_struct import mm_alloc, mmput
from rmaplab.mm.mmap import do_brk, do_mmap, do_munmap
from rmaplab.mm.mprotect import do_mprotect
from rmaplab.mm.mremap import do_mremap
from rmaplab.mm.process import copy_process, do_exit, release_task
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE
from rmaplab.objects.mm import MmStruct
from rmaplab.objects.task import TaskStruct
from rmaplab.units import parse_size

R = TypeVar("R")
Program = Callable[["Task"], int | None]
SIGKILL, SIGSEGV = 9, 11


class ProgramExit(BaseException):
    """Leaves a program once it has called exit(); programs should let it pass."""


class Task(TaskStruct):
    """A task and the system calls it can make. System.spawn makes the first, fork() the others."""

    kernel: Kernel

    # -- memory --------------------------------------------------------------------------------------------------

    def mmap(
        self,
        length: int | str,
        prot: int = PROT_READ | PROT_WRITE,
        flags: int = MAP_PRIVATE | MAP_ANONYMOUS,
        address: int = 0,
    ) -> int:
        """mmap(2) of private anonymous memory: the address it got. `length` in bytes, or as "512M".

        `address` is a hint, or with MAP_FIXED an order. Raises SyscallError: EINVAL, ENOMEM.
        """
        if flags & MAP_SHARED:
            raise UsageError("MAP_SHARED needs shared memory, which this version does not have: use MAP_PRIVATE")
        return self._call(do_mmap, address, parse_size(length), prot, flags)

    def munmap(self, address: int, length: int | str) -> None:
        """munmap(2). Raises SyscallError: EINVAL, or ENOMEM where a VMA must be split and cannot be."""
        self._call(do_munmap, address, parse_size(length))

    def mprotect(self, address: int, length: int | str, prot: int) -> None:
        """mprotect(2). Raises SyscallError: EINVAL, ENOMEM; VMAs before the failing one are changed."""
        self._call(do_mprotect, address, parse_size(length), prot)

    def mremap(
        self,
        address: int,
        old_length: int | str,
        new_length: int | str,
        flags: int = MREMAP_MAYMOVE,
        new_address: int = 0,
    ) -> int:
        """mremap(2): the mapping's address. Raises SyscallError: EINVAL, EFAULT, ENOMEM."""
        lengths = parse_size(old_length), parse_size(new_length)
        return self._call(do_mremap, address, *lengths, flags, new_address)

    def brk(self, address: int = 0) -> int:
        """brk(2): move the end of the heap, or ask where it is (0). Raises SyscallError(ENOMEM); the heap is as before."""
        return self._call(do_brk, address)

    def limit_as(self, limit: int | str) -> None:
        """setrlimit(RLIMIT_AS): bytes of address space, from now on and for children."""
        self._mm().limit_as = parse_size(limit)

    def read(self, address: int, length: int = 1) -> bytes:
        """Load `length` bytes. Raises SegmentationFault, OomKilled."""
        return self._access(read_bytes, address, length)

    def write(self, address: int, data: bytes) -> None:
        """Store `data`. Raises SegmentationFault, with the bytes before the bad address stored, and OomKilled."""
        self._access(write_bytes, address, data)

    def touch(self, address: int, length: int | str, *, write: bool = False) -> None:
        """Read a byte of every page of the range, or write it back unchanged; in bulk. Raises SegmentationFault, OomKilled."""
        end = address + parse_size(length)
        self._access(touch, address, end, write)

    # -- processes -----------------------------------------------------------------------------------------------

    def fork(self, program: Program | None = None) -> Task:
        """fork(2): the child. In a program, `program` is what the child runs.

        Raises SyscallError: ENOMEM, EAGAIN (no pid left); NeedsReclaim.
        """
        k, mm = self.kernel, self._mm()
        if program is None and k.machine.sched.current is not None:
            raise UsageError("fork() in a program needs the child's program: task.fork(child_program)")
        locks = k.machine.locks
        locks.take(mm.mmap_sem)
        try:
            child = copy_process(k, Task, self, lambda pid: dup_mm(k, mm, pid))
        finally:
            locks.drop(mm.mmap_sem)
        child.kernel = k
        k.machine.charge("fork")
        k.machine.end_burst()
        if program is not None:
            start_program(child, program)
        self._end_of_call()
        return child

    def vfork(self, program: Program | None = None) -> Task:
        """vfork(2): a child in this address space; the parent waits until it has exited. Raises as fork().

        Driven from outside, the parent's other calls are refused (UsageError) until then.
        """
        k, mm = self.kernel, self._mm()
        if program is None and k.machine.sched.current is not None:
            raise UsageError("vfork() in a program needs the child's program: task.vfork(child_program)")

        def borrow(_: int) -> MmStruct:
            mm.users += 1
            return mm

        child = copy_process(k, Task, self, borrow)
        child.kernel = k
        self.vfork_child = child
        k.machine.charge("fork")
        k.machine.end_burst()
        if program is not None:
            start_program(child, program)
            while self.vfork_child is not None:
                self.waits = True
                k.machine.sched.sleep()
        return child

    def wait(self) -> tuple[int, int]:
        """wait(2) for any child: (its pid, its exit code). Sleeps until there is one. Raises SyscallError: ECHILD."""
        k = self.kernel
        while True:
            if not self.children:
                raise SyscallError(errno.ECHILD, "wait")
            for child in self.children:
                if child.exit_code is not None:
                    release_task(k, child)
                    self._end_of_call()
                    return child.pid, child.exit_code
            if not self._runs():
                pids = ", ".join(str(child.pid) for child in self.children)
                raise UsageError(f"wait() would sleep for ever: let a child exit() first (pid {pids})")
            self.waits = True
            k.machine.sched.sleep()

    def exit(self, code: int = 0) -> None:
        """exit(2). In a program it does not return."""
        self._mm()
        do_exit(self.kernel, self, code)
        if self._runs():
            raise ProgramExit

    # -- inside --------------------------------------------------------------------------------------------------

    def _mm(self) -> MmStruct:
        if self.mm is None:
            raise UsageError(f"task {self.pid} has exited: use one that lives")
        child = self.vfork_child
        if child is not None and self.kernel.machine.sched.current is None:
            raise UsageError(f"task {self.pid} waits for its vfork child: let task {child.pid} exit() first")
        return self.mm

    def _runs(self) -> bool:
        current: SchedEntity | None = self.kernel.machine.sched.current
        return current is self

    def _call(self, call: Callable[..., R], *arguments: int) -> R:
        """A call that changes the address space: under mmap_sem, and back to user mode however it ends."""
        k, mm = self.kernel, self._mm()
        locks, lock = k.machine.locks, mm.mmap_sem
        locks.take(lock)
        try:
            return call(k, mm, *arguments)
        finally:
            locks.drop(lock)
            self._end_of_call()

    def _access(self, access: Callable[..., R], *arguments: int | bytes) -> R:
        """A load or a store; a fault that gets no memory kills the task (VM_FAULT_OOM)."""
        try:
            return access(self.kernel, self._mm(), *arguments)
        except AllocationFailed as failure:
            do_exit(self.kernel, self, -SIGKILL)
            raise OomKilled(f"task {self.pid}: a page fault got no memory ({failure})") from None

    def _end_of_call(self) -> None:
        """Back to user mode: the call has taken its time, and others may be due."""
        machine = self.kernel.machine
        machine.charge("syscall")
        machine.end_burst()
        if machine.sched.current is not None:
            machine.sched.cond_resched()

    def __repr__(self) -> str:
        return f"<task {self.pid}: {f'exited with {self.exit_code}' if self.mm is None else self.mm}>"


def spawn(k: Kernel, program: Program | None) -> Task:
    """A first task, with an empty address space and no parent."""

    def new_mm(pid: int) -> MmStruct:
        mm = mm_alloc(k, pid)
        try:
            k.rmap.mm_new(mm)
        except (AllocationFailed, NeedsReclaim):
            mmput(k, mm)
            raise
        return mm

    task = copy_process(k, Task, None, new_mm)
    task.kernel = k
    if program is not None:
        start_program(task, program)
    return task


def start_program(task: Task, program: Program) -> None:
    """Let `program(task)` run as the task's body; what it returns is its exit code, a bad access kills it."""

    def body() -> None:
        try:
            task.exit(program(task) or 0)
        except ProgramExit:
            pass
        except SegmentationFault:
            do_exit(task.kernel, task, -SIGSEGV)
        except OomKilled:
            pass

    task.kernel.machine.sched.start(task, body)
