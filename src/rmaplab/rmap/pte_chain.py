"""pte_chain: every page keeps a list of the page-table entries that map it. Rik van Riel's rmap, as in 2.6.2.

The idea. Whoever maps a page writes down where. The answer to "who maps this page?" is then a list, exact and complete:
no search, no wrong guess. The price is paid by everybody, at every fork, fault and exit, whether anybody asks or not, and
in low memory.

    struct page, mapped once            struct page, mapped by 18 entries
    +--------------------+              +--------------+
    | pte.direct ----------> entry      | pte.chain -----+
    | flags PG_direct    |              +--------------+ |
    +--------------------+                               v   one cache line each
                        +--------------+----+----+-- - --+----+      +--------------+----+-- - --+----+
                        | next | idx 12| -  | -  |  ...  | pte| ---> | next | idx 0 | pte|  ...  | pte|
                        +--------------+----+----+-- - --+----+      +--------------+----+-- - --+----+
                        slots fill from the back; only the head block has free ones; idx is its first used slot

A slot holds the entry's physical address. The page table's own struct page (mapping = mm, index = the first address it maps)
and the entry's place in the table say which mm and which virtual address that is.

What each verb costs.
    first mapping       the direct pointer            second mapping    a block for both entries
    add a mapping       O(1), the head block only; every NRPTE-th takes a new block (128 bytes on a Pentium 4)
    remove a mapping    a search from the head: O(n) slots, O(n / NRPTE) cache lines; the head's first entry fills the hole
    walk                O(n), every visit a hit
    A chain turns back into a direct pointer only when page_referenced finds one entry in it.

Sources: 2.6.2 mm/rmap.c, page_add_rmap, page_remove_rmap, pte_chain_alloc; include/asm-generic/rmap.h; history.md 1.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64, Words
from rmaplab.machine.batch import Batch
from rmaplab.machine.frames import PG_DIRECT
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.pagetable_edit import leaf_tables
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.live import CHAINS, Live
from rmaplab.rmap.objrmap import is_busy
from rmaplab.rmap.protocol import Mapping, ReverseMap, Sites, draw_page
from rmaplab.rmap.pte_chain_blocks import direct_kernel, insert_kernel, need_kernel, remove_kernel, slots_kernel
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from rmaplab.machine.locks import LockClasses
    from rmaplab.machine.machine import Machine

MANY = 16
"""More page tables than one for so many frames are sorted by frame, not by value."""


class PteChain(ReverseMap):
    """The design of 2.6.2. `nrpte` is the number of slots in a block."""

    name: ClassVar[str] = "pte_chain"
    live: ClassVar[Live | None] = CHAINS
    reserves: ClassVar[bool] = True
    page_lock: ClassVar[str | None] = "PG_chainlock"
    lock_classes: ClassVar[LockClasses] = (("PG_chainlock", False, False),)
    passes_over_files: ClassVar[bool] = False
    """Whether only pages with PG_anon have a chain."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        hardware = machine.hardware
        slot = self.page_bytes(hardware)
        self.nrpte = self.page_slots = (hardware.l1_cache_bytes - machine.paging.word_bytes) // slot
        self.cache = self.make_cache("pte_chain", hwcache_align=True)
        self.pte: I64 = machine.frames.column(np.int64)  # the union: an entry's address if PG_direct, else a block's
        self._nodes: Words = machine.ram.words(slot)
        self._slot_shift = slot.bit_length() - 1
        self._mms: dict[int, MmStruct] = {}
        shape = (self._slot_shift, self.nrpte, self.passes_over_files)
        self._need = need_kernel(*shape)
        step = machine.paging.entry_bytes
        self._insert, self._remove = insert_kernel(*shape, step), remove_kernel(*shape, step)
        self._read, self._make_direct = slots_kernel(*shape[:2]), direct_kernel(*shape[:2])
        self._columns = (self._nodes, machine.frames.flags, self.pte)
        self._none = np.empty(0, np.int64)
        self._emptied = self._none

    @staticmethod
    def page_bytes(hardware: Hardware) -> int:
        """The pte union, a pte_addr_t: a pointer, or a physical address where entries can lie in high memory (8 bytes under PAE)."""
        return 8 if hardware.highpte and hardware.paging.entry_bytes == 8 else hardware.paging.word_bytes

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """A block is a cache line."""
        return {"pte_chain": hardware.l1_cache_bytes}

    def mm_new(self, mm: MmStruct) -> None:
        """Page tables will point to it."""
        self._mms[mm.address] = mm

    def mm_fork(self, parent: MmStruct, child: MmStruct) -> None:
        """As a new one."""
        del parent
        self._mms[child.address] = child

    def mm_exit(self, mm: MmStruct) -> None:
        """No page table points to it any more."""
        del self._mms[mm.address]

    def tables_added(self, mm: MmStruct, start: int, end: int) -> None:
        """pgtable_add_rmap: a page table's struct page says whose it is and where it begins."""
        most = (end - start) // self.machine.paging.leaf_span + 2
        tables, bases = np.empty(most, np.int64), np.empty(most, np.int64)
        nr = leaf_tables(*self.machine.geometry, mm.pgd, start, end, tables, bases)
        self.frames.mapping[tables[:nr]] = mm.address
        self.frames.index[tables[:nr]] = bases[:nr]

    def tables_removed(self, tables: I64) -> None:
        """pgtable_remove_rmap."""
        self.frames.mapping[tables] = self.frames.index[tables] = 0

    def reserve(self, batch: Batch) -> None:
        """The blocks that duplicate(batch) will use: one per direct pointer and per full head. Whoever slept for them counts again."""
        seen = -1
        while seen != self.machine.changes:
            seen = self.machine.changes
            need = self._need(*self._columns, batch.columns, batch.runs)
            # somebody may map the page before its lock is taken: one at hand for each, as Linux has it always
            if self.machine.watched:
                need = max(need, batch.nr)
            short = need - self.spare.size
            if short > 0:
                more = self.cache.alloc_bulk(short)  # others may take from the spare ones meanwhile
                self.spare = np.concatenate((self.spare, more))
                self.machine.charge("chain_block_alloc", short)

    def reserved(self, batch: Batch) -> bool:
        """As many blocks as it would take."""
        return bool(self._need(*self._columns, batch.columns, batch.runs) <= self.spare.size)

    def unreserve(self) -> None:
        """Blocks that were not needed after all, because somebody has unmapped pages meanwhile."""
        if self.spare.size:
            self.cache.free_bulk(self.spare)
            self.machine.charge("chain_block_free", self.spare.size)
            self.spare = self._none

    def add(self, batch: Batch, vma: VmArea) -> None:
        """page_add_rmap: direct pointers for fresh pages; for others, what has been reserved."""
        self.insert(batch)

    def insert(self, batch: Batch) -> None:
        """The same, wherever they are mapped."""
        used = self._insert(*self._columns, batch.columns, batch.runs, self.spare)
        if used < 0:
            raise KernelBug("page_add_rmap", f"{self.spare.size} blocks are not enough")
        self.spare = self.spare[used:]
        self.machine.charge("chain_add", batch.nr)

    def duplicate(self, batch: Batch, vma: VmArea) -> None:
        """As add."""
        self.add(batch, vma)

    def remove(self, batch: Batch) -> None:
        """page_remove_rmap: search, fill the hole, free the head block when it is empty."""
        emptied = self._take_out(batch)
        if emptied.size:
            self.cache.free_bulk(emptied)
        self.machine.charge("chain_block_free", emptied.size)

    def moved(self, old: Batch, new: Batch, vma: VmArea) -> None:
        """page_remove_rmap and page_add_rmap: a block that becomes empty is at hand for the insertion that may need one."""
        emptied = self._take_out(old)
        need = self._need(*self._columns, new.columns, new.runs)
        self.spare = np.concatenate((self.spare, emptied[:need]))
        if emptied.size > need:
            self.cache.free_bulk(emptied[need:])
        self.machine.locks.count("PG_chainlock", old.nr)
        self.machine.locks.sweep("PG_chainlock", new.columns, new.nr)
        self.add(new, vma)

    def _take_out(self, batch: Batch) -> I64:
        """The entries leave their chains. Returns the blocks that are empty now, until the next call."""
        if self._emptied.size < batch.nr:
            self._emptied = np.empty(max(batch.nr, batch.columns.shape[1], self.frames.nr >> 6), np.int64)
        nr_emptied, slots, lines = self._remove(*self._columns, batch.columns, batch.runs, self._emptied)
        if nr_emptied < 0:
            raise KernelBug("page_remove_rmap", "an entry is not in its page's chain")
        self.machine.ledger.search("chain_slot_search", slots)
        self.machine.charge("chain_line_visit", lines)
        return self._emptied[:nr_emptied]

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Read the list; each slot's page table says the rest."""
        for pte in self._slots(pfn):
            self.machine.ledger.visit("chain_slot_visit")
            yield self._mapping(pte)

    def sites(self, pfns: I64, *, stops: bool, tries: bool) -> Sites | None:
        """The same, of pages with direct pointers and with lists."""
        del stops
        frames = self.frames
        rows, ptes = np.empty((2, int(frames.mapcount[pfns].sum())), np.int64)
        nr = self._read(*self._columns, pfns, rows, ptes)
        if nr < 0:
            raise KernelBug("page_referenced", "a page has more slots than it is mapped")
        rows, ptes = rows[:nr], ptes[:nr]
        tables = ptes >> PAGE_SHIFT
        addresses = frames.index[tables] + ((ptes & (PAGE_SIZE - 1)) // self.machine.paging.entry_bytes << PAGE_SHIFT)
        mms, owner = self._owners_of(tables)
        owners: list[tuple[MmStruct, VmArea | None]] = [(self._mms[mm], None) for mm in mms.tolist()]
        visits, free = {"chain_slot_visit": rows.size}, np.ones(rows.size, np.bool_)
        if tries:
            free = ~np.array([is_busy(mm) for mm, _ in owners], np.bool_)[owner]
        nr_busy = int(rows.size - free.sum())
        return Sites(rows[free], owner[free], addresses[free], ptes[free], owners, visits, {}, nr_busy=nr_busy)

    def asked_of(self, pfns: I64) -> None:
        """Only who has a list is."""
        emptied = np.empty(pfns.size, np.int64)
        nr = self._make_direct(*self._columns, pfns, emptied)
        if nr:
            self.cache.free_bulk(emptied[:nr])
            self.machine.charge("chain_block_free", nr)

    def asked(self, pfn: int) -> None:
        """page_referenced: a chain of one entry turns into a direct pointer again."""
        self.asked_of(np.array((pfn,), np.int64))

    def _owners_of(self, tables: I64) -> tuple[I64, I64]:
        """(Addresses of the mms whose these page tables are, which of those for each). O(tables), or O(frames) where there are many."""
        mapping = self.frames.mapping
        if tables.size < self.frames.nr // MANY:
            mms, owner = np.unique(mapping[tables], return_inverse=True)
            return mms, owner
        there = np.zeros(self.frames.nr, np.bool_)
        there[tables] = True
        distinct = np.flatnonzero(there)
        mms, whose = np.unique(mapping[distinct], return_inverse=True)
        of_table = np.empty(self.frames.nr, np.int64)
        of_table[distinct] = whose
        return mms, of_table[tables]

    def _mapping(self, pte: int) -> Mapping:
        """rmap_ptep_map: whose entry it is, and what it maps, from its table's struct page and its place in the table."""
        table = pte >> PAGE_SHIFT
        index = (pte & (PAGE_SIZE - 1)) // self.machine.paging.entry_bytes
        address = int(self.frames.index[table]) + (index << PAGE_SHIFT)
        mm = self._mms.get(int(self.frames.mapping[table]))
        if mm is None:
            raise KernelBug("ptep_to_mm", f"the entry at {pte:#x} is in no page table")
        return Mapping(mm, address, pte=pte)

    def _blocks(self, pfn: int) -> Iterator[tuple[int, int]]:
        """The blocks of its chain, each with its first used slot."""
        block = 0 if self.frames.flags[pfn] & PG_DIRECT else int(self.pte[pfn])
        while block:
            head = int(self._nodes[block >> self._slot_shift])
            yield block, head & self.nrpte
            block = head & ~self.nrpte

    def _slots(self, pfn: int) -> Iterator[int]:
        if self.frames.flags[pfn] & PG_DIRECT:
            yield int(self.pte[pfn])
        for block, used in self._blocks(pfn):
            word = (block >> self._slot_shift) + 1
            yield from self._nodes[word + used : word + self.nrpte].tolist()

    def draw(self, pfn: int) -> list[str]:
        """The page and its direct pointer, or its chain of blocks, slot by slot."""
        first = int(self.pte[pfn])
        if not first:
            return super().draw(pfn)
        entries = [f"{nr}  {{}}{self._draw_entry(pte)}" for nr, pte in enumerate(self._slots(pfn), 1)]
        if self.frames.flags[pfn] & PG_DIRECT:
            return draw_page(pfn, ["flags PG_direct"], "pte.direct", entries[0].format(""), [])
        hanging: list[str] = []
        for block, used in self._blocks(pfn):
            hanging += [f"next: block {block:x}"] if block != first else []
            hanging += [f"idx {used}, the slots below are free"] if used else []
            hanging += [entries.pop(0).format(f"slot {slot}  ") for slot in range(used, self.nrpte)]
        target = f"block {first:x}, {self.cache.object_bytes} bytes, {self.nrpte} slots"
        return draw_page(pfn, ["flags -"], "pte.chain", target, hanging)

    def _draw_entry(self, pte: int) -> str:
        mapping = self._mapping(pte)
        return f"entry at {pte:x}; its table says: pid {mapping.mm.pid}, {mapping.address:x}"

    def tracked(self) -> I64:
        """Pages whose union is not empty."""
        return np.flatnonzero(self.pte).astype(np.int64)

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """A page's list is as long as its entries are many; blocks in use are exactly those in chains; mms are the living."""
        if {mm.address for mm in mms} != self._mms.keys():
            raise KernelBug("pte_chain", "the mms it knows are not the living ones")
        if self._spares:
            raise KernelBug("pte_chain", f"{sum(map(len, self._spares.values()))} reserved blocks are left over")
        direct = self.frames.flags & PG_DIRECT != 0
        length = direct.astype(np.int64)
        nr_blocks = 0
        for pfn in np.flatnonzero((self.pte != 0) & ~direct).tolist():
            for nr, (block, used) in enumerate(self._blocks(pfn)):
                if block & self.nrpte or (nr and used):
                    raise KernelBug("pte_chain", f"page {pfn}: block {block:#x} has free slots and is not the head")
                length[pfn] += self.nrpte - used
                nr_blocks += 1
                if nr_blocks > self.cache.nr_objects:
                    break  # in a circle
        if not np.array_equal(length, mapped):
            wrong = np.flatnonzero(length != mapped)[0]
            raise KernelBug("pte_chain", f"page {wrong}: more or fewer slots than entries")
        if nr_blocks != self.cache.nr_objects:
            raise KernelBug("pte_chain", f"{nr_blocks} blocks in chains, {self.cache.nr_objects} in the slab")
