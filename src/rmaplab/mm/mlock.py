"""mlock and its relatives: VMAs whose pages stay in memory. VM_LOCKED, splits and merges, the limit; then the pages are faulted in.

    mlock, mlock2       VM_LOCKED on a range (with MLOCK_ONFAULT: VM_LOCKONFAULT too), and its pages are brought in
    munlock             both bits go
    mlockall            on all VMAs there are (MCL_CURRENT), on all to come (MCL_FUTURE), or both
    munlockall          nowhere any more

The range is done VMA by VMA up to a hole: then ENOMEM, and what precedes it is locked. fork's child has nothing locked.

Who may: up to 2.6.8 CAP_IPC_LOCK, within RLIMIT_MEMLOCK; since then RLIMIT_MEMLOCK, or CAP_IPC_LOCK without limit.

Source: mm/mlock.c of 2.6.2 and 6.18, do_mlock, apply_vma_lock_flags, mlock_fixup, apply_mlockall_flags; history.md 1.5.11.
"""

import errno

from rmaplab.errors import AllocationFailed, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import vma_modify
from rmaplab.objects.flags import (
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
)
from rmaplab.objects.mm_types import Limits, MmStruct, Range, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align


def do_mlock(k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int, flags: int) -> Range:
    """Lock a range of addresses; the whole pages that it meets, which are to be faulted in next.

    Raises SyscallError: EINVAL (flags), EPERM, ENOMEM (a hole; more than RLIMIT_MEMLOCK allows; too many mappings).
    """
    if flags & ~MLOCK_ONFAULT:
        raise SyscallError(errno.EINVAL, "mlock2", "unknown flags")
    _check_may_lock(k, limits, "mlock")
    end = page_align(start + length)
    start &= -PAGE_SIZE
    nr_pages = (end - start) >> PAGE_SHIFT
    locked = mm.locked_vm + nr_pages
    if k.rules.mlock_counts_pages_once:
        locked -= _locked_in(mm, start, end)
    if locked > limits.memlock >> PAGE_SHIFT and (k.rules.memlock_limits_all or not limits.may_lock):
        raise SyscallError(errno.ENOMEM, "mlock", "more than RLIMIT_MEMLOCK allows")
    lock = VM_LOCKED | (VM_LOCKONFAULT if flags & MLOCK_ONFAULT else 0)
    _apply(k, mm, start, end, lock, "mlock")
    return start, end


def do_munlock(k: Kernel, mm: MmStruct, start: int, length: int) -> None:
    """Unlock a range. Raises SyscallError: ENOMEM (a hole, too many mappings), EINVAL (it wraps)."""
    _apply(k, mm, start & -PAGE_SIZE, page_align(start + length), 0, "munlock")


def do_mlockall(k: Kernel, mm: MmStruct, limits: Limits, flags: int) -> tuple[None, Range | None]:
    """Lock what is mapped, what will be, or both: (nothing, what is to be faulted in next).

    Raises SyscallError: EINVAL, EPERM, ENOMEM (RLIMIT_MEMLOCK).
    """
    known = MCL_CURRENT | MCL_FUTURE | (MCL_ONFAULT if k.rules.mcl_onfault_known else 0)
    if not flags or flags & ~known or flags == MCL_ONFAULT:
        raise SyscallError(errno.EINVAL, "mlockall", "unknown flags, or MCL_ONFAULT alone")
    _check_may_lock(k, limits, "mlockall")
    limited = flags & MCL_CURRENT or k.rules.memlock_limits_future
    if limited and (k.rules.memlock_limits_all or not limits.may_lock) and mm.total_vm > limits.memlock >> PAGE_SHIFT:
        raise SyscallError(errno.ENOMEM, "mlockall", "more is mapped than RLIMIT_MEMLOCK allows")
    lock = VM_LOCKED | (VM_LOCKONFAULT if flags & MCL_ONFAULT else 0)
    mm.def_flags = mm.def_flags & ~VM_LOCKED_MASK | (lock if flags & MCL_FUTURE else 0)
    if not flags & MCL_CURRENT:
        return None, None
    _apply_to_all(k, mm, lock)
    return None, (0, k.machine.paging.task_size)


def do_munlockall(k: Kernel, mm: MmStruct) -> None:
    """Nothing is locked, and nothing will be."""
    mm.def_flags &= ~VM_LOCKED_MASK
    _apply_to_all(k, mm, 0)


def _check_may_lock(k: Kernel, limits: Limits, call: str) -> None:
    """can_do_mlock."""
    if not limits.may_lock and (k.rules.mlock_needs_capability or not limits.memlock):
        raise SyscallError(errno.EPERM, call, "CAP_IPC_LOCK is not there")


def _locked_in(mm: MmStruct, start: int, end: int) -> int:
    """count_mm_mlocked_page_nr: pages of the range that are locked already."""
    return sum(
        (min(end, vma.end) - max(start, vma.start)) >> PAGE_SHIFT
        for vma in mm.overlapping(start, end)
        if vma.flags & VM_LOCKED
    )


def _apply(k: Kernel, mm: MmStruct, start: int, end: int, lock: int, call: str) -> None:
    """apply_vma_lock_flags. Raises SyscallError; what precedes a failure is done."""
    if end < start or end > 1 << (8 * k.machine.paging.word_bytes):
        raise SyscallError(errno.EINVAL, call, "the range wraps")
    for vma, address, stop in mm.stretches(start, end):
        if vma is None:
            raise SyscallError(errno.ENOMEM, call, f"nothing is mapped at {address:#x}")
        try:
            _fixup(k, mm, vma, address, stop, lock, call)
        except AllocationFailed:
            raise SyscallError(errno.ENOMEM, call) from None


def _apply_to_all(k: Kernel, mm: MmStruct, lock: int) -> None:
    """apply_mlockall_flags: a VMA that cannot be merged for want of memory stays as it is."""
    address = 0
    while (vma := mm.find_vma(address)) is not None:
        address = vma.end
        try:
            _fixup(k, mm, vma, vma.start, vma.end, lock, "mlockall")
        except (AllocationFailed, SyscallError):
            continue


def _fixup(k: Kernel, mm: MmStruct, vma: VmArea, start: int, end: int, lock: int, call: str) -> None:
    """mlock_fixup: the part [start, end) of one VMA."""
    flags = vma.flags & ~VM_LOCKED_MASK | lock
    if flags == vma.flags or vma.flags & k.rules.mlock_leaves:
        return
    was = vma.flags & VM_LOCKED
    vma_modify(k, vma, start, end, flags, call, merge=k.rules.mlock_merges)
    if bool(was) != bool(lock):
        mm.locked_vm += ((end - start) >> PAGE_SHIFT) * (1 if lock else -1)
    k.machine.charge("vma_lock")
