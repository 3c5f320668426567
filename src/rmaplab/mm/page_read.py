"""Pages of a file come into the cache: one that somebody wants, or a window of them that somebody may want.

    read_window      what is not there of a stretch is added and on its way from the disk; nobody waits, and nobody hears of errors
    find_or_read     one page: added if it is not there, waited for if it is on its way, read (again) if it is not uptodate

Source: 2.6.2 mm/readahead.c, __do_page_cache_readahead; mm/filemap.c, page_cache_read, lock_page; 6.18 mm/readahead.c, page_cache_ra_unbounded;
mm/filemap.c, filemap_update_page.
"""

import numpy as np

from rmaplab.errors import DiskError, NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_NOT_UPTODATE, PG_READAHEAD
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_page import get_room, put_room
from rmaplab.mm.shmem_swap import bring_back, recalc_inode
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.mm_types import AddressSpace


def find_or_read(k: Kernel, file: AddressSpace, index: int, again: int = 1, *, waits: bool = True) -> int:
    """The page, uptodate, with one more reference; -1 beyond the end. What is not uptodate when it is unlocked is read, up to `again` times.

    A new one `waits` in this CPU's pagevec, or the caller has one of his own.
    May sleep. Raises as an allocation, and DiskError; then a page that could not be read stays in the cache, and is tried again by whoever comes.
    """
    flags, left = k.machine.frames.flags, again
    while True:
        page = find_or_add(k, file, index, waits=waits)
        if page < 0 or not flags[page] & PG_NOT_UPTODATE:
            return page
        wait_on_page(k, page)
        while flags[page] & PG_NOT_UPTODATE and left and file.pages.get(index) == page:
            left -= 1
            k.page_cache.start_reading(file, np.array([index], np.int64), np.array([page], np.int64))
            wait_on_page(k, page)
        if file.pages.get(index) == page:
            break
        put_page(k, page)  # truncated meanwhile
    if flags[page] & PG_NOT_UPTODATE:
        put_page(k, page)
        raise DiskError(f"page {index} cannot be read")
    return page


def wait_on_page(k: Kernel, page: int) -> None:
    """wait_on_page_locked: it is not being read any more. May sleep, with the time that is due passed before."""
    if k.page_cache.is_locked(page):
        k.machine.end_burst()
        k.page_cache.wait_for(page)


def find_or_add(k: Kernel, file: AddressSpace, index: int, *, waits: bool = True) -> int:
    """find_get_page, add_to_page_cache: the page, with one more reference; a new one is not uptodate. -1 beyond the end. Raises as an allocation.

    `waits` as find_or_read.
    """
    cache = k.page_cache
    while True:
        if index >= file.nr_pages:
            return -1
        page = cache.find_get_page(file, index)
        if page >= 0:
            return page
        if not bring_back(k, file, index):
            break
    recalc_inode(k, file)
    wanted = np.array([index], np.int64)
    new, nodes = room_for(k, file, wanted)
    page = cache.find_get_page(file, index)  # whoever slept looks again
    if page >= 0 or index >= file.nr_pages or index in file.slots:
        put_room(k, file, wanted, new)
        cache.give_back(nodes)
        return page if index not in file.slots else find_or_add(k, file, index, waits=waits)
    cache.add(file, index, int(new[0]), nodes)
    k.machine.frames.flags[new] |= np.uint32(PG_NOT_UPTODATE)
    k.lru_add.list_new(k.this_cpu(), file, new, alone=waits)
    return int(new[0])


def page_cache_read(k: Kernel, file: AddressSpace, index: int) -> None:
    """One page, for a fault: it is on its way, if it is not there. May sleep for memory. Raises as an allocation."""
    page = find_or_add(k, file, index)
    if page < 0:
        return
    if k.machine.frames.flags[page] & PG_NOT_UPTODATE and not k.page_cache.is_locked(page):
        k.page_cache.start_reading(file, np.array((index,), np.int64), np.array((page,), np.int64))
    put_page(k, page)


def room_for(
    k: Kernel, file: AddressSpace, indexes: I64, *, extends: bool = False, zeroed: bool = False
) -> tuple[I64, I64]:
    """(New pages, nodes of the index) for these, ascending. May sleep. Raises as an allocation, and NoSpace, with neither; see put_room."""
    if file.shmem is not None:
        return get_room(k, file, indexes, extends=extends, zeroed=zeroed)
    pages = k.machine.allocator.alloc(indexes.size, Gfp.HIGHUSER, zeroed=zeroed)
    try:
        return pages, k.page_cache.reserve(file, indexes)
    except NoMemory:
        k.machine.allocator.free(pages)
        raise


def absent(file: AddressSpace, first: int, last: int) -> I64:
    """Those of [first, last) that the cache does not have, and swap neither."""
    indexes = first + np.flatnonzero(file.pages.range(first, max(first, last)) < 0)
    return (
        np.array([index for index in indexes.tolist() if index not in file.slots], np.int64) if file.slots else indexes
    )


def read_window(k: Kernel, file: AddressSpace, first: int, nr: int, mark: int = -1) -> int:
    """do_page_cache_readahead: what is not in the cache of [first, first + nr), up to the file's end, is on its way. How many pages that are.

    `mark`: if that page is a new one, whoever comes to it reads ahead (PG_readahead). Where memory ends, it ends, and nobody is told. May sleep for memory.
    """
    wanted, done = absent(file, first, min(first + nr, file.nr_pages)), 0
    one_by_one = k.machine.allocator.fail_after is not None or k.machine.watched
    for piece in np.split(wanted, wanted.size) if one_by_one and wanted.size else [wanted]:
        try:
            new, pfns = add_new(k, file, piece)
        except NoMemory:
            break
        k.machine.frames.flags[pfns[new == mark]] |= np.uint32(PG_READAHEAD)
        k.page_cache.start_reading(file, new, pfns)
        done += new.size
    return done


def add_new(k: Kernel, file: AddressSpace, wanted: I64, *, extends: bool = False) -> tuple[I64, I64]:
    """(indexes, PFNs) of those of these pages, ascending, that are new in the cache, with its reference alone. `extends`: the file's end is no matter.

    May sleep. Raises as an allocation, and NoSpace, with none added.
    """
    if not wanted.size:
        return wanted, wanted
    recalc_inode(k, file)
    pages, nodes = room_for(k, file, wanted, extends=extends)
    first, last = int(wanted[0]), int(wanted[-1]) + 1
    last = last if extends else min(last, file.nr_pages)
    new = np.intersect1d(wanted, absent(file, first, last), assume_unique=True)  # whoever slept looks again
    put_room(k, file, np.setdiff1d(wanted, new, assume_unique=True), pages[new.size :])
    pages = pages[: new.size]
    if new.size:
        k.page_cache.add_many(file, new, pages, nodes)
        k.machine.frames.count[pages] -= 1
        k.lru_add.list_new(k.this_cpu(), file, pages)
    else:
        k.page_cache.give_back(nodes)
    return new, pages
