"""read(2), write(2) and fsync(2) of a file: bytes go through the page cache, so mappings of the file see them at once.

    read     page by page up to the file's end; what is not in the cache is read into it. A hole of a file that lives in memory stays one
    write    into the page, which is newer than the file then (PG_dirty); the file grows
    fsync    pages that are newer go to the store. Since 2.6.19 their entries become read-only and clean first, so that the next write is
             noticed; before, what only a dirty bit of an entry tells is not written

Copies go to and from the host's memory, not a task's. No readahead, no i_sem, and a disk that takes no time.

Source: 2.6.2 mm/filemap.c, do_generic_mapping_read, generic_file_aio_write_nolock, filemap_fdatawrite; 6.18 mm/page-writeback.c,
folio_clear_dirty_for_io; files.md B7, C3.
"""

import numpy as np

from rmaplab.errors import DiskError, NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import PG_DIRTY
from rmaplab.mm.filemap import find_or_read, reserve_nodes
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.rmap.queries import mkclean
from rmaplab.units import PAGE_SIZE

LONGEST = (1 << 63) - 1
"""Of what an offset or a size can be: loff_t."""
LAST = (1 << 52) - 1
"""No file has a page behind it."""


def file_read(k: Kernel, file: AddressSpace, start: int, length: int) -> bytes:
    """At most `length` bytes from `start` on; less where the file ends, or behind the first page cannot be read. Raises as an allocation; DiskError."""
    parts: list[bytes] = []
    end = min(start + length, file.size)
    while start < end:
        index, offset = divmod(start, PAGE_SIZE)
        if file.is_hole(index):
            parts.append(bytes(min(PAGE_SIZE - offset, end - start)))
            start += len(parts[-1])
            continue
        try:
            page = find_or_read(k, file, index, ahead=k.rules.reads_ahead)
        except DiskError:
            if not parts:
                raise
            break
        if page < 0:  # somebody has cut the file
            break
        parts.append(k.machine.ram.bytes[page, offset : min(PAGE_SIZE, offset + end - start)].tobytes())
        start += len(parts[-1])
        k.machine.charge("file_read")
        put_page(k, page)
    k.machine.end_burst()
    return b"".join(parts)


def file_write(k: Kernel, file: AddressSpace, start: int, data: bytes) -> int:
    """Bytes written: less than all where memory is short behind the first page, or one cannot be read. Raises as an allocation, and DiskError, with nothing written."""
    done = 0
    data = data[: max(max_bytes(k, on_disk=file.on_disk) - start, 0)]
    while done < len(data):
        index, offset = divmod(start + done, PAGE_SIZE)
        try:
            page = _find_or_create(k, file, index)
        except (NoMemory, DiskError):
            if not done:
                raise
            break
        part = data[done : done + PAGE_SIZE - offset]
        extend(k, file, max(file.size, start + done + len(part)))
        k.machine.ram.bytes[page, offset : offset + len(part)] = np.frombuffer(part, np.uint8)
        k.machine.frames.scribbled[page] = 1
        k.machine.frames.flags[page] |= np.uint32(PG_DIRTY)
        k.machine.charge("file_write")
        put_page(k, page)
        done += len(part)
    k.machine.end_burst()
    return done


def max_bytes(k: Kernel, *, on_disk: bool) -> int:
    """s_maxbytes: no file is longer. On a disk its file system says so, elsewhere the numbers of pages do.

    Source: include/linux/fs.h, MAX_LFS_FILESIZE, of 2.6.2 and 6.18.
    """
    word = k.machine.paging.word_bytes
    countable = LONGEST if word == 8 else (PAGE_SIZE << 31) - 1
    return min(countable, k.rules.disk_file_bytes) if on_disk else countable


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
    """Pages of [first, last] that are newer than the store go there. What lives in the page cache has none.

    Raises DiskError, when all have been tried. What could not be written is lost to the file, and not tried again.
    """
    if not file.on_disk:
        return
    failed: DiskError | None = None
    for index, page in list(k.page_cache.dirty(file, first, last)):
        k.machine.frames.count[page] += 1
        if k.rules.dirty_is_accounted:
            mkclean(k.rmap, np.array([page], np.int64))
        if file.pages.get(index) == page:
            try:
                k.page_cache.write(file, index, page)
            except DiskError as failure:
                failed = failure
            k.machine.charge("file_writepage")
        put_page(k, page)
    k.machine.end_burst()
    if failed is not None:
        raise failed


def _find_or_create(k: Kernel, file: AddressSpace, index: int) -> int:
    """grab_cache_page, prepare_write: the page, with one more reference; behind the file's end a new one."""
    page = find_or_read(k, file, index)
    while page < 0:
        new = k.machine.allocator.alloc(1, Gfp.HIGHUSER, zeroed=True)
        nodes = reserve_nodes(k, file, np.array([index], np.int64), new)
        page = k.page_cache.find_get_page(file, index)
        if page >= 0:
            k.machine.allocator.free(new)
            k.page_cache.give_back(nodes)
        else:
            page = int(new[0])
            k.page_cache.read(file, index, page)
            k.page_cache.add(file, index, page, nodes)
    return page
