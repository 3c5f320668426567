"""Chains for anonymous pages alone: 00100_objrmap-core-1 on top of 2.6.5-rc1, without 00101.

    struct page, PG_anon set            struct page of a file
    pte.direct or pte.chain             mapcount; mapping, index -> the file's VMAs (objrmap.py)

What page->mapping says of an anonymous page is as before, nothing: PG_anon is new, is set where an anonymous page gets its first entry,
and stays until it is freed. So a batch of entries may be of both kinds, and each page says for itself.

A page of a file that is to be mapped at a place that is not linear is converted first: PG_anon, and a chain with all who map it, found through the file.
It stays so while it is in the cache, so all its later entries are on its chain, and truncate may leave it where it does not look.

A chain is still allocated beforehand for an entry of a file's page, and given back; that is not counted here.

Source: objrmap-core-1 (LKML, 8 March 2004), page_convert_anon, page_add_rmap, page_remove_rmap, free_pages_check; files.md I.
"""

from typing import ClassVar

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import Batch
from rmaplab.machine.frames import PG_ANON
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.pte_chain import PteChain


class AnonPteChain(PteChain):
    """The chains of 2.6.2, of pages with PG_anon."""

    name: ClassVar[str] = "pte_chain_anon"
    covers_files: ClassVar[bool] = False
    names_owners: ClassVar[bool] = False
    passes_over_files: ClassVar[bool] = True
    converts: ClassVar[bool] = True

    def owner(self, vma: VmArea, *, exclusive: bool) -> int:
        """Nobody: mapping stays as it was."""
        del vma, exclusive
        return 0

    def convert(self, pfns: I64, batch: Batch) -> bool:
        """A direct pointer for each page that is mapped once, and blocks for others."""
        _, lengths = np.unique(batch.pfns, return_counts=True)
        seen, short = self.machine.changes, int((-(-lengths[lengths > 1] // self.nrpte)).sum()) - self.spare.size
        if short > 0:
            self.spare = np.concatenate((self.spare, self.cache.alloc_bulk(short)))
            self.machine.charge("chain_block_alloc", short)
            if seen != self.machine.changes:
                return False
        self.frames.flags[pfns] |= np.uint32(PG_ANON)
        if batch.nr:
            self.insert(batch)
        return True

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """As a chain, and no page of a file is on one."""
        anon = self.frames.flags & PG_ANON != 0
        if self.pte[~anon].any():
            raise KernelBug("pte_chain", "a page of a file is on a chain")
        super().check(mms, np.where(anon, mapped, 0))
