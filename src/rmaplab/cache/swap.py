"""A swap area, and the cache of pages that have a place in it.

    slot     0   1   2   3   4 ...        users    how often an entry or the swap cache names it; 0: free
             -   2   0   1   1            slot 0 is the header, never used
                 |       |
    entry -------+       +-- the swap cache's: PG_swapcache is set on page p, whose `private` is 3
    entry -------+

A page that goes out is in the cache first, with a slot of its own (get_swap_page counts the cache's use); every entry that is replaced is
one more use. A page that comes in is in the cache too, so that the second who comes finds it: nobody has two copies of one slot. An
entry that is gone is a use less, and when nobody but the cache names a slot any more, and nobody but the cache has the page, both go.

Which slot is taken is the area's (swap_area.py); bytes are kept in the host's memory. More areas than one, and files to swap to, are not here yet. Reading
and writing take the disk's time (machine/disk.py): a page that is being read is locked, one that is being written is not (PG_writeback), but in 2.4. In 2.6.2 page->mapping says swapper_space and page->index the entry; here the flag and `private` do for all.

Source: mm/swapfile.c (swap_duplicate, swap_free, free_swap_and_cache, remove_exclusive_swap_page), mm/swap_state.c of 2.6.2; reclaim.md F.2.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from rmaplab.cache.swap_area import SwapArea
from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64, U8, Bools
from rmaplab.machine.disk import Disk, DiskRequest
from rmaplab.machine.entries import Encoding
from rmaplab.machine.frames import PG_LOCKED, PG_SWAPCACHE, PG_WRITEBACK, Frames
from rmaplab.machine.jit import kernel
from rmaplab.machine.ram import Ram
from rmaplab.units import PAGE_SIZE

AREA = -2  # what the disk knows the area by, beside its files


class Swap:
    """One area of `nr_slots` pages, the header's included, and its cache. A holder: the cache has a reference on each of its pages."""

    def __init__(self, ram: Ram, frames: Frames, encoding: Encoding, nr_slots: int, disk: Disk) -> None:
        self._ram, self._frames, self._encoding, self._disk = ram, frames, encoding, disk
        self.nr_slots = min(nr_slots, 1 << encoding.offset.nr)
        self.area = SwapArea(self.nr_slots)
        self.users = self.area.users
        self._store: U8 = np.empty((0, PAGE_SIZE), np.uint8)
        self.cached: dict[int, int] = {}
        """The swap cache: slot -> PFN."""
        self._reading: dict[int, DiskRequest] = {}  # by PFN

    @property
    def nr_free(self) -> int:
        """nr_swap_pages: slots that nobody names, the header's left out."""
        return self.area.nr_free

    @property
    def is_full(self) -> bool:
        """vm_swap_full: more than half is used."""
        return 2 * self.nr_free < self.area.pages

    @property
    def nr_used(self) -> int:
        """Slots that somebody names."""
        return self.area.pages - self.area.nr_free

    # -- slots -------------------------------------------------------------------------------------------------------

    def get_slot(self) -> int:
        """get_swap_page: a slot, used once (by the cache); 0 if the area is full or there is none. Which one: swap_area.py. O(slots) at worst."""
        return self.area.take()

    def get_slots(self, nr: int) -> I64:
        """The slots of `nr` calls, as far as there are any."""
        return self.area.take_many(nr)

    def use(self, slot: int) -> None:
        """swap_duplicate of a slot that somebody uses."""
        self.area.duplicate(np.array((slot,), np.int64))

    def use_all(self, slots: I64) -> None:
        """The same of many."""
        self.area.duplicate(slots)

    def give_uses(self, slots: I64) -> None:
        """swap_free of each, of slots whose pages somebody holds."""
        self.area.give(slots)

    def slot_of(self, entry: int) -> int:
        """The slot that a swap entry names."""
        return self._encoding.swap_slot(entry)[1]

    def entry(self, slot: int) -> int:
        """What a page-table entry says that names it."""
        return self._encoding.swap_entry(0, slot)

    def entries(self, slots: I64) -> I64:
        """The same of many."""
        return np.array([self._encoding.swap_entry(0, slot) for slot in slots.tolist()], np.int64)

    def slots_of(self, entries: I64) -> I64:
        """The slots that entries name; entries of other kinds are left out. Raises KernelBug for one of no area, or that nobody uses."""
        kinds = [entry for entry in entries.tolist() if self._encoding.is_swap(entry)]
        areas, slots = self._encoding.swap_slots(np.array(kinds, np.int64))
        if areas.any() or not ((slots > 0) & (slots < self.nr_slots)).all() or not self.users[slots].all():
            raise KernelBug("swap_info_get", f"bad swap file entry among {[hex(entry) for entry in kinds[:4]]}")
        return slots

    def duplicate(self, entries: I64) -> None:
        """swap_duplicate: entries have been copied."""
        self.area.duplicate(self.slots_of(entries))

    def free(self, entries: I64) -> list[int]:
        """free_swap_and_cache: entries are gone. Cached pages that nobody else names or has: the caller drops them from the cache."""
        slots, alone = self.slots_of(entries), []
        for slot, left in zip(slots.tolist(), self.area.give(slots).tolist(), strict=True):
            pfn = self.cached.get(slot) if left == 1 else None
            if pfn is not None and self._frames.count[pfn] == 1 and self.is_idle(pfn):
                alone.append(pfn)
        return alone

    # -- the cache ---------------------------------------------------------------------------------------------------

    def add(self, pfn: int, slot: int) -> None:
        """add_to_swap_cache: the page has its place, whose use by the cache is counted already."""
        frames = self._frames
        if slot in self.cached or frames.flags[pfn] & PG_SWAPCACHE:
            raise KernelBug("add_to_swap_cache", f"page {pfn} or slot {slot} is there already")
        frames.flags[pfn] |= np.uint32(PG_SWAPCACHE)
        frames.private[pfn] = slot
        frames.count[pfn] += 1
        self.cached[slot] = pfn

    def add_many(self, pfns: I64, slots: I64) -> None:
        """The same of many pages."""
        frames = self._frames
        if (frames.flags[pfns] & PG_SWAPCACHE).any():
            raise KernelBug("add_to_swap_cache", "a page is there already")
        frames.flags[pfns] |= np.uint32(PG_SWAPCACHE)
        frames.private[pfns] = slots
        frames.count[pfns] += 1
        self.cached.update(zip(slots.tolist(), pfns.tolist(), strict=True))

    def delete_many(self, pfns: I64) -> None:
        """delete() of many pages."""
        frames = self._frames
        slots = frames.private[pfns]
        if any(self.cached.pop(slot, None) != pfn for slot, pfn in zip(slots.tolist(), pfns.tolist(), strict=True)):
            raise KernelBug("delete_from_swap_cache", "a page is not in the cache")
        frames.flags[pfns] &= ~np.uint32(PG_SWAPCACHE)
        frames.private[pfns] = 0
        frames.count[pfns] -= 1
        self.area.give(slots)

    def delete(self, pfn: int) -> None:
        """delete_from_swap_cache: the cache's use of the slot and its reference to the page go; freeing the page is the caller's."""
        frames = self._frames
        slot = int(frames.private[pfn])
        if self.cached.pop(slot, None) != pfn:
            raise KernelBug("delete_from_swap_cache", f"page {pfn} is not in the cache")
        frames.flags[pfn] &= ~np.uint32(PG_SWAPCACHE)
        frames.private[pfn] = 0
        frames.count[pfn] -= 1
        self.area.give(np.array((slot,), np.int64))

    def write(self, pfns: I64) -> None:
        """The bytes of cached pages, to their slots: as if that took no time."""
        if not self._store.size:
            self._store = np.empty((self.nr_slots, PAGE_SIZE), np.uint8)  # the host commits what is written
        copy_pages(self._store, self._frames.private[pfns], self._ram.bytes, pfns)

    def start_writing(self, pfns: I64, finish: Callable[[I64], None]) -> None:
        """swap_writepage of each: the same, and they take their way to the disk; `finish` is called of those that are there. Who has a page may write to it meanwhile."""
        self.write(pfns)
        for first, some in _in_rows(self._frames.private[pfns], pfns):
            self._disk.submit_row("swap_write", AREA, first, some, finish)
        self._disk.reap()  # a disk that takes no time

    def start_laundering(self, pfns: I64, finish: Callable[[I64], None]) -> None:
        """start_writing as in 2.4: each page is locked until its bytes are on the disk, and who wants it sleeps."""
        self.write(pfns)
        self._start(self._frames.private[pfns], pfns, "swap_write", partial(self._are_written, finish))

    def start_reading(self, slots: I64, pfns: I64) -> None:
        """swap_readpage of each: the bytes of slots, to frames, which are locked until they are there."""
        copy_pages(self._ram.bytes, pfns, self._store, slots)
        self._frames.scribbled[pfns] = 1
        self._start(slots, pfns, "swap_read", self._are_read)

    def _start(self, slots: I64, pfns: I64, operation: str, finish: Callable[[I64], None]) -> None:
        """The disk has them from now on, and they are locked."""
        self._frames.flags[pfns] |= np.uint32(PG_LOCKED)
        for first, some in _in_rows(slots, pfns):
            for request, part in self._disk.submit_row(operation, AREA, first, some, finish):
                self._reading.update(dict.fromkeys(part.tolist(), request))
        self._disk.reap()

    def _are_written(self, finish: Callable[[I64], None], pfns: I64) -> None:
        self._are_read(pfns)
        finish(pfns)

    def _are_read(self, pfns: I64) -> None:
        self._frames.flags[pfns] &= ~np.uint32(PG_LOCKED)
        for pfn in pfns.tolist():
            self._reading.pop(pfn, None)

    def is_locked(self, pfn: int) -> bool:
        """Whether a page is being read, or in 2.4 written."""
        return pfn in self._reading

    def are_locked(self, pfns: I64) -> Bools:
        """The same of many."""
        if not self._reading:
            return np.zeros(pfns.size, np.bool_)
        return np.array([pfn in self._reading for pfn in pfns.tolist()], np.bool_)

    def is_idle(self, pfn: int) -> bool:
        """Whether it is neither being read nor being written."""
        return pfn not in self._reading and not self._frames.flags[pfn] & PG_WRITEBACK

    def wait_for(self, pfn: int) -> None:
        """wait_on_page_locked: the disk does not have it any more. The running task sleeps until then."""
        while (request := self._reading.get(pfn)) is not None:
            self._disk.wait(request)

    def bytes_of(self, slot: int) -> U8:
        """What is in a slot, wherever it is now. A view."""
        pfn = self.cached.get(slot)
        where, row = (self._store, slot) if pfn is None else (self._ram.bytes, pfn)
        return where[row : row + 1].reshape(-1)

    # -- for check() -------------------------------------------------------------------------------------------------

    def references(self) -> I64:
        """The pages that the cache holds."""
        return np.fromiter(self.cached.values(), np.int64, len(self.cached))

    def check(self, entries: I64) -> None:
        """Slots are used by `entries` (all there are) and the cache, and by nobody else. Raises KernelBug."""
        counted = np.bincount(self.slots_of(entries), minlength=self.users.size)
        counted[list(self.cached)] += 1
        self.area.check()
        counted[0] = self.users[0]  # the header
        wrong = np.flatnonzero(counted != self.users)
        if wrong.size:
            slot = wrong[0]
            raise KernelBug("swap_map", f"slot {slot} says {self.users[slot]} users, there are {counted[slot]}")
        flags, private = self._frames.flags, self._frames.private
        pages = np.flatnonzero(flags & PG_SWAPCACHE)
        if sorted(self.cached.values()) != pages.tolist() or any(private[p] != s for s, p in self.cached.items()):
            raise KernelBug("swapper_space", "the cache and the flags of its pages disagree")


def _in_rows(slots: I64, pfns: I64) -> Iterator[tuple[int, I64]]:
    """(first slot, the pages) of those that follow each other in slots, in order."""
    ends = [*(np.flatnonzero(np.diff(slots) != 1) + 1).tolist(), slots.size]
    begin = 0
    for end in ends:
        if end > begin:
            yield int(slots[begin]), pfns[begin:end]
        begin = end


@kernel
def copy_pages(to: U8, to_rows: I64, source: U8, source_rows: I64) -> None:
    """Rows of one array of pages to rows of another."""
    for i in range(to_rows.size):
        to[to_rows[i]] = source[source_rows[i]]
