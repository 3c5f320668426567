"""Readahead on demand, since 2.6.23, here as 6.18 has it: only a missing page, or a page that is marked, makes the kernel think.

    |<----------- size ------------------->|
    |=================#====================|      # marked (PG_readahead): who comes to it has the next window read
    start             |<-- async_size ---->|

    missing    at the file's start, behind the last byte that was read, or a large read    a window, twice or four times the read
               somewhere else                                                              what is asked for; more, where pages before it are cached
    marked     as expected: the next window, up to twice as long; else one that begins where the cache has no more

A fault: with its page in the middle, the last quarter marked by its first page. MADV_RANDOM, or more than 100 misses in excess of hits: the page alone.
MADV_SEQUENTIAL: as a read of a whole window. VM_EXEC: from the page on, within the VMA.

Pages alone, as on a file system without large folios (ext4 with data=journal); large folios come later.

Source: 6.18 mm/readahead.c, page_cache_sync_ra, page_cache_async_ra, do_page_cache_ra, force_page_cache_ra; mm/filemap.c, filemap_read, filemap_get_pages,
do_sync_mmap_readahead, do_async_mmap_readahead, page_cache_prev_miss, page_cache_next_miss; files.md C2.
"""

import numpy as np

from rmaplab.machine.frames import PG_NOT_UPTODATE, PG_READAHEAD
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import find_or_read, read_window
from rmaplab.objects.flags import VM_EXEC, VM_RAND_READ, VM_SEQ_READ
from rmaplab.objects.mm_types import AddressSpace, File, VmArea
from rmaplab.objects.readahead import ReadaheadState
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

IO_PAGES = 320
"""What a device takes in one request (bdi->io_pages): BLK_DEF_MAX_SECTORS_CAP, 1280 KiB. Source: 6.18 block/blk-settings.c."""
BATCH = 31
"""Pages that filemap_read looks up at once. Source: 6.18 include/linux/pagevec.h, PAGEVEC_SIZE."""
CHUNK = 512
LOTS_OF_MISSES = 100


class DemandReader:
    """One read(2): filemap_read."""

    def __init__(self, k: Kernel, opened: File, _start: int, _length: int) -> None:
        self._k, self._file, self._ra = k, opened.mapping, opened.ra
        self._end = 0  # of the batch

    def page(self, index: int, start: int, left: int) -> int:
        """The page, with one more reference; -1 beyond the end. Raises as an allocation, and DiskError."""
        if index >= self._end and index < self._file.nr_pages:
            self._get_pages(index, -(-(start + left) // PAGE_SIZE))
        return find_or_read(self._k, self._file, index)

    def _get_pages(self, index: int, last: int) -> None:
        """filemap_get_pages: what comes next, up to `last`, and readahead for it."""
        k, file, flags = self._k, self._file, self._k.machine.frames.flags
        nr = self._batch(index, last)
        if not nr:
            sync_ra(k, file, self._ra, index, last - index)
            nr = self._batch(index, last)
        self._end = index + max(nr, 1)
        page = file.pages.get(self._end - 1, -1)
        if page < 0:
            return
        if flags[page] & PG_READAHEAD:
            async_ra(k, file, self._ra, self._end - 1, last - self._end + 1)
        if flags[page] & PG_NOT_UPTODATE and nr > 1:
            self._end -= 1

    def _batch(self, index: int, last: int) -> int:
        """filemap_get_read_batch: how many pages are there, up to one that is not uptodate, or marked."""
        pfns = self._file.pages.range(index, min(last, index + BATCH))
        gaps = np.flatnonzero(pfns < 0)
        pfns = pfns[: gaps[0]] if gaps.size else pfns
        stops = np.flatnonzero(self._k.machine.frames.flags[pfns] & (PG_NOT_UPTODATE | PG_READAHEAD))
        return int(stops[0]) + 1 if stops.size else pfns.size

    def done(self, position: int) -> None:
        """The read ends there."""
        self._ra.position = position


def sync_ra(k: Kernel, file: AddressSpace, ra: ReadaheadState, index: int, wanted: int) -> None:
    """page_cache_sync_ra: page `index` is missing, and so many are wanted."""
    if not ra.pages:
        _force(k, file, ra, index, 1)
        return
    most = _most(ra, wanted)
    if not index or wanted > most or (ra.position >= 0 and 0 <= index - (ra.position >> PAGE_SHIFT) <= 1):
        ra.start, ra.size = index, _first_size(wanted, most)
        ra.async_size = ra.size - wanted if ra.size > wanted else ra.size >> 1
    else:
        miss = _previous_miss(file, index - 1, most)
        before = index - miss - 1
        if before <= wanted:
            _read(k, file, index, wanted, 0)
            return
        ra.start, ra.size, ra.async_size = index, min((2 if miss < 0 else 1) * before + wanted, most), 1
    _go(k, file, ra)


def async_ra(k: Kernel, file: AddressSpace, ra: ReadaheadState, index: int, wanted: int) -> None:
    """page_cache_async_ra: a marked page."""
    if not ra.pages:
        return
    k.machine.frames.flags[file.pages[index]] &= ~np.uint32(PG_READAHEAD)
    most = _most(ra, wanted)
    if index == ra.start + ra.size - ra.async_size:
        ra.start += ra.size
        ra.size = max(ra.size, _next_size(ra.size, most))
    else:
        start = _next_miss(file, index + 1, most)
        if start - index > most:
            return
        ra.start, ra.size = start, _next_size(start - index + wanted, most)
    ra.order += 2
    align = 1 << min(ra.order, (most & -most).bit_length() - 1)
    end = (ra.start + ra.size) & -align
    if end > ra.start:
        ra.size = end - ra.start
    ra.async_size = ra.size
    _go(k, file, ra)


def _go(k: Kernel, file: AddressSpace, ra: ReadaheadState) -> None:
    """page_cache_ra_order, of a mapping without large folios."""
    ra.order = 0
    _read(k, file, ra.start, ra.size, ra.async_size)


def _read(k: Kernel, file: AddressSpace, first: int, nr: int, ahead: int) -> None:
    """do_page_cache_ra: the page behind which `ahead` were not asked for is marked; they are counted from what the file has."""
    last = file.nr_pages - 1
    if first > last:
        return
    if nr > last - first:
        nr = last - first + 1
    read_window(k, file, first, nr, first + nr - ahead if 0 < ahead <= nr else -1)


def _force(k: Kernel, file: AddressSpace, ra: ReadaheadState, first: int, nr: int) -> None:
    """force_page_cache_ra."""
    last = first + min(nr, max(IO_PAGES, ra.pages))
    for at in range(first, last, CHUNK):
        _read(k, file, at, min(CHUNK, last - at), 0)


def _most(ra: ReadaheadState, wanted: int) -> int:
    """ractl_max_pages."""
    return min(wanted, IO_PAGES) if wanted > ra.pages and ra.pages < IO_PAGES else ra.pages


def _first_size(wanted: int, most: int) -> int:
    """get_init_ra_size."""
    size = 1 << (wanted - 1).bit_length()
    if size <= most // 32:
        return size * 4
    return size * 2 if size <= most // 4 else most


def _next_size(size: int, most: int) -> int:
    """get_next_ra_size."""
    if size < most // 16:
        return 4 * size
    return 2 * size if size <= most // 2 else most


def _previous_miss(file: AddressSpace, index: int, most: int) -> int:
    """page_cache_prev_miss: the first page before that is not there; -1 if all are; the last one looked at if that were too many."""
    for at in range(index, index - most, -1):
        if at < 0 or at not in file.pages:
            return at
    return index - most + 1


def _next_miss(file: AddressSpace, index: int, most: int) -> int:
    """page_cache_next_miss: the first page behind that is not there, or one behind what may be looked at."""
    for at in range(index, index + most):
        if at not in file.pages:
            return at
    return index + most


def fault(k: Kernel, vma: VmArea, opened: File, index: int) -> int:
    """filemap_fault: the page, with one more reference; -1 beyond the end. Raises as an allocation, and DiskError."""
    file, ra = opened.mapping, opened.ra
    if index >= file.nr_pages:
        return -1
    page = file.pages.get(index, -1)
    if page < 0:
        _missing(k, vma, file, ra, index)
    elif not vma.flags & VM_RAND_READ and ra.pages:
        if not k.page_cache.is_locked(page):
            hit(opened, 1)
        if k.machine.frames.flags[page] & PG_READAHEAD:
            async_ra(k, file, ra, index, ra.pages)
    return find_or_read(k, file, index, k.rules.nopage_reads)


def _missing(k: Kernel, vma: VmArea, file: AddressSpace, ra: ReadaheadState, index: int) -> None:
    """do_sync_mmap_readahead."""
    if vma.flags & (VM_RAND_READ | VM_EXEC) == VM_RAND_READ or not ra.pages:
        return
    if vma.flags & VM_SEQ_READ:
        sync_ra(k, file, ra, index, ra.pages)
        return
    ra.misses = min(ra.misses + 1, LOTS_OF_MISSES * 10)
    if ra.misses > LOTS_OF_MISSES:
        return
    if vma.flags & VM_EXEC:
        ra.start = index
        ra.size, ra.async_size = min(ra.pages, vma.pgoff + vma.nr_pages - index), 0
    else:
        ra.start, ra.size, ra.async_size = max(0, index - ra.pages // 2), ra.pages, ra.pages // 4
    _go(k, file, ra)


def hit(opened: File, nr: int) -> None:
    """Faults have found `nr` pages."""
    opened.ra.misses = max(0, opened.ra.misses - nr)


def force(k: Kernel, opened: File, first: int, nr: int) -> None:
    """madvise_willneed, POSIX_FADV_WILLNEED: pages [first, first + nr) are on their way, no more than a request of the device takes."""
    _force(k, opened.mapping, opened.ra, first, nr)
