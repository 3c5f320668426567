"""mmap, munmap and brk: find a hole, cover it, unmap.

    before    |--- A ---|          |--- B ---|          same flags, page offsets that continue, A's and B's
    mmap          |-----hole-----|                      reverse maps agree
    after     |------------- A --------------|          one VMA: A has grown over the hole and over B

What MAP_FIXED replaces goes first in 2004, whatever comes of the rest; 6.18 takes it away when nothing can fail any more.

Source: 2.6.2 mm/mmap.c, do_mmap_pgoff, arch_get_unmapped_area, do_munmap, do_brk; for 2.6.5-rc1-aa1 mm/mmap.c of the -aa tree
(history.md 4.1, 4.2); 6.18 mm/mmap.c, do_mmap, vm_unmapped_area, and mm/vma.c, mmap_region, vms_gather_munmap_vmas, do_brk_flags.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from rmaplab.errors import AllocationFailed, NeedsReclaim, NotModelled, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import merge_new_range
from rmaplab.mm.vma import remove_vma, split_vma
from rmaplab.mm.zap import free_pgtables, zap_vma_range
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_STACK,
    MAP_TYPE,
    VM_ACCESS,
    VM_ACCOUNT,
    VM_DATA_DEFAULT_FLAGS,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAYACCESS,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_WRITE,
)
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

AS_FLAGS = ((MAP_GROWSDOWN, VM_GROWSDOWN), (MAP_LOCKED, VM_LOCKED), (MAP_STACK, VM_NOHUGEPAGE))


def do_mmap(k: Kernel, mm: MmStruct, address: int, length: int, prot: int, flags: int) -> int:
    """Map `length` bytes of private anonymous memory; the address it got. `address` is a hint, or an order with MAP_FIXED.

    Raises SyscallError: EINVAL (length, type, unaligned MAP_FIXED), EEXIST (MAP_FIXED_NOREPLACE), ENOMEM (no hole, too many VMAs,
    overcommit), EPERM and EAGAIN (MAP_LOCKED). NotModelled: MAP_HUGETLB, MAP_DROPPABLE, where the kernel knows them.
    """
    rules, paging = k.rules, k.machine.paging
    if length == 0 and rules.mmap_of_nothing_succeeds:
        return address
    known = flags & rules.mmap_flags
    if known & (MAP_HUGETLB | MAP_DROPPABLE):
        raise NotModelled(
            "huge pages and droppable memory are not modelled yet: leave MAP_HUGETLB and MAP_DROPPABLE out"
        )
    length = page_align(length)
    too_long = rules.mmap_topdown and length > paging.task_size
    if length <= 0 or (length > paging.task_size and not too_long):
        raise SyscallError(errno.EINVAL, "mmap", "a length of 0, or beyond the address space")
    if flags & MAP_TYPE != MAP_PRIVATE or not flags & MAP_ANONYMOUS:
        raise SyscallError(errno.EINVAL, "mmap")  # flags that no kernel of the day knows are ignored
    if mm.map_count > rules.max_map_count or too_long:
        raise SyscallError(errno.ENOMEM, "mmap", "too many mappings, or one too large")
    fixed = bool(flags & MAP_FIXED or known & MAP_FIXED_NOREPLACE)
    start = get_unmapped_area(k, mm, address, length, fixed=fixed)
    end = start + length
    if known & MAP_FIXED_NOREPLACE and mm.overlapping(start, end):
        raise SyscallError(errno.EEXIST, "mmap", "MAP_FIXED_NOREPLACE, and something is mapped there")
    vm_flags = prot & VM_ACCESS | VM_MAYACCESS | mm.def_flags
    if known:
        for flag, vm_flag in AS_FLAGS:
            if known & flag:
                vm_flags |= vm_flag
        if known & MAP_NORESERVE and rules.noreserve_is_a_flag:
            vm_flags |= VM_NORESERVE
    if vm_flags & VM_LOCKED:
        check_lock_limit(mm, vm_flags, length >> PAGE_SHIFT, "mmap", asked=bool(known & MAP_LOCKED))
    replaced: list[VmArea] = []
    if flags & MAP_FIXED and mm.overlapping(start, end):
        if rules.mmap_replaces_last:
            replaced = split_ends(k, mm, start, end, "mmap")
        else:
            do_munmap(k, mm, start, length, "mmap")
    reserve = not known & MAP_NORESERVE or k.overcommit.counts_noreserve
    map_anonymous(k, mm, start, length, vm_flags, replaced, reserve=reserve, call="mmap")
    if vm_flags & VM_LOCKED or known & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        mm.to_populate = start, end
    return start


def check_lock_limit(mm: MmStruct, flags: int, nr_pages: int, call: str, *, asked: bool = False) -> None:
    """can_do_mlock (if it was `asked` for by name) and mlock_future_ok. Raises SyscallError: EPERM, EAGAIN."""
    if mm.limits.may_lock:
        return
    if asked and not mm.limits.memlock:
        raise SyscallError(errno.EPERM, call, "RLIMIT_MEMLOCK is 0, and CAP_IPC_LOCK is not there")
    if flags & VM_LOCKED and mm.locked_vm + nr_pages > mm.limits.memlock >> PAGE_SHIFT:
        raise SyscallError(errno.EAGAIN, call, "RLIMIT_MEMLOCK")


def map_anonymous(
    k: Kernel,
    mm: MmStruct,
    start: int,
    length: int,
    flags: int,
    replaced: Sequence[VmArea],
    *,
    reserve: bool,
    call: str,
) -> None:
    """Charge for [start, start + length) and cover it: by a neighbour that grows, or by a new VMA. `replaced` are there, and go.

    Raises SyscallError(ENOMEM): RLIMIT_AS, overcommit, no memory for the VMA.
    """
    nr_pages, end = length >> PAGE_SHIFT, start + length
    lost = sum(vma.nr_pages for vma in replaced) if replaced else 0
    if mm.total_vm - lost + nr_pages > mm.limits.address_space >> PAGE_SHIFT:
        raise SyscallError(errno.ENOMEM, call, "RLIMIT_AS")
    charged = 0
    if flags & VM_WRITE and reserve:
        refund = sum(vma.nr_pages for vma in replaced if vma.flags & VM_ACCOUNT) if replaced else 0
        if not k.vm_enough_memory(max(nr_pages - refund, 0)):
            raise SyscallError(errno.ENOMEM, call, "overcommit: less is free than is asked for")
        if k.rules.commit_is_accounted:
            flags |= VM_ACCOUNT
            charged = nr_pages
            k.committed_pages += min(refund, nr_pages)  # what was there gives back all of it below
    pgoff = start >> PAGE_SHIFT
    try:
        if replaced:
            do_munmap(k, mm, start, length, call)
        if merge_new_range(k, mm, None, start, end, flags, pgoff)[0] is None:
            vma_address = k.vma_cache.alloc()
            k.machine.charge("vma_alloc")
            mm.insert(VmArea(mm, start, end, flags, pgoff, vma_address))
    except (AllocationFailed, NeedsReclaim) as failure:
        k.vm_unacct_memory(charged)
        if isinstance(failure, NeedsReclaim):
            raise
        raise SyscallError(errno.ENOMEM, call) from None
    mm.total_vm += nr_pages
    if flags & VM_LOCKED:
        mm.locked_vm += nr_pages


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
        flags = VM_DATA_DEFAULT_FLAGS | mm.def_flags
        if not k.rules.heap_is_executable:
            flags &= ~VM_EXEC
        try:
            check_lock_limit(mm, flags, (new_end - old_end) >> PAGE_SHIFT, "brk")
        except SyscallError:
            raise SyscallError(errno.ENOMEM, "brk", "RLIMIT_MEMLOCK") from None
        map_anonymous(k, mm, old_end, new_end - old_end, flags, (), reserve=True, call="brk")
        if flags & VM_LOCKED:
            mm.to_populate = old_end, new_end
    mm.brk = address
    return mm.brk


def get_unmapped_area(k: Kernel, mm: MmStruct, address: int, length: int, *, fixed: bool) -> int:
    """Where a mapping goes: the order, the hint if it fits, else a hole."""
    paging = k.machine.paging
    if not 0 <= address <= paging.task_size - length:
        if fixed:
            raise SyscallError(errno.ENOMEM, "mmap", "beyond the end of the address space")
        address = 0
    if fixed:
        if address % PAGE_SIZE:
            raise SyscallError(errno.EINVAL, "mmap", "MAP_FIXED needs a page-aligned address")
        return address
    if not address and k.rules.mmap_aligns_huge and length % paging.leaf_span == 0:
        found = _aligned_hole(k, mm, length)
        if found is not None:
            return found
    address = address & -PAGE_SIZE if k.rules.mmap_topdown else page_align(address)
    if address and address + length <= paging.task_size:
        after = mm.find_vma(address)
        if after is None or address + length <= _start_gap(k, after):
            return address
    found = _highest_hole(k, mm, length) if k.rules.mmap_topdown else _next_hole(k, mm, length)
    if found is None:
        raise SyscallError(errno.ENOMEM, "mmap", "no hole in the address space is large enough")
    return found


def _start_gap(k: Kernel, vma: VmArea) -> int:
    """vm_start_gap: below a mapping that grows down some pages stay free."""
    gap = k.rules.stack_guard_gap_pages << PAGE_SHIFT if vma.flags & VM_GROWSDOWN else 0
    return max(vma.start - gap, 0)


def _next_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    """The first hole from where the last search ended, else from the beginning."""
    paging = k.machine.paging
    base = paging.unmapped_base
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
            return None
        first = base


def _highest_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    """The end of the highest hole below mmap_base; failing that the lowest above a third of the address space."""
    paging = k.machine.paging
    top = paging.unmapped_base
    for vma in reversed(mm.overlapping(0, top)):
        if top - vma.end >= length:
            return top - length
        top = min(top, _start_gap(k, vma))
    if top - PAGE_SIZE >= length:
        return top - length
    address = page_align(paging.task_size // 3)
    for vma in mm.overlapping(address, paging.task_size):
        if address + length <= _start_gap(k, vma):
            return address
        address = max(address, vma.end)
    return address if address + length <= paging.task_size else None


def _aligned_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    """__thp_get_unmapped_area: the hole that a huge page more would take, and of that what lies aligned."""
    span = k.machine.paging.leaf_span
    found = _highest_hole(k, mm, length + span)
    return None if found is None else found + (-found % span or span)


def do_munmap(k: Kernel, mm: MmStruct, start: int, length: int, call: str = "munmap") -> None:
    """Unmap every page of [start, start + length); VMAs that stick out are split. `call` is whose errors they are.

    Raises SyscallError: EINVAL (unaligned, empty or outside the address space), ENOMEM (a split that cannot be made).
    """
    task_size = k.machine.paging.task_size
    if start % PAGE_SIZE or not 0 <= start <= task_size or not 0 < length <= task_size - start:
        raise SyscallError(errno.EINVAL, call)
    end = start + page_align(length)
    doomed = split_ends(k, mm, start, end, call)
    if not doomed:
        return
    before, after = mm.gap_around(start, end)
    machine = k.machine
    locks, unmapped_base = machine.locks, machine.paging.unmapped_base
    for vma in doomed:
        mm.remove(vma)
        if unmapped_base <= vma.start < mm.free_area_cache:
            mm.free_area_cache = vma.start
    k.lru_add.drain(k.this_cpu())
    locks.take(mm.page_table_lock)
    for vma in doomed:
        zap_vma_range(k, mm, vma.start, vma.end)
        mm.total_vm -= vma.nr_pages
        if vma.flags & VM_ACCOUNT:
            k.vm_unacct_memory(vma.nr_pages)
        if vma.flags & VM_LOCKED:
            mm.locked_vm -= vma.nr_pages
    free_pgtables(k, mm, before.end if before else 0, start, end, after.start if after else None)
    locks.drop(mm.page_table_lock)
    for vma in doomed:
        remove_vma(k, vma)


def split_ends(k: Kernel, mm: MmStruct, start: int, end: int, call: str) -> list[VmArea]:
    """The VMAs of [start, end), in order; those that stick out are cut there. Raises SyscallError(ENOMEM), and then one may be cut."""
    doomed = mm.overlapping(start, end)
    if not doomed:
        return doomed
    if doomed[0].start >= start and doomed[-1].end <= end and not k.rules.munmap_needs_spare_vma:
        return doomed
    limited = not k.rules.munmap_counts_holes_only or (doomed[0].start < start and end < doomed[0].end)
    try:
        if k.rules.munmap_needs_spare_vma:  # 2.4 takes it in case a split is needed, though perhaps none is
            k.vma_cache.free(k.vma_cache.alloc())
        if doomed[0].start < start:
            doomed[0] = split_vma(k, mm, doomed[0], start, call, limited=limited)
        if doomed[-1].end > end:
            split_vma(k, mm, doomed[-1], end, call, limited=limited and not k.rules.munmap_counts_holes_only)
    except AllocationFailed:
        raise SyscallError(errno.ENOMEM, call) from None
    return doomed
