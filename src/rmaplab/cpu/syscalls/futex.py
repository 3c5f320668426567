"""futex: waiting for a word of memory to change. Words of shared mappings are known by file and offset, others by address space and address.

Source: 6.18 kernel/futex/syscalls.c, waitwake.c, requeue.c; include/uapi/linux/futex.h. Priority inheritance is not here.
"""

import errno
import struct

from rmaplab.cpu.abi import int32
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.syscalls.timespec import get_timespec
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.waiting import ALL
from rmaplab.errors import SyscallError

WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET, WAKE_BITSET = 0, 1, 3, 4, 5, 9, 10
PRIVATE, CLOCK_REALTIME = 128, 256
COMMANDS = ~(PRIVATE | CLOCK_REALTIME)
OP_SET, OP_ADD, OP_OR, OP_ANDN, OP_XOR, OP_SHIFT = 0, 1, 2, 3, 4, 8


def _word(thread: Thread, address: int) -> int:
    if address % 4:
        raise SyscallError(errno.EINVAL, "futex")
    return int(struct.unpack("<I", thread.get(address, 4))[0])


def _wait(thread: Thread, address: int, value: int, until: int | None, bits: int) -> int:
    if not bits:
        raise SyscallError(errno.EINVAL, "futex")
    if _word(thread, address) != value & 0xFFFF_FFFF:
        raise SyscallError(errno.EAGAIN, "futex")
    queue = thread.userland.futex(thread.futex_key(address))
    thread.wake_bits = bits
    if not thread.sleep(queue, until_ns=until, again=until is None):
        raise SyscallError(errno.ETIMEDOUT, "futex")
    return 0


def _until(thread: Thread, command: int, operation: int, timeout: int, width: int) -> int | None:
    if not timeout:
        return None
    when = get_timespec(thread, timeout, width)
    if command == WAIT:
        return thread.machine.sched.now_ns + when
    return when - thread.userland.epoch_ns if operation & CLOCK_REALTIME else when


def _wake_op(thread: Thread, first: int, nr: int, second: int, nr2: int, operation: int) -> int:
    """FUTEX_WAKE_OP: change the second word, wake at the first, and at the second if its old value was such."""
    op, compare = operation >> 28 & 15, operation >> 24 & 15
    argument, value = operation >> 12 & 0xFFF, operation & 0xFFF
    argument, value = ((n - 4096 if n >> 11 else n) for n in (argument, value))
    if op & OP_SHIFT:
        argument = 1 << (argument & 31)
    old = _word(thread, second)
    new = {
        OP_SET: argument,
        OP_ADD: old + argument,
        OP_OR: old | argument,
        OP_ANDN: old & ~argument,
        OP_XOR: old ^ argument,
    }.get(op & 7)
    if new is None or compare > 5:
        raise SyscallError(errno.ENOSYS, "futex")
    thread.put(second, struct.pack("<I", new & 0xFFFF_FFFF))
    signed = int32(old)
    holds = (signed == value, signed != value, signed < value, signed <= value, signed > value, signed >= value)[
        compare
    ]
    woken = thread.userland.futex_wake(thread.futex_key(first), max(nr, 1))
    return woken + (thread.userland.futex_wake(thread.futex_key(second), max(nr2, 1)) if holds else 0)


def _futex(
    thread: Thread, address: int, operation: int, value: int, timeout: int, second: int, third: int, width: int
) -> int:
    command, userland = operation & COMMANDS & 0xFFFF_FFFF, thread.userland
    nr = int32(value)
    if operation & CLOCK_REALTIME and command != WAIT_BITSET:
        raise SyscallError(errno.ENOSYS, "futex")
    if command in (WAIT, WAIT_BITSET):
        bits = third & ALL if command == WAIT_BITSET else ALL
        return _wait(thread, address, value, _until(thread, command, operation, timeout, width), bits)
    if command in (WAKE, WAKE_BITSET):
        bits = third & ALL if command == WAKE_BITSET else ALL
        if address % 4 or not bits:
            raise SyscallError(errno.EINVAL, "futex")
        if not operation & PRIVATE:  # its page is looked for
            _word(thread, address)
        return userland.futex_wake(thread.futex_key(address), max(nr, 1), bits)
    if command in (REQUEUE, CMP_REQUEUE):
        if command == CMP_REQUEUE and _word(thread, address) != third & 0xFFFF_FFFF:
            raise SyscallError(errno.EAGAIN, "futex")
        if nr < 0 or int32(timeout) < 0:
            raise SyscallError(errno.EINVAL, "futex")
        woken = userland.futex_wake(thread.futex_key(address), nr)
        moved = userland.futex_requeue(thread.futex_key(address), thread.futex_key(second), int32(timeout))
        return woken + moved
    if command == WAKE_OP:
        return _wake_op(thread, address, nr, second, int32(timeout), third & 0xFFFF_FFFF)
    raise SyscallError(errno.ENOSYS, "futex")


@call("futex")
def sys_futex(thread: Thread, address: int, operation: int, value: int, timeout: int, second: int, third: int) -> int:
    """futex(2)."""
    return _futex(thread, address, operation, value, timeout, second, third, thread.abi.word)


@call("futex_time64", abi=32)
def sys_futex_time64(
    thread: Thread, address: int, operation: int, value: int, timeout: int, second: int, third: int
) -> int:
    """futex(2) with times of 64 bits."""
    return _futex(thread, address, operation, value, timeout, second, third, 8)


@call("set_robust_list")
def sys_set_robust_list(thread: Thread, head: int, length: int, *_: int) -> int:
    """set_robust_list(2): what is done with it when the thread ends says robust.py."""
    if length != 3 * thread.abi.word:
        raise SyscallError(errno.EINVAL, "set_robust_list")
    thread.robust_list = head
    return 0
