"""Taking mappings away: unmap_page_range, zap_page_range, free_pgtables, exit_mmap.

What is unmapped goes into a gather (mmu_gather.py), which flushes TLBs and then frees it. The order matters to a reverse map: entries first, then the page tables, then the VMA leaves its anon_vma. So whoever walks
finds a VMA without entries at worst, never an entry without its VMA.

Source: 2.6.2 mm/memory.c (unmap_page_range, zap_page_range, clear_page_tables), mm/mmap.c (unmap_region, free_pgtables, exit_mmap).
"""

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ENTRY, LENGTH, Batch
from rmaplab.machine.entries import ACCESSED
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import unhook_tables, zap_range
from rmaplab.machine.pagetable_edit import free_level, free_range
from rmaplab.mm.driver import sort_out
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.swap_in import free_swap_and_cache
from rmaplab.mm.unowned import remove_until
from rmaplab.mm.vma import remove_all
from rmaplab.objects.flags import VM_ACCOUNT
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT


def unmap_page_range(k: Kernel, tlb: MmuGather, start: int, end: int, keep: int = -1) -> None:
    """Clear all entries of [start, end), forget them in the reverse map, gather their pages. A burst at a time.

    Entries that are `keep` stay: guard regions, unless the VMA goes. The caller has called lock_entries(), for as long as that takes.
    """
    machine, mm = k.machine, tlb.mm
    if mm.nr_tables == k.tables_at_birth:
        return
    address = start
    while address < end:
        stop = remove_until(k, mm, address, k.burst_over(mm, address, end))
        lock = k.lock_burst(mm, address)
        batch = k.batch()
        batch.runs, batch.nr, batch.nr_others, cleared = zap_range(
            *machine.geometry, mm.pgd, machine.mapped, address, stop, keep, batch.columns, batch.others
        )
        nr = batch.nr
        if nr and k.page_cache.drivers:
            nr = zap_with_devices(k, tlb, batch)
        elif nr:
            if k.page_cache.files:
                k.page_cache.take_dirty(batch)
                mark_young(k, batch)
            k.rmap.remove(batch)
            mm.rss -= nr
            tlb.remove_pages(batch)
        if batch.nr_others:
            free_swap_and_cache(k, batch.others[ENTRY, : batch.nr_others])
        batch.done()
        if cleared:
            tlb.need_flush |= not nr  # of the zero page only, or of what is nobody's
            machine.charge("pte_zap", cleared)
            machine.end_burst()
        if lock is not None:
            machine.locks.drop(lock)
        address = stop


def zap_unlinked(k: Kernel, mm: MmStruct, start: int, end: int) -> None:
    """Entries of [start, end) go, which a mapping that has failed has made; page tables stay."""
    k.lock_entries(mm)
    with MmuGather(k, mm) as tlb:
        unmap_page_range(k, tlb, start, end)
    k.unlock_entries(mm)


def zap_with_devices(k: Kernel, tlb: MmuGather, batch: Batch) -> int:
    """The same where drivers may have mapped pages: what is reserved has no references, and the reverse map has not heard of all. How many had one."""
    pages, told = sort_out(k, batch)
    if pages.nr:
        k.page_cache.take_dirty(pages)
        mark_young(k, pages)
        if told.nr:
            k.rmap.remove(told)
        tlb.mm.rss -= pages.nr
        nr = pages.nr
        tlb.remove_pages(pages)  # which may cut it
        return nr
    return 0


def mark_young(k: Kernel, batch: Batch) -> None:
    """zap_pte_range: entries of a batch are about to go; pages of files whose entries were young have been used (mark_page_accessed)."""
    young = batch.columns[ENTRY, : batch.runs] & ACCESSED != 0
    listed = k.lru_add.has_files or k.lru_add.has_shmem
    if not listed or not k.rules.zap_is_access or not young.any():
        return
    frames = k.machine.frames
    pfns = batch.pfns[np.repeat(young, batch.columns[LENGTH, : batch.runs])]
    if not k.design.converts:
        pfns = pfns[frames.flags[pfns] & PG_ANON == 0]
    if (pfns := pfns[frames.mapping[pfns] != 0]).size:
        files = [address for address, file in k.page_cache.files.items() if file.on_lru]
        k.lru_add.mark_all_accessed(pfns[np.isin(frames.mapping[pfns], files)])


def zap_page_range(k: Kernel, tlb: MmuGather, start: int, end: int) -> None:
    """What madvise takes away: the entries go, the VMA stays. The page tables go too where nothing else can be in them (PT_RECLAIM)."""
    k.lru_add.drain(k.this_cpu())
    k.lock_entries(tlb.mm)
    unmap_page_range(k, tlb, start, end, keep=k.machine.encoding.guard)
    if k.rules.dontneed_frees_tables:
        _remove_tables(k, tlb, whole_tables(k, tlb.mm, start, end))
    if k.rules.gather_per_vma:
        tlb.end_vma()
    k.unlock_entries(tlb.mm)


def free_pgtables(k: Kernel, tlb: MmuGather, floor: int, start: int, end: int, ceiling: int | None) -> None:
    """Free the page tables under [start, end), as far as no neighbour uses them: whole entries of the top table only.

    `floor` is where the previous VMA ends, `ceiling` where the next begins. With PAE one such entry spans 1 GiB, so tables
    stay when a neighbour lives in the same GiB: that is what the kernels of 2004 do. Later ones look at every level
    (free_pgd_range).
    """
    if tlb.mm.nr_tables == k.tables_at_birth:
        return
    if k.rules.frees_tables_by_level:
        paging = k.machine.paging
        last = -(-paging.task_size // paging.top_span) * paging.top_span if ceiling is None else ceiling
        leaf = paging.leaf_span
        if max(start // leaf, -(-floor // leaf)) >= min(-(-end // leaf), last // leaf):
            return  # neighbours use all leaf tables of the range, and so all above them
        tables = np.empty(tlb.mm.nr_tables, np.int64)
        nr = free_range(*k.machine.geometry, tlb.mm.pgd, start, end, floor, last, tables)
        _remove_tables(k, tlb, tables[:nr])
        return
    span = k.machine.paging.top_span
    first, last = start // span, -(-end // span)
    if floor > first * span:
        first = -(-floor // span)
    if ceiling is not None and ceiling < last * span:
        last = ceiling // span
    if first < last:
        _clear_page_tables(k, tlb, first, last)


def exit_mmap(k: Kernel, mm: MmStruct) -> None:
    """An address space ends: zap everything, free its tables, then unlink its VMAs and free them."""
    k.lru_add.drain(k.this_cpu())
    k.lock_entries(mm)
    with MmuGather(k, mm) as tlb:
        for vma in mm.vmas:
            unmap_page_range(k, tlb, vma.start, vma.end)
        k.vm_unacct_memory(sum(vma.nr_pages for vma in mm.vmas if vma.flags & VM_ACCOUNT))
        _clear_page_tables(k, tlb, 0, -(-k.machine.paging.task_size // k.machine.paging.top_span))
    k.unlock_entries(mm)
    remove_all(k, mm)
    mm.total_vm = mm.locked_vm = 0


def whole_tables(k: Kernel, mm: MmStruct, start: int, end: int, level: int = 1) -> I64:
    """Unhook the tables of a level (1: leaf tables) that [start, end) covers whole.

    It was emptied; a table that a fault has used since then stays (try_to_free_pte).
    """
    span = k.machine.paging.leaf_span << (k.machine.paging.bits * (level - 1))
    first, last = -(-start // span) * span, end // span * span
    if first >= last:
        return _NOTHING
    tables = np.empty(mm.nr_tables, np.int64)
    return tables[: free_level(*k.machine.geometry, mm.pgd, level, first, last, True, tables, 0)]


def zap_whole_tables(k: Kernel, mm: MmStruct, start: int, end: int, level: int) -> None:
    """A move of whole tables leaves none behind."""
    tables = whole_tables(k, mm, start, end, level)
    if tables.size:
        k.design.tables_removed(tables)
        k.machine.free_tables(tables)
        mm.nr_tables -= tables.size


def free_pgd(k: Kernel, mm: MmStruct) -> None:
    """pgd_free: the top table and what was born with it."""
    machine, paging = k.machine, k.machine.paging
    if k.pgd_cache is None:
        machine.free_tables(np.array([mm.pgd >> PAGE_SHIFT], np.int64))
        mm.nr_tables -= 1
        return
    born = np.empty(paging.tables_at_birth, np.int64)
    unhook_tables(machine.words, 2, paging.bits, mm.pgd, 0, paging.tables_at_birth, False, born)
    machine.free_tables(born)
    mm.nr_tables -= born.size
    k.pgd_cache.free(mm.pgd)


def _clear_page_tables(k: Kernel, tlb: MmuGather, first: int, last: int) -> None:
    machine, paging = k.machine, k.machine.paging
    tables = np.empty(tlb.mm.nr_tables, np.int64)
    stay = paging.tables_at_birth > 0  # until the pgd goes
    nr = unhook_tables(*machine.geometry, tlb.mm.pgd, first, last, stay, tables)
    _remove_tables(k, tlb, tables[:nr])


def _remove_tables(k: Kernel, tlb: MmuGather, tables: I64) -> None:
    if tables.size:
        k.design.tables_removed(tables)
        tlb.remove_tables(tables)
        tlb.mm.nr_tables -= tables.size


_NOTHING: I64 = np.empty(0, np.int64)
