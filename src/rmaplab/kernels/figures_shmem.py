"""Memory that processes share without a file on a disk, since 2.4: tmpfs, memfd, shared anonymous. The facts: files.md B2, B3, C3, D2, F1, G10."""

from rmaplab.kernels.history import History, Status, since
from rmaplab.objects.shmem import Account

V = Status.VALIDATED

SHMEM: dict[str, History] = {
    "tmpfs_account": (
        since("2.4", Account.NOTHING, "2.4.27 mm/shmem.c: vm_enough_memory in shmem_file_setup alone"),
        since("2.6", Account.SIZE, "2.6.2, 2.6.5 mm/shmem.c, shmem_notify_change, shmem_file_write"),
        since("2.6.6", Account.PAGES, "84dd47c8ac, 11 April 2004; 2.6.7 mm/shmem.c, shmem_acct_block"),
        since("6.18", Account.PAGES, "mm/shmem.c, shmem_acct_blocks", V),
    ),
    "shmem_accounts_last": (
        since("2.4", 0, "2.4.27; 2.6.7 mm/shmem.c, shmem_getpage: shmem_acct_block, then shmem_alloc_page"),
        since("6.7", 1, "from memory; 6.18 mm/shmem.c, shmem_alloc_and_add_folio: shmem_inode_acct_blocks at its end"),
    ),
    "shmem_inserts_atomically": (
        since("2.4", 0, "2.4.27 mm/shmem.c, shmem_getpage: add_to_page_cache_unique, a hash"),
        since(
            "2.6", 1, "2.6.2, 2.6.7 mm/shmem.c, shmem_getpage: add_to_page_cache_lru with GFP_ATOMIC, and goto repeat"
        ),
        since("2.6.34", 0, "from memory: radix_tree_preload; 6.18 mm/shmem.c, shmem_add_to_page_cache: xas_nomem"),
    ),
    "swap_vector": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 mm/shmem.c, shmem_swp_alloc"),
        since("3.1", 0, "from memory; 3.19, 6.18 mm/shmem.c: swp_to_radix_entry"),
        since("6.18", 0, "mm/shmem.c: st_blocks of sparse files", V),
    ),
    "swap_vector_is_low": (
        since("2.4", 1, "2.4.27 mm/shmem.c, shmem_swp_alloc: get_zeroed_page(GFP_USER)"),
        since("2.6", 0, "2.6.2 mm/shmem.c, shmem_dir_alloc: mapping_gfp_mask, which has __GFP_HIGHMEM"),
    ),
    "shared_anon_minds_noreserve": (
        since("2.4", 0, "2.4.27 mm/shmem.c, shmem_file_setup: vm_enough_memory whatever the flags"),
        since("2.6", 1, "2.6.2 mm/mmap.c, do_mmap_pgoff: VM_ACCOUNT; mm/shmem.c, shmem_file_setup"),
        since("6.18", 1, "mm/shmem.c, shmem_acct_size: VM_NORESERVE", V),
    ),
    "dev_zero_is_filled": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 drivers/char/mem.c, mmap_zero: zeromap_page_range"),
        since("2.6.34", 0, "2.6.34 drivers/char/mem.c, mmap_zero"),
        since("6.18", 0, "drivers/char/mem.c, mmap_zero: vma_set_anonymous", V),
    ),
    "shared_anon_keeps_pgoff": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 mm/mmap.c, do_mmap_pgoff: vm_pgoff, and shmem_zero_setup leaves it"),
        since("2.6.34", 0, "2.6.34 mm/mmap.c, do_mmap_pgoff: pgoff = 0"),
        since("6.18", 0, "mm/mmap.c, do_mmap: ignore pgoff", V),
    ),
    "shmem_makes_inode_first": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/shmem.c, shmem_file_setup: get_empty_filp, then shmem_get_inode"),
        since(
            "2.6.34",
            1,
            "6.18 mm/shmem.c, __shmem_file_setup: shmem_get_inode, then alloc_file_pseudo; 2.6.34 from memory",
        ),
    ),
}
