"""mremap: grow, shrink or move a mapping. Up to 2.6.5 the entries move first, then the VMA follows.

    1  destination cleared (MREMAP_FIXED), source checked, growth charged
    2  a VMA for the destination is allocated, or a neighbour of it is grown over it (2.4, 2.6.2)
    3  entries move, burst by burst                       source   [1][2][ ][ ]      destination   [ ][ ][3][4]
    4  the new VMA is linked, and joins the reverse map
    5  the source is unmapped

Between 3 and 4 the moved pages are mapped where no VMA is: an object-based reverse map cannot find them in that window. If 3
fails, what was moved moves back. 2.6.7 does 4 before 3 (_move_linked); what today's kernels do besides is in mm/mremap_linked.py.

Source: 2.6.5 -aa mm/mremap.c (do_mremap, move_vma, move_page_tables), 2.6.2 and 2.4 the same but for merging; 2.6.7 move_vma, copy_vma; eras.md 6.1.
"""

import errno
from contextlib import suppress

from rmaplab.errors import NoMemory, NotModelled, SyscallError, as_errno
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.limits import check_expand_vm
from rmaplab.mm.merge import merge_new_range
from rmaplab.mm.mmap import check_lock_limit
from rmaplab.mm.move_ptes import Remap, move_back, move_page_tables
from rmaplab.mm.mremap_linked import check_spare_mappings, copy_vma, mremap_linked
from rmaplab.mm.munmap import do_munmap
from rmaplab.mm.unmapped_area import get_unmapped_area
from rmaplab.mm.vma import link_vma, open_vma, set_range, vm_area_dup, vm_area_free
from rmaplab.objects.flags import (
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_LOCKED,
    VM_SHARED,
    VM_WRITE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, Range, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align


class Moved(NoMemory):
    """Memory ran out when all had been moved: what was charged for the new place stays charged, and the old one is there still, empty. No kernel returns then."""

    undone = False


def do_mremap(
    k: Kernel, mm: MmStruct, limits: Limits, old: int, old_length: int, new_length: int, flags: int, new: int
) -> tuple[int, Range | None]:
    """The mapping at [old, old + old_length) with a new length, maybe at a new address: (that address, what is to be faulted in next).

    Raises SyscallError: EINVAL (flags, alignment, length 0, overlap), EFAULT (no mapping, or more than one), ENOMEM.
    """
    if k.rules.mremap_moves_many:
        return mremap_linked(k, mm, limits, Remap(old, page_align(old_length), page_align(new_length), flags, new))
    task_size = k.machine.paging.task_size
    if flags & ~k.rules.mremap_flags or old % PAGE_SIZE or min(old_length, new_length) < 0:
        raise SyscallError(errno.EINVAL, "mremap")
    old_length, new_length = page_align(old_length), page_align(new_length)
    if new_length == 0 and not k.rules.mremap_to_nothing_unmaps:
        raise SyscallError(errno.EINVAL, "mremap", "a new length of 0")
    fixed = bool(flags & MREMAP_FIXED)
    if fixed:
        overlap = new < old + old_length and old < new + new_length
        beyond = new < 0 or new > task_size - new_length
        if new % PAGE_SIZE or not flags & MREMAP_MAYMOVE or beyond or overlap:
            raise SyscallError(
                errno.EINVAL, "mremap", "MREMAP_FIXED needs MREMAP_MAYMOVE and an aligned, disjoint address"
            )
        _clear_destination(k, mm, new, new_length)  # whatever comes of the rest: the destination is gone
    if old_length >= new_length:
        if old_length > new_length:
            try:
                do_munmap(k, mm, old + new_length, old_length - new_length, "mremap")
            except SyscallError:
                if k.rules.mremap_minds_munmap:
                    raise
        if not fixed or new == old:
            return old, None
        old_length = new_length
    remap = Remap(old, old_length, new_length, flags, new)
    vma, charged = _vma_to_resize(k, mm, limits, remap)
    locked = vma.flags & VM_LOCKED
    try:
        address = _grow_or_move(k, vma, remap)
    except Moved:
        raise
    except (SyscallError, NoMemory) as failure:
        k.vm_unacct_memory(charged)
        raise as_errno(failure, errno.ENOMEM, "mremap") from None
    grown = bool(locked) and new_length > old_length
    return address, (address + old_length, address + new_length) if grown else None


def _clear_destination(k: Kernel, mm: MmStruct, new: int, length: int) -> None:
    """Raises SyscallError; NotModelled where the kernel goes on all the same."""
    if not length and k.rules.mremap_to_nothing_may_move:
        raise NotModelled("this kernel makes a mapping of no length here (CVE-2003-0985): that is not modelled")
    try:
        do_munmap(k, mm, new, length, "mremap")
    except SyscallError:
        if k.rules.mremap_minds_munmap:
            raise
        raise NotModelled(
            "this kernel moves over what it could not unmap (CVE-2004-0077): that is not modelled"
        ) from None


def _vma_to_resize(k: Kernel, mm: MmStruct, limits: Limits, remap: Remap) -> tuple[VmArea, int]:
    """(The VMA that all of the old place lies in, the pages its growth has been charged for.) Raises SyscallError."""
    old, old_length, new_length, _, _ = remap
    vma = mm.find_vma(old)
    if vma is None or vma.start > old or old_length > vma.end - old:
        raise SyscallError(errno.EFAULT, "mremap", "the range is not within one mapping")
    growth = (new_length - old_length) >> PAGE_SHIFT
    if vma.flags & VM_DONTEXPAND and growth:
        raise SyscallError(errno.EFAULT, "mremap")
    check_lock_limit(k, mm, limits, vma.flags, growth, "mremap")
    check_expand_vm(k, mm, limits, vma.flags, growth, "mremap")
    private = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE
    accounted = vma.flags & VM_ACCOUNT or (not k.rules.commit_is_accounted and private)
    if growth and accounted:
        k.charge_memory(growth, "mremap")
    return vma, growth if vma.flags & VM_ACCOUNT else 0


def _grow_or_move(k: Kernel, vma: VmArea, remap: Remap) -> int:
    mm = vma.mm
    old, old_length, new_length, flags, _ = remap
    fixed, may_move = flags & MREMAP_FIXED, flags & MREMAP_MAYMOVE
    if old_length == vma.end - old and not fixed and (old_length != new_length or not may_move):
        _, after = mm.neighbours(vma)
        room = (after.start if after is not None else k.machine.paging.task_size) - old
        if room >= new_length:  # in place: the end moves, and nobody is merged with
            set_range(k, vma, vma.start, old + new_length)
            grown = (new_length - old_length) >> PAGE_SHIFT
            mm.total_vm += grown
            mm.locked_vm += grown if vma.flags & VM_LOCKED else 0
            k.machine.charge("mremap_grow")
            return old
    if not may_move:
        raise SyscallError(errno.ENOMEM, "mremap", "no room to grow, and MREMAP_MAYMOVE is not given")
    if not fixed:
        remap = remap._replace(new=get_unmapped_area(k, mm, 0, new_length, fixed=False))
    (_move_linked if k.rules.mremap_links_first else _move_vma)(k, vma, remap)
    return remap.new


def _move_linked(k: Kernel, vma: VmArea, remap: Remap) -> None:
    """move_vma since 2.6.6: the new VMA is there first, or a neighbour has grown. If not all can move, the new place is what is unmapped."""
    mm, nr_pages, locked = vma.mm, remap.new_length >> PAGE_SHIFT, vma.flags & VM_LOCKED
    check_spare_mappings(k, mm)
    target, vma = copy_vma(k, vma, remap)
    mm.total_vm += nr_pages
    mm.locked_vm += nr_pages if locked else 0
    try:
        move_page_tables(k, vma, target, remap)
    except NoMemory:
        _unmap_uncharged(k, target, remap.new, remap.new_length)
        raise
    try:
        _unmap_uncharged(k, vma, remap.old, remap.old_length)
    except NoMemory as failure:
        raise Moved(str(failure), waiting_helps=True) from None
    k.machine.charge("mremap_move")


def _unmap_uncharged(k: Kernel, vma: VmArea, start: int, length: int) -> None:
    """Unmap a part of `vma` whose charge lives on elsewhere: VM_ACCOUNT is hidden meanwhile.

    If it cannot be split, or there is nothing to unmap (mremap of a length 0), it stays without, and what else it was charged for is given back.
    """
    if not vma.flags & VM_ACCOUNT:
        with suppress(SyscallError):
            do_munmap(k, vma.mm, start, length)
        return
    all_of_it, rest = (vma.start, vma.end), vma.nr_pages - (length >> PAGE_SHIFT)
    vma.flags &= ~VM_ACCOUNT
    try:
        do_munmap(k, vma.mm, start, length)
    except (SyscallError, NoMemory) as failure:
        k.vm_unacct_memory(rest)
        if isinstance(failure, NoMemory):
            raise
        return
    for piece in vma.mm.overlapping(*all_of_it):
        piece.flags |= VM_ACCOUNT


def _move_vma(k: Kernel, vma: VmArea, remap: Remap) -> None:
    old, old_length, new_length, _, new = remap
    mm, end, pgoff, nr_pages = vma.mm, new + new_length, remap.pgoff_in(vma), new_length >> PAGE_SHIFT
    target: VmArea | None = None
    if k.rules.mremap_merges:
        target, source = merge_new_range(k, mm, vma, new, end, vma.flags, pgoff)
        vma = source or vma
    merged = target is not None
    if target is None:
        target = vm_area_dup(k, vma, mm, new, end, pgoff)
    try:
        move_page_tables(k, vma, target, remap)
        if not merged:
            _link_target(k, vma, target, remap)
    except NoMemory:
        if merged:  # a neighbour that has grown stays grown, and nobody has counted that
            mm.total_vm_drift += nr_pages
            mm.locked_vm_drift -= nr_pages if vma.flags & VM_LOCKED else 0
            k.committed_drift += nr_pages if vma.flags & VM_ACCOUNT else 0
        else:
            vm_area_free(k, target)
        raise
    mm.total_vm += nr_pages
    mm.locked_vm += nr_pages if vma.flags & VM_LOCKED else 0
    if old_length:
        accounted = old_length >> PAGE_SHIFT if vma.flags & VM_ACCOUNT else 0
        k.committed_pages += accounted  # the charge moves along: munmap must not take it back
        try:
            do_munmap(k, mm, old, old_length)
        except (SyscallError, NoMemory) as failure:
            # a split got no memory: the source stays, empty and uncharged
            k.committed_pages -= accounted
            k.committed_drift += accounted
            if isinstance(failure, NoMemory):
                raise Moved(str(failure), waiting_helps=True) from None
    k.machine.charge("mremap_move")


def _link_target(k: Kernel, vma: VmArea, target: VmArea, remap: Remap) -> None:
    """The new VMA joins the reverse map and the mm; if the design has no memory for it, all entries go back."""
    try:
        k.design.vma_clone(vma, target)
    except NoMemory:
        move_back(k, target, vma, remap.old, remap.old + remap.old_length, remap.new - remap.old)
        raise
    link_vma(k, target)
    open_vma(target)
