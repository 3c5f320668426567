"""How 2.4 makes room: a list of pages that cannot be taken while somebody maps them, and a walk through address spaces that makes them let go.

    balance_classzone --> try_to_free_pages_zone: 60 times
                            refill_inactive     active pages that nobody has used become inactive
                            shrink_cache        a sixth of all pages is looked at, from the tail of the inactive list on (one_list.py):
                                                mapped -> next; a cache alone has it: dirty -> written, clean -> free; under way -> sleep (launder.py)
                            swap_out            (swap_out.py) 32 entries become swap entries, or nothing if their pages are files'
                          32 free: the request is tried again, against the min marks
                          never: it gets a page if a zone is above its high mark; else nothing, and whoever asked fails

A page goes in three steps here too, but nobody chooses it: swap_out comes by its entries in the order of addresses, shrink_cache meets it on the list
and sends it to the disk, and when it has come round, and is written, it is free. While the disk has a page it is locked, and who wants it back from swap, or to write to it, sleeps.

With CONFIG_OOM_KILLER (not Rules.small_allocations_fail) it never gives up: out_of_memory(), and 60 times more. Free swap keeps the killer away; if nothing was freed
for 60 seconds that is a hang. How long 60 futile passes take no price says: a tenth of a second (believed).

A task whose memory was all used just now makes 60 passes in vain: swap_out finds every entry young, makes their pages active, and is not called again. The next 60
find them old. That is where kswapd comes in (class_kswapd.py): it is woken at the low marks, so such passes are its, and then it sleeps for five seconds. Whoever drives a machine from outside has no scheduler
that would run it; there whoever comes to the min marks makes its passes first, in its place, unless it would sleep. So who has used all he has again before those five seconds are over, and wants one page more, gets none, however much swap is free: a fault kills him. That is later than kswapd is woken, and 32 pages at most: a stand-in, and no box of those days.

Left out: kmem_cache_reap and the caches of dentries and inodes free nothing here, as they have nothing that could go; local_pages: the first page that a task frees is kept for itself; callers who may not wait for a
file system; that init is never refused. Where Linux reschedules in the middle of a scan others run once in each pass.

Source: 2.4.27 mm/vmscan.c, try_to_free_pages_zone, shrink_caches, shrink_cache, refill_inactive; mm/page_alloc.c, __alloc_pages, balance_classzone; reclaim.md C.1 to C.6.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmaplab.errors import Hung, NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import BH_DIRTY, PG_DIRTY, PG_LOCKED, PG_WRITEBACK
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.class_kswapd import KSWAPD_SLEEP_NS, ClassKswapd, class_of, high_marks
from rmaplab.reclaim.launder import Launder
from rmaplab.reclaim.one_list import Budget, OneList, Stop
from rmaplab.reclaim.reclaimer import HANG_NS, SECOND, Reclaimer
from rmaplab.reclaim.rules import ReclaimRules
from rmaplab.reclaim.swap_out import SwapOut

VM_PASSES = 60
"""How often all of it is done before memory counts as out."""
VM_CACHE_SCAN_RATIO = 6
"""Of the pages on both lists, the part that one pass looks at."""
VM_MAPPED_RATIO = 100
"""For each page wanted, so many mapped ones are met before swap_out is called from within a pass."""
VM_LRU_BALANCE_RATIO = 2
"""How much larger the active list may be than the inactive one."""
FUTILE_NS = SECOND // 10


@dataclass
class Attempt:
    """60 passes for one request: the highest zone that it may have pages of, how many are still wanted, and whether swap_out has come to nothing."""

    classzone: int
    wanted: int = SWAP_CLUSTER_MAX
    failed_swapout: bool = False
    total: int = 0
    """Pages freed so far."""

    def freed(self, nr: int) -> None:
        """They are not wanted any more."""
        self.wanted -= nr
        self.total += nr


class VirtualReclaim(Reclaimer):
    """Of a kernel with one pair of lists."""

    def __init__(self, k: Kernel, rules: ReclaimRules, out_of_memory: Callable[[str], None]) -> None:
        del rules  # they are about how 2.6 scans
        self.k, self.out_of_memory = k, out_of_memory
        self.lists = OneList(k.machine.allocator.lru, k.machine.frames, converts=k.design.converts)
        self.swap_out = SwapOut(k).swap_out
        self.launder = Launder(k)
        self.kswapd = ClassKswapd(k, self._free_for_kswapd, self.breathe)
        self._stand_in_sleeps_until_ns = 0
        k.machine.allocator.reclaim = self.make_room

    def make_room(self, nr: int, order: int) -> None:
        """balance_classzone. Raises NoMemory: NULL, or it is to be met in parts; Hung."""
        gfp, wanted = self.gfp_of_unmet(nr, order), f"{nr} blocks of order {order}"
        self.k.machine.charge("balance_classzone")
        if not self._balance(self._classzone(gfp), wanted) and not self._is_above_high(nr, gfp, order):
            raise NoMemory(f"{wanted}, and in {VM_PASSES} passes nothing could be reclaimed")

    def _balance(self, classzone: int, wanted: str) -> bool:
        """Whether the caller could free anything; or, where he drives from outside, kswapd in his place first."""
        sched = self.k.machine.sched
        if sched.current is None and sched.now_ns >= self._stand_in_sleeps_until_ns:
            if self.try_to_free_pages_zone(classzone, wanted):
                return True
            self._stand_in_sleeps_until_ns = sched.now_ns + KSWAPD_SLEEP_NS
        return self.try_to_free_pages_zone(classzone, wanted)

    def _classzone(self, gfp: Gfp) -> int:
        """The number of the highest zone that the request may have pages of."""
        return class_of(self.k.machine.allocator.zones, gfp)

    def _free_for_kswapd(self, classzone: int) -> bool:
        """What kswapd does for a class that was short."""
        return self.try_to_free_pages_zone(classzone, "kswapd", by_kswapd=True)

    def _is_above_high(self, nr: int, gfp: Gfp, order: int) -> bool:
        """Whether a zone has it, and keeps its high mark."""
        allocator = self.k.machine.allocator
        for place, high in high_marks(allocator, gfp):
            zone = allocator.zones[place]
            blocks = zone.take_blocks(order, high, nr)
            zone.buddy.free(blocks, order)
            if blocks.size == nr:
                return True
        return False

    def try_to_free_pages_zone(self, classzone: int, wanted: str = "a page", *, by_kswapd: bool = False) -> bool:
        """Whether 32 pages could be freed in 60 passes. Raises what out_of_memory raises, and Hung."""
        machine, since_ns = self.k.machine, self.k.machine.sched.now_ns
        while True:
            attempt = self.sixty_passes(classzone)
            if by_kswapd:
                machine.charge("kswapd_steal", attempt.total)
            if attempt.wanted <= 0:
                return True
            if self.k.rules.small_allocations_fail:
                return False
            self.out_of_memory(wanted)
            machine.disk.congestion_wait(FUTILE_NS)
            if attempt.wanted < SWAP_CLUSTER_MAX:
                since_ns = machine.sched.now_ns
            elif machine.sched.now_ns - max(since_ns, machine.progress_ns) >= HANG_NS:
                raise Hung("for 60 seconds no page could be freed, and try_to_free_pages_zone goes on trying")

    def sixty_passes(self, classzone: int) -> Attempt:
        """Until 32 pages are free, or that was in vain: what it has come to."""
        attempt = Attempt(classzone)
        for _ in range(VM_PASSES):
            self._shrink_caches(attempt)
            if attempt.wanted <= 0:
                break
            if not attempt.failed_swapout:
                attempt.failed_swapout = not self.swap_out(classzone)
            self.breathe()
        return attempt

    def _shrink_caches(self, attempt: Attempt) -> None:
        """One pass."""
        self.k.machine.disk.reap()
        self.refill_inactive(attempt.wanted, attempt.classzone)
        self.shrink_cache(attempt)

    def refill_inactive(self, nr: int, classzone: int) -> None:
        """Active pages become inactive: `nr` times as many as there are active ones for each inactive one, twice; of all zones."""
        inactive, active = self.lists.nr(classzone)
        moved, looked_at = self.lists.refill(nr * active // (inactive * VM_LRU_BALANCE_RATIO + 1))
        self.k.machine.charge("pgrefill", looked_at)
        self.k.machine.charge("pgdeactivate", moved)

    def shrink_cache(self, attempt: Attempt, *, max_scan: int | None = None, max_mapped: int | None = None) -> None:
        """A sixth of the pages of the class, or `max_scan`, or until enough are free. `max_mapped` of them may be somebody's before swap_out is called; 100 for each page wanted."""
        budget = Budget(
            max_scan=sum(self.lists.nr(attempt.classzone)) // VM_CACHE_SCAN_RATIO if max_scan is None else max_scan,
            max_mapped=VM_MAPPED_RATIO * attempt.wanted if max_mapped is None else max_mapped,
            wanted=attempt.wanted,
        )
        while True:
            before, wanted = budget.max_scan, budget.wanted
            why, page, writes, frees = self.lists.scan(budget, attempt.classzone)
            self.k.machine.charge("pgscan", before - budget.max_scan)
            self.launder.write(writes)
            self.launder.free(frees)
            self.k.machine.disk.get_request_wait()
            if why is Stop.LAUNDER:
                self.launder.wait(page)
            elif why is Stop.BUFFERS:
                why = self._release(page, budget)
            attempt.freed(wanted - budget.wanted)
            if why in (Stop.END, Stop.ENOUGH):
                return
            if why is Stop.MAPPED:
                if not attempt.failed_swapout:
                    attempt.failed_swapout = not self.swap_out(attempt.classzone)
                budget.max_mapped = VM_MAPPED_RATIO * attempt.wanted
                self.refill_inactive(attempt.wanted, attempt.classzone)

    def _release(self, page: int, budget: Budget) -> Stop:
        """Wait for the buffers of a page: they go, and the page with them, if nobody maps it and it is clean."""
        frames = self.k.machine.frames
        owner = int(frames.mapping[page])
        self.launder.wait(page)
        if not owner or frames.mapping[page] != owner or frames.flags[page] & (PG_WRITEBACK | BH_DIRTY | PG_LOCKED):
            return Stop.PAUSE
        if frames.count[page] > 1:
            budget.max_mapped -= 1
            return Stop.MAPPED if budget.max_mapped < 0 else Stop.PAUSE
        if frames.flags[page] & PG_DIRTY:
            return Stop.PAUSE
        self.launder.free(np.array([page], np.int64))
        budget.wanted -= 1
        return Stop.PAUSE if budget.wanted else Stop.ENOUGH
