"""VMAs: made, copied, linked, moved at their borders, unlinked, freed. All of that happens here and nowhere else.

    alloc -> link                       a new one
    copy  -> reverse map -> link        fork, split, a move: it joins the reverse map before anybody can find it
    unlink -> reverse map -> free       munmap, a merge: it leaves the reverse map when its entries are gone

    set_range       |-- vma --|          ->   |---- vma ----|             the reverse map and the file's index are told before and after
    split_vma       |------ vma ------|  ->   |-- vma --|-- new --|       or new below vma: a list of the file's has the new one elsewhere
    absorb          |-- vma --|-- b --|  ->   |------ vma ------|         or b before vma; b leaves last
    move_border     |-- vma --|-- b --|  ->   |---- vma ----| b |         or b before vma

A VMA that shows a file is on that file's index from its link to the moment when its entries are gone: whoever walks finds one without
entries at worst, never entries without their VMA. The index changes under the file's lock, which comes before page_table_lock.

Source: 2.6.2 mm/mmap.c, split_vma, vma_merge, vma_link; 6.18 mm/vma.c, __split_vma, commit_merge, vma_link, remove_vma; kernel/fork.c,
vm_area_alloc, vm_area_dup.
"""

import errno

from rmaplab.errors import KernelBug, NoMemory, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.open_file import fput, get_file
from rmaplab.mm.vma_lock import vma_start_write
from rmaplab.objects.mm_types import File, MmStruct, VmArea


def vm_area_alloc(k: Kernel, mm: MmStruct, start: int, end: int, flags: int, pgoff: int) -> VmArea:
    """A VMA that nobody knows of yet. Raises as an allocation."""
    new = VmArea(mm, start, end, flags, pgoff, k.vma_cache.alloc())
    if k.rules.vma_locks:
        new.lock = k.machine.locks.new("vma_lock", f"VMA {start:x} of pid {mm.pid}")
    return new


def vm_area_dup(k: Kernel, vma: VmArea, mm: MmStruct, start: int, end: int, pgoff: int) -> VmArea:
    """A copy of `vma` for [start, end) of `mm` that nobody knows of yet. Raises as an allocation."""
    new = vm_area_alloc(k, mm, start, end, vma.flags, pgoff)
    new.ops, new.traits, new.cursor = vma.ops, vma.traits, vma.cursor
    if vma.file is not None:
        new.file = get_file(vma.file)
    if vma.zero is not None:
        new.zero = get_file(vma.zero)
    return new


def open_vma(vma: VmArea) -> None:
    """vm_ops->open: a driver hears of one more."""
    if vma.ops is not None:
        vma.ops.open(vma)


def close_vma(vma: VmArea) -> None:
    """vm_ops->close: and of one less."""
    if vma.ops is not None:
        vma.ops.close(vma)


def vm_area_free(k: Kernel, vma: VmArea) -> None:
    """Its bytes back: nobody knows of it, or not any more."""
    k.vma_cache.free(vma.address)
    if vma.file is not None:
        fput(k, vma.file)
    if vma.zero is not None:
        fput(k, vma.zero)


def link_vma(k: Kernel, vma: VmArea, parent: VmArea | None = None) -> None:
    """From now on find_vma finds it, and whoever looks for the pages of its file; beside `parent`'s, if it is a fork's child."""
    if vma.file is None:
        _insert(vma)
        return
    mapping = vma.file.mapping
    k.machine.locks.enter(mapping.lock)
    _insert(vma)
    mapping.i_mmap.link(vma, parent)
    k.machine.locks.leave(mapping.lock)


def _insert(vma: VmArea) -> None:
    vma.write_seq = vma.mm.mmap_sem.grants  # write-locked, without waiting: nobody has known it
    vma.mm.insert(vma)


def show_file(k: Kernel, vma: VmArea, file: File, pgoff: int) -> None:
    """generic_file_mmap, for a linked VMA that nobody has touched: it shows `file` from page `pgoff` on."""
    if vma.anon_vma is not None or vma.file is not None:
        raise KernelBug("generic_file_mmap", f"{vma} has pages already")
    vma.file, vma.pgoff = get_file(file), pgoff
    k.machine.locks.enter(file.mapping.lock)
    file.mapping.i_mmap.link(vma)
    k.machine.locks.leave(file.mapping.lock)


def _unlink_file(k: Kernel, vma: VmArea) -> None:
    """unlink_file_vma, __remove_shared_vm_struct: its entries are gone."""
    if vma.file is not None:
        mapping = vma.file.mapping
        k.machine.locks.enter(mapping.lock)
        mapping.i_mmap.unlink(vma)
        k.machine.locks.leave(mapping.lock)


def relink_file(k: Kernel, vma: VmArea) -> None:
    """Off the index of its file, and on it again, as if it were new."""
    if vma.file is not None:
        mapping = vma.file.mapping
        k.machine.locks.enter(mapping.lock)
        mapping.i_mmap.unlink(vma)
        mapping.i_mmap.link(vma)
        k.machine.locks.leave(mapping.lock)


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
    if vma.file is None:
        _set_range(k, vma, start, end)
        return
    k.machine.locks.enter(vma.file.mapping.lock)
    _set_range(k, vma, start, end)
    k.machine.locks.leave(vma.file.mapping.lock)


def _set_range(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """The same for who has the lock of its file."""
    k.design.vma_pre_update(vma)
    if vma.file is not None:
        vma.file.mapping.i_mmap.pre_update(vma)
    if start != vma.start:
        vma.mm.move_start(vma, start, vma.index_of(start))
    if end != vma.end:
        vma.mm.move_end(vma, end)
    if vma.file is not None:
        vma.file.mapping.i_mmap.post_update(vma)
    k.design.vma_post_update(vma)


def split_vma(k: Kernel, vma: VmArea, address: int, call: str, *, below: bool, limited: bool = True) -> VmArea:
    """Cut `vma` at `address`: the new VMA, which is the upper part, or the lower one if it is to lie `below`.

    Raises NoMemory, and if it is `limited` SyscallError(ENOMEM).
    """
    mm = vma.mm
    if limited and mm.map_count >= k.rules.max_map_count:
        raise SyscallError(errno.ENOMEM, call, too_many_mappings(k, mm))
    start, end, keeps = (vma.start, address, (address, vma.end)) if below else (address, vma.end, (vma.start, address))
    new = clone_vma(k, vma, start, end, vma.index_of(start))
    vma_start_write(k, vma)
    locks, mapping = k.machine.locks, None if vma.file is None else vma.file.mapping
    if mapping is not None:
        locks.enter(mapping.lock)
    if k.splits_under_page_table_lock:
        locks.enter(mm.page_table_lock)
    _set_range(k, vma, *keeps)
    _insert(new)
    if mapping is not None:
        mapping.i_mmap.link(new)
    if k.splits_under_page_table_lock:
        locks.leave(mm.page_table_lock)
    if mapping is not None:
        locks.leave(mapping.lock)
    open_vma(new)
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
    _unlink_file(k, other)
    close_vma(other)
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
    _unlink_file(k, vma)
    close_vma(vma)
    vm_area_free(k, vma)


def remove_all(k: Kernel, mm: MmStruct) -> None:
    """All VMAs of an address space that ends, when their entries are gone."""
    for vma in mm.vmas:
        k.design.vma_unlink(vma)
    for vma in mm.vmas:
        _unlink_file(k, vma)
        close_vma(vma)
        vm_area_free(k, vma)
    mm.vmas.clear()
