"""lru_cache_add: a new page waits, with a reference of its own, until sixteen of its CPU have come together. In 2.4 none waits.

    anonymous, CPU 0   [p][p][p][ ][ ] ...      each p: page->count + 1
                        16 of them: all go to the active lists (machine/lru.py), and the references go
    of a file, CPU 0   [f][ ][ ] ...            one that a fault or a read(2) has missed, or new shared memory; 16 go to the inactive lists
    2.4                 each goes to the inactive list at once

Whoever adds pages of a file in numbers, readahead and write(2), has a pagevec of his own, which is empty when he returns: those never wait.
Which files' pages are on lists AddressSpace.on_lru says: up to 2.6.7 all.

Whoever counts references sees it: a page with one entry and one place in a pagevec has count 2, so a COW fault copies it
although nobody shares it. munmap and exit drain the pagevec of the CPU they run on, not the others.

Source: 2.6.2 mm/swap.c (lru_cache_add, lru_cache_add_active, lru_add_drain, rotate_reclaimable_page), mm/mmap.c (unmap_region, exit_mmap);
mm/filemap.c (add_to_page_cache_lru, __grab_cache_page), fs/mpage.c (mpage_readpages); eras.md 1.2; reclaim.md A.1 to A.3.
"""

import numpy as np

from rmaplab.machine.allocator import PageAllocator
from rmaplab.machine.arrays import I64, are_distinct
from rmaplab.machine.frames import (
    PG_ACTIVE,
    PG_DIRTY,
    PG_LRU,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_WRITEBACK,
    put_pages,
)
from rmaplab.machine.ledger import Ledger
from rmaplab.machine.lru import LruLists
from rmaplab.objects.mm_types import AddressSpace


class LruAdd:
    """The pagevecs of all CPUs. `size` pages each; 0 where a kernel has none. `lists` is None where nobody takes pages from them. New pages are `active`, or not.

    `has_files`: pages of files on disks are on the lists too; `has_shmem`: those of files in memory.
    """

    def __init__(
        self,
        allocator: PageAllocator,
        ledger: Ledger,
        nr_cpus: int,
        size: int,
        lists: LruLists | None = None,
        *,
        active: bool = True,
        has_files: bool = False,
        has_shmem: bool = False,
    ) -> None:
        self._allocator, self._ledger = allocator, ledger
        self.lists, self._active = lists, active
        self.has_files, self.has_shmem = has_files and lists is not None, has_shmem and lists is not None
        self._size = size
        self._waiting: list[list[int]] = [[] for _ in range(nr_cpus)]
        self._files: list[list[int]] = [[] for _ in range(nr_cpus)]

    def add(self, cpu: int, pages: I64) -> None:
        """New pages, in order. Those that are left when every full sixteen have gone hold a reference. O(16)."""
        if not self._size:
            if self.lists is not None:
                self.lists.add(pages, active=self._active)
            return
        waiting = self._waiting[cpu]
        nr = len(waiting) + pages.size
        if nr >= self._size:
            self._flush(self._waiting, cpu, active=self._active)
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
            self._flush(self._waiting, cpu, active=self._active)
        elif self.lists is not None:
            self.lists.add_one(page, active=self._active)

    def add_file(self, cpu: int, page: int) -> None:
        """lru_cache_add: a page of a file, which somebody has added to the page cache by itself. Not active."""
        if not self._size and self.lists is not None:
            self.lists.add_one(page, active=False)
            return
        self._files[cpu].append(page)
        self._allocator.frames.count[page] += 1
        if len(self._files[cpu]) >= self._size:
            self._flush(self._files, cpu, active=False)

    def add_files(self, cpu: int, pages: I64) -> None:
        """The same of many, one after the other."""
        left = pages.size
        if len(self._files[cpu]) + pages.size >= max(self._size, 1):
            left = (len(self._files[cpu]) + pages.size) % self._size if self._size else 0
            self._flush(self._files, cpu, active=False)
            self.list_files(pages[: pages.size - left])
        if left:
            self._files[cpu].extend(pages[pages.size - left :].tolist())
            self._allocator.frames.count[pages[pages.size - left :]] += 1

    def list_new(self, cpu: int, file: AddressSpace, pages: I64, *, alone: bool = False) -> None:
        """Pages that have come into a file's cache. Where each comes by itself (`alone`), or lives in memory, they wait in the CPU's pagevec; else in one of the caller's own."""
        if not file.on_lru:
            return
        if not (alone or file.shmem is not None):
            self.list_files(pages)
        elif pages.size == 1:
            self.add_file(cpu, int(pages[0]))
        else:
            self.add_files(cpu, pages)

    def list_files(self, pages: I64) -> None:
        """pagevec_lru_add, of a pagevec that is the caller's own: pages of a file go to the inactive lists at once."""
        if self.lists is not None:
            self.lists.add(pages, active=False)

    def drain(self, cpu: int) -> None:
        """lru_add_drain on one CPU: the references go, and pages that nobody else holds are freed."""
        if self._files[cpu]:
            self._flush(self._files, cpu, active=False)
        if self._waiting[cpu]:
            self._flush(self._waiting, cpu, active=self._active)

    def _flush(self, pagevecs: list[list[int]], cpu: int, *, active: bool) -> None:
        """One of them, to the lists."""
        waiting = pagevecs[cpu]
        if waiting:
            pages = np.array(waiting, np.int64)
            freed = np.empty(pages.size, np.int64)
            pagevecs[cpu] = []
            count = self._allocator.frames.count
            nr = put_pages(count, pages, freed)
            self._allocator.free(freed[:nr])
            self._ledger.charge("page_free", nr)
            if self.lists is not None:
                self.lists.add(pages[count[pages] > 0] if nr else pages, active=active)

    def mark_accessed(self, pfn: int) -> None:
        """mark_page_accessed: somebody has used a page. The first time it says so, the second time it goes from the inactive list to the active one."""
        if self.lists is None:
            return
        flags = self._allocator.frames.flags
        state = int(flags[pfn])
        if not state & PG_REFERENCED:
            flags[pfn] = state | PG_REFERENCED
        elif state & (PG_LRU | PG_ACTIVE) == PG_LRU:
            self.lists.activate_one(pfn)
            flags[pfn] = int(flags[pfn]) & ~PG_REFERENCED
            self._ledger.charge("pgactivate")

    def mark_all_accessed(self, pfns: I64) -> None:
        """The same of many pages, one after the other."""
        if self.lists is None:
            return
        if not are_distinct(pfns):  # some are mapped twice
            for pfn in pfns.tolist():
                self.mark_accessed(pfn)
            return
        flags = self._allocator.frames.flags
        used = flags[pfns] & PG_REFERENCED != 0
        flags[pfns[~used]] |= np.uint32(PG_REFERENCED)
        rises = pfns[used & (flags[pfns] & (PG_LRU | PG_ACTIVE) == PG_LRU)]
        if rises.size:
            self.lists.activate(rises)
            flags[rises] &= ~np.uint32(PG_REFERENCED)
            self._ledger.charge("pgactivate", rises.size)

    def end_page_writeback(self, pages: I64) -> None:
        """They are written. Those that reclaim has sent, and are where it left them, are the next to be looked at."""
        flags = self._allocator.frames.flags
        state = flags[pages]
        flags[pages] &= ~np.uint32(PG_WRITEBACK | PG_RECLAIM)
        left = pages[(state & PG_RECLAIM != 0) & (state & (PG_LRU | PG_ACTIVE | PG_DIRTY) == PG_LRU)]
        if self.lists is not None:
            self.lists.rotate(left)
        self._ledger.charge("pgrotated", left.size)

    def waiting(self, cpu: int) -> list[int]:
        """The PFNs in the pagevec of a CPU that has anonymous pages."""
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
        return np.array([pfn for waiting in self._waiting + self._files for pfn in waiting], np.int64)
