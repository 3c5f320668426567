"""What shrink_list of 2.6.2 to 2.6.7 does with pages of files: a clean one that nobody holds is dropped, a dirty one is written first.

    mapped, dirty   [p] --unmap--> dirty --writepage--> under writeback --written: to the tail of inactive--> clean --> out of the cache, free
    read(2), clean  [q] ---------------------------------------------------------------------------------------------> out of the cache, free
    in memory alone [r] --unmap--> dirty --writepage--> in the swap cache, dirty: from now on as an anonymous page, but that nobody maps it

A page that was used stays only if somebody maps its *file*, wherever; else it is freed if it is clean, whoever reads it all the time. A page is
written alone; neighbours that are met one after the other become one request, as long as that is plugged. What lies behind the end of its
file, which truncate has moved and not come by yet, is not written: it is clean from then on.

An error of the disk is the file's (AS_EIO): the page counts as clean, and fsync says so.

Others write as well: pdflush, and writers who have made too much dirty (writeback.py). Left out: buffers, and so what a file system of those days might refuse.

Source: 2.6.2 and 2.6.7 mm/vmscan.c, shrink_list, page_mapping_inuse, handle_write_error; fs/buffer.c, block_write_full_page; mm/filemap.c,
__remove_from_page_cache; reclaim.md D.3, J.1.
"""

from collections.abc import Iterator

import numpy as np

from rmaplab.errors import DiskError
from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.frames import PG_ANON, PG_DIRTY, PG_RECLAIM, PG_WRITEBACK
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_swap import shmem_writepage
from rmaplab.objects.mm_types import AddressSpace

Stretch = tuple[AddressSpace, int, I64]
"""Pages of a file that lie side by side: the file, the first one's index, and their PFNs in order."""


class FilePages:
    """Pages of the page cache of one kernel, which its reclaim has isolated and locked."""

    def __init__(self, k: Kernel) -> None:
        self.k = k

    def are_of_files(self, pages: I64) -> Bools:
        """Which of them name a file. O(pages)."""
        frames = self.k.machine.frames
        of_file: Bools = frames.mapping[pages] != 0
        if not self.k.design.converts:
            of_file &= frames.flags[pages] & PG_ANON == 0
        return of_file

    def are_shown(self, pages: I64) -> Bools:
        """page_mapping_inuse: whose file somebody maps, some page of it. O(pages + files)."""
        owners, which = np.unique(self.k.machine.frames.mapping[pages], return_inverse=True)
        files = [self.k.page_cache.files[owner] for owner in owners.tolist()]
        shown = [bool(file.i_mmap.apart) or next(iter(file.i_mmap), None) is not None for file in files]
        return np.array(shown, np.bool_)[which]

    def page_out(self, pages: I64) -> I64:
        """Dirty ones are written (writepage): those that nobody maps, and only the cache and we hold. Returns those that are to be active (WRITEPAGE_ACTIVATE). O(pages)."""
        frames, refused = self.k.machine.frames, [pages[:0]]
        for file, first, some in self.stretches(pages[frames.count[pages] == 2]):
            if file.shmem is not None:
                frames.flags[some] &= ~np.uint32(PG_DIRTY)
                refused.append(some[shmem_writepage(self.k, file, first, some) :])
            else:
                self.start_writing(file, first, some, PG_RECLAIM | PG_WRITEBACK)
        return np.concatenate(refused)

    def start_writing(self, file: AddressSpace, first: int, pages: I64, marks: int) -> None:
        """Neighbours, from index `first` on, which are clean from now on, and have these flags while they are under way. O(pages)."""
        k, flags = self.k, self.k.machine.frames.flags
        flags[pages] &= ~np.uint32(PG_DIRTY)
        going = [self._write(file, first + i, pfn) for i, pfn in enumerate(pages.tolist())]
        for start, stop in runs(np.array(going, np.bool_)):
            part = pages[start:stop]
            flags[part] |= np.uint32(marks)
            k.page_cache.start_writing_singly(file, first + start, part, k.lru_add.end_page_writeback)

    def may_be_written(self, pages: I64, *, by_kswapd: bool) -> Bools:
        """may_write_to_queue: which of them who makes room may write now. O(pages).

        What is on a disk whose queue is congested only kswapd writes, and who is in the middle of a write(2); swap's is never said to be congested.
        """
        current = self.k.current
        if by_kswapd or not self.k.machine.disk.is_write_congested or (current is not None and current.writes_to_disk):
            return np.ones(pages.size, np.bool_)
        owners = self.k.machine.frames.mapping[pages].tolist()
        return np.array([not self.k.page_cache.files[owner].on_disk for owner in owners], np.bool_)

    def are_dirtied(self, pages: I64) -> None:
        """They have been unmapped: what entries knew the pages know now, and their inodes hear of it."""
        frames = self.k.machine.frames
        dirty = (frames.flags[pages] & PG_DIRTY != 0) & (frames.mapping[pages] != 0)
        self.k.page_cache.are_dirtied(frames.mapping[pages[dirty]])

    def _write(self, file: AddressSpace, index: int, pfn: int) -> bool:
        """Its bytes, to where they are read from: whether the disk has to do with it."""
        if index >= file.nr_pages:
            return False
        self.k.machine.charge("file_writepage")
        try:
            self.k.page_cache.write(file, index, pfn)
        except DiskError:
            file.write_failed = True
            return False
        return True

    def free(self, pages: I64) -> Bools:
        """Which of them, none under way, only the cache and we have, and are clean: they leave it, and are free. O(pages)."""
        k, frames = self.k, self.k.machine.frames
        alone: Bools = (frames.count[pages] == 2) & (frames.flags[pages] & PG_DIRTY == 0) & (frames.mapping[pages] != 0)
        freed = pages[alone]
        if freed.size:
            for file, first, some in self.stretches(freed):
                k.page_cache.remove_range(file, first, first + some.size - 1)
                if file.shmem is not None:
                    file.dropped += sum(first + i not in file.store for i in range(some.size))
            frames.count[freed] = 0
            k.machine.allocator.free(freed)
            k.machine.charge("page_free", freed.size)
        return alone

    def stretches(self, pages: I64) -> Iterator[Stretch]:
        """In the order in which they come."""
        frames = self.k.machine.frames
        owner, index = frames.mapping[pages], frames.index[pages]
        ends = np.flatnonzero((np.diff(owner) != 0) | (np.diff(index) != 1)) + 1
        for some in np.split(pages, ends):
            if some.size:
                yield self.k.page_cache.files[int(frames.mapping[some[0]])], int(frames.index[some[0]]), some


def runs(which: Bools) -> list[tuple[int, int]]:
    """Stretches of it that are true: (from, to)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], which, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
