"""00100_objrmap-core-1 alone: files are found through their VMAs, anonymous pages still by pte chains. March 2004.

    a page of a file      mapcount in the pte union, mapping and index        the VMAs of the file
    an anonymous page     PG_anon, a direct pointer or a chain in the union   the chain; it names nobody

PG_anon is set where an anonymous page is mapped, and lives until the page is free: a page may lie in swap, unmapped, and be one.

Source: Andrea Arcangeli, 8 March 2004, <20040308202433.GA12612@dualathlon.random> (objrmap-core-1); history.md 1.3. Its page_convert_anon, which gives
a file's page chains when remap_file_pages puts it elsewhere, waits for that call.
"""

from typing import ClassVar

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import Batch
from rmaplab.machine.frames import PG_ANON
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.protocol import ReverseMap
from rmaplab.rmap.pte_chain import PteChain


class ObjrmapChain(PteChain):
    """Chains for anonymous pages; those of files are counted and found through the file. objrmap-core on 2.6.5-rc1."""

    name: ClassVar[str] = "objrmap_chain"
    covers_files: ClassVar[bool] = False
    names_owners: ClassVar[bool] = False

    def _anonymous(self, batch: Batch) -> Batch:
        anon = self.frames.flags[batch.pfns] & PG_ANON != 0
        return batch if anon.all() else batch.select(anon)

    def add(self, batch: Batch, vma: VmArea) -> None:
        """page_add_rmap: of a file's page only the mapcount is kept."""
        super().add(self._anonymous(batch), vma)

    def remove(self, batch: Batch) -> None:
        """page_remove_rmap, likewise."""
        super().remove(self._anonymous(batch))

    def moved(self, old: Batch, new: Batch, vma: VmArea) -> None:
        """Entries of a file's pages are where the VMAs say."""
        super().moved(self._anonymous(old), self._anonymous(new), vma)

    def tracked(self) -> I64:
        """Every mapped page, by its mapcount."""
        return ReverseMap.tracked(self)

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """The chains of anonymous pages are as long as their entries are many; a file's page has none."""
        super().check(mms, np.where(self.frames.flags & PG_ANON != 0, mapped, 0))
