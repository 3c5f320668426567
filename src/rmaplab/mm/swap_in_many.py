"""Several pages come back from swap in one go, where that means the same as one after the other: neighbours in the area, and in page tables.

    slots     16 17 18 19 20 21 22 23       a fault on slot 16 reads the block (swapin_readahead), and waits for page 16 alone
    entries   s16 s17 s18 s19 | . | s40     whoever goes on to the next pages finds them in the cache: minor faults, one after the other

What would be a fault each is a loop here: entries whose pages are in the cache and have been read, all of them mapped by others too, or none. The first that is not so ends it.
Nothing is done while somebody watches: then each fault has its own locks, and others may act between any two.

Source: as swap_in.py.
"""

import numpy as np

from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64, are_distinct
from rmaplab.machine.batch import ADDRESS, ENTRY, LENGTH, PFN, PTE, Batch
from rmaplab.machine.entries import PRESENT, READABLE
from rmaplab.machine.frames import PG_DIRTY, PG_WRITEBACK
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.pagetable_edit import read_range
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_ACCESS
from rmaplab.objects.mm_types import VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

MOST = 512
"""Pages that are looked at, at a time."""


def read_swap_cache(k: Kernel, slots: list[int]) -> bool:
    """read_swap_cache_async for all of them, which are used: whether it could be done at once. Else nothing is, and each is to be asked for by itself."""
    machine = k.machine
    new = np.array(slots, np.int64)
    new = new[k.swap.cached.pages(new) < 0]
    if not new.size:
        return True
    if machine.watched or machine.allocator.fail_after is not None:
        return False
    pages = machine.allocator.take(int(new.size), Gfp.HIGHUSER, 0, False)
    if pages is None:
        return False
    k.swap.use_all(new)
    k.swap.add_many(pages, new)
    k.lru_add.add(k.this_cpu(), pages)
    k.swap.start_reading(new, pages)
    machine.frames.count[pages] -= 1  # of who has asked for them, and does not wait
    machine.charge("pswpin", new.size)
    return True


def map_cached(k: Kernel, vma: VmArea, address: int, end: int) -> int:
    """What do_swap_page would do for the entries from `address` on, as far as their pages are in the cache and plain. How far it has got. O(pages)."""
    machine, mm, frames = k.machine, vma.mm, k.machine.frames
    end = min(end, vma.end, address + MOST * PAGE_SIZE)
    locks = machine.locks
    if machine.watched or k.rules.anon_exclusive or not k.design.vma_is_faulted(vma) or end - address < 2 * PAGE_SIZE:
        return address
    if k.swap.errors.any:  # then whoever is shown what is not his is told of
        return address
    if k.design.reserves and _is_shared(k, vma, address):  # who is to reserve something for that goes one by one
        return address
    with k.batch() as batch:
        slots, pfns = _cached(k, vma, address, end, batch)
        if not slots.size:
            return address
        is_shared = bool(frames.mapcount[pfns[0]])
        lock = machine.pte_lock(mm, address)
        if machine.locks_tables or lock.busy(write=True):
            return address
        nr = batch.runs = batch.nr = slots.size
        columns = batch.columns
        columns[PFN, :nr], columns[LENGTH, :nr] = pfns, 1
        columns[ADDRESS, :nr] = np.arange(address, address + nr * PAGE_SIZE, PAGE_SIZE)
        present = PRESENT if vma.flags & VM_ACCESS else machine.encoding.hidden
        columns[ENTRY, :nr] = (pfns << PAGE_SHIFT) | (READABLE & ~PRESENT) | present
        _count_locks(k, nr)
        if k.rules.swap_in_is_accessed:
            k.lru_add.mark_all_accessed(pfns)
        locks.enter_bits("PG_locked", columns, nr)
        machine.words[columns[PTE, :nr] // machine.paging.entry_bytes] = columns[ENTRY, :nr]
        frames.count[pfns] += 1
        mm.rss += nr
        k.swap.give_uses(slots)
        if is_shared:
            k.rmap.duplicate(batch, vma)
        else:
            k.rmap.add(batch, vma)
        leave_a_full_area(k, pfns, slots)
        machine.charge("swap_in", nr)
        locks.leave_bits("PG_locked", columns, nr)
    machine.end_burst()
    return address + nr * PAGE_SIZE


def _is_shared(k: Kernel, vma: VmArea, address: int) -> bool:
    """Whether the page that an entry names is in the cache, and somebody maps it."""
    entry, _ = lookup(*k.machine.geometry, vma.mm.pgd, address)
    if not entry or entry & k.machine.mapped or not k.machine.encoding.is_swap(entry):
        return False
    pfn = k.swap.cached.get(k.swap.slot_of(entry))
    return pfn is not None and bool(k.machine.frames.mapcount[pfn])


def _cached(k: Kernel, vma: VmArea, address: int, end: int, batch: Batch) -> tuple[I64, I64]:
    """Slots and pages of the entries from `address` on, up to the first that is not for us; where the entries lie goes to `batch`."""
    machine, swap, frames = k.machine, k.swap, k.machine.frames
    others = batch.others
    _, _, nr = read_range(*machine.geometry, vma.mm.pgd, machine.mapped, address, end, batch.columns, others)
    follows = others[ADDRESS, :nr] == np.arange(address, address + nr * PAGE_SIZE, PAGE_SIZE)
    nr = nr if follows.all() else int(follows.argmin())
    entries = others[ENTRY, :nr]
    swapped = machine.encoding.are_swap(entries)
    slots = swap.slots_of(entries[: nr if swapped.all() else int(swapped.argmin())])
    pfns = swap.cached.pages(slots)
    good = (pfns >= 0) & ~swap.are_locked(pfns)
    good &= (frames.mapcount[pfns] > 0) == (frames.mapcount[pfns[:1]] > 0)  # all alike
    nr = pfns.size if good.all() else int(good.argmin())
    slots, pfns = slots[:nr], pfns[:nr]
    if not are_distinct(slots):  # one page at two places
        slots, pfns = slots[:1], pfns[:1]
    batch.columns[PTE, : slots.size] = others[PTE, : slots.size]
    return slots, pfns


def _count_locks(k: Kernel, nr: int) -> None:
    """What so many faults take, and find free; the first has mmap_sem already."""
    locks = k.machine.locks
    locks.count("vma_lock" if k.rules.vma_locks else "mmap_sem", nr - 1, write=False)
    locks.count("page_table_lock", nr)


def leave_a_full_area(k: Kernel, pfns: I64, slots: I64, others: int = 0) -> None:
    """remove_exclusive_swap_page of each, in order: as long as more than half of swap is used, pages that their entry and the cache alone refer to, but for `others`, give their slots back. O(pages)."""
    if not k.swap.is_full:
        return
    frames, swap = k.machine.frames, k.swap
    if pfns.size == 1 and frames.count[pfns[0]] != 2 + others:  # as mostly
        return
    alone = (frames.count[pfns] == 2 + others) & (frames.flags[pfns] & PG_WRITEBACK == 0) & ~swap.are_locked(pfns)
    asked = np.flatnonzero(alone)
    goes = swap.users[slots[asked]] == 1
    last = np.flatnonzero(goes)[: swap.nr_too_full][-1:]
    if last.size == 1 and goes[: last[0] + 1].sum() == swap.nr_too_full:  # from then on nobody asks
        asked, goes = asked[: last[0] + 1], goes[: last[0] + 1]
    swap.look_up_all(slots[asked])
    going = pfns[asked[goes]]
    swap.delete_many(going)
    frames.flags[going] |= np.uint32(PG_DIRTY)
