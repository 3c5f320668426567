"""struct page is a row: the columns that every kernel keeps about every frame.

    pfn      flags          count   scribbled
    0        PG_reserved    1       0           the zero page: nobody owns it, its count does not move
    1..      PG_reserved    1       0           the kernel's image and mem_map
    n        PG_anon        3       1           an anonymous page that three page-table entries map
    m        PG_slab        1       1           a page of some slab cache
    k        -              0       1           free, with somebody's old bytes in it

`count` is page->count (references, 0 when free). `scribbled` is ours, not Linux's: it says that a frame's bytes may not
be zero, so that clearing a page that never was written costs the host nothing.

A reverse-mapping design adds columns of its own with `column()`: mapcount, mapping, index, the pte union.
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

ZERO_PFN = 0  # ZERO_PAGE: frame 0, which nothing ever writes


class Frames:
    """The columns of mem_map, `nr` rows."""

    def __init__(self, nr: int) -> None:
        self.nr = nr
        self.flags: U32 = np.zeros(nr, np.uint32)
        self.count: I32 = np.zeros(nr, np.int32)
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
