"""mmap, munmap, brk and what they do to VMAs: find a hole, merge, split, unmap.

    before    |--- A ---|          |--- B ---|          same flags, page offsets that continue, A's and B's
    mmap          |-----hole-----|                      reverse maps agree
    after     |------------- A --------------|          one VMA: A has grown over the hole and over B

Source: 2.6.2 mm/mmap.c, do_mmap_pgoff, vma_merge, arch_get_unmapped_area, split_vma, do_munmap, do_brk; for 2.6.5-rc1-aa1
mm/mmap.c of the -aa tree (history.md 4.1, 4.2).
"""

from __future__ import annotations

import errno

from rmaplab.errors import AllocationFailed, NeedsReclaim, SyscallError
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
    VM_DATA_DEFAULT_FLAGS,
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
    if length == 0 and k.rules.mmap_of_nothing_succeeds:
        return address
    length = page_align(length)
    if not 0 < length <= task_size or flags & (MAP_SHARED | MAP_PRIVATE) != MAP_PRIVATE or not flags & MAP_ANONYMOUS:
        raise SyscallError(errno.EINVAL, "mmap")  # flags that no kernel of the day knows are ignored
    if mm.map_count > k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, "mmap", "too many mappings")
    start = get_unmapped_area(k, mm, address, length, fixed=bool(flags & MAP_FIXED))
    end = start + length
    if flags & MAP_FIXED and mm.overlapping(start, end):
        do_munmap(k, mm, start, length, "mmap")
    vm_flags = (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    reserve = not flags & MAP_NORESERVE or k.overcommit.counts_noreserve
    map_anonymous(k, mm, start, length, vm_flags, reserve=reserve, call="mmap")
    return start


def map_anonymous(k: Kernel, mm: MmStruct, start: int, length: int, flags: int, *, reserve: bool, call: str) -> None:
    """Charge for [start, start + length) and cover it: by a neighbour that grows, or by a new VMA. The range is free.

    Raises SyscallError(ENOMEM): RLIMIT_AS, overcommit, no memory for the VMA.
    """
    nr_pages = length >> PAGE_SHIFT
    if mm.total_vm + nr_pages > mm.limit_as >> PAGE_SHIFT:
        raise SyscallError(errno.ENOMEM, call, "RLIMIT_AS")
    charged = 0
    if flags & VM_WRITE and reserve:
        if not k.vm_enough_memory(nr_pages):
            raise SyscallError(errno.ENOMEM, call, "overcommit: less is free than is asked for")
        if k.rules.commit_is_accounted:
            flags |= VM_ACCOUNT
            charged = nr_pages
    pgoff = start >> PAGE_SHIFT
    try:
        if grow_neighbour(k, mm, None, start, start + length, flags, pgoff)[0] is None:
            vma_address = k.vma_cache.alloc()
            k.machine.charge("vma_alloc")
            mm.insert(VmArea(mm, start, start + length, flags, pgoff, vma_address))
    except (AllocationFailed, NeedsReclaim) as failure:
        k.vm_unacct_memory(charged)
        if isinstance(failure, NeedsReclaim):
            raise
        raise SyscallError(errno.ENOMEM, call) from None
    mm.total_vm += nr_pages


def do_brk(k: Kernel, mm: MmStruct, address: int) -> int:
    """Move the end of the heap to `address`; 0 asks where it is. Raises SyscallError(ENOMEM), and the heap is as before."""
    old_end, new_end = page_align(mm.brk), page_align(address)
    if address < mm.start_brk:
        return mm.brk
    if new_end < old_end:
        do_munmap(k, mm, new_end, old_end - new_end, "brk")
    elif new_end > old_end:
        if new_end > k.machine.paging.task_size or mm.overlapping(old_end, new_end + PAGE_SIZE):
            raise SyscallError(errno.ENOMEM, "brk", "something else is mapped there")
        if mm.map_count > k.rules.max_map_count:
            raise SyscallError(errno.ENOMEM, "brk", "too many mappings")
        map_anonymous(k, mm, old_end, new_end - old_end, VM_DATA_DEFAULT_FLAGS, reserve=True, call="brk")
    mm.brk = address
    return mm.brk


def get_unmapped_area(k: Kernel, mm: MmStruct, address: int, length: int, *, fixed: bool) -> int:
    """Where a mapping goes: the order, the hint if it fits, else the first hole from where the last search ended."""
    paging = k.machine.paging
    if not 0 <= address <= paging.task_size - length:
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


def grow_neighbour(
    k: Kernel, mm: MmStruct, source: VmArea | None, start: int, end: int, flags: int, pgoff: int
) -> tuple[VmArea | None, VmArea | None]:
    """Let a neighbour grow over the free range [start, end): the previous VMA (and then over the next), or the next.

    `source` is the VMA whose pages will move there (mremap), None where there are none yet. Returns the VMA that covers the
    range now, or None; and `source`, or what it has become part of. Raises as an allocation, with nothing changed.
    """
    if flags & VM_SPECIAL:
        return None, source
    before, after = mm.gap_around(start, end)
    nr_pages = (end - start) >> PAGE_SHIFT

    def fits(neighbour: VmArea, continues: bool) -> bool:
        return neighbour.flags == flags and (continues or not k.rmap.linear) and k.rmap.vma_can_grow(neighbour, source)

    if after is not None and (after.start != end or not fits(after, pgoff + nr_pages == after.pgoff)):
        after = None
    if before is not None and (before.end != start or not fits(before, before.pgoff + before.nr_pages == pgoff)):
        before = None
    target = before or after
    if target is None:
        return None, source
    if source is not None:
        k.rmap.vma_adopt(target, source)
    if before is not None and after is not None and k.rmap.vma_can_merge(before, after):
        absorb_next(k, mm, before, after)
        source = before if source is after else source
    elif before is not None:
        set_range(k, before, before.start, end)
    elif after is not None:
        set_range(k, after, start, after.end)
    if source is not None:
        k.rmap.vma_adjust(target, source)
    k.machine.charge("vma_merge")
    return target, source


def absorb_next(k: Kernel, mm: MmStruct, vma: VmArea, after: VmArea) -> None:
    """`vma` grows over its neighbour `after`, and over a gap between them; `after` goes. Raises as an allocation, then all is as before."""
    k.rmap.vma_adopt(vma, after)
    mm.remove(after)
    set_range(k, vma, vma.start, after.end)
    k.rmap.vma_merge(vma, after)
    k.vma_cache.free(after.address)


def set_range(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """Move the borders of a linked VMA, within its gap; pgoff moves with the start."""
    k.rmap.vma_pre_update(vma)
    if start != vma.start:
        vma.mm.move_start(vma, start, vma.pgoff + ((start - vma.start) >> PAGE_SHIFT))
    vma.end = end
    k.rmap.vma_post_update(vma)


def do_munmap(k: Kernel, mm: MmStruct, start: int, length: int, call: str = "munmap") -> None:
    """Unmap every page of [start, start + length); VMAs that stick out are split. `call` is whose errors they are.

    Raises SyscallError: EINVAL (unaligned, empty or outside the address space), ENOMEM (a split that cannot be made).
    """
    task_size = k.machine.paging.task_size
    if start % PAGE_SIZE or not 0 <= start <= task_size or not 0 < length <= task_size - start:
        raise SyscallError(errno.EINVAL, call)
    end = start + page_align(length)
    doomed = mm.overlapping(start, end)
    if not doomed:
        return
    try:
        if k.rules.munmap_needs_spare_vma:  # 2.4 takes it in case a split is needed, though perhaps none is
            k.vma_cache.free(k.vma_cache.alloc())
        if doomed[0].start < start:
            doomed[0] = split_vma(k, mm, doomed[0], start, call)
        if doomed[-1].end > end:
            split_vma(k, mm, doomed[-1], end, call)
    except AllocationFailed:
        raise SyscallError(errno.ENOMEM, call) from None
    before, after = mm.gap_around(start, end)
    for vma in doomed:
        mm.remove(vma)
        if page_align(k.machine.paging.unmapped_base) <= vma.start < mm.free_area_cache:
            mm.free_area_cache = vma.start
    k.lru_add.drain(k.this_cpu())
    k.machine.locks.take(mm.page_table_lock)
    for vma in doomed:
        zap_vma_range(k, mm, vma.start, vma.end)
        mm.total_vm -= vma.nr_pages
        if vma.flags & VM_ACCOUNT:
            k.vm_unacct_memory(vma.nr_pages)
    free_pgtables(k, mm, before.end if before else 0, start, end, after.start if after else None)
    k.machine.locks.drop(mm.page_table_lock)
    for vma in doomed:
        remove_vma(k, vma)


def split_vma(k: Kernel, mm: MmStruct, vma: VmArea, address: int, call: str) -> VmArea:
    """Cut `vma` at `address`; it keeps the lower part, the upper part is returned. Raises AllocationFailed, SyscallError."""
    if mm.map_count >= k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, call, "too many mappings")
    new_address = k.vma_cache.alloc()
    pgoff = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    new = VmArea(mm, address, vma.end, vma.flags, pgoff, new_address)
    try:
        k.rmap.vma_clone(vma, new)
    except AllocationFailed:
        k.vma_cache.free(new_address)
        raise
    k.machine.locks.pass_through(mm.page_table_lock)
    set_range(k, vma, vma.start, address)
    mm.insert(new)
    k.machine.charge("vma_split")
    return new


def remove_vma(k: Kernel, vma: VmArea) -> None:
    """The last of a VMA whose entries are gone: off its reverse map, and its bytes back."""
    k.rmap.vma_unlink(vma)
    k.vma_cache.free(vma.address)
