"""Processes and threads: clone, and how they end.

    fork, clone            Task.fork: a process with an address space of its own
    vfork, CLONE_VFORK     Task.vfork: in its parent's, which waits for its execve or end
    CLONE_VM               Task.clone_vm: in its parent's; with CLONE_THREAD a thread of its parent's process

Source: 6.18 kernel/fork.c, kernel_clone, copy_process; kernel/exit.c, do_wait, wait_task_zombie; include/uapi/linux/sched.h, wait.h.
"""

import errno
import struct
from contextlib import suppress
from typing import NamedTuple

from rmaplab.calls.task import Task
from rmaplab.cpu.abi import int32
from rmaplab.cpu.loop import live
from rmaplab.cpu.pending import SignalInfo
from rmaplab.cpu.process import SIGCHLD, Process, exited, how
from rmaplab.cpu.registers import TLS_PLACES, descriptor
from rmaplab.cpu.signals import SIGINFO_BYTES, exit_group, exit_thread, siginfo
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK, CLONE_VM
from rmaplab.objects.mm_types import MmStruct

CLONE_PARENT, CLONE_SETTLS = 0x8000, 0x80000
CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x100000, 0x200000, 0x1000000
CSIGNAL = 0xFF
WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x01000000
P_ALL, P_PID, P_PGID = 0, 1, 2
CLONE_ARGS_BYTES = 64
USER_DESC = struct.Struct("<IIII")
SEG_32BIT, LIMIT_IN_PAGES = 1, 16
TLS_ACCESS = 0xF2 | 1
EMPTY = 0x28
"""read_exec_only, seg_not_present and no base or limit: an entry to be cleared."""


class CloneWanted(NamedTuple):
    """What clone is asked for."""

    flags: int
    signal: int
    stack: int
    parent_tid: int
    child_tid: int
    tls: int


def clone(thread: Thread, wanted: CloneWanted) -> int:
    """kernel_clone: the child's number."""
    flags, process, userland = wanted.flags, thread.process, thread.userland
    if (flags & CLONE_THREAD and not flags & CLONE_SIGHAND) or (flags & CLONE_SIGHAND and not flags & CLONE_VM):
        raise SyscallError(errno.EINVAL, "clone")
    userland.one_more()
    tls = _read_tls(thread, wanted) if flags & CLONE_SETTLS else None
    thread.spend()
    registers = thread.registers.copy()
    born: list[Thread] = []

    def bear(task: Task) -> Thread:
        """The child's thread: made by whoever comes first, the child or its parent."""
        if not born:
            assert task.mm is not None
            its_process = process if flags & CLONE_THREAD else _new_process(thread, task, task.mm, wanted)
            new = Thread(userland, task, its_process)
            new.follow(thread, registers)
            born.append(new)
            _set_up(new, wanted, tls)
            if flags & CLONE_PARENT_SETTID:  # before the child runs, who may want to know its number
                with suppress(SyscallError):
                    (new if flags & CLONE_VM and userland.kernel.machine.sched.current is task else thread).put(
                        wanted.parent_tid, struct.pack("<i", task.pid)
                    )
        return born[0]

    def program(task: Task) -> int:
        return live(bear(task), task)

    task = thread.task
    make = task.vfork if flags & CLONE_VFORK and flags & CLONE_VM else task.clone_vm if flags & CLONE_VM else task.fork
    try:
        made = make(program)
    except BaseException:
        if not born:
            registers.close()
        raise
    if not born:
        bear(made)
    userland.tell("clone" if flags & CLONE_VM else "fork", process.pid, f"pid {made.pid}")
    return made.pid


def _new_process(thread: Thread, task: Task, mm: MmStruct, wanted: CloneWanted) -> Process:
    flags, parent = wanted.flags, thread.process
    process = thread.userland.new_process(
        parent, task.pid, mm, files_shared=bool(flags & CLONE_FILES), handlers_shared=bool(flags & CLONE_SIGHAND)
    )
    process.exit_signal = wanted.signal
    if flags & CLONE_PARENT and parent.parent is not None:
        parent.children.remove(process)
        process.parent = parent.parent
        parent.parent.children.append(process)
    return process


def _read_tls(thread: Thread, wanted: CloneWanted) -> tuple[int, int] | None:
    """set_new_tls, before there is a child: its descriptor of the GDT with 32 bits. Raises SyscallError: EFAULT, EINVAL, EPERM, ESRCH."""
    if thread.abi.bits == 32:
        return read_descriptor(thread, wanted.tls)
    if wanted.tls >> 47:
        raise SyscallError(errno.EPERM, "clone")
    return None


def _set_up(child: Thread, wanted: CloneWanted, tls: tuple[int, int] | None) -> None:
    flags, registers = wanted.flags, child.registers
    registers.result = 0
    if wanted.stack:
        registers.write({"sp": wanted.stack})
    if tls is not None:
        set_descriptor(child, *tls)
    elif flags & CLONE_SETTLS:
        registers.set_tls(wanted.tls)
        child.tls_base = wanted.tls
    if flags & CLONE_CHILD_SETTID:
        child.set_tid = wanted.child_tid
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_tid = wanted.child_tid


@call("clone", abi=64)
def sys_clone(thread: Thread, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int, *_: int) -> int:
    """clone(2)."""
    return clone(thread, CloneWanted(flags & ~CSIGNAL, flags & CSIGNAL, stack, parent_tid, child_tid, tls))


@call("clone", abi=32)
def sys_clone32(thread: Thread, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int, *_: int) -> int:
    """clone(2) of i386, whose last two arguments are the other way round."""
    return clone(thread, CloneWanted(flags & ~CSIGNAL, flags & CSIGNAL, stack, parent_tid, child_tid, tls))


@call("clone3")
def sys_clone3(thread: Thread, arguments: int, size: int, *_: int) -> int:
    """clone3(2)."""
    if size < CLONE_ARGS_BYTES:
        raise SyscallError(errno.EINVAL, "clone3")
    flags, _, child_tid, parent_tid, signal, stack, stack_size, tls = struct.unpack(
        "<8Q", thread.get(arguments, CLONE_ARGS_BYTES)
    )
    if flags & CSIGNAL or signal > CSIGNAL:
        raise SyscallError(errno.EINVAL, "clone3")
    return clone(thread, CloneWanted(flags, signal, stack + stack_size if stack else 0, parent_tid, child_tid, tls))


@call("fork")
def sys_fork(thread: Thread, *_: int) -> int:
    """fork(2)."""
    return clone(thread, CloneWanted(0, SIGCHLD, 0, 0, 0, 0))


@call("vfork")
def sys_vfork(thread: Thread, *_: int) -> int:
    """vfork(2)."""
    return clone(thread, CloneWanted(CLONE_VM | CLONE_VFORK, SIGCHLD, 0, 0, 0, 0))


@call("exit")
def sys_exit(thread: Thread, code: int, *_: int) -> int:
    """exit(2), of a thread."""
    exit_thread(thread, exited(code))
    return 0


@call("exit_group")
def sys_exit_group(thread: Thread, code: int, *_: int) -> int:
    """exit_group(2)."""
    exit_group(thread, exited(code))
    return 0


@call("set_tid_address")
def sys_set_tid_address(thread: Thread, address: int, *_: int) -> int:
    """set_tid_address(2)."""
    thread.clear_tid = address
    return thread.task.pid


@call("set_thread_area", abi=32)
def sys_set_thread_area(thread: Thread, address: int, *_: int) -> int:
    """set_thread_area(2)."""
    place = set_thread_area(thread, address)
    thread.put(address, struct.pack("<I", place))
    return 0


def set_thread_area(thread: Thread, address: int) -> int:
    """A descriptor of the GDT: which. Raises SyscallError: EFAULT, EINVAL, ESRCH."""
    place, value = read_descriptor(thread, address)
    set_descriptor(thread, place, value)
    return place


def read_descriptor(thread: Thread, address: int) -> tuple[int, int]:
    """A struct user_desc: (its place in the GDT, the descriptor; 0: none). Raises SyscallError: EFAULT, EINVAL, ESRCH."""
    place, base, limit, flags = USER_DESC.unpack(thread.get(address, USER_DESC.size))
    if place == 0xFFFF_FFFF:
        place = next((n for n in TLS_PLACES if n not in thread.tls), -1)
        if place < 0:
            raise SyscallError(errno.ESRCH, "set_thread_area")
    if place not in TLS_PLACES:
        raise SyscallError(errno.EINVAL, "set_thread_area")
    if not base and not limit and flags & EMPTY == EMPTY:
        return place, 0
    nibble = (0x4 if flags & SEG_32BIT else 0) | (0x8 if flags & LIMIT_IN_PAGES else 0)
    return place, descriptor(base, limit, TLS_ACCESS, nibble)


def set_descriptor(thread: Thread, place: int, value: int) -> None:
    """The thread has it in its GDT."""
    (thread.tls.add if value else thread.tls.discard)(place)
    thread.registers.set_descriptor(place, value)


# -- waiting for children ------------------------------------------------------------------------------------------------


def _wait(thread: Thread, kind: int, number: int, options: int) -> Process | None:
    """A child that has ended; None: none has yet (WNOHANG). Raises SyscallError(ECHILD)."""
    process = thread.process
    while True:
        wanted = [child for child in process.children if _is_wanted(process, child, kind, number)]
        if not wanted:
            raise SyscallError(errno.ECHILD, "wait4")
        for child in wanted:
            if child.ended is not None:
                return child
        if options & WNOHANG:
            return None
        thread.sleep(process.child_changed)


def _is_wanted(parent: Process, child: Process, kind: int, number: int) -> bool:
    if kind == P_PID:
        return child.pid == number
    return kind == P_ALL or child.pgid == (number or parent.pgid)


def _usage(thread: Thread, child: Process) -> bytes:
    """A struct rusage: times."""
    return thread.abi.timeval(child.user_ns) + thread.abi.timeval(child.system_ns) + bytes(14 * thread.abi.word)


@call("wait4")
def sys_wait4(thread: Thread, pid: int, status: int, options: int, usage: int, *_: int) -> int:
    """wait4(2)."""
    number = int32(pid)
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | 0xE000_0000):
        raise SyscallError(errno.EINVAL, "wait4")
    kind, number = (P_ALL, 0) if number == -1 else (P_PID, number) if number > 0 else (P_PGID, -number)
    child = _wait(thread, kind, number, options)
    if child is None:
        return 0
    assert child.ended is not None
    ended, used = child.ended, _usage(thread, child)
    thread.userland.reap(child)
    if status:
        thread.put(status, struct.pack("<I", ended))
    if usage:
        thread.put(usage, used)
    return child.pid


@call("waitpid", abi=32)
def sys_waitpid(thread: Thread, pid: int, status: int, options: int, *_: int) -> int:
    """waitpid(2)."""
    return sys_wait4(thread, pid, status, options, 0)


@call("waitid")
def sys_waitid(thread: Thread, kind: int, number: int, info: int, options: int, usage: int, *_: int) -> int:
    """waitid(2)."""
    if kind not in (P_ALL, P_PID, P_PGID) or not options & WEXITED:
        raise SyscallError(errno.EINVAL, "waitid")
    child = _wait(thread, kind, number, options)
    if child is None:
        if info:
            thread.put(info, bytes(SIGINFO_BYTES))
        return 0
    assert child.ended is not None
    code, what = how(child.ended)
    told, used = siginfo(thread, SignalInfo(SIGCHLD, code, pid=child.pid, status=what)), _usage(thread, child)
    if not options & WNOWAIT:
        thread.userland.reap(child)
    if info:
        thread.put(info, told)
    if usage:
        thread.put(usage, used)
    return 0
