"""What the iterator has read of page tables (page_walk.py), by VMA and by address space: rows PAGE and MEMORY of a dump.

    VMA a   PAGE PAGE MEMORY(all)        its pages are those, and no window of it is read through pagemap
    VMA b   PAGE MEMORY(unlike pages)    its pages are read through pagemap, those here are left out
    VMA c   nothing                      too large: as b, and smaps_rollup is asked about its process

What a process has, smaps_rollup would add up in the same way (fs/proc/task_mmu.c, smaps_account). Where a VMA has more than plain present pages
(swapped out, huge, on their way), or is large, its process is not here.
"""

from collections.abc import Collection
from typing import NamedTuple, Protocol

import numpy as np

from rmaplab.host.procfs import PAGE_BYTES
from rmaplab.machine.arrays import I64, Bools

PAGE, MEMORY = 6, 7  # enums of bpf/rows.h and bpf/task_pages.bpf.c
UNLIKE_PAGES, UNLIKE_MEMORY, SHMEM = 1, 2, 4
EVERY_WINDOW = (1 << 63) - 1
_PSS_SHIFT = 12


class PageReader(Protocol):
    """The iterator that reads page tables too."""

    def read(self, pids: Collection[int] | None = None, *, windows: int = EVERY_WINDOW) -> memoryview:
        """As Iterator.read(), with the pages of so many small VMAs; of those that come after, and of large ones, none."""


class WalkedPages(NamedTuple):
    """A row per anonymous page: the VMA it was found in, PFN, folio->mapping, its own index, how many entries map it, its folio, the pages of that.

    VMAs are rows of the graph. `whole` by VMA: all there are of it are here.
    """

    vma: I64
    pfn: I64
    mapping: I64
    pgoff: I64
    mapcount: I64
    folio: I64
    folio_pages: I64
    whole: Bools


class WalkedMemory(NamedTuple):
    """By address space, in bytes as smaps_rollup has them; `known` where it was all read. With `shmem`, only if nothing is swapped out."""

    rss: I64
    pss: I64
    private: I64
    ksm: I64
    known: Bools
    shmem: Bools


class WalkedTables(NamedTuple):
    """Both."""

    pages: WalkedPages
    memory: WalkedMemory


def walked(pages: I64, page_vma: I64, memory: I64, memory_vma: I64, mm: I64) -> WalkedTables:
    """Of rows PAGE and MEMORY, as columns of eight words, and whose they are: rows of VMAs, each VMA once. `mm` is by VMA. O(rows)."""
    unlike, nr = memory[0] >> 32, int(mm.max(initial=-1)) + 1
    whole = np.zeros(len(mm), np.bool_)
    whole[memory_vma] = unlike & UNLIKE_PAGES == 0
    kept = whole[page_vma]
    if not kept.all():
        pages, page_vma = pages[:, kept], page_vma[kept]
    of_mm = mm[memory_vma]
    present, pss, private, ksm = (_sums(memory[word], of_mm, nr) for word in (1, 2, 3, 4))
    read = np.bincount(of_mm[unlike & UNLIKE_MEMORY == 0], minlength=nr)
    known = read == np.bincount(mm, minlength=nr)
    shmem = np.zeros(nr, np.bool_)
    shmem[of_mm[unlike & SHMEM != 0]] = True
    sums = (present * PAGE_BYTES, pss >> 10 + _PSS_SHIFT << 10, private * PAGE_BYTES, ksm * PAGE_BYTES)
    words = (pages[1], pages[2], pages[3], pages[0] >> 32, pages[4], pages[5])
    return WalkedTables(WalkedPages(page_vma, *words, whole), WalkedMemory(*sums, known, shmem))


def _sums(numbers: I64, group: I64, nr: int) -> I64:
    """By group; exact, as bincount's floats are not."""
    found = np.zeros(nr, np.int64)
    np.add.at(found, group, numbers)
    return found
