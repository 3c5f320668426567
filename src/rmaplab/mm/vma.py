"""VMAs: made, copied, linked, moved at their borders, unlinked, freed. All of that happens here and nowhere else.

    alloc -> link                       a new one
    copy  -> reverse map -> link        fork, split, a move: it joins the reverse map before anybody can find it
    unlink -> reverse map -> free       munmap, a merge: it leaves the reverse map when its entries are gone

    set_range       |-- vma --|          ->   |---- vma ----|             the reverse map is told before and after
    split_vma       |------ vma ------|  ->   |-- vma --|-- new --|
    absorb          |-- vma --|-- b --|  ->   |------ vma ------|         or b before vma; b leaves last
    move_border     |-- vma --|-- b --|  ->   |---- vma ----| b |         or b before vma

Source: 2.6.2 mm/mmap.c, split_vma, vma_merge, vma_link; 6.18 mm/vma.c, __split_vma, commit_merge, vma_link, remove_vma; kernel/fork.c,
vm_area_alloc, vm_area_dup.
"""

import errno

from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.vma_lock import vma_start_write
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT


def vm_area_alloc(k: Kernel, mm: MmStruct, start: int, end: int, flags: int, pgoff: int) -> VmArea:
    """A VMA that nobody knows of yet. Raises as an allocation."""
    new = VmArea(mm, start, end, flags, pgoff, k.vma_cache.alloc())
    if k.rules.vma_locks:
        new.lock = k.machine.locks.new("vma_lock", f"VMA {start:x} of pid {mm.pid}")
    return new


def vm_area_dup(k: Kernel, vma: VmArea, mm: MmStruct, start: int, end: int, pgoff: int) -> VmArea:
    """A copy of `vma` for [start, end) of `mm` that nobody knows of yet. Raises as an allocation."""
    new = vm_area_alloc(k, mm, start, end, vma.flags, pgoff)
    new.file, new.traits = vma.file, vma.traits
    return new


def vm_area_free(k: Kernel, vma: VmArea) -> None:
    """Off its file's list, now that its entries are gone, and its bytes back."""
    if vma.file is not None and vma in vma.file.i_mmap:
        vma.file.i_mmap.remove(vma)
    k.vma_cache.free(vma.address)


def link_vma(vma: VmArea) -> None:
    """From now on find_vma finds it, and whoever looks for the pages of its file."""
    vma.write_seq = vma.mm.mmap_sem.grants  # write-locked, without waiting: nobody has known it
    vma.mm.insert(vma)
    if vma.file is not None:
        vma.file.i_mmap.append(vma)


def unlink_vma(k: Kernel, vma: VmArea) -> None:
    """From now on find_vma does not find it."""
    vma_start_write(k, vma)
    vma.mm.remove(vma)


def clone_vma(k: Kernel, vma: VmArea, start: int, end: int, pgoff: int) -> VmArea:
    """A copy of `vma` at [start, end), in the reverse map and not linked yet. Raises as an allocation."""
    new = vm_area_dup(k, vma, vma.mm, start, end, pgoff)
    try:
        k.design.vma_clone(vma, new)
    except NoMemory:
        vm_area_free(k, new)
        raise
    return new


def set_range(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """Move the borders of a linked VMA, within its gap; pgoff moves with the start."""
    vma_start_write(k, vma)
    k.design.vma_pre_update(vma)
    if start != vma.start:
        vma.mm.move_start(vma, start, vma.pgoff + ((start - vma.start) >> PAGE_SHIFT))
    vma.end = end
    k.design.vma_post_update(vma)


def split_vma(k: Kernel, vma: VmArea, address: int, call: str, *, limited: bool = True) -> VmArea:
    """Cut `vma` at `address`; it keeps the lower part, the upper part is returned.

    Raises NoMemory, and if it is `limited` SyscallError(ENOMEM).
    """
    mm = vma.mm
    if limited and mm.map_count >= k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, call, too_many_mappings(k, mm))
    new = clone_vma(k, vma, address, vma.end, vma.pgoff + ((address - vma.start) >> PAGE_SHIFT))
    if k.splits_under_page_table_lock:
        k.machine.locks.enter(mm.page_table_lock)
    set_range(k, vma, vma.start, address)
    link_vma(new)
    if k.splits_under_page_table_lock:
        k.machine.locks.leave(mm.page_table_lock)
    k.machine.charge("vma_split")
    return new


def too_many_mappings(k: Kernel, mm: MmStruct) -> str:
    """Why a call is refused that could make one more, in words."""
    return f"too many mappings: {mm.map_count:,}, and max_map_count is {k.rules.max_map_count:,}"


def absorb(k: Kernel, vma: VmArea, other: VmArea) -> None:
    """`vma` grows over its neighbour `other`, and over a gap between them; `other` goes. Raises as an allocation, then all is as before."""
    k.design.vma_adopt(vma, other)
    vma_start_write(k, vma)
    unlink_vma(k, other)
    set_range(k, vma, min(vma.start, other.start), max(vma.end, other.end))
    k.design.vma_merge(vma, other)
    vm_area_free(k, other)


def move_border(k: Kernel, vma: VmArea, other: VmArea, border: int) -> None:
    """`vma` takes from the adjacent `other` what lies on its side of `border`. Raises as an allocation, then all is as before."""
    k.design.vma_adopt(vma, other)
    vma_start_write(k, vma)
    vma_start_write(k, other)
    if vma.start < other.start:
        set_range(k, other, border, other.end)
        set_range(k, vma, vma.start, border)
    else:
        set_range(k, other, other.start, border)
        set_range(k, vma, border, vma.end)
    k.design.vma_adjust(vma, other)


def remove_vma(k: Kernel, vma: VmArea) -> None:
    """The last of an unlinked VMA whose entries are gone: off its reverse map, and its bytes back."""
    k.design.vma_unlink(vma)
    vm_area_free(k, vma)


def remove_all(k: Kernel, mm: MmStruct) -> None:
    """All VMAs of an address space that ends, when their entries are gone."""
    for vma in mm.vmas:
        k.design.vma_unlink(vma)
    for vma in mm.vmas:
        vm_area_free(k, vma)
    mm.vmas.clear()
