"""What 2.4's shrink_cache does with pages that it has come to: it writes, frees and waits, in swap and in files.

    dirty, in swap       swap_writepage     PG_locked, PG_launder .......................... written: unlocked, where it is on the list
    dirty, of a file     writepage          the same; behind the file's end nothing is written, and of a last page that is a part of one its buffers become dirty
    buffers are dirty    sync_page_buffers  PG_writeback, unlocked ......................... written: they can be released

write(2) makes buffers dirty and not the page, so such a page is met three times: passed by, then written, whoever maps it, then waited for, and free at
once if nobody maps it. What a mapping has written is dirty as a page, once its entry has gone: it is met twice, and waited for at the second time if need be.

An error of the disk leaves a page clean, with PG_error: it is free the next time, and its bytes are lost. fsync hears of it if the disk has the page when it comes.

Left out: bdflush and kupdate, which write what has been dirty for long, or when too much is dirty; buffer heads, which take memory, and go when nobody needs them: what has clean ones is as if it had
none.

Source: 2.4.27 mm/vmscan.c, shrink_cache; fs/buffer.c, __block_write_full_page, block_write_full_page, sync_page_buffers, try_to_free_buffers, end_buffer_io_async; mm/swap_state.c,
swap_writepage; reclaim.md C.3, C.6.
"""

from collections.abc import Callable

import numpy as np

from rmaplab.errors import DiskError
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import (
    BH_DIRTY,
    PG_DIRTY,
    PG_ERROR,
    PG_LAUNDER,
    PG_LOCKED,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
)
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_swap import shmem_writepage
from rmaplab.mm.swap_in import free_cached, put_page
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.reclaim.shrink_file import FilePages, runs
from rmaplab.units import PAGE_SIZE


class Launder:
    """Of one kernel. A holder: it refers to the pages that somebody waits for in shrink_cache."""

    def __init__(self, k: Kernel) -> None:
        self.k = k
        self._files = FilePages(k)
        self._awaited: list[int] = []
        k.holders.append(self)

    def references(self) -> I64:
        """The pages that somebody waits for."""
        return np.array(self._awaited, np.int64)

    def write(self, pages: I64) -> None:
        """Pages that have their flags already (one_list.py) are on their way, in order. O(pages)."""
        if not pages.size:
            return
        flags = self.k.machine.frames.flags[pages]
        kind = np.where(flags & PG_SWAPCACHE != 0, 0, np.where(flags & PG_LOCKED != 0, 1, 2))
        how: tuple[Callable[[I64], None], ...] = (self._write_swap, self._write_files, self._write_buffers)
        for turn in np.split(np.arange(pages.size), np.flatnonzero(np.diff(kind)) + 1):
            how[kind[turn[0]]](pages[turn])

    def _write_swap(self, pages: I64) -> None:
        """swap_writepage. Whose slot nobody names any more is not written, but goes, and nobody counts it."""
        k, frames = self.k, self.k.machine.frames
        alone = k.swap.users[frames.private[pages]] == 1
        frames.flags[pages[alone]] &= ~np.uint32(PG_LOCKED | PG_LAUNDER)
        frames.flags[pages[alone]] |= np.uint32(PG_DIRTY)
        free_cached(k, pages[alone])
        k.machine.charge("pswpout", int((~alone).sum()))
        k.swap.start_laundering(pages[~alone], self._end_buffer_io)

    def _end_buffer_io(self, pages: I64) -> None:
        """unlock_page. They stay where they are on their list."""
        self.k.machine.frames.flags[pages] &= ~np.uint32(PG_LAUNDER)

    def _write_files(self, pages: I64) -> None:
        """block_write_full_page of each."""
        self._submit(pages, self._writepage, in_buffers=False)

    def _write_buffers(self, pages: I64) -> None:
        """sync_page_buffers, the second time."""
        self._submit(pages, self._write_to_store, in_buffers=True)

    def _submit(self, pages: I64, write: Callable[[AddressSpace, int, int], bool], *, in_buffers: bool) -> None:
        """What `write` says the disk has to do with goes there; neighbours that lie side by side in one request."""
        for file, first, some in self._files.stretches(pages):
            if file.shmem is not None:
                self._move_to_swap(file, first, some)
                continue
            going = [write(file, first + i, pfn) for i, pfn in enumerate(some.tolist())]
            for start, stop in runs(np.array(going, np.bool_)):
                self.k.page_cache.start_laundering(
                    file, first + start, some[start:stop], _nothing, in_buffers=in_buffers
                )

    def _move_to_swap(self, file: AddressSpace, first: int, pages: I64) -> None:
        """shmem_writepage: the swap cache has those that got a slot, dirty; the others are active and used, and dirty again (fail_writepage). None is under way."""
        k, flags = self.k, self.k.machine.frames.flags
        moved = shmem_writepage(k, file, first, pages)
        flags[pages] &= ~np.uint32(PG_LOCKED | PG_LAUNDER)
        k.machine.allocator.lru.activate(pages[moved:])
        flags[pages[moved:]] |= np.uint32(PG_REFERENCED)

    def _writepage(self, file: AddressSpace, index: int, pfn: int) -> bool:
        """Whether its bytes are on their way; else it is unlocked, and what lies behind the file's end is clean."""
        is_part = index == file.nr_pages - 1 and file.size % PAGE_SIZE
        if not is_part and self._write_to_store(file, index, pfn):
            return True
        flags = self.k.machine.frames.flags
        flags[pfn] = flags[pfn] & ~np.uint32(PG_LOCKED | PG_LAUNDER) | np.uint32(BH_DIRTY if is_part else 0)
        return False

    def _write_to_store(self, file: AddressSpace, index: int, pfn: int) -> bool:
        """Its bytes, to where they are read from: whether the disk has to do with it. An error is the page's."""
        if index >= file.nr_pages:
            self.k.machine.frames.flags[pfn] &= ~np.uint32(PG_WRITEBACK)
            return False
        self.k.machine.charge("file_writepage")
        try:
            self.k.page_cache.write(file, index, pfn)
        except DiskError:
            self.k.machine.frames.flags[pfn] |= np.uint32(PG_ERROR)
        return True

    def free(self, pages: I64) -> None:
        """Only a cache has had them, and swap or the disk has their bytes: they are free. O(pages)."""
        if not pages.size:
            return
        k, frames = self.k, self.k.machine.frames
        swapped = frames.flags[pages] & PG_SWAPCACHE != 0
        if swapped.any():
            k.swap.delete_many(pages[swapped])
        for file, first, some in self._files.stretches(pages[~swapped]):
            k.page_cache.remove_range(file, first, first + some.size - 1)
        k.machine.allocator.free(pages)
        k.machine.charge("page_free", pages.size)
        k.machine.charge("pgsteal", pages.size)

    def wait(self, pfn: int) -> None:
        """wait_on_page, wait_on_buffer: the disk has it, unless it has gone by now. May sleep."""
        k = self.k
        cache = k.swap if k.machine.frames.flags[pfn] & PG_SWAPCACHE else k.page_cache
        k.machine.frames.count[pfn] += 1
        self._awaited.append(pfn)
        try:
            k.machine.charge("wait_on_page")
            cache.wait_for(pfn)
        finally:
            self._awaited.remove(pfn)
            put_page(k, pfn)


def _nothing(_: I64) -> None:
    """Who unlocks them is enough."""
