"""Readahead of 2.6: a window that is being read in, and one ahead of it.

      ----|----------------|----------------|----
          start            start + size     ahead_start + ahead_size
          the first page of a file that was never read: half of what is possible; then each page of a window makes the next one 2 longer, each page elsewhere
          2 shorter, until there is none: then only a run of misses, each behind the last, begins it again

2.6.5 reads the window ahead later, and looks at how many pages come one after the other; 2.6.7 relies on that alone (AheadWindow).

A fault that finds its page is a hit. A miss reads around it, unless misses are 100 more than hits: then, and with MADV_RANDOM, the page alone.
MADV_SEQUENTIAL: as read(2). The disk is never too busy for it here (bdi_read_congested).

Source: mm/readahead.c and mm/filemap.c (do_generic_mapping_read, filemap_nopage) of 2.6.2, 2.6.5 and 2.6.7; files.md C2.
"""

from rmaplab.mm.file_rules import AheadWindow, Around
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import find_or_read, page_cache_read, read_window
from rmaplab.objects.flags import VM_RAND_READ, VM_SEQ_READ
from rmaplab.objects.mm_types import AddressSpace, File, VmArea
from rmaplab.objects.readahead import OFF, ReadaheadState

MIN_READAHEAD = 4
"""VM_MIN_READAHEAD: 16 KiB."""
LOTS_OF_MISSES = 100


class WindowsReader:
    """One read(2): do_generic_mapping_read."""

    def __init__(self, k: Kernel, opened: File, _start: int, _length: int) -> None:
        self._k, self._file, self._ra = k, opened.mapping, opened.ra

    def page(self, index: int, _start: int, _left: int) -> int:
        """The page, with one more reference; -1 beyond the end. Raises as an allocation, and DiskError."""
        page_cache_readahead(self._k, self._file, self._ra, index)
        if index < self._file.nr_pages and index not in self._file.pages:
            handle_ra_miss(self._ra, index)
        return find_or_read(self._k, self._file, index)

    def done(self, position: int) -> None:
        """The read ends there: nothing more is remembered."""


def page_cache_readahead(k: Kernel, file: AddressSpace, ra: ReadaheadState, index: int) -> None:
    """Page `index` is about to be read."""
    if (index == ra.previous and ra.next_size) or ra.next_size == OFF or not ra.pages:
        return
    before, order = ra.next_size, k.rules.ahead_window
    if not before:
        ra.next_size = ra.pages // 2
        if order != AheadWindow.AT_ONCE:
            ra.previous = index
            ra.serial += 1
        _begin_window(k, file, ra, index, before)
        return
    if order != AheadWindow.AT_ONCE:
        _count_serial(ra, index, rounds_up=order == AheadWindow.IN_ORDER)
    previous, ra.previous = ra.previous, index
    ra.next_size = min(ra.next_size + (2 if ra.start <= index <= ra.start + ra.size else -2), ra.pages)
    if ra.next_size <= 0:
        ra.next_size, ra.size = OFF, 0
    elif ra.start <= index < ra.start + ra.size:
        if not ra.ahead_start and _is_time(ra, index, order):
            ra.ahead_start, ra.ahead_size = ra.start + ra.size, ra.next_size
            _check_success(ra, read_window(k, file, ra.ahead_start, ra.ahead_size), before)
    elif index == ra.ahead_start:
        ra.start, ra.size, ra.previous = ra.ahead_start, ra.ahead_size, ra.ahead_start
        ra.ahead_start = ra.ahead_size = 0
    else:
        if order == AheadWindow.IN_ORDER:
            ra.next_size = min(ra.average, ra.pages)
        elif ra.start <= previous < ra.start + ra.size:
            ra.next_size = previous - ra.start + (1 if order == AheadWindow.AT_ONCE else 2)
        _begin_window(k, file, ra, index, before)


def _begin_window(k: Kernel, file: AddressSpace, ra: ReadaheadState, index: int, before: int) -> None:
    """do_io: at the beginning, or after a seek."""
    ra.start, ra.size, ra.ahead_start, ra.ahead_size = index, ra.next_size, 0, 0
    nr = read_window(k, file, index, ra.size)
    if before:
        _check_success(ra, nr, before)


def _check_success(ra: ReadaheadState, nr: int, before: int) -> None:
    """check_ra_success: where all was in the cache, the next window is shorter."""
    if nr:
        return
    if before > 1:
        ra.next_size = before - 1
        if ra.ahead_size:
            ra.ahead_size = ra.next_size
    else:
        ra.next_size, ra.size = OFF, 0


def _count_serial(ra: ReadaheadState, index: int, *, rounds_up: bool) -> None:
    """How many pages come one after the other."""
    if index == ra.previous + 1:
        ra.serial += ra.serial <= 2 * ra.pages
    else:
        ra.average = (ra.average + (rounds_up and ra.average < ra.serial) + ra.serial) // 2
        ra.serial = 1


def _is_time(ra: ReadaheadState, index: int, order: AheadWindow) -> bool:
    """Whether the window ahead is read now, with a page of the first one."""
    if order == AheadWindow.AT_ONCE:
        return True
    average, rounds_up = ra.average, order == AheadWindow.IN_ORDER
    if ra.serial > average:
        average = (ra.serial + average + rounds_up) // 2
    if rounds_up:
        return average > ra.pages
    return average >= ra.pages or index == ra.start + ra.size - 1


def handle_ra_miss(ra: ReadaheadState, index: int) -> None:
    """A page that should be there is not: windows get shorter; or there are none, and so many in order begin them again."""
    if ra.next_size != OFF:
        ra.next_size -= 3
        if 0 <= ra.next_size < MIN_READAHEAD:  # below 0 it is a large number to the comparison
            ra.next_size = MIN_READAHEAD
        return
    if index != ra.previous + 1:
        ra.size = max(ra.size - 1, 0)
    else:
        ra.size += 1
        if ra.size >= ra.pages:
            ra.start, ra.next_size, ra.size = index - ra.pages, ra.pages, ra.pages
            ra.ahead_start = ra.ahead_size = 0
    ra.previous = index


def fault(k: Kernel, vma: VmArea, opened: File, index: int) -> int:
    """filemap_nopage: the page, with one more reference; -1 beyond the end. Raises as an allocation, and DiskError."""
    file, ra, around = opened.mapping, opened.ra, False
    if index >= file.nr_pages:
        return -1
    if not vma.flags & VM_RAND_READ:
        if vma.flags & VM_SEQ_READ:
            page_cache_readahead(k, file, ra, index)
        if index not in file.pages:
            if vma.flags & VM_SEQ_READ:
                handle_ra_miss(ra, index)
            else:
                ra.misses += 1
                around = ra.misses <= ra.hits + LOTS_OF_MISSES
    if around:
        _read_around(k, file, ra, index)
    else:
        ra.hits += 1  # a page that is read alone counts too, when it is there
    if index not in file.pages:
        page_cache_read(k, file, index)
    return find_or_read(k, file, index, k.rules.nopage_reads)


def _read_around(k: Kernel, file: AddressSpace, ra: ReadaheadState, index: int) -> None:
    if k.rules.fault_reads_around == Around.BLOCK:
        block = k.rules.fault_block_pages
        read_window(k, file, index & -block, block)
    else:
        read_window(k, file, index, _sane(k, ra.pages))


def _sane(k: Kernel, nr: int) -> int:
    """max_sane_readahead: half of what is free, or inactive."""
    inactive = int(k.machine.allocator.lru.nr[:, 0].sum())
    return min(nr, (k.machine.allocator.nr_free + inactive) // 2)


def hit(opened: File, nr: int) -> None:
    """Faults have found `nr` pages."""
    opened.ra.hits += nr


def force(k: Kernel, opened: File, first: int, nr: int) -> None:
    """madvise_willneed: pages [first, first + nr) are on their way."""
    read_window(k, opened.mapping, first, _sane(k, nr))
