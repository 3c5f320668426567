"""Signals: who gets them, what is done on one, and what is blocked.

Source: 6.18 kernel/signal.c; include/uapi/asm/signal.h.
"""

import errno
import struct

from rmaplab.cpu.abi import int32
from rmaplab.cpu.pending import SignalInfo
from rmaplab.cpu.process import SIGSTOP, Action, Process
from rmaplab.cpu.signals import NR_SIGNALS, SI_TKILL, SI_USER, SIGKILL, SS_ONSTACK, UNBLOCKABLE, siginfo, sigreturn
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.syscalls.timespec import get_timespec
from rmaplab.cpu.thread import SS_DISABLE, Thread
from rmaplab.cpu.waiting import Interrupted, WaitQueue
from rmaplab.errors import SyscallError

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
SET_BYTES = 8
MINSIGSTKSZ = 2048
SI_QUEUE = -1


def _number(signal: int, *, zero: bool = False) -> int:
    number = int32(signal)
    if not (0 if zero else 1) <= number <= NR_SIGNALS:
        raise SyscallError(errno.EINVAL, "kill")
    return number


@call("rt_sigaction")
def sys_rt_sigaction(thread: Thread, signal: int, new: int, old: int, size: int, *_: int) -> int:
    """rt_sigaction(2)."""
    number, process, word = _number(signal), thread.process, thread.abi.word
    if size != SET_BYTES or (new and number in (SIGKILL, SIGSTOP)):
        raise SyscallError(errno.EINVAL, "rt_sigaction")
    action = None
    if new:
        data = thread.get(new, 3 * word + SET_BYTES)
        handler, flags, restorer = thread.abi.unpack(data[: 3 * word])
        action = Action(handler, flags & 0xFFFF_FFFF, restorer, struct.unpack("<Q", data[3 * word :])[0] & ~UNBLOCKABLE)
    if old:
        was = process.action(number)
        thread.put(old, thread.abi.words(was.handler, was.flags, was.restorer) + struct.pack("<Q", was.mask))
    if action is not None:
        process.handlers[number] = action
        if process.ignores(number):
            process.pending.discard(number)
            thread.pending.discard(number)
    return 0


@call("signal", abi=32)
def sys_signal(thread: Thread, signal: int, handler: int, *_: int) -> int:
    """signal(2), the old one."""
    number = _number(signal)
    was = thread.process.action(number).handler
    thread.process.handlers[number] = Action(handler, 0xC000_0000)
    return was


@call("rt_sigprocmask")
def sys_rt_sigprocmask(thread: Thread, how: int, new: int, old: int, size: int, *_: int) -> int:
    """rt_sigprocmask(2)."""
    if size != SET_BYTES:
        raise SyscallError(errno.EINVAL, "rt_sigprocmask")
    was = thread.mask
    if new:
        (wanted,) = struct.unpack("<Q", thread.get(new, SET_BYTES))
        if int32(how) not in (SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK):
            raise SyscallError(errno.EINVAL, "rt_sigprocmask")
        mask = was | wanted if how == SIG_BLOCK else was & ~wanted if how == SIG_UNBLOCK else wanted
        thread.mask = mask & ~UNBLOCKABLE
    if old:
        thread.put(old, struct.pack("<Q", was))
    return 0


@call("rt_sigpending")
def sys_rt_sigpending(thread: Thread, place: int, *_: int) -> int:
    """rt_sigpending(2)."""
    pending = sum(1 << (number - 1) for number in {*thread.pending, *thread.process.pending})
    thread.put(place, struct.pack("<Q", pending & thread.mask))
    return 0


@call("rt_sigsuspend")
def sys_rt_sigsuspend(thread: Thread, place: int, *_: int) -> int:
    """rt_sigsuspend(2)."""
    (mask,) = struct.unpack("<Q", thread.get(place, SET_BYTES))
    thread.saved_mask, thread.mask = thread.mask, mask & ~UNBLOCKABLE
    while True:
        thread.sleep(WaitQueue(), again=False)


@call("pause")
def sys_pause(thread: Thread, *_: int) -> int:
    """pause(2)."""
    while True:
        thread.sleep(WaitQueue(), again=False)


@call("rt_sigtimedwait")
def sys_rt_sigtimedwait(thread: Thread, wanted: int, info: int, timeout: int, *_: int) -> int:
    """rt_sigtimedwait(2)."""
    return _timedwait(thread, wanted, info, timeout, thread.abi.word)


@call("rt_sigtimedwait_time64", abi=32)
def sys_rt_sigtimedwait64(thread: Thread, wanted: int, info: int, timeout: int, *_: int) -> int:
    """rt_sigtimedwait(2) with times of 64 bits."""
    return _timedwait(thread, wanted, info, timeout, 8)


def _timedwait(thread: Thread, wanted: int, info: int, timeout: int, width: int) -> int:
    (mask,) = struct.unpack("<Q", thread.get(wanted, SET_BYTES))
    until = thread.machine.sched.now_ns + get_timespec(thread, timeout, width) if timeout else None
    blocked, thread.mask = thread.mask, thread.mask & ~mask
    try:
        while True:
            for pending in (thread.pending, thread.process.pending):
                for number in sorted(pending):
                    if mask >> (number - 1) & 1:
                        found = pending.take(number)
                        thread.process.has_taken(number)
                        if info:
                            thread.put(info, siginfo(thread, found))
                        return number
            try:
                if not thread.sleep(WaitQueue(), until_ns=until):
                    raise SyscallError(errno.EAGAIN, "rt_sigtimedwait")
            except Interrupted:
                if not any(
                    mask >> (number - 1) & 1
                    for pending in (thread.pending, thread.process.pending)
                    for number in pending
                ):
                    raise Interrupted(again=False) from None
    finally:
        thread.mask = blocked


@call("rt_sigreturn")
def sys_rt_sigreturn(thread: Thread, *_: int) -> int:
    """rt_sigreturn(2)."""
    return sigreturn(thread)


@call("sigreturn", abi=32)
def sys_sigreturn(thread: Thread, *_: int) -> int:
    """sigreturn(2)."""
    return sigreturn(thread, wide=False)


@call("sigaltstack")
def sys_sigaltstack(thread: Thread, new: int, old: int, *_: int) -> int:
    """sigaltstack(2)."""
    layout = struct.Struct("<QiiQ" if thread.abi.bits == 64 else "<IiI")
    base, size, flags = thread.alternate_stack
    on_it = base <= thread.registers.read()["sp"] - 1 < base + size
    if old:
        state = flags if flags & SS_DISABLE else SS_ONSTACK if on_it else 0
        thread.put(old, layout.pack(base, state, 0, size) if layout.size > 12 else layout.pack(base, state, size))
    if new:
        values = layout.unpack(thread.get(new, layout.size))
        if on_it:
            raise SyscallError(errno.EPERM, "sigaltstack")
        if values[1] & ~(SS_DISABLE | SS_ONSTACK):
            raise SyscallError(errno.EINVAL, "sigaltstack")
        if not values[1] & SS_DISABLE and values[-1] < MINSIGSTKSZ:
            raise SyscallError(errno.ENOMEM, "sigaltstack")
        thread.alternate_stack = (0, 0, SS_DISABLE) if values[1] & SS_DISABLE else (values[0], values[-1], 0)
    return 0


# -- sending -------------------------------------------------------------------------------------------------------------


def _send(thread: Thread, process: Process, signal: int) -> None:
    if signal and process.ended is None:
        thread.userland.send(process, SignalInfo(signal, SI_USER, pid=thread.process.pid))


@call("kill")
def sys_kill(thread: Thread, pid: int, signal: int, *_: int) -> int:
    """kill(2)."""
    number, who, userland = _number(signal, zero=True), int32(pid), thread.userland
    if who > 0:
        targets = [userland.processes[who]] if who in userland.processes else []
    elif who == -1:
        targets = [process for process in userland.processes.values() if process not in (thread.process, userland.init)]
    else:
        group = -who or thread.process.pgid
        targets = [process for process in userland.processes.values() if process.pgid == group]
    if not targets:
        raise SyscallError(errno.ESRCH, "kill")
    for process in targets:
        _send(thread, process, number)
    return 0


@call("tgkill")
def sys_tgkill(thread: Thread, group: int, tid: int, signal: int, *_: int) -> int:
    """tgkill(2)."""
    return _kill_thread(thread, int32(tid), signal, int32(group))


@call("tkill")
def sys_tkill(thread: Thread, tid: int, signal: int, *_: int) -> int:
    """tkill(2)."""
    return _kill_thread(thread, int32(tid), signal, 0)


def _kill_thread(thread: Thread, tid: int, signal: int, group: int) -> int:
    number, target = _number(signal, zero=True), thread.userland.threads.get(tid)
    if target is None or (group and target.process.pid != group):
        raise SyscallError(errno.ESRCH, "tgkill")
    if number == SIGKILL:
        thread.userland.send(target.process, SignalInfo(number, SI_TKILL, pid=thread.process.pid))
    elif number:
        target.send(SignalInfo(number, SI_TKILL, pid=thread.process.pid))
    return 0


@call("rt_sigqueueinfo")
def sys_rt_sigqueueinfo(thread: Thread, pid: int, signal: int, info: int, *_: int) -> int:
    """rt_sigqueueinfo(2)."""
    number, who = _number(signal, zero=True), int32(pid)
    process = thread.userland.processes.get(who)
    if process is None:
        raise SyscallError(errno.ESRCH, "rt_sigqueueinfo")
    at = 24 if thread.abi.bits == 64 else 20
    (value,) = thread.words(info + at, 1)
    if number:
        thread.userland.send(process, SignalInfo(number, SI_QUEUE, pid=thread.process.pid, value=value))
    return 0
