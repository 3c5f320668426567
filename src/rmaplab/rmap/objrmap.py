"""Object-based reverse mapping: a page names an owner, and whoever may map it is found from there.

    struct page            owner                          who may map it, and where
    +------------+         +-----------------------+
    | mapping ------------> | anonmm                | ---> address spaces, at the address `index`
    | index      |         | anon_vma              | ---> VMAs, at start + (index - pgoff) * 4096
    | mapcount   |         | a file's address_space| ---> VMAs, likewise
    +------------+         +-----------------------+

Nothing is kept per page but that one pointer, so nothing is done per page when a process forks. The price is paid by who asks: whether
somebody who may map the page does, only his page table says (`look`), and a look in vain is waste.

What is here: the look; the walk over VMAs by page offset, for anon_vmas and files alike; what the designs share whose pages name an owner (ObjRmap), and those among them that go by page offset (LinearRmap).

Sources: Dave McCracken's objrmap (LKML, February 2003; 00100_objrmap-core-1 of the -aa tree), 2.6.7 mm/rmap.c, page_referenced_one,
vma_address; history.md 1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from rmaplab.machine.arrays import I32, I64, Words
from rmaplab.machine.entries import PFN_MASK
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.jit import kernel
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.pagetable_edit import find_pfn
from rmaplab.machine.paging import Paging
from rmaplab.objects.flags import VM_NONLINEAR
from rmaplab.objects.mm_types import AddressSpace, MmStruct, VmaIndex, VmArea
from rmaplab.rmap.protocol import Mapping, ReverseMap, Sites, draw_page
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from rmaplab.machine.ledger import Ledger
    from rmaplab.machine.locks import Lock
    from rmaplab.machine.machine import Machine


class Owning(Protocol):
    """What a page may name. `lock` keeps its list of VMAs or address spaces still."""

    address: int
    lock: Lock


Owner = TypeVar("Owner", bound=Owning)


def look(machine: Machine, pfn: int, mm: MmStruct, address: int, vma: VmArea | None = None) -> Mapping | None:
    """Read one entry of a page table: the page is there, or the visit was in vain."""
    machine.charge("table_walk")
    pte = machine.entry_of(mm.pgd, address, pfn)
    if pte >= 0:
        return Mapping(mm, address, vma, pte)
    machine.ledger.waste("visit_other_page")
    return None


Turn = Callable[[VmArea], Iterable[Mapping]]
"""What a walk does with a nonlinear VMA in its turn: the places that it finds there."""


def passed_over(_: VmArea) -> Iterable[Mapping]:
    """Nothing."""
    return ()


def walk_vmas(machine: Machine, pfn: int, vmas: Iterable[VmArea], nonlinear: Turn | None = None) -> Iterator[Mapping]:
    """Every one of these VMAs: where the page's index lies in it, and whether this frame is there; of nonlinear ones what `nonlinear` says, if it is given.

    Those in which it does not lie are counted together as far as they follow each other, unless somebody hears of each visit (Ledger.told).
    """
    index, ledger = int(machine.frames.index[pfn]), machine.ledger
    passed = 0
    try:
        for vma in vmas:
            if nonlinear is not None and vma.flags & VM_NONLINEAR:
                passed = _count_passed(ledger, passed)
                yield from nonlinear(vma)
                continue
            offset = (index - vma.pgoff) << PAGE_SHIFT
            if 0 <= offset < vma.end - vma.start:
                passed = _count_passed(ledger, passed)
                ledger.visit("vma_visit")
                if found := look(machine, pfn, vma.mm, vma.start + offset, vma):
                    yield found
            else:
                passed += 1
                if ledger.told is not None:
                    passed = _count_passed(ledger, passed)
    finally:
        _count_passed(ledger, passed)


def vma_sites(machine: Machine, pfns: I64, vmas: Sequence[VmArea], *, stops: bool, tries: bool) -> Sites:
    """What walk_vmas() says of each of `pfns`, as ReverseMap.places. O(pages * VMAs)."""
    frames = machine.frames
    rows_of = [(vma.start, vma.end, vma.pgoff, vma.mm.pgd, tries and is_busy(vma.mm)) for vma in vmas]
    ranges = np.array(rows_of, np.int64).reshape(-1, 5)
    most = int(frames.mapcount[pfns].sum())
    rows = np.empty((4, most), np.int64)
    columns = frames.mapcount, frames.index
    nr, passed, looked, busy = _look_in_vmas(*machine.geometry, machine.mapped, *columns, pfns, ranges, rows, stops)
    visits, in_vain = (
        {"vma_visit": passed + looked},
        {"visit_out_of_range": passed, "visit_other_page": looked - nr - busy},
    )
    owners: list[tuple[MmStruct, VmArea | None]] = [(vma.mm, vma) for vma in vmas]
    row, owner, address, pte = rows[:, :nr]
    return Sites(row, owner, address, pte, owners, visits, in_vain, looked, busy)


def is_busy(mm: MmStruct) -> bool:
    """Whether somebody has its page_table_lock."""
    return mm.page_table_lock.busy(write=True)


@kernel
def _look_in_vmas(
    words: Words, levels: int, bits: int, mapped: int, mapcount: I32, indexes: I64, pfns: I64, ranges: I64, rows: I64, stops: bool
) -> tuple[int, int, int, int]:  # fmt: skip
    """Fill `rows` with (page, VMA, address, entry): how many; VMAs in which a page's index does not lie; those where it was looked for; entries that are busy.

    `ranges`: start, end, pgoff, pgd of each VMA, and whether its page_table_lock is busy.
    """
    nr, passed, looked, busy = 0, 0, 0, 0
    for i in range(pfns.size):
        pfn = pfns[i]
        left = mapcount[np.uint64(pfn)]
        for v in range(ranges.shape[0]):
            offset = (indexes[np.uint64(pfn)] - ranges[v, 2]) << 12
            if offset < 0 or offset >= ranges[v, 1] - ranges[v, 0]:
                passed += 1
                continue
            looked += 1
            address = ranges[v, 0] + offset
            entry, place = lookup(words, levels, bits, ranges[v, 3], address)
            if entry & mapped and (entry >> 12) & PFN_MASK == pfn:
                if ranges[v, 4]:
                    busy += 1
                    continue
                rows[0, nr], rows[1, nr], rows[2, nr], rows[3, nr] = i, v, address, place
                nr += 1
                left -= 1
                if stops and left <= 0:
                    break
    return nr, passed, looked, busy


def _count_passed(ledger: Ledger, nr: int) -> int:
    """Of `nr` VMAs a walk has looked at the range alone. How many are still to be counted then: 0."""
    if nr:
        ledger.visit("vma_visit", nr)
        ledger.waste("visit_out_of_range", nr)
    return 0


def candidates(
    machine: Machine, index: VmaIndex, first: int, last: int, operation: str = "file_node_visit"
) -> Iterator[VmArea]:
    """The VMAs that may show pages [first, last] of a file. What the index looks at for it, in vain or not, is charged as `operation`."""
    ledger, nodes = machine.ledger, 0
    try:
        for vma in index.candidates(first, last):
            if ledger.told is not None:
                ledger.charge(operation, index.looked_at - nodes)
                nodes = index.looked_at
            yield vma
    finally:
        ledger.charge(operation, index.looked_at - nodes)


def walk_file(machine: Machine, pfn: int, file: AddressSpace, nonlinear: Turn | None = None) -> Iterator[Mapping]:
    """Who maps a page of `file`: those that its index finds, then nonlinear ones that are kept apart. Without `nonlinear` linear places alone."""
    index = int(machine.frames.index[pfn])
    yield from walk_vmas(machine, pfn, candidates(machine, file.i_mmap, index, index), nonlinear)
    if nonlinear is not None:
        for vma in file.i_mmap.apart:
            yield from nonlinear(vma)


def search(machine: Machine, pfn: int, file: AddressSpace) -> Iterator[Mapping]:
    """Who maps a page of `file` in a nonlinear VMA: all their entries are read. No kernel does that: what it costs is counted as a search of page tables."""
    for vma in file.i_mmap:
        if vma.flags & VM_NONLINEAR:
            yield from _search(machine, pfn, vma)


def _search(machine: Machine, pfn: int, vma: VmArea) -> Iterator[Mapping]:
    machine.ledger.visit("vma_visit")
    address = vma.start
    while address < vma.end:
        found, scanned = find_pfn(*machine.geometry, vma.mm.pgd, machine.mapped, address, vma.end, pfn)
        machine.charge("pte_scan", scanned)
        if found < 0:
            return
        yield Mapping(vma.mm, found, vma, machine.entry_of(vma.mm.pgd, found, pfn))
        address = found + PAGE_SIZE


class ObjRmap(ReverseMap, Generic[Owner]):
    """A design whose anonymous pages name an Owner. `at` has those that are alive, by address."""

    covers_files: ClassVar[bool] = False

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.at: dict[int, Owner] = {}

    @staticmethod
    def page_bytes(hardware: Hardware) -> int:
        """mapcount, an unsigned long in 2004, since then an int and what follows it to the next word; mapping and index are there anyway."""
        return hardware.paging.word_bytes

    def owner_of(self, pfn: int) -> Owner | None:
        """What an anonymous page names."""
        return self.at.get(int(self.frames.mapping[pfn])) if self.frames.flags[pfn] & PG_ANON else None

    def owner_lock(self, pfn: int) -> Lock | None:
        """The owner's."""
        owner = self.owner_of(pfn)
        return None if owner is None else owner.lock

    def draw(self, pfn: int) -> list[str]:
        """The page, its owner, and who may map it, in the order of the walk."""
        owner = self.owner_of(pfn)
        if owner is None:
            return super().draw(pfn)
        index = int(self.frames.index[pfn])
        fields = [f"mapcount {self.frames.mapcount[pfn]}", f"index {index:x}"]
        return draw_page(pfn, fields, "mapping", *self.draw_owner(owner, index))

    def draw_owner(self, owner: Owner, index: int) -> tuple[str, list[str]]:
        """The owner in words, and a line for each who may map its page `index`."""
        raise NotImplementedError


class LinearRmap(ObjRmap[Owner]):
    """One that finds a page through its VMA's page offset: a VMA says by `anon_vma` whom its pages name."""

    linear: ClassVar[bool] = True

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """anon_vma, and the two pointers of a list: of the VMAs on an anon_vma (2004), of the chains of a VMA (2010)."""
        return 3 * paging.word_bytes

    def vma_is_faulted(self, vma: VmArea) -> bool:
        """It has an anon_vma."""
        return vma.anon_vma is not None

    def vma_can_merge(self, vma: VmArea, other: VmArea) -> bool:
        """The same anon_vma, or one that has none: pages must find their VMA through the one that they name."""
        return vma.anon_vma is None or other.anon_vma is None or vma.anon_vma is other.anon_vma


def draw_place(nr: int, vma: VmArea) -> str:
    """A VMA that a walk visits as number `nr`, for draw_owner()."""
    return f"{nr}  pid {vma.mm.pid}  VMA {vma.start:x}-{vma.end:x}"
