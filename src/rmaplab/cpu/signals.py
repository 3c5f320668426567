"""Signals: what a process does on one, and the frame that a handler runs on.

    stack, before        |-- user's --|
    in the handler       |-- user's --| red zone | siginfo | ucontext: registers | return address |
                                                                                   ^ sp
    The handler returns to its restorer, which calls rt_sigreturn: the registers of the ucontext are the thread's again.

A frame shows the general registers, which a handler may change. Those of the FPU and SSE are kept here, by the frame's address, and come back with it;
the frame's pointer to them is NULL.

Source: arch/x86/kernel/signal.c, signal_64.c, signal_32.c; include/uapi/asm/sigcontext.h, ucontext.h; kernel/signal.c, get_signal, of 6.18; signal(7).
"""

import errno
import struct

from rmaplab.calls.task import ProgramExit
from rmaplab.cpu.pending import PendingSignals, SignalInfo
from rmaplab.cpu.process import (
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SA_RESTORER,
    SA_SIGINFO,
    SIG_DFL,
    SIGCHLD,
    SIGSTOP,
    Action,
    killed,
)
from rmaplab.cpu.robust import exit_robust_list
from rmaplab.cpu.thread import SS_DISABLE, Thread
from rmaplab.errors import SyscallError

SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV = range(1, 12)
SIGUSR2, SIGPIPE, SIGALRM, SIGTERM = 12, 13, 14, 15
FRAME_BYTES = 2048
"""More than any frame has."""
NR_SIGNALS = 64
SIGINFO_BYTES = 128
UNBLOCKABLE = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)
SI_USER, SI_KERNEL, SI_TKILL = 0, 0x80, -6
SEGV_MAPERR, SEGV_ACCERR = 1, 2
RED_ZONE = 128
SS_ONSTACK = 1
UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS = 2, 4
FAULTS = (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP)
MOST_FRAMES = 256
FLAGS_OF_USERS = 0x50DD5
"""FIX_EFLAGS: what of the flags a frame may set."""

ORDER64 = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "sp", "pc", "flags",
)  # fmt: skip
ORDER32 = ("gs", "fs", "es", "ds", "edi", "esi", "ebp", "sp", "ebx", "edx", "ecx", "eax")


def _choose(thread: Thread) -> tuple[PendingSignals, int] | None:
    """Which signal comes next: the thread's own before its process's, faults before others, else the lowest number."""
    for pending in (thread.pending, thread.process.pending):
        ready = [number for number in pending if not thread.mask >> (number - 1) & 1 or number in (SIGKILL, SIGSTOP)]
        if ready:
            return pending, min(ready, key=lambda number: (number not in FAULTS, number))
    return None


def next_signal(thread: Thread) -> SignalInfo | None:
    """The signal that comes next, taken off."""
    chosen = _choose(thread)
    if chosen is None:
        return None
    pending, number = chosen
    info = pending.take(number)
    thread.process.has_taken(number)
    return info


def is_made_again(thread: Thread) -> bool:
    """Whether an interrupted call is made again: the next signal's handler wants that, or there is none to run."""
    while (chosen := _choose(thread)) is not None and thread.process.ignores(chosen[1]):
        next_signal(thread)  # nothing comes of it
    if chosen is None:
        return True
    action = thread.process.action(chosen[1])
    return action.handler == SIG_DFL or bool(action.flags & SA_RESTART)


def deliver(thread: Thread) -> None:
    """do_signal: everything that is pending and not blocked; a handler gets a frame."""
    process = thread.process
    if process.dying is not None:
        exit_thread(thread, process.dying)
    if thread.ends_alone:
        exit_thread(thread, 0)
    while (info := next_signal(thread)) is not None:
        action = process.action(info.number)
        if process.ignores(info.number) or info.number == SIGSTOP:
            continue
        if action.handler == SIG_DFL or info.number == SIGKILL:
            thread.userland.fatal_signal(process, info)
            exit_group(thread, killed(info.number))
        if action.flags & SA_RESETHAND:
            process.handlers[info.number] = Action()
        try:
            push_frame(thread, info, action)
        except SyscallError:
            thread.userland.fatal_signal(process, SignalInfo(SIGSEGV, SI_KERNEL))
            exit_group(thread, killed(SIGSEGV))
        blocked = action.mask | (0 if action.flags & SA_NODEFER else 1 << (info.number - 1))
        thread.mask = (thread.mask | blocked) & ~UNBLOCKABLE
        thread.saved_mask = None
    if thread.saved_mask is not None:
        thread.mask, thread.saved_mask = thread.saved_mask, None


def exit_thread(thread: Thread, status: int) -> None:
    """exit(2): this thread ends, with `status` as wait4 would have it. Does not return."""
    thread.spend()
    exit_robust_list(thread)
    if thread.clear_tid:
        tid, thread.clear_tid = thread.clear_tid, 0
        try:
            thread.put(tid, bytes(4))
            thread.userland.futex_wake(thread.futex_key(tid), 1)
        except SyscallError:
            pass
    process = thread.process
    if thread.task.pid == process.pid:  # its number stays taken until the others have ended
        while len(process.threads) > 1:
            thread.sleep_uninterrupted(process.threads_changed)
    if len(process.threads) == 1:
        thread.userland.tell("exit", process.pid, f"status {status:#x}")
        if process is thread.userland.init and thread.userland.at_end is not None:
            thread.userland.at_end()
    thread.task.exit(status)
    raise ProgramExit


def exit_group(thread: Thread, status: int) -> None:
    """exit_group(2): the process ends, its other threads on their way to user mode. Does not return."""
    thread.userland.end_process(thread.process, status)
    exit_thread(thread, thread.process.dying if thread.process.dying is not None else status)


def push_frame(thread: Thread, info: SignalInfo, action: Action) -> None:
    """The handler's frame, and registers so that it runs next. Raises SyscallError(EFAULT)."""
    context = thread.registers
    if context.result is not None:
        context.write({"rax" if thread.abi.bits == 64 else "eax": context.result})
        context.result = None
    registers = context.read()
    mask = thread.mask if thread.saved_mask is None else thread.saved_mask
    sp = registers["sp"]
    base, size, flags = thread.alternate_stack
    on_alternate = base <= sp - 1 < base + size and not flags & SS_DISABLE
    if action.flags & SA_ONSTACK and size and not on_alternate and not flags & SS_DISABLE:
        sp = base + size
    elif thread.abi.bits == 64:
        sp -= RED_ZONE
    if not FRAME_BYTES <= sp <= thread.machine.paging.task_size:
        raise SyscallError(errno.EFAULT, "signal", "its stack is no address")
    if thread.abi.bits == 64:
        changes = _frame64(thread, info, action, registers, sp, mask)
    else:
        changes = _frame32(thread, info, action, registers, sp, mask)
    place = changes.pop("frame")
    for old in [address for address in thread.frames if address <= place or len(thread.frames) > MOST_FRAMES]:
        thread.frames.pop(old).close()
    thread.frames[place] = context.copy()
    context.write(changes)


def siginfo(thread: Thread, info: SignalInfo) -> bytes:
    """siginfo_t."""
    wide = thread.abi.bits == 64
    head = struct.pack("<iii", info.number, 0, info.code) + (bytes(4) if wide else b"")
    if info.number in FAULTS and info.code > 0:
        tail = thread.abi.words(info.address)
    elif info.number == SIGCHLD:
        tail = struct.pack("<iIi", info.pid, 0, info.status)
    else:
        tail = struct.pack("<iI", info.pid, 0) + thread.abi.words(info.value)
    return (head + tail).ljust(SIGINFO_BYTES, b"\0")


def _stack_t(thread: Thread) -> bytes:
    base, size, flags = thread.alternate_stack
    if thread.abi.bits == 64:
        return struct.pack("<QiiQ", base, flags, 0, size)
    return struct.pack("<IiI", base, flags, size)


def _frame64(
    thread: Thread, info: SignalInfo, action: Action, registers: dict[str, int], sp: int, mask: int
) -> dict[str, int]:
    trap, cr2, error = thread.trap
    context = struct.pack("<18Q", *(registers[name] for name in ORDER64))
    context += struct.pack("<HHHH", 0x33, 0, 0, 0x2B) + struct.pack("<QQQQQ", error, trap, mask, cr2, 0) + bytes(64)
    ucontext = (
        struct.pack("<QQ", UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS, 0)
        + _stack_t(thread)
        + context
        + struct.pack("<Q", mask)
    )
    restorer = action.restorer if action.flags & SA_RESTORER else 0
    frame = struct.pack("<Q", restorer) + ucontext
    frame += bytes(-len(frame) % 16 + 8)  # siginfo_t behind it
    total = len(frame) + 128
    place = ((sp - total) & -16) - 8
    thread.put(place, frame + siginfo(thread, info))
    return {
        "frame": place, "sp": place, "pc": action.handler, "rdi": info.number, "rsi": place + len(frame), "rdx": place + 8, "rax": 0,
        "flags": registers["flags"] & ~0x500,
    }  # fmt: skip


def _frame32(
    thread: Thread, info: SignalInfo, action: Action, registers: dict[str, int], sp: int, mask: int
) -> dict[str, int]:
    trap, cr2, error = thread.trap
    wide = bool(action.flags & SA_SIGINFO)
    context = struct.pack("<12I", *(registers[name] & 0xFFFF_FFFF for name in ORDER32))
    context += struct.pack("<IIIIIII", trap, error, registers["pc"], 0x73, registers["flags"], registers["sp"], 0x7B)
    context += struct.pack("<III", 0, mask & 0xFFFF_FFFF, cr2)
    code = (
        (b"\xb8" + struct.pack("<I", 173) + b"\xcd\x80\0")
        if wide
        else (b"\x58\xb8" + struct.pack("<I", 119) + b"\xcd\x80")
    )
    if wide:  # return address, signal, pointers to siginfo and ucontext, those, FPU, code of the restorer
        ucontext = struct.pack("<II", 0, 0) + _stack_t(thread) + context + struct.pack("<Q", mask)
        size = 16 + 128 + len(ucontext) + 8
        place = ((sp - size + 4) & -16) - 4
        at_info = place + 16
        body = siginfo(thread, info) + ucontext
        head = struct.pack("<III", info.number, at_info, at_info + 128)
        at_code, arguments = at_info + len(body), {"eax": info.number, "edx": at_info, "ecx": at_info + 128}
    else:  # return address, signal, registers, the upper half of the mask, code
        size = 8 + len(context) + 4 + 8
        place = ((sp - size + 4) & -16) - 4
        body = context + struct.pack("<I", mask >> 32)
        head = struct.pack("<I", info.number)
        at_code, arguments = place + 8 + len(body), {"eax": info.number, "edx": 0, "ecx": 0}
    restorer = action.restorer if action.flags & SA_RESTORER else at_code
    thread.put(place, struct.pack("<I", restorer) + head + body + code)
    return {"frame": place, "sp": place, "pc": action.handler, "flags": registers["flags"] & ~0x500, **arguments}


def sigreturn(thread: Thread, *, wide: bool = True) -> int:
    """rt_sigreturn(2), or sigreturn(2) of i386: what the result register is then. Raises SyscallError(EFAULT)."""
    sp = thread.registers.read()["sp"]
    if thread.abi.bits == 64:
        place = sp - 8
        at = place + 8 + 40
        values = struct.unpack("<18Q", thread.get(at, 144))
        registers = dict(zip(ORDER64, values, strict=True))
        mask = struct.unpack("<Q", thread.get(place + 8 + 40 + 256, 8))[0]
        stack = struct.unpack("<QiiQ", thread.get(place + 8 + 16, 24))
        thread.alternate_stack = stack[0], stack[3], stack[1]
    elif wide:
        place = sp - 4
        at = place + 16 + 128 + 8 + 12
        registers, _ = _read32(thread, at)
        mask = struct.unpack("<Q", thread.get(at + 88, 8))[0]
    else:
        place = sp - 8  # its code has taken the signal's number off
        registers, low = _read32(thread, place + 8)
        mask = low | struct.unpack("<I", thread.get(place + 8 + 88, 4))[0] << 32
    saved = thread.frames.pop(place, None)
    if saved is not None:
        thread.registers.become(saved)
        saved.close()
    registers["flags"] = registers["flags"] & FLAGS_OF_USERS | 0x202
    thread.registers.write(registers)
    thread.mask = mask & ~UNBLOCKABLE
    result: int = registers["rax" if thread.abi.bits == 64 else "eax"]
    return result


def _read32(thread: Thread, at: int) -> tuple[dict[str, int], int]:
    values = struct.unpack("<22I", thread.get(at, 88))
    registers = {
        name: value for name, value in zip(ORDER32, values, strict=False) if name not in ("gs", "fs", "es", "ds")
    }
    registers["pc"], registers["flags"] = values[14], values[16]
    return registers, values[20]
