"""The page cache: pages of files, each with a reference, found by file and index.

    address_space.pages   0: PFN 90, 7: PFN 12          page 12: mapping is the file, index 7, PG_anon clear, count 1 + whoever else has it

    store  --- read --->  page  <--- dirty entries, write(2)        PG_dirty: the page is newer than the store
           <-- write ---

What a file is made of is bytes in the host's memory so far: reading and writing take no time. Its inode and the nodes of its index lie in slabs.

Source: mm/filemap.c of 2.6.2, add_to_page_cache, find_get_page, __remove_from_page_cache.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from rmaplab.errors import DiskError, KernelBug, NoMemory
from rmaplab.machine.arrays import I64, U8
from rmaplab.machine.batch import ENTRY, LENGTH, PFN, Batch
from rmaplab.machine.entries import DIRTY
from rmaplab.machine.frames import PG_ANON, PG_DIRTY, PG_NOT_UPTODATE, Frames, clear_frames
from rmaplab.machine.ram import Ram
from rmaplab.machine.slab import SlabCache
from rmaplab.objects.mm_types import AddressSpace, Driver
from rmaplab.units import PAGE_SIZE


class PageCache:
    """The pages of all files. A holder: it has a reference on each of them. `files` is by address, and shared with the reverse map.

    `make_space` makes an inode, with an index and a lock as the kernel has them; it is told whether the file is on a disk. `nodes` is the slab of the nodes
    of indexes, None where those have none.
    """

    def __init__(
        self,
        ram: Ram,
        frames: Frames,
        files: dict[int, AddressSpace],
        make_space: Callable[[bool], AddressSpace],
        nodes: SlabCache | None,
    ) -> None:
        self._ram, self._frames = ram, frames
        self.files = files
        self._make_space = make_space
        self.drivers: list[Driver] = []
        """Of files that are devices: where there is none, every mapped page has an owner (mm/driver.py)."""
        self.nodes = nodes

    def new_file(self, data: bytes = b"", size: int = 0, *, on_disk: bool = True) -> AddressSpace:
        """A file of these bytes, and zeros behind them up to `size`: its name keeps it for ever. Raises as an allocation."""
        file = self._make_space(on_disk)
        file.size = max(len(data), size)
        for start in range(0, len(data), PAGE_SIZE):
            file.store[start // PAGE_SIZE] = data[start : start + PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
        self.files[file.address] = file
        return file

    def reserve(self, file: AddressSpace, indexes: I64) -> I64:
        """radix_tree_preload: as many nodes as adding these pages takes now, for add(). May sleep. Raises as an allocation, holding none."""
        spare = np.empty(0, np.int64)
        while self.nodes is not None and (short := file.pages.missing(indexes) - spare.size) > 0:
            try:
                spare = np.concatenate((spare, self.nodes.alloc_bulk(short)))
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

    def read_many(self, file: AddressSpace, indexes: I64, pfns: I64, nodes: I64) -> None:
        """readpages: pages that are not there, each with the caller's reference: they are read if that works, and the cache's reference comes on top."""
        frames = self._frames
        clear_frames(self._ram.bytes, frames.scribbled, pfns)
        self.add_many(file, indexes, pfns, nodes)
        if file.store:
            for index, pfn in zip(indexes.tolist(), pfns.tolist(), strict=True):
                if index in file.store:
                    with suppress(DiskError):  # who wants it tries again
                        self.read(file, index, pfn)

    def remove(self, file: AddressSpace, index: int) -> int:
        """remove_from_page_cache: the cache's reference goes; the page, which the caller frees if it was the last one."""
        frames, pfn = self._frames, file.pages[index]
        if frames.mapcount[pfn]:
            raise KernelBug("remove_from_page_cache", f"page {index} is mapped {frames.mapcount[pfn]} times")
        file.pages.delete(index)
        frames.mapping[pfn] = 0
        frames.flags[pfn] &= ~np.uint32(PG_DIRTY | PG_NOT_UPTODATE)
        frames.count[pfn] -= 1
        return pfn

    def read(self, file: AddressSpace, index: int, pfn: int) -> None:
        """readpage: the bytes of the file, zeros behind its end. Raises DiskError: then the page is not uptodate."""
        flags = self._frames.flags
        flags[pfn] |= np.uint32(PG_NOT_UPTODATE)
        if index not in file.store:
            clear_frames(self._ram.bytes, self._frames.scribbled, np.array([pfn], np.int64))
        else:
            self._ram.bytes[pfn] = np.frombuffer(file.store[index], np.uint8)
            self._frames.scribbled[pfn] = 1
        flags[pfn] &= ~np.uint32(PG_NOT_UPTODATE)

    def dirty(self, file: AddressSpace, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(index, page) of those of [first, last] that are newer than the store."""
        indexes, pfns = file.pages.within(first, last)
        newer = self._frames.flags[pfns] & PG_DIRTY != 0
        yield from zip(indexes[newer].tolist(), pfns[newer].tolist(), strict=True)

    def write(self, file: AddressSpace, index: int, pfn: int) -> None:
        """writepage: the store is as new as the page, with zeros behind the file's end. Raises DiskError: the page counts as clean all the same."""
        self._frames.flags[pfn] &= ~np.uint32(PG_DIRTY)
        part: U8 = self._ram.bytes[pfn]
        file.store[index] = part.tobytes()[: max(file.size - index * PAGE_SIZE, 0)].ljust(PAGE_SIZE, b"\0")

    def take_dirty(self, batch: Batch) -> None:
        """Entries of a batch are about to go: the dirty bits of those of files' pages go over to the pages (zap_pte_range, set_page_dirty)."""
        frames = self._frames
        for run in np.flatnonzero(batch.columns[ENTRY, : batch.runs] & DIRTY):
            pages = slice(batch.columns[PFN, run], batch.columns[PFN, run] + batch.columns[LENGTH, run])
            of_file = (frames.flags[pages] & PG_ANON == 0) & (frames.mapping[pages] != 0)
            frames.flags[pages][of_file] |= np.uint32(PG_DIRTY)

    def references(self) -> I64:
        """All its pages."""
        return np.concatenate([np.empty(0, np.int64), *(_all(file)[1] for file in self.files.values())])

    def check(self) -> None:
        """Its pages say whose they are, and lie within their file. Raises KernelBug."""
        frames = self._frames
        for file in self.files.values():
            file.pages.check()
            indexes, pfns = _all(file)
            wrong = (frames.mapping[pfns] != file.address) | (frames.index[pfns] != indexes)
            if wrong.any():
                raise KernelBug("page_cache", f"pages {pfns[wrong][:4]} are file {file.address}'s, and say otherwise")
            if indexes.size and indexes[-1] >= file.nr_pages:
                raise KernelBug("page_cache", f"page {indexes[-1]} lies behind the end of file {file.address}")


def _all(file: AddressSpace) -> tuple[I64, I64]:
    """(indexes, PFNs) of a file's pages."""
    return file.pages.within(0, 1 << 62)
