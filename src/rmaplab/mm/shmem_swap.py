"""Pages of shared memory on their way to swap and back: an object's page is in the page cache, or has a slot in the object's swap vector, never both.

    page cache of the object    [p0] [p1] [p2]            p2 is nobody's in particular: mapped by whom it may
    writepage, unmapped, p2 --> [p0] [p1]  -              swap cache: p2, slot 7, dirty; the vector says 2: slot 7. Slot 7 is used by both
    a pass later                                          written;  and one more: freed. Slot 7 is used by the vector
    fault, read(2), write(2) -> [p0] [p1] [p2']           from the swap cache, or read into it; out of it at once, dirty, slot 7 is free

No page table names such a slot, so nobody copies its entry: fork has nothing to do with it.

A page that is clean has never been written to: reclaim drops it, and who comes next gets another one of zeros. The object is charged for it, and has its block, until
somebody counts (shmem_recalc_inode): at its next page that is not there, its next way to swap, or truncate. In 2.4 it is told at once (shmem_removepage).

A page that cannot be read is an EIO, or a SIGBUS, for here the kernels of 2004 ask. Only swapoff does not: what it could not read is zeros from then on, in 2.4 what the frame had.

Left out: the lock of the object (info->lock) and of both indexes; that the swap cache's index may get no node, so that writepage fails for want of a slot only.

Source: 2.4.27, 2.6.2 and 2.6.7 mm/shmem.c, shmem_writepage, shmem_getpage, shmem_unuse_inode, shmem_truncate, shmem_recalc_inode; mm/swap_state.c, move_to_swap_cache,
move_from_swap_cache; reclaim.md J.1 to J.3.
"""

import numpy as np

from rmaplab.errors import DiskError, KernelBug, NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_DIRTY, PG_NOT_UPTODATE, PG_WRITEBACK
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_page import uncharge
from rmaplab.mm.swap_in import free_swap_and_cache, put_page, read_swap_cache_async, swapin_readahead
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

SECOND = 10**9


# -- out ----------------------------------------------------------------------------------------------------------------------


def shmem_writepage(k: Kernel, file: AddressSpace, first: int, pages: I64) -> int:
    """Pages of an object, from index `first` on, that nobody maps: how many of them, from the first on, are in the swap cache now.

    The caller has cleared their dirty bits, and refers to them. Those that stay are dirty again: the object is locked (SHM_LOCK), or swap is full.
    """
    slots, flags = _NOTHING, k.machine.frames.flags
    if file.shmem is not None and not file.shmem.locked:
        slots = k.swap.get_slots(pages.size)
    if slots.size:
        recalc_inode(k, file)
        _move_to_swap_cache(k, file, first, pages[: slots.size], slots)
    flags[pages] |= np.uint32(PG_DIRTY)
    return slots.size


def _move_to_swap_cache(k: Kernel, file: AddressSpace, first: int, pages: I64, slots: I64) -> None:
    """move_to_swap_cache, and shmem_swp_set: the slots are the vector's and the cache's."""
    assert file.shmem is not None
    k.page_cache.remove_range(file, first, first + slots.size - 1)
    k.swap.add_many(pages, slots)
    k.swap.use_all(slots)
    file.slots.update(zip(range(first, first + slots.size), slots.tolist(), strict=True))
    file.shmem.swapped += slots.size
    for index in range(first, first + slots.size) if file.store else ():  # what it was made with is old by now
        file.store.pop(index, None)
    k.machine.charge("add_to_swap", slots.size)


# -- and back -----------------------------------------------------------------------------------------------------------------


def bring_back(k: Kernel, file: AddressSpace, index: int) -> bool:
    """shmem_getpage, as far as it is about swap: whether the page had a slot. Then it is in the page cache, dirty, unless somebody has truncated meanwhile.

    May sleep. Raises DiskError: it cannot be read, now; NoMemory, with nothing done.
    """
    had, tries = False, 2
    while (slot := file.slots.get(index)) is not None:
        had = True
        recalc_inode(k, file)
        if slot not in k.swap.cached:
            swapin_readahead(k, slot)
        pfn = read_swap_cache_async(k, slot)
        if pfn < 0:
            continue
        try:
            _wait_on(k, pfn)
            try:
                if _move_back(k, file, index, slot, pfn):
                    break
            except NoMemory as failure:
                tries -= 1
                if not tries:
                    raise NoMemory(f"shmem_getpage tries for ever: {failure}", waiting_helps=True) from None
                k.machine.disk.congestion_wait(SECOND // 50)
        finally:
            put_page(k, pfn)
    if had:
        k.machine.end_burst()
    return had


def _wait_on(k: Kernel, pfn: int) -> None:
    """wait_on_page_locked, wait_on_page_writeback. May sleep, with the time that is due passed before."""
    k.machine.end_burst()
    k.swap.wait_for(pfn)
    while k.machine.frames.flags[pfn] & PG_WRITEBACK:
        k.machine.disk.congestion_wait(SECOND)


def _move_back(k: Kernel, file: AddressSpace, index: int, slot: int, pfn: int) -> bool:
    """Under the page's lock, if the page, the slot and the index are still one; nobody writes it, as we refer to it. Raises DiskError; NoMemory: no node of the index."""
    locks = k.machine.locks
    locked = np.array([[pfn]], np.int64)
    locks.enter_bits("PG_locked", locked, 1)
    try:
        if file.slots.get(index) != slot or k.swap.cached.get(slot) != pfn:
            return False
        if not k.swap.errors.is_uptodate(slot):
            raise DiskError(f"page {index} lies in swap, and cannot be read")
        move_from_swap_cache(k, file, index, pfn)
        k.machine.charge("shmem_swap_in")
    finally:
        locks.leave_bits("PG_locked", locked, 1)
    return True


def move_from_swap_cache(k: Kernel, file: AddressSpace, index: int, pfn: int) -> None:
    """The page of a slot is the object's page `index` again, dirty; nobody uses the slot any more. It is locked, and not under way. Raises NoMemory: no node, and it may not wait."""
    if file.shmem is None:
        raise KernelBug("move_from_swap_cache", f"file {file.address} does not live in memory")
    nodes = k.page_cache.reserve(file, np.array([index], np.int64), Gfp.ATOMIC)
    slot = file.slots.pop(index)
    file.shmem.swapped -= 1
    if k.swap.errors.any:
        if not (k.swap.errors.is_uptodate(slot) or k.rules.shmem_unuse_is_uptodate):
            k.machine.frames.flags[pfn] |= np.uint32(PG_NOT_UPTODATE)
        k.swap.errors.mapped(slot, k.current.pid if k.current is not None else 0, index * PAGE_SIZE)
    k.swap.give_uses(np.array([slot], np.int64))
    k.swap.delete(pfn)
    k.page_cache.add(file, index, pfn, nodes)
    k.machine.frames.flags[pfn] |= np.uint32(PG_DIRTY)


def shmem_unuse(k: Kernel, address: int, index: int, slot: int, pfn: int) -> bool:
    """A slot that swapoff empties, whose page it has locked: whether page `index` of the object at `address` lies there still. Raises NoMemory: it would go round for ever."""
    file = k.page_cache.files.get(address)
    if file is None or file.slots.get(index) != slot:
        return False
    try:
        move_from_swap_cache(k, file, index, pfn)
    except NoMemory as failure:
        raise NoMemory(f"try_to_unuse tries for ever: {failure}", waiting_helps=True) from None
    return True


# -- the end ------------------------------------------------------------------------------------------------------------------


def shmem_truncate(k: Kernel, file: AddressSpace, nr_pages: int) -> None:
    """The file has no page from `nr_pages` on: neither has its swap vector, and who is charged for what has gone is so no more."""
    file.dropped += free_slots(k, file, nr_pages)
    free_vector(k, file, nr_pages)
    recalc_inode(k, file)


def free_slots(k: Kernel, file: AddressSpace, first: int, last: int = 1 << 62) -> int:
    """shmem_free_swp: pages [first, last] that lie in swap are gone, and their slots free. How many."""
    gone = sorted(index for index in file.slots if first <= index <= last) if file.slots else []
    if gone and file.shmem is not None:
        slots = np.array([file.slots.pop(index) for index in gone], np.int64)
        file.shmem.swapped -= slots.size
        free_swap_and_cache(k, k.swap.entries(slots))
    return len(gone)


def free_vector(k: Kernel, file: AddressSpace, nr_pages: int) -> None:
    """Pages of the vector that no page before `nr_pages` needs."""
    if file.shmem is not None and file.shmem.vector is not None:
        pages = np.array(file.shmem.vector.cut(nr_pages), np.int64)
        k.machine.allocator.free(pages)
        k.machine.charge("page_free", pages.size)


def recalc_inode(k: Kernel, file: AddressSpace) -> None:
    """shmem_recalc_inode: what has been dropped behind the object's back is charged no more."""
    if file.dropped:
        uncharge(k, file, file.dropped)
        file.dropped = 0


# -- check() ------------------------------------------------------------------------------------------------------------------


def check_vectors(k: Kernel) -> I64:
    """What objects have in swap: the entries of all their vectors. Raises KernelBug: counts, places and pages that do not go together. O(pages in swap)."""
    entries = [_NOTHING]
    frames = k.machine.frames
    for file in k.page_cache.files.values():
        if not file.slots and (file.shmem is None or not file.shmem.swapped):
            continue
        info, indexes = file.shmem, np.array(sorted(file.slots), np.int64)
        if info is None or info.vector is None or info.swapped != indexes.size:
            raise KernelBug("shmem_swp_set", f"file {file.address} has {indexes.size} pages in swap, and says other")
        if info.vector.missing(indexes) or indexes[-1] >= max(file.nr_pages, info.fallocend):
            raise KernelBug("shmem_swp_entry", f"file {file.address} has no place for all its {indexes.size} slots")
        slots = np.array([file.slots[index] for index in indexes.tolist()], np.int64)
        cached = k.swap.cached.pages(slots)
        cached = cached[cached >= 0]
        if any(index in file.pages or index in file.store for index in file.slots):
            raise KernelBug("shmem_getpage", f"a page of file {file.address} is in memory, and in swap")
        if frames.mapcount[cached].any() or frames.mapping[cached].any():
            raise KernelBug("move_to_swap_cache", f"a page of file {file.address} is mapped, and in the swap cache")
        entries.append(k.swap.entries(slots))
    return np.concatenate(entries)


_NOTHING: I64 = np.empty(0, np.int64)
