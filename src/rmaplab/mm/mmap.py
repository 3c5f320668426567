"""mmap, munmap and what they do to VMAs: find a hole, merge, split, unmap.

    before    |--- A ---|          |--- B ---|          same flags, page offsets that continue, A's and B's
    mmap          |-----hole-----|                      reverse maps agree
    after     |------------- A --------------|          one VMA: A has grown over the hole and over B

Source: 2.6.2 mm/mmap.c, do_mmap_pgoff, vma_merge, arch_get_unmapped_area, split_vma, do_munmap; for 2.6.5-rc1-aa1
mm/mmap.c of the -aa tree (history.md 4.1, 4.2).
"""

from __future__ import annotations

import errno

from rmaplab.errors import AllocationFailed, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.zap import free_pgtables, zap_vma_range
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    VM_ACCOUNT,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_SPECIAL,
    VM_WRITE,
)
from rmaplab.objects.mm import MmStruct
from rmaplab.objects.vma import VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align


def do_mmap(k: Kernel, mm: MmStruct, address: int, length: int, prot: int, flags: int) -> int:
    """Map `length` bytes of private anonymous memory; the address it got. `address` is a hint, or an order with MAP_FIXED.

    Raises SyscallError: EINVAL (length, type, unaligned MAP_FIXED), ENOMEM (no hole, too many VMAs, overcommit).
    """
    task_size = k.machine.paging.task_size
    if length == 0:
        return address  # success, and nothing mapped: so it was until 2.6.12 or so
    length = page_align(length)
    if not 0 < length <= task_size or flags & (MAP_SHARED | MAP_PRIVATE) != MAP_PRIVATE or not flags & MAP_ANONYMOUS:
        raise SyscallError(errno.EINVAL, "mmap")
    if mm.map_count > k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, "mmap", "too many mappings")
    start = get_unmapped_area(k, mm, address, length, fixed=bool(flags & MAP_FIXED))
    end = start + length
    if mm.overlapping(start, end):
        do_munmap(k, mm, start, length)
    vm_flags = (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if vm_flags & VM_WRITE and not flags & MAP_NORESERVE:
        if not k.vm_enough_memory(length >> PAGE_SHIFT):
            raise SyscallError(errno.ENOMEM, "mmap", "overcommit: less is free than is asked for")
        vm_flags |= VM_ACCOUNT
    pgoff = start >> PAGE_SHIFT if k.rules.anon_merge_needs_pgoff else 0
    if not vma_merge(k, mm, start, end, vm_flags, pgoff):
        try:
            vma_address = k.vma_cache.alloc()
        except AllocationFailed:
            if vm_flags & VM_ACCOUNT:
                k.vm_unacct_memory(length >> PAGE_SHIFT)
            raise SyscallError(errno.ENOMEM, "mmap") from None
        k.machine.charge("vma_alloc")
        mm.insert(VmArea(mm, start, end, vm_flags, pgoff, vma_address))
    mm.total_vm += length >> PAGE_SHIFT
    return start


def get_unmapped_area(k: Kernel, mm: MmStruct, address: int, length: int, *, fixed: bool) -> int:
    """Where a mapping goes: the order, the hint if it fits, else the first hole from where the last search ended."""
    paging = k.machine.paging
    if address + length > paging.task_size:
        if fixed:
            raise SyscallError(errno.ENOMEM, "mmap", "beyond the end of the address space")
        address = 0
    if fixed:
        if address % PAGE_SIZE:
            raise SyscallError(errno.EINVAL, "mmap", "MAP_FIXED needs a page-aligned address")
        return address
    if address:
        address = page_align(address)
        if address + length <= paging.task_size and not mm.overlapping(address, address + length):
            return address
    base = page_align(paging.unmapped_base)
    first = mm.free_area_cache or base
    while True:
        address = first
        for vma in mm.overlapping(address, paging.task_size):
            if address + length <= vma.start:
                break
            address = vma.end
        if address + length <= paging.task_size:
            mm.free_area_cache = address + length
            return address
        if first == base:
            raise SyscallError(errno.ENOMEM, "mmap", "no hole in the address space is large enough")
        first = base


def vma_merge(k: Kernel, mm: MmStruct, start: int, end: int, flags: int, pgoff: int) -> bool:
    """Let a neighbour grow over [start, end) instead of making a VMA: the previous one (and then over the next), or the next."""
    if flags & VM_SPECIAL:
        return False
    before, after = mm.gap_around(start, end)
    nr_pages = (end - start) >> PAGE_SHIFT
    linear = k.rules.anon_merge_needs_pgoff

    def joins(left_flags: int, left_pgoff: int, left_pages: int, right_flags: int, right_pgoff: int) -> bool:
        return left_flags == right_flags and (not linear or left_pgoff + left_pages == right_pgoff)

    if after is not None and (after.start != end or not joins(flags, pgoff, nr_pages, after.flags, after.pgoff)):
        after = None
    if before is not None and before.end == start and joins(before.flags, before.pgoff, before.nr_pages, flags, pgoff):
        if after is not None and k.rmap.vma_can_merge(before, after):
            dying_end = after.end
            mm.remove(after)
            before.end = dying_end
            k.rmap.vma_merge(before, after)
            k.vma_cache.free(after.address)
        else:
            before.end = end
    elif after is not None:
        mm.move_start(after, start, after.pgoff - nr_pages if linear else after.pgoff)
    else:
        return False
    k.machine.charge("vma_merge")
    return True


def do_munmap(k: Kernel, mm: MmStruct, start: int, length: int) -> None:
    """Unmap every page of [start, start + length); VMAs that stick out are split.

    Raises SyscallError: EINVAL (unaligned, empty or outside the address space), ENOMEM (a split that cannot be made).
    """
    if (
        start % PAGE_SIZE
        or start > k.machine.paging.task_size
        or length > k.machine.paging.task_size - start
        or length <= 0
    ):
        raise SyscallError(errno.EINVAL, "munmap")
    end = start + page_align(length)
    doomed = mm.overlapping(start, end)
    if not doomed:
        return
    try:
        if doomed[0].start < start:
            split_vma(k, mm, doomed[0], start)
        last = mm.overlapping(start, end)[-1]
        if last.end > end:
            split_vma(k, mm, last, end)
    except AllocationFailed:
        raise SyscallError(errno.ENOMEM, "munmap") from None
    doomed = mm.overlapping(start, end)
    before, after = mm.gap_around(start, end)
    for vma in doomed:
        mm.remove(vma)
        if page_align(k.machine.paging.unmapped_base) <= vma.start < mm.free_area_cache:
            mm.free_area_cache = vma.start
    for vma in doomed:
        zap_vma_range(k, mm, vma.start, vma.end)
        mm.total_vm -= vma.nr_pages
        if vma.flags & VM_ACCOUNT:
            k.vm_unacct_memory(vma.nr_pages)
    free_pgtables(k, mm, before.end if before else 0, start, end, after.start if after else None)
    for vma in doomed:
        remove_vma(k, vma)


def split_vma(k: Kernel, mm: MmStruct, vma: VmArea, address: int) -> VmArea:
    """Cut `vma` at `address`; it keeps the lower part, the upper part is returned. Raises AllocationFailed, SyscallError."""
    if mm.map_count >= k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, "munmap", "too many mappings")
    new_address = k.vma_cache.alloc()
    pgoff = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    new = VmArea(mm, address, vma.end, vma.flags, pgoff, new_address)
    try:
        k.rmap.vma_clone(vma, new)
    except AllocationFailed:
        k.vma_cache.free(new_address)
        raise
    vma.end = address
    mm.insert(new)
    k.machine.charge("vma_split")
    return new


def remove_vma(k: Kernel, vma: VmArea) -> None:
    """The last of a VMA whose entries are gone: off its reverse map, and its bytes back."""
    k.rmap.vma_unlink(vma)
    k.vma_cache.free(vma.address)
