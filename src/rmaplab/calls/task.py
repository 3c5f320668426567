"""The surface: what a task can call. Processes here, memory in calls/memory.py, files in calls/files.py, segments in calls/shm.py.

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

from rmaplab.calls.memory import SIGKILL, SIGSEGV
from rmaplab.calls.shm import ShmCalls
from rmaplab.errors import NoMemory, NotModelled, OomKilled, Oops, SegmentationFault, SyscallError, UsageError
from rmaplab.mm.fork import dup_mm
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mm_struct import mmput, new_mm
from rmaplab.mm.process import copy_process, do_exit, end_group, end_threads, mm_release, release_task
from rmaplab.objects.mm_types import MmStruct

Program = Callable[["Task"], int | None]


class ProgramExit(BaseException):
    """Leaves a program once it has called exit(); programs should let it pass."""


class Task(ShmCalls):
    """A task and the system calls it can make. System.spawn makes the first, fork() the others."""

    # -- processes -----------------------------------------------------------------------------------------------

    def fork(self, program: Program | None = None) -> Task:
        """fork(2): the child. In a program, `program` is what the child runs.

        Raises SyscallError: ENOMEM, EAGAIN (no pid left); NoMemory.
        """
        k, mm = self.kernel, self._mm()
        if program is None and k.machine.sched.current is not None:
            raise UsageError("fork() in a program needs the child's program: task.fork(child_program)")
        child = self._locked_in(mm, lambda k, mm: copy_process(k, Task, self, lambda pid: dup_mm(k, mm, pid)))
        child.kernel = k
        k.machine.charge("fork")
        k.machine.end_burst()
        if program is not None:
            start_program(child, program)
        self.kernel.machine.end_call()
        return child

    def vfork(self, program: Program | None = None) -> Task:
        """vfork(2): a child in this address space; the parent waits until it has exited. Raises as fork().

        Driven from outside, the parent's other calls are refused (UsageError) until then.
        """
        k = self.kernel
        self._only_process("vfork")
        child = self._share("vfork", program)
        self.vfork_child = child
        if program is not None:
            start_program(child, program)
            while self.vfork_child is not None:
                self.waits = True
                k.machine.sched.sleep()
        return child

    def clone_vm(self, program: Program | None = None) -> Task:
        """clone(2) with CLONE_VM: a child in this address space, and nobody waits. Raises as fork()."""
        child = self._share("clone_vm", program)
        if program is not None:
            start_program(child, program)
        self.kernel.machine.end_call()
        return child

    def thread(self) -> Task:
        """clone(2) with CLONE_VM, CLONE_SIGHAND, CLONE_THREAD: a thread more of this process. Raises as fork().

        It is driven from outside. exit() ends it alone; with its process it ends, too.
        """
        k = self.kernel
        if not k.rules.thread_groups:
            raise NotModelled("threads of one process end one by one on this kernel: use clone VM")
        if k.machine.sched.current is not None:
            raise NotModelled("thread() of a program: drive it from outside")
        thread = self._share("thread", None, thread=True)
        self.kernel.machine.end_call()
        return thread

    def _only_process(self, call: str) -> None:
        if self.leader is not self:
            raise NotModelled(f"{call} by a thread: let its process do it")

    def _share(self, call: str, program: Program | None, *, thread: bool = False) -> Task:
        """A child that lives in this address space."""
        k, mm = self.kernel, self._mm()
        if program is None and k.machine.sched.current is not None:
            raise UsageError(f"{call}() in a program needs the child's program: task.{call}(child_program)")

        def share(_: int) -> MmStruct:
            mm.users += 1
            return mm

        child = copy_process(k, Task, self, share, thread=thread)
        child.kernel = k
        k.machine.charge("fork")
        k.machine.end_burst()
        return child

    def execve(self) -> None:
        """execve(2), as far as memory goes: a new, empty address space; the old one goes with its last user.

        Limits stay; what mlockall asked of VMAs to come does not; root gets its capabilities again. A vfork child gives its parent
        back its own. Its threads end. Raises SyscallError: ENOMEM, EAGAIN (setuid has left its user with more tasks than RLIMIT_NPROC allows);
        NoMemory. Then the old address space is still there.
        """
        k, old = self.kernel, self._mm()
        self._only_process("execve")
        if self.limits.nproc_exceeded and k.tasks_of_user[self.limits.uid] > self.limits.nproc:
            raise SyscallError(errno.EAGAIN, "execve", f"user {self.limits.uid} has more tasks than RLIMIT_NPROC")
        self.limits.nproc_exceeded = False
        try:
            mm = new_mm(k, self.pid)
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, "execve") from None
        end_threads(k, self)
        self.mm = mm
        if self.limits.uid == 0:  # cap_bprm_creds_from_file; in 2004 compute_creds
            self.limits.may_lock = True
        k.machine.tlb.activate_mm(self)
        parent = self.parent
        if mm_release(self) and parent is not None and parent.waits:
            parent.waits = False
            k.machine.sched.wake(parent)
        mmput(k, old)
        k.machine.charge("exec")
        self.kernel.machine.end_call()

    def wait(self) -> tuple[int, int]:
        """wait(2) for any child, first for those that this thread has forked: (its pid, its exit code). Sleeps until there is one. Raises SyscallError: ECHILD."""
        k = self.kernel
        children = self.leader.children
        while True:
            if not children:
                raise SyscallError(errno.ECHILD, "wait")
            for own in (True, False):  # do_wait_thread, of each thread
                for child in children.zombies():
                    if child.exit_code is not None and (child.born_of is self) == own:
                        release_task(k, child)
                        self.kernel.machine.end_call()
                        return child.pid, child.exit_code
            if not self._runs():
                pids = ", ".join(str(child.pid) for child in children)
                raise UsageError(f"wait() would sleep for ever: let a child exit() first (pid {pids})")
            self.waits = True
            k.machine.sched.sleep()
            if self.fatal:
                raise OomKilled(f"task {self.pid}: SIGKILL")

    def exit(self, code: int = 0) -> None:
        """exit(2) of a thread, exit_group(2) of a process. In a program it does not return."""
        self._mm()
        end_threads(self.kernel, self, code)
        do_exit(self.kernel, self, code)
        if self._runs():
            raise ProgramExit

    def kill(self) -> None:
        """A fatal signal, SIGKILL: the process of this task ends with all its threads."""
        self._mm()
        end_group(self.kernel, self, -SIGKILL)
        if self._runs():
            raise ProgramExit

    def __repr__(self) -> str:
        return f"<task {self.pid}: {f'exited with {self.exit_code}' if self.mm is None else self.mm}>"


def spawn(k: Kernel, program: Program | None) -> Task:
    """A first task, with an empty address space and no parent."""
    task = copy_process(k, Task, None, lambda pid: new_mm(k, pid))
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
            if task.mm is not None:  # a signal; who got no page is dead already
                end_group(task.kernel, task, -SIGKILL)
        except Oops:
            pass

    task.kernel.machine.sched.start(task, body)
