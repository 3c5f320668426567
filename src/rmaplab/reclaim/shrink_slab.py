"""shrink_slab of 2.6.2 to 2.6.7: whoever looks at pages asks the caches of dentries and inodes in the same measure.

    of all pages on lists  n are looked at     4 / seeks x n / (all + 1)  of a cache's unused objects are wanted
    saved up until that is more than 128, and then asked for, 128 at a time

So when every page was looked at once, each cache was asked for twice what it has (seeks is 2).

The caches are constant: what is asked for is looked at and stays, as if somebody used it again at once, and no page comes back. So nothing of a run hangs on it but slabs_scanned, which /proc/vmstat has from
2.6.5-rc1 on, and it never takes what a task needs. It is more than Linux would count, whose caches become small under pressure. Unused dentries are those of files on disks that have a name and are not open, and those from boot; unused inodes are those
from boot alone, since a dentry keeps its inode. What there is after boot is believed, and is as much less as the box's boot use is. A look at an object has no price.

Left out: dquots, and what mbcache has of extended attributes: nobody uses quotas here, so both are empty. Callers who may not wait for a file system (2.6.7 ends then, and keeps the rest).

Source: 2.6.2, 2.6.5 and 2.6.7 mm/vmscan.c, shrink_slab; fs/dcache.c, shrink_dcache_memory; fs/inode.c, shrink_icache_memory; reclaim.md D.7.
"""

from collections.abc import Callable

import numpy as np

from rmaplab.machine.frames import PG_RESERVED
from rmaplab.mm.kernel import Kernel
from rmaplab.reclaim.rules import ReclaimRules
from rmaplab.units import PAGE_SIZE

SHRINK_BATCH = 128
DEFAULT_SEEKS = 2


class ConstantCache:
    """A cache that shrinks, in the words of struct shrinker: `unused` objects now; `nr` are wanted and not asked for yet."""

    def __init__(self, name: str, unused: Callable[[], int], seeks: int = DEFAULT_SEEKS) -> None:
        self.name, self.unused, self.seeks = name, unused, seeks
        self.nr = 0


class SlabCaches:
    """All that shrink, of one kernel. To be made when boot is over."""

    def __init__(self, k: Kernel, rules: ReclaimRules) -> None:
        self.k, self.rules = k, rules
        share = self._boot_pages * PAGE_SIZE / (rules.boot_kernel_bytes + rules.boot_user_bytes)
        dentries, inodes = (int(nr * min(share, 1)) for nr in (rules.boot_dentries, rules.boot_unused_inodes))
        self.caches = (
            ConstantCache("dentry_cache", lambda: dentries + self._nr_closed),
            ConstantCache("inode_cache", lambda: inodes),
        )

    def shrink_slab(self, scanned: int) -> None:
        """So many pages have been looked at, by the era's own sum. O(files)."""
        pages = int(self.k.machine.allocator.lru.nr.sum())
        for cache in self.caches:
            wanted = 4 * (scanned // cache.seeks) if self.rules.slab_divides_first else 4 * scanned // cache.seeks
            cache.nr += wanted * cache.unused() // (pages + 1)
            if cache.nr > SHRINK_BATCH:
                self.k.machine.charge("slabs_scanned", cache.nr)
                cache.nr = 0

    @property
    def _boot_pages(self) -> int:
        """What was allocated since the kernel has its memory, and before anybody runs."""
        flags = self.k.machine.frames.flags
        zones = self.k.machine.allocator.zones
        return sum(int(np.count_nonzero(flags[zone.buddy.start : zone.end] & PG_RESERVED)) for zone in zones)

    @property
    def _nr_closed(self) -> int:
        """Files on disks that have a name, and nobody has them open."""
        files = self.k.page_cache.files.values()
        return sum(file.named and file.on_disk and not file.opens for file in files)
