"""The page cache: pages of files, each with a reference, found by file and index.

    address_space.pages   {0: PFN 90, 7: PFN 12}        page 12: mapping is the file, index 7, PG_anon clear, count 1 + whoever else has it

What a file is made of is bytes in the host's memory so far. A file's address is its number: inodes lie in no slab yet.

Source: mm/filemap.c of 2.6.2, add_to_page_cache, find_get_page, __remove_from_page_cache.
"""

from collections.abc import Callable

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64, U8
from rmaplab.machine.frames import Frames
from rmaplab.machine.ram import Ram
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE


class PageCache:
    """The pages of all files. A holder: it has a reference on each of them. `files` is by address, and shared with the reverse map.

    `make_space` makes a file's address_space, with an index and a lock as the kernel has them, of an address and bytes.
    """

    def __init__(
        self,
        ram: Ram,
        frames: Frames,
        files: dict[int, AddressSpace],
        make_space: Callable[[int, bytes], AddressSpace],
    ) -> None:
        self._ram, self._frames = ram, frames
        self.files = files
        self._make_space = make_space

    def new_file(self, data: bytes) -> AddressSpace:
        """A file of these bytes."""
        file = self._make_space(len(self.files) + 1, data)
        self.files[file.address] = file
        return file

    def find_get_page(self, file: AddressSpace, index: int) -> int:
        """The page, with one more reference: the caller's; -1 if it is not in the cache."""
        pfn = file.pages.get(index, -1)
        if pfn >= 0:
            self._frames.count[pfn] += 1
        return pfn

    def add(self, file: AddressSpace, index: int, pfn: int) -> None:
        """add_to_page_cache: a page, which has been read, with a reference for the cache."""
        if index in file.pages:
            raise KernelBug("add_to_page_cache", f"page {index} is there already")
        frames = self._frames
        frames.mapping[pfn], frames.index[pfn] = file.address, index
        frames.count[pfn] += 1
        file.pages[index] = pfn

    def remove(self, file: AddressSpace, index: int) -> int:
        """remove_from_page_cache: the cache's reference goes; the page, which the caller frees if it was the last one."""
        frames, pfn = self._frames, file.pages[index]
        if frames.mapcount[pfn]:
            raise KernelBug("remove_from_page_cache", f"page {index} is mapped {frames.mapcount[pfn]} times")
        del file.pages[index]
        frames.mapping[pfn] = 0
        frames.count[pfn] -= 1
        return pfn

    def read(self, file: AddressSpace, index: int, pfn: int) -> None:
        """readpage: the bytes of the file, zeros behind its end."""
        part: U8 = np.frombuffer(file.data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE], np.uint8)
        self._ram.bytes[pfn] = 0
        self._ram.bytes[pfn, : part.size] = part
        self._frames.scribbled[pfn] = 1

    def references(self) -> I64:
        """All its pages."""
        return np.array([pfn for file in self.files.values() for pfn in file.pages.values()], np.int64)

    def check(self) -> None:
        """Its pages say whose they are. Raises KernelBug."""
        frames = self._frames
        for file in self.files.values():
            for index, pfn in file.pages.items():
                if (frames.mapping[pfn], frames.index[pfn]) != (file.address, index):
                    raise KernelBug(
                        "page_cache", f"page {pfn} is page {index} of file {file.address}, and says otherwise"
                    )
