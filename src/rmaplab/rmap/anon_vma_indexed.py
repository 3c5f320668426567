"""anon_vma with its VMAs on an index of files: what lists, rbtrees and trees of ranges do for a file's pages they do for anonymous ones.

    2.6.5-rc1-aa1    anon_vma ---> list of VMAs, newest first             a walk visits all of them
    here             anon_vma ---> any index of file_index.py             a walk visits those that it finds: the same interface

Where that matters: a large VMA that was written to once, then cut by mprotect into thousands. All of them are on one anon_vma, each page is
in one of them. Linux has put anonymous VMAs into the interval trees of files for that in 3.7 (bf181b9f9d8d), on the anon_vmas of its day,
which are not these. Another index, of another package too, is put here by a class like AnonVmaIntervalTree.

Sources: commit bf181b9f9d8d; anon_vma.py for all but the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from rmaplab.machine.arrays import I64
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.paging import Paging
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.anon_vma import AnonVma, AnonVmaMap
from rmaplab.rmap.file_index import FileIndex, ListOrder, VmaIntervalTree, check_index
from rmaplab.rmap.live import Live
from rmaplab.rmap.objrmap import candidates, walk_vmas
from rmaplab.rmap.protocol import Mapping

if TYPE_CHECKING:
    from rmaplab.machine.locks import Lock


class IndexedAnonVma(AnonVma):
    """An anon_vma: a lock and an index."""

    __slots__ = ("index",)

    def __init__(self, address: int, lock: Lock, index: FileIndex) -> None:
        super().__init__(address, lock)
        self.index = index

    def link(self, vma: VmArea) -> None:
        """As long as the index takes."""
        self.index.link(vma)
        vma.anon_vma = self

    def unlink(self, vma: VmArea) -> bool:
        """Whether it is empty now."""
        self.index.unlink(vma)
        vma.anon_vma = None
        return next(iter(self.index), None) is None

    def vmas(self) -> list[VmArea]:
        """All VMAs on it, in the order of the index."""
        return list(self.index)


class IndexedAnonVmaMap(AnonVmaMap):
    """anon_vma, but for the list. A subclass names the `index`, and says what it takes: vma_bytes, object_bytes."""

    live: ClassVar[Live | None] = None
    index: ClassVar[type[FileIndex]]

    def new_object(self, address: int, lock: Lock) -> IndexedAnonVma:
        """With an index of its own; of lists, one that has new VMAs at its head."""
        return IndexedAnonVma(address, lock, self.index(self.machine.paging, ListOrder(new_at_head=True)))

    def vma_pre_update(self, vma: VmArea) -> None:
        """The index hears of it."""
        if isinstance(vma.anon_vma, IndexedAnonVma):
            vma.anon_vma.index.pre_update(vma)

    def vma_post_update(self, vma: VmArea) -> None:
        """Likewise."""
        if isinstance(vma.anon_vma, IndexedAnonVma):
            vma.anon_vma.index.post_update(vma)

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Whom the index finds for the page."""
        anon_vma, index = self.owner_of(pfn), int(self.frames.index[pfn])
        if isinstance(anon_vma, IndexedAnonVma):
            yield from walk_vmas(
                self.machine, pfn, candidates(self.machine, anon_vma.index, index, index, "anon_node_visit")
            )

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """And each index is whole."""
        super().check(mms, mapped)
        for anon_vma in self.at.values():
            if isinstance(anon_vma, IndexedAnonVma):
                check_index(anon_vma.index, {vma for mm in mms for vma in mm.vmas if vma.anon_vma is anon_vma})


class AnonVmaIntervalTree(IndexedAnonVmaMap):
    """In an interval tree."""

    name: ClassVar[str] = "anon_vma_interval_tree"
    index: ClassVar[type[FileIndex]] = VmaIntervalTree

    def borders(self, owner: int) -> Iterable[int] | None:
        """The tree's."""
        anon_vma = self.at.get(owner)
        return anon_vma.index.borders() if isinstance(anon_vma, IndexedAnonVma) else None

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """anon_vma, and a place in the tree."""
        return paging.word_bytes + VmaIntervalTree.vma_bytes(paging)

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """A lock, and the tree."""
        return {"anon_vma": hardware.paging.word_bytes + VmaIntervalTree.file_bytes(hardware.paging)}
