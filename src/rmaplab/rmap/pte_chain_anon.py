"""Chains for anonymous pages alone: 00100_objrmap-core-1 on top of 2.6.5-rc1, without 00101.

    struct page, PG_anon set            struct page of a file
    pte.direct or pte.chain             mapcount; mapping, index -> the file's VMAs (objrmap.py)

What page->mapping says of an anonymous page is as before, nothing: PG_anon is new, is set where an anonymous page gets its first entry,
and stays until it is freed. So a batch of entries may be of both kinds, and each page says for itself.

A chain is still allocated beforehand for an entry of a file's page, and given back; that is not counted here.

Source: objrmap-core-1 (LKML, 8 March 2004), page_add_rmap, page_remove_rmap, free_pages_check; files.md I.
"""

from typing import ClassVar

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_ANON
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.pte_chain import PteChain


class AnonPteChain(PteChain):
    """The chains of 2.6.2, of pages with PG_anon."""

    name: ClassVar[str] = "pte_chain_anon"
    covers_files: ClassVar[bool] = False
    names_owners: ClassVar[bool] = False
    passes_over_files: ClassVar[bool] = True

    def owner(self, vma: VmArea, *, exclusive: bool) -> int:
        """Nobody: mapping stays as it was."""
        del vma, exclusive
        return 0

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """As a chain, and no page of a file is on one."""
        anon = self.frames.flags & PG_ANON != 0
        if self.pte[~anon].any():
            raise KernelBug("pte_chain", "a page of a file is on a chain")
        super().check(mms, np.where(anon, mapped, 0))
