"""What tests ask of the machine and nobody else does: to try, and to take the time that is due."""

from __future__ import annotations

from rmaplab.machine.allocator import Gfp, PageAllocator
from rmaplab.machine.arrays import I64
from rmaplab.machine.ledger import Ledger
from rmaplab.machine.locks import Lock, Locks


def try_alloc(allocator: PageAllocator, nr: int, gfp: Gfp, *, order: int = 0) -> I64 | None:
    """alloc() without sleeping: all of it, or None and nothing taken."""
    return None if allocator.injected_failure(nr) else allocator.take(nr, gfp, order, zeroed=False)


def try_take(locks: Locks, lock: Lock) -> bool:
    """Take it for writing only if nobody is in the way."""
    free = not lock.busy(write=True)
    if free:
        locks.take(lock)
    return free


def due_ns(ledger: Ledger) -> int:
    """The time due since the last call."""
    due, ledger.pending_ns = ledger.pending_ns, 0
    return due
