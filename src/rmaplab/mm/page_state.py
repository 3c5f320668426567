"""struct page_state: what a kernel counts of its pages, for /proc/meminfo and /proc/vmstat (mm/proc_meminfo.py, mm/proc_vmstat.py).

    of pages as they are now   nr_mapped, nr_dirty, ...      recounted from frames, tables and the page cache when somebody asks
    of what has happened       pgfault, pswpout, ...         the ledger, the disk and the zones count that anyway

So nothing that a task does is slower for it. Linux keeps a counter for each, by CPU, and adds them up.

Source: 2.6.2 include/linux/page-flags.h, struct page_state; mm/page_alloc.c, get_full_page_state; where each of them moves: mm/rmap.c (nr_mapped),
mm/memory.c (nr_page_table_pages, pgfault, pgmajfault), mm/page-writeback.c (nr_dirty), mm/slab.c (nr_slab), mm/page_io.c (pswpin, pswpout), drivers/block/ll_rw_blk.c,
submit_bio (pgpgin, pgpgout).
"""

from functools import cached_property

import numpy as np

from rmaplab.machine.arrays import Bools
from rmaplab.machine.disk import READS, WRITES
from rmaplab.machine.frames import BH_DIRTY, PG_ANON, PG_DIRTY, PG_WRITEBACK
from rmaplab.machine.table_reader import count_leaf_tables
from rmaplab.mm.kernel import Kernel
from rmaplab.units import PAGE_SIZE

PAGE_KIB = PAGE_SIZE >> 10
FAULTS = ("anon_fault", "zero_fault", "cow_copy", "cow_reuse", "file_fault", "page_mkwrite", "swap_in")


class PageState:
    """Of one kernel, at one moment: what is asked for is counted once. Pages, if nothing else is said."""

    def __init__(self, k: Kernel) -> None:
        self.k = k
        self._flags, self._mapcount = k.machine.frames.flags, k.machine.frames.mapcount

    # -- as it is now ----------------------------------------------------------------------------------------------------

    @cached_property
    def nr_mapped(self) -> int:
        """Pages that some entry maps, anonymous ones and files'. The kernel's own, such as the zero page, are nobody's. O(frames)."""
        return int(np.count_nonzero(self._mapped))

    @cached_property
    def nr_anon(self) -> int:
        """NR_ANON_MAPPED: those of them that are anonymous. O(frames)."""
        return int(np.count_nonzero(self._mapped & (self._flags & PG_ANON != 0)))

    @property
    def nr_file_mapped(self) -> int:
        """NR_FILE_MAPPED: the others. O(frames)."""
        return self.nr_mapped - self.nr_anon

    @property
    def nr_pagecache(self) -> int:
        """Pages of files in the page cache, those in memory alone included, without the swap cache. O(files)."""
        return sum(len(file.pages) for file in self.k.page_cache.files.values())

    @property
    def nr_swapcache(self) -> int:
        """total_swapcache_pages. O(1)."""
        return len(self.k.swap.cached)

    @property
    def nr_shmem(self) -> int:
        """Pages of files that are in memory alone. O(files)."""
        return sum(len(file.pages) for file in self.k.page_cache.files.values() if file.shmem is not None)

    @property
    def nr_dirty(self) -> int:
        """Of files on a disk: dirty by the page's flag, or its buffers', whatever entries say. O(pages cached)."""
        nr = 0
        for file in self.k.page_cache.files.values():
            if file.on_disk:
                _, pfns = file.pages.within(0, 1 << 62)
                nr += int(np.count_nonzero(self._flags[pfns] & (PG_DIRTY | BH_DIRTY)))
        return nr

    @property
    def nr_writeback(self) -> int:
        """Pages on their way to a disk, or to swap. O(frames). Files' pages have the flag only where reclaim could take them."""
        nr = int(np.count_nonzero(self._flags & PG_WRITEBACK))
        return nr if self.k.lru_add.has_files else nr + self.k.machine.disk.under_way("disk_write")

    @cached_property
    def nr_leaf_tables(self) -> int:
        """Page tables that map pages, without those above them. O(tables above leaf tables)."""
        return sum(count_leaf_tables(self.k.machine, mm.pgd) for mm in self.k.mms.values())

    @property
    def nr_tables(self) -> int:
        """Page tables of all levels."""
        return self.k.machine.nr_tables

    @property
    def nr_slab(self) -> int:
        """What the slab caches hold that are here. O(caches)."""
        return sum(cache.nr_slabs << cache.packing.order for cache in self.k.machine.caches.values())

    @property
    def nr_stacks(self) -> int:
        """Kernel stacks of tasks."""
        return len(self.k.tasks) << self.k.stack_order

    @property
    def nr_active(self) -> int:
        """On all active lists. O(zones)."""
        return int(self.k.machine.allocator.lru.nr[:, 1].sum())

    @property
    def nr_inactive(self) -> int:
        """On all inactive lists. O(zones)."""
        return int(self.k.machine.allocator.lru.nr[:, 0].sum())

    # -- what has happened -----------------------------------------------------------------------------------------------

    @property
    def pgfault(self) -> int:
        """Faults that came to something: handle_mm_fault, without those that ended in a signal."""
        return sum(self.event(kind) for kind in FAULTS)

    @property
    def pgpgin(self) -> int:
        """KiB read from the disk, swap included: handed in, if not read yet."""
        return PAGE_KIB * sum(self.event(kind) for kind in READS)

    @property
    def pgpgout(self) -> int:
        """KiB written to it, likewise."""
        return PAGE_KIB * sum(self.event(kind) for kind in WRITES)

    @property
    def pgalloc(self) -> int:
        """Pages taken from all zones since boot."""
        return sum(zone.nr_taken for zone in self.k.machine.allocator.zones)

    @property
    def pgfree(self) -> int:
        """Pages given to them; at boot they got all there was."""
        return sum(zone.nr_given for zone in self.k.machine.allocator.zones)

    def event(self, name: str) -> int:
        """How often the ledger has counted it. Nobody is told of what has not happened."""
        return self.k.machine.ledger.counts.get(name, 0)

    def in_zone(self, event: str, zone_name: str) -> int:
        """The same by zone, of what reclaim counts, and `pgalloc`; 0 for a zone that the box does not have."""
        for zone in self.k.machine.allocator.zones:
            if zone.name.lower().startswith(zone_name):
                return zone.nr_taken if event == "pgalloc" else zone.events[event]
        return 0

    @cached_property
    def _mapped(self) -> Bools:
        mapped: Bools = self._mapcount > 0
        return mapped
