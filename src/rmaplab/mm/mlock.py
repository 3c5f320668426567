"""mlock and its relatives: VMAs whose pages stay in memory. VM_LOCKED, splits and merges, the limit; then the pages are faulted in.

    mlock, mlock2       VM_LOCKED on a range (with MLOCK_ONFAULT: VM_LOCKONFAULT too), and its pages are brought in
    munlock             both bits go
    mlockall            on all VMAs there are (MCL_CURRENT), on all to come (MCL_FUTURE), or both
    munlockall          nowhere any more

The range is done VMA by VMA up to a hole: then ENOMEM, and what precedes it is locked. fork's child has nothing locked.

Who may: up to 2.6.8 CAP_IPC_LOCK, within RLIMIT_MEMLOCK; since then RLIMIT_MEMLOCK, or CAP_IPC_LOCK without limit.

When pages come: up to 3.8 with each VMA, under mmap_sem, and the first VMA whose pages cannot be had ends the call (2.4 does not look);
now when the whole range is locked and mmap_sem is free again (mm/populate.py).

Source: mm/mlock.c of 2.4.27, 2.6.2 and 6.18, do_mlock, apply_vma_lock_flags, mlock_fixup, apply_mlockall_flags; make_pages_present and
get_user_pages of 2.6.2 mm/memory.c; history.md 1.5.11.
"""

import errno
from contextlib import suppress

from rmaplab.errors import BusError, NoMemory, SyscallError
from rmaplab.mm.fault import touch
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.limits import can_do_mlock
from rmaplab.mm.merge import vma_modify
from rmaplab.mm.populate import writes
from rmaplab.objects.flags import (
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_LOCKONFAULT,
    VM_READ,
    VM_WRITE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, Range, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align


def do_mlock(k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int, flags: int) -> Range | None:
    """Lock a range of addresses, the whole pages that it meets: what of it is to be faulted in next.

    Raises SyscallError: EINVAL (flags), EPERM, ENOMEM (a hole; more than may be locked), EAGAIN (no VMA), EFAULT (no access).
    """
    if flags & ~MLOCK_ONFAULT:
        raise SyscallError(errno.EINVAL, "mlock2", "unknown flags")
    _can_do_mlock(k, limits, "mlock")
    start, end = _whole_pages(k, start, length)
    locked = mm.locked_vm + ((end - start) >> PAGE_SHIFT)
    if k.rules.mlock_counts_pages_once:
        locked -= _locked_in(mm, start, end)
    _check_limit(k, limits, locked, "mlock")
    _check_capable(k, k.rules.mlock_needs_capability, limits, "mlock")
    lock = VM_LOCKED | (VM_LOCKONFAULT if flags & MLOCK_ONFAULT else 0)
    _apply(k, mm, start, end, lock, "mlock")
    return None if k.rules.mlock_faults_each_vma else (start, end)


def do_munlock(k: Kernel, mm: MmStruct, start: int, length: int) -> None:
    """Unlock a range. Raises SyscallError: ENOMEM (a hole), ENOMEM or EAGAIN (no VMA), EINVAL (it wraps)."""
    _apply(k, mm, *_whole_pages(k, start, length), 0, "munlock")


def do_mlockall(k: Kernel, mm: MmStruct, limits: Limits, flags: int) -> tuple[None, Range | None]:
    """Lock what is mapped, what will be, or both: (nothing, what is to be faulted in next).

    Raises SyscallError: EINVAL, EPERM, ENOMEM (RLIMIT_MEMLOCK).
    """
    known = MCL_CURRENT | MCL_FUTURE | (MCL_ONFAULT if k.rules.mcl_onfault_known else 0)
    if not flags or flags & ~known or flags == MCL_ONFAULT:
        raise SyscallError(errno.EINVAL, "mlockall", "unknown flags, or MCL_ONFAULT alone")
    _can_do_mlock(k, limits, "mlockall")
    if flags & MCL_CURRENT or k.rules.memlock_limits_future:
        _check_limit(k, limits, mm.total_vm, "mlockall")
    _check_capable(k, k.rules.mlock_needs_capability, limits, "mlockall")
    lock = VM_LOCKED | (VM_LOCKONFAULT if flags & MCL_ONFAULT else 0)
    mm.def_flags = mm.def_flags & ~VM_LOCKED_MASK | (lock if flags & MCL_FUTURE else 0)
    if not flags & MCL_CURRENT:
        if k.rules.mlockall_future_unlocks:
            _apply_to_all(k, mm, 0)
        return None, None
    _apply_to_all(k, mm, lock)
    return None, None if k.rules.mlock_faults_each_vma else (0, k.machine.paging.task_size)


def do_munlockall(k: Kernel, mm: MmStruct, limits: Limits) -> tuple[None, None]:
    """Nothing is locked, and nothing will be. Raises SyscallError(EPERM)."""
    _check_capable(k, k.rules.munlockall_needs_capability, limits, "munlockall")
    mm.def_flags &= ~VM_LOCKED_MASK
    _apply_to_all(k, mm, 0)
    return None, None


def _can_do_mlock(k: Kernel, limits: Limits, call: str) -> None:
    """can_do_mlock, where a limit is all that one needs: it comes first. Raises SyscallError(EPERM)."""
    if not k.rules.mlock_needs_capability and not limits.memlock:
        _check_capable(k, True, limits, call)


def _check_capable(k: Kernel, needed: bool, limits: Limits, call: str) -> None:
    if needed and not can_do_mlock(k, limits):
        raise SyscallError(errno.EPERM, call, "CAP_IPC_LOCK is not there")


def _check_limit(k: Kernel, limits: Limits, nr_pages: int, call: str) -> None:
    """Whether so many pages in all may be locked. Raises SyscallError(ENOMEM)."""
    limited = k.rules.memlock_limits_all or not limits.may_lock
    if limited and nr_pages > limits.memlock >> PAGE_SHIFT:
        why = f"{nr_pages:,} pages would be locked, more than RLIMIT_MEMLOCK: {limits.memlock >> PAGE_SHIFT:,}"
        raise SyscallError(errno.ENOMEM, call, why)
    if k.rules.mlock_half_of_ram and nr_pages > k.machine.frames.nr // 2:
        raise SyscallError(errno.ENOMEM, call, "more than half of all memory")


def _whole_pages(k: Kernel, start: int, length: int) -> Range:
    """(start, end) of the pages that a range meets; a length that wraps is 0, an end that does lies beyond all addresses."""
    return start & -PAGE_SIZE, (start & -PAGE_SIZE) + page_align(length + start % PAGE_SIZE) % k.machine.paging.wraps_at


def _locked_in(mm: MmStruct, start: int, end: int) -> int:
    """count_mm_mlocked_page_nr: pages of the range that are locked already."""
    return sum(
        (min(end, vma.end) - max(start, vma.start)) >> PAGE_SHIFT
        for vma in mm.overlapping(start, end)
        if vma.flags & VM_LOCKED
    )


def _apply(k: Kernel, mm: MmStruct, start: int, end: int, lock: int, call: str) -> None:
    """apply_vma_lock_flags. Raises SyscallError; what precedes a failure is done."""
    if end >= k.machine.paging.wraps_at:
        raise SyscallError(errno.EINVAL, call, "the range wraps")
    for vma, address, stop in mm.stretches(start, end):
        if vma is None:
            raise SyscallError(errno.ENOMEM, call, f"nothing is mapped at {address:#x}")
        _fixup(k, mm, vma, address, stop, lock, call)


def _apply_to_all(k: Kernel, mm: MmStruct, lock: int) -> None:
    """apply_mlockall_flags: a VMA that cannot be merged for want of memory stays as it is, and no error is told."""
    address = 0
    while (vma := mm.find_vma(address)) is not None:
        address = vma.end
        with suppress(SyscallError):
            _fixup(k, mm, vma, vma.start, vma.end, lock, "mlockall")


def _fixup(k: Kernel, mm: MmStruct, vma: VmArea, start: int, end: int, lock: int, call: str) -> None:
    """mlock_fixup: the part [start, end) of one VMA. Raises SyscallError."""
    flags = vma.flags & ~VM_LOCKED_MASK | lock
    if flags == vma.flags or vma.flags & k.rules.mlock_leaves:
        return
    was = vma.flags & VM_LOCKED
    code = errno.EAGAIN if k.rules.mlock_split_is_eagain else errno.ENOMEM
    try:
        vma = vma_modify(k, vma, start, end, flags, call, merge=k.rules.mlock_merges)
    except NoMemory as failure:
        raise failure.or_errno(code, call, "no memory for a VMA") from None
    except SyscallError as failure:
        raise SyscallError(code, call, failure.why) from None
    if bool(was) != bool(lock):
        mm.locked_vm += ((end - start) >> PAGE_SHIFT) * (1 if lock else -1)
    k.machine.charge("vma_lock")
    if lock and k.rules.mlock_faults_each_vma:
        _make_pages_present(k, mm, vma, start, end, call)


def _make_pages_present(k: Kernel, mm: MmStruct, vma: VmArea, start: int, end: int, call: str) -> None:
    """The pages of a part that is locked now. Raises SyscallError, where the kernel of the day looks: EFAULT, ENOMEM.

    No memory after some pages is 2.6.2's -1, which means EPERM; here it is ENOMEM like none at the first page. Where a file ends it is EPERM.
    """
    write = writes(k, vma)
    code = errno.EFAULT
    if vma.flags & (VM_WRITE if write else VM_READ):  # get_user_pages: VM_EXEC alone does not do
        try:
            touch(k, mm, None, start, end, write)
        except NoMemory as failure:
            if failure.waiting_helps:
                raise
            code = errno.ENOMEM
        except BusError as fault:
            code = errno.EFAULT if fault.address == start else errno.EPERM
        else:
            return
    if k.rules.mlock_tells_faults:
        raise SyscallError(code, call, f"{vma} is locked, but its pages cannot be had")
