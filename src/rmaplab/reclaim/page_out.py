"""One anonymous page goes to swap: what shrink_list does with it, without the policy that chooses it, and without a disk's time (shrink.py has both).

    TestSetPageLocked  whoever has locked it keeps it
    add_to_swap        a slot, and the page in the swap cache
    try_to_unmap       every entry that maps it becomes a swap entry, by the era's rules (rmap/queries.py)
    writepage          its bytes to the slot, if it is dirty
    free               out of the cache, if only the cache and we still hold it; the slot lives on in the entries

Whatever stops it on the way, what is done stays done: the page is in the cache then, and some of its entries are swap entries.

Source: 2.6.2 mm/vmscan.c, shrink_list; reclaim.md D.3, E.2.
"""

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_DIRTY, PG_SWAPCACHE
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in import free_cached, put_page
from rmaplab.rmap.queries import Outcome, unmap


def page_out(k: Kernel, pfn: int) -> bool:
    """Take the page from everybody who maps it, and free it: whether it has gone. Never sleeps; a full area is False."""
    lock = k.machine.locks.bit("PG_locked", pfn)
    if k.rmap.file_of(pfn) is not None or not k.swap.is_idle(pfn) or not k.machine.locks.try_take(lock):
        return False
    try:
        return _page_out(k, pfn)
    finally:
        k.machine.locks.drop(lock)


def _page_out(k: Kernel, pfn: int) -> bool:
    """The same for who has locked the page."""
    frames, swap = k.machine.frames, k.swap
    if not frames.flags[pfn] & PG_SWAPCACHE:
        # add_to_swap is for mapped pages: one that nobody seems to map may be in the middle of its fault
        if not k.rmap.is_mapped(pfn):
            return False
        if not add_to_swap(k, pfn):
            return False
    frames.count[pfn] += 1  # isolated: nobody frees it meanwhile
    mapped = try_to_unmap(k, pfn) is not Outcome.SUCCESS
    if not mapped:
        if frames.flags[pfn] & PG_DIRTY:
            done = swap.write(np.array((pfn,), np.int64))
            if done.all() or not k.rules.swap_write_error_redirties:
                frames.flags[pfn] &= ~np.uint32(PG_DIRTY)
        if frames.count[pfn] == 2 and not frames.flags[pfn] & PG_DIRTY:  # the cache and we
            swap.delete(pfn)
    put_page(k, pfn)
    return not mapped and not frames.count[pfn]


def add_to_swap(k: Kernel, pfn: int) -> bool:
    """A slot, and the page in the cache: dirty, whatever it was. False: no slot is free."""
    slot = k.swap.get_slot()
    if not slot:
        return False
    k.swap.add(pfn, slot)
    k.machine.frames.flags[pfn] |= np.uint32(PG_DIRTY)
    k.machine.charge("add_to_swap")
    return True


def add_all_to_swap(k: Kernel, pfns: I64) -> int:
    """The same of many, in order: how many of them have a slot now. The rest has found none."""
    slots = k.swap.get_slots(pfns.size)
    if slots.size:
        pfns = pfns[: slots.size]
        k.swap.add_many(pfns, slots)
        k.machine.frames.flags[pfns] |= np.uint32(PG_DIRTY)
        k.machine.charge("add_to_swap", slots.size)
    return slots.size


def try_to_unmap(k: Kernel, pfn: int) -> Outcome:
    """Of a page in the swap cache, which the caller refers to: whatever it comes to, what has become a swap entry stays one."""
    return Outcome(int(try_to_unmap_all(k, np.array((pfn,), np.int64))[0]))


def try_to_unmap_all(k: Kernel, pfns: I64) -> I64:
    """The same of many: the Outcome of each."""
    entries = k.swap.entries(k.machine.frames.private[pfns])
    return unmap(k.rmap, pfns, entries, k.swap.duplicate).outcome


def drop_unused(k: Kernel) -> None:
    """Cached pages that nobody maps, names or holds: they go, as they would when reclaim met them."""
    pfns = [
        p
        for s, p in k.swap.cached.items()
        if k.machine.frames.count[p] == 1 and k.swap.users[s] == 1 and k.swap.is_idle(p)
    ]
    free_cached(k, np.array(pfns, np.int64))
