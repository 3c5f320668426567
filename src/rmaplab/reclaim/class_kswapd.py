"""kswapd of 2.4: a thread that makes room for each class of zones that was short, until one of its zones has more than its high mark free.

    a request finds no zone above its low mark --> need_balance of its class: the highest zone that it may have pages of; kswapd is woken
                                                       |
    kswapd_balance   HIGHMEM | NORMAL | DMA, those with need_balance:    60 passes, as whoever makes room himself (virtual.py)
                        |                                                32 free     one of its zones above the high mark: done
                        |                                                            else another round over all classes
                        |                                                in vain     done, and it sleeps for 5 s, whoever needs it
                     none has it any more: it sleeps until it is woken

It runs as a task of its own, on a CPU of its own if one is idle. Who drives a machine from outside has no scheduler that would run it; there its 60 passes are made
in the place of whoever comes to the min marks (virtual.py). Those five seconds are not waited for when nobody else has anything to do.

Left out: classes that only GFP_DMA is short of, which nobody asks for here; its reserve (PF_MEMALLOC), as it allocates nothing.

Source: 2.4.27 mm/vmscan.c, kswapd, kswapd_balance_pgdat, check_classzone_need_balance, kswapd_can_sleep; mm/page_alloc.c, __alloc_pages; reclaim.md C.7.
"""

from collections.abc import Callable
from functools import partial

from rmaplab.errors import NoMemory
from rmaplab.machine.allocator import Gfp, PageAllocator
from rmaplab.machine.zones import Zone
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.kthread import KernelThread
from rmaplab.reclaim.reclaimer import SECOND

KSWAPD_SLEEP_NS = 5 * SECOND


def class_of(zones: list[Zone], gfp: Gfp) -> int:
    """The number of the highest zone that a request may have pages of."""
    return max(i for i, zone in enumerate(zones) if gfp is Gfp.HIGHUSER or not zone.extent.is_high)


def high_marks(allocator: PageAllocator, gfp: Gfp) -> list[tuple[int, int]]:
    """Of each zone of a request's class, highest first: its number, and the high mark that the class has there."""
    marks = ((i, low, allocator.zones[i].marks) for i, low in allocator.marks.passes[gfp][0])
    return [(i, low + zone.high - zone.low) for i, low, zone in marks]


class ClassKswapd:
    """One for the machine.

    `free` is what it does for a class: whether 32 pages could be freed. `breathe` lets others run.
    """

    def __init__(self, k: Kernel, free: Callable[[int], bool], breathe: Callable[[], None]) -> None:
        self.k, self._free, self._breathe = k, free, breathe
        rules = k.machine.sched.rules
        # asleep since boot, so it has gathered two slices (goodness.py)
        self.thread = KernelThread(k.machine.sched, self._run, name="kswapd", slice_ns=2 * rules.timeslice_ns)
        self.asleep = True
        allocator = self.k.machine.allocator
        self.need_balance = [False] * len(allocator.zones)
        """By class: the number of its highest zone."""
        self._gfp = {class_of(allocator.zones, gfp): gfp for gfp in (Gfp.KERNEL, Gfp.HIGHUSER)}
        self._nap_ends_ns: int | None = None
        allocator.kswapd = self.wake

    def wake(self, short: int, gfp: Gfp) -> None:
        """A request found no zone of its own above the low mark. While it runs, or sleeps because it has come to nothing, that is only noted."""
        del short  # nobody looks whether that is so still
        sched = self.k.machine.sched
        if sched.current is None:
            return
        self.need_balance[class_of(self.k.machine.allocator.zones, gfp)] = True
        if self._nap_ends_ns is not None and sched.now_ns >= self._nap_ends_ns:  # nobody was there when it ended
            self._nap_is_over(self._nap_ends_ns)
        if not self.asleep:
            return
        self.asleep = False
        self.thread.wake()

    def _run(self) -> None:
        while True:
            while self.kswapd_balance():
                pass
            if not any(self.need_balance):
                self.asleep = True
                self.k.machine.sched.sleep()

    def kswapd_balance(self) -> bool:
        """One round over all classes: whether another one is needed. May sleep."""
        more = False
        for number in reversed(range(len(self.need_balance))):
            self._breathe()
            if not self.need_balance[number]:
                continue
            self.k.machine.charge("kswapd_balance")
            if not self._could_free(number):
                self.need_balance[number] = False
                self._nap()
            elif self._is_short(number):
                more = True
            else:
                self.need_balance[number] = False
        return more

    def _could_free(self, number: int) -> bool:
        """Whether there are 32 pages of the class more."""
        try:
            return self._free(number)
        except NoMemory:  # nobody is left to kill: who wants memory says so
            return False

    def _is_short(self, number: int) -> bool:
        """check_classzone_need_balance: none of its zones has more than its high mark free."""
        zones = self.k.machine.allocator.zones
        return all(zones[i].nr_free <= high for i, high in high_marks(self.k.machine.allocator, self._gfp[number]))

    def _nap(self) -> None:
        """schedule_timeout(HZ * 5): nobody can wake it."""
        sched = self.k.machine.sched
        ends_ns = self._nap_ends_ns = sched.now_ns + KSWAPD_SLEEP_NS
        sched.at(ends_ns, partial(self._nap_is_over, ends_ns), watches=True)
        sched.sleep()

    def _nap_is_over(self, ends_ns: int) -> None:
        if self._nap_ends_ns == ends_ns:
            self._nap_ends_ns = None
            self.thread.wake()
