"""The page cache: pages of files, each with a reference, found by file and index.

    address_space.pages   0: PFN 90, 7: PFN 12          page 12: mapping is the file, index 7, PG_anon clear, count 1 + whoever else has it

    store  --- read --->  page  <--- dirty entries, write(2)        PG_dirty: the page is newer than the store
           <-- write ---

What a file is made of is bytes in the host's memory. Of one that is on a disk, reading and writing take the disk's time (machine/disk.py): a page that
is being read is in the cache, and locked: not uptodate, and in nobody's hands but the disk's until wait_for() ends; in 2.4 one that is being written is locked
as well. What nobody has ever written is no matter for the disk. Its inode and the nodes of its index lie in slabs.

Source: mm/filemap.c of 2.6.2, add_to_page_cache, find_get_page, __remove_from_page_cache; fs/mpage.c, mpage_readpages, mpage_end_io_read; fs/buffer.c,
block_read_full_page: a hole.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Protocol

import numpy as np

from rmaplab.errors import DiskError, KernelBug, NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64, U8
from rmaplab.machine.batch import ENTRY, LENGTH, PFN, Batch
from rmaplab.machine.disk import Disk, DiskRequest
from rmaplab.machine.entries import DIRTY
from rmaplab.machine.frames import (
    BH_DIRTY,
    BH_WAIT_IO,
    PG_ANON,
    PG_DIRTY,
    PG_ERROR,
    PG_LAUNDER,
    PG_LOCKED,
    PG_NOT_UPTODATE,
    PG_READAHEAD,
    PG_WRITEBACK,
    Frames,
    clear_frames,
)
from rmaplab.machine.ram import Ram
from rmaplab.machine.slab import SlabCache
from rmaplab.objects.mm_types import AddressSpace, Driver
from rmaplab.units import PAGE_SIZE

NEWER = PG_DIRTY | BH_DIRTY
"""The store does not have a page's bytes."""
OF_A_CACHE = NEWER | BH_WAIT_IO | PG_ERROR | PG_NOT_UPTODATE | PG_READAHEAD
"""What means nothing of a page that is in none."""


class DirtyInodes(Protocol):
    """Who writes what is dirty, and when (reclaim/writeback.py)."""

    def mark_inode_dirty(self, file: AddressSpace) -> None:
        """A page of it is newer than its disk, if it is on one."""

    def balance_dirty_pages_ratelimited(self) -> None:
        """The caller has made one page more dirty. May sleep."""

    def check(self) -> None:
        """Every inode with a dirty page is known. Raises KernelBug."""


class PageCache:
    """The pages of all files. A holder: it has a reference on each of them. `files` is by address, and shared with the reverse map.

    `make_space` makes an inode, with an index and a lock as the kernel has them; it is told whether the file is on a disk. `nodes` is the slab of the nodes
    of indexes, None where those have none. `disk` has the files that are on one.
    """

    def __init__(
        self,
        ram: Ram,
        frames: Frames,
        files: dict[int, AddressSpace],
        make_space: Callable[[bool], AddressSpace],
        nodes: SlabCache | None,
        disk: Disk,
    ) -> None:
        self._ram, self._frames = ram, frames
        self.files = files
        self._make_space = make_space
        self.drivers: list[Driver] = []
        """Of files that are devices: where there is none, every mapped page has an owner (mm/driver.py)."""
        self.has_converted = False
        """Its pages may have PG_anon, and what is anonymous names nobody (00100_objrmap-core-1)."""
        self.writeback: DirtyInodes | None = None
        """Hears of dirty pages, if there is anybody."""
        self.nodes = nodes
        self._disk = disk
        self._reading: dict[int, DiskRequest] = {}  # by PFN: pages that are locked because they are being read
        self._laundered: dict[int, DiskRequest] = {}  # and those that 2.4 writes: locked, or their buffers are
        self._written: dict[
            int, DiskRequest
        ] = {}  # by file: the last request to write some of it, while it is under way

    def forget(self, file: AddressSpace) -> None:
        """An inode has gone; it has no pages any more."""
        del self.files[file.address]

    def new_file(self, data: bytes = b"", size: int = 0, *, on_disk: bool = True) -> AddressSpace:
        """A file of these bytes, and zeros behind them up to `size`: its name keeps it for ever. Raises as an allocation."""
        file = self._make_space(on_disk)
        file.size = max(len(data), size)
        for start in range(0, len(data), PAGE_SIZE):
            file.store[start // PAGE_SIZE] = data[start : start + PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
        self.files[file.address] = file
        return file

    def reserve(self, file: AddressSpace, indexes: I64, gfp: Gfp = Gfp.KERNEL) -> I64:
        """radix_tree_preload: as many nodes as adding these pages takes now, for add(). May sleep, unless `gfp` is ATOMIC. Raises as an allocation, holding none."""
        spare = np.empty(0, np.int64)
        while self.nodes is not None and (short := file.pages.missing(indexes) - spare.size) > 0:
            try:
                spare = np.concatenate((spare, self.nodes.alloc_bulk(short, gfp)))
            except NoMemory:
                self.give_back(spare)
                raise
        return spare

    def give_back(self, nodes: I64) -> None:
        """Nodes that were reserved, and are not wanted after all."""
        if nodes.size and self.nodes is not None:
            self.nodes.free_bulk(nodes)

    def find_get_page(self, file: AddressSpace, index: int) -> int:
        """The page, with one more reference: the caller's; -1 if it is not in the cache."""
        pfn = file.pages.find(index)
        if pfn >= 0:
            self._frames.count[pfn] += 1
        return pfn

    def add(self, file: AddressSpace, index: int, pfn: int, nodes: I64) -> None:
        """add_to_page_cache: a page that is not there, with a reference for the cache."""
        self.add_many(file, np.array([index], np.int64), np.array([pfn], np.int64), nodes)

    def add_many(self, file: AddressSpace, indexes: I64, pfns: I64, nodes: I64) -> None:
        """The same for some, ascending."""
        frames = self._frames
        frames.mapping[pfns], frames.index[pfns] = file.address, indexes
        frames.count[pfns] += 1
        file.pages.insert(indexes, pfns, nodes)

    def start_reading(self, file: AddressSpace, indexes: I64, pfns: I64) -> None:
        """readpages: these pages, ascending, are in the cache and not uptodate. They are read, each run of neighbours in one go; wait_for() waits for it.

        What cannot be read stays as it is, and nobody is told. At once, if nothing of it is on a disk.
        """
        if not file.store:  # nobody has written any of it: nothing is asked of a disk
            clear_frames(self._ram.bytes, self._frames.scribbled, pfns)
            self._frames.flags[pfns] &= ~np.uint32(PG_NOT_UPTODATE)
            return
        self._frames.flags[pfns] |= np.uint32(PG_NOT_UPTODATE)
        run: list[tuple[int, int]] = []
        for index, pfn in zip(indexes.tolist(), pfns.tolist(), strict=True):
            if not file.on_disk or index not in file.store:
                with suppress(DiskError):  # who wants it tries again
                    self.read(file, index, pfn)
                continue
            if run and index != run[-1][0] + 1:
                self._submit(file, run)
                run = []
            run.append((index, pfn))
        if run:
            self._submit(file, run)

    def _submit(self, file: AddressSpace, run: list[tuple[int, int]]) -> None:
        finish = partial(self._are_read, file, run)
        request = self._disk.submit("disk_read", file.address, run[0][0], len(run), finish)
        pages = [pfn for _, pfn in run]
        self._frames.flags[pages] |= np.uint32(PG_LOCKED)
        self._reading.update(dict.fromkeys(pages, request))

    def _are_read(self, file: AddressSpace, run: list[tuple[int, int]]) -> None:
        """mpage_end_io_read: the pages are unlocked; uptodate if they could be read."""
        for index, pfn in run:
            with suppress(DiskError):
                self.read(file, index, pfn)
            self._frames.flags[pfn] &= ~np.uint32(PG_LOCKED)
            del self._reading[pfn]

    def is_locked(self, pfn: int) -> bool:
        """Whether it is being read, or in 2.4 written. What is over by now is noticed first."""
        if pfn in self._reading or pfn in self._laundered:
            self._disk.reap()
        return pfn in self._reading or (pfn in self._laundered and bool(self._frames.flags[pfn] & PG_LOCKED))

    def wait_for(self, pfn: int) -> None:
        """wait_on_page_locked, wait_on_buffer of 2.4: the disk does not have it any more. The running task sleeps until then."""
        while (request := self._reading.get(pfn) or self._laundered.get(pfn)) is not None:
            self._disk.wait(request)

    def wait_for_writes(self, file: AddressSpace) -> None:
        """filemap_fdatawait: nothing of the file is being written any more."""
        while (request := self._written.get(file.address)) is not None:
            self._disk.wait(request)
            if self._written.get(file.address) is request:
                del self._written[file.address]

    def start_writing(self, file: AddressSpace, first: int, pfns: I64, finish: Callable[[I64], None]) -> None:
        """The bytes of these pages, from index `first` on, which the store has already (write()), take their way to the disk in one go.

        `finish` is called of them when they are there; wait_for_writes() waits for it.
        """
        done = partial(finish, pfns)
        self._written[file.address] = self._disk.submit("disk_write", file.address, first, pfns.size, done)

    def start_writing_singly(self, file: AddressSpace, first: int, pfns: I64, finish: Callable[[I64], None]) -> None:
        """The same, page by page: what goes on where the last request ends, and that has not begun, becomes part of it."""
        row = self._disk.submit_row("disk_write", file.address, first, pfns, finish)
        self._written[file.address] = row[-1][0]
        self._disk.reap()  # a disk that takes no time

    def start_laundering(
        self, file: AddressSpace, first: int, pfns: I64, finish: Callable[[I64], None], *, in_buffers: bool = False
    ) -> None:
        """The same as in 2.4: each page is locked until its bytes are on the disk, or cannot be, and who wants to write to it sleeps.

        `in_buffers`: not the pages are locked, but their buffers: PG_writeback.
        """
        self._frames.flags[pfns] |= np.uint32(PG_WRITEBACK if in_buffers else PG_LOCKED)
        done = partial(self._are_laundered, finish)
        for request, part in self._disk.submit_row("disk_write", file.address, first, pfns, done):
            self._laundered.update(dict.fromkeys(part.tolist(), request))
            self._written[file.address] = request
        self._disk.reap()

    def _are_laundered(self, finish: Callable[[I64], None], pfns: I64) -> None:
        self._frames.flags[pfns] &= ~np.uint32(PG_LOCKED | PG_LAUNDER | PG_WRITEBACK | BH_WAIT_IO)
        for pfn in pfns.tolist():
            self._laundered.pop(pfn, None)
        finish(pfns)

    def remove(self, file: AddressSpace, index: int, *, mapped: bool = False) -> int:
        """remove_from_page_cache: the cache's reference goes; the page, which the caller frees if it was the last one. It may stay `mapped`, and be nobody's."""
        frames, pfn = self._frames, file.pages[index]
        if frames.mapcount[pfn] and not mapped:
            raise KernelBug("remove_from_page_cache", f"page {index} is mapped {frames.mapcount[pfn]} times")
        if pfn in self._reading or pfn in self._laundered:
            how = "read" if pfn in self._reading else "written"
            raise KernelBug("remove_from_page_cache", f"page {index} is being {how}")
        file.pages.delete(index)
        frames.mapping[pfn] = 0
        frames.flags[pfn] &= ~np.uint32(OF_A_CACHE)
        frames.count[pfn] -= 1
        return pfn

    def remove_range(self, file: AddressSpace, first: int, last: int) -> I64:
        """The same for all of [first, last], ascending, none of which is being read: the pages to be freed, which nobody else holds."""
        frames, (_, pfns) = self._frames, file.pages.delete_range(first, last)
        if frames.mapcount[pfns].any():
            raise KernelBug("truncate_inode_pages", f"a page of [{first}, {last}] is mapped")
        frames.mapping[pfns] = 0
        frames.flags[pfns] &= ~np.uint32(OF_A_CACHE)
        frames.count[pfns] -= 1
        free: I64 = pfns[frames.count[pfns] == 0]
        return free

    def read(self, file: AddressSpace, index: int, pfn: int) -> None:
        """What a disk does at the end of a request, or memory at once: the bytes of the file, zeros behind its end. Raises DiskError: then the page is not uptodate."""
        flags = self._frames.flags
        flags[pfn] |= np.uint32(PG_NOT_UPTODATE)
        if index not in file.store:
            clear_frames(self._ram.bytes, self._frames.scribbled, np.array([pfn], np.int64))
        else:
            self._ram.bytes[pfn] = np.frombuffer(file.store[index], np.uint8)
            self._frames.scribbled[pfn] = 1
            flags[pfn] |= np.uint32(0 if file.on_disk else PG_DIRTY)  # somebody has written it
        flags[pfn] &= ~np.uint32(PG_NOT_UPTODATE)

    def dirty(self, file: AddressSpace, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(index, page) of those of [first, last] that are newer than the store."""
        indexes, pfns = file.pages.within(first, last)
        newer = self._frames.flags[pfns] & NEWER != 0
        yield from zip(indexes[newer].tolist(), pfns[newer].tolist(), strict=True)

    def write(self, file: AddressSpace, index: int, pfn: int) -> None:
        """writepage: the store is as new as the page, with zeros behind the file's end. Raises DiskError: the page counts as clean all the same."""
        self._frames.flags[pfn] &= ~np.uint32(NEWER)
        part: U8 = self._ram.bytes[pfn]
        file.store[index] = part.tobytes()[: max(file.size - index * PAGE_SIZE, 0)].ljust(PAGE_SIZE, b"\0")

    def take_dirty(self, batch: Batch) -> None:
        """Entries of a batch are about to go: the dirty bits of those of files' pages go over to the pages (zap_pte_range, set_page_dirty)."""
        frames = self._frames
        for run in np.flatnonzero(batch.columns[ENTRY, : batch.runs] & DIRTY):
            pages = slice(batch.columns[PFN, run], batch.columns[PFN, run] + batch.columns[LENGTH, run])
            of_file = (frames.flags[pages] & PG_ANON == 0) | self.has_converted
            of_file &= frames.mapping[pages] != 0
            frames.flags[pages][of_file] |= np.uint32(PG_DIRTY)
            self.are_dirtied(frames.mapping[pages][of_file])

    def are_dirtied(self, owners: I64) -> None:
        """set_page_dirty: pages of files at these addresses are dirty, and the inodes hear of it. O(pages)."""
        if self.writeback is not None:
            for owner in np.unique(owners).tolist():
                self.writeback.mark_inode_dirty(self.files[owner])

    def references(self) -> I64:
        """All its pages, and those of swap vectors."""
        pages = [np.empty(0, np.int64), *(_all(file)[1] for file in self.files.values())]
        vectors = (file.shmem.vector for file in self.files.values() if file.shmem is not None)
        pages += [np.array([*vector.pages.values()], np.int64) for vector in vectors if vector is not None]
        return np.concatenate(pages)

    def check(self) -> None:
        """Its pages say whose they are, and lie within their file. Raises KernelBug."""
        frames = self._frames
        if self.writeback is not None:
            self.writeback.check()
        for file in self.files.values():
            file.pages.check()
            indexes, pfns = _all(file)
            wrong = (frames.mapping[pfns] != file.address) | (frames.index[pfns] != indexes)
            if wrong.any():
                raise KernelBug("page_cache", f"pages {pfns[wrong][:4]} are file {file.address}'s, and say otherwise")
            behind = file.nr_pages if file.shmem is None else max(file.nr_pages, file.shmem.fallocend)
            if indexes.size and indexes[-1] >= behind:
                raise KernelBug("page_cache", f"page {indexes[-1]} lies behind the end of file {file.address}")
        locked = np.fromiter(self._reading, np.int64)
        if (frames.flags[locked] & PG_NOT_UPTODATE == 0).any() or (frames.mapcount[locked] != 0).any():
            raise KernelBug("page_cache", "a page that is being read is uptodate, or mapped")
        locked = np.fromiter(self._laundered, np.int64)
        if (frames.flags[locked] & (PG_LOCKED | PG_WRITEBACK) == 0).any() or (frames.mapping[locked] == 0).any():
            raise KernelBug("page_cache", "a page that is being written does not say so, or is in no file")


def _all(file: AddressSpace) -> tuple[I64, I64]:
    """(indexes, PFNs) of a file's pages."""
    return file.pages.within(0, 1 << 62)
