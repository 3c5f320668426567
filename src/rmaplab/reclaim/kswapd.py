"""kswapd of 2.6.2 to 2.6.7: a thread that makes room before anybody has to.

    an allocation finds no zone above its low mark ---> wakes kswapd, and takes a page below that mark
                                                            |
    balance_pgdat, once:   priority 12 ... 1 (2.6.7: 0)     until each zone has more than its high mark free
        2.6.2              a zone is scanned for what it lacks
        since 2.6.5-rc1    all zones up to the highest one that lacks something, also those that do not
                                                            |
                        sleeps again, also if that was not enough: somebody must wake it

A zone of which more than twice its pages were looked at, and nothing came back to the buddy system meanwhile, is given up (all_unreclaimable): it is scanned
at priority 12 only. kswapd never naps: each of these kernels tests a number that stays 0 first (reclaim.md D.6).

It runs as a task of its own, on a CPU of its own if one is idle. Whoever drives a machine from outside has no scheduler that would run it: there it does nothing.

Left out: nodes beside the first.

Source: 2.6.2, 2.6.5 and 2.6.7 mm/vmscan.c, balance_pgdat, kswapd, wakeup_kswapd; reclaim.md D.6.
"""

from collections.abc import Callable

from rmaplab.machine.allocator import Gfp
from rmaplab.machine.watermarks import SWAP_CLUSTER_MAX
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.direct import DirectReclaim
from rmaplab.reclaim.kthread import KernelThread
from rmaplab.reclaim.pdflush import Pdflush
from rmaplab.reclaim.rules import DEF_PRIORITY, ReclaimRules
from rmaplab.reclaim.shrink import Scan
from rmaplab.reclaim.writeback import Writeback


class Kswapd:
    """One for the machine."""

    def __init__(self, reclaim: DirectReclaim) -> None:
        self.reclaim, self.k = reclaim, reclaim.k
        self.thread = KernelThread(self.k.machine.sched, self._run, name="kswapd0")
        self.thread.entity.memalloc = True
        self.asleep = True
        self.k.machine.allocator.kswapd = self.wake

    def wake(self, short: int = 0, gfp: Gfp = Gfp.HIGHUSER) -> None:
        """wakeup_kswapd: a request found no zone of its own above the low mark, with `short` pages less. Does nothing while it runs, nor if no zone of the box is low."""
        del gfp  # it looks at all zones
        sched = self.k.machine.sched
        if not self.asleep or sched.current is None:
            return
        if all(zone.nr_free - short > zone.marks.low for zone in self.k.machine.allocator.zones):
            return
        self.asleep = False
        self.thread.wake()

    def _run(self) -> None:
        while True:
            self.balance_pgdat()
            self.asleep = True
            self.k.machine.sched.sleep()

    def balance_pgdat(self) -> int:
        """All priorities until there is enough of each zone: how many pages were freed."""
        reclaim, freed = self.reclaim, 0
        zones = range(len(reclaim.prev_priority))
        self.k.machine.charge("pageoutrun")
        reclaim.shrinker.sample_mapped()
        for zone in zones:
            reclaim.temp_priority[zone] = DEF_PRIORITY
        for priority in range(DEF_PRIORITY, reclaim.rules.kswapd_last_priority - 1, -1):
            scan = Scan(by_kswapd=True)
            enough = self._balance(priority, scan)
            freed += scan.freed
            if enough:
                break
        for zone in zones:
            reclaim.prev_priority[zone] = reclaim.temp_priority[zone]
        self.k.machine.charge("kswapd_steal", freed)
        return freed

    def _balance(self, priority: int, scan: Scan) -> bool:
        """One priority: whether no zone that was looked at lacked anything before."""
        reclaim = self.reclaim
        zones = self.k.machine.allocator.zones
        alive = [z for z in range(len(zones)) if priority == DEF_PRIORITY or not reclaim.is_given_up(z)]
        low = [z for z in alive if zones[z].nr_free <= zones[z].marks.high - (not reclaim.rules.kswapd_takes_all_below)]
        if not low:
            return True
        enough = True
        for zone in [z for z in alive if z <= low[-1]] if reclaim.rules.kswapd_takes_all_below else low:
            wanted = zones[zone].marks.high - zones[zone].nr_free
            enough &= wanted < 0 if reclaim.rules.kswapd_takes_all_below else wanted <= 0
            if wanted <= 0 and not reclaim.rules.kswapd_takes_all_below:
                continue
            reclaim.set_priority(zone, priority)
            before = scan.scanned
            reclaim.shrink_zone(zone, priority, scan, wanted, least=max(2 * wanted, SWAP_CLUSTER_MAX))
            if not (reclaim.rules.slab_of_low_zones and zones[zone].extent.is_high):
                reclaim.slab.shrink_slab(scan.scanned - before)
            reclaim.give_up(zone)
            reclaim.breathe()
        return enough


class PageReclaim(DirectReclaim):
    """What 2.6.2 to 2.6.7 have: tasks that make room themselves, and beside them kswapd, and pdflush for files."""

    def __init__(self, k: Kernel, rules: ReclaimRules, out_of_memory: Callable[[str], None]) -> None:
        super().__init__(k, rules, out_of_memory)
        self.kswapd = Kswapd(self)
        self.writeback = k.page_cache.writeback = Writeback(k, rules)
        self.pdflush = Pdflush(self.writeback)
        self.wakeup_bdflush = self.pdflush.wakeup_bdflush
