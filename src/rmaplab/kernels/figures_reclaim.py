"""How pages are taken back, since 2.4: the fields of reclaim/rules.py. The facts: reclaim.md A.1, A.2, C.1 to C.7, D.1 to D.5.

Today's way is not here yet: `lru_lists` is 0 for it, and a box that would need it says so. What is a rule of the scan says nothing of 2.4, whose
reclaim is another class (KernelSpec.reclaim).
"""

from rmaplab.kernels.history import History, since

BATCH = "the batch of 11 March 2004, in 2.6.5-rc1"

RECLAIM: dict[str, History] = {
    "lru_lists": (
        since("2.4", 1, "2.4.27 mm/swap.c, lru_cache_add: two for the whole machine"),
        since("2.6", 1, "2.6.2 mm/swap.c, __pagevec_lru_add_active; include/linux/mmzone.h, struct zone"),
        since("6.18", 0, "mm/swap.c; its reclaim is not modelled"),
    ),
    "lru_has_files": (
        since("2.4", 1, "2.4.27 mm/filemap.c, add_to_page_cache, add_to_page_cache_unique: lru_cache_add"),
        since("2.6", 1, "2.6.2, 2.6.7 mm/filemap.c, add_to_page_cache_lru; fs/mpage.c, mpage_readpages"),
        since("6.18", 0, "mm/filemap.c, filemap_add_folio; its reclaim is not modelled"),
    ),
    "lru_has_shmem": (
        since("2.4", 1, "2.4.27 mm/shmem.c, shmem_getpage: add_to_page_cache_unique"),
        since("2.6", 1, "2.6.2, 2.6.7 mm/shmem.c, shmem_getpage: add_to_page_cache_lru"),
        since("6.18", 0, "mm/shmem.c, shmem_alloc_and_add_folio; its reclaim is not modelled"),
    ),
    "writepage_keeps_lock": (
        since("2.4", 1, "2.4.27 fs/buffer.c, __block_write_full_page, end_buffer_io_async: UnlockPage"),
        since("2.6", 0, "2.6.2 fs/buffer.c, __block_write_full_page: SetPageWriteback, unlock_page"),
    ),
    "write_dirties_buffers": (
        since("2.4", 1, "2.4.27 fs/buffer.c, __block_commit_write: BH_Dirty alone"),
        since("2.6", 0, "2.6.2 fs/buffer.c, mark_buffer_dirty: __set_page_dirty_nobuffers"),
    ),
    "first_read_is_access": (
        since("2.4", 1, "2.4.27 mm/filemap.c, do_generic_file_read: f_reada"),
        since("2.6", 0, "2.6.2 mm/filemap.c, do_generic_mapping_read: offset 0"),
    ),
    "write_is_access": (
        since("2.4", 0, "2.4.27 mm/filemap.c, do_generic_file_write: SetPageReferenced"),
        since("2.6", 1, "2.6.2 mm/filemap.c, generic_file_aio_write_nolock: mark_page_accessed"),
    ),
    "zap_is_access": (
        since("2.4", 0, "2.4.27 mm/memory.c, zap_pte_range; include/asm-generic/tlb.h: nobody looks"),
        since("2.6", 1, "2.6.2 mm/memory.c, zap_pte_range: mark_page_accessed"),
    ),
    "write_error_is_the_files": (
        since("2.4", 0, "2.4.27 mm/filemap.c, filemap_fdatawait: PageError; fs/buffer.c, fsync_buffers_list"),
        since("2.6", 1, "2.6.2 mm/filemap.c, filemap_fdatawait: AS_EIO"),
    ),
    "one_lru": (
        since("2.4", 1, "2.4.27 mm/page_alloc.c, active_list, inactive_list; counts by class of zone"),
        since("2.6", 0, "2.6.2 include/linux/mmzone.h, struct zone"),
    ),
    "new_pages_are_active": (
        since("2.4", 0, "2.4.27 mm/swap.c, lru_cache_add: the inactive list"),
        since("2.6", 1, "2.6.2, 2.6.7 mm/memory.c, mm/swap_state.c: lru_cache_add_active"),
        since("6.18", 0, "mm/swap.c, folio_add_lru; not modelled"),
    ),
    "new_anon_is_referenced": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 mm/memory.c, do_anonymous_page: mark_page_accessed"),
        since("2.6.34", 0, "2.6.34 mm/memory.c, do_anonymous_page: nothing does"),
    ),
    "page_cluster": (
        since("2.4", 3, "2.4.27, 2.6.2, 2.6.7 mm/swap.c, swap_setup; mm/memory.c, swapin_readahead"),
        since("6.18", 0, "mm/swap_state.c, swap_vma_readahead; not modelled"),
    ),
    "swap_in_is_accessed": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 mm/memory.c, do_swap_page: mark_page_accessed"),
        since("2.6.34", 0, "2.6.34 mm/memory.c, do_swap_page: no more"),
    ),
    "scan_is_saved_up": (
        since(
            "2.4", 0, "2.4.27: another way; 2.6.2 mm/vmscan.c, shrink_zone: max(inactive >> priority, 64), and at once"
        ),
        since("2.6.5-rc1", 1, f"{BATCH}: zone->nr_scan_active, nr_scan_inactive"),
    ),
    "scan_follows_both": (
        since("2.4", 0, "2.4.27: another way; 2.6.2 and 2.6.5 mm/vmscan.c, shrink_zone"),
        since("2.6.7", 1, "2.6.7 mm/vmscan.c, shrink_zone: (active + inactive) >> priority"),
    ),
    "scan_stops_when_freed": (
        since("2.4", 1, "2.4.27: another way; 2.6.2 mm/vmscan.c, shrink_cache, shrink_caches"),
        since("2.6.5-rc1", 0, f"{BATCH}: no early stop"),
    ),
    "refill_spares_mapped": (
        since("2.4", 0, "2.4.27: another way; 2.6.2 mm/vmscan.c, refill_inactive_zone: page_referenced comes first"),
        since("2.6.5-rc1", 1, f"{BATCH}: reclaim_mapped comes first"),
    ),
    "priority_if_low": (
        since("2.4", 1, "2.4.27: another way; 2.6.2 mm/vmscan.c, shrink_caches: free_pages < pages_high"),
        since("2.6.7", 0, "2.6.7 mm/vmscan.c, shrink_caches: temp_priority, and prev_priority if that is higher"),
    ),
    "freed_by_priority": (
        since("2.4", 0, "2.4.27: another way; 2.6.2 and 2.6.5 mm/vmscan.c, try_to_free_pages"),
        since(
            "2.6.7", 1, "2.6.7 mm/vmscan.c, try_to_free_pages: reset in the loop (4418fe03ab mends it in March 2005)"
        ),
    ),
    "nap_each_priority": (
        since("2.4", 1, "2.4.27: another way; 2.6.2 mm/vmscan.c, try_to_free_pages: blk_congestion_wait"),
        since("2.6.5-rc1", 0, f"{BATCH}: if something was scanned, below priority DEF_PRIORITY - 2"),
    ),
    "writes_again_at_once": (
        since("2.4", 0, "2.4.27: another way; 2.6.2 and 2.6.5 mm/vmscan.c, shrink_list: keep, whatever came of it"),
        since("2.6.7", 1, "2.6.7 mm/vmscan.c, shrink_list: a synchronous write, such as of a RAM disk"),
    ),
    "wakes_pdflush_by_total": (
        since(
            "2.4", 0, "2.4.27: no pdflush; 2.6.2, 2.6.5 mm/vmscan.c, try_to_free_pages: wakeup_bdflush(total_scanned)"
        ),
        since(
            "2.6.7", 1, "2.6.7 mm/vmscan.c, try_to_free_pages: total_scanned > SWAP_CLUSTER_MAX + SWAP_CLUSTER_MAX / 2"
        ),
    ),
    "pdflush_naps_at_last": (
        since("2.4", 0, "2.4.27: no pdflush; 2.6.2 and 2.6.5 mm/page-writeback.c, background_writeout"),
        since("2.6.7", 1, "2.6.7 mm/page-writeback.c, background_writeout: blk_congestion_wait comes first"),
    ),
    "inodes_take_turns": (
        since("2.4", 0, "2.4.27: no pdflush; 2.6.2 and 2.6.5 fs/fs-writeback.c, __sync_single_inode: io_pages"),
        since(
            "2.6.7", 1, "2.6.7 fs/fs-writeback.c, __sync_single_inode; fs/mpage.c, mpage_writepages: writeback_index"
        ),
    ),
    "slab_divides_first": (
        since("2.4", 0, "2.4.27: another way"),
        since("2.6", 1, "2.6.2 mm/vmscan.c, shrink_slab: 4 * (scanned / shrinker->seeks)"),
        since("2.6.5-rc1", 0, "2.6.5 mm/vmscan.c, shrink_slab; in 2.6.5-rc1: believed"),
    ),
    "slab_of_low_zones": (
        since("2.4", 0, "2.4.27: another way"),
        since("2.6", 1, "2.6.2 mm/vmscan.c, try_to_free_pages, balance_pgdat: below ZONE_HIGHMEM"),
        since("2.6.5-rc1", 0, f"{BATCH}: slab for all zones"),
    ),
    "boot_dentries": (
        since("2.4", 0, "2.4.27: another way"),
        since("2.6", 5469, "as many as in the example of slabinfo(5), a small machine of those days; believed"),
        since("6.18", 0, "its reclaim is not modelled"),
    ),
    "boot_unused_inodes": (
        since("2.4", 0, "2.4.27: another way"),
        since("2.6", 1536, "the same example has 7005 inodes: so many more than dentries; believed"),
        since("6.18", 0, "its reclaim is not modelled"),
    ),
    "kswapd_takes_all_below": (
        since("2.4", 0, "2.4.27: another way; 2.6.2 mm/vmscan.c, balance_pgdat: to_reclaim = pages_high - free_pages"),
        since("2.6.5-rc1", 1, f"{BATCH}: end_zone"),
    ),
    "kswapd_last_priority": (
        since("2.4", 1, "2.4.27: another way; 2.6.2 and 2.6.5 mm/vmscan.c, balance_pgdat: priority > 0"),
        since("2.6.7", 0, "2.6.7 mm/vmscan.c, balance_pgdat: priority >= 0"),
    ),
}
