"""2.4's one pair of lists, gone through in compiled loops: refill_inactive, and the part of shrink_cache that needs no sleep.

    active    tail [a b c d] head      b was referenced: to the head, and it may be met again. a, c, d: to the head of
                                       the inactive list, referenced
    inactive  tail [p q r s t] head    each goes to the head first, whatever becomes of it:
                    | | | | '------    mapped, or in no cache: counted
                    | | | '--------    the disk has it: if reclaim has sent it there it is waited for
                    | | '----------    a cache alone has it, dirty: to be written (writepage)
                    | '------------    ... its buffers are dirty: passed by, then to be written, then waited for; mapped or not
                    '--------------    ... and clean: free

Caches are the swap cache and that of files. Nothing is asked of the reverse map; that a page has one reference, its cache's, says that nobody maps it.

What is to be written has its flags at once, PG_locked and PG_launder, or PG_writeback where it is its buffers that are locked, so that it is met as such if the
list turns round; the caller sends it off before he does anything else.

Source: 2.4.27 mm/vmscan.c, refill_inactive, shrink_cache; fs/buffer.c, try_to_free_buffers, sync_page_buffers; reclaim.md C.2, C.3, C.6.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from rmaplab.machine.arrays import I32, I64, U32
from rmaplab.machine.frames import (
    BH_DIRTY,
    BH_WAIT_IO,
    PG_ACTIVE,
    PG_ANON,
    PG_DIRTY,
    PG_LAUNDER,
    PG_LOCKED,
    PG_LRU,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    Frames,
)
from rmaplab.machine.jit import kernel
from rmaplab.machine.lru import LruLists

ROOM = 256  # places that a row has at its head when a loop begins
WRITES = 32  # pages that are sent off in one go


class Stop(IntEnum):
    """Why a scan has ended."""

    END = 0
    """Enough was looked at, or there is nothing more."""
    ENOUGH = 1
    """So many are free as were wanted."""
    MAPPED = 2
    """Too many were somebody's."""
    LAUNDER = 3
    """The disk has `page`."""
    PAUSE = 4
    """Nothing: it is to be called again."""
    BUFFERS = 5
    """The disk has the buffers of `page`."""


@dataclass
class Budget:
    """What shrink_cache has left: pages of the class to look at, those of somebody to meet, and how many are wanted."""

    max_scan: int
    max_mapped: int
    wanted: int


class Scanned(NamedTuple):
    """Why it stopped, and at which page; pages to be written, in order; and pages to be freed, which have left the list."""

    why: Stop
    page: int
    writes: I64
    frees: I64


class OneList:
    """The joined lists of one machine (machine/lru.py). A file's page is not PG_anon, but where a design `converts` some."""

    def __init__(self, lists: LruLists, frames: Frames, *, converts: bool = False) -> None:
        self.lists, self._frames = lists, frames
        self._not_files = 0 if converts else PG_ANON

    def nr(self, classzone: int) -> tuple[int, int]:
        """nr_inactive_pages, nr_active_pages of a class: of zones up to number `classzone`."""
        inactive, active = self.lists.nr[: classzone + 1].sum(axis=0).tolist()
        return inactive, active

    def refill(self, nr: int) -> tuple[int, int]:
        """refill_inactive: `nr` pages of any zone become inactive, from the tail of the active list: (how many, pages looked at)."""
        left, looked_at = nr, 0
        (active, places), (inactive, _) = self.lists.row(active=True), self.lists.row(active=False)
        while left and active.first < active.end:
            active.need_room(ROOM)
            inactive.need_room(ROOM)
            stamp = self.lists.next_stamps(0)
            active.first, active.end, inactive.end, left, used = _refill(
                self._frames.flags, *places, active.pfns, active.stamps, active.first, active.end,
                inactive.pfns, inactive.stamps, inactive.end, stamp, left,
            )  # fmt: skip
            self.lists.next_stamps(used)
            looked_at += used
        return nr - left, looked_at

    def scan(self, budget: Budget, classzone: int) -> Scanned:
        """shrink_cache, up to what a loop alone cannot do. `budget` is what is left afterwards."""
        row, places = self.lists.row(active=False)
        row.need_room(ROOM)
        writes, frees = np.empty(WRITES, np.int64), np.empty(budget.wanted, np.int64)
        left = np.array((budget.max_scan, budget.max_mapped, budget.wanted), np.int64)
        stamp = self.lists.next_stamps(0)
        why, page, row.first, row.end, used, nr_writes = _scan(
            self._frames.flags, self._frames.count, self._frames.mapping, self._not_files, *places, row.pfns, row.stamps, row.first, row.end,
            stamp, classzone, left, writes, frees,
        )  # fmt: skip
        self.lists.next_stamps(used)
        wanted = budget.wanted
        budget.max_scan, budget.max_mapped, budget.wanted = left.tolist()
        return Scanned(Stop(why), page, writes[:nr_writes], frees[: wanted - budget.wanted])


@kernel
def _refill(
    flags: U32, at: I64, ends: I64, nr: I64, pfns: I64, stamps: I64, first: int, end: int,
    to_pfns: I64, to_stamps: I64, to_end: int, stamp: int, left: int,
) -> tuple[int, int, int, int, int]:  # fmt: skip
    """From one row to its own head, or to that of the other: (first, end, to_end, left, stamps used). Ends where there is no room for one more."""
    used = 0
    while left and first < end:
        pfn = np.uint64(pfns[first])
        flag = np.int64(flags[pfn])
        if at[pfn] != stamps[first] or not flag & PG_LRU:
            first += 1
            continue
        if end == pfns.size or to_end == to_pfns.size:
            break
        page = pfns[first]
        first += 1
        at[pfn] = stamp + used
        if flag & PG_REFERENCED:
            flags[pfn] = np.uint32(flag & ~PG_REFERENCED)
            pfns[end], stamps[end] = page, stamp + used
            end += 1
        else:
            flags[pfn] = np.uint32(flag & ~PG_ACTIVE | PG_REFERENCED)
            to_pfns[to_end], to_stamps[to_end] = page, stamp + used
            to_end += 1
            zone = _zone_of(ends, page)
            nr[zone, 1] -= 1
            nr[zone, 0] += 1
            left -= 1
        used += 1
    return first, end, to_end, left, used


@kernel
def _scan(
    flags: U32, count: I32, mapping: I64, not_files: int, at: I64, ends: I64, nr: I64, pfns: I64, stamps: I64, first: int, end: int,
    stamp: int, classzone: int, left: I64, writes: I64, frees: I64,
) -> tuple[int, int, int, int, int, int]:  # fmt: skip
    """`left` is the budget, in the order of its fields. Returns (why, page, first, end, stamps used, pages to write)."""
    used = nr_writes = nr_frees = 0
    inactive = nr[: classzone + 1, 0].sum()
    while left[0] > 0 and inactive and first < end:
        pfn = np.uint64(pfns[first])
        flag = np.int64(flags[pfn])
        if at[pfn] != stamps[first] or not flag & PG_LRU:
            first += 1
            continue
        if end == pfns.size or nr_writes == writes.size:
            return 4, 0, first, end, used, nr_writes
        page = pfns[first]
        first += 1
        pfns[end], stamps[end] = page, stamp + used
        at[pfn] = stamp + used
        end += 1
        used += 1
        if not count[pfn] or page >= ends[classzone]:
            continue
        left[0] -= 1
        if flag & PG_LOCKED:
            if flag & PG_LAUNDER:
                return 3, page, first, end, used, nr_writes
            continue
        is_cached = flag & PG_SWAPCACHE or (mapping[pfn] != 0 and not flag & not_files)
        has_buffers = flag & (BH_DIRTY | PG_WRITEBACK)  # which are busy; others are nobody's hindrance
        if not has_buffers and (count[pfn] != 1 or not is_cached):
            left[1] -= 1
            if left[1] < 0:
                return 2, 0, first, end, used, nr_writes
        elif flag & PG_DIRTY and count[pfn] == 1 and not flag & PG_WRITEBACK:  # if so lock_buffer: see below
            flags[pfn] = np.uint32(flag & ~PG_DIRTY | PG_LOCKED | PG_LAUNDER)
            writes[nr_writes] = page
            nr_writes += 1
        elif has_buffers and not flag & BH_WAIT_IO:
            flags[pfn] = np.uint32(flag | BH_WAIT_IO)
        elif flag & PG_WRITEBACK:
            return 5, page, first, end, used, nr_writes
        elif has_buffers:
            flags[pfn] = np.uint32(flag & ~BH_DIRTY | PG_WRITEBACK)
            writes[nr_writes] = page
            nr_writes += 1
        else:
            flags[pfn] = np.uint32(flag & ~PG_LRU)
            zone = _zone_of(ends, page)
            nr[zone, 0] -= 1
            inactive -= 1
            frees[nr_frees] = page
            nr_frees += 1
            left[2] -= 1
            if not left[2]:
                return 1, 0, first, end, used, nr_writes
    return 0, 0, first, end, used, nr_writes


@kernel
def _zone_of(ends: I64, page: int) -> int:
    """The number of the zone that a page lies in."""
    zone = 0
    while page >= ends[zone]:
        zone += 1
    return zone
