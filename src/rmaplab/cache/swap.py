"""The swap areas of a box, and the cache of pages that have a place in one.

    slot     0   1   2   3   4 ...        users    how often an entry or the swap cache names it; 0: free
             -   2   0   1   1            slot 0 is the header, never used
                 |       |
    entry -------+       +-- the swap cache's: PG_swapcache is set on page p, whose `private` is 3
    entry -------+

A page that goes out is in the cache first, with a slot of its own (get_swap_page counts the cache's use); every entry that is replaced is
one more use. A page that comes in is in the cache too, so that the second who comes finds it: nobody has two copies of one slot. An
entry that is gone is a use less, and when nobody but the cache names a slot any more, and nobody but the cache has the page, both go.

A slot is one number for all areas (swap_slots.py); which is taken is the areas' (swap_areas.py, swap_area.py), the bytes are a store's (area_store.py). Reading
and writing take the disk's time (machine/disk.py), and may fail (swap_errors.py): a page that is being read is locked, one that is being written is not (PG_writeback), but in 2.4. In 2.6.2 page->mapping says swapper_space and page->index the entry; here the flag and `private` do for all.

Source: mm/swapfile.c (swap_duplicate, swap_free, free_swap_and_cache, remove_exclusive_swap_page), mm/swap_state.c of 2.6.2; reclaim.md F.2.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from rmaplab.cache.swap_area import SWAP_MAP_MAX
from rmaplab.cache.swap_cache import SwapCache
from rmaplab.cache.swap_errors import SwapErrors, SwapLoss
from rmaplab.cache.swap_slots import SwapSlots
from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64, U8, Bools
from rmaplab.machine.disk import Disk, DiskRequest
from rmaplab.machine.entries import Encoding
from rmaplab.machine.frames import PG_DIRTY, PG_LOCKED, PG_RECLAIM, PG_SWAPCACHE, PG_WRITEBACK, Frames
from rmaplab.machine.ledger import Ledger
from rmaplab.machine.ram import Ram

AREA = -2  # what the disk knows area 0 by, beside its files; area 1 is -3


class Swap(SwapSlots):
    """The areas that are on, and one cache for all. A holder: the cache has a reference on each of its pages."""

    def __init__(
        self,
        ram: Ram,
        frames: Frames,
        encoding: Encoding,
        disk: Disk,
        ledger: Ledger,
        *,
        write_error_redirties: bool = False,
    ) -> None:
        super().__init__(encoding)
        self._ram, self._frames, self._disk, self._ledger = ram, frames, disk, ledger
        self._redirties = write_error_redirties
        self.errors = SwapErrors(ledger)
        self.cached = SwapCache()
        """The swap cache: slot -> PFN."""
        self._reading: dict[int, DiskRequest] = {}  # by PFN

    # -- uses --------------------------------------------------------------------------------------------------------

    def give_uses(self, slots: I64) -> I64:
        """As SwapSlots; what was wrong with a slot that is free now is nobody's concern any more."""
        left = super().give_uses(slots)
        if self.errors.any:
            self.errors.freed(slots[left == 0].tolist())
        return left

    def free(self, entries: I64) -> list[int]:
        """free_swap_and_cache: entries are gone. Cached pages that nobody else names or has: the caller drops them from the cache."""
        slots, alone = self.slots_of(entries), []
        for slot, left in zip(slots.tolist(), self.give_uses(slots).tolist(), strict=True):
            pfn = self.cached.get(slot) if left == 1 else None
            if pfn is not None and self._frames.count[pfn] == 1 and self.is_idle(pfn):
                alone.append(pfn)
        return alone

    def look_up_pages(self, pfns: I64) -> None:
        """The same of can_share_swap_page, for those of these pages that it asks about. Where there is one area nothing hangs on it. O(pages)."""
        if len(self._bases) < 2:
            return
        frames = self._frames
        for pfn in pfns[(frames.flags[pfns] & PG_SWAPCACHE != 0) & (frames.count[pfns] == 2)].tolist():
            self.look_up(int(frames.private[pfn]))

    # -- the cache ---------------------------------------------------------------------------------------------------

    def add(self, pfn: int, slot: int) -> None:
        """add_to_swap_cache: the page has its place, whose use by the cache is counted already."""
        self.add_many(np.array((pfn,), np.int64), np.array((slot,), np.int64))

    def add_many(self, pfns: I64, slots: I64) -> None:
        """The same of many pages."""
        frames = self._frames
        if (frames.flags[pfns] & PG_SWAPCACHE).any() or self.cached.set(slots, pfns).any():
            raise KernelBug(
                "add_to_swap_cache", f"one of the pages {pfns[:4]} or of the slots {slots[:4]} is there already"
            )
        frames.flags[pfns] |= np.uint32(PG_SWAPCACHE)
        frames.private[pfns] = slots
        frames.count[pfns] += 1

    def delete_many(self, pfns: I64) -> None:
        """delete() of many pages."""
        frames = self._frames
        slots = frames.private[pfns]
        if self.cached.pop(slots, pfns).any():
            raise KernelBug("delete_from_swap_cache", f"one of the pages {pfns[:4]} is not in the cache")
        frames.flags[pfns] &= ~np.uint32(PG_SWAPCACHE)
        frames.private[pfns] = 0
        frames.count[pfns] -= 1
        if self.errors.any:
            for slot in slots.tolist():
                self.errors.leaves_cache(slot, is_named=bool(self.users[slot] > 1))
        self.give_uses(slots)

    def delete(self, pfn: int) -> None:
        """delete_from_swap_cache: the cache's use of the slot and its reference to the page go; freeing the page is the caller's."""
        self.delete_many(np.array((pfn,), np.int64))

    def write(self, pfns: I64) -> Bools:
        """The bytes of cached pages, to their slots: as if that took no time. Of which they are there."""
        slots, done = self._frames.private[pfns], np.ones(pfns.size, np.bool_)
        for number, mine, own in self.by_area(slots):
            self._pass(number, own.size)
            failures = self.stores[number].write_pages(own, self._ram.bytes, pfns[mine])
            rows = np.arange(pfns.size)[mine] if failures else done
            for i, failure in failures.items():
                done[rows[i]] = False
                self.errors.cannot_write(int(slots[rows[i]]), (number, int(own[i])), failure)
        if self.errors.any:
            self.errors.written(slots[done].tolist())
        return done

    def _pass(self, number: int, nr: int) -> None:
        """Pages go through an area's store: whoever hands them over pays for it (cryptoloop.py)."""
        if operation := self.stores[number].operation:
            self._ledger.charge(operation, nr)

    def start_writing(self, pfns: I64, finish: Callable[[I64], None]) -> None:
        """swap_writepage of each: the same, and they take their way to the disk; `finish` is called of those that are there. Who has a page may write to it meanwhile.

        A write that fails takes as long, and up to 2.6.7 ends as one that has not (end_swap_bio_write); later the page is dirty again, and stays where it is.
        """
        done = self.write(pfns)
        if self._redirties and not done.all():
            finish = partial(self._redirty, pfns[~done], finish)
        for number, first, some in self.in_rows(self._frames.private[pfns], pfns):
            self.areas.look_up(number)  # remove_exclusive_swap_page
            self._disk.submit_row("swap_write", AREA - number, first, some, finish)
        self._disk.reap()  # a disk that takes no time

    def _redirty(self, failed: I64, finish: Callable[[I64], None], pfns: I64) -> None:
        flags, bad = self._frames.flags, pfns[np.isin(pfns, failed)]
        flags[bad] = (flags[bad] | np.uint32(PG_DIRTY)) & ~np.uint32(PG_RECLAIM)
        finish(pfns)

    def start_laundering(self, pfns: I64, finish: Callable[[I64], None]) -> None:
        """start_writing as in 2.4: each page is locked until its bytes are on the disk, or cannot be, and who wants it sleeps."""
        self.write(pfns)
        slots = self._frames.private[pfns]
        for number, _, _ in self.by_area(slots):
            self.areas.look_up(number)  # remove_exclusive_swap_page
        self._start(slots, pfns, "swap_write", partial(self._are_written, finish))

    def start_reading(self, slots: I64, pfns: I64) -> None:
        """swap_readpage of each: the bytes of slots, to frames, which are locked until they are there. Where that fails they have what was in them before."""
        for number, mine, own in self.by_area(slots):
            self._pass(number, own.size)
            failures = self.stores[number].read_pages(own, self._ram.bytes, pfns[mine])
            for i, failure in failures.items():
                self.errors.cannot_read(int(slots[mine][i]), (number, int(own[i])), failure)
        self._frames.scribbled[pfns] = 1
        self._start(slots, pfns, "swap_read", self._are_read)

    def _start(self, slots: I64, pfns: I64, operation: str, finish: Callable[[I64], None]) -> None:
        """The disk has them from now on, and they are locked."""
        self._frames.flags[pfns] |= np.uint32(PG_LOCKED)
        for number, first, some in self.in_rows(slots, pfns):
            for request, part in self._disk.submit_row(operation, AREA - number, first, some, finish):
                self._reading.update(dict.fromkeys(part.tolist(), request))
        self._disk.reap()

    def _are_written(self, finish: Callable[[I64], None], pfns: I64) -> None:
        self._are_read(pfns)
        finish(pfns)

    def _are_read(self, pfns: I64) -> None:
        self._frames.flags[pfns] &= ~np.uint32(PG_LOCKED)
        for pfn in pfns.tolist():
            self._reading.pop(pfn, None)

    @property
    def lost(self) -> list[SwapLoss]:
        """Bytes that errors of disks have cost somebody, and who has seen that. Each says it in a line."""
        return self.errors.lost

    def is_locked(self, pfn: int) -> bool:
        """Whether a page is being read, or in 2.4 written."""
        return pfn in self._reading

    def are_locked(self, pfns: I64) -> Bools:
        """The same of many."""
        locked: Bools = self._frames.flags[pfns] & PG_LOCKED != 0
        return locked

    def is_idle(self, pfn: int) -> bool:
        """Whether it is neither being read nor being written."""
        return pfn not in self._reading and not self._frames.flags[pfn] & PG_WRITEBACK

    def wait_for(self, pfn: int) -> None:
        """wait_on_page_locked: the disk does not have it any more. The running task sleeps until then."""
        while (request := self._reading.get(pfn)) is not None:
            self._disk.wait(request)

    def bytes_of(self, slot: int) -> U8:
        """What is in a slot, wherever it is now."""
        pfn = self.cached.get(slot)
        if pfn is not None:
            return self._ram.bytes[pfn : pfn + 1].reshape(-1)
        number, own = self.place(slot)
        return self.stores[number].read(own)

    # -- for check() -------------------------------------------------------------------------------------------------

    def references(self) -> I64:
        """The pages that the cache holds."""
        return self.cached.all_pages()

    def check(self, entries: I64) -> None:
        """Slots are used by `entries` (all there are) and the cache, and by nobody else. Raises KernelBug."""
        self.areas.check()
        counted = np.bincount(self.slots_of(entries), minlength=self.users.size)
        slots, held = np.array(list(self.cached), np.int64), self.cached.all_pages()
        counted[slots] += 1
        bad = self.users >= SWAP_MAP_MAX  # and those that stay for ever
        wrong = np.flatnonzero((counted != self.users) & ~bad)
        if wrong.size:
            slot = wrong[0]
            raise KernelBug("swap_map", f"slot {slot} says {self.users[slot]} users, there are {counted[slot]}")
        flags, private = self._frames.flags, self._frames.private
        pages = np.flatnonzero(flags & PG_SWAPCACHE)
        if not np.array_equal(np.sort(held), pages) or (private[held] != slots).any():
            raise KernelBug("swapper_space", "the cache and the flags of its pages disagree")
