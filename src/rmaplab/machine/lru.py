"""The lists that reclaim takes pages from: in each zone those in use (active) and those that may go (inactive), newest at the head.

    zone NORMAL   active    tail [p7 p3 - p9 - p4] head     -: a place whose page has gone since
                  inactive  tail [p2 p8] head

A list is a row of places, oldest first, and each page knows its one place: `stamp`, which no other place ever has. Who leaves a list clears PG_lru and leaves
his place behind; whoever comes by it sees that the page is not there any more. So a page that is freed costs a flag, a hundred pages that are
added one write each, and a scan passes over what is stale: O(1) for each page that ever was there. When a row is full, what is stale is dropped.

`PG_LRU` says that a page is on a list, `PG_ACTIVE` on which; the number of pages on each is kept in `nr`.

2.4 has one pair of lists for the whole machine (`joined`): one row for all zones, while `nr` counts by zone still.

Source: 2.6.2 include/linux/mm_inline.h, add_page_to_active_list and the like; struct zone: active_list, inactive_list, nr_active, nr_inactive; reclaim.md A.1.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, U32
from rmaplab.machine.frames import PG_ACTIVE, PG_LRU, Frames
from rmaplab.machine.jit import kernel

FEW = 256  # places of a new row


class LruRow:
    """One list. Places [first, end) of `pfns` and `stamps`; some are stale."""

    def __init__(self, at: I64, flags: U32) -> None:
        self._at, self._flags = at, flags
        self.pfns: I64 = np.zeros(FEW, np.int64)
        self.stamps: I64 = np.zeros(FEW, np.int64)
        self.first = self.end = FEW // 2

    def need_room(self, nr: int) -> None:
        """For so many at the head."""
        if self.end + nr > self.pfns.size:
            self._make_room(nr)

    def push_tail(self, pfns: I64, stamps: I64) -> None:
        """To the tail, in order: the last of them is the first to be taken."""
        if pfns.size > self.first:
            self._make_room(pfns.size)
        place = slice(self.first - pfns.size, self.first)
        self.pfns[place], self.stamps[place] = pfns[::-1], stamps[::-1]
        self.first -= pfns.size

    def take(self, most: int) -> I64:
        """Up to `most` pages off the tail, oldest first; PG_lru is clear of each. O(places passed)."""
        taken = np.empty(most, np.int64)
        self.first, nr = _take(self._at, self._flags, self.pfns, self.stamps, self.first, self.end, taken)
        return taken[:nr]

    def run_of(self, bits: int, most: int) -> int:
        """How many pages at the tail all have one of these flags, up to the first without, or `most`. O(places passed)."""
        return int(_run_of(self._at, self._flags, self.pfns, self.stamps, self.first, self.end, bits, most))

    def all_have(self, column: I32) -> bool:
        """Whether that is not 0 for any page that is there. O(places)."""
        return bool(_all_have(self._at, self._flags, self.pfns, self.stamps, self.first, self.end, column))

    def pages(self) -> I64:
        """All that are there, from the tail on. O(places)."""
        pfns, stamps = self.pfns[self.first : self.end], self.stamps[self.first : self.end]
        there: I64 = pfns[(self._at[pfns] == stamps) & (self._flags[pfns] & PG_LRU != 0)]
        return there

    def _make_room(self, nr: int) -> None:
        """Only what is there stays, in the middle of a row with room for as much again at either end."""
        pages = self.pages()
        room = pages.size + nr + FEW // 2
        pfns, stamps = np.zeros((2, pages.size + 2 * room), np.int64)
        pfns[room : room + pages.size], stamps[room : room + pages.size] = pages, self._at[pages]
        self.pfns, self.stamps = pfns, stamps
        self.first, self.end = room, room + pages.size


class LruPlaces(NamedTuple):
    """What the places of rows belong to: each page's stamp, where zones end, and the counts by zone and activity. Columns to be written to."""

    at: I64
    ends: I64
    nr: I64


class LruLists:
    """All lists of a machine. `ends` are where its zones end, lowest first; if they are `joined`, one pair of lists has the pages of all."""

    def __init__(self, frames: Frames, ends: Sequence[int], *, joined: bool = False) -> None:
        self._frames = frames
        self.ends: I64 = np.array(ends, np.int64)
        self._borders = list(ends)
        self._at: I64 = frames.column(np.int64)
        self._stamp = 1
        pairs = [tuple(LruRow(self._at, frames.flags) for _ in range(2)) for _ in ends]
        self.joined = joined
        self._rows = pairs[:1] * len(pairs) if joined else pairs
        self.nr: I64 = np.zeros((len(ends), 2), np.int64)
        """Pages of a zone that are inactive, active."""

    def add(self, pfns: I64, *, active: bool) -> None:
        """add_page_to_active_list, or to the inactive one: to the heads of their zones' lists, in order. They are on none. O(n)."""
        done, flags, bits = 0, self._frames.flags, PG_LRU | PG_ACTIVE if active else PG_LRU
        while done < pfns.size:  # those of one zone that come one after the other
            zone = bisect_right(self._borders, pfns[done])
            row = self._rows[zone][active]
            row.need_room(pfns.size - done)
            low, high = self._borders[zone - 1] if zone else 0, self._borders[zone]
            end = _place(flags, self._at, row.pfns, row.stamps, row.end, pfns, done, low, high, self._stamp, bits)
            nr = end - row.end
            self.nr[zone, int(active)] += nr
            self._stamp += nr
            row.end = end
            done += nr

    def add_one(self, pfn: int, *, active: bool) -> None:
        """The same for one page: scalars, not arrays. O(1)."""
        zone = bisect_right(self._borders, pfn)
        row = self._rows[zone][active]
        row.need_room(1)
        flags, stamp, end = self._frames.flags, self._stamp, row.end
        flags[pfn] = int(flags[pfn]) & ~PG_ACTIVE | (PG_LRU | PG_ACTIVE if active else PG_LRU)
        self._at[pfn] = row.stamps[end] = stamp
        row.pfns[end] = pfn
        self._stamp, row.end = stamp + 1, end + 1
        self.nr[zone, int(active)] += 1

    def rotate(self, pfns: I64) -> None:
        """Pages of the inactive lists go to the tails: the last of them is the next to be looked at. O(n)."""
        for zone, mine in [(0, pfns)] if self.joined else self._by_zone(pfns):
            self._rows[zone][0].push_tail(mine, self._stamped(mine))

    def take(self, zone: int, most: int, *, active: bool) -> I64:
        """Up to `most` pages from the tail of a zone's list, or of the one that is joined, which they leave. PG_active stays as it is. O(n), amortised."""
        taken = self._rows[zone][active].take(most)
        if self.joined:
            of_zone = np.bincount(self.ends.searchsorted(taken, side="right"), minlength=self.ends.size)
            self.nr[:, int(active)] -= of_zone
        else:
            self.nr[zone, int(active)] -= taken.size
        return taken

    def run_of(self, zone: int, bits: int, most: int, *, active: bool) -> int:
        """How many pages at a list's tail all have one of these flags, up to the first without, or `most`. O(places passed)."""
        return self._rows[zone][active].run_of(bits, most)

    def row(self, *, active: bool) -> tuple[LruRow, LruPlaces]:
        """The row of joined lists, for who goes through it himself (reclaim/one_list.py), and what belongs to its places."""
        return self._rows[0][active], LruPlaces(self._at, self.ends, self.nr)

    def next_stamps(self, nr: int) -> int:
        """The first of `nr` stamps that no place has had."""
        self._stamp += nr
        return self._stamp - nr

    def remove(self, pfns: I64) -> None:
        """del_page_from_lru: they leave their lists. O(n)."""
        flags = self._frames.flags
        nr_gone(flags, pfns, self.ends, self.nr)
        flags[pfns] &= ~np.uint32(PG_LRU)

    def activate(self, pfns: I64) -> None:
        """activate_page: those that are inactive go to the heads of the active lists. O(n)."""
        flags = self._frames.flags
        pfns = pfns[flags[pfns] & (PG_LRU | PG_ACTIVE) == PG_LRU]
        if pfns.size:
            self.remove(pfns)
            self.add(pfns, active=True)

    def activate_one(self, pfn: int) -> None:
        """The same for one page, which is on an inactive list: scalars, not arrays. O(1)."""
        self.nr[bisect_right(self._borders, pfn), 0] -= 1
        self.add_one(pfn, active=True)

    def all_have(self, zone: int, column: I32, *, active: bool) -> bool:
        """Whether a column of struct page is not 0 for any page of a list. O(places)."""
        return self._rows[zone][active].all_have(column)

    def pages(self, zone: int, *, active: bool) -> I64:
        """The PFNs on a list, from its tail on. O(places)."""
        return self._rows[zone][active].pages()

    def check(self) -> None:
        """Each page that says so is on one list, in its zone, and counted. Raises KernelBug. O(frames)."""
        flags, seen = self._frames.flags, 0
        for zone, rows in enumerate(self._rows):
            for active, row in enumerate(rows):
                pages = row.pages()
                here = self.ends.searchsorted(pages, side="right") == zone
                wrong = (flags[pages] & PG_ACTIVE != 0) != bool(active)
                if self.joined:
                    pages, wrong = pages[here], wrong[here]
                else:
                    wrong |= ~here
                seen += pages.size
                if wrong.any() or pages.size != self.nr[zone, active]:
                    counted = f"{self.nr[zone, active]} are counted"
                    raise KernelBug(
                        "lru",
                        f"list {active} of zone {zone} has {pages.size} pages, {counted}, {int(wrong.sum())} wrong",
                    )
        flagged = int(np.count_nonzero(flags & PG_LRU))
        if flagged != seen:
            raise KernelBug("lru", f"{flagged} pages say that they are on a list, {seen} are")

    def _stamped(self, pfns: I64) -> I64:
        stamps = np.arange(self._stamp, self._stamp + pfns.size)
        self._at[pfns] = stamps
        self._stamp += pfns.size
        return stamps

    def _by_zone(self, pfns: I64) -> list[tuple[int, I64]]:
        """(zone, those of it in order)."""
        if not pfns.size:
            return []
        zones = self.ends.searchsorted(pfns, side="right")
        if (zones == zones[0]).all():
            return [(int(zones[0]), pfns)]
        return [(zone, pfns[zones == zone]) for zone in range(self.ends.size) if (zones == zone).any()]


@kernel
def _place(
    flags: U32, at: I64, row: I64, stamps: I64, end: int, pfns: I64, done: int, low: int, high: int, stamp: int, bits: int
) -> int:  # fmt: skip
    """pfns[done:], as far as they lie in [low, high), to the head of a row that ends at `end`: where it ends now."""
    while done < pfns.size and low <= pfns[done] < high:
        pfn = np.uint64(pfns[done])
        flags[pfn] = flags[pfn] & ~np.uint32(PG_ACTIVE) | np.uint32(bits)
        at[pfn] = stamp
        row[end], stamps[end] = pfns[done], stamp
        end += 1
        stamp += 1
        done += 1
    return end


@kernel
def _take(at: I64, flags: U32, pfns: I64, stamps: I64, first: int, end: int, taken: I64) -> tuple[int, int]:
    """Pages off the tail until `taken` is full: (the first place left, how many)."""
    nr = 0
    while first < end and nr < taken.size:
        pfn = np.uint64(pfns[first])
        if at[pfn] == stamps[first] and flags[pfn] & PG_LRU:
            flags[pfn] &= ~np.uint32(PG_LRU)
            taken[nr] = pfns[first]
            nr += 1
        first += 1
    return first, nr


@kernel
def _run_of(at: I64, flags: U32, pfns: I64, stamps: I64, first: int, end: int, bits: int, most: int) -> int:
    """How many pages that are still at their places come before the first without one of `bits`."""
    nr = 0
    while first < end and nr < most:
        pfn = np.uint64(pfns[first])
        if at[pfn] == stamps[first] and flags[pfn] & PG_LRU:
            if not flags[pfn] & np.uint32(bits):
                return nr
            nr += 1
        first += 1
    return nr


@kernel
def _all_have(at: I64, flags: U32, pfns: I64, stamps: I64, first: int, end: int, column: I32) -> bool:
    """Whether `column` is not 0 for any page that is still at its place."""
    for i in range(first, end):
        pfn = np.uint64(pfns[i])
        if column[pfn] == 0 and at[pfn] == stamps[i] and flags[pfn] & PG_LRU:
            return False
    return True


@kernel
def nr_gone(flags: U32, pfns: I64, ends: I64, nr: I64) -> None:
    """Pages are about to leave their lists: `nr`, by zone and activity, goes down."""
    for i in range(pfns.size):
        flag = flags[np.uint64(pfns[i])]
        if flag & PG_LRU:
            zone = 0
            while pfns[i] >= ends[zone]:
                zone += 1
            nr[zone, 1 if flag & PG_ACTIVE else 0] -= 1
