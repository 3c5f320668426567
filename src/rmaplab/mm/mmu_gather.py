"""mmu_gather: pages that have been unmapped and may not be free yet, because a TLB may still know them.

    zap          entries cleared, the reverse map has forgotten them         [p][p][p] ... [p][p]
    gather       each page keeps the reference that its entry held           up to 506 of them (2.6)
    flush        the TLBs forget them                                        when the gather is full, and at its end
    free         the references go                                           only now somebody else can get the page

So a munmap of n pages flushes once per 506 pages, not once per page, and no page is anybody else's before a flush. Where no other CPU can
look (2.4: one user of the mm; 2.6: one CPU), pages are freed at once, and one flush at the end does for all (fast mode). A gather may live
over many bursts, and is a holder of references meanwhile.

Page tables go the same way in 2.6, as pages. In 2.4 they are freed after the last flush; in 6.18 they wait in a batch of their own.

Left out: the pages that 6.18's batch itself takes; entries of the zero page, which fill a slot in 2.4; and that 2.6.7 and later end a gather
every 1024 pages if somebody waits for the CPU.

Source: 2.4.27 and 2.6.2 include/asm-generic/tlb.h, tlb_gather_mmu, tlb_remove_page, tlb_flush_mmu, tlb_finish_mmu; include/asm-i386/pgalloc.h,
__pte_free_tlb; 6.18 mm/mmu_gather.c; eras.md 7.
"""

from enum import IntEnum
from typing import Self

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ENTRY, LENGTH, PFN, Batch
from rmaplab.machine.frames import put_runs
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import MmStruct


class FastMode(IntEnum):
    """When pages are freed before the flush."""

    NEVER = 0
    ONE_USER = 1
    """Nobody else lives in the address space (mm_users is 1; at exit it is 0)."""
    ONE_CPU = 2


class TableFree(IntEnum):
    """How page tables are freed."""

    AFTER = 0
    """When all pages are, without a flush of their own."""
    AS_PAGES = 1
    """In the gather, among the pages."""
    BATCHED = 2
    """When all pages are; the gather then ends with a flush, whether or not a page was in it."""


class MmuGather:
    """`with MmuGather(k, mm) as tlb`: what is unmapped meanwhile. Its end flushes and frees what is left."""

    __slots__ = ("_fast", "_held", "_k", "_nr", "_room", "_tables", "mm", "need_flush")

    def __init__(self, k: Kernel, mm: MmStruct) -> None:
        rules = k.rules
        self._k, self.mm = k, mm
        self._fast = (rules.gather_fast_mode == FastMode.ONE_USER and mm.users == 1) or (
            rules.gather_fast_mode == FastMode.ONE_CPU and k.machine.hardware.cpus == 1
        )
        self._room = rules.gather_pages
        self._held: list[tuple[I64, int]] = []  # columns of runs (machine/batch.py), and the pages in them
        self._nr = 0
        self._tables: list[I64] = []
        self.need_flush = False
        """Whether an entry was changed that a TLB may know."""

    def __enter__(self) -> Self:
        self._k.holders.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._k.holders.remove(self)

    def remove_pages(self, batch: Batch) -> None:
        """The pages of a batch are unmapped: their references go with the flush."""
        self.need_flush = True
        flushes = 0 if self._fast else (self._nr + batch.nr) // self._room
        keep = 0 if self._fast else (self._nr + batch.nr) % self._room if flushes else batch.nr
        if flushes:
            self._k.machine.tlb.flush_mm(self.mm, flushes)
            self._release()
            self.need_flush = keep > 0
        runs, last = batch.runs, None
        if keep:
            runs, last = self._keep(batch, keep)
        if keep < batch.nr:
            self._put(batch.columns, runs, batch.nr - keep)
        if last is not None:
            self._held.append((last, keep))
            self._nr += keep

    def remove_tables(self, tables: I64) -> None:
        """Page tables are unhooked: the machine gets them back as this kernel does it."""
        rules, machine = self._k.rules, self._k.machine
        self.need_flush |= rules.gather_tables != TableFree.AFTER
        if rules.gather_tables != TableFree.AS_PAGES:
            self._tables.append(tables)
            return
        while not self._fast and self._nr + tables.size >= self._room:
            fit = self._room - self._nr
            self._tables.append(tables[:fit])
            tables = tables[fit:]
            self.flush()
        if self._fast:
            machine.free_tables(tables)
        elif tables.size:
            self._tables.append(tables)
            self._nr += tables.size
            self.need_flush = True

    def end_vma(self) -> None:
        """All of one VMA's part is done. 2.4 has a gather for each, and in fast mode flushes whether or not anything was there."""
        if self._k.rules.gather_per_vma:
            self.need_flush |= self._fast
            self.flush()

    def flush(self) -> None:
        """tlb_flush_mmu: the TLBs, if that is needed, then what was waiting for it."""
        if self.need_flush:
            self.need_flush = False
            self._k.machine.tlb.flush_mm(self.mm)
        if self._held or self._tables:
            self._release()

    def references(self) -> I64:
        """The PFNs of the pages that are held here, one for each reference."""
        runs = [np.arange(first, first + nr) for held, _ in self._held for first, nr in held[(PFN, LENGTH), :].T.tolist()]
        return np.concatenate(runs) if runs else np.empty(0, np.int64)

    # -- inside --------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        """Everything that is held is freed, in the order in which it came: pages, then tables."""
        for held, nr in self._held:
            self._put(held, held.shape[1], nr)
        self._held.clear()
        for tables in self._tables:
            self._k.machine.free_tables(tables)
        self._tables.clear()
        self._nr = 0

    def _put(self, columns: I64, runs: int, nr: int) -> None:
        """`nr` references of pages go, and with the last one of a page the page."""
        machine = self._k.machine
        freed = np.empty(nr, np.int64)
        nr_freed = put_runs(machine.frames.count, columns, runs, freed)
        machine.allocator.free(freed[:nr_freed])
        machine.charge("page_free", nr_freed)

    @staticmethod
    def _keep(batch: Batch, keep: int) -> tuple[int, I64]:
        """The last `keep` pages of a batch leave it: (the runs that stay, the columns of those that go)."""
        if keep == batch.nr:
            return 0, batch.columns[:, : batch.runs].copy()
        lengths = batch.columns[LENGTH, : batch.runs]
        stays = batch.nr - keep
        ends = np.cumsum(lengths)
        cut = int(np.searchsorted(ends, stays, side="left"))  # the run in which the last page that stays lies
        over = int(ends[cut]) - stays
        gone = batch.columns[:, cut + (over == 0) : batch.runs].copy()
        if over:
            skipped = int(lengths[cut]) - over
            gone[PFN, 0] += skipped
            gone[ENTRY, 0] += skipped << 12
            gone[LENGTH, 0] = over
            batch.columns[LENGTH, cut] -= over
        return cut + 1, gone
