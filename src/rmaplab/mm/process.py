"""Tasks come and go: copy_process, do_exit, release_task.

    fork            exit                        wait (or nobody to wait)
    task_struct     address space goes          task_struct and stack go
    stack           signal handlers go
    handlers        a zombie stays: an exit code, a task_struct and a stack
    address space

Source: 2.6.2 kernel/fork.c (copy_process), kernel/exit.c (do_exit, release_task).
"""

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from rmaplab.errors import NoMemory, Oops, SyscallError, as_errno
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.locks import LockOwner
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mm_struct import mmput
from rmaplab.mm.open_file import copy_fds, put_files
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct
from rmaplab.objects.task import FilesStruct, TaskStruct

T = TypeVar("T", bound=TaskStruct)
_SIGSEGV = 11
PID_MAX = 32768  # PID_MAX_DEFAULT
RESERVED_PIDS = 300  # when the numbers begin again, these are left to daemons


def copy_process(
    k: Kernel, kind: type[T], parent: TaskStruct | None, make_mm: Callable[[int], MmStruct], *, thread: bool = False
) -> T:
    """A new task with the address space that `make_mm(pid)` returns, and with its parent's limits, or a first task's.

    Or a `thread` of that process: it has signal handlers in common with it, and nobody waits for it.
    Raises SyscallError (EAGAIN: no pid; ENOMEM) and NoMemory; whatever had been allocated is free again.
    """
    pid, start_ns = _alloc_pid(k), k.machine.sched.now_ns
    undo: list[Callable[[], None]] = []
    try:
        address = 0
        if (task_cache := k.task_cache) is not None:
            address = task_cache.alloc()
            undo.append(lambda: task_cache.free(address))
        stack = k.machine.allocator.alloc(1, Gfp.KERNEL, order=k.stack_order, what="a kernel stack")
        undo.append(lambda: k.machine.allocator.free(stack, order=k.stack_order))
        _check_nproc(k, parent)
        if thread and parent is not None:
            sighand = parent.sighand
        else:
            sighand = k.sighand_cache.alloc()
            undo.append(lambda: k.sighand_cache.free(sighand))
        mm = make_mm(pid)
    except (SyscallError, NoMemory) as failure:
        for step in reversed(undo):
            step()
        raise as_errno(failure, errno.ENOMEM, "fork") from None
    except Oops:  # Linux loses them
        for step in reversed(undo):
            step()
        raise
    limits = replace(parent.limits) if parent is not None else Limits(memlock=k.rules.memlock_limit_bytes)
    leader = None if parent is None else parent.leader
    if parent is not None:
        parent.limits.nproc_exceeded = False  # of the child it stays
    files = copy_files(parent, share=thread)
    task = kind(pid, None if thread else leader, mm, limits, address, stack, sighand, files)
    task.start_ns = start_ns
    k.tasks[pid] = task
    k.tasks_of_user[limits.uid] += 1
    k.nr_processes += 1
    k.nr_alive += 1
    k.nr_alive_peak = max(k.nr_alive_peak, k.nr_alive)
    if leader is not None and thread:
        task.leader = leader
        leader.threads.append(task)
    elif leader is not None:
        leader.children.append(task)
        task.born_of = parent
    return task


def copy_files(parent: TaskStruct | None, *, share: bool) -> FilesStruct:
    """The descriptors of a new task: its parent's own with `share` (CLONE_FILES), or else as many of the same open files."""
    if parent is None:
        return FilesStruct()
    if share:
        parent.files.users += 1
        return parent.files
    return copy_fds(parent.files)


def exit_files(k: Kernel, task: TaskStruct) -> None:
    """The task has no descriptors any more; open files go with the last of them."""
    files, task.files = task.files, FilesStruct()
    put_files(k, files)


def end_group(k: Kernel, task: TaskStruct, code: int) -> None:
    """do_group_exit: the process that `task` belongs to ends, all its threads first."""
    end_threads(k, task.leader, code)
    do_exit(k, task.leader, code)


def end_threads(k: Kernel, leader: TaskStruct, code: int = 0) -> None:
    """A process is one thread again (de_thread), or about to end."""
    for thread in list(leader.threads):
        do_exit(k, thread, code)


def do_exit(k: Kernel, task: TaskStruct, code: int) -> None:
    """The task ends: its memory goes, its children get no parent, its own parent may be waiting."""
    mm, task.mm = task.mm, None
    bug: Oops | None = None
    if mm is not None:
        try:
            mmput(k, mm)
        except Oops as met:  # it dies once more, and its address space stays
            bug = met
            _die_holding(k)
    exit_files(k, task)
    if task.leader is task:
        k.sighand_cache.free(task.sighand)
    else:
        task.leader.threads.remove(task)
        _give_children_to(task, task.leader)
    k.nr_alive -= 1
    for child in list(task.children):
        child.parent = None
        if child.exit_code is not None:
            release_task(k, child)
    task.children.clear()
    k.machine.charge("exit")
    k.machine.end_burst()
    task.exit_code = code  # only now: whoever sees it may release the task
    k.machine.locks.forget(task)
    parent = task.parent
    if parent is not None:
        parent.children.has_ended(task)
    mm_release(task)
    k.machine.sched.exited(task, parent)
    if parent is None:
        release_task(k, task)
    elif parent.waits:
        parent.waits = False
        k.machine.sched.wake(parent, sync=True)
    if task.at_exit is not None:
        task.at_exit(code)
    if bug is not None:
        raise bug


def _give_children_to(thread: TaskStruct, leader: TaskStruct) -> None:
    """forget_original_parent: what the thread has forked is its process's, behind what that has. O(children)."""
    for child in [child for child in leader.children if child.born_of is thread]:
        child.born_of = leader
        leader.children.remove(child)
        leader.children.append(child)


def die(k: Kernel, task: TaskStruct) -> None:
    """The task has met a BUG() in a fault: it ends, and who writes to the address space that it has shared waits for its mmap_sem for ever."""
    mm = task.mm
    (end_group if task.leader is task else do_exit)(k, task, -_SIGSEGV)
    if mm is not None and mm.users:
        mm.mmap_sem.readers += 1


def oops(k: Kernel, task: TaskStruct) -> None:
    """The task has met a BUG(). With a spinlock held it dies where that is wanted again, for ever: so its address space stays, and what it holds too."""
    held = k.machine.locks.held()
    if all(lock.type.sleeps for lock in held):
        for lock in reversed(held):
            k.machine.locks.drop(lock)
        die(k, task)
    else:
        _die_holding(k)
        task.mm = None


def _die_holding(k: Kernel) -> None:
    """What the running task holds nobody will ever drop."""
    owner = k.machine.locks.owner
    dead = LockOwner(None, list(owner.held))
    for lock in dead.held:
        if lock.writer is owner:
            lock.writer = dead
    owner.held.clear()


def mm_release(task: TaskStruct) -> bool:
    """The task needs its parent's address space no more, if it had borrowed it: whether it had."""
    parent = task.parent
    if parent is None or parent.vfork_child is not task:
        return False
    parent.vfork_child = None
    return True


def release_task(k: Kernel, task: TaskStruct) -> None:
    """The last of a zombie."""
    if task.parent is not None:
        task.parent.children.remove(task)
    del k.tasks[task.pid]
    k.tasks_of_user[task.limits.uid] -= 1
    k.machine.allocator.free(task.stack, order=k.stack_order)
    if k.task_cache is not None:
        k.task_cache.free(task.address)


def set_user(k: Kernel, task: TaskStruct, uid: int) -> None:
    """switch_uid: the task is another user's from now on."""
    k.tasks_of_user[task.limits.uid] -= 1
    k.tasks_of_user[uid] += 1
    task.limits.uid = uid


def _check_nproc(k: Kernel, parent: TaskStruct | None) -> None:
    """RLIMIT_NPROC: zombies count, root is exempt (CAP_SYS_ADMIN, CAP_SYS_RESOURCE; today INIT_USER). Raises SyscallError(EAGAIN)."""
    if parent is None or parent.limits.uid == 0 or parent.limits.nproc >= PID_MAX:
        return
    nr = k.tasks_of_user[parent.limits.uid]
    if nr >= parent.limits.nproc:
        why = f"user {parent.limits.uid} has {nr} tasks, and RLIMIT_NPROC is {parent.limits.nproc}"
        raise SyscallError(errno.EAGAIN, "fork", why)


def _alloc_pid(k: Kernel) -> int:
    if len(k.tasks) >= PID_MAX - RESERVED_PIDS:
        raise SyscallError(errno.EAGAIN, "fork", "no pid is left")
    while True:
        k.last_pid = k.last_pid + 1 if k.last_pid + 1 < PID_MAX else RESERVED_PIDS
        if k.last_pid not in k.tasks:
            return k.last_pid
