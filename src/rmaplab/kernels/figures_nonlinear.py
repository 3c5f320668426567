"""remap_file_pages and nonlinear mappings since 2.4: who has them, who finds their pages, what truncate leaves. The facts: files.md A7, B6, C4, D1, E2; history.md 1.5.9, 1.5.10."""

from rmaplab.kernels.history import History, Status, since
from rmaplab.mm.file_rules import RemapPages

V = Status.VALIDATED

NONLINEAR: dict[str, History] = {
    "remap_pages": (
        since("2.4", RemapPages.UNKNOWN, "2.4.27 arch/i386/kernel/entry.S: there is no such call"),
        since("2.6", RemapPages.ENTRIES, "2.6.2, 2.6.7 mm/fremap.c, sys_remap_file_pages, install_page"),
        since("4.0", RemapPages.MMAP, "ac1b16e0e97d; from memory"),
        since("6.18", RemapPages.MMAP, "mm/mmap.c, remap_file_pages: do_mmap", V),
    ),
    "nonlinear_apart": (
        since("2.4", 0, "2.4.27: there are none; 2.6.2 mm/fremap.c: they stay on i_mmap_shared"),
        since("2.6.7", 1, "2.6.7 mm/fremap.c, sys_remap_file_pages: i_mmap_nonlinear"),
        since("4.0", 0, "there are none"),
    ),
    "remap_minds_cursor": (
        since("2.4", 0, "2.4: there are none; 2.6.2 mm/fremap.c, sys_remap_file_pages"),
        since("2.6.7", 1, "2.6.7 mm/fremap.c, sys_remap_file_pages: vm_private_data"),
        since("2.6.8", 0, "562316961d, 4 July 2004"),
    ),
    "remap_minds_mlock": (since("2.4", 0, "2.4: there is no such call; 2.6.2 mm/fremap.c, sys_remap_file_pages"),),
    "truncate_misses_nonlinear": (
        since("2.4", 0, "2.4.27: there are none"),
        since("2.6", 1, "2.6.2 mm/memory.c, invalidate_mmap_range_list: linear places alone"),
        since("2.6.7", 0, "2.6.7 mm/memory.c, unmap_mapping_range: every VMA of i_mmap_nonlinear, whole"),
    ),
    "dontneed_keeps_nonlinear": (
        since("2.4", 0, "2.4.27: there are none; 2.6.2, 2.6.5 mm/madvise.c, madvise_dontneed: zap_page_range"),
        since("2.6.7", 1, "2.6.7, 2.6.34 mm/madvise.c, madvise_dontneed: zap_details"),
        since("4.0", 0, "there are none"),
    ),
}
