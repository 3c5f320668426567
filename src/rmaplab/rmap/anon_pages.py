"""Anonymous pages that name an object: the loops over struct page's mapcount, mapping and index, for all designs that keep them so.

`mapping` is the address of the object that a page names, as long as PG_ANON is set; `index` is where the page is.
"""

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, U32
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.jit import kernel


def check_mapcount(mapcount: I32, mapped: I64) -> None:
    """Raises KernelBug for a page that counts other than its entries are many (`mapped`, by PFN)."""
    if not np.array_equal(mapcount, mapped):
        raise KernelBug("mapcount", f"page {np.flatnonzero(mapcount != mapped)[0]} counts other than its entries")


@kernel
def name_new(
    flags: U32, mapcount: I32, mapping: I64, index: I64, batch: I64, nr: int, name: int, unit: int, shift: int
) -> bool:
    """Pages are mapped for the first time: they name `name`, and their index is the address in 2^unit bytes, plus `shift`.

    False if one is mapped already.
    """
    for i in range(nr):
        pfn = batch[0, i]
        if mapcount[pfn]:
            return False
        flags[pfn] |= np.uint32(PG_ANON)
        mapcount[pfn] = 1
        mapping[pfn] = name
        index[pfn] = (batch[2, i] >> unit) + shift
    return True


@kernel
def map_again(mapcount: I32, batch: I64, nr: int) -> None:
    """Mapcount + 1."""
    for i in range(np.uint64(nr)):
        mapcount[np.uint64(batch[0, i])] += 1


@kernel
def unmap(flags: U32, mapcount: I32, mapping: I64, index: I64, batch: I64, nr: int) -> bool:
    """Mapcount - 1; at 0 a page names nothing. False if one is not mapped."""
    for i in range(np.uint64(nr)):
        pfn = np.uint64(batch[0, i])
        left = mapcount[pfn] - 1
        if left < 0:
            return False
        mapcount[pfn] = left
        if left == 0:
            mapping[pfn] = 0
            flags[pfn] &= ~np.uint32(PG_ANON)
    return True
