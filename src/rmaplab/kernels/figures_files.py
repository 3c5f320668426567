"""Files since 2.4: the index of a file's VMAs, its order and its lock; then the rules of mm/ for files. The facts: files.md A to D.

The index is a name of kernels/file_indexes.py by IndexKind. Sizes of VMAs (figures_box.py) have that index in them.
"""

from rmaplab.kernels.history import History, Status, since
from rmaplab.mm.rules import FileLock
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
    "file_lock": (
        since("2.4", FileLock.I_SHARED_LOCK, "2.4.27 include/linux/fs.h, struct address_space"),
        since("2.6", FileLock.I_SHARED_SEM, "2.6.2 include/linux/fs.h, struct address_space"),
        since("2.6.7", FileLock.I_MMAP_LOCK, "2.6.7, 2.6.34 include/linux/fs.h, struct address_space"),
        since("3.0", FileLock.I_MMAP_MUTEX, "3d48ae45e72390ddf8cc5256ac32ed6f7a19cbea; from memory"),
        since("3.19", FileLock.I_MMAP_RWSEM, "3.19, 6.18 include/linux/fs.h, struct address_space"),
    ),
}
