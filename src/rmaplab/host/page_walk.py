"""The iterator that reads page tables too: what it must know of this kernel, found out once, and tried on pages of our own.

    mm->pgd --> ... --> table of the last level --> entry --> PFN --> struct page      bpf/task_pages.bpf.c goes this way
        a table's entry has a physical address; the kernel sees all memory from page_offset on, which begins elsewhere at every boot:
        pgd, rounded down to 1 GiB, less so many GiB as the memory below it has. Each is tried: only from one does our own page's PFN follow

x86-64, tables of four or five levels; where memory is encrypted, or anything else is otherwise, the trial fails and pagemap is read instead.
Sources: Documentation/arch/x86/x86_64/mm.rst; arch/x86/mm/kaslr.c, kernel_randomize_memory; kernel/bpf/helpers.c, bpf_rdonly_cast.
"""

import mmap
import os
import struct
from collections.abc import Collection

import numpy as np

from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.bpf.loader import Iterator
from rmaplab.host.closing import Closing
from rmaplab.host.page_tables import ADDRESS_IN_ENTRY, LEAF, PRESENT, PageTables
from rmaplab.host.pagemap import PM_PFN, Pagemap
from rmaplab.host.pages import PagePeeker
from rmaplab.host.walked import EVERY_WINDOW, PAGE
from rmaplab.machine.arrays import I64

SMALL_MM = 1024
"""Pages. Up to 4 MiB of addresses smaps_rollup costs more than the sums here: its file is opened, printed, read and parsed."""
_CANDIDATES = 1 << 14
_LEVELS = ((39, 30, 21, 12), (48, 39, 30, 21, 12))
_TRIED, _INDEX, _ADDRESS = 4, 3, 6
_TRIES = 3  # a page of ours may be moved meanwhile
_WALK, _WINDOWS_AT = struct.Struct("<2q4Q"), 32  # struct walk of bpf/task_pages.bpf.c


class WalkingIterator(Closing):
    """The iterator, loaded once. A context manager. Raises BpfUnavailable, where a kernel, or a machine, is not as it must be."""

    def __init__(self, peeker: PagePeeker) -> None:
        self._iterator = Iterator("task_pages")
        try:
            self._walk = mmap.mmap(self._iterator.maps["walks"], self._iterator.definitions["walks"].value_bytes)
            self._find_tables(peeker)
        except BaseException:
            self._iterator.close()
            raise

    def close(self) -> None:
        """Let go of the program and its map."""
        self._walk.close()
        self._iterator.close()

    def read(self, pids: Collection[int] | None = None, *, windows: int = EVERY_WINDOW) -> memoryview:
        """As Iterator.read(), with the pages of so many VMAs; of those that come after, and of large ones, none."""
        struct.pack_into("<Q", self._walk, _WINDOWS_AT, windows)
        return self._iterator.read(pids)

    def _find_tables(self, peeker: PagePeeker) -> None:
        """Fill the map. Raises BpfUnavailable if no page_offset leads to pages of our own."""
        memfd = os.memfd_create("rmaplab-walk")
        try:
            os.ftruncate(memfd, _TRIED * mmap.PAGESIZE)
            # a file's, that it does not become part of a larger VMA beside it
            with mmap.mmap(memfd, 0, flags=mmap.MAP_PRIVATE) as own:
                for at in range(0, len(own), mmap.PAGESIZE):
                    own[at] = 1
                first = np.frombuffer(own, np.uint8, 1).ctypes.data
                pgd = self._pgd(peeker)
                if not any(self._try(peeker, pgd, first, shifts) for shifts in _LEVELS * _TRIES):
                    raise BpfUnavailable("page tables are not where they should be: pagemap is read instead")
        finally:
            os.close(memfd)

    def _try(self, peeker: PagePeeker, pgd: int, first: int, shifts: tuple[int, ...]) -> bool:
        """Whether tables of these levels lead to our pages from `first` on, and to what their struct pages say; the map is filled then."""
        nth = np.arange(_TRIED)
        with Pagemap(os.getpid()) as pagemap:
            words = pagemap.entries(first, first + _TRIED * mmap.PAGESIZE)
        pfns = (words & np.uint64(PM_PFN)).astype(np.int64)
        for page_offset in _page_offsets(peeker, pgd, first, int(pfns[0]), shifts):
            _WALK.pack_into(self._walk, 0, page_offset, peeker.vmemmap, peeker.head_flag, shifts[0], 0, SMALL_MM)
            rows = _as_rows(self.read([os.getpid()]))
            pages = rows[rows[:, 0] & 0xFFFFFFFF == PAGE]
            mine = pages[np.isin(pages[:, _ADDRESS], first + nth * mmap.PAGESIZE)]
            if np.array_equal(mine[:, [1, _INDEX]], np.stack([pfns, nth], axis=1)):
                self.tables = PageTables(peeker, page_offset, shifts)
                return True
        return False

    def _pgd(self, peeker: PagePeeker) -> int:
        """The address of our own topmost table."""
        rows = _as_rows(self._iterator.read([os.getpid()]))
        mm = rows[rows[:, 0] >> 32 == os.getpid(), 1][:1]
        words, _ = peeker.peek(mm + kernel_btf().offset("mm_struct", "pgd"))
        return int(words[0, 0])


def _as_rows(data: memoryview) -> I64:
    return np.frombuffer(data, np.int64).reshape(-1, 8)


def _page_offsets(peeker: PagePeeker, pgd: int, address: int, pfn: int, shifts: tuple[int, ...]) -> list[int]:
    """From which of the page_offsets that may be a walk for `address` ends at `pfn`."""
    bases: I64 = (pgd >> 30 << 30) - (np.arange(_CANDIDATES) << 30)
    tables: I64 = np.full(len(bases), pgd)
    for shift in shifts:
        words, good = peeker.peek(tables + (address >> shift & 511) * 8)
        entry = words[:, 0]
        good &= (entry & PRESENT) != 0
        if shift in (30, 21):
            good &= (entry & LEAF) == 0
        bases, entry = bases[good], entry[good]
        tables = bases + (entry & ADDRESS_IN_ENTRY)
    found: list[int] = bases[tables - bases >> 12 == pfn].tolist()
    return found
