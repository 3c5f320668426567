"""mmu_gather: pages that have been unmapped and may not be free yet, because a TLB may still know them.

    zap          entries cleared, the reverse map has forgotten them         [p][p][p] ... [p][p]
    gather       each page keeps the reference that its entry held           up to 506 of them (2.6)
    flush        the TLBs forget them                                        when the gather is full, and at its end
    free         the references go                                           only now somebody else can get the page

So a munmap of n pages flushes once per 506 pages, not once per page, and no page is anybody else's before a flush. Where no other CPU can
look (2.4: one user of the mm; 2.6: one CPU), pages are freed at once, and one flush at the end does for all (fast mode). A gather may live
over many bursts, and while it has pages it is a holder of references.

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
from rmaplab.machine.batch import LENGTH, PFN, Batch
from rmaplab.machine.frames import put_gathered, put_runs
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in import drop_swap_cache
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


_NOTHING: I64 = np.empty((5, 0), np.int64)
_NEVER, _ONE_USER, _ = FastMode  # read in the most travelled path, where an enum's attribute costs


class MmuGather:
    """`with MmuGather(k, mm) as tlb`, or finish(): what is unmapped meanwhile. Its end flushes and frees what is left."""

    need_flush = False
    """Whether an entry was changed that a TLB may know."""
    _nr = 0  # places that are filled: pages, and tables that count as such
    _held: I64 = _NOTHING  # the pages as columns of runs (machine/batch.py), of which PFN and LENGTH count,
    _runs = 0  # and how many runs
    _tables: tuple[I64, ...] = ()

    def __init__(self, k: Kernel, mm: MmStruct) -> None:
        self._k, self.mm = k, mm
        mode = k.rules.gather_fast_mode
        self._fast = mode != _NEVER and (mm.users == 1 if mode == _ONE_USER else k.machine.hardware.cpus == 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """tlb_finish_mmu."""
        if self.need_flush or self._nr or self._tables:
            self.flush()

    def remove_pages(self, batch: Batch) -> None:
        """The pages of a batch are unmapped: their references go with the flush. The batch may be cut."""
        self.need_flush = True
        flushes, keep = (0, 0) if self._fast else divmod(self._nr + batch.nr, self._k.rules.gather_pages)
        if not flushes and not self._fast:
            runs = self._runs + batch.runs
            held = self._held if runs <= self._held.shape[1] else self._with_room(runs)
            held[:, self._runs : runs] = batch.columns[:, : batch.runs]
            self._hold(held, runs, keep)
            return
        machine = self._k.machine
        if flushes:
            machine.tlb.flush_mm(self.mm, flushes)
            self.need_flush = keep > 0
        drop_swap_cache(self._k, self._held, self._runs)
        drop_swap_cache(self._k, batch.columns, batch.runs)
        stay = batch.nr - keep
        freed = np.empty(self._nr + stay, np.int64)
        rest = np.empty((5, min(batch.runs, keep)), np.int64)
        nr_freed, behind = put_gathered(
            machine.frames.count, self._held, self._runs, batch.columns, batch.runs, stay, freed, rest
        )
        if nr_freed:
            self._free(freed[:nr_freed])
        if self._tables:
            self._free_tables()
        self._hold(rest, behind, keep)

    def remove_tables(self, tables: I64) -> None:
        """Page tables are unhooked: the machine gets them back as this kernel does it."""
        rules, machine = self._k.rules, self._k.machine
        self.need_flush |= rules.gather_tables != TableFree.AFTER
        if rules.gather_tables != TableFree.AS_PAGES:
            self._tables += (tables,)
            return
        while not self._fast and self._nr + tables.size >= rules.gather_pages:
            fit = rules.gather_pages - self._nr
            self._tables += (tables[:fit],)
            tables = tables[fit:]
            self.flush()
        if self._fast:
            machine.free_tables(tables)
        elif tables.size:
            self._tables += (tables,)
            self._nr += tables.size
            self.need_flush = True

    def end_vma(self) -> None:
        """All of one VMA's part is done, where each has a gather: in fast mode 2.4 flushes then, whether or not anything was there."""
        self.need_flush |= self._fast
        self.flush()

    def flush(self) -> None:
        """tlb_flush_mmu: the TLBs, if that is needed, then what was waiting for it."""
        if self.need_flush:
            self.need_flush = False
            self._k.machine.tlb.flush_mm(self.mm)
        if self._runs:
            drop_swap_cache(self._k, self._held, self._runs)
            freed = np.empty(self._nr, np.int64)
            self._free(freed[: put_runs(self._k.machine.frames.count, self._held, self._runs, freed)])
        if self._tables:
            self._free_tables()
        if self._nr:
            self._hold(_NOTHING, 0, 0)

    def references(self) -> I64:
        """The PFNs of the pages that are held here, one for each reference."""
        runs = self._held[(PFN, LENGTH), : self._runs].T.tolist()
        return np.concatenate([np.empty(0, np.int64), *(np.arange(first, first + nr) for first, nr in runs)])

    # -- inside --------------------------------------------------------------------------------------------------

    def _with_room(self, runs: int) -> I64:
        """What is held, in columns for so many runs and as many more: a page at a time, each is moved once on average."""
        held = np.empty((5, 2 * runs), np.int64)
        held[:, : self._runs] = self._held[:, : self._runs]
        return held

    def _hold(self, held: I64, runs: int, nr: int) -> None:
        """What is held from now on. A gather that holds pages is a holder of references."""
        if bool(runs) != bool(self._runs):
            (self._k.holders.append if runs else self._k.holders.remove)(self)
        self._held, self._runs, self._nr = held, runs, nr

    def _free(self, pages: I64) -> None:
        """Nobody has a reference to them any more."""
        self._k.machine.allocator.free(pages)
        self._k.machine.charge("page_free", pages.size)

    def _free_tables(self) -> None:
        """Those that waited for the flush, behind the pages that did."""
        for tables in self._tables:
            self._k.machine.free_tables(tables)
        self._tables = ()
