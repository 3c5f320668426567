"""What 2.6.2 to 2.6.7 do with pages that reclaim has chosen: shrink_list, for inactive ones, and refill_inactive_zone, which makes active ones inactive.

    tail of inactive --isolate--> [p p p p ... 32] --each in turn--> freed        clean, and nobody refers to it but the swap cache
         ^                                                           inactive     busy, or on its way to swap: it is met again
         '---- head of inactive, of active <------------------------ active       referenced, mlocked, or no room in swap for it

A page goes in three passes at least. The first gives it a place in swap, takes it from everybody and starts to write it; it goes to the head of the list. When
it is written it goes to the tail (end_page_writeback), and the next pass that comes by frees it.

Isolated pages are on no list and have one reference more; who is freed meanwhile by everybody else goes when that one goes, and nobody counts him.

Left out: pages of files, of tmpfs and of segments are on no list yet. The swap cache's index takes no memory, so add_to_swap fails for want of a slot only.

Source: 2.6.2, 2.6.5 and 2.6.7 mm/vmscan.c, shrink_list, shrink_cache, refill_inactive_zone; mm/page_io.c, swap_writepage; mm/filemap.c, end_page_writeback;
reclaim.md A.3, D.2 to D.4.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.frames import (
    PG_ACTIVE,
    PG_DIRTY,
    PG_LRU,
    PG_RECLAIM,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    put_pages,
)
from rmaplab.machine.lru import LruLists
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.page_out import add_to_swap, try_to_unmap
from rmaplab.reclaim.rules import ReclaimRules
from rmaplab.rmap.queries import Outcome, referenced

SWAPPINESS = 60
PAGEVEC = 16  # pages that are put back in one go


class Fate(IntEnum):
    """What becomes of a page that shrink_list has looked at."""

    KEEP = 0
    ACTIVATE = 1
    FREED = 2


@dataclass
class Scan:
    """What a run of reclaim has come to: pages taken off inactive lists and more (each era's own sum), and pages freed."""

    scanned: int = 0
    freed: int = 0


class Shrinker:
    """The lists of one kernel, and how pages leave them."""

    def __init__(self, k: Kernel, rules: ReclaimRules) -> None:
        self.k, self.rules = k, rules
        self.lists: LruLists = k.machine.allocator.lru
        allocator = k.machine.allocator
        self.total_memory = sum(max(zone.extent.present - zone.marks.high, 0) for zone in allocator.zones)
        """vm_total_pages: what `mapped` is a share of."""

    # -- inactive pages ---------------------------------------------------------------------------------------------------

    def shrink_cache(self, zone: int, budget: int, wanted: int, scan: Scan) -> int:
        """Take `budget` pages from a zone's inactive list, a batch at a time: how many were isolated. `wanted` pages end it, where enough is enough."""
        k, isolated, before = self.k, 0, scan.freed
        k.lru_add.drain(k.this_cpu())
        batch = max(wanted, SWAP_CLUSTER_MAX) if self.rules.scan_stops_when_freed else SWAP_CLUSTER_MAX
        while budget > 0:
            pages = self.lists.take(zone, batch, active=False)
            if not pages.size:
                break
            isolated += pages.size
            budget -= pages.size + 1  # the batch counts one too many
            k.machine.charge("pgscan", pages.size + 1)
            k.machine.frames.count[pages] += 1
            freed = self._shrink_list(pages, scan)
            k.machine.charge("pgsteal", freed)
            scan.freed += freed
            if self.rules.scan_stops_when_freed and scan.freed - before >= wanted:
                break
        return isolated

    def _shrink_list(self, pages: I64, scan: Scan) -> int:
        """Each in turn; then those that stay go back: how many were freed."""
        self.k.machine.disk.reap()
        fates = np.zeros(pages.size, np.int8)
        busy = (self.k.machine.frames.flags[pages] & PG_WRITEBACK != 0) & (not self.k.machine.watched)
        scan.scanned += 0 if self.rules.scan_follows_both else int(busy.sum())  # they are kept, whoever they are
        for row in np.flatnonzero(~busy).tolist():
            fates[row] = self._shrink(int(pages[row]), scan)
        self.k.machine.charge("pgactivate", int((fates == Fate.ACTIVATE).sum()))
        stays = fates != Fate.FREED
        self._put_back(pages[stays], fates[stays] == Fate.ACTIVATE)
        return int(pages.size - stays.sum())

    def _shrink(self, pfn: int, scan: Scan) -> Fate:
        """One isolated page."""
        locks = self.k.machine.locks
        lock = locks.bit("PG_locked", pfn)
        if not locks.try_take(lock):
            return Fate.KEEP
        try:
            return self._shrink_locked(pfn, scan)
        finally:
            locks.drop(lock)

    def _shrink_locked(self, pfn: int, scan: Scan) -> Fate:
        k, frames = self.k, self.k.machine.frames
        if k.swap.is_locked(pfn):  # it is being read
            return Fate.KEEP
        mapped = k.rmap.is_mapped(pfn)
        if frames.flags[pfn] & PG_WRITEBACK:
            scan.scanned += self._weight(pfn, mapped=mapped, busy=True)
            return Fate.KEEP
        scan.scanned += self._weight(pfn, mapped=mapped, busy=False)
        used = int(referenced(k.rmap, np.array([pfn])).nr[0])
        if used and (mapped or frames.flags[pfn] & PG_SWAPCACHE):
            return Fate.ACTIVATE
        if mapped and frames.flags[pfn] & PG_SWAPCACHE == 0 and not add_to_swap(k, pfn):
            return Fate.ACTIVATE
        if mapped and (outcome := try_to_unmap(k, pfn)) is not Outcome.SUCCESS:
            return Fate.KEEP if outcome is Outcome.AGAIN else Fate.ACTIVATE
        if frames.flags[pfn] & PG_DIRTY:
            if used or not frames.flags[pfn] & PG_SWAPCACHE or frames.count[pfn] != 2:
                return Fate.KEEP
            self._page_out(pfn)
            if not self.rules.writes_again_at_once or frames.flags[pfn] & (PG_WRITEBACK | PG_DIRTY):
                return Fate.KEEP
        return self._free(pfn)

    def _weight(self, pfn: int, *, mapped: bool, busy: bool) -> int:
        """What a page counts as, for slab and naps: what is mapped or cached twice; until 2.6.7 also what is under way."""
        twice = mapped or bool(self.k.machine.frames.flags[pfn] & PG_SWAPCACHE)
        if self.rules.scan_follows_both:
            return 0 if busy else 1 + twice
        return int(twice)

    def _page_out(self, pfn: int) -> None:
        """pageout, swap_writepage. A page whose slot nobody names any more is not written: it leaves the cache, and goes with our reference."""
        k, flags = self.k, self.k.machine.frames.flags
        flags[pfn] = flags[pfn] & ~np.uint32(PG_DIRTY) | np.uint32(PG_RECLAIM)
        if k.swap.users[k.machine.frames.private[pfn]] == 1:
            k.swap.delete(pfn)
            flags[pfn] |= np.uint32(PG_DIRTY)
        else:
            k.machine.charge("pswpout")
            flags[pfn] |= np.uint32(PG_WRITEBACK)
            k.swap.start_writing(pfn, self._end_page_writeback)
        if not flags[pfn] & PG_WRITEBACK:
            flags[pfn] &= ~np.uint32(PG_RECLAIM)

    def _end_page_writeback(self, pfn: int) -> None:
        """It is written. If it was for us, and is where we left it, it is the next to be looked at."""
        flags = self.k.machine.frames.flags
        state = int(flags[pfn])
        flags[pfn] &= ~np.uint32(PG_WRITEBACK | PG_RECLAIM)
        if state & PG_RECLAIM and state & (PG_LRU | PG_ACTIVE | PG_DIRTY) == PG_LRU:
            self.lists.rotate(np.array([pfn], np.int64))
            self.k.machine.charge("pgrotated")

    def _free(self, pfn: int) -> Fate:
        """Only the swap cache and we have it, and the slot has its bytes: it is free."""
        k, frames = self.k, self.k.machine.frames
        if not frames.flags[pfn] & PG_SWAPCACHE or frames.count[pfn] != 2 or frames.flags[pfn] & PG_DIRTY:
            return Fate.KEEP
        k.swap.delete(pfn)
        frames.count[pfn] = 0
        k.machine.allocator.free(np.array([pfn], np.int64))
        k.machine.charge("page_free")
        return Fate.FREED

    # -- active pages -----------------------------------------------------------------------------------------------------

    def refill_inactive_zone(self, zone: int, nr: int, prev_priority: int) -> None:
        """Look at `nr` pages from the tail of a zone's active list. Those that nobody has used go inactive: mapped ones only if it is time for that."""
        k = self.k
        k.lru_add.drain(k.this_cpu())
        pages = self.lists.take(zone, nr, active=True)
        if not pages.size:
            return
        frames = k.machine.frames
        frames.count[pages] += 1
        takes_mapped = self.reclaims_mapped(prev_priority)
        if self.rules.refill_spares_mapped and not takes_mapped:
            stays = frames.mapcount[pages] > 0
        else:
            stays = np.array([self._is_used(pfn) or not takes_mapped for pfn in pages.tolist()], np.bool_)
            stays &= frames.mapcount[pages] > 0
        k.machine.charge("pgrefill", pages.size)
        k.machine.charge("pgdeactivate", int((~stays).sum()))
        self._put_back(np.concatenate((pages[~stays], pages[stays])), np.sort(stays))

    def reclaims_mapped(self, prev_priority: int) -> bool:
        """reclaim_mapped: how hard it was last time, how much is mapped, and how gladly we swap make 100."""
        mapped = int(np.count_nonzero(self.k.machine.frames.mapcount))
        return mapped * 100 // max(self.total_memory, 1) // 2 + (100 >> prev_priority) + SWAPPINESS >= 100

    def _is_used(self, pfn: int) -> bool:
        """Of what is mapped; nobody asks that of other pages."""
        return self.k.rmap.is_mapped(pfn) and bool(referenced(self.k.rmap, np.array([pfn])).nr[0])

    # -- both -------------------------------------------------------------------------------------------------------------

    def _put_back(self, pages: I64, active: Bools) -> None:
        """To the heads of their lists, in order; then our reference goes, and with it who has no other. Sixteen at a time."""
        machine = self.k.machine
        count = machine.frames.count
        for first in range(0, pages.size, PAGEVEC):
            some, is_active = pages[first : first + PAGEVEC], active[first : first + PAGEVEC]
            for kind in (False, True):
                self.lists.add(some[is_active == kind], active=kind)
            freed = np.empty(some.size, np.int64)
            nr = put_pages(count, some, freed)
            machine.allocator.free(freed[:nr])
            machine.charge("page_free", nr)
