"""One anonymous page goes to swap: what shrink_list does with it, without the policy that chooses it.

    add_to_swap        a slot, and the page in the swap cache
    try_to_unmap       every entry that maps it becomes a swap entry; whose page_table_lock is held keeps his for now
    writepage          its bytes to the slot
    free               out of the cache, if only the cache and we still hold it; the slot lives on in the entries

Whatever stops it on the way, what is done stays done: the page is in the cache then, and some of its entries are swap entries.

Source: 2.6.2 mm/vmscan.c, shrink_list; mm/rmap.c, try_to_unmap_one; reclaim.md D.3, E.2.
"""

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.entries import DIRTY
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, PG_DIRTY, PG_SWAPCACHE
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.flags import VM_LOCKED
from rmaplab.rmap.protocol import Mapping


def page_out(k: Kernel, pfn: int) -> bool:
    """Take the page from everybody who maps it, and free it: whether it has gone. Never sleeps; a full area is False."""
    frames, swap = k.machine.frames, k.swap
    if k.rmap.file_of(pfn) is not None:
        return False
    if not frames.flags[pfn] & PG_SWAPCACHE:
        slot = swap.get_slot()
        if not slot:
            return False
        swap.add(pfn, slot)
    frames.count[pfn] += 1  # isolated: nobody frees it meanwhile
    entry = swap.entry(int(frames.private[pfn]))
    for mapping in list(k.rmap.walk(pfn)):
        vma = mapping.mm.find_vma(mapping.address)
        if vma is None or vma.flags & VM_LOCKED:
            break  # SWAP_FAIL: nobody looks further
        _unmap_one(k, mapping, pfn, entry)
    mapped = k.rmap.is_mapped(pfn)
    if not mapped:
        swap.write(pfn)
        frames.flags[pfn] &= ~np.uint32(PG_DIRTY)
        if frames.count[pfn] == 2:  # the cache and we
            swap.delete(pfn)
    put_page(k, pfn)
    return not mapped and not frames.count[pfn]


def _unmap_one(k: Kernel, mapping: Mapping, pfn: int, entry: int) -> None:
    """try_to_unmap_one: a swap entry for the page, if its page_table_lock is free."""
    machine, mm = k.machine, mapping.mm
    if mm.page_table_lock.busy(write=True):
        return
    machine.locks.enter(mm.page_table_lock)
    old, pte = lookup(*machine.geometry, mm.pgd, mapping.address)
    if machine.entry_of(mm.pgd, mapping.address, pfn) < 0:  # it was there when the walk came by
        machine.locks.leave(mm.page_table_lock)
        return
    machine.words[pte // machine.paging.entry_bytes] = entry
    frames = machine.frames
    if old & DIRTY:
        frames.flags[pfn] |= np.uint32(PG_DIRTY)
    with k.batch() as batch:
        batch.nr = batch.runs = 1
        batch.columns[:, 0] = pfn, pte, mapping.address, 1, old
        k.rmap.remove(batch)
    k.swap.duplicate(np.array([entry], np.int64))
    frames.flags[pfn] &= ~np.uint32(PG_ANON_EXCLUSIVE)
    frames.count[pfn] -= 1
    mm.rss -= 1
    machine.locks.leave(mm.page_table_lock)
    machine.charge("swap_out")


def drop_unused(k: Kernel) -> I64:
    """Cached pages that nobody maps, names or holds: they go, as they would when reclaim met them. Their PFNs."""
    pfns = [p for s, p in k.swap.cached.items() if k.machine.frames.count[p] == 1 and k.swap.users[s] == 1]
    for pfn in pfns:
        k.swap.delete(pfn)
        k.machine.allocator.free(np.array([pfn], np.int64))
    return np.array(pfns, np.int64)
