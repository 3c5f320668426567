"""What is done to one VMA, or to two neighbours: borders move, one becomes two, two become one.

    set_range       |-- vma --|          ->   |---- vma ----|             the reverse map is told before and after
    split_vma       |------ vma ------|  ->   |-- vma --|-- new --|       the new one joins the reverse map first
    absorb_next     |-- vma --|-- b --|  ->   |------ vma ------|         b leaves it last

Source: 2.6.2 mm/mmap.c, split_vma, vma_merge; 6.18 mm/vma.c, __split_vma, commit_merge, remove_vma.
"""

from __future__ import annotations

import errno

from rmaplab.errors import AllocationFailed, NeedsReclaim, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT


def set_range(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """Move the borders of a linked VMA, within its gap; pgoff moves with the start."""
    k.rmap.vma_pre_update(vma)
    if start != vma.start:
        vma.mm.move_start(vma, start, vma.pgoff + ((start - vma.start) >> PAGE_SHIFT))
    vma.end = end
    k.rmap.vma_post_update(vma)


def split_vma(k: Kernel, mm: MmStruct, vma: VmArea, address: int, call: str, *, limited: bool = True) -> VmArea:
    """Cut `vma` at `address`; it keeps the lower part, the upper part is returned.

    Raises AllocationFailed, NeedsReclaim, and if it is `limited` SyscallError(ENOMEM).
    """
    if limited and mm.map_count >= k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, call, "too many mappings")
    new_address = k.vma_cache.alloc()
    pgoff = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    new = VmArea(mm, address, vma.end, vma.flags, pgoff, new_address)
    try:
        k.rmap.vma_clone(vma, new)
    except (AllocationFailed, NeedsReclaim):
        k.vma_cache.free(new_address)
        raise
    k.machine.locks.pass_through(mm.page_table_lock)
    set_range(k, vma, vma.start, address)
    mm.insert(new)
    k.machine.charge("vma_split")
    return new


def absorb_next(k: Kernel, mm: MmStruct, vma: VmArea, after: VmArea) -> None:
    """`vma` grows over its neighbour `after`, and over a gap between them; `after` goes. Raises as an allocation, then all is as before."""
    k.rmap.vma_adopt(vma, after)
    mm.remove(after)
    set_range(k, vma, vma.start, after.end)
    k.rmap.vma_merge(vma, after)
    k.vma_cache.free(after.address)


def remove_vma(k: Kernel, vma: VmArea) -> None:
    """The last of a VMA whose entries are gone: off its reverse map, and its bytes back."""
    k.rmap.vma_unlink(vma)
    k.vma_cache.free(vma.address)
