"""munmap: what sticks out is cut off, the rest goes, and the page tables under it.

    before    |------- A -------|   |--- B ---|   |------ C ------|
    munmap               |--------------------------------|
    split     |--- A ----|- A' -|   |--- B ---|   |--C ---|-- C' -|     the ends first: this alone may fail
    after     |--- A ----|                                |-- C' -|     A', B and C are unlinked, their entries zapped, their
                                                                        page tables freed, then they leave the reverse map

What sticks out at the ends may need two VMAs; 2.4 takes a spare one in any case.

Source: 2.6.2 mm/mmap.c, do_munmap, unmap_region; 2.4.27 mm/mmap.c, do_munmap; 6.18 mm/vma.c, vms_gather_munmap_vmas.
"""

import errno

from rmaplab.errors import NoMemory, Oops, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.mseal import refuse_sealed
from rmaplab.mm.vma import relink_file, remove_vma, split_vma, unlink_vma
from rmaplab.mm.zap import free_pgtables, unmap_page_range
from rmaplab.objects.flags import VM_ACCOUNT, VM_LOCKED
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SIZE, page_align


def do_munmap(k: Kernel, mm: MmStruct, start: int, length: int, call: str = "munmap") -> None:
    """Unmap every page of [start, start + length); VMAs that stick out are split. `call` is whose errors they are.

    Raises SyscallError: EINVAL (unaligned, empty or outside the address space), ENOMEM (a split that cannot be made).
    """
    task_size = k.machine.paging.task_size
    if start % PAGE_SIZE or not 0 <= start <= task_size or not 0 < length <= task_size - start:
        raise SyscallError(errno.EINVAL, call)
    end = start + page_align(length)
    cut = _sticking_out(mm, start, end) if k.rules.munmap_relinks else (False, False)
    doomed = split_ends(k, mm, start, end, call)
    if not doomed:
        return
    before, after = mm.gap_around(start, end)
    unmapped_base = k.machine.paging.unmapped_base
    for vma in doomed:
        unlink_vma(k, vma)
        if unmapped_base <= vma.start < mm.free_area_cache:
            mm.free_area_cache = vma.start
    k.lru_add.drain(k.this_cpu())
    k.lock_entries(mm)
    tlb = MmuGather(k, mm)
    for vma in doomed:
        try:
            unmap_page_range(k, tlb, vma.start, vma.end)
        except Oops:
            _put_back(mm, doomed)
            raise
        if k.rules.gather_per_vma:
            tlb.end_vma()
        nr_pages = vma.nr_pages
        mm.total_vm -= nr_pages
        if vma.flags & VM_ACCOUNT:
            k.vm_unacct_memory(nr_pages)
        if vma.flags & VM_LOCKED:
            mm.locked_vm -= nr_pages
    free_pgtables(k, tlb, before.end if before else 0, start, end, after.start if after else None)
    tlb.finish()
    k.unlock_entries(mm)
    for vma in doomed:
        remove_vma(k, vma)
    for side, is_cut in zip((after, before), cut, strict=True):  # unmap_fixup: it was off its lists meanwhile
        if side is not None and is_cut:
            relink_file(k, side)


def _put_back(mm: MmStruct, doomed: list[VmArea]) -> None:
    """A BUG() has ended it: mmap_sem is never dropped, so that nobody will ever see which VMAs were off the list, and who counts finds them."""
    for vma in doomed:
        mm.insert(vma)
    mm.total_vm = sum(vma.nr_pages for vma in mm.vmas) - mm.total_vm_drift


def _sticking_out(mm: MmStruct, start: int, end: int) -> tuple[bool, bool]:
    """Whether a VMA will be cut behind the range, and before it."""
    vmas = mm.overlapping(start, end)
    return (vmas[-1].end > end, vmas[0].start < start) if vmas else (False, False)


def split_ends(k: Kernel, mm: MmStruct, start: int, end: int, call: str) -> list[VmArea]:
    """The VMAs of [start, end), in order; those that stick out are cut there.

    Raises SyscallError: ENOMEM, and EPERM (a sealed one, before anything behind it is cut); one may be cut then.
    """
    doomed = mm.overlapping(start, end)
    if not doomed:
        return doomed
    if doomed[0].start >= start and doomed[-1].end <= end and not k.rules.munmap_needs_spare_vma:
        _refuse_sealed(doomed, call)
        return doomed
    limited = not k.rules.munmap_counts_holes_only or (doomed[0].start < start and end < doomed[0].end)
    try:
        if k.rules.munmap_needs_spare_vma:  # 2.4 takes it in case a split is needed, though perhaps none is
            k.vma_cache.free(k.vma_cache.alloc())
        if doomed[0].start < start:
            _refuse_sealed(doomed[:1], call)
            new = split_vma(k, doomed[0], start, call, below=k.rules.munmap_keeps_inside, limited=limited)
            doomed[0] = doomed[0] if k.rules.munmap_keeps_inside else new
        _refuse_sealed(doomed, call)
        if doomed[-1].end > end:
            limited = limited and not k.rules.munmap_counts_holes_only
            new = split_vma(k, doomed[-1], end, call, below=not k.rules.munmap_keeps_inside, limited=limited)
            doomed[-1] = doomed[-1] if k.rules.munmap_keeps_inside else new
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOMEM, call) from None
    return doomed


def _refuse_sealed(vmas: list[VmArea], call: str) -> None:
    for vma in vmas:
        refuse_sealed(vma, call)
