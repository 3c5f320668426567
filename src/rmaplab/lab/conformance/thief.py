"""Somebody who takes pages away whenever the kernel sleeps for memory, and before it takes a lock: reclaim without a policy, and without mercy.

    alloc_pages, may sleep  ->  the thief: some pages of some process, the caller's own included, go to swap
                            ->  the caller goes on, and must read again what it had read

Whose page_table_lock is held is safe for now, as are locked pages (page_out.py). The same seed takes the same pages.
"""

from random import Random

from rmaplab.kernels.system import System
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.locks import MIGHT_SLEEP, Point
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.reclaim.page_out import page_out


class Thief:
    """Takes pages of `system` from now on. `nr_taken` counts them."""

    def __init__(self, system: System, seed: int) -> None:
        self._system = system
        self._random = Random(seed)  # noqa: S311
        self.nr_taken = 0
        system.watch(self)

    def __call__(self, point: Point) -> None:
        """One visit: at a sleep, and now and then where a lock is about to be taken."""
        k, random = self._system.kernel, self._random
        if point.name != MIGHT_SLEEP and random.random() < 0.9:
            return
        if not k.mms or random.random() < 0.3:
            return
        mm = random.choice(list(k.mms.values()))
        pfns = read_page_tables(k.machine, mm.pgd)[0].pfns
        pfns = pfns[pfns != ZERO_PFN]
        if random.random() < 0.5:
            k.lru_add.drain_all()  # what waits in a pagevec cannot be freed
        for pfn in random.sample(pfns.tolist(), min(pfns.size, random.choice((1, 1, 2, 3, 40)))):
            if k.machine.frames.count[pfn]:  # a page that is mapped twice was taken already
                self.nr_taken += page_out(k, pfn)
