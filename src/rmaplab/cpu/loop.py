"""The life of a thread: user code runs until something wants the kernel, again and again.

    turn ---- SYSCALL ----> a row of syscalls/ ----+
    ^  |----- FAULT ------> Task.touch ------------+--> signals that are for it: a frame on its stack, or its end
    |  |----- EXCEPTION --> a signal --------------+                                     |
    |  +----- SLICE ------> time passes -----------+                                     |
    +------------------------------------------------------------------------------------+

User time passes at so much a basic block (userland.py, NS_A_BLOCK); a thread that calls the kernel often saves it up.
"""

import errno
import struct
from contextlib import suppress

from rmaplab.calls.task import Task
from rmaplab.cpu.engine import AccessKind, Trap
from rmaplab.cpu.pending import SignalInfo
from rmaplab.cpu.process import killed
from rmaplab.cpu.signals import (
    SEGV_ACCERR,
    SEGV_MAPERR,
    SI_KERNEL,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGSEGV,
    SIGTRAP,
    deliver,
    is_made_again,
)
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.userland import CYCLES_A_US, NS_A_BLOCK
from rmaplab.cpu.waiting import Interrupted
from rmaplab.errors import BusError, NotModelled, OomKilled, Oops, SegmentationFault, SyscallError
from rmaplab.machine.entries import PRESENT
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.process import oops
from rmaplab.units import PAGE_SIZE

BURST_BLOCKS = 25_000
SAVED_UP_NS = 20_000
CALL_BYTES = 2
"""Of `syscall` and of `int 0x80`: a call is made again from there."""
DIVIDE, DEBUG, BREAKPOINT, INVALID_OPCODE, GENERAL_PROTECTION, PAGE_FAULT = 0, 1, 3, 6, 13, 14
FLOATING, ALIGNMENT, SIMD = 16, 17, 19
FIRST_OF_SOFTWARE, FROM_THE_IDT = 32, 2
"""Vectors that the CPU itself does not raise; an error code that names a gate."""
WAS_PRESENT, ON_WRITE, USER_MODE, ON_FETCH = 1, 2, 4, 16
SIGNAL_OF = {
    DIVIDE: (SIGFPE, 1), DEBUG: (SIGTRAP, 1), BREAKPOINT: (SIGTRAP, SI_KERNEL), INVALID_OPCODE: (SIGILL, 2), ALIGNMENT: (SIGBUS, 1),
    FLOATING: (SIGFPE, 3), SIMD: (SIGFPE, 3),
}  # fmt: skip
"""By vector: the signal, its si_code. All others are general protection faults: SIGSEGV, SI_KERNEL."""


def live(thread: Thread, task: Task) -> int:
    """The program of its task, until it ends."""
    userland, machine, process = thread.userland, thread.machine, thread.process
    task.at_exit = lambda code: _ends(thread, killed(-code) if code < 0 else code)
    if thread.set_tid:  # schedule_tail: in its own address space, and it does not matter if it cannot be
        tid, thread.set_tid = thread.set_tid, 0
        with suppress(SyscallError):
            thread.put(tid, struct.pack("<i", task.pid))
    while True:
        if (
            thread.pending
            or process.pending
            or process.dying is not None
            or thread.ends_alone
            or thread.saved_mask is not None
        ):
            deliver(thread)
        if task.fatal:
            raise OomKilled("SIGKILL")
        cycles = (machine.sched.now_ns + thread.unspent_ns) * CYCLES_A_US // 1000
        engine = userland.engine(thread.abi.bits)  # a debugger may stand before it, and may have gone
        trap = engine.turn(thread.registers, thread.space, BURST_BLOCKS, cycles)
        number, arguments = engine.number, engine.arguments  # before time passes: others run on the same engine
        address, access, vector = engine.address, engine.access, engine.vector
        thread.unspent_ns += engine.blocks * NS_A_BLOCK
        if trap is Trap.SLICE or thread.unspent_ns > SAVED_UP_NS:
            thread.spend()
        if trap is Trap.SYSCALL:
            _call(thread, number, arguments)
        elif trap is Trap.FAULT:
            _fault(thread, address, access)
        elif trap is Trap.EXCEPTION:
            _exception(thread, vector)
        machine.progress_ns = machine.sched.now_ns


def _ends(thread: Thread, status: int) -> None:
    thread.userland.thread_gone(thread, thread.process, status)
    thread.close()


def _call(thread: Thread, number: int, arguments: tuple[int, ...]) -> None:
    userland, machine = thread.userland, thread.machine
    call = userland.calls[thread.abi.bits].get(number)
    before = machine.ledger.counts["syscall"]
    try:
        if call is None:
            userland.unknown_call(thread.abi.bits, number)
            result = -errno.ENOSYS
        else:
            result = call(thread, *arguments)
    except SyscallError as failure:
        result = -(failure.errno or errno.EINVAL)
    except SegmentationFault:
        result = -errno.EFAULT
    except Oops:
        if thread.task.mm is not None:
            oops(thread.kernel, thread.task)
        raise
    except NotModelled as failure:
        userland.not_modelled(thread.abi.bits, number, str(failure))
        result = -errno.ENOSYS
    except Interrupted as interruption:
        result = -errno.EINTR
        if interruption.again and is_made_again(thread):
            result = number
            thread.registers.pc -= CALL_BYTES
    thread.registers.result = result
    if machine.ledger.counts["syscall"] == before:  # else what it has called has counted itself
        machine.charge("syscall")
    if machine.ledger.pending_ns > SAVED_UP_NS:
        machine.end_burst()
        machine.sched.cond_resched()


def _exception(thread: Thread, vector: int) -> None:
    """What is no page fault. `int n` may not be run but for two vectors: it is a general protection fault, at the instruction, whose error code says n."""
    error = 0
    if vector >= FIRST_OF_SOFTWARE:
        thread.registers.pc -= CALL_BYTES
        vector, error = GENERAL_PROTECTION, vector << 3 | FROM_THE_IDT
    signal, code = SIGNAL_OF.get(vector, (SIGSEGV, SI_KERNEL))
    thread.trap = vector, thread.trap[1], error
    thread.force(SignalInfo(signal, code, address=thread.registers.pc if code != SI_KERNEL else 0))


def _fault(thread: Thread, address: int, access: AccessKind) -> None:
    task = thread.task
    page = address & -PAGE_SIZE
    thread.process.min_faults += 1
    try:
        if access is AccessKind.FETCH:
            task.execute(page)
            thread.userland.find_executable(thread.space)
        else:
            task.touch(page, PAGE_SIZE, write=access is AccessKind.WRITE)
    except BusError:
        thread.trap = PAGE_FAULT, address, _error_code(thread, address, access)
        thread.force(SignalInfo(SIGBUS, 2, address=address))
    except SegmentationFault as fault:
        if fault.code == "KERNEL":
            thread.trap = GENERAL_PROTECTION, thread.trap[1], 0
            thread.force(SignalInfo(SIGSEGV, SI_KERNEL))
        else:
            thread.trap = PAGE_FAULT, address, _error_code(thread, address, access)
            thread.force(SignalInfo(SIGSEGV, SEGV_ACCERR if fault.code == "ACCERR" else SEGV_MAPERR, address=address))


def _error_code(thread: Thread, address: int, access: AccessKind) -> int:
    """Of a page fault of user mode: was an entry there; was it a write; was it a fetch, where the CPU tells. Nobody is told what the kernel's own half has."""
    machine, pgd = thread.machine, thread.space.mm.pgd
    code = USER_MODE | (ON_WRITE if access is AccessKind.WRITE else 0)
    if access is AccessKind.FETCH and thread.kernel.rules.knows_nx:
        code |= ON_FETCH
    if address >= machine.paging.task_size or lookup(*machine.geometry, pgd, address)[0] & PRESENT:
        code |= WAS_PRESENT
    return code
