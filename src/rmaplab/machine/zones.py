"""Zones: the RAM of a box by what it is good for, and the lists of single pages that each CPU keeps in front of them.

    0       16 MiB                                  896 MiB                    all of RAM
    | DMA   | NORMAL                                | HIGHMEM                  |      i386, 3:1
    | image | mem_map | page tables, slabs, stacks  | user pages, with HIGHPTE |
                                                    | the leaf page tables too |

The kernel addresses low memory directly and high memory only through windows, so what it follows pointers through must lie
low: mem_map, slabs, stacks, the upper page tables. On x86-64 there is no high memory.

    CPU 0   hot  [tail ...... head]      a page is taken from the head and freed to it
                   ^ refilled from the buddy system `batch` at a time when no more than `low` are left,
                     drained to it `batch` at a time when there are `high`

The watermark is asked before the list is, so pages on lists are free for nobody else and count as taken.

Source: 2.6.2 mm/page_alloc.c, buffered_rmqueue, free_hot_cold_page, free_area_init_core (batch, low, high); 2.4 has no such
lists. Cold lists are left out: only page-cache readahead asks for cold pages.
"""

from __future__ import annotations

from array import array
from collections import Counter

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, Bools
from rmaplab.machine.buddy import Buddy, FreeLists
from rmaplab.machine.jit import kernel
from rmaplab.machine.watermarks import Extent, Marks

DMA_FRAMES = 4096  # MAX_DMA_ADDRESS: 16 MiB
PCP_MOST_PRESENT = 64  # pages: batch is a quarter of present / 1024, and that is at most this


NO_MARK = -1
"""As a mark: pages on the CPU's list as well, when nothing else is free (buffered_rmqueue)."""


class Zone:
    """One zone: frames [start, end), of which the first `taken` are not the buddy system's."""

    def __init__(self, name: str, lists: FreeLists, start: int, end: int, taken: int, nr_cpus: int, pcp: bool) -> None:
        self.name, self.start, self.end = name, start, end
        self.extent = Extent(name, end - start)
        self.buddy = Buddy(lists, start + taken, end)
        self.marks = Marks(0, 0, 0)
        self.nr_given = self.nr_free
        """pgfree: pages that were ever given to it, at boot to begin with."""
        self.events: Counter[str] = Counter()
        """What reclaim counts by zone: pgscan, pgrefill, pgsteal. Pages."""
        self.batch = max(min((end - start) // 1024, PCP_MOST_PRESENT) // 4, 1) if pcp else 0
        self.low, self.high = 2 * self.batch, 6 * self.batch
        self.pcp = [array("q") for _ in range(nr_cpus)]  # tail first: the head is the end

    @property
    def nr_free(self) -> int:
        """zone->free_pages: what the buddy system has."""
        return self.buddy.nr_free

    @property
    def nr_taken(self) -> int:
        """pgalloc: pages that were ever taken from it. What was given and is not there any more."""
        return self.nr_given - self.nr_free - self.nr_listed

    @property
    def nr_listed(self) -> int:
        """Pages on the CPUs' lists."""
        return sum(map(len, self.pcp))

    def obtainable(self, cpu: int, mark: int, most: int) -> int:
        """How many single pages, up to `most`, a CPU gets while more than `mark` are free."""
        if not self.batch:
            return min(max(self.buddy.nr_free - max(mark, 0), 0), most)
        return int(_plan(self.buddy.nr_free, len(self.pcp[cpu]), mark, self.low, self.batch, most)[0])

    def take(self, cpu: int, mark: int, most: int) -> I64:
        """Single pages: as many as are obtainable(). O(their number)."""
        if not self.batch:
            return self.buddy.alloc(self.obtainable(cpu, mark, most))
        pages = self.pcp[cpu]
        got, refilled = _plan(self.buddy.nr_free, len(pages), mark, self.low, self.batch, most)
        queue = np.frombuffer(pages[::-1], np.int64) if pages else _NOTHING
        if refilled:
            queue = np.concatenate((queue, self.buddy.alloc(refilled)))
        self.pcp[cpu] = _row(queue[got:][::-1])
        return queue[:got]

    def take_one(self, cpu: int, mark: int) -> int:
        """One page, or -1. O(1) but for a refill."""
        buddy = self.buddy
        if buddy.nr_free <= mark:
            return -1
        if not self.batch:
            return int(buddy.alloc(1)[0]) if buddy.nr_free else -1
        pages = self.pcp[cpu]
        if len(pages) <= self.low:
            pages[:0] = _row(buddy.alloc(min(self.batch, buddy.nr_free))[::-1])
        return pages.pop() if pages else -1

    def take_blocks(self, order: int, mark: int, nr: int) -> I64:
        """Up to `nr` blocks of 2^order frames, straight from the buddy system."""
        return self.buddy.alloc(min(nr, max(self.buddy.nr_free - max(mark, 0), 0) >> order), order)

    def give(self, cpu: int, blocks: I64) -> None:
        """Free single pages to a CPU's list, in order. O(n)."""
        if not self.batch:
            self.buddy.free(blocks)
            return
        pages = self.pcp[cpu]
        over = len(pages) + blocks.size - self.high
        if over <= 0:
            pages.extend(_row(blocks))
            return
        drained = -(-over // self.batch) * self.batch
        queue = np.concatenate((np.frombuffer(pages, np.int64), blocks)) if pages else blocks
        self.buddy.free(queue[:drained])
        self.pcp[cpu] = _row(queue[drained:])

    def drain(self) -> None:
        """Every CPU's list back to the buddy system."""
        for cpu, pages in enumerate(self.pcp):
            if pages:
                self.buddy.free(np.array(pages, np.int64))
                self.pcp[cpu] = array("q")

    def check(self, count: I32) -> Bools:
        """For each frame of the box, whether it is free or on a list of this zone. Raises KernelBug. O(frames)."""
        mask = self.buddy.free_mask()
        for cpu, pages in enumerate(self.pcp):
            if self.batch and len(pages) > self.high:
                raise KernelBug(
                    "per_cpu_pages", f"CPU {cpu} has {len(pages)} pages of {self.name}, more than {self.high}"
                )
            for pfn in pages:
                if not self.start <= pfn < self.end or mask[pfn]:
                    raise KernelBug("per_cpu_pages", f"CPU {cpu}: frame {pfn} is free twice or not of {self.name}")
                mask[pfn] = True
        if count[mask].any():
            raise KernelBug("free_area", f"a free frame of {self.name} is referenced")
        return mask


def zone_borders(nr_frames: int, lowmem_bytes: int) -> list[tuple[str, int, int]]:
    """(name, first frame, end) of the zones of a box, lowest first; empty ones are left out."""
    low_end = min(nr_frames, lowmem_bytes >> 12)
    borders = [("DMA", 0, min(DMA_FRAMES, low_end)), ("NORMAL", DMA_FRAMES, low_end), ("HIGHMEM", low_end, nr_frames)]
    return [border for border in borders if border[1] < border[2]]


@kernel
def _plan(free: int, count: int, mark: int, low: int, batch: int, most: int) -> tuple[int, int]:
    """What taking pages one by one comes to: (how many are had, how many the buddy system gives for it)."""
    got = refilled = 0
    while got < most and free > mark:
        if count <= low:
            refill = min(batch, free)
            free -= refill
            count += refill
            refilled += refill
        if not count:  # without a mark: nothing is left anywhere
            break
        step = 1
        if free > mark:  # until the next refill every page is asked for in the same state
            step = max(1, min(count - low, most - got))
        count -= step
        got += step
    return got, refilled


def _row(pfns: I64) -> array[int]:
    """For a CPU's list: numbers as NumPy has them, which single pages come off as off a list."""
    return array("q", pfns.astype(np.int64, copy=False).tobytes())


_NOTHING: I64 = np.empty(0, np.int64)
