"""pv_list: a page keeps a list of who maps it. The plainest reverse map there is, and one that a kernel could have.

The idea. Every mapping of a page is put down as (mm, address). The first one fits into struct page; each further one takes a pv
entry, three words from a slab cache. So memory that is not shared costs no entry.

    struct page            pv entry, 12 bytes       pv entry
    +-----------+          +---------+              +---------+
    | mm        |          | next ------------------> | next 0  |
    | address   |          | mm      |              | mm      |
    | more ---------------> | address |              | address |
    +-----------+          +---------+              +---------+

What each verb costs.
    first fault of a page     nothing            fork, per shared page     12 bytes (24 on 64 bit), three stores
    unmap, per page           a search of its list: O(mappings of the page)
    mremap, per page          the same search, and a store; no page is copied
    walk                      the list: O(mappings), no visit in vain

FreeBSD's pv entries are relatives: an address and two list pointers, packed 168 to a page with the pmap said once per page, which
comes to 24.4 bytes a mapping on amd64; and FreeBSD takes one for the first mapping too.

An entry is removed by its page-table entry, and a reverse map is not told whose that is: so a table's frame remembers its mm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import Batch
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.jit import kernel
from rmaplab.machine.machine import Machine
from rmaplab.machine.pagetable_edit import leaf_tables
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.protocol import Mapping, ReverseMap


class PvList(ReverseMap):
    """A list of (mm, address) per page."""

    name: ClassVar[str] = "pv_list"
    protocol_version: ClassVar[str | int] = "2.dev"
    reserves: ClassVar[bool] = True

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        word = machine.paging.word_bytes
        self.cache = self.make_cache("pv_entry")
        self._mms: dict[int, MmStruct] = {}  # by the address of the mm_struct, which is what entries hold
        self._table_mm: I64 = machine.frames.column(np.int64)
        self._first_mm: I64 = machine.frames.column(np.int64)
        self._first_address: I64 = machine.frames.column(np.int64)
        self._more: I64 = machine.frames.column(np.int64)
        self._ram: Any = machine.ram.words(word)  # entries lie where the slab put them, as words of the simulated RAM
        self._shift = word.bit_length() - 1
        lists = self._first_mm, self._first_address, self._more
        self._columns: tuple[Any, int, I64, I64, I64] = (self._ram, self._shift, *lists)

    # -- what it costs -----------------------------------------------------------------------------------------------

    @staticmethod
    def page_bytes(hardware: Hardware) -> int:
        """mm, address, more."""
        return 3 * hardware.paging.word_bytes

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """next, mm, address."""
        return {"pv_entry": 3 * hardware.paging.word_bytes}

    # -- whose is a page table? --------------------------------------------------------------------------------------

    def mm_new(self, mm: MmStruct) -> None:
        """Entries may name it from now on."""
        self._mms[mm.address] = mm

    def mm_fork(self, parent: MmStruct, child: MmStruct) -> None:
        """As a new one."""
        self.mm_new(child)

    def mm_exit(self, mm: MmStruct) -> None:
        """No entry names it any more. One that failed to be made may never have been told."""
        self._mms.pop(mm.address, None)

    def tables_added(self, mm: MmStruct, start: int, end: int) -> None:
        """A table's frame remembers its mm."""
        most = (end - start) // self.machine.paging.leaf_span + 2
        tables, bases = np.empty(most, np.int64), np.empty(most, np.int64)
        nr = leaf_tables(*self.machine.geometry, mm.pgd, start, end, tables, bases)
        self._table_mm[tables[:nr]] = mm.address

    def tables_removed(self, tables: I64) -> None:
        """It forgets."""
        self._table_mm[tables] = 0

    # -- memory before entries change ----------------------------------------------------------------------------------

    def _short(self, batch: Batch) -> int:
        """How many entries are still to be taken: one for each page that is mapped already."""
        return int(np.count_nonzero(self._first_mm[batch.pfns])) - self.spare.size

    def reserve(self, batch: Batch) -> None:
        """They may sleep, and others unmap and map pages meanwhile: so it is counted again."""
        while (short := self._short(batch)) > 0:
            more = self.cache.alloc_bulk(short)
            self.spare = np.concatenate((self.spare, more))
            self.machine.charge("pv_entry_alloc", short)

    def reserved(self, batch: Batch) -> bool:
        """As many as it would take."""
        return self._short(batch) <= 0

    def unreserve(self) -> None:
        """What was not needed after all."""
        self.cache.free_bulk(self.spare)
        self.spare = self.spare[:0]

    # -- pages -------------------------------------------------------------------------------------------------------

    def add(self, batch: Batch, vma: VmArea) -> None:
        """The first mapping fits into struct page; what was reserved does for others."""
        used = _insert(*self._columns, batch.pfns, batch.addresses, vma.mm.address, self.spare)
        if used < 0:
            raise KernelBug("pv_add", "a page is mapped once more, and no entry was reserved")
        self.spare = self.spare[used:]

    def duplicate(self, batch: Batch, vma: VmArea) -> None:
        """The same."""
        self.add(batch, vma)

    def remove(self, batch: Batch) -> None:
        """Find (mm, address) and let the head of the list fill its place."""
        mms = self._table_mm[batch.ptes >> 12]
        emptied = np.empty(batch.nr, np.int64)
        nr, searched = _remove(*self._columns, batch.pfns, batch.addresses, mms, emptied)
        if nr < 0:
            raise KernelBug("pv_remove", "a mapping is not on its page's list")
        self.cache.free_bulk(emptied[:nr])
        self.machine.ledger.search("pv_entry_search", searched)

    def moved(self, old: Batch, new: Batch, vma: VmArea) -> None:
        """The same mapping at another address."""
        searched = _move(*self._columns, old.pfns, old.addresses, new.addresses, vma.mm.address)
        if searched < 0:
            raise KernelBug("pv_move", "a mapping that moves is not on its page's list")
        self.machine.ledger.search("pv_entry_search", searched)

    # -- queries -----------------------------------------------------------------------------------------------------

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Read the list."""
        if self._first_mm[pfn]:
            yield Mapping(self._mms[int(self._first_mm[pfn])], int(self._first_address[pfn]))
        entry = int(self._more[pfn])
        while entry:
            self.machine.ledger.visit("pv_entry_visit")
            following, mm, address = self._ram[entry >> self._shift :][:3].tolist()
            yield Mapping(self._mms[mm], address)
            entry = following

    def tracked(self) -> I64:
        """Pages whose struct page names an mm."""
        return np.flatnonzero(self._first_mm).astype(np.int64)

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """As many entries as mappings beyond the first; the mms it knows are the living ones; nothing stays reserved."""
        if {mm.address for mm in mms} != self._mms.keys():
            raise KernelBug("pv_list", "the mms it knows are not the living ones")
        wanted = int(np.maximum(mapped - 1, 0).sum())
        if self.cache.nr_objects != wanted or self._spares:
            raise KernelBug("pv_list", f"{self.cache.nr_objects} entries in the slab, {wanted} needed")


# An entry at address e is words[e >> shift] and the two that follow: next, mm, address.


@kernel
def _insert(
    words: I64, shift: int, mms: I64, places: I64, more: I64, pfns: I64, addresses: I64, mm: int, spare: I64
) -> int:
    """How many of the `spare` entries it has used; -1 if they are not enough."""
    used = 0
    for i in range(pfns.size):
        pfn = pfns[i]
        if not mms[pfn]:
            mms[pfn], places[pfn] = mm, addresses[i]
            continue
        if used == spare.size:
            return -1
        entry = spare[used] >> shift
        words[entry] = more[pfn]
        words[entry + 1] = mm
        words[entry + 2] = addresses[i]
        more[pfn] = spare[used]
        used += 1
    return used


@kernel
def _remove(
    words: I64, shift: int, mms: I64, places: I64, more: I64, pfns: I64, addresses: I64, whose: I64, emptied: I64
) -> tuple[int, int]:
    """(entries that are empty now, entries looked at); -1 if a mapping is not found. The head's contents fill the gap."""
    nr_emptied = searched = 0
    for i in range(pfns.size):
        pfn, mm, address = pfns[i], whose[i], addresses[i]
        head = more[pfn]
        top = head >> shift
        if mms[pfn] == mm and places[pfn] == address:
            mms[pfn] = places[pfn] = 0
            if head:
                mms[pfn] = words[top + 1]
                places[pfn] = words[top + 2]
        else:
            at = head
            while at and (words[(at >> shift) + 1] != mm or words[(at >> shift) + 2] != address):
                at = np.int64(words[at >> shift])
                searched += 1
            if not at:
                return -1, searched
            words[(at >> shift) + 1] = words[top + 1]
            words[(at >> shift) + 2] = words[top + 2]
        if head:
            more[pfn] = words[top]
            words[top : top + 3] = 0
            emptied[nr_emptied] = head
            nr_emptied += 1
    return nr_emptied, searched


@kernel
def _move(words: I64, shift: int, mms: I64, places: I64, more: I64, pfns: I64, old: I64, new: I64, mm: int) -> int:
    """Entries looked at; -1 if a mapping is not found."""
    searched = 0
    for i in range(pfns.size):
        pfn = pfns[i]
        if mms[pfn] == mm and places[pfn] == old[i]:
            places[pfn] = new[i]
            continue
        at = more[pfn]
        while at and (words[(at >> shift) + 1] != mm or words[(at >> shift) + 2] != old[i]):
            at = np.int64(words[at >> shift])
            searched += 1
        if not at:
            return -1
        words[(at >> shift) + 2] = new[i]
    return searched
