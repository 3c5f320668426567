"""lru_cache_add: a new page waits, with a reference of its own, until sixteen of its CPU have come together. In 2.4 none waits.

    pagevec of CPU 0   [p][p][p][ ][ ] ...      each p: page->count + 1
                        16 of them: all go to the active lists (machine/lru.py), and the references go
    2.4                 each goes to the inactive list at once

Whoever counts references sees it: a page with one entry and one place in a pagevec has count 2, so a COW fault copies it
although nobody shares it. munmap and exit drain the pagevec of the CPU they run on, not the others.

Source: 2.6.2 mm/swap.c (lru_cache_add_active, lru_add_drain), mm/mmap.c (unmap_region, exit_mmap); eras.md 1.2; reclaim.md A.1, A.2.
"""

import numpy as np

from rmaplab.machine.allocator import PageAllocator
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_ACTIVE, PG_LRU, PG_REFERENCED, put_pages
from rmaplab.machine.ledger import Ledger
from rmaplab.machine.lru import LruLists


class LruAdd:
    """The pagevecs of all CPUs. `size` pages each; 0 where a kernel has none. `lists` is None where nobody takes pages from them. New pages are `active`, or not."""

    def __init__(
        self,
        allocator: PageAllocator,
        ledger: Ledger,
        nr_cpus: int,
        size: int,
        lists: LruLists | None = None,
        *,
        active: bool = True,
    ) -> None:
        self._allocator, self._ledger = allocator, ledger
        self.lists, self._active = lists, active
        self._size = size
        self._waiting: list[list[int]] = [[] for _ in range(nr_cpus)]

    def add(self, cpu: int, pages: I64) -> None:
        """New pages, in order. Those that are left when every full sixteen have gone hold a reference. O(16)."""
        if not self._size:
            if self.lists is not None:
                self.lists.add(pages, active=self._active)
            return
        waiting = self._waiting[cpu]
        nr = len(waiting) + pages.size
        if nr >= self._size:
            self.drain(cpu)
            waiting = self._waiting[cpu]
            left = nr % self._size
            if self.lists is not None:
                self.lists.add(pages[: pages.size - left], active=self._active)
            pages = pages[pages.size - left :]
        if pages.size:
            self._allocator.frames.count[pages] += 1
            waiting.extend(pages.tolist())

    def add_one(self, cpu: int, page: int) -> None:
        """A single fault's page."""
        waiting = self._waiting[cpu]
        if len(waiting) + 1 < self._size:
            self._allocator.frames.count[page] += 1
            waiting.append(page)
        elif self._size:
            waiting.append(page)  # the last of a full one, which goes at once
            self._allocator.frames.count[page] += 1
            self.drain(cpu)
        elif self.lists is not None:
            self.lists.add_one(page, active=self._active)

    def drain(self, cpu: int) -> None:
        """lru_add_drain on one CPU: the references go, and pages that nobody else holds are freed."""
        waiting = self._waiting[cpu]
        if waiting:
            pages = np.array(waiting, np.int64)
            freed = np.empty(pages.size, np.int64)
            self._waiting[cpu] = []
            count = self._allocator.frames.count
            nr = put_pages(count, pages, freed)
            self._allocator.free(freed[:nr])
            self._ledger.charge("page_free", nr)
            if self.lists is not None:
                self.lists.add(pages[count[pages] > 0] if nr else pages, active=self._active)

    def mark_accessed(self, pfn: int) -> None:
        """mark_page_accessed: somebody has used a page. The first time it says so, the second time it goes from the inactive list to the active one."""
        if self.lists is None:
            return
        flags = self._allocator.frames.flags
        if not flags[pfn] & PG_REFERENCED:
            flags[pfn] |= np.uint32(PG_REFERENCED)
        elif flags[pfn] & (PG_LRU | PG_ACTIVE) == PG_LRU:
            self.lists.activate(np.array((pfn,), np.int64))
            flags[pfn] &= ~np.uint32(PG_REFERENCED)
            self._ledger.charge("pgactivate")

    def mark_all_accessed(self, pfns: I64) -> None:
        """The same of many pages, one after the other."""
        if self.lists is None:
            return
        flags = self._allocator.frames.flags
        used = flags[pfns] & PG_REFERENCED != 0
        flags[pfns[~used]] |= np.uint32(PG_REFERENCED)
        rises = pfns[used & (flags[pfns] & (PG_LRU | PG_ACTIVE) == PG_LRU)]
        if rises.size:
            self.lists.activate(rises)
            flags[rises] &= ~np.uint32(PG_REFERENCED)
            self._ledger.charge("pgactivate", rises.size)

    def waiting(self, cpu: int) -> list[int]:
        """The PFNs in the pagevec of a CPU."""
        return self._waiting[cpu]

    def room(self, cpu: int) -> int:
        """How many pages fill it up."""
        return self._size - len(self._waiting[cpu])

    def drain_all(self) -> None:
        """All CPUs."""
        for cpu in range(len(self._waiting)):
            self.drain(cpu)

    def references(self) -> I64:
        """The PFNs that hold a reference here, for check()."""
        return np.array([pfn for waiting in self._waiting for pfn in waiting], np.int64)
