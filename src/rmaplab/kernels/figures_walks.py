"""How page_referenced and try_to_unmap walk, since 2.4: the fields of rmap/walk_rules.py. The facts: reclaim.md E.1, E.2.

In 2.4 nobody walks from a page: what stands there is what its swap_out does to an entry (mm/vmscan.c, try_to_swap_out). The anon_vma
patch of March 2004 brings its own (AA_WALKS), read in a later -aa tree.
"""

from rmaplab.kernels.history import Figure, History, Status, since
from rmaplab.rmap.walk_rules import IfLocked, IfReserved, IfYoung, LockWay, Nonlinear, PgReferenced, Unowned

WALKS: dict[str, History] = {
    "walk_stops": (
        since("2.4", 0, "2.4.27 mm/vmscan.c, swap_out; 2.6.2 mm/rmap.c, page_referenced: to the end"),
        since("2.6.7", 1, "2.6.7 mm/rmap.c, page_referenced_anon: until mapcount are found"),
    ),
    "referenced_flag": (
        since(
            "2.4", PgReferenced.ALWAYS, "2.4.27 mm/vmscan.c, refill_inactive; 2.6.2, 2.6.7 mm/rmap.c, page_referenced"
        ),
        since("2.6.34", PgReferenced.LEFT, "2.6.34 mm/vmscan.c, page_check_references tests it itself"),
    ),
    "referenced_owner": (
        since("2.4", LockWay.WAITED, "2.4.27, 2.6.2: there is none; 2.6.7 mm/rmap.c: anon_vma->lock"),
        since("6.18", LockWay.TRIED, "mm/rmap.c, folio_referenced: try_lock, contended pages are kept"),
    ),
    "referenced_tables": (
        since("2.4", LockWay.WAITED, "2.4.27 mm/vmscan.c, swap_out_mm"),
        since("2.6", LockWay.LEFT, "2.6.2 mm/rmap.c, page_referenced: ptep_test_and_clear_young under PG_chainlock"),
        since("2.6.7", LockWay.TRIED, "2.6.7 mm/rmap.c, page_referenced_one: fail, and the VMA is skipped"),
        since("2.6.34", LockWay.WAITED, "2.6.34 mm/rmap.c, page_check_address"),
    ),
    "referenced_file": (
        since(
            "2.4",
            LockWay.TRIED,
            "2.4.27: nobody walks; objrmap-core-1 (LKML, 8 March 2004), page_referenced_obj: down_trylock",
        ),
        since("2.6.34", LockWay.WAITED, "2.6.34 mm/rmap.c, page_referenced_file: spin_lock(&mapping->i_mmap_lock)"),
        since("6.18", LockWay.TRIED, "mm/rmap.c, folio_referenced: try_lock, contended folios are kept"),
    ),
    "referenced_file_tables": (
        since(
            "2.4",
            LockWay.TRIED,
            "2.4.27: nobody walks; objrmap-core-1, page_referenced_obj_one; 2.6.7 mm/rmap.c: spin_trylock",
        ),
        since("2.6.34", LockWay.WAITED, "2.6.34 mm/rmap.c, page_check_address"),
    ),
    "referenced_busy": (
        since(
            "2.4", 0, "2.4.27: nobody walks; 2.6.7 mm/rmap.c, page_referenced_file; LKML, 17 March 2004: 1 livelocks"
        ),
    ),
    "unmap_file": (
        since(
            "2.4",
            LockWay.TRIED,
            "2.4.27: nobody walks; objrmap-core-1, try_to_unmap_obj: down_trylock; 2.6.7 mm/rmap.c: spin_trylock",
        ),
        since("2.6.34", LockWay.WAITED, "2.6.34 mm/rmap.c, try_to_unmap_file; 6.18 mm/rmap.c, rmap_walk_file"),
    ),
    "referenced_locked": (
        since("2.4", IfLocked.IGNORED, "2.4.27 mm/vmscan.c; 2.6.2 mm/rmap.c, page_referenced"),
        since("2.6.7", IfLocked.FILE_COUNTS, "2.6.7 mm/rmap.c, page_referenced_file: VM_LOCKED and VM_MAYSHARE"),
        since("2.6.34", IfLocked.STOPS, "2.6.34 mm/rmap.c, page_referenced_one; 6.18 folio_referenced_one"),
    ),
    "referenced_flushes": (
        since("2.4", 0, "2.4.27 mm/vmscan.c; 2.6.2, 2.6.7 mm/rmap.c: ptep_test_and_clear_young"),
        since("2.6.34", 1, "2.6.34 mm/rmap.c, page_referenced_one: ptep_clear_flush_young_notify"),
        since("6.18", 0, "arch/x86/mm/pgtable.c, ptep_clear_flush_young flushes nothing; from memory"),
    ),
    "unmap_tables": (
        since("2.4", LockWay.WAITED, "2.4.27 mm/vmscan.c, swap_out_mm"),
        since("2.6", LockWay.TRIED, "2.6.2, 2.6.7 mm/rmap.c, try_to_unmap_one"),
        since("2.6.34", LockWay.WAITED, "2.6.34 mm/rmap.c, page_check_address"),
    ),
    "unmap_young": (
        since("2.4", IfYoung.FAILS, "2.4.27 mm/vmscan.c, try_to_swap_out: made old, and marked accessed"),
        since("2.6", IfYoung.TAKEN, "2.6.2 mm/rmap.c, try_to_unmap_one"),
        since("2.6.7", IfYoung.FAILS, "2.6.7 mm/rmap.c, try_to_unmap_one: ptep_test_and_clear_young, SWAP_FAIL"),
        since("6.18", IfYoung.TAKEN, "mm/rmap.c, try_to_unmap_one"),
    ),
    "unmap_counts_holders": (
        since("2.4", 0, "2.4.27 mm/vmscan.c; 2.6.2 mm/rmap.c, try_to_unmap_one"),
        since("2.6.7", 1, "2.6.7 mm/rmap.c, try_to_unmap_one: page_count != mapcount + 2"),
        since("2.6.34", 0, "2.6.34 mm/rmap.c, try_to_unmap_one; what is pinned in 6.18 is not modelled"),
    ),
    "unmap_reserved": (
        since("2.4", IfReserved.SKIPPED, "2.4.27 mm/vmscan.c, swap_out_vma"),
        since("2.6", IfReserved.IGNORED, "2.6.2 mm/rmap.c, try_to_unmap_one: VM_LOCKED alone"),
        since("2.6.7", IfReserved.FAILS, "2.6.7 mm/rmap.c, try_to_unmap_one: VM_LOCKED|VM_RESERVED"),
        since("2.6.15", IfReserved.IGNORED, "b5810039a54e; from memory; 2.6.34, 6.18 mm/rmap.c, try_to_unmap_one"),
    ),
    "unmap_locked_mlocks": (
        since("2.4", 0, "2.4.27 mm/vmscan.c; 2.6.2, 2.6.7 mm/rmap.c, try_to_unmap_one: SWAP_FAIL"),
        since("2.6.34", 1, "2.6.34 mm/rmap.c, try_to_unmap_one: SWAP_MLOCK under mmap_sem"),
        since("6.18", 0, "mm/rmap.c, try_to_unmap_one: the walk is over, and the folio mapped"),
    ),
    "nonlinear": (
        since("2.4", Nonlinear.AS_LINEAR, "2.4.27: there are none; 2.6.2: chains; objrmap-core-1, find_pte"),
        since("2.6.7", Nonlinear.CLUSTERS, "2.6.7 mm/rmap.c, try_to_unmap_file, try_to_unmap_cluster"),
        since("4.0", Nonlinear.AS_LINEAR, "there are none"),
    ),
    "unowned": (
        since(
            "2.4", Unowned.IGNORED, "2.4.27: there are none; 2.6.2 mm/vmscan.c, shrink_list: it is taken for anonymous"
        ),
    ),
    "unmap_flushes_late": (
        since("2.4", 0, "2.4.27 mm/vmscan.c; 2.6.2 mm/rmap.c, try_to_unmap_one: flush_tlb_page, ptep_clear_flush"),
        since("6.18", 1, "mm/rmap.c, set_tlb_ubc_flush_pending, try_to_unmap_flush"),
    ),
}

AA_WALKS = {
    "referenced_flag": Figure(
        PgReferenced.IF_MAPPED, "the -aa tree's mm/objrmap.c, page_referenced: 0 at once if unmapped", Status.BELIEVED
    ),
    "referenced_tables": Figure(
        LockWay.TRIED, "the -aa tree's mm/objrmap.c, page_referenced_one: spin_trylock", Status.BELIEVED
    ),
}
