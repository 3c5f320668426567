"""When TLBs are flushed, and what is freed only then, since 2.4: the figures of mmu_gather.py, move_ptes.py, cow.py and tlb.py.

What stands under 6.18 as validated was counted on a running 6.18.44 with the tracepoint tlb:tlb_flush. The facts: eras.md 6.1 and 7.
"""

from rmaplab.kernels.history import History, Status, since
from rmaplab.mm.mmu_gather import FastMode, TableFree
from rmaplab.mm.move_ptes import MoveFlush

V = Status.VALIDATED

TLB: dict[str, History] = {
    "gather_pages": (
        since("2.4", 508, "2.4.27 include/asm-generic/tlb.h, FREE_PTE_NR"),
        since("2.6", 506, "2.6.2 include/asm-generic/tlb.h, FREE_PTE_NR"),
        since("6.18", 9678, "mm/mmu_gather.c: 8 and 19 batches of 510, in each one place is kept free", V),
    ),
    "gather_fast_mode": (
        since("2.4", FastMode.ONE_USER, "2.4.27 include/asm-generic/tlb.h, tlb_gather_mmu: mm_users is 1, at exit 0"),
        since("2.6", FastMode.ONE_CPU, "2.6.2 include/asm-generic/tlb.h, tlb_gather_mmu: num_online_cpus"),
        since("6.18", FastMode.NEVER, "mm/mmu_gather.c, __tlb_remove_folio_pages_size"),
    ),
    "gather_per_vma": (
        since("2.4", 1, "2.4.27 mm/memory.c, zap_page_range; exit_mmap has one for all"),
        since("2.6", 0, "2.6.2 mm/mmap.c, unmap_region: one for the call"),
    ),
    "gather_tables": (
        since("2.4", TableFree.AFTER, "2.4.27 mm/memory.c, clear_page_tables: pte_free"),
        since(
            "2.6",
            TableFree.AS_PAGES,
            "2.6.2 include/asm-i386/pgalloc.h, __pte_free_tlb; asm-x86_64 frees middle tables at once",
        ),
        since("6.18", TableFree.BATCHED, "mm/mmu_gather.c, tlb_remove_table", V),
    ),
    "madvise_gathers_once": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, zap_page_range: a gather for each VMA's part"),
        since("6.16", 1, "mm/madvise.c, madvise_do_behavior: one gather", V),
    ),
    "mprotect_gathers": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mprotect.c, change_protection: flush_tlb_range"),
        since("6.18", 1, "mm/mprotect.c, do_mprotect_pkey: one gather, pte_needs_flush", V),
    ),
    "mremap_flushes": (
        since("2.4", MoveFlush.RANGE, "2.4.27 mm/mremap.c, move_page_tables: flush_tlb_range"),
        since(
            "2.6",
            MoveFlush.PAGE,
            "2.6.2 mm/mremap.c, move_one_page: ptep_clear_flush, or flush_tlb_page where nothing is",
        ),
        since("2.6.5-rc1", MoveFlush.ENTRY, "mm/mremap.c, move_one_page, since BK 12eda644ee of 2004-02-16"),
        since("6.18", MoveFlush.TABLE, "mm/mremap.c, move_ptes: flush_tlb_range under the page table's lock", V),
    ),
    "cow_reuse_flushes": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/memory.c, do_wp_page: establish_pte, ptep_establish"),
        since("3.8", 0, "arch/x86/mm/pgtable.c, ptep_set_access_flags: no flush", V),
    ),
    "switch_mm_clears_mask": (
        since("2.4", 1, "2.4.27, 2.6.2 include/asm-i386/mmu_context.h, switch_mm"),
        since("6.14", 0, "arch/x86/mm/tlb.c, flush_tlb_func clears it", V),
    ),
    "lazy_cpus_spared": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/kernel/smp.c, smp_invalidate_interrupt: leave_mm"),
        since("4.20", 1, "arch/x86/mm/tlb.c, tlb_is_not_lazy; not where tables are freed"),
    ),
}
