"""Direct reclaim of 2.6.2 to 2.6.7: a task that finds no memory makes room itself, and goes on trying.

    alloc_pages --nothing above the min marks--> try_to_free_pages --32 freed?--> a nap of HZ/50 --> once more
                                                  |
                            priority 12: look at 1/4096 of each zone's inactive pages, and at some active ones
                            priority 11: at 1/2048 ...   priority 0: at all        (a nap of HZ/10 in between)
                                                  |
                                              out_of_memory, which as long as there is free swap does nothing

Nobody gives up: a request of one page is tried for ever. If for 60 seconds nothing was freed that is a hang, and the run says so.

Who does it has PF_MEMALLOC meanwhile, and may have any page that is left (allocator.py). Nothing here allocates, though: the index of the swap cache takes no memory.

Caches of dentries and inodes are asked as well, and give nothing (shrink_slab.py). Left out: callers who may not wait for a file system.

Source: 2.6.2, 2.6.5 and 2.6.7 mm/vmscan.c, try_to_free_pages, shrink_caches, shrink_zone; mm/page_alloc.c, __alloc_pages; reclaim.md D.1, D.5.
"""

from collections.abc import Callable

from rmaplab.errors import Hung
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.task import TaskStruct
from rmaplab.reclaim.reclaimer import HANG_NS, SECOND, Reclaimer
from rmaplab.reclaim.rules import DEF_PRIORITY, ReclaimRules
from rmaplab.reclaim.shrink import Scan, Shrinker
from rmaplab.reclaim.shrink_slab import SlabCaches


class DirectReclaim(Reclaimer):
    """Installed on a machine's allocator. `out_of_memory` is asked when all priorities have come to nothing, and may raise NoMemory."""

    def __init__(self, k: Kernel, rules: ReclaimRules, out_of_memory: Callable[[str], None]) -> None:
        self.k, self.rules = k, rules
        self.shrinker = Shrinker(k, rules)
        self.slab = SlabCaches(k, rules)
        self.out_of_memory = out_of_memory
        nr = len(k.machine.allocator.zones)
        self.prev_priority, self.temp_priority = [DEF_PRIORITY] * nr, [DEF_PRIORITY] * nr
        self.nr_scan_active, self.nr_scan_inactive = [0] * nr, [0] * nr
        self._pages_scanned, self._given_up, self._frees = [0] * nr, [False] * nr, [0] * nr
        self._hungry: dict[TaskStruct | None, tuple[int, int]] = {}
        """By task: since when nothing was freed for its request, and when that was here last."""
        self.wakeup_bdflush: Callable[[int], None] = _nobody
        """Told how many pages were scanned."""
        k.machine.allocator.reclaim = self.make_room

    def make_room(self, nr: int, order: int) -> None:
        """The slow path of an allocation that may sleep. Raises NoMemory: it cannot wait, is met in parts, or nothing can be had any more."""
        machine = self.k.machine
        gfp = self.gfp_of_unmet(nr, order)
        sched, caller = machine.sched, self.k.current
        since_ns, left_ns = self._hungry.pop(caller, (0, -1))
        if sched.now_ns != left_ns:  # a request that goes on trying comes back at once: this is another
            since_ns = sched.now_ns
        if self._as_memalloc(gfp):
            since_ns = sched.now_ns
        else:
            self.out_of_memory(f"{nr} blocks of order {order}")
            self._starve(since_ns)
        machine.disk.congestion_wait(SECOND // 50)
        self._hungry[caller] = since_ns, sched.now_ns

    def _starve(self, since_ns: int) -> None:
        """Nothing was freed for this request since then; nor has anybody else got on. Raises Hung."""
        machine = self.k.machine
        if machine.sched.now_ns - max(since_ns, machine.progress_ns) >= HANG_NS:
            what = f"for {HANG_NS // SECOND} seconds no page could be freed, and the allocation goes on trying"
            if self.k.swap.nr_free > 0:
                what += f"; {self.k.swap.nr_free} slots of swap are free, so the OOM killer does nothing"
            raise Hung(what)

    def _as_memalloc(self, gfp: Gfp) -> bool:
        """try_to_free_pages with PF_MEMALLOC. A victim that was given both flags has lost this one when it comes back, and still has PF_MEMDIE."""
        running = self.k.machine.sched.current
        if running is None:
            return self.try_to_free_pages(gfp)
        running.memalloc = True
        try:
            return self.try_to_free_pages(gfp)
        finally:
            running.memalloc = False

    def try_to_free_pages(self, gfp: Gfp) -> bool:
        """Whether 32 pages could be freed in the zones that the request may have pages from."""
        k, rules, total = self.k, self.rules, Scan()
        zones = self._zones(gfp)
        k.machine.charge("allocstall")
        for zone in zones:
            self.temp_priority[zone] = DEF_PRIORITY
        try:
            for priority in range(DEF_PRIORITY, -1, -1):
                scan = Scan()
                self.shrinker.sample_mapped()
                self._shrink_caches(zones, priority, scan)
                if not rules.slab_of_low_zones:
                    self.slab.shrink_slab(scan.scanned)
                total.freed += scan.freed
                total.scanned += scan.scanned
                k.machine.end_burst()  # it has taken its time
                if (scan if rules.freed_by_priority else total).freed >= SWAP_CLUSTER_MAX:
                    return True
                self._wake_pdflush(scan.scanned, total.scanned)
                if rules.nap_each_priority or (scan.scanned and priority < DEF_PRIORITY - 2):
                    k.machine.disk.congestion_wait(SECOND // 10)
                if rules.slab_of_low_zones and not k.machine.allocator.zones[zones[0]].extent.is_high:
                    self.slab.shrink_slab(scan.scanned)
        finally:
            for zone in zones:
                self.prev_priority[zone] = self.temp_priority[zone]
        return False

    def _wake_pdflush(self, scanned: int, total: int) -> None:
        if not self.rules.wakes_pdflush_by_total:
            self.wakeup_bdflush(scanned)
        elif total > SWAP_CLUSTER_MAX + SWAP_CLUSTER_MAX // 2:
            self.wakeup_bdflush(total)

    def _zones(self, gfp: Gfp) -> list[int]:
        """The zone list: highest first."""
        zones = self.k.machine.allocator.zones
        return [i for i in range(len(zones) - 1, -1, -1) if gfp is Gfp.HIGHUSER or not zones[i].extent.is_high]

    def _shrink_caches(self, zones: list[int], priority: int, scan: Scan) -> None:
        rules, all_zones = self.rules, self.k.machine.allocator.zones
        for zone in zones:
            if not rules.priority_if_low or all_zones[zone].nr_free < all_zones[zone].marks.high:
                self.set_priority(zone, priority)
            if priority != DEF_PRIORITY and self.is_given_up(zone):
                continue
            self.shrink_zone(zone, priority, scan, SWAP_CLUSTER_MAX - scan.freed, least=2 * SWAP_CLUSTER_MAX)
            if rules.scan_stops_when_freed and scan.freed >= SWAP_CLUSTER_MAX:
                return

    def set_priority(self, zone: int, priority: int) -> None:
        """How hard it is in this zone: temp_priority; where that is the day's way, prev_priority goes down with it."""
        self.temp_priority[zone] = priority
        if not self.rules.priority_if_low:
            self.prev_priority[zone] = min(self.prev_priority[zone], priority)

    def is_given_up(self, zone: int) -> bool:
        """all_unreclaimable. It ends, and counting begins anew, when pages have come back to the zone's buddy system (free_pages_bulk)."""
        frees = self.k.machine.allocator.zones[zone].buddy.frees
        if frees != self._frees[zone]:
            self._frees[zone], self._pages_scanned[zone], self._given_up[zone] = frees, 0, False
        return self._given_up[zone]

    def shrink_zone(self, zone: int, priority: int, scan: Scan, wanted: int, *, least: int) -> None:
        """Some active pages become inactive, then inactive ones are looked at: how many of each is the era's. In 2.6.2 `wanted` pages are enough, and `least` are looked at."""
        isolated = (
            self._shrink_what_is_saved(zone, priority, scan)
            if self.rules.scan_is_saved_up
            else self._shrink_at_once(zone, priority, scan, wanted, least)
        )
        self.is_given_up(zone)  # what came back meanwhile counts first
        self._pages_scanned[zone] += isolated

    def give_up(self, zone: int) -> None:
        """Of more than twice its pages nothing came back: kswapd says so, and direct reclaim heeds it."""
        present = self.k.machine.allocator.zones[zone].extent.present
        self._given_up[zone] |= self._pages_scanned[zone] > 2 * present

    def _shrink_at_once(self, zone: int, priority: int, scan: Scan, wanted: int, least: int) -> int:
        inactive, active = self.shrinker.lists.nr[zone].tolist()
        self.nr_scan_active[zone] += wanted * active // (2 * (inactive | 1)) + 1
        if self.nr_scan_active[zone] > SWAP_CLUSTER_MAX:
            nr, self.nr_scan_active[zone] = min(self.nr_scan_active[zone], 4 * SWAP_CLUSTER_MAX), 0
            self.shrinker.refill_inactive_zone(zone, nr, self.prev_priority[zone])
        budget = max(inactive >> priority, least)
        isolated = self.shrinker.shrink_cache(zone, budget, wanted, scan)
        scan.scanned += budget
        return isolated

    def _shrink_what_is_saved(self, zone: int, priority: int, scan: Scan) -> int:
        inactive, active = self.shrinker.lists.nr[zone].tolist()
        if self.rules.scan_follows_both:
            to_scan = (active + inactive) >> priority
            far = active >= 4 * (2 * inactive + 1)
            from_active = 4 * to_scan if far else to_scan * active // (2 * inactive + 1)
        else:
            to_scan, from_active = inactive >> priority, SWAP_CLUSTER_MAX * active // (2 * (inactive | 1))
        self.nr_scan_active[zone] += from_active + 1
        self.nr_scan_inactive[zone] += to_scan
        if self.nr_scan_active[zone] >= SWAP_CLUSTER_MAX:
            nr, self.nr_scan_active[zone] = self.nr_scan_active[zone], 0
            self.shrinker.refill_inactive_zone(zone, nr, self.prev_priority[zone])
        if self.nr_scan_inactive[zone] < SWAP_CLUSTER_MAX:
            return 0
        nr, self.nr_scan_inactive[zone] = self.nr_scan_inactive[zone], 0
        isolated = self.shrinker.shrink_cache(zone, nr, SWAP_CLUSTER_MAX, scan)
        scan.scanned += 0 if self.rules.scan_follows_both else isolated
        return isolated


def _nobody(nr_pages: int) -> None:
    """There is no pdflush."""
