"""mremap of later kernels: the VMA is there before its entries come. Here with the rules of 6.18.

    1  checks; with MREMAP_FIXED the destination is cleared, when the source has been found good
    2  growth charged; a neighbour of the destination grows over it, or a new VMA is cloned and linked
    3  entries move                                       source   [ ][ ][3][4]      destination   [1][2][ ][ ]
    4  the source is unmapped; with MREMAP_DONTUNMAP it stays, empty

At any time a walk finds a page at one of the two places: both VMAs are in the reverse map.

A mapping of a file that is shared may be mapped a second time in this way: an old length of 0 moves nothing.

An anonymous VMA without pages gets the page offset of its new address, as if it had been made there; a faulted one keeps its own, and
with it its pages' indexes. An emptied source (DONTUNMAP of all of it) is without anonymous pages again.

Since 6.17 a move that neither grows nor shrinks (MREMAP_FIXED) may cover many VMAs: each goes by itself, gaps between them stay
gaps, and what is mapped where a gap lands stays too. Not so those of segments (mm/ipc_shm.py).

Source: 6.18 mm/mremap.c, check_mremap_params, check_prep_vma, remap_move, mremap_to, mremap_at, expand_vma, move_vma, dontunmap_complete;
mm/vma.c, copy_vma, vma_merge_extend; modern.md 1.9, 4. What is not in these was tried out on a running 6.18.
"""

import errno

from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.limits import check_expand_vm
from rmaplab.mm.merge import merge_new_range
from rmaplab.mm.mmap import check_lock_limit
from rmaplab.mm.move_ptes import Remap, move_page_tables
from rmaplab.mm.mseal import refuse_sealed
from rmaplab.mm.munmap import do_munmap
from rmaplab.mm.unmapped_area import get_unmapped_area
from rmaplab.mm.vma import clone_vma, link_vma, open_vma, too_many_mappings
from rmaplab.mm.vma_lock import vma_start_write
from rmaplab.mm.zap import zap_whole_tables
from rmaplab.objects.flags import (
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYSHARE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, Range, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

SPARE_MAPPINGS = 3  # a move may need so many more VMAs at once


def mremap_linked(k: Kernel, mm: MmStruct, limits: Limits, remap: Remap) -> tuple[int, Range | None]:
    """As do_mremap, with lengths of whole pages.

    Raises SyscallError: EINVAL (flags, alignment, lengths, overlap), EFAULT (nothing there, or more than one VMA), ENOMEM, EAGAIN
    (RLIMIT_MEMLOCK).
    """
    old, old_length, new_length, flags, _ = remap
    _check_arguments(k, mm, remap)
    if flags & MREMAP_FIXED and old_length == new_length:
        return _move_run(k, mm, limits, remap), None
    vma = _vma_at(mm, old)
    refuse_sealed(vma, "mremap")
    if old_length >= new_length and not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):  # wherever the range may end
        if old_length > new_length:
            do_munmap(k, mm, old + new_length, old_length - new_length, "mremap")
        return old, None
    cut = max(old_length - new_length, 0)
    remap = _check_source(k, vma, limits, remap)
    if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return _move_to(k, mm, limits, remap, cut)
    return _grow(k, vma, remap)


def _check_arguments(k: Kernel, mm: MmStruct, remap: Remap) -> None:
    """check_mremap_params: what can be said without looking at VMAs."""
    old, old_length, new_length, flags, new = remap
    task_size = k.machine.paging.task_size
    if flags & ~k.rules.mremap_flags or old % PAGE_SIZE or old_length < 0:
        raise SyscallError(errno.EINVAL, "mremap", "unknown flags, or an address that is not a page's")
    if not 0 < new_length <= task_size:
        raise SyscallError(
            errno.EINVAL, "mremap", "a new length of 0" if not new_length else "beyond the address space"
        )
    if not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return
    ends = (old + old_length) % k.machine.paging.wraps_at, new + new_length  # the first may wrap
    overlap = new < ends[0] and old < ends[1]
    if not 0 <= new <= task_size - new_length or new % PAGE_SIZE or not flags & MREMAP_MAYMOVE or overlap:
        why = "a new address needs MREMAP_MAYMOVE, a page's address, and no overlap"
        raise SyscallError(errno.EINVAL, "mremap", why)
    if flags & MREMAP_DONTUNMAP and old_length != new_length:
        raise SyscallError(errno.EINVAL, "mremap", "MREMAP_DONTUNMAP neither grows nor shrinks")
    if mm.map_count + 2 >= k.rules.max_map_count - SPARE_MAPPINGS:
        raise SyscallError(
            errno.ENOMEM, "mremap", f"{too_many_mappings(k, mm)}; a move needs {SPARE_MAPPINGS} to spare"
        )


def _vma_at(mm: MmStruct, address: int) -> VmArea:
    vma = mm.find_vma(address)
    if vma is None or vma.start > address:
        raise SyscallError(errno.EFAULT, "mremap", f"nothing is mapped at {address:#x}")
    return vma


def _check_source(k: Kernel, vma: VmArea, limits: Limits, remap: Remap) -> Remap:
    """check_prep_vma: what is to be done without what a shrink cuts off; that may lie in other VMAs."""
    old, old_length, new_length, _, _ = remap
    refuse_sealed(vma, "mremap")
    if not old_length and not vma.flags & VM_MAYSHARE:
        raise SyscallError(errno.EINVAL, "mremap", "an old length of 0 is for shared mappings")
    if old_length > new_length:
        remap, old_length = remap._replace(old_length=new_length), new_length
    if old_length > vma.end - old:
        raise SyscallError(errno.EFAULT, "mremap", "the range is not within one mapping")
    growth = (new_length - old_length) >> PAGE_SHIFT
    if growth:
        if vma.flags & VM_DONTEXPAND:
            raise SyscallError(errno.EFAULT, "mremap")
        check_lock_limit(k, vma.mm, limits, vma.flags, growth, "mremap")
        check_expand_vm(k, vma.mm, limits, vma.flags, growth, "mremap")
    return remap


def _charge(k: Kernel, vma: VmArea, nr_pages: int) -> int:
    """Pages charged for. Raises SyscallError(ENOMEM)."""
    if not vma.flags & VM_ACCOUNT or not nr_pages:
        return 0
    k.charge_memory(nr_pages, "mremap")
    return nr_pages


def _grow(k: Kernel, vma: VmArea, remap: Remap) -> tuple[int, Range | None]:
    """expand_vma: in place, if there is room behind it, and over the next VMA if that may be merged; else elsewhere."""
    mm, end = vma.mm, vma.end
    old, old_length, new_length, flags, _ = remap
    new_end, growth = old + new_length, (new_length - old_length) >> PAGE_SHIFT
    _, after = mm.neighbours(vma)
    limit = after.start if after is not None else k.machine.paging.task_size
    if old + old_length != end or new_end > limit:
        if not flags & MREMAP_MAYMOVE:
            raise SyscallError(errno.ENOMEM, "mremap", "no room to grow, and MREMAP_MAYMOVE is not given")
        new = get_unmapped_area(k, mm, 0, new_length, fixed=False, file=vma.file, pgoff=vma.index_of(old))
        return _move_vma(k, vma, remap._replace(new=new))
    charged = _charge(k, vma, growth)
    vm_flags, pgoff = vma.flags, vma.pgoff + vma.nr_pages
    try:
        grown, _ = merge_new_range(k, mm, vma, end, new_end, vm_flags, pgoff, grows=True)
    except NoMemory as failure:
        k.vm_unacct_memory(charged)
        if failure.waiting_helps:
            raise
        grown = None
    if grown is None:
        raise SyscallError(errno.ENOMEM, "mremap", "the mapping cannot grow")
    mm.total_vm += growth
    k.machine.charge("mremap_grow")
    if not vm_flags & VM_LOCKED:
        return old, None
    mm.locked_vm += growth
    return old, (end, new_end)


def _move_run(k: Kernel, mm: MmStruct, limits: Limits, remap: Remap) -> int:
    """remap_move: every VMA of the old place, each as far away from the first as it was. What precedes a failure is moved."""
    old, length, _, _, target = remap
    result = None
    address, end, last_end = old, old + length, old
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
        if _moves_alone(vma) and (result is not None or stop < end):
            raise SyscallError(
                errno.EFAULT, "mremap", "who chooses addresses for its mappings has them moved one by one"
            )
        part = _check_source(k, vma, limits, Remap(start, stop - start, stop - start, remap.flags, target))
        moved, _ = _move_to(k, mm, limits, part, 0)  # it does not grow: nothing is to be faulted in
        result = moved if result is None else result
        target = moved + stop - start
        address = stop
    if result is None:
        raise SyscallError(errno.EFAULT, "mremap", f"nothing is mapped at {old:#x}")
    return result


def _moves_alone(vma: VmArea) -> bool:
    """Not vma_multi_allowed: its file has a get_unmapped_area of its own."""
    if vma.zero is not None:  # /dev/zero
        return True
    return vma.file is not None and vma.file.ops is not None and vma.file.ops.chooses_addresses


def _move_to(k: Kernel, mm: MmStruct, limits: Limits, remap: Remap, cut: int) -> tuple[int, Range | None]:
    """mremap_to: clear the destination, cut the source, move. The VMA is looked up again: it may have been split meanwhile."""
    fixed = bool(remap.flags & MREMAP_FIXED)
    if fixed:
        do_munmap(k, mm, remap.new, remap.new_length, "mremap")
    if cut:
        do_munmap(k, mm, remap.old + remap.old_length, cut, "mremap")
    if remap.flags & MREMAP_DONTUNMAP:
        source = _vma_at(mm, remap.old)
        check_expand_vm(k, mm, limits, source.flags, remap.old_length >> PAGE_SHIFT, "mremap")
    vma = _vma_at(mm, remap.old)
    new = get_unmapped_area(
        k, mm, remap.new, remap.new_length, fixed=fixed, file=vma.file, pgoff=vma.index_of(remap.old)
    )
    return _move_vma(k, vma, remap if fixed else remap._replace(new=new))


def _move_vma(k: Kernel, vma: VmArea, remap: Remap) -> tuple[int, Range | None]:
    """move_vma. Raises SyscallError(ENOMEM), NoMemory; then the mapping is where it was."""
    old, old_length, new_length, flags, new = remap
    mm, nr_pages, vm_flags = vma.mm, new_length >> PAGE_SHIFT, vma.flags
    check_spare_mappings(k, mm)
    stays = flags & MREMAP_DONTUNMAP
    charged = _charge(k, vma, (new_length if stays else new_length - old_length) >> PAGE_SHIFT)
    vma_start_write(k, vma)
    try:
        target, vma = copy_vma(k, vma, remap)
    except NoMemory as failure:
        k.vm_unacct_memory(charged)
        raise failure.or_errno(errno.ENOMEM, "mremap") from None
    mm.total_vm += nr_pages
    if vm_flags & VM_LOCKED:
        mm.locked_vm += nr_pages
    try:
        move_page_tables(k, vma, target, remap)
    except NoMemory as failure:
        # the entries are back: unmap the new place, not the old one
        k.committed_pages += nr_pages if vm_flags & VM_ACCOUNT else 0
        k.vm_unacct_memory(charged)
        do_munmap(k, mm, new, new_length, "mremap")
        raise failure.or_errno(errno.ENOMEM, "mremap") from None
    if stays:
        _leave_source(k, vma, target, remap)
    else:
        _unmap_source(k, mm, old, old_length, vm_flags)
    k.machine.charge("mremap_move")
    grows = vm_flags & VM_LOCKED and new_length > old_length
    return new, (new + old_length, new + new_length) if grows else None


def check_spare_mappings(k: Kernel, mm: MmStruct) -> None:
    """Raises SyscallError(ENOMEM) where a move could make one mapping too many."""
    if mm.map_count >= k.rules.max_map_count - SPARE_MAPPINGS:
        raise SyscallError(
            errno.ENOMEM, "mremap", f"{too_many_mappings(k, mm)}; a move needs {SPARE_MAPPINGS} to spare"
        )


def copy_vma(k: Kernel, vma: VmArea, remap: Remap) -> tuple[VmArea, VmArea]:
    """(The VMA that covers the new place, linked; and the source, which may have become part of it)."""
    new, end = remap.new, remap.new + remap.new_length
    numbered = vma.file is not None or k.design.vma_is_faulted(vma)
    pgoff = remap.pgoff_in(vma) if numbered else new >> PAGE_SHIFT
    target, source = merge_new_range(k, vma.mm, vma, new, end, vma.flags, pgoff)
    vma_start_write(k, source or vma)
    if target is not None:
        return target, source or vma
    target = clone_vma(k, vma, new, end, pgoff)
    link_vma(k, target)
    open_vma(target)
    k.machine.charge("vma_copy")
    return target, vma


def _leave_source(k: Kernel, vma: VmArea, target: VmArea, remap: Remap) -> None:
    """dontunmap_complete: the source is empty, and not locked, though locked_vm counts it on.

    If it was all of a VMA, that forgets its anon_vmas. It keeps its page offset, which after an earlier move is not its address's.
    """
    old, end = remap.old, remap.old + remap.old_length
    if vma.flags & VM_LOCKED:
        vma.mm.locked_vm_drift += vma.nr_pages
    vma.flags &= ~VM_LOCKED_MASK
    if vma is not target and (vma.start, vma.end) == (old, end):
        k.design.vma_unlink(vma)
    span, delta = k.machine.paging.leaf_span, remap.new - old
    if delta % span == 0:  # whole tables have moved as they are (move_normal_pmd)
        zap_whole_tables(k, vma.mm, old - (old % span if _aligns_down(vma, target, remap, span) else 0), end, 1)
    if delta % (span << k.machine.paging.bits) == 0:  # and middle tables with all below them (move_normal_pud)
        zap_whole_tables(k, vma.mm, old, end, 2)


def _aligns_down(vma: VmArea, target: VmArea, remap: Remap, span: int) -> bool:
    """try_realign_addr: the first table goes whole too, if nothing else is in it, nor where it goes."""
    mm, old, new, below = vma.mm, remap.old, remap.new, remap.old % span
    begins = vma.start == old and target.start == new and remap.old_length >= span - below
    return begins and not mm.overlapping(old - below, old) and not mm.overlapping(new - below, new)


def _unmap_source(k: Kernel, mm: MmStruct, old: int, length: int, vm_flags: int) -> None:
    """The charge moves along with the pages: munmap must not give it back. If it cannot split, the source stays, empty."""
    moved = length >> PAGE_SHIFT if vm_flags & VM_ACCOUNT else 0
    k.committed_pages += moved
    try:
        do_munmap(k, mm, old, length, "mremap")
    except SyscallError:
        return  # charged for both places: the VMA is there twice
