"""Where a new mapping goes: the search for a hole in an address space.

    2004    TASK_SIZE/3 |- A -|-- B --|..hole..|- C -|.......          upwards, from where the last search ended
                                       ^^^^^^^^                        (free_area_cache, since 2.6); then once more from the beginning
    later   ......|-- B --|..hole..|guard|= grows down =|- A -| mmap_base
                           ^^^^^^^^                                    downwards from mmap_base; upwards only if nothing is left

An address that was asked for comes first, if it is free; with MAP_FIXED it is an order, and what lies there is the caller's business.
Later kernels leave a gap below a mapping that grows down, as far as the hole right below it is large enough at all: else the next
hole may lie within the gap. A mapping of whole huge pages goes where such pages could be, if no address was asked for.

Source: 2.4.27, 2.6.2 mm/mmap.c, get_unmapped_area, arch_get_unmapped_area; 6.18 mm/mmap.c, generic_get_unmapped_area_topdown, mm/vma.c,
unmapped_area_topdown, mm/huge_memory.c, __thp_get_unmapped_area; the guard gap is Hugh Dickins' 1be7107fbe18 (4.12).
"""

import errno

from rmaplab.errors import SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_GROWSDOWN
from rmaplab.objects.mm_types import File, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

MAX_ERRNO = 4095


LOW = 0x4000_0000, 0x8000_0000  # arch/x86/kernel/sys_x86_64.c, find_start_end; not randomised


def get_unmapped_area(
    k: Kernel,
    mm: MmStruct,
    address: int,
    length: int,
    *,
    fixed: bool,
    low: bool = False,
    file: File | None = None,
    pgoff: int = 0,
    shared: bool = False,
) -> int:
    """Where a mapping goes, of `file` from `pgoff` on or of none, perhaps of memory that is `shared`: the order, the hint if it fits, else a hole.

    A `low` one (MAP_32BIT) lies between 1 and 2 GiB, from below. Raises SyscallError: ENOMEM, EINVAL.
    """
    paging = k.machine.paging
    if fixed:
        if k.rules.mmap_fixed_may_be_errno and -address % paging.wraps_at in range(1, MAX_ERRNO + 1):
            raise SyscallError(-address % paging.wraps_at, "mmap", "the address itself looks like an error")
        if not 0 <= address <= paging.task_size - length:
            raise SyscallError(errno.ENOMEM, "mmap", "beyond the end of the address space")
        if address % PAGE_SIZE:
            raise SyscallError(errno.EINVAL, "mmap", "MAP_FIXED needs a page-aligned address")
        return address
    address = address & -PAGE_SIZE if k.rules.mmap_rounds_hint_down else page_align(address)
    if k.rules.mmap_aligns_huge and not shared and _may_be_huge(paging.leaf_span, address, length, file, pgoff):
        found = _aligned_hole(k, mm, address, length, pgoff << PAGE_SHIFT if file is not None else 0, low=low)
        if found is not None:
            return found
    if _fits(k, mm, address, length, low=low):
        return address
    found = _hole(k, mm, length, low=low) if k.rules.mmap_topdown else _next_hole(k, mm, length)
    if found is None:
        raise SyscallError(errno.ENOMEM, "mmap", "no hole in the address space is large enough")
    return found


def _hole(k: Kernel, mm: MmStruct, length: int, *, low: bool) -> int | None:
    """Where kernels look that go downwards."""
    return _lowest_hole(k, mm, length, *LOW) if low else _highest_hole(k, mm, length)


def _next_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    """The first hole from where the last search ended, else from the beginning."""
    paging = k.machine.paging
    base = paging.unmapped_base
    first = (mm.free_area_cache or base) if k.rules.mmap_remembers_hole else base
    while True:
        address, _ = mm.hole_above(length, first)
        if address + length <= paging.task_size:
            mm.free_area_cache = address + length
            return address
        if first == base:
            return None
        first = base


def _highest_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    """The end of the highest hole below mmap_base; failing that the lowest above a third of the address space.

    The gap below a mapping that grows down is looked at when the hole there would do: then no hole above it will.
    """
    paging = k.machine.paging
    top = paging.unmapped_base
    while (hole := mm.hole_below(length, top)) is not None:
        start, end = max(hole[0], PAGE_SIZE), min(hole[1], top)
        if end - start >= length:
            end = min(end, _gap_below(k, mm, hole[1]))
        if end - start >= length:
            return end - length
        if hole[0] < PAGE_SIZE:
            break
        top = end
    return _lowest_hole(k, mm, length, page_align(paging.task_size // 3), paging.task_size)


def _lowest_hole(k: Kernel, mm: MmStruct, length: int, address: int, end: int) -> int | None:
    """The lowest hole from `address` to `end`."""
    while True:
        start, stop = mm.hole_above(length, address)
        if start + length > end:
            return None
        if stop >= end or start + length <= _gap_below(k, mm, stop):
            return start
        address = stop


def _gap_below(k: Kernel, mm: MmStruct, end: int) -> int:
    """How far a hole that ends there goes, if the VMA above it may grow down: vm_start_gap."""
    above = mm.find_vma(end) if k.rules.stack_guard_gap_pages else None
    return end if above is None else _start_gap(k, above)


def _start_gap(k: Kernel, vma: VmArea) -> int:
    """vm_start_gap: below a mapping that grows down some pages stay free."""
    gap = k.rules.stack_guard_gap_pages << PAGE_SHIFT if vma.flags & VM_GROWSDOWN else 0
    return max(vma.start - gap, 0)


def _may_be_huge(span: int, address: int, length: int, file: File | None, pgoff: int) -> bool:
    """Whether huge pages could lie in it: anonymous memory of whole ones, that asks for no place; a part of a file on a disk with a whole one."""
    if file is None:
        return not address and length % span == 0
    offset = pgoff << PAGE_SHIFT
    return file.mapping.on_disk and offset + length - -(-offset // span) * span >= span


def _aligned_hole(k: Kernel, mm: MmStruct, address: int, length: int, offset: int, *, low: bool) -> int | None:
    """__thp_get_unmapped_area: the hint, if a huge page more would fit there; else the hole that it would take, and of that what lies as the file does."""
    span = k.machine.paging.leaf_span
    if _fits(k, mm, address, length + span, low=low):
        return address
    found = _hole(k, mm, length + span, low=low)
    return None if found is None else found + ((offset - found) % span or span)


def _fits(k: Kernel, mm: MmStruct, address: int, length: int, *, low: bool) -> bool:
    """Whether a hint is one, and nothing is in the way."""
    if not 0 < address <= (LOW[1] if low else k.machine.paging.task_size) - length:
        return False
    after = mm.find_vma(address)
    return after is None or address + length <= _start_gap(k, after)
