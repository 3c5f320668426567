"""Robust futexes: a thread that ends with locks held says so in each, and wakes who waits.

    head -> entry -> entry -> head        each `offset` bytes from the word of its lock; one more may be in the middle of being taken (pending)
    word    owner's tid | FUTEX_WAITERS   becomes FUTEX_OWNER_DIED | FUTEX_WAITERS

Source: 6.18 kernel/futex/core.c, exit_robust_list, handle_futex_death; include/uapi/linux/futex.h.
"""

import struct

from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError

WAITERS, OWNER_DIED, TID_MASK = 0x8000_0000, 0x4000_0000, 0x3FFF_FFFF
LONGEST = 2048
"""ROBUST_LIST_LIMIT: a list may be a ring without its head."""


def exit_robust_list(thread: Thread) -> None:
    """The thread is about to end, or to become another program."""
    head, thread.robust_list = thread.robust_list, 0
    if not head:
        return
    try:
        entry, offset, pending = thread.words(head, 3)
        offset = thread.abi.signed(offset)
        for _ in range(LONGEST):
            if entry & ~1 == head or not entry & ~1:
                break
            (following,) = thread.words(entry & ~1, 1)
            if entry & ~1 != pending & ~1:
                _owner_has_died(thread, (entry & ~1) + offset)
            entry = following
        if pending & ~1:
            _owner_has_died(thread, (pending & ~1) + offset)
    except SyscallError:  # the list leads nowhere: that is its thread's affair
        return


def _owner_has_died(thread: Thread, address: int) -> None:
    (word,) = struct.unpack("<I", thread.get(address, 4))
    if word & TID_MASK != thread.task.pid:
        return
    thread.put(address, struct.pack("<I", word & WAITERS | OWNER_DIED))
    if word & WAITERS:
        thread.userland.futex_wake(thread.futex_key(address), 1)
