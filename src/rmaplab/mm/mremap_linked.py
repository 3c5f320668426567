"""mremap of later kernels: the VMA is there before its entries come. Here with the rules of 6.18.

    1  checks; with MREMAP_FIXED the destination is cleared, when the source has been found good
    2  growth charged; a neighbour of the destination grows over it, or a new VMA is cloned and linked
    3  entries move                                       source   [ ][ ][3][4]      destination   [1][2][ ][ ]
    4  the source is unmapped; with MREMAP_DONTUNMAP it stays, empty

A walk sees a page at one of the two places all the time: both VMAs are in the reverse map.

A VMA without anonymous pages gets the page offset of its new address, as if it had been made there; a faulted one keeps its own, and
with it its pages' indexes. An emptied source (DONTUNMAP of all of it) is without anonymous pages again.

Since 6.17 a move that neither grows nor shrinks (MREMAP_FIXED) may cover many VMAs: each goes by itself, gaps between them stay
gaps, and what is mapped where a gap lands stays too.

Source: 6.18 mm/mremap.c, check_mremap_params, check_prep_vma, remap_move, mremap_to, mremap_at, expand_vma, move_vma, dontunmap_complete;
mm/vma.c, copy_vma, vma_merge_extend; modern.md 1.9, 4. What is not in these was tried out on a running 6.18.
"""

from __future__ import annotations

import errno

from rmaplab.errors import AllocationFailed, NeedsReclaim, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import merge_new_range
from rmaplab.mm.mmap import check_lock_limit, do_munmap, get_unmapped_area
from rmaplab.mm.move_ptes import move_page_tables
from rmaplab.mm.zap import zap_whole_tables
from rmaplab.objects.flags import (
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_LOCKED_MASK,
)
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

SPARE_MAPPINGS = 3  # a move may need so many more VMAs at once


def mremap_linked(k: Kernel, mm: MmStruct, old: int, old_length: int, new_length: int, flags: int, new: int) -> int:
    """The mapping at [old, old + old_length) with a new length, maybe at a new address: that address.

    Raises SyscallError: EINVAL (flags, alignment, lengths, overlap), EFAULT (nothing there, or more than one VMA), ENOMEM, EAGAIN
    (RLIMIT_MEMLOCK).
    """
    old_length, new_length = page_align(old_length), page_align(new_length)
    _check_arguments(k, mm, old, old_length, new_length, flags, new)
    if flags & MREMAP_FIXED and old_length == new_length:
        return _move_run(k, mm, old, old_length, flags, new)
    vma = _vma_at(mm, old)
    if old_length >= new_length and not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):  # wherever the range may end
        if old_length > new_length:
            do_munmap(k, mm, old + new_length, old_length - new_length, "mremap")
        return old
    old_length, cut = _check_source(mm, vma, old, old_length, new_length)
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return _move_to(k, mm, old, old_length, cut, new_length, flags, new)
    return _grow(k, mm, vma, old, old_length, new_length, flags)


def _check_arguments(k: Kernel, mm: MmStruct, old: int, old_length: int, new_length: int, flags: int, new: int) -> None:
    """check_mremap_params: what can be said without looking at VMAs."""
    task_size = k.machine.paging.task_size
    if flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP) or old % PAGE_SIZE or old_length < 0:
        raise SyscallError(errno.EINVAL, "mremap", "unknown flags, or an address that is not a page's")
    if not 0 < new_length <= task_size:
        raise SyscallError(errno.EINVAL, "mremap", "a new length of 0, or beyond the address space")
    if not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return
    overlap = new < old + old_length and old < new + new_length
    if not 0 <= new <= task_size - new_length or new % PAGE_SIZE or not flags & MREMAP_MAYMOVE or overlap:
        why = "a new address needs MREMAP_MAYMOVE, a page's address, and no overlap"
        raise SyscallError(errno.EINVAL, "mremap", why)
    if flags & MREMAP_DONTUNMAP and old_length != new_length:
        raise SyscallError(errno.EINVAL, "mremap", "MREMAP_DONTUNMAP neither grows nor shrinks")
    if mm.map_count + 2 >= k.rules.max_map_count - SPARE_MAPPINGS:
        raise SyscallError(errno.ENOMEM, "mremap", "too many mappings")


def _vma_at(mm: MmStruct, address: int) -> VmArea:
    vma = mm.find_vma(address)
    if vma is None or vma.start > address:
        raise SyscallError(errno.EFAULT, "mremap", f"nothing is mapped at {address:#x}")
    return vma


def _check_source(mm: MmStruct, vma: VmArea, old: int, old_length: int, new_length: int) -> tuple[int, int]:
    """check_prep_vma: (the length that stays, what a shrink cuts off behind it)."""
    if not old_length:
        raise SyscallError(errno.EINVAL, "mremap", "an old length of 0 is for shared mappings")
    cut = max(old_length - new_length, 0)
    old_length -= cut  # what is cut off may lie in other VMAs
    if old_length > vma.end - old:
        raise SyscallError(errno.EFAULT, "mremap", "the range is not within one mapping")
    growth = (new_length - old_length) >> PAGE_SHIFT
    if growth:
        if vma.flags & VM_DONTEXPAND:
            raise SyscallError(errno.EFAULT, "mremap")
        check_lock_limit(mm, vma.flags, growth, "mremap")
        _check_total(mm, growth)
    return old_length, cut


def _check_total(mm: MmStruct, growth: int) -> None:
    if mm.total_vm + growth > mm.limits.address_space >> PAGE_SHIFT:
        raise SyscallError(errno.ENOMEM, "mremap", "RLIMIT_AS")


def _charge(k: Kernel, vma: VmArea, nr_pages: int) -> int:
    """Pages charged for. Raises SyscallError(ENOMEM)."""
    if not vma.flags & VM_ACCOUNT or not nr_pages:
        return 0
    if not k.vm_enough_memory(nr_pages):
        raise SyscallError(errno.ENOMEM, "mremap", "overcommit: less is free than is asked for")
    return nr_pages


def _grow(k: Kernel, mm: MmStruct, vma: VmArea, old: int, old_length: int, new_length: int, flags: int) -> int:
    """expand_vma: in place, if there is room behind it, and over the next VMA if that may be merged; else elsewhere."""
    growth = new_length - old_length
    _, after = mm.neighbours(vma)
    room = (after.start if after is not None else k.machine.paging.task_size) - vma.end
    if old + old_length != vma.end or growth > room:
        if not flags & MREMAP_MAYMOVE:
            raise SyscallError(errno.ENOMEM, "mremap", "no room to grow, and MREMAP_MAYMOVE is not given")
        new = get_unmapped_area(k, mm, 0, new_length, fixed=False)
        return _move_vma(k, mm, vma, old, old_length, new_length, flags, new)
    charged = _charge(k, vma, growth >> PAGE_SHIFT)
    end, vm_flags = vma.end, vma.flags
    try:
        grown, _ = merge_new_range(k, mm, vma, end, end + growth, vm_flags, vma.pgoff + vma.nr_pages, grows=True)
    except (AllocationFailed, NeedsReclaim) as failure:
        k.vm_unacct_memory(charged)
        if isinstance(failure, NeedsReclaim):
            raise
        grown = None
    if grown is None:
        raise SyscallError(errno.ENOMEM, "mremap", "the mapping cannot grow")
    mm.total_vm += growth >> PAGE_SHIFT
    _lock_growth(mm, vm_flags, growth, end, end + growth)
    k.machine.charge("mremap_grow")
    return old


def _lock_growth(mm: MmStruct, vm_flags: int, locked: int, start: int, end: int) -> None:
    """More is locked by `locked` bytes, and [start, end), what is new, is to be faulted in."""
    if vm_flags & VM_LOCKED:
        mm.locked_vm += locked >> PAGE_SHIFT
        mm.to_populate = (start, end) if start < end else None


def _move_run(k: Kernel, mm: MmStruct, old: int, length: int, flags: int, new: int) -> int:
    """remap_move: every VMA of [old, old + length), each as far away from the first as it was. What precedes a failure is moved."""
    result = None
    address, end, target, last_end = old, old + length, new, old
    while address < end:
        vma = mm.find_vma(address)
        if vma is None or vma.start >= end:
            break
        if result is None and vma.start > old:
            raise SyscallError(errno.EFAULT, "mremap", f"nothing is mapped at {old:#x}")
        start, stop = max(vma.start, old), min(vma.end, end)
        if result is not None:
            target += start - last_end
        last_end = vma.end
        _check_source(mm, vma, start, stop - start, stop - start)
        moved = _move_to(k, mm, start, stop - start, 0, stop - start, flags, target)
        result = moved if result is None else result
        target = moved + stop - start
        address = stop
    if result is None:
        raise SyscallError(errno.EFAULT, "mremap", f"nothing is mapped at {old:#x}")
    return result


def _move_to(
    k: Kernel, mm: MmStruct, old: int, old_length: int, cut: int, new_length: int, flags: int, new: int
) -> int:
    """mremap_to: clear the destination, cut the source, move. The VMA is looked up again: it may have been split meanwhile."""
    if flags & MREMAP_FIXED:
        do_munmap(k, mm, new, new_length, "mremap")
    if cut:
        do_munmap(k, mm, old + old_length, cut, "mremap")
    if flags & MREMAP_DONTUNMAP:
        _check_total(mm, old_length >> PAGE_SHIFT)
    new = get_unmapped_area(k, mm, new, new_length, fixed=bool(flags & MREMAP_FIXED))
    return _move_vma(k, mm, _vma_at(mm, old), old, old_length, new_length, flags, new)


def _move_vma(
    k: Kernel, mm: MmStruct, vma: VmArea, old: int, old_length: int, new_length: int, flags: int, new: int
) -> int:
    """move_vma. Raises SyscallError(ENOMEM), NeedsReclaim; then the mapping is where it was."""
    if mm.map_count >= k.rules.max_map_count - SPARE_MAPPINGS:
        raise SyscallError(errno.ENOMEM, "mremap", "too many mappings")
    stays = bool(flags & MREMAP_DONTUNMAP)
    charged = _charge(k, vma, (new_length if stays else new_length - old_length) >> PAGE_SHIFT)
    vm_flags = vma.flags
    try:
        target, vma = _copy_vma(k, mm, vma, old, new, new_length)
    except (AllocationFailed, NeedsReclaim) as failure:
        k.vm_unacct_memory(charged)
        if isinstance(failure, NeedsReclaim):
            raise
        raise SyscallError(errno.ENOMEM, "mremap") from None
    try:
        move_page_tables(k, vma, target, old, new, old_length)
    except (AllocationFailed, NeedsReclaim) as failure:
        mm.total_vm += new_length >> PAGE_SHIFT  # the entries are back: unmap the new place, not the old one
        mm.locked_vm += new_length >> PAGE_SHIFT if vm_flags & VM_LOCKED else 0
        k.committed_pages += new_length >> PAGE_SHIFT if vm_flags & VM_ACCOUNT else 0
        k.vm_unacct_memory(charged)
        do_munmap(k, mm, new, new_length, "mremap")
        if isinstance(failure, NeedsReclaim):
            raise
        raise SyscallError(errno.ENOMEM, "mremap") from None
    mm.total_vm += new_length >> PAGE_SHIFT
    if stays:
        _leave_source(k, mm, vma, target, old, new, old_length)
    else:
        _unmap_source(k, mm, old, old_length, vm_flags)
    _lock_growth(mm, vm_flags, new_length, new + old_length, new + new_length)
    k.machine.charge("mremap_move")
    return new


def _copy_vma(k: Kernel, mm: MmStruct, vma: VmArea, old: int, new: int, length: int) -> tuple[VmArea, VmArea]:
    """copy_vma: (the VMA that covers the new place, linked; and the source, which may have become part of it)."""
    pgoff = vma.pgoff + ((old - vma.start) >> PAGE_SHIFT)
    if not k.rmap.vma_is_faulted(vma):
        pgoff = new >> PAGE_SHIFT
    target, source = merge_new_range(k, mm, vma, new, new + length, vma.flags, pgoff)
    if target is not None:
        return target, source or vma
    target = VmArea(mm, new, new + length, vma.flags, pgoff, k.vma_cache.alloc())
    try:
        k.rmap.vma_clone(vma, target)
    except (AllocationFailed, NeedsReclaim):
        k.vma_cache.free(target.address)
        raise
    mm.insert(target)
    k.machine.charge("vma_copy")
    return target, vma


def _leave_source(k: Kernel, mm: MmStruct, vma: VmArea, target: VmArea, old: int, new: int, length: int) -> None:
    """dontunmap_complete: the source is empty, and not locked, though locked_vm counts it on.

    If it was all of a VMA, that forgets its anon_vmas. It keeps its page offset, which after an earlier move is not its address's.
    """
    if vma.flags & VM_LOCKED:
        mm.locked_vm_drift += vma.nr_pages
    vma.flags &= ~VM_LOCKED_MASK
    if vma is not target and (vma.start, vma.end) == (old, old + length):
        k.rmap.vma_unlink(vma)
    span = k.machine.paging.leaf_span
    if (new - old) % span == 0:  # whole tables have moved as they are (move_normal_pmd)
        zap_whole_tables(
            k, mm, old - (old % span if _aligns_down(mm, vma, target, old, new, length, span) else 0), old + length
        )


def _aligns_down(mm: MmStruct, vma: VmArea, target: VmArea, old: int, new: int, length: int, span: int) -> bool:
    """try_realign_addr: the first table goes whole too, if nothing else is in it, nor where it goes."""
    below = old % span
    begins = vma.start == old and target.start == new and length >= span - below
    return begins and not mm.overlapping(old - below, old) and not mm.overlapping(new - below, new)


def _unmap_source(k: Kernel, mm: MmStruct, old: int, length: int, vm_flags: int) -> None:
    """The charge moves along with the pages: munmap must not give it back. If it cannot split, the source stays, empty."""
    moved = length >> PAGE_SHIFT if vm_flags & VM_ACCOUNT else 0
    k.committed_pages += moved
    try:
        do_munmap(k, mm, old, length, "mremap")
    except SyscallError:
        return  # charged for both places: the VMA is there twice
