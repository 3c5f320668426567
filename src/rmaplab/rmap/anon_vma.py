"""anon_vma: who maps an anonymous page is asked through the VMAs that could. Andrea Arcangeli, 2.6.5-rc1-aa1, March 2004.

The idea. Pages that a VMA and its fork copies may share hang on one small object, made at the VMA's first anonymous fault.
A page remembers the object and its index, its place counted in pages. A VMA remembers where index pgoff lies. So a page
needs no list of its own: fork adds one VMA to a list, whatever the number of pages, and a moved VMA takes its pages along
because pgoff moves with it.

    struct page                anon_vma, 12 bytes          vm_area_struct (each + 12 bytes)
    +------------------+       +---------------+      +--> parent  start 0x40000000, pgoff 0x40000
    | mapping ----------------> | lock          |      |
    | index   0x40007  |       | head ----------------+--> child   start 0x40000000, pgoff 0x40000
    | mapcount 2       |       +---------------+      |
    | flags PG_anon    |                              +--> moved   start 0x50000000, pgoff 0x40000
    +------------------+
                        address = start + (index - pgoff) * 4096: one page-table walk per VMA, and the frame must match

What each verb costs.
    first fault of a VMA    12 bytes (24 on 64 bit) and a list insertion
    fork, per VMA           a list insertion               fork, per page     mapcount + 1
    unmap, per page         mapcount - 1                   unmap, per VMA     a list removal; the last one frees the object
    walk                    every VMA on the object, whether it maps the page or not: O(VMAs), and that is its weak spot
    merging                 pgoff must continue, and both anon_vmas be the same or one missing

Sources: the announcement (in LKML, 2004-03-18); mm/objrmap.c, include/linux/objrmap.h of the -aa tree; history.md 1.5.
The pointer in page->mapping is the object's address in the slab; PG_anon tells it from a file's mapping.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.hardware import Hardware
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.file_index import borders_of
from rmaplab.rmap.live import ROOTS, Live
from rmaplab.rmap.objrmap import LinearRmap, draw_place, vma_sites, walk_vmas
from rmaplab.rmap.protocol import Mapping, Sites

if TYPE_CHECKING:
    from rmaplab.machine.locks import Lock, LockClasses
    from rmaplab.machine.machine import Machine


class AnonVma:
    """anon_vma_t: a lock and a list of VMAs; newest first, as list_add puts them."""

    __slots__ = ("_vmas", "address", "lock")

    def __init__(self, address: int, lock: Lock) -> None:
        self.address = address
        self.lock = lock
        self._vmas: dict[VmArea, None] = {}  # insertion order, O(1) removal: what a list_head gives

    def link(self, vma: VmArea) -> None:
        """list_add. O(1)."""
        self._vmas[vma] = None
        vma.anon_vma = self

    def unlink(self, vma: VmArea) -> bool:
        """list_del: whether the list is empty now. O(1)."""
        del self._vmas[vma]
        vma.anon_vma = None
        return not self._vmas

    def vmas(self) -> list[VmArea]:
        """All VMAs on it, newest first."""
        return list(reversed(self._vmas))


class AnonVmaMap(LinearRmap[AnonVma]):
    """The design of 2.6.5-rc1-aa1, anonymous side."""

    name: ClassVar[str] = "anon_vma"
    live: ClassVar[Live | None] = ROOTS
    page_lock: ClassVar[str | None] = "PG_maplock"
    lock_classes: ClassVar[LockClasses] = (("PG_maplock", False, False), ("anon_vma_lock", False, False))

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.cache = self.make_cache("anon_vma")

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """spinlock_t and list_head: three words."""
        return {"anon_vma": 3 * hardware.paging.word_bytes}

    def new_object(self, address: int, lock: Lock) -> AnonVma:
        """At this place in the slab."""
        return AnonVma(address, lock)

    def vma_prepare(self, vma: VmArea) -> None:
        """anon_vma_prepare: the first anonymous fault of a VMA makes its object. Another thread may have been faster while this one slept."""
        if vma.anon_vma is None:
            address = self.cache.alloc()
            if vma.anon_vma is not None:
                self.cache.free(address)
                return
            anon_vma = self.new_object(address, self.machine.locks.new("anon_vma_lock", f"anon_vma {address:#x}"))
            self.machine.charge("anon_vma_alloc")
            self.at[anon_vma.address] = anon_vma
            anon_vma.link(vma)

    def vma_fork(self, vma: VmArea, child: VmArea) -> None:
        """anon_vma_link: the child's VMA joins its parent's object. Nothing is allocated."""
        self._join(vma, child)

    def vma_clone(self, vma: VmArea, new: VmArea) -> None:
        """A split, or mremap's new place: both are on the object."""
        self._join(vma, new)

    def vma_merge(self, vma: VmArea, dying: VmArea) -> None:
        """anon_vma_merge: the survivor inherits what only the dying one has."""
        if vma.anon_vma is None:
            self._join(dying, vma)
        self.vma_unlink(dying)

    def vma_adjust(self, vma: VmArea, other: VmArea) -> None:
        """Pages of `other` will be looked for in `vma`: it must be on their object."""
        if vma.anon_vma is None:
            self._join(other, vma)

    def vma_unlink(self, vma: VmArea) -> None:
        """anon_vma_unlink: off the list; the object goes with its last VMA, and no page can name it then."""
        anon_vma = vma.anon_vma
        if not isinstance(anon_vma, AnonVma):
            return
        self.machine.locks.pass_through(anon_vma.lock)
        if anon_vma.unlink(vma):
            del self.at[anon_vma.address]
            self.cache.free(anon_vma.address)

    def _join(self, vma: VmArea, other: VmArea) -> None:
        if isinstance(vma.anon_vma, AnonVma):
            self.machine.locks.pass_through(vma.anon_vma.lock)
            vma.anon_vma.link(other)
            self.machine.charge("anon_vma_link")

    def owner(self, vma: VmArea, *, exclusive: bool) -> int:
        """The 0 -> 1 transition: the page learns its VMA's object, and its index."""
        if not isinstance(vma.anon_vma, AnonVma):
            raise KernelBug("page_add_rmap", f"{vma} was not prepared")
        return vma.anon_vma.address

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Every VMA on the object, newest first."""
        anon_vma = self.owner_of(pfn)
        return walk_vmas(self.machine, pfn, anon_vma.vmas() if anon_vma is not None else ())

    def borders(self, owner: int) -> Iterable[int] | None:
        """Those of all VMAs on it."""
        return borders_of(self.at[owner].vmas() if owner in self.at else ())

    def sites(self, pfns: I64, *, stops: bool, tries: bool) -> Sites | None:
        """The same, VMA by VMA for each page."""
        anon_vma = self.owner_of(int(pfns[0]))
        if anon_vma is None:
            return None
        return vma_sites(self.machine, pfns, anon_vma.vmas(), stops=stops, tries=tries)

    def draw_owner(self, owner: AnonVma, index: int) -> tuple[str, list[str]]:
        """The VMAs on the object, newest first: where the page's index lies in each."""
        hanging = []
        for nr, vma in enumerate(owner.vmas(), 1):
            address = vma.address_of(index)
            where = f"at {address:x}" if vma.start <= address < vma.end else "outside"
            hanging.append(f"{draw_place(nr, vma)}  pgoff {vma.pgoff:x}: {where}")
        return (
            f"anon_vma {owner.address:x}, {self.cache.object_bytes} bytes: its VMAs, and index {index:x} in each",
            hanging,
        )

    def check_owner(self, vma: VmArea, owner: int) -> None:
        """A page names its VMA's object: the same for all who map it."""
        if vma.anon_vma is None or self.at.get(owner) is not vma.anon_vma:
            raise KernelBug("anon_vma", f"a page of {vma} names an object that is gone, or another VMA's")

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """Objects and VMAs know each other; nothing is counted twice."""
        linked = {vma for anon_vma in self.at.values() for vma in anon_vma.vmas()}
        for anon_vma in self.at.values():
            if not anon_vma.vmas() or any(vma.anon_vma is not anon_vma for vma in anon_vma.vmas()):
                raise KernelBug("anon_vma", f"the list at {anon_vma.address:#x} is empty or has a VMA of another")
        if linked != {vma for mm in mms for vma in mm.vmas if vma.anon_vma is not None}:
            raise KernelBug("anon_vma", "a VMA of no living mm is on a list, or one that should be is not")
        if self.cache.nr_objects != len(self.at):
            raise KernelBug("anon_vma", f"{self.cache.nr_objects} objects in the slab, {len(self.at)} in use")
