"""read(2), write(2) and fsync(2) of a file: bytes go through the page cache, so mappings of the file see them at once.

    read     page by page up to the file's end; what is not in the cache is read into it. A hole of a file that lives in memory stays one
    write    into the page, which is newer than the file then (PG_dirty); the file grows. Who has made much dirty may have to wait (cache/page_cache.py, DirtyInodes)
    fsync    pages that are newer go to the store. Since 2.6.19 their entries become read-only and clean first, so that the next write is
             noticed; before, what only a dirty bit of an entry tells is not written

Copies go to and from the host's memory, not a task's. No i_sem. What is read ahead says mm/readahead.py; who needs a page of a disk, or syncs, waits for it.

Source: 2.6.2 mm/filemap.c, do_generic_mapping_read, generic_file_aio_write_nolock, filemap_fdatawrite; 6.18 mm/page-writeback.c,
folio_clear_dirty_for_io; files.md B7, C3.
"""

from collections.abc import Callable

import numpy as np

from rmaplab.errors import DiskError, NoMemory, SyscallError
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import (
    BH_DIRTY,
    PG_DIRTY,
    PG_ERROR,
    PG_LOCKED,
    PG_NOT_UPTODATE,
    PG_REFERENCED,
    PG_WRITEBACK,
)
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import find_or_read, room_for, wait_on_page
from rmaplab.mm.readahead import reader
from rmaplab.mm.shmem_page import charge_growth, put_room, uncharge_size
from rmaplab.mm.shmem_swap import bring_back, recalc_inode
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.mm_types import AddressSpace, File
from rmaplab.objects.seals import refuse_growth_to, refuse_writing
from rmaplab.objects.shmem import SwapVector
from rmaplab.rmap.queries import mkclean
from rmaplab.units import PAGE_SIZE

LONGEST = (1 << 63) - 1
"""Of what an offset or a size can be: loff_t."""
LAST = (1 << 52) - 1
"""No file has a page behind it."""
BUSY = PG_WRITEBACK | PG_LOCKED
"""The disk has the page, or its buffers."""


def file_read(k: Kernel, opened: File, start: int, length: int) -> bytes:
    """At most `length` bytes from `start` on; less where the file ends, or behind the first page cannot be read. Raises as an allocation; DiskError."""
    file, parts = opened.mapping, list[bytes]()
    end, ahead = min(start + length, file.size), reader(k, opened, start, length)
    left = length
    while start < end:
        index, offset = divmod(start, PAGE_SIZE)
        if file.is_hole(index) or _is_unused(k, file, index):
            parts.append(bytes(min(PAGE_SIZE - offset, end - start)))
            start += len(parts[-1])
            left -= len(parts[-1])
            continue
        try:
            page = ahead.page(index, start, left)
        except DiskError:
            if not parts:
                raise
            break
        if page < 0:  # somebody has cut the file
            break
        if file.on_lru and (not offset or _is_first(k, opened)):
            k.lru_add.mark_accessed(page)
        parts.append(k.machine.ram.bytes[page, offset : min(PAGE_SIZE, offset + end - start)].tobytes())
        start += len(parts[-1])
        left -= len(parts[-1])
        k.machine.charge("file_read")
        put_page(k, page)
    if parts:
        ahead.done(start)
    k.machine.end_burst()
    return b"".join(parts)


def _is_first(k: Kernel, opened: File) -> bool:
    """f_reada: whether the open file has not been read yet, where a page is used then wherever in it that begins."""
    return k.rules.first_read_is_access and opened.ra.position < 0


def _is_unused(k: Kernel, file: AddressSpace, index: int) -> bool:
    """Whether the page has been allocated by fallocate, and nobody has asked for it yet: read(2) does not either."""
    if file.shmem is None or index in file.store:
        return False
    page = file.pages.find(index)
    return page >= 0 and bool(k.machine.frames.flags[page] & PG_NOT_UPTODATE)


def file_write(k: Kernel, file: AddressSpace, start: int, data: bytes) -> int:
    """Bytes written: less than all where memory is short behind the first page, or one cannot be read, or is sealed.

    Raises as an allocation, SyscallError (ENOMEM, EPERM) and DiskError, with nothing written. May wait for the disk (balance_dirty_pages).
    """
    writer = k.current
    if writer is None or not file.on_disk:
        return _file_write(k, file, start, data)
    writer.writes_to_disk = True
    try:
        return _file_write(k, file, start, data)
    finally:
        writer.writes_to_disk = False


def _file_write(k: Kernel, file: AddressSpace, start: int, data: bytes) -> int:
    """The same, whoever writes."""
    done = 0
    data = data[: max(max_bytes(k, on_disk=file.on_disk) - start, 0)]
    end = max(start + len(data), file.size) if data else file.size
    charge_growth(k, file, end, "write")
    while done < len(data):
        index, offset = divmod(start + done, PAGE_SIZE)
        part = data[done : done + PAGE_SIZE - offset]
        try:
            refuse_writing(file, "write")
            refuse_growth_to(file, start + done + len(part), "write")
            page = _find_or_create(k, file, index, whole=len(part) == PAGE_SIZE)
        except (NoMemory, DiskError, SyscallError):
            if not done:
                uncharge_size(k, file, end)
                raise
            break
        extend(k, file, max(file.size, start + done + len(part)))
        k.machine.ram.bytes[page, offset : offset + len(part)] = np.frombuffer(part, np.uint8)
        k.machine.wrote(page)
        _is_written(k, file, page)
        put_page(k, page)
        done += len(part)
        if file.on_disk and k.page_cache.writeback is not None:
            _is_dirtied(k, file)
    uncharge_size(k, file, end)
    k.machine.end_burst()
    return done


def _is_written(k: Kernel, file: AddressSpace, page: int) -> None:
    """commit_write: newer than its store, and used."""
    in_buffers = file.on_disk and k.rules.write_dirties_buffers
    k.machine.frames.flags[page] |= np.uint32(BH_DIRTY if in_buffers else PG_DIRTY)
    k.machine.charge("file_write")
    if not file.on_lru:
        return
    if k.rules.write_is_access:
        k.lru_add.mark_accessed(page)
    else:
        k.machine.frames.flags[page] |= np.uint32(PG_REFERENCED)


def _is_dirtied(k: Kernel, file: AddressSpace) -> None:
    """set_page_dirty, and balance_dirty_pages_ratelimited: with one page more, the writer may have to write some, and to wait."""
    assert k.page_cache.writeback is not None
    k.page_cache.writeback.mark_inode_dirty(file)
    k.page_cache.writeback.balance_dirty_pages_ratelimited()


def max_bytes(k: Kernel, *, on_disk: bool) -> int:
    """s_maxbytes: no file is longer. On a disk its file system says so, elsewhere the numbers of pages do, and places in a swap vector.

    Source: include/linux/fs.h, MAX_LFS_FILESIZE, of 2.6.2 and 6.18; 2.6.2 mm/shmem.c, SHMEM_MAX_BYTES.
    """
    word = k.machine.paging.word_bytes
    countable = LONGEST if word == 8 else (PAGE_SIZE << 31) - 1
    if on_disk:
        return min(countable, k.rules.disk_file_bytes)
    return min(countable, SwapVector(PAGE_SIZE // word).most * PAGE_SIZE) if k.rules.swap_vector else countable


def extend(k: Kernel, file: AddressSpace, size: int) -> None:
    """The file is `size` bytes long, no less than it was: zeros from its old end on, but for what a mapping has left there, on old kernels."""
    index, offset = divmod(file.size, PAGE_SIZE)
    if (
        size > file.size
        and file.on_disk
        and k.rules.extending_zeroes_tail
        and (page := file.pages.get(index)) is not None
    ):
        k.machine.ram.bytes[page, offset:] = 0
    file.size = size


def write_out(k: Kernel, file: AddressSpace, first: int, last: int) -> None:
    """Pages of [first, last] that are newer than the store go there, each run of neighbours in one go, and so do those that others write. May sleep.

    What lives in the page cache has no store. Raises DiskError, when all have been tried. What could not be written is lost to the file, and not tried again.
    """
    if not file.on_disk:
        return
    flags, failed, run = k.machine.frames.flags, None, _Batched(k, file)
    under_way = np.empty(0, np.int64) if k.rules.write_error_is_the_files else _hold_under_way(k, file)
    while any(flags[page] & BUSY for _, page in k.page_cache.dirty(file, first, last)):
        k.page_cache.wait_for_writes(file)
    for index, page in list(k.page_cache.dirty(file, first, last)):
        k.machine.frames.count[page] += 1
        if k.rules.dirty_is_accounted:
            mkclean(k.rmap, np.array([page], np.int64))
        if file.pages.get(index) == page:
            in_buffers = not flags[page] & PG_DIRTY
            try:
                k.page_cache.write(file, index, page)
            except DiskError as failure:
                failed = failure
            k.machine.charge("file_writepage")
            run.add(index, page, in_buffers=in_buffers)
        put_page(k, page)
    run.submit()
    k.machine.end_burst()
    k.page_cache.wait_for_writes(file)
    if file.write_failed or (flags[under_way] & PG_ERROR).any():  # of what reclaim has written
        file.write_failed = False
        failed = failed or DiskError("a page could not be written")
    for page in under_way.tolist():
        put_page(k, page)
    if failed is not None:
        raise failed


def _hold_under_way(k: Kernel, file: AddressSpace) -> I64:
    """Pages of a file that the disk has now, with one more reference each: fsync looks at them when it has them no more."""
    _, found = file.pages.within(0, LAST)
    pages: I64 = found[k.machine.frames.flags[found] & BUSY != 0]
    k.machine.frames.count[pages] += 1
    return pages


class _Batched:
    """Neighbours that are to be written in one go. Until they are reclaim leaves them where they are, where it could take them."""

    def __init__(self, k: Kernel, file: AddressSpace) -> None:
        self._k, self._file = k, file
        self._first, self._pages, self._in_buffers = 0, list[int](), False

    def add(self, index: int, page: int, *, in_buffers: bool) -> None:
        """One more; if it lies elsewhere, or is dirty otherwise, those before are on their way."""
        if self._pages and (index != self._first + len(self._pages) or in_buffers != self._in_buffers):
            self.submit()
        if not self._pages:
            self._first, self._in_buffers = index, in_buffers
        self._pages.append(page)

    def submit(self) -> None:
        """All are on their way: locked, or under writeback, or nobody asks."""
        if not self._pages:
            return
        k, pages = self._k, np.array(self._pages, np.int64)
        finish: Callable[[I64], None] = _nothing
        self._pages = []
        if k.rules.writepage_keeps_lock:
            k.page_cache.start_laundering(self._file, self._first, pages, finish, in_buffers=self._in_buffers)
            return
        if k.lru_add.has_files:
            k.machine.frames.flags[pages] |= np.uint32(PG_WRITEBACK)
            finish = k.lru_add.end_page_writeback
        k.page_cache.start_writing(self._file, self._first, pages, finish)


def _nothing(_: I64) -> None:
    """What has been written needs no more."""


def _find_or_create(k: Kernel, file: AddressSpace, index: int, *, whole: bool) -> int:
    """grab_cache_page, prepare_write: the page, with one more reference; behind the file's end a new one. One that will be overwritten `whole` is not read."""
    page = -1 if whole else _find_unlocked(k, file, index)
    while page < 0:
        page = k.page_cache.find_get_page(file, index)
        if page >= 0:
            wait_on_page(k, page)
            if file.pages.get(index) == page:
                if file.shmem is not None and k.machine.frames.flags[page] & PG_NOT_UPTODATE:  # fallocate's
                    k.page_cache.read(file, index, page)
                break
            put_page(k, page)  # truncated meanwhile
            page = -1
            continue
        if bring_back(k, file, index):
            continue
        recalc_inode(k, file)
        wanted = np.array([index], np.int64)
        new, nodes = room_for(k, file, wanted, extends=True, zeroed=True)
        if index in file.pages or index in file.slots:
            put_room(k, file, wanted, new)
            k.page_cache.give_back(nodes)
        else:
            page = int(new[0])
            k.page_cache.add(file, index, page, nodes)
            k.lru_add.list_new(k.this_cpu(), file, new)
    k.machine.frames.flags[page] &= ~np.uint32(PG_NOT_UPTODATE)
    return page


def _find_unlocked(k: Kernel, file: AddressSpace, index: int) -> int:
    """find_or_read, and the page is not being written either, where that locks it."""
    while True:
        page = find_or_read(k, file, index, waits=False)
        if page < 0 or not k.page_cache.is_locked(page):
            return page
        wait_on_page(k, page)
        if file.pages.get(index) == page:
            return page
        put_page(k, page)  # truncated meanwhile
