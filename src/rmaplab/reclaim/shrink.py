"""What 2.6.2 to 2.6.7 do with pages that reclaim has chosen: shrink_list, for inactive ones, and refill_inactive_zone, which makes active ones inactive.

    tail of inactive --isolate--> [p p p p ... 32] --each in turn--> freed        clean, and nobody refers to it but the swap cache
         ^                                                           inactive     busy, or on its way to swap: it is met again
         '---- head of inactive, of active <------------------------ active       referenced, mlocked, or no room in swap for it

An anonymous page goes in three passes at least. The first gives it a place in swap, takes it from everybody and starts to write it; it goes to the head of the list. When
it is written it goes to the tail (end_page_writeback), and the next pass that comes by frees it. Pages of files have their place already (shrink_file.py).

Isolated pages are on no list and have one reference more; who is freed meanwhile by everybody else goes when that one goes, and nobody counts him.

Left out: the swap cache's index takes no memory, so add_to_swap fails for want of a slot only. What truncate
has left mapped, where it misses nonlinear VMAs, stays where it is: 2.6.2 would give it a place in swap.

Source: 2.6.2, 2.6.5 and 2.6.7 mm/vmscan.c, shrink_list, shrink_cache, refill_inactive_zone; mm/page_io.c, swap_writepage; reclaim.md A.3, D.2 to D.4.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from rmaplab.machine.arrays import I8, I64, Bools
from rmaplab.machine.frames import (
    PG_DIRTY,
    PG_LOCKED,
    PG_RECLAIM,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    put_pages,
)
from rmaplab.machine.lru import LruLists
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.page_out import add_all_to_swap, try_to_unmap_all
from rmaplab.reclaim.rules import ReclaimRules
from rmaplab.reclaim.shrink_file import FilePages
from rmaplab.rmap.queries import Outcome, referenced, unmap

SWAPPINESS = 60


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
    by_kswapd: bool = False


class Shrinker:
    """The lists of one kernel, and how pages leave them."""

    def __init__(self, k: Kernel, rules: ReclaimRules) -> None:
        self.k, self.rules = k, rules
        self.lists: LruLists = k.machine.allocator.lru
        self.files = FilePages(k)
        allocator = k.machine.allocator
        self.total_memory = sum(max(zone.extent.present - zone.marks.high, 0) for zone in allocator.zones)
        """vm_total_pages: what `mapped` is a share of."""
        self.nr_mapped = 0
        """Pages that somebody mapped, when that was asked last."""

    # -- inactive pages ---------------------------------------------------------------------------------------------------

    def shrink_cache(self, zone: int, budget: int, wanted: int, scan: Scan) -> int:
        """Take `budget` pages from a zone's inactive list, a batch at a time: how many were isolated. `wanted` pages end it, where enough is enough."""
        k, isolated, before = self.k, 0, scan.freed
        k.lru_add.drain(k.this_cpu())
        batch = max(wanted, SWAP_CLUSTER_MAX) if self.rules.scan_stops_when_freed else SWAP_CLUSTER_MAX
        while budget > 0:
            nr, batches = self._pass_by(zone, batch, budget, scan)
            if nr:
                isolated += nr
                budget -= nr + batches
                continue
            pages = self.lists.take(zone, batch, active=False)
            if not pages.size:
                break
            isolated += pages.size
            budget -= pages.size + 1  # the batch counts one too many
            self._count(zone, "pgscan", pages.size + 1)
            k.machine.allocator.zones[zone].events["pgscan_kswapd"] += (pages.size + 1) * scan.by_kswapd
            k.machine.frames.count[pages] += 1
            freed = self._shrink_list(pages, scan)
            self._count(zone, "pgsteal", freed)
            scan.freed += freed
            k.machine.disk.get_request_wait()  # Linux sleeps at the page; here the batch is done first
            if self.rules.scan_stops_when_freed and scan.freed - before >= wanted:
                break
        return isolated

    def _pass_by(self, zone: int, batch: int, budget: int, scan: Scan) -> tuple[int, int]:
        """Batches that are under way to disk, and nothing else, go round at once: (pages, batches). The same as one by one; no time passes meanwhile.

        A list that is shorter than a batch goes round and round.
        """
        machine, listed = self.k.machine, int(self.lists.nr[zone, 0])
        batch = min(batch, listed)
        if machine.watched or machine.disk.is_due or not batch:
            return 0, 0
        most = min(-(-budget // (batch + 1)), listed // batch)
        batches = self.lists.run_of(zone, PG_WRITEBACK, most * batch, active=False) // batch
        if not batches:
            return 0, 0
        pages = self.lists.take(zone, batches * batch, active=False)
        rounds = -(-budget // (batch + 1)) if batch == listed else 1
        nr, batches = pages.size * rounds, batches * rounds
        self._count(zone, "pgscan", nr + batches)
        machine.allocator.zones[zone].events["pgscan_kswapd"] += (nr + batches) * scan.by_kswapd
        machine.locks.count("PG_locked", nr)
        if not self.rules.scan_follows_both:  # _weigh
            flags, mapped = machine.frames.flags[pages], machine.frames.mapcount[pages] > 0
            scan.scanned += int((mapped | (flags & PG_SWAPCACHE != 0)).sum()) * rounds
        self.lists.add(pages, active=False)
        return nr, batches

    def _shrink_list(self, pages: I64, scan: Scan) -> int:
        """All of them, each in turn if somebody watches; then those that stay go back: how many were freed."""
        machine = self.k.machine
        machine.disk.reap()
        if machine.watched:
            fates = np.concatenate([self._shrink_one(pages[row : row + 1], scan) for row in range(pages.size)])
        else:  # then nobody sleeps with a page locked, but those who wait for the disk
            machine.locks.count("PG_locked", pages.size)
            fates = self._shrink(pages, scan)
        self.k.machine.charge("pgactivate", int((fates == Fate.ACTIVATE).sum()))
        stays = fates != Fate.FREED
        self._put_back(pages[stays], fates[stays] == Fate.ACTIVATE)
        return int(pages.size - stays.sum())

    def _shrink_one(self, page: I64, scan: Scan) -> I8:
        """One, if its lock can be had."""
        locks = self.k.machine.locks
        lock = locks.bit("PG_locked", int(page[0]))
        if not locks.try_take(lock):
            return np.zeros(1, np.int8)
        try:
            return self._shrink(page, scan)
        finally:
            locks.drop(lock)

    def _shrink(self, pages: I64, scan: Scan) -> I8:
        """What becomes of isolated and locked pages, by page. Those of a kind, mapped or not, of files or not, take turns as they come: slots are taken and given back in that order."""
        k, frames, files = self.k, self.k.machine.frames, self.files
        fates = np.zeros(pages.size, np.int8)
        rows = np.flatnonzero(frames.flags[pages] & PG_LOCKED == 0)  # others are being read
        flags, mapped, of_file = frames.flags[pages], frames.mapcount[pages] > 0, files.are_of_files(pages)
        in_use = mapped | (flags & PG_SWAPCACHE != 0)
        busy = flags[rows] & PG_WRITEBACK != 0
        self._weigh(scan, in_use[rows], busy)
        rows = rows[~busy]
        if not rows.size:
            return fates
        used = np.zeros(pages.size, np.bool_)
        used[rows] = referenced(k.rmap, pages[rows]).nr > 0
        in_use[of_file] = files.are_shown(pages[of_file])
        fates[rows[used[rows] & in_use[rows]]] = Fate.ACTIVATE
        rows = rows[(fates[rows] == Fate.KEEP) & ~self._are_nobodys(pages[rows])]
        if not rows.size:
            return fates
        for turn in np.split(rows, np.flatnonzero(np.diff(mapped[rows] + 2 * of_file[rows])) + 1):
            is_files, is_mapped = of_file[turn[0]], mapped[turn[0]]
            page_out, free = (files.page_out, files.free) if is_files else (self._page_out, self._free)
            if is_mapped:
                fates[turn] = self._unmap_file(pages[turn]) if is_files else self._unmap(pages[turn])
                turn = turn[fates[turn] == Fate.FREED]  # noqa: PLW2901  (as far as they have come)
                fates[turn] = Fate.KEEP
            dirty = frames.flags[pages[turn]] & PG_DIRTY != 0
            if dirty.any():
                written = turn[dirty & ~used[turn]]
                if is_files:
                    written = written[files.may_be_written(pages[written], by_kswapd=scan.by_kswapd)]
                fates[turn[np.isin(pages[turn], page_out(pages[written]))]] = Fate.ACTIVATE
                if self.rules.writes_again_at_once:
                    under_way = frames.flags[pages[written]] & (PG_WRITEBACK | PG_DIRTY) != 0
                    dirty[np.isin(turn, written[~under_way])] = False
            clean = turn[~dirty]
            fates[clean[free(pages[clean])]] = Fate.FREED
        return fates

    def _are_nobodys(self, pages: I64) -> Bools:
        """Which of them truncate has left mapped."""
        nobodys = self.k.rmap.unowned
        return np.isin(pages, list(nobodys)) if nobodys else np.zeros(pages.size, np.bool_)

    def _unmap(self, pages: I64) -> I8:
        """Mapped pages get slots and are taken from everybody: KEEP, ACTIVATE, or FREED for those that go on from here."""
        k = self.k
        fates = np.full(pages.size, Fate.FREED, np.int8)
        new = np.flatnonzero(k.machine.frames.flags[pages] & PG_SWAPCACHE == 0)
        got = add_all_to_swap(k, pages[new])
        fates[new[got:]] = Fate.ACTIVATE
        rows = np.flatnonzero(fates == Fate.FREED)
        fates[rows] = _fates_of(try_to_unmap_all(k, pages[rows]))
        return fates

    def _unmap_file(self, pages: I64) -> I8:
        """The same of pages of files: nothing is put where they were mapped, but their number in nonlinear VMAs."""
        outcomes = unmap(self.k.rmap, pages, np.zeros(pages.size, np.int64)).outcome
        self.files.are_dirtied(pages)
        return _fates_of(outcomes)

    def _weigh(self, scan: Scan, twice: Bools, busy: Bools) -> None:
        """What pages count as, for slab and naps: what is mapped or cached twice; until 2.6.7 also what is under way."""
        if self.rules.scan_follows_both:
            scan.scanned += int((~busy).sum() + (twice & ~busy).sum())
        else:
            scan.scanned += int(twice.sum())

    def _page_out(self, pages: I64) -> I64:
        """pageout, swap_writepage, of dirty ones. A page whose slot nobody names any more is not written: it leaves the cache, and goes with our reference. Returns none."""
        k, frames = self.k, self.k.machine.frames
        flags = frames.flags
        pages = pages[(flags[pages] & PG_SWAPCACHE != 0) & (frames.count[pages] == 2)]
        flags[pages] = flags[pages] & ~np.uint32(PG_DIRTY) | np.uint32(PG_RECLAIM)
        alone = k.swap.users[frames.private[pages]] == 1
        if alone.any():
            k.swap.delete_many(pages[alone])
            flags[pages[alone]] |= np.uint32(PG_DIRTY)
            flags[pages[alone]] &= ~np.uint32(PG_RECLAIM)
            pages = pages[~alone]
        k.machine.charge("pswpout", pages.size)
        flags[pages] |= np.uint32(PG_WRITEBACK)
        k.swap.start_writing(pages, k.lru_add.end_page_writeback)
        return pages[:0]

    def _free(self, pages: I64) -> Bools:
        """Which of them only the swap cache and we have, and the slot has their bytes: they are free."""
        k, frames = self.k, self.k.machine.frames
        alone: Bools = (frames.flags[pages] & (PG_SWAPCACHE | PG_DIRTY) == PG_SWAPCACHE) & (frames.count[pages] == 2)
        freed = pages[alone]
        if freed.size:
            k.swap.delete_many(freed)
            frames.count[freed] = 0
            k.machine.allocator.free(freed)
            k.machine.charge("page_free", freed.size)
        return alone

    # -- active pages -----------------------------------------------------------------------------------------------------

    def refill_inactive_zone(self, zone: int, nr: int, prev_priority: int) -> None:
        """Look at `nr` pages from the tail of a zone's active list. Those that nobody has used go inactive: mapped ones only if it is time for that."""
        k = self.k
        k.lru_add.drain(k.this_cpu())
        frames = k.machine.frames
        takes_mapped = self.reclaims_mapped(prev_priority)
        spares = self.rules.refill_spares_mapped and not takes_mapped
        listed = int(self.lists.nr[zone, 1])
        if spares and nr >= listed and self.lists.all_have(zone, frames.mapcount, active=True):
            self._count(zone, "pgrefill", listed)  # once round, and all is as it was
            return
        pages = self.lists.take(zone, nr, active=True)
        if not pages.size:
            return
        frames.count[pages] += 1
        stays = frames.mapcount[pages] > 0
        if not spares:
            used = referenced(k.rmap, pages[stays]).nr > 0
            stays[stays] = used | (not takes_mapped)
        if not k.machine.swap_pages:  # there is no way out for them
            stays |= ~self.files.are_of_files(pages)
        self._count(zone, "pgrefill", pages.size)
        k.machine.charge("pgdeactivate", int((~stays).sum()))
        self._put_back(np.concatenate((pages[~stays], pages[stays])), np.sort(stays))

    def sample_mapped(self) -> None:
        """get_page_state: how much is mapped now. Asked once for a priority, by kswapd once when it wakes. O(frames)."""
        self.nr_mapped = int(np.count_nonzero(self.k.machine.frames.mapcount))

    def reclaims_mapped(self, prev_priority: int) -> bool:
        """reclaim_mapped: how hard it was last time, how much is mapped, and how gladly we swap make 100."""
        return self.nr_mapped * 100 // max(self.total_memory, 1) // 2 + (100 >> prev_priority) + SWAPPINESS >= 100

    # -- both -------------------------------------------------------------------------------------------------------------

    def _count(self, zone: int, event: str, nr: int) -> None:
        """mod_page_state_zone."""
        self.k.machine.charge(event, nr)
        self.k.machine.allocator.zones[zone].events[event] += nr

    def _put_back(self, pages: I64, active: Bools) -> None:
        """To the heads of their lists, in order; then our reference goes, and with it who has no other."""
        machine = self.k.machine
        for kind in (False, True):
            self.lists.add(pages[active == kind], active=kind)
        freed = np.empty(pages.size, np.int64)
        nr = put_pages(machine.frames.count, pages, freed)
        machine.allocator.free(freed[:nr])
        machine.charge("page_free", nr)


def _fates_of(outcomes: I64) -> I8:
    """Of pages that were to be unmapped: KEEP, ACTIVATE, or FREED for those that go on from here."""
    fates = np.full(outcomes.size, Fate.FREED, np.int8)
    fates[outcomes != Outcome.SUCCESS] = Fate.ACTIVATE
    fates[outcomes == Outcome.AGAIN] = Fate.KEEP
    return fates
