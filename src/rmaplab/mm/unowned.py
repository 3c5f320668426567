"""Pages of files that truncate has left mapped at places that are not linear: they name nobody, and some kernels BUG() when they meet one again.

    remap_file_pages, ftruncate, then munmap      page_remove_rmap   BUG in 2.6.5-rc1-aa1, later a warning
                                   or fork        page_add_rmap      BUG in all of -aa
                                   or reclaim     page_referenced    BUG in all of -aa (rmap/queries.py)

page_table_lock is held then, and is never dropped: who wants it next waits for ever. Here the entry that was met stays where it is.

Source: mm/objrmap.c of the -aa tree and of later -aa; files.md D1; history.md 1.5.9, 1.5.10.
"""

import numpy as np

from rmaplab.errors import Oops
from rmaplab.machine.pagetable_edit import read_range
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.walk_rules import Unowned


def remove_until(k: Kernel, mm: MmStruct, start: int, end: int) -> int:
    """How far entries of [start, end), one burst, may go before such a page is met. Raises Oops if it is the first, with page_table_lock held."""
    return _until(k, mm, start, end, "page_remove_rmap", Unowned.IS_A_BUG)


def copy_until(k: Kernel, mm: MmStruct, start: int, end: int) -> int:
    """The same for entries that are to be copied."""
    return _until(k, mm, start, end, "page_add_rmap", Unowned.WARNS)


def _until(k: Kernel, mm: MmStruct, start: int, end: int, function: str, since: Unowned) -> int:
    if not k.rmap.unowned or k.rmap.walks.unowned < since:
        return end
    with k.batch() as batch:
        batch.runs, batch.nr, _ = read_range(
            *k.machine.geometry, mm.pgd, k.machine.mapped, start, end, batch.columns, batch.others
        )
        met = np.flatnonzero(np.isin(batch.pfns, list(k.rmap.unowned)))
        if not met.size:
            return end
        address, pfn = int(batch.addresses[met[0]]), int(batch.pfns[met[0]])
    if address > start:
        return address
    if mm.page_table_lock.writer is None:
        k.machine.locks.take(mm.page_table_lock)
    raise Oops(function, f"page {pfn} has no mapping")
