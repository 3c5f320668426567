"""Readahead of 2.4: it goes on where the last one ended, as long as reads stay near it.

    read                 the window                                     page by page, with that page locked because it is being read, or not
    near the last one    at least 4 pages, twice as long each time      locked: what follows is read too. Not locked, and within what was read last:
    elsewhere            as long as the read itself                     what follows that

A fault reads the block of 8 pages that its page lies in, as far as file and mapping go. MADV_RANDOM: the page alone. MADV_SEQUENTIAL: in the middle of a
window, which begins with the mapping, the next one; its place is counted from the mapping's twice over, so that it fits mappings of a file's beginning.
What such a fault lets go of behind it is not modelled.

Source: 2.4.27 mm/filemap.c, do_generic_file_read, generic_file_readahead, read_cluster_nonblocking, nopage_sequential_readahead, filemap_nopage.
"""

import numpy as np

from rmaplab.machine.frames import PG_NOT_UPTODATE
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import find_or_add, find_or_read, read_window
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.flags import VM_RAND_READ, VM_SEQ_READ
from rmaplab.objects.mm_types import File, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

MIN_READAHEAD = 3
"""vm_min_readahead; the greatest is a page less than what a request may be (vm_max_readahead, 31)."""


class PositionReader:
    """One read(2): do_generic_file_read."""

    def __init__(self, k: Kernel, opened: File, start: int, length: int) -> None:
        self._k, self._file, self._ra = k, opened.mapping, opened.ra
        ra, (index, offset) = self._ra, divmod(start, PAGE_SIZE)
        self._most = max(ra.pages - 1, 0)
        self._near = ra.end - ra.window <= index <= ra.end
        if not self._near:
            ra.end = ra.length = ra.most = ra.window = 0
        if not index and offset + length <= PAGE_SIZE // 2:
            ra.most = 0
        else:
            least = MIN_READAHEAD if self._near else 0
            ra.most = min(max(ra.most, ((offset + length) >> PAGE_SHIFT) + 1, least), self._most)

    def page(self, index: int, _start: int, _left: int) -> int:
        """The page, with one more reference; -1 beyond the end. Raises as an allocation, and DiskError."""
        k, file, flags = self._k, self._file, self._k.machine.frames.flags
        there = index in file.pages
        page = find_or_add(k, file, index)
        if page < 0:
            return page
        if not there:
            k.page_cache.start_reading(file, np.array([index], np.int64), np.array([page], np.int64))
        if there or flags[page] & PG_NOT_UPTODATE:
            self._ahead(index, locked=k.page_cache.is_locked(page))
        again = there or file.pages.get(index) != page
        put_page(k, page)
        return find_or_read(k, file, index, again)

    def _ahead(self, index: int, *, locked: bool) -> None:
        """generic_file_readahead."""
        ra, end, last, most = self._ra, self._ra.end, self._file.size >> PAGE_SHIFT, 0
        if locked:
            if not ra.length or index >= end or index + ra.window < end:
                end = index
                most = ra.most if end < last else 0
                ra.window, ra.length = 0, 1
                if not most:
                    ra.end, ra.window = index + 1, 1
        elif self._near and ra.most and end >= 1 and index <= end <= index + ra.length:
            end -= 1
            if end < last:
                most = ra.most + 1
                ra.window, ra.length = ra.length, 0
        ahead = max(min(most, last - end - 1), 0)
        if ahead:
            read_window(self._k, self._file, end + 1, ahead)
            ra.length += ahead
            ra.window += ra.length
            ra.end = end + ahead + 1
            ra.most = min(2 * ra.most, self._most)

    def done(self, position: int) -> None:
        """The read ends there: the file has been read (f_reada)."""
        self._ra.position = position


def fault(k: Kernel, vma: VmArea, opened: File, index: int) -> int:
    """filemap_nopage: the page, with one more reference; -1 beyond the end. Raises as an allocation, and DiskError."""
    file, block = opened.mapping, k.rules.fault_block_pages
    end = min(file.nr_pages, vma.pgoff + vma.nr_pages)
    if index >= file.nr_pages:
        return -1
    if index not in file.pages:
        first = index if vma.flags & VM_RAND_READ else index & -block
        read_window(k, file, first, 1 if vma.flags & VM_RAND_READ else min(block, end - first))
    page = find_or_read(k, file, index, k.rules.nopage_reads)
    if vma.flags & VM_SEQ_READ and page >= 0:
        _sequential(k, vma, opened, index, end)
    return page


def _sequential(k: Kernel, vma: VmArea, opened: File, index: int, end: int) -> None:
    """nopage_sequential_readahead."""
    block = k.rules.fault_block_pages
    window = (max(opened.ra.pages - 1, 0) + block - 1) & -block
    if not vma.raend:
        vma.raend = vma.pgoff + window
    if index + window // 2 == vma.raend:
        first = (vma.pgoff + vma.raend) & -block
        read_window(k, opened.mapping, first, min(first + window, end) - first)
        vma.raend += window


def hit(opened: File, nr: int) -> None:
    """Faults have found `nr` pages: nobody counts."""


def force(k: Kernel, opened: File, first: int, nr: int) -> None:
    """madvise_willneed: pages [first, first + nr) are on their way."""
    read_window(k, opened.mapping, first, nr)
