"""Memory that processes share without a file on a disk, since 2.4: tmpfs, memfd, shared anonymous. The facts: files.md B2, B3, C3, D2, F1, G10."""

from rmaplab.kernels.history import History, Status, since

V = Status.VALIDATED

SHMEM: dict[str, History] = {
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
