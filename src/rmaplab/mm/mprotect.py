"""mprotect: change what may be done with a range; split what sticks out, merge where the kernel of the day does.

    before    |------- rw -------|---- r ----|        mprotect(range, PROT_READ)
    range              |---------|
    split     |-- rw --|-- r ----|---- r ----|        2.6.5-rc1-aa1 leaves it at that
    merged    |-- rw --|--------- r ---------|        2.6.2 and 2.6.5 join the end with what follows

Entries of a private mapping become read-only whatever their page's count: a later write finds out in a fault. PROT_NONE takes
the present bit away and leaves a mark, so that the page stays mapped and known to the reverse map.

Source: 2.6.2 mm/mprotect.c, sys_mprotect, mprotect_fixup, mprotect_attempt_merge; eras.md 6.2, 6.3.
"""

import errno
from contextlib import suppress

from rmaplab.errors import NoMemory, SegmentationFault, SyscallError, as_errno
from rmaplab.machine.entries import PRESENT, RW
from rmaplab.machine.pagetable_edit import protect_range
from rmaplab.mm.fault import touch
from rmaplab.mm.filemap import is_written_freely
from rmaplab.mm.kernel import Kernel, null_is_fine
from rmaplab.mm.limits import may_expand_vm
from rmaplab.mm.merge import continues, vma_modify
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.mseal import refuse_sealed
from rmaplab.mm.vma import absorb
from rmaplab.objects.flags import (
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_ACCOUNT,
    VM_EXEC,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_NORESERVE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

PROT_SEM = 0x8
ACCESS = VM_READ | VM_WRITE | VM_EXEC


def do_mprotect(k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int, prot: int) -> None:
    """Give [start, start + length) the protection `prot`. What precedes a failure stays changed.

    Raises SyscallError: EINVAL (unaligned, unknown bits), ENOMEM (a hole in the range, overcommit, a failed split), EACCES (shared, and not
    opened for writing).
    """
    unknown = prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM)
    if start % PAGE_SIZE or length < 0 or (unknown and not k.rules.mprotect_checks_length_first):
        raise SyscallError(errno.EINVAL, "mprotect")
    end = start + page_align(length)
    if start < 0 or end >= 1 << (8 * k.machine.paging.word_bytes):
        raise SyscallError(
            errno.ENOMEM if k.rules.mprotect_wrap_is_enomem else errno.EINVAL, "mprotect", "the range wraps"
        )
    if length and unknown:
        raise SyscallError(errno.EINVAL, "mprotect", "unknown bits of protection")
    with MmuGather(k, mm) as tlb:
        for vma, address, stop in mm.stretches(start, end):
            if vma is None:
                raise SyscallError(errno.ENOMEM, "mprotect", f"nothing is mapped at {address:#x}")
            if prot & ACCESS & ~(vma.flags >> 4):
                raise SyscallError(
                    errno.EACCES, "mprotect", f"{vma} may not be written to: its file was opened for reading"
                )
            _fixup(k, tlb, limits, vma, address, stop, vma.flags & ~ACCESS | prot & ACCESS)
    if end > start and k.rules.mprotect_merges and not k.rules.mprotect_asks_both:
        _merge_with_next(k, mm, end)


def _fixup(k: Kernel, tlb: MmuGather, limits: Limits, vma: VmArea, start: int, end: int, flags: int) -> None:
    """One VMA's part. Raises SyscallError: EPERM (sealed), ENOMEM."""
    refuse_sealed(vma, "mprotect")
    if flags == vma.flags:
        return
    if flags & VM_WRITE and k.rules.data_limits_mappings:  # not where its being writable does not matter: RLIMIT_AS
        kinds = flags, vma.flags
        now, before = (may_expand_vm(k, vma.mm, limits, kind, (end - start) >> PAGE_SHIFT) for kind in kinds)
        if before and not now:
            raise SyscallError(errno.ENOMEM, "mprotect", "RLIMIT_DATA")
    charged = refund = 0
    free = VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE
    if k.rules.mprotect_charges and flags & VM_WRITE and not vma.flags & free:
        charged = (end - start) >> PAGE_SHIFT
        k.charge_memory(charged, "mprotect")
        flags |= VM_ACCOUNT
    elif not flags & VM_WRITE and vma.flags & VM_ACCOUNT and vma.file is None and _loses_charge(k, vma):
        flags &= ~VM_ACCOUNT
        refund = (end - start) >> PAGE_SHIFT
    early_cow = (
        k.rules.mprotect_breaks_cow_of_locked
        and vma.flags & (VM_WRITE | VM_SHARED | VM_LOCKED_MASK) == VM_LOCKED
        and bool(flags & VM_WRITE)
    )
    present = PRESENT if flags & ACCESS else k.machine.encoding.hidden
    if vma.file is not None and is_written_freely(k, vma, flags):
        present |= RW
    try:
        vma_modify(
            k, vma, start, end, flags, "mprotect", merge=k.rules.mprotect_merges, with_next=k.rules.mprotect_asks_both
        )
    except (NoMemory, SyscallError) as failure:
        k.vm_unacct_memory(charged)
        raise as_errno(failure, errno.ENOMEM, "mprotect") from None
    k.vm_unacct_memory(refund)
    _change_protection(k, tlb, start, end, present)
    if early_cow:  # a locked page must not fault later
        with null_is_fine(), suppress(SegmentationFault):  # up to a guard region
            touch(k, vma.mm, None, start, end, write=True)


def _loses_charge(k: Kernel, vma: VmArea) -> bool:
    return k.rules.unfaulted_loses_charge and not k.design.vma_is_faulted(vma)


def _merge_with_next(k: Kernel, mm: MmStruct, end: int) -> None:
    """At the end of the call: join with what follows, if the call ended where a VMA does."""
    vma = mm.find_vma(end - 1)
    if vma is None or vma.end != end:
        return
    _, after = mm.neighbours(vma)
    flags = vma.flags
    if after is None or after.start != end or after.flags != flags or flags & k.rules.vm_special:
        return
    if continues(k, vma, flags, after.pgoff - vma.nr_pages, after):
        with null_is_fine():  # two they were, and two they stay
            absorb(k, vma, after)
            k.machine.charge("vma_merge")


def _change_protection(k: Kernel, tlb: MmuGather, start: int, end: int, present: int) -> None:
    """change_protection: entries lose the write bit and the present bit, and get `present`, in bursts; TLBs hear of it."""
    mm = tlb.mm
    k.lock_entries(mm)
    address = start
    while address < end:
        stop = k.burst_over(mm, address, end)
        lock = k.lock_burst(mm, address)
        nr = protect_range(*k.machine.geometry, mm.pgd, k.machine.mapped, address, stop, present)
        tlb.need_flush |= nr > 0 and k.rules.mprotect_gathers
        k.machine.charge("pte_protect", nr)
        k.machine.end_burst()
        if lock is not None:
            k.machine.locks.drop(lock)
        address = stop
    if not k.rules.mprotect_gathers:
        k.machine.tlb.flush_range(mm)
    k.unlock_entries(mm)
