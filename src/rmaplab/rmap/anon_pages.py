"""Anonymous pages that name an object: struct page's mapcount, mapping and index, for all designs that keep them so.

`mapping` is the address of the object that a page names, as long as PG_ANON is set; `index` is where the page is.
"""

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, U32
from rmaplab.machine.batch import ADDRESS, LENGTH, PFN
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.jit import kernel
from rmaplab.machine.machine import Machine
from rmaplab.machine.paging import Paging
from rmaplab.rmap.protocol import ReverseMap


class AnonPages(ReverseMap):
    """A design whose pages name an object: the columns, and what they cost. The loops over them are below."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        frames = machine.frames
        self._columns = (frames.flags, self.frames.mapcount, self.frames.mapping, self.frames.index)

    @staticmethod
    def page_bytes(paging: Paging, *, highpte: bool) -> int:
        """mapcount, an unsigned long in 2004, since then an int and what follows it to the next word; the rest is used as it is."""
        del highpte
        return paging.word_bytes

    def tracked(self) -> I64:
        """Pages with a mapcount."""
        return np.flatnonzero(self.frames.mapcount).astype(np.int64)

    def is_mapped(self, pfn: int) -> bool:
        """It has a mapcount."""
        return bool(self.frames.mapcount[pfn])

    def check_mapcount(self, mapped: I64) -> None:
        """Raises KernelBug for a page that counts other than its entries are many (`mapped`, by PFN)."""
        if not np.array_equal(self.frames.mapcount, mapped):
            wrong = np.flatnonzero(self.frames.mapcount != mapped)[0]
            raise KernelBug("mapcount", f"page {wrong} counts other than its entries")


@kernel
def name_new(
    flags: U32, mapcount: I32, mapping: I64, index: I64, pages: I64, runs: int, name: int, unit: int, shift: int
) -> bool:
    """Pages are mapped for the first time: they name `name`, and their index is the address in 2^unit bytes, plus `shift`.

    False if one is mapped already.
    """
    for run in range(runs):
        first, length = pages[PFN, run], pages[LENGTH, run]
        for i in range(length):
            pfn = np.uint64(first + i)
            if mapcount[pfn]:
                return False
            flags[pfn] |= np.uint32(PG_ANON)
            mapcount[pfn] = 1
            mapping[pfn] = name
            index[pfn] = ((pages[ADDRESS, run] + (i << 12)) >> unit) + shift
    return True


@kernel
def map_again(mapcount: I32, pages: I64, runs: int) -> None:
    """Mapcount + 1."""
    for run in range(runs):
        counts = mapcount[pages[PFN, run] : pages[PFN, run] + pages[LENGTH, run]]
        for i in range(counts.size):
            counts[i] += np.int32(1)


@kernel
def unmap(flags: U32, mapcount: I32, mapping: I64, index: I64, pages: I64, runs: int) -> bool:
    """Mapcount - 1; at 0 a page names nothing. False if one is not mapped."""
    for run in range(runs):
        first = pages[PFN, run]
        counts = mapcount[first : first + pages[LENGTH, run]]
        last, negative = False, False
        for i in range(counts.size):
            left = counts[i] - np.int32(1)
            counts[i] = left
            last |= left == 0
            negative |= left < 0
        if negative:
            return False
        if last:
            for i in range(counts.size):
                if counts[i] == 0:
                    mapping[first + i] = 0
                    flags[first + i] &= ~np.uint32(PG_ANON)
    return True
