"""alloc_pages: who may have a frame, from which zone, and what happens when there is none.

    a page for a user, 1 GB box, 2.6.2                    pass 1: leave pages_low       pass 2: leave pages_min
        HIGHMEM  (128 MiB)  ---- no more than 64? ------>  kswapd is woken  ---------->  no more than 32?
        NORMAL   (880 MiB)  ---- no more than 64 + 468? -------^                         no more than 32 + 234?
        DMA      ( 16 MiB)  ---- no more than 540? ------------|                         no more than 270?
                                                                                         then reclaim

    who makes room for others (PF_MEMALLOC), or is to die so that there is room (PF_MEMDIE): pass 3, any page at all, or none: neither reclaims

A request that may sleep and finds nothing goes to the `reclaim` hook, which a kernel installs when it boots. As long as
nobody has, NoMemory says so: a run never goes on with memory it could not have had. How often kswapd was woken, and when first, is counted
whether or not there is one (reclaim/kswapd.py).

Source: 2.6.2, 2.6.5 and 2.6.7 mm/page_alloc.c, __alloc_pages, buffered_rmqueue (reclaim.md B.2); watermarks.py has the marks, zones.py what stands behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rmaplab.errors import KernelBug, NoMemory
from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.buddy import FreeLists
from rmaplab.machine.frames import PG_ANON, PG_RESERVED, Frames, clear_frames, free_pages_check, zone_of_all
from rmaplab.machine.lru import LruLists
from rmaplab.machine.ram import Ram
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.watermarks import Gfp, WatermarkRule, watermarks
from rmaplab.machine.zones import NO_MARK, Zone, zone_borders

__all__ = ["Gfp", "Layout", "PageAllocator", "Unmet"]


@dataclass(frozen=True)
class Layout:
    """What a kernel makes of the RAM. Frames, but for `lowmem_bytes`."""

    lowmem_bytes: int
    image: int
    """The kernel's text and data, from frame 0 on."""
    mem_map: int
    """The array of struct page: in NORMAL, in DMA behind the image where there is no NORMAL."""
    rule: WatermarkRule
    per_cpu_lists: bool
    one_lru: bool = False
    """One pair of lists of pages for all zones."""
    pages_min: int | None = None
    """Replaces the watermark rule's own sum, for boxes too small for it."""


Passes = tuple[tuple[Zone, int], ...]
"""The zones that are tried in turn, each with the pages that must stay free."""


class Unmet(NamedTuple):
    """A request that found nothing: what was to be made of it, and where it may lie."""

    what: str
    gfp: Gfp


class PageAllocator:
    """The frames of one machine, minus those the kernel took when it booted."""

    def __init__(self, ram: Ram, frames: Frames, layout: Layout, sched: Scheduler) -> None:
        self.ram, self.frames, self._sched = ram, frames, sched
        self._this_cpu = sched.this_cpu
        lists = FreeLists(frames.nr)
        borders = zone_borders(frames.nr, layout.lowmem_bytes)
        has_normal = any(name == "NORMAL" for name, _, _ in borders)
        image = max(layout.image, 1)  # frame 0 is nobody's: the page of zeros
        taken = {"DMA": image, "NORMAL": layout.mem_map - (image - layout.image)}
        if not has_normal:
            taken["DMA"] = layout.image + layout.mem_map
        self.zones: list[Zone] = []
        for name, start, end in borders:
            nr = taken.get(name, 0)
            frames.flags[start : start + nr] |= PG_RESERVED
            frames.count[start : start + nr] = 1
            self.zones.append(Zone(name, lists, start, end, nr, len(sched.cpus), layout.per_cpu_lists))
        self._starts = np.array([zone.start for zone in self.zones])
        self.lru = LruLists(frames, [zone.end for zone in self.zones], joined=layout.one_lru)
        self.marks = watermarks(layout.rule, [zone.extent for zone in self.zones], layout.pages_min)
        for zone, marks in zip(self.zones, self.marks.zones, strict=True):
            zone.marks = marks
        self._passes = {
            gfp: tuple(tuple((self.zones[i], mark) for i, mark in zones) for zones in passes)
            for gfp, passes in self.marks.passes.items()
        }
        self._reserve = {gfp: tuple((zone, NO_MARK) for zone, _ in passes[0]) for gfp, passes in self._passes.items()}
        self._first = {gfp: passes[0][0] for gfp, passes in self._passes.items()}
        self.totalram_pages = self.nr_free
        """What was free before anybody asked: the RAM that is not the kernel's own."""
        self.kswapd_wakes = 0
        """Requests that were not met above the low marks."""
        self.first_wake_ns: int | None = None
        self.kswapd: Callable[[int, Gfp], None] | None = None
        """Woken by them, if there is one; with how many pages could not be had at once, and of what kind."""
        self.reclaim: Callable[[int, int], None] = _nothing_to_reclaim
        self.might_sleep: Callable[[], None] | None = None
        """Told of every request that may sleep, before it is met: then others may act (System.watch)."""
        self.disowned: Callable[[I64], None] | None = None
        """Told what anonymous pages have named that are freed: one address per page."""
        self.unmet: Unmet | None = None
        """The last request that went to reclaim."""
        self.sleeps = 0
        """How often somebody slept for memory."""
        self.fail_after: int | None = None  # the failure injector: requests still granted before one is refused

    @property
    def nr_free(self) -> int:
        """nr_free_pages(): without the pages on the CPUs' lists."""
        nr = 0  # every mmap asks: no generator
        for zone in self.zones:
            nr += zone.buddy.nr_free
        return nr

    @property
    def nr_unused(self) -> int:
        """Pages that nobody has: free, or on a CPU's list."""
        return sum(zone.nr_free + zone.nr_listed for zone in self.zones)

    def obtainable(self, gfp: Gfp) -> int:
        """How many single pages this CPU could have before a request would need reclaim."""
        cpu = self._this_cpu()
        return sum(zone.obtainable(cpu, mark, zone.end - zone.start) for zone, mark in self._passes[gfp][-1])

    def alloc(self, nr: int, gfp: Gfp, *, order: int = 0, zeroed: bool = False, what: str = "a page") -> I64:
        """`nr` blocks of 2^order frames, sleeping for them if it must. page->count of each first frame is 1. `what` they are for is told of who gets none.

        Raises NoMemory: from the failure injector, or from the reclaim hook when a sleeping request cannot be met. Whoever calls reads
        again what others may have changed: `sleeps` has moved if they could.
        """
        if self.fail_after is not None and self.injected_failure(nr):
            raise NoMemory(f"{nr} blocks of order {order}")
        if self.might_sleep is not None:
            self.let_others_act(gfp)
        while (blocks := self.take(nr, gfp, order, zeroed)) is None:
            self.sleep_for(nr, order, Unmet(what, gfp))
        return blocks

    def sleep_for(self, nr: int, order: int, unmet: Unmet) -> None:
        """Direct reclaim: others may run, and entries, pages and free lists are other than before. Raises as the hook does; NoMemory for who may have the last page: it is gone."""
        running = self._sched.current
        if running is not None and (running.memalloc or running.memdie):
            raise NoMemory(f"{nr} blocks of order {order}, and not one below the min marks is left either")
        self.unmet = unmet
        self.sleeps += 1
        self.reclaim(nr, order)

    def let_others_act(self, gfp: Gfp) -> None:
        """might_sleep(): the request is of a kind that sleeps, and somebody wants to see what comes of it."""
        if self.might_sleep is not None and gfp is not Gfp.ATOMIC:
            self.sleeps += 1
            self.might_sleep()

    def take(self, nr: int, gfp: Gfp, order: int, zeroed: bool) -> I64 | None:
        """The same without sleeping, and behind the failure injector's back: all of it, or None and nothing taken."""
        if nr == 1 and order == 0:
            return self._take_one(gfp, zeroed)
        blocks = self._take_pages(nr, gfp) if order == 0 else self._take_blocks(nr, gfp, order)
        if blocks is None:
            return None
        self.frames.count[blocks] = 1
        if zeroed:
            pfns = blocks if order == 0 else (blocks[:, None] + np.arange(1 << order)).ravel()
            clear_frames(self.ram.bytes, self.frames.scribbled, pfns)
        return blocks

    def take_at_once(self, gfp: Gfp) -> int:
        """A zeroed page from the zone that is asked first, as long as that is above its low mark; -1: nothing is done, ask alloc().

        So it is where somebody counts requests (`fail_after`), or wants to act at each (`might_sleep`).
        """
        if self.fail_after is not None or self.might_sleep is not None:
            return -1
        zone, mark = self._first[gfp]
        pfn = zone.take_one(self._this_cpu(), mark)
        if pfn >= 0:
            self._hand_out(pfn, zeroed=True)
        return pfn

    def _passes_of(self, gfp: Gfp) -> tuple[Passes, ...]:
        """What a request of this kind goes through, whoever makes it."""
        running = self._sched.current
        if running is None or not (running.memalloc or running.memdie):
            return self._passes[gfp]
        return (*self._passes[gfp], self._reserve[gfp])

    def _hand_out(self, pfn: int, *, zeroed: bool) -> None:
        """A page that was free has a reference now."""
        self.frames.count[pfn] = 1
        if zeroed and self.frames.scribbled[pfn]:
            clear_frames(self.ram.bytes, self.frames.scribbled, np.array((pfn,), np.int64))

    def _take_one(self, gfp: Gfp, zeroed: bool) -> I64 | None:
        """A fault's page: scalars, not arrays."""
        cpu = self._this_cpu()
        for attempt, zones in enumerate(self._passes_of(gfp)):
            if attempt == 1:
                self._wake_kswapd(1, gfp)
            for zone, mark in zones:
                pfn = zone.take_one(cpu, mark)
                if pfn >= 0:
                    self._hand_out(pfn, zeroed=zeroed)
                    return np.array((pfn,), np.int64)
        return None

    def _take_pages(self, nr: int, gfp: Gfp) -> I64 | None:
        """Single pages: from each zone in turn what its mark allows, as page after page would be; or nothing at all."""
        cpu = self._this_cpu()
        taken: list[I64] = []
        left, woken = nr, 0
        for attempt, zones in enumerate(self._passes_of(gfp)):
            woken = left if attempt == 1 else woken
            for zone, mark in zones:
                pages = zone.take(cpu, mark, left)
                left -= pages.size
                taken.append(pages)
                if not left:
                    break
            if not left:
                break
        if left:
            self._wake_kswapd(1, gfp, nr)  # the caller may try for less, and is counted then
            for pages in reversed(taken):
                self._give(pages[::-1].copy(), undoes=True)
            return None
        if woken:
            self._wake_kswapd(woken, gfp)
        return taken[0] if len(taken) == 1 else np.concatenate(taken)

    def _take_blocks(self, nr: int, gfp: Gfp, order: int) -> I64 | None:
        """Larger blocks: all of them, or none where free memory is short or in pieces."""
        taken: list[I64] = []
        left = nr
        for attempt, zones in enumerate(self._passes_of(gfp)):
            if attempt == 1 and left:
                self._wake_kswapd(left, gfp)
            for zone, mark in zones:
                if left:
                    taken.append(zone.take_blocks(order, mark, left))
                    left -= taken[-1].size
        blocks = np.concatenate(taken)
        if left:
            self._give(blocks, order, undoes=True)
            return None
        return blocks

    def free(self, blocks: I64, *, order: int = 0) -> None:
        """Give blocks back, whatever their count; flags and the owner of an anonymous page are cleared. KernelBug: somebody still has one."""
        if not blocks.size:
            return
        frames = self.frames
        if self.disowned is not None:
            self.disowned(frames.mapping[blocks[frames.flags[blocks] & PG_ANON != 0]])
        lru = self.lru
        bad = free_pages_check(frames.flags, frames.count, frames.mapcount, frames.mapping, blocks, lru.ends, lru.nr)
        if bad >= 0:
            raise KernelBug(
                "bad_page",
                f"page {bad} is freed with mapcount {frames.mapcount[bad]}, mapping {frames.mapping[bad]:#x}",
            )
        self._give(blocks, order)

    def _give(self, blocks: I64, order: int = 0, *, undoes: bool = False) -> None:
        """To their zones: single pages to the list of this CPU, blocks to the buddy system. `undoes`: as if they had never been taken."""
        if not blocks.size:
            return
        at = zone_of_all(self.lru.ends, blocks)
        if at >= 0:
            parts = [(self.zones[at], blocks)]
        else:
            place = self._starts.searchsorted(blocks, side="right") - 1
            parts = [(zone, blocks[place == i]) for i, zone in enumerate(self.zones)]
        cpu = self._this_cpu()
        for zone, mine in parts:
            if not undoes:
                zone.nr_given += mine.size << order
            if order:
                zone.buddy.free(mine, order)
            elif mine.size:
                zone.give(cpu, mine)

    def drain(self) -> None:
        """drain_local_pages on every CPU: what is on lists goes back to the buddy system."""
        for zone in self.zones:
            zone.drain()

    def injected_failure(self, nr: int) -> bool:
        """Whether the failure injector refuses this request of `nr` objects.

        The n-th is refused once, with the whole request it is part of. Slab caches ask here too: one count for all. Whoever
        works in batches goes page by page while the injector is armed, so that requests come in the kernel's order.
        """
        if self.fail_after is None:
            return False
        if nr <= self.fail_after:
            self.fail_after -= nr
            return False
        self.fail_after = None
        return True

    def _wake_kswapd(self, nr: int, gfp: Gfp, short: int = 0) -> None:
        if self.first_wake_ns is None:
            self.first_wake_ns = self._sched.now_ns
        self.kswapd_wakes += nr
        if self.kswapd is not None:
            self.kswapd(short, gfp)

    def check(self) -> Bools:
        """Free lists, counters, CPU lists, marks and page->count agree; which frames nobody has. O(frames)."""
        unused = np.zeros(self.frames.nr, np.bool_)
        for zone in self.zones:
            unused |= zone.check(self.frames.count)
        if int(unused.sum()) != self.nr_unused:
            raise KernelBug("free_area", f"zones hold {int(unused.sum())} frames, their counters say {self.nr_unused}")
        if (self.frames.count < 0).any():
            raise KernelBug("page_count", "a count is negative")
        self.lru.check()
        return unused


def _nothing_to_reclaim(nr: int, order: int) -> None:
    what = f"out of memory: {nr} blocks of order {order} are wanted, and nobody makes room"
    raise NoMemory(what, waiting_helps=True)
