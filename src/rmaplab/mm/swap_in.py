"""A page that lies in swap comes back: do_swap_page, and what zap and fork do about entries that name slots.

    parent  [swap 7]                 a read in the child          [swap 7]            a write in the parent      [copy rw ]
    child   [swap 7]   slot 7: 2     ------------------->   +---- [page ro]           ------------------>        [page ro ]
    cache                            slot 7: 1 + cache      +---> page, slot 7        its page is in the cache: shared, so copied

The page is looked for in the swap cache; if it is not there a frame is allocated (others run meanwhile), put there and read, and so are its neighbours in the
area, as they went out together. Whoever wants a page that is being read sleeps. Then, under
page_table_lock, the entry must still be what it was; if not, somebody has been faster, and the touch begins again. The entry becomes
read-only in any case: a write that brought it finds a read-only page next, as in 2.4 to 2.6.5, and is a COW fault (cow.py).

A page that could not be read is mapped like any other up to 2.6.7, with what its frame had before: nobody asks (reclaim.md F.7).

Source: 2.6.2 mm/memory.c, do_swap_page, zap_pte_range; mm/swap_state.c, read_swap_cache_async, free_page_and_swap_cache; swapin_readahead; eras.md 2.3; reclaim.md F.4 to F.6.
"""

import numpy as np

from rmaplab.errors import BusError, KernelBug, NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ADDRESS, ENTRY, LENGTH, PFN, Batch, spread
from rmaplab.machine.entries import ACCESSED, PRESENT, READABLE
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, PG_SWAPCACHE, PG_WRITEBACK
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in_many import leave_a_full_area, read_swap_cache
from rmaplab.objects.flags import VM_ACCESS
from rmaplab.objects.mm_types import VmArea
from rmaplab.units import PAGE_SHIFT

SMALL_BOX = 16 << 20  # bytes of RAM: half as much is read ahead below


def do_swap_page(k: Kernel, vma: VmArea, address: int) -> None:
    """Bring back what the entry at `address` names, if nobody else does so first. Raises as an allocation, and BusError, with the entry as it was."""
    machine, mm = k.machine, vma.mm
    entry, pte = lookup(*machine.geometry, mm.pgd, address)
    if not entry or entry & machine.mapped:
        return  # somebody has been faster
    if not machine.encoding.is_swap(entry):
        raise KernelBug(
            "handle_pte_fault", f"{address:#x} has the entry {entry:#x}, and nobody knows what to do with it"
        )
    slot = int(k.swap.slots_of(np.array([entry], np.int64))[0])
    pfn = _cached_page(k, slot)
    if pfn < 0:
        return
    if k.rules.swap_in_needs_uptodate and not k.swap.errors.is_uptodate(slot):
        put_page(k, pfn)
        raise BusError(address, "its page in swap could not be read")
    with k.batch() as batch:
        hold_swapped(k, vma, batch, pfn, address, pte)
        try:
            k.design.vma_prepare(vma)
            k.design.reserve(batch)
            machine.locks.enter_bits("PG_locked", batch.columns, 1)
            if map_swapped(k, vma, batch, (entry, pte), slot, leaves_full=True):
                machine.charge("swap_in")
        finally:
            machine.locks.leave_bits("PG_locked", batch.columns, 1)
            k.design.unreserve()
            put_page(k, pfn)
    machine.end_burst()


def hold_swapped(
    k: Kernel, vma: VmArea, batch: Batch, pfn: int, address: int, pte: int, accessed: int = ACCESSED
) -> None:
    """Into a batch the entry of a page that comes back: read-only, and hidden where nobody may touch it."""
    present = PRESENT if vma.flags & VM_ACCESS else k.machine.encoding.hidden
    batch.hold_one(pfn, pte, address, (pfn << PAGE_SHIFT) | (READABLE & ~(PRESENT | ACCESSED)) | accessed | present)


def map_swapped(
    k: Kernel, vma: VmArea, batch: Batch, was: tuple[int, int], slot: int, *, leaves_full: bool = False
) -> bool:
    """The page of a slot to the place that the batch says, under page_table_lock, if that still `was` so (entry, where it lies).

    What it takes has been reserved; if that is not enough any more, raises as an allocation.
    """
    machine, mm = k.machine, vma.mm
    pfn, address = int(batch.columns[PFN, 0]), int(batch.columns[ADDRESS, 0])
    lock = machine.pte_lock(mm, address)
    machine.locks.enter(lock)
    while not k.design.reserved(batch):
        machine.locks.leave(lock)
        k.design.reserve(batch)
        machine.locks.enter(lock)
    done = lookup(*machine.geometry, mm.pgd, address) == was and k.swap.cached.get(slot) == pfn
    if done:
        machine.set_entry(was[1], batch.columns[ENTRY, 0])
        machine.frames.count[pfn] += 1
        mm.rss += 1
        if k.swap.errors.any:
            k.swap.errors.mapped(slot, mm.pid, address)
        _map(k, vma, batch, slot)
        if leaves_full:
            leave_a_full_area(k, np.array((pfn,), np.int64), np.array((slot,), np.int64), others=1)  # we
    machine.locks.leave(lock)
    return done


def _cached_page(k: Kernel, slot: int) -> int:
    """The page of a slot, with one more reference: the caller's; its neighbours are read with it. -1 if the slot has been freed meanwhile."""
    is_major = slot not in k.swap.cached
    if is_major:
        swapin_readahead(k, slot)
    pfn = read_swap_cache_async(k, slot)
    if pfn >= 0:
        if is_major:
            k.machine.charge("pgmajfault")
        if k.rules.swap_in_is_accessed:
            k.lru_add.mark_accessed(pfn)
        k.swap.wait_for(pfn)
    return pfn


def swapin_readahead(k: Kernel, slot: int) -> None:
    """The used slots of the block that a slot lies in, from the block's first one up to the first that is free or bad, or cannot be had; perhaps not as far as `slot`."""
    cluster = k.rules.page_cluster
    if cluster and k.machine.hardware.ram_bytes < SMALL_BOX:
        cluster -= 1
    if not cluster:
        return
    used = list(k.swap.block_of(slot, 1 << cluster))
    if not read_swap_cache(k, used):
        for near in used:
            try:
                pfn = read_swap_cache_async(k, near)
            except NoMemory:
                break
            if pfn < 0:
                break
            put_page(k, pfn)
    k.lru_add.drain(k.this_cpu())


def read_swap_cache_async(k: Kernel, slot: int) -> int:
    """The page of a slot, with one more reference: it is in the cache, or on its way from the disk. -1: the slot is free by now. Raises as an allocation."""
    frames = k.machine.frames
    pfn = k.swap.cached.get(slot)
    if pfn is None:
        page = k.machine.allocator.alloc(1, Gfp.HIGHUSER)
        pfn = k.swap.cached.get(slot)  # others have run
        if pfn is not None or not k.swap.users[slot]:
            k.machine.allocator.free(page)
        else:
            pfn = int(page[0])
            k.swap.use(slot)
            k.swap.add(pfn, slot)
            k.lru_add.add(k.this_cpu(), page)
            k.swap.start_reading(np.array((slot,), np.int64), page)
            k.machine.charge("pswpin")
            return pfn
    if pfn is None:
        return -1
    frames.count[pfn] += 1
    return pfn


def _map(k: Kernel, vma: VmArea, batch: Batch, slot: int) -> None:
    """The entry's use of the slot goes, and the reverse map hears of the page. Whoever alone names it has it for himself."""
    pfn = int(batch.columns[0, 0])
    k.swap.free(np.array([k.swap.entry(slot)], np.int64))
    if k.rmap.is_mapped(pfn):
        k.rmap.duplicate(batch, vma)
        return
    exclusive = k.swap.users[slot] == 1
    k.rmap.add(batch, vma, exclusive=bool(exclusive))
    if exclusive and k.rules.anon_exclusive:
        k.machine.frames.flags[pfn] |= PG_ANON_EXCLUSIVE


def put_page(k: Kernel, pfn: int) -> None:
    """A reference goes, and the page with the last one."""
    count = k.machine.frames.count
    count[pfn] -= 1
    if not count[pfn]:
        k.machine.allocator.free(np.array([pfn], np.int64))
        k.machine.charge("page_free")


def drop_swap_cache(k: Kernel, columns: I64, runs: int) -> None:
    """free_page_and_swap_cache: of unmapped pages, those that only the reference of their entry and the cache hold leave the cache."""
    if not runs or not k.swap.cached:
        return
    frames = k.machine.frames
    pfns = spread(columns[PFN, :runs], columns[LENGTH, :runs])
    pfns = pfns[(frames.flags[pfns] & (PG_SWAPCACHE | PG_WRITEBACK) == PG_SWAPCACHE) & (frames.count[pfns] == 2)]
    k.swap.delete_many(pfns[(k.swap.users[frames.private[pfns]] == 1) & ~k.swap.are_locked(pfns)])


def free_swap_and_cache(k: Kernel, entries: I64) -> None:
    """Entries that name slots are gone; and with them pages that are in the cache for nobody any more."""
    free_cached(k, np.array(k.swap.free(entries), np.int64))


def free_cached(k: Kernel, pfns: I64) -> None:
    """Pages that only the swap cache holds leave it, and are free. O(pages)."""
    k.swap.delete_many(pfns)
    k.machine.allocator.free(pfns)
