"""Memory that processes share without a file on a disk, since 2.4: tmpfs, memfd, shared anonymous. The facts: files.md B2, B3, C3, D2, F1, G10."""

from rmaplab.kernels.history import Bits, History, Status, since
from rmaplab.objects.flags import MFD_ALLOW_SEALING, MFD_CLOEXEC
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
    "shmem_unuse_is_uptodate": (
        since("2.4", 1, "2.4.27 mm/shmem.c, shmem_unuse_inode: SetPageUptodate"),
        since("2.6", 0, "2.6.2, 2.6.7 mm/shmem.c, shmem_unuse_inode, shmem_getpage: clear_highpage"),
    ),
    "memfd_flags": (
        since("2.4", Bits(0), "2.4.27: there is none; ENOSYS until 3.17"),
        since("3.17", Bits(MFD_CLOEXEC | MFD_ALLOW_SEALING), "9183df25fe7b; from memory"),
        since("6.18", Bits(0x1F), "mm/memfd.c, MFD_ALL_FLAGS", V),
    ),
    "seals_known": (
        since("2.4", Bits(0), "2.4.27: there are none; EINVAL until 3.17: fcntl"),
        since("3.17", Bits(0xF), "40e041a2c858; from memory: SEAL, SHRINK, GROW, WRITE"),
        since("6.18", Bits(0x3F), "mm/memfd.c, F_ALL_SEALS", V),
    ),
    "readers_may_become_writers": (
        since("2.4", 1, "2.4: nothing is counted; 2.6.7 mm/mmap.c, __vma_link_file: VM_SHARED"),
        since("6.18", 0, "mm/vma.c, __vma_link_file: vma_is_shared_maywrite", V),
    ),
    "fallocate_known": (
        since("2.4", 0, "2.4.27: there is none; ENOSYS until 2.6.23"),
        since("2.6.23", 1, "97ac73506c0b; from memory"),
        since("6.18", 1, "fs/open.c, vfs_fallocate; mm/shmem.c, shmem_fallocate", V),
    ),
    "punch_loses_copies": (
        since("2.4", 0, "2.4, 2.6.2: no holes are made"),
        since(
            "2.6.16",
            1,
            "f6b3ec238d12; from memory; 2.6.34 mm/truncate.c, vmtruncate_range: unmap_mapping_range, even_cows 1",
        ),
        since("3.19", 0, "3.19 mm/shmem.c, shmem_fallocate: even_cows 0"),
        since("6.18", 0, "mm/shmem.c, shmem_fallocate", V),
    ),
    "remove_needs_write": (
        since("2.4", 1, "2.4.27: there is none; 2.6.34, 3.19 mm/madvise.c, madvise_remove: VM_SHARED and VM_WRITE"),
        since("6.18", 0, "mm/madvise.c, madvise_remove: vma_is_shared_maywrite", V),
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
