"""anonmm: an anonymous page names an address space and an address. Hugh Dickins, 2003; in -mm and 2.6.7-rc for a week in 2004.

The idea. After fork a page sits at the same virtual address in every address space of the family. So it is enough to know
the address and one of the family: the others are tried at the same address. No object per VMA, none per page, nothing about
VMAs at all: anonymous VMAs may merge as they like.

    struct page                 anonmm, 24 bytes, one per mm
    +--------------------+      +-----------------------+     head of the family (since exec)
    | mapping -----------------> | mm -> mm of the child | --> anonmm of the parent
    | index   0x40007000 |      | head, list            |       |-- anonmm of the child
    | mapcount 2         |      | count: mm + its pages |       |-- anonmm of another child (its mm may be gone)
    +--------------------+      +-----------------------+
                          each mm of the family: one page-table walk at 0x40007000, until mapcount found; the page's own mm first,
                          then on along the list, which is a ring, from there: younger mms, the head, older ones

Its hole, and the remedy. mremap moves a page to another address in one mm only. A page nobody shares is told its new address;
a shared one could not be found any more, so mremap takes a private copy of it first (Linus's suggestion; mainline did it so in
2004). What that costs is counted as mremap_copy.

What each verb costs.
    fork, per mm      24 bytes (40 on 64 bit), a list insertion           per VMA, per page    nothing, mapcount + 1
    walk              one table walk per mm of the family at worst; one for a page that is private to its mm; a page can only have been
                      forked into younger mms, so that these come first is not for nothing
    mremap            an entry move per page, and a page copy for each page that is shared

AnonMmUnordered is what it was taken for in the week before it was posted: a list of mms that is gone through.

Sources: history.md 1.4 (HT:0c35710493, "rmap 10" and "rmap 11", May 2004; LKML 2004-03-18). The object outlives its mm while
pages name it: a page may be mapped by a grandchild only, and be found through its grandfather's anonmm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, Bools, Words
from rmaplab.machine.batch import Batch
from rmaplab.machine.entries import PFN_MASK
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.jit import kernel
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.paging import Paging
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.live import FAMILIES, Live
from rmaplab.rmap.objrmap import ObjRmap, is_busy, look
from rmaplab.rmap.protocol import Mapping, Sites

if TYPE_CHECKING:
    from rmaplab.machine.locks import Lock, LockClasses
    from rmaplab.machine.machine import Machine


class AnonMm:
    """struct anonmm. `family` and the lock are the head's: its own members, itself included, in order of birth."""

    __slots__ = ("address", "family", "head", "lock", "mm", "nr_pages")

    def __init__(self, address: int, mm: MmStruct, head: AnonMm | None, lock: Lock) -> None:
        self.address = address
        self.mm: MmStruct | None = mm
        self.nr_pages = 0
        self.head: AnonMm = head or self
        self.lock: Lock = head.lock if head else lock
        self.family: dict[AnonMm, None] = {}
        self.head.family[self] = None


class AnonMmMap(ObjRmap[AnonMm]):
    """anonmm with its remedy for mremap."""

    name: ClassVar[str] = "anonmm"
    live: ClassVar[Live | None] = FAMILIES
    counts_pages: ClassVar[bool] = True
    unshares_moves: ClassVar[bool] = True
    page_lock: ClassVar[str | None] = "PG_maplock"
    lock_classes: ClassVar[LockClasses] = (("PG_maplock", False, False), ("anonmm_lock", False, False))
    stops: ClassVar[bool] = True
    """A walk ends when as many entries are found as the page has mapcount."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.cache = self.make_cache("anonmm")
        self._of_mm: dict[int, AnonMm] = {}

    @staticmethod
    def mm_bytes(paging: Paging) -> int:
        """mm->anonmm."""
        return paging.word_bytes

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """Count, lock, mm, head, list of two: 24 bytes, or 40 where a pointer has 8 and an int 4."""
        return {"anonmm": 24 if hardware.paging.word_bytes == 4 else 40}

    def mm_new(self, mm: MmStruct) -> None:
        """exec: the head of a new family."""
        self._new(mm, None)

    def mm_fork(self, parent: MmStruct, child: MmStruct) -> None:
        """dup_rmap: one more in the parent's family."""
        self._new(child, self._of_mm[parent.address].head)

    def _new(self, mm: MmStruct, head: AnonMm | None) -> None:
        address = self.cache.alloc()
        if head is not None:
            self.machine.locks.pass_through(head.lock)
        anonmm = AnonMm(address, mm, head, self.machine.locks.new("anonmm_lock", f"anonmm {address:#x}"))
        self.machine.charge("anonmm_alloc")
        self.at[anonmm.address] = self._of_mm[mm.address] = anonmm

    def mm_exit(self, mm: MmStruct) -> None:
        """The mm is gone; the object stays while pages name it."""
        anonmm = self._of_mm.pop(mm.address, None)
        if anonmm is not None:
            anonmm.mm = None
            self._put(anonmm)

    def _put(self, anonmm: AnonMm) -> None:
        """free_anonmm, when nothing names it: the head last of its family."""
        if anonmm.mm is not None or anonmm.nr_pages:
            return
        head = anonmm.head
        if anonmm is not head:
            self.machine.locks.pass_through(head.lock)
            del head.family[anonmm]
            self._free(anonmm)
        if head.mm is None and not head.nr_pages and len(head.family) == 1:
            self._free(head)

    def _free(self, anonmm: AnonMm) -> None:
        if self.at.pop(anonmm.address, None) is not None:
            self.cache.free(anonmm.address)

    def owner(self, vma: VmArea, *, exclusive: bool) -> int:
        """First mapping: the page learns this mm, and its address here."""
        return self._of_mm[vma.mm.address].address

    def owned(self, vma: VmArea, nr: int) -> None:
        """The object is kept for them."""
        self._of_mm[vma.mm.address].nr_pages += nr

    def disowned(self, owners: I64) -> None:
        """Pages forget their mms, which may have waited for that."""
        named, counts = np.unique(owners, return_counts=True)
        for address, count in zip(named.tolist(), counts.tolist(), strict=True):
            anonmm = self.at[address]
            anonmm.nr_pages -= count
            self._put(anonmm)

    def rehome(self, batch: Batch, vma: VmArea) -> None:
        """page_update_anon_rmap: pages nobody else maps name this mm, at the batch's addresses."""
        pfns, frames = batch.pfns, self.frames
        old = frames.mapping[pfns]
        frames.mapping[pfns] = self.owner(vma, exclusive=True)
        frames.index[pfns] = batch.addresses
        self.owned(vma, batch.nr)
        self.disowned(old)

    def move_verdict(self, batch: Batch, vma: VmArea) -> Bools | None:
        """mremap: pages that somebody else maps too could not be found at a new address; they must be copied."""
        del vma
        shared: Bools = (self.frames.mapcount[batch.pfns] > 1) & self._anonymous(batch)
        return shared

    def moved(self, old: Batch, new: Batch, vma: VmArea) -> None:
        """The others are told where they are now."""
        del old
        anonymous = self._anonymous(new)
        self.rehome(new if anonymous.all() else new.select(anonymous), vma)

    def _anonymous(self, batch: Batch) -> Bools:
        """Which of the pages are; a file's are found through the file."""
        anonymous: Bools = self.frames.flags[batch.pfns] & PG_ANON != 0
        return anonymous

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """The family, each at the page's one address, in the order of tried(), until mapcount are found or, if that is not `stops`, to the end."""
        anonmm, machine = self.owner_of(pfn), self.machine
        if anonmm is None:
            return
        address, left = int(self.frames.index[pfn]), int(self.frames.mapcount[pfn])
        for member in self.tried(anonmm):
            machine.ledger.visit("mm_visit")
            if member.mm is None or not member.mm.rss:
                machine.ledger.waste("visit_empty_mm")
            elif found := look(machine, pfn, member.mm, address):
                yield found
                left -= 1
                if self.stops and not left:
                    return

    def borders(self, owner: int) -> Iterable[int]:
        """None: the index is where to look, not whom to ask."""
        del owner
        return ()

    def sites(self, pfns: I64, *, stops: bool, tries: bool) -> Sites | None:
        """The same, mm by mm for each page."""
        anonmm, machine, frames = self.owner_of(int(pfns[0])), self.machine, self.frames
        if anonmm is None:
            return None
        members = [member.mm for member in self.tried(anonmm)]
        rows_of = [(-1, 0) if mm is None or not mm.rss else (mm.pgd, tries and is_busy(mm)) for mm in members]
        pgds = np.array(rows_of, np.int64).reshape(-1, 2)
        rows = np.empty((4, int(frames.mapcount[pfns].sum())), np.int64)
        columns, ends = (frames.mapcount, frames.index), (stops, self.stops)
        nr, empty, looked, busy = _look_in_mms(*machine.geometry, machine.mapped, *columns, pfns, pgds, rows, *ends)
        row, member, address, pte = rows[:, :nr]
        visits, in_vain = (
            {"mm_visit": empty + looked},
            {"visit_empty_mm": empty, "visit_other_page": looked - nr - busy},
        )
        owner = (np.cumsum([mm is not None for mm in members]) - 1)[member]
        owners: list[tuple[MmStruct, VmArea | None]] = [(mm, None) for mm in members if mm is not None]
        return Sites(row, owner, address, pte, owners, visits, in_vain, looked, busy)

    def tried(self, anonmm: AnonMm) -> Iterator[AnonMm]:
        """In which order a walk tries the family of the one that the page names: that first, then on along the ring from there."""
        yield anonmm
        family = list(anonmm.head.family)
        own = family.index(anonmm)
        yield from family[own + 1 :]
        yield from family[:own]

    def draw_owner(self, owner: AnonMm, index: int) -> tuple[str, list[str]]:
        """The family in the order of the walk: all are looked at where the page says."""
        hanging = []
        for nr, member in enumerate(self.tried(owner), 1):
            whose = f"pid {member.mm.pid}" if member.mm is not None else "mm gone"
            head = ", the head" if member is owner.head else ""
            hanging.append(f"{nr}  {whose}  anonmm {member.address:x}, pages that name it: {member.nr_pages}{head}")
        return (
            f"anonmm {owner.address:x}, {self.cache.object_bytes} bytes: its family, to be tried at {index:x}",
            hanging,
        )

    def check_owner(self, vma: VmArea, owner: int) -> None:
        """A page names one of the family."""
        if owner not in self.at or self.at[owner].head is not self._of_mm[vma.mm.address].head:
            raise KernelBug("anonmm", f"a page of {vma} names an object that is gone, or another family's")

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """One object per living mm; page counts are right; no object without a reason."""
        if {mm.address for mm in mms} != self._of_mm.keys() or self.cache.nr_objects != len(self.at):
            raise KernelBug("anonmm", "objects are not one per living mm plus the remembered dead")
        frames = self.frames
        named, counts = np.unique(frames.mapping[frames.flags & PG_ANON != 0], return_counts=True)
        pages = dict(zip(named.tolist(), counts.tolist(), strict=True))
        for anonmm in self.at.values():
            needed = anonmm.mm is not None or anonmm.nr_pages or len(anonmm.family) > 1
            if anonmm.nr_pages != pages.get(anonmm.address, 0) or not needed or anonmm not in anonmm.head.family:
                raise KernelBug("anonmm", f"the object at {anonmm.address:#x} counts {anonmm.nr_pages} pages")


class AnonMmUnordered(AnonMmMap):
    """anonmm as a mail of 13 March 2004 has it: all mms from the head on, whosever the page is.

    That is the loop in Linus Torvalds's part of "anon_vma RFC2", and what Andrea Arcangeli's answer holds against it: for what a child has
    malloc'ed "you'll still have to try all the mm in the anongroup". try_to_unmap ends when nobody maps the page any more, as always.
    """

    name: ClassVar[str] = "anonmm_unordered"
    stops: ClassVar[bool] = False
    borders = AnonMmMap.borders

    def tried(self, anonmm: AnonMm) -> Iterator[AnonMm]:
        """In order of birth."""
        yield from list(anonmm.head.family)


@kernel
def _look_in_mms(
    words: Words, levels: int, bits: int, mapped: int, mapcount: I32, addresses: I64, pfns: I64, pgds: I64, rows: I64, stops: bool, own: bool
) -> tuple[int, int, int, int]:  # fmt: skip
    """Fill `rows` with (page, mm, address, entry): how many; mms that have nothing; mms where a page was looked for; entries that are busy.

    `pgds`: of each mm, -1 if it has nothing; and whether its page_table_lock is busy. The design's `own` end counts what is busy too.
    """
    nr, empty, looked, busy = 0, 0, 0, 0
    for i in range(pfns.size):
        pfn = np.uint64(pfns[i])
        address, left, busy_left = addresses[pfn], mapcount[pfn], mapcount[pfn]
        for m in range(pgds.shape[0]):
            if pgds[m, 0] < 0:
                empty += 1
                continue
            looked += 1
            entry, place = lookup(words, levels, bits, pgds[m, 0], address)
            if entry & mapped and (entry >> 12) & PFN_MASK == pfns[i]:
                busy_left -= 1
                if pgds[m, 1]:
                    busy += 1
                    if own and busy_left <= 0:
                        break
                    continue
                rows[0, nr], rows[1, nr], rows[2, nr], rows[3, nr] = i, m, address, place
                nr += 1
                left -= 1
                if (stops and left <= 0) or (own and busy_left <= 0):
                    break
    return nr, empty, looked, busy
