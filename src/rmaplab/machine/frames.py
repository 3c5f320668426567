"""struct page is a row: the columns that every kernel keeps about every frame.

    pfn   flags         count  mapcount  mapping          index
    0     PG_reserved   1      0         0                -        the zero page: nobody owns it, its count does not move
    1..   PG_reserved   1      0         0                -        the kernel's image and mem_map
    n     PG_anon       3      2         an anon_vma      pgoff    an anonymous page: two entries map it, a pagevec has it too
    f     -             2      1         address_space    pgoff    a page of a file: one entry maps it, the page cache has it too
    t     PG_table      1      0         an mm            address  a page table in 2.6.2, which maps from that address on
    m     PG_slab       1      0         0                -        a page of some slab cache
    k     -             0      0         0                -        free, with somebody's old bytes in it

`count` is page->count (references, 0 when free), `mapcount` how many page-table entries map the page. `mapping` is the address of
who owns it, and PG_anon says of which kind that is; `index` is where the page lies in it: stale when there is no owner. `private`
is the owner's as well. `next` and `prev` are the links of a list of pages, by frame number; 0 is none, as frame 0 is on no list.

Two columns are ours and not Linux's. 2.4 and 2.6.2 have no mapcount: whoever wants it there counts slots or entries. `scribbled`
says that a frame's bytes may not be zero, so that clearing a page that never was written costs the host nothing.

What a reverse-mapping design keeps beside these it adds with `column()`: the pte union of pte_chain.

Source: include/linux/mm.h, struct page, of 2.6.2 and 2.6.7; include/asm-generic/rmap.h of 2.6.2 (page tables); eras.md 1.1, 1.2.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from rmaplab.machine.arrays import I32, I64, U8, U32
from rmaplab.machine.jit import kernel

# The bits of page->flags that this house uses. Numbers are ours; names are the kernel's.
PG_RESERVED = 1 << 0
PG_SLAB = 1 << 1
PG_TABLE = 1 << 2  # a page-table page (the kernel of 2004 knows it by page->mapping or by a counter)
PG_ANON = 1 << 3
PG_DIRECT = 1 << 4
PG_ANON_EXCLUSIVE = 1 << 5  # PageAnonExclusive: one entry maps it, and nobody else may
PG_SWAPCACHE = 1 << 6  # its place in a swap area is in `private`
PG_DIRTY = 1 << 7
PG_REFERENCED = 1 << 8
PG_NOT_UPTODATE = 1 << 9  # PG_uptodate is clear, of a page in the page cache: it is being read, or could not be
PG_READAHEAD = 1 << 10  # whoever comes to this page of a file has more read ahead
PG_LRU = 1 << 11  # it is on one of its zone's lists (lru.py)
PG_ACTIVE = 1 << 12  # on the active one, or it will be
PG_WRITEBACK = 1 << 13  # its bytes are on their way to a disk
PG_RECLAIM = 1 << 14  # and then it can be freed: to the tail of the inactive list with it
PG_LOCKED = 1 << 15  # of a page in a cache: the disk has it, and who wants it sleeps
PG_LAUNDER = 1 << 16  # and 2.4's reclaim has sent it there
PG_ERROR = 1 << 17  # 2.4: it could not be written
BH_DIRTY = 1 << 18  # 2.4: not the page is dirty but its buffers are (write(2)); PG_writeback: those are locked
BH_WAIT_IO = 1 << 19  # and reclaim has come by once
PG_SLOW = PG_NOT_UPTODATE | PG_READAHEAD  # nobody maps it in passing

ZERO_PFN = 0  # ZERO_PAGE: frame 0, which nothing ever writes


class Frames:
    """The columns of mem_map, `nr` rows."""

    def __init__(self, nr: int) -> None:
        self.nr = nr
        self.flags: U32 = np.zeros(nr, np.uint32)
        self.count: I32 = np.zeros(nr, np.int32)
        self.mapcount: I32 = np.zeros(nr, np.int32)
        self.mapping: I64 = np.zeros(nr, np.int64)
        self.index: I64 = np.zeros(nr, np.int64)
        self.private: I64 = np.zeros(nr, np.int64)
        self.next: I64 = np.zeros(nr, np.int64)
        self.prev: I64 = np.zeros(nr, np.int64)
        self.scribbled: U8 = np.zeros(nr, np.uint8)

    def column(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A new column of zeros, one row per frame; the host commits what is written."""
        return np.zeros(self.nr, dtype)


@kernel
def put_pages(count: I32, pfns: I64, freed: I64) -> int:
    """Drop one reference from each of `pfns`; those that reach zero go to `freed`, their number is returned."""
    nr_freed = 0
    for i in range(pfns.size):
        pfn = np.uint64(pfns[i])
        left = count[pfn] - 1
        count[pfn] = left
        if left == 0:
            freed[nr_freed] = pfns[i]
            nr_freed += 1
    return nr_freed


@kernel
def put_runs(count: I32, pages: I64, runs: int, freed: I64) -> int:
    """The same for the runs of a batch (batch.py)."""
    nr_freed = 0
    for run in range(runs):
        first, length = pages[0, run], pages[3, run]
        references = count[first : first + length]
        last = False
        for i in range(length):
            left = references[i] - np.int32(1)
            references[i] = left
            last |= left == 0
        if last:
            for i in range(length):
                if references[i] == 0:
                    freed[nr_freed] = first + i
                    nr_freed += 1
    return nr_freed


@kernel
def free_pages_check(flags: U32, count: I32, mapcount: I32, mapping: I64, pfns: I64, ends: I64, lru: I64) -> int:
    """Clear what a freed page must not keep: its flags, its count, the owner of an anonymous page, its place on a list.

    `lru` counts the pages on the lists of the zones that end at `ends` (lru.py). Returns the first of `pfns` that somebody maps, or that another owner has not let go of: bad_page. -1 if there is none.
    """
    for i in range(pfns.size):
        pfn = np.uint64(pfns[i])
        if flags[pfn] & PG_ANON:
            mapping[pfn] = 0
        if mapcount[pfn] or mapping[pfn]:
            return int(pfns[i])
        if flags[pfn] & PG_LRU:
            zone = 0
            while pfns[i] >= ends[zone]:
                zone += 1
            lru[zone, 1 if flags[pfn] & PG_ACTIVE else 0] -= 1
        flags[pfn] = 0
        count[pfn] = 0
    return -1


@kernel
def zone_of_all(ends: I64, pfns: I64) -> int:
    """Which of the zones that end there all of `pfns` are of; -1: of more than one, or of none."""
    zone = 0
    while zone < ends.size - 1 and pfns[0] >= ends[zone]:
        zone += 1
    start = ends[zone - 1] if zone else 0
    for i in range(pfns.size):
        if not start <= pfns[i] < ends[zone]:
            return -1
    return zone


@kernel
def split_runs(pages: I64, runs: int, stay: int, rest: I64) -> tuple[int, int]:
    """Cut the runs of a batch behind its first `stay` pages: (runs that stay, runs behind them, which `rest` gets: PFN and length)."""
    left = stay
    for run in range(runs):
        length = pages[3, run]
        if left < length:
            cut = 1 if left else 0
            rest[0, 0], rest[3, 0] = pages[0, run] + left, length - left
            pages[3, run] = left if cut else length
            for other in range(run + 1, runs):
                rest[0, other - run], rest[3, other - run] = pages[0, other], pages[3, other]
            return run + cut, runs - run
        left -= length
    return runs, 0


@kernel
def put_gathered(
    count: I32, held: I64, nr_held: int, pages: I64, runs: int, stay: int, freed: I64, rest: I64
) -> tuple[int, int]:  # fmt: skip
    """put_runs of what is held, then of the first `stay` pages of a batch: (pages freed, runs behind them, which `rest` gets)."""
    nr_freed = put_runs(count, held, nr_held, freed)
    runs, behind = split_runs(pages, runs, stay, rest)
    return nr_freed + put_runs(count, pages, runs, freed[nr_freed:]), behind


@kernel
def copy_frames(ram: U8, scribbled: U8, old: I64, new: I64) -> None:
    """copy_user_highpage for each pair: bytes of frame old[i] to frame new[i], which is zero so far."""
    for i in range(old.size):
        if scribbled[old[i]]:
            ram[new[i]] = ram[old[i]]
            scribbled[new[i]] = 1


@kernel
def clear_frames(ram: U8, scribbled: U8, pfns: I64) -> None:
    """clear_page for those of `pfns` whose bytes may not be zero."""
    for i in range(pfns.size):
        if scribbled[pfns[i]]:
            ram[pfns[i]] = 0
            scribbled[pfns[i]] = 0
