"""Files since 2.4: the index of a file's VMAs, its order and its lock; then the rules of mm/ for files. The facts: files.md A4, A5, B1, B4, B7, C1, C5, D1.

The index is a name of kernels/file_indexes.py by IndexKind. Sizes of VMAs (figures_box.py) have that index in them.
"""

from rmaplab.kernels.history import Bits, History, Status, since
from rmaplab.mm.file_rules import AheadWindow, Around, DriverPages, FileLock, FileMerging, Readahead
from rmaplab.objects.flags import VM_DONTDUMP, VM_DONTEXPAND, VM_IO, VM_PFNMAP, VM_RESERVED
from rmaplab.rmap.file_index import IndexKind

V = Status.VALIDATED

INDEXES: dict[str, History] = {
    "file_index": (
        since(
            "2.4",
            IndexKind.LIST,
            "2.4.27 include/linux/fs.h, struct address_space: i_mmap, i_mmap_shared; 2.6.2 likewise",
        ),
        since("2.6.7", IndexKind.PRIO_TREE, "2.6.7 mm/prio_tree.c"),
        since("2.6.10", IndexKind.PRIO_TREE_MENDED, "8c70a6bafd, 7 November 2004; 2.6.34 lib/prio_tree.c"),
        since("3.7", IndexKind.INTERVAL_TREE, "6b2dbba8b6ac; 3.19 mm/interval_tree.c; 6.18 likewise"),
    ),
    "list_new_at_head": (
        since("2.4", 1, "2.4.27 mm/mmap.c, __vma_link_file: at the head"),
        since("2.6", 0, "2.6.2 mm/mmap.c, __vma_link_file: list_add_tail"),
    ),
    "list_child_behind": (
        since("2.4", 1, "2.4.27 kernel/fork.c, dup_mmap: vm_next_share of the parent's"),
        since("2.6", 0, "2.6.2 kernel/fork.c, dup_mmap: list_add_tail on the parent's link, so before it"),
        since("2.6.6", 1, "4b5187562d"),
    ),
    "list_moved_to_tail": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, vma_merge, split_vma: vm_start and vm_pgoff in place"),
    ),
}

FILES: dict[str, History] = {
    "radix_node_bytes": (
        since("2.4", 0, "2.4.27 include/linux/pagemap.h, page_hash: a table made at boot, and no nodes"),
        since("2.6", 260, "2.6.2 lib/radix-tree.c, struct radix_tree_node, computed: files.md A2", value64=520),
        since("2.6.7", 276, "2.6.7 lib/radix-tree.c, computed: two tags; files.md A2", value64=536),
        since("6.18", 576, "struct xa_node by BTF", V),
    ),
    "radix_tree_shrinks": (
        since(
            "2.4",
            0,
            "2.4.27 include/linux/pagemap.h: no tree; 2.6.2 lib/radix-tree.c, radix_tree_delete: an empty one's",
        ),
        since("2.6.34", 1, "2.6.34 lib/radix-tree.c, radix_tree_shrink; 6.18 lib/xarray.c, xas_shrink"),
    ),
    "inode_bytes": (
        since("2.4", 308, "2.4.27 include/linux/fs.h, computed: files.md A1; 64 bit: an estimate", value64=544),
        since("2.6", 348, "2.6.2 include/linux/fs.h, computed: files.md A1; 64 bit: an estimate", value64=584),
        since("2.6.7", 324, "2.6.7 include/linux/fs.h, computed: files.md A1; 64 bit: an estimate", value64=552),
        since("6.18", 616, "struct inode by BTF", V),
    ),
    "inodes_are_aligned": (
        since("2.4", 1, "2.4.27, 2.6.2 fs/inode.c, inode_init: SLAB_HWCACHE_ALIGN"),
        since("6.18", 0, "fs/inode.c, inode_init: 624 bytes each in slabinfo", V),
    ),
    "file_bytes": (
        since("2.4", 104, "2.4.27 include/linux/fs.h, computed: files.md A1; 64 bit: an estimate", value64=184),
        since("2.6", 140, "2.6.2 include/linux/fs.h, computed: files.md A1; 64 bit: an estimate", value64=248),
        since("2.6.7", 148, "2.6.7 include/linux/fs.h, computed: files.md A1; 64 bit: an estimate", value64=264),
        since("6.18", 184, "struct file by BTF", V),
    ),
    "rw_end_may_not_wrap": (
        since("2.4", 0, "2.4.27, 2.6.2 fs/read_write.c, sys_pread, sys_pread64: the offset alone"),
        since("2.6.34", 1, "2.6.34, 6.18 fs/read_write.c, rw_verify_area: EINVAL"),
    ),
    "disk_file_bytes": (
        since(
            "2.4",
            (512 << 32) - 4096,
            "2.4.27, 2.6.2 fs/ext3/super.c, ext3_max_size: i_blocks counts sectors; from memory",
        ),
        since("6.18", ((1 << 32) - 1) << 12, "fs/ext4/super.c, ext4_max_size", V),
    ),
    "no_file_is_enfile": (
        since("2.4", 1, "2.4.27, 2.6.2 fs/open.c, dentry_open: whatever get_empty_filp lacked"),
        since("2.6.34", 0, "6.18 fs/file_table.c, alloc_empty_file: ENOMEM; 2.6.34 not read"),
    ),
    "file_lock": (
        since("2.4", FileLock.I_SHARED_LOCK, "2.4.27 include/linux/fs.h, struct address_space"),
        since("2.6", FileLock.I_SHARED_SEM, "2.6.2 include/linux/fs.h, struct address_space"),
        since("2.6.7", FileLock.I_MMAP_LOCK, "2.6.7, 2.6.34 include/linux/fs.h, struct address_space"),
        since("3.0", FileLock.I_MMAP_MUTEX, "3d48ae45e72390ddf8cc5256ac32ed6f7a19cbea; from memory"),
        since("3.19", FileLock.I_MMAP_RWSEM, "3.19, 6.18 include/linux/fs.h, struct address_space"),
    ),
    "file_merging": (
        since("2.4", FileMerging.NEVER, "2.4.27 mm/mmap.c, do_mmap_pgoff: anonymous memory alone"),
        since("2.6", FileMerging.MMAP, "2.6.2 mm/mmap.c, do_mmap_pgoff: vma_merge, behind ->mmap"),
        since("2.6.7", FileMerging.ALWAYS, "2.6.7 mm/mprotect.c, mm/mmap.c, copy_vma: vma_merge"),
        since("6.18", FileMerging.ALWAYS, "mm/vma.c, is_mergeable_vma: vm_file", V),
    ),
    "dirty_is_accounted": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, do_no_page: vm_page_prot"),
        since("2.6.19", 1, "d08b3851da41; from memory; 2.6.34 mm/memory.c, vma_wants_writenotify"),
        since("6.18", 1, "mm/vma.c, vma_wants_writenotify", V),
    ),
    "tables_before_files": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.34 mm/memory.c, handle_mm_fault: pte_alloc, pte_alloc_map"),
        since("4.8", 0, "7267ec008b5c; from memory"),
        since("6.18", 0, "mm/memory.c, __handle_mm_fault, do_fault: prealloc_pte", V),
    ),
    "fault_around_pages": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/memory.c"),
        since("3.15", 16, "3.19 mm/memory.c, do_fault_around: fault_around_bytes"),
        since("6.18", 16, "mm/memory.c, do_fault_around: fault_around_pages", V),
    ),
    "fault_compares_truncate_count": (
        since("2.4", 0, "2.4.27 mm/memory.c, do_no_page"),
        since("2.6", 1, "2.6.2 mm/memory.c, do_no_page: truncate_count"),
        since("2.6.23", 0, "d00806b183152af6d24f46f0c33f14162ca1262a; from memory"),
        since("6.18", 0, "mm/filemap.c, filemap_fault"),
    ),
    "fault_locks_page": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, do_no_page"),
        since("2.6.23", 1, "d00806b183152af6d24f46f0c33f14162ca1262a; from memory; 2.6.34 mm/memory.c, __do_fault"),
        since("6.18", 1, "mm/filemap.c, filemap_fault; mm/truncate.c, truncate_cleanup_folio"),
    ),
    "cow_allocates_first": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, do_no_page; 2.6.34 __do_fault"),
        since("3.1", 1, "1d65f86db148; from memory; 3.19 mm/memory.c, do_cow_fault"),
        since("6.18", 1, "mm/memory.c, do_cow_fault", V),
    ),
    "nopage_reads": (
        since("2.4", 2, "2.4.27, 2.6.2 mm/filemap.c, filemap_nopage, page_not_uptodate: readpage, and once more"),
        since("6.18", 1, "mm/filemap.c, filemap_fault, page_not_uptodate"),
    ),
    "waiting_is_major": (
        since("2.4", 1, "2.4.27 has no such count; 2.6.2, 2.6.7 mm/filemap.c, filemap_nopage, page_not_uptodate"),
        since("6.18", 0, "mm/filemap.c, filemap_fault: PGMAJFAULT only where no folio is found; from memory"),
    ),
    "readahead": (
        since("2.4", Readahead.POSITION, "2.4.27 mm/filemap.c, do_generic_file_read, generic_file_readahead"),
        since("2.6", Readahead.TWO_WINDOWS, "2.6.2, 2.6.7 mm/readahead.c, page_cache_readahead, handle_ra_miss"),
        since("2.6.23", Readahead.ON_DEMAND, "122a21d11cbf; from memory"),
        since("6.18", Readahead.ON_DEMAND, "mm/readahead.c, page_cache_sync_ra, page_cache_async_ra: pages alone", V),
    ),
    "ahead_window": (
        since("2.4", AheadWindow.AT_ONCE, "2.4: there is none; 2.6.2 mm/readahead.c, page_cache_readahead"),
        since("2.6.5-rc1", AheadWindow.LAST_PAGE, "0b5812bcdd: adaptive lazy readahead; 2.6.5 mm/readahead.c"),
        since("2.6.7", AheadWindow.IN_ORDER, "48f02e0620: speed up readahead for seeky loads; 2.6.7 mm/readahead.c"),
    ),
    "fault_reads_around": (
        since("2.4", Around.BLOCK, "2.4.27 mm/filemap.c, read_cluster_nonblocking; 2.6.2, 2.6.5 filemap_nopage"),
        since("2.6.7", Around.FROM_PAGE, "2.6.7 mm/filemap.c, filemap_nopage: start is computed, and not used"),
        since("2.6.8", Around.MIDDLE, "836c550d7e, 10 July 2004: start is used"),
        since("6.18", Around.MIDDLE, "mm/filemap.c, do_sync_mmap_readahead", V),
    ),
    "fault_block_pages": (
        since("2.4", 8, "2.4.27 mm/swap.c, swap_setup: page_cluster 3, with 16 MiB of RAM or more"),
        since("2.6", 16, "2.6.2 mm/filemap.c, MMAP_READAROUND"),
    ),
    "fault_drops_lock_to_read": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/filemap.c: mmap_sem is held while a page is read"),
        since("5.1", 1, "6b4c9f446981; from memory"),
        since("6.18", 1, "mm/filemap.c, filemap_fault: maybe_unlock_mmap_for_io, VM_FAULT_RETRY"),
    ),
    "truncate_unmaps_twice": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, vmtruncate"),
        since("2.6.34", 1, "2.6.34 mm/truncate.c, truncate_pagecache; 6.18 likewise"),
    ),
    "extending_zeroes_tail": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, vmtruncate: do_expand looks at no page"),
        since("6.18", 1, "mm/truncate.c, pagecache_isize_extended; ext4", V),
    ),
    "msync_walks_entries": (
        since("2.4", 1, "2.4.27 mm/filemap.c, 2.6.2 mm/msync.c: filemap_sync"),
        since("2.6.19", 0, "204ec841fbea; from memory; 2.6.34 mm/msync.c: vfs_fsync"),
        since("6.18", 0, "mm/msync.c: vfs_fsync_range", V),
    ),
    "mincore_reads_entries": (
        since("2.4", 0, "2.4.27 mm/filemap.c, 2.6.2 mm/mincore.c: mincore_page asks the cache"),
        since("2.6.34", 1, "2.6.34 mm/mincore.c, mincore_pte_range"),
        since("6.18", 1, "mm/mincore.c, mincore_pte_range", V),
    ),
    "pgoff_wrap_is_eoverflow": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, do_mmap_pgoff: EINVAL"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, do_mmap_pgoff"),
        since("6.18", 1, "mm/mmap.c, do_mmap", V),
    ),
    "file_size_limits_mappings": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/mmap.c, do_mmap_pgoff"),
        since("4.17", 1, "be83bbf80682; from memory"),
        since("6.18", 1, "mm/mmap.c, file_mmap_ok", V),
    ),
    "shared_validate_known": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, do_mmap_pgoff: EINVAL"),
        since("4.15", 1, "1c9725974074; from memory"),
        since("6.18", 1, "mm/mmap.c, do_mmap", V),
    ),
    "populate_dirties_shared": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.34 mm/memory.c, make_pages_present: VM_WRITE"),
        since("2.6.38", 0, "5ecfda041e4b; from memory; 3.19 mm/gup.c, __mlock_vma_pages_range"),
        since("6.18", 0, "mm/gup.c, populate_vma_page_range", V),
    ),
    "driver_pages": (
        since(
            "2.4",
            DriverPages.AS_FILE,
            "2.4.27: no reverse map; 2.6.2, 2.6.7 mm/memory.c, do_no_page: page_add_rmap, page_add_file_rmap; 6.18 mm/memory.c, set_pte_range",
        ),
    ),
    "nopage_is_checked": (since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/memory.c, do_no_page"),),
    "sigbus_is_checked": (
        since(
            "2.4",
            0,
            "2.4.27, 2.6.2 mm/memory.c, do_no_page; believed of 2.6.5-rc1-aa1: 1, until <20040320174857.GA9009@dualathlon.random> "
            "(rmaplab explain bttv)",
        ),
    ),
    "videobuf_is_reserved": (
        since(
            "2.4",
            0,
            "2.4: there is none, its bttv remaps (from memory); 2.6.2 drivers/media/video/video-buf.c, videobuf_mmap_mapper",
        ),
        since("2.6.7", 1, "08e2a86027"),
    ),
    "remap_vm_flags": (
        since("2.4", Bits(0), "2.4.27, 2.6.2, 2.6.7 mm/memory.c, remap_page_range"),
        since("2.6.34", Bits(VM_IO | VM_RESERVED | VM_PFNMAP), "2.6.34 mm/memory.c, remap_pfn_range"),
        since("3.19", Bits(VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP), "3.19, 6.18 mm/memory.c, remap_pfn_range"),
    ),
}
