"""Memory cut into windows of 512 pages, and what stands in the page tables there: all of them, or those that somebody has drawn.

    VMAs --cut--> windows --choose--> some --pagemap--> the window and the PFN of every present entry

A large VMA may be mostly holes: only windows in which something is populated are windows (PAGEMAP_SCAN, Linux 6.7; before, all).
Time: 10 us a process, 5 us a stretch of windows that lie close together, 20 ns an entry.
"""

import os
from typing import NamedTuple

import numpy as np

from rmaplab.host import procfs
from rmaplab.host.pagemap import PM_PFN, PM_PRESENT, Pagemap
from rmaplab.machine.arrays import I64, U64, ascending_order, distinct
from rmaplab.objects.graph import Graph

PAGES = 512
LARGE = 1 << 12
"""A VMA of so many pages, 16 MiB, is asked where it is populated."""
_BRIDGE = PAGES  # so many pages between two windows are read along: cheaper than another read
_BUFFER = 1 << 20


class Windows(NamedTuple):
    """A row per window: its VMA (a row of the graph) and its address space, the first page number and how many pages."""

    vma: I64
    mm: I64
    first: I64
    pages: I64

    def at(self, rows: I64) -> "Windows":
        """Some of them."""
        return Windows(*(column[rows] for column in self))


class WindowEntries(NamedTuple):
    """A row per present entry: the window it stands in, and the PFN."""

    window: I64
    pfn: I64


def cut(graph: Graph, vmas: I64, pid_of: I64) -> Windows:
    """The windows of these VMAs, by address space and address. O(VMAs + windows)."""
    first, pages = graph.vmas.start[vmas] >> 12, graph.vmas.nr_pages[vmas]
    nr = -(-pages // PAGES)
    owner = np.repeat(np.arange(len(vmas)), nr)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(nr) - nr, nr)
    kept = np.ones(len(owner), np.bool_)
    ends = np.cumsum(nr)
    for i in np.flatnonzero(pages >= LARGE).tolist():
        begin = int(ends[i] - nr[i])
        populated = _populated(int(pid_of[graph.vmas.mm[vmas[i]]]), int(first[i]), int(pages[i]))
        if populated is not None:
            kept[begin : int(ends[i])] = False
            kept[begin + populated] = True
    owner, nth = owner[kept], nth[kept]
    at = first[owner] + nth * PAGES
    found = Windows(vmas[owner], graph.vmas.mm[vmas[owner]], at, np.minimum(pages[owner] - nth * PAGES, PAGES))
    return found.at(ascending_order(at, found.mm))


def _populated(pid: int, first: int, pages: int) -> I64 | None:
    """Which windows of a VMA have something in them; None where the kernel does not say."""
    try:
        with Pagemap(pid) as pagemap:
            regions = pagemap.regions(first << 12, first + pages << 12)[:, :2].astype(np.int64)
    except OSError:
        return None
    low, high = ((regions >> 12) - first).T
    low, high = low // PAGES, (high - 1) // PAGES
    nr = high - low + 1
    return distinct(np.repeat(low - np.cumsum(nr) + nr, nr) + np.arange(int(nr.sum())))


def read(windows: Windows, pid_of: I64) -> WindowEntries:
    """What is present in these windows, given by address space and address; nothing of a process that has ended."""
    new = np.ones(len(windows.mm), np.bool_)
    end = windows.first + windows.pages
    new[1:] = (windows.mm[1:] != windows.mm[:-1]) | (windows.first[1:] - end[:-1] > _BRIDGE)
    head = np.flatnonzero(new)
    tail = np.append(head[1:], len(new)) - 1
    stretches = zip(
        head.tolist(),
        windows.mm[head].tolist(),
        windows.first[head].tolist(),
        end[tail[: len(head)]].tolist(),
        strict=True,
    )
    words, view = _buffer()
    found: list[WindowEntries] = []
    pending: list[tuple[int, int, int, int]] = []  # (first window, mm, page number, U64 read)
    filled, last, fd = 0, -1, -1
    try:
        for row, mm, begin, high in stretches:
            low = begin
            if mm != last:
                fd, last = _reopen(fd, int(pid_of[mm])), mm
            while low < high and fd >= 0:
                now = min(high - low, _BUFFER - filled)
                try:
                    got = os.preadv(fd, [view[filled * 8 : (filled + now) * 8]], low * 8) // 8
                except OSError:
                    break
                pending.append((row, mm, low, got))
                filled, low = filled + got, low + got
                if filled == _BUFFER:
                    found.append(_sort_out(windows, pending, words[:filled]))
                    pending, filled = [], 0
                if got < now:
                    break
    finally:
        if fd >= 0:
            os.close(fd)
    found.append(_sort_out(windows, pending, words[:filled]))
    return WindowEntries(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _buffer() -> tuple[U64, memoryview]:
    words = np.empty(_BUFFER, np.uint64)
    return words, words.view(np.uint8).data


def _reopen(fd: int, pid: int) -> int:
    """The next process's pagemap; -1 if it has ended, or is not ours."""
    if fd >= 0:
        os.close(fd)
    try:
        return procfs.open_proc(f"{pid}/pagemap")
    except OSError:
        return -1


def _sort_out(windows: Windows, reads: list[tuple[int, int, int, int]], words: U64) -> WindowEntries:
    """The present entries among what was read, each in its window; those between windows are dropped. O(n log windows)."""
    present = np.flatnonzero(words >= np.uint64(PM_PRESENT))
    table = np.array(reads, np.int64).reshape(-1, 4)
    ends = np.cumsum(table[:, 3])
    which = np.searchsorted(ends, present, side="right")
    page = table[which, 2] + present - (ends - table[:, 3])[which]
    key = windows.mm << 45 | windows.first  # user addresses have at most 57 bits
    window = np.searchsorted(key, table[which, 1] << 45 | page, side="right") - 1
    inside = page < (windows.first + windows.pages)[window]
    pfn = (words[present] & np.uint64(PM_PFN)).astype(np.int64)
    return WindowEntries(window[inside], pfn[inside])
