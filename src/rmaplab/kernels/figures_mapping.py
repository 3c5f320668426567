"""The rules of mapping calls since 2.4, mmap to mremap, in the order of mm/rules.py: who set each, and when. As figures_mm.py, which says where they were read."""

from rmaplab.kernels.history import Bits, History, Status, since
from rmaplab.mm.file_rules import Populate

V = Status.VALIDATED

MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
NORESERVE, GROWSDOWN, LOCKED, POPULATE, NONBLOCK, STACK = 0x4000, 0x100, 0x2000, 0x8000, 0x1_0000, 0x2_0000
DROPPABLE, HUGETLB, FIXED_NOREPLACE, LOW = 0x8, 0x4_0000, 0x10_0000, 0x40
OF_2026 = NORESERVE | GROWSDOWN | LOCKED | POPULATE | NONBLOCK | STACK | DROPPABLE | HUGETLB | FIXED_NOREPLACE

MAPPING: dict[str, History] = {
    # -- mmap.py, unmapped_area.py, stack.py -----------------------------------------------------------------------------
    "mmap_of_nothing_succeeds": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.7 mm/mmap.c, do_mmap_pgoff"),
        since("2.6.34", 0, "2.6.34 mm/mmap.c, do_mmap_pgoff: EINVAL"),
        since("6.18", 0, "mm/mmap.c, do_mmap: EINVAL", V),
    ),
    "mmap_too_long_is_enomem": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/mmap.c, do_mmap_pgoff: EINVAL beyond TASK_SIZE"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, do_mmap_pgoff"),
        since("6.18", 1, "mm/mmap.c, get_unmapped_area", V),
    ),
    "mmap_flags": (
        since(
            "2.4",
            Bits(NORESERVE | GROWSDOWN),
            "2.4.27 mm/mmap.c, do_mmap_pgoff, calc_vm_flags: MAP_LOCKED is none of them",
            value64=Bits(NORESERVE | GROWSDOWN | LOW),
        ),
        since(
            "2.6",
            Bits(NORESERVE | GROWSDOWN | LOCKED | POPULATE | NONBLOCK),
            "2.6.2 mm/mmap.c, do_mmap_pgoff, calc_vm_flag_bits",
            value64=Bits(NORESERVE | GROWSDOWN | LOCKED | POPULATE | NONBLOCK | LOW),
        ),
        since("6.18", Bits(OF_2026), "include/uapi/linux/mman.h; mm/mmap.c, do_mmap", V, value64=Bits(OF_2026 | LOW)),
    ),
    "mmap_flags_not_modelled": (
        since(
            "2.4",
            Bits(0),
            "2.4.27, 2.6.2 know it, this version does not",
            value64=Bits(LOW),
        ),
        since("6.18", Bits(HUGETLB), "Of ours, not Linux's: huge pages are not there"),
    ),
    "map_populate": (
        since(
            "2.4",
            Populate.NO_PROT,
            "2.4.27 does not know it; 2.6.2 mm/mmap.c, do_mmap_pgoff: sys_remap_file_pages with prot, which must be 0",
        ),
        since("2.6.7", Populate.SHARED, "7af5971b97, 24 May 2004: with 0"),
        since("2.6.34", Populate.ALL, "2.6.34 mm/mmap.c, do_mmap_pgoff: make_pages_present"),
        since("6.18", Populate.ALL, "mm/mmap.c, do_mmap: populate", V),
    ),
    "mmap_rounds_hint_down": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, arch_get_unmapped_area: PAGE_ALIGN"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, round_hint_to_min"),
        since("6.18", 1, "mm/mmap.c, do_mmap: round_hint_to_min", V),
    ),
    "mmap_topdown": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, arch_get_unmapped_area: from TASK_UNMAPPED_BASE upwards"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, arch_get_unmapped_area_topdown"),
        since("6.18", 1, "arch/x86/kernel/sys_x86_64.c, arch_get_unmapped_area_topdown", V),
    ),
    "mmap_remembers_hole": (
        since("2.4", 0, "2.4.27 mm/mmap.c, arch_get_unmapped_area: from TASK_UNMAPPED_BASE every time"),
        since("2.6", 1, "2.6.2, 2.6.34 mm/mmap.c, arch_get_unmapped_area: free_area_cache"),
    ),
    "mmap_fixed_may_be_errno": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, get_unmapped_area: MAP_FIXED is looked at first"),
        since("6.18", 1, "mm/mmap.c, __get_unmapped_area: IS_ERR_VALUE(addr) before the limit", V),
    ),
    "mmap_aligns_huge": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, arch_get_unmapped_area"),
        since("6.7", 1, "mm/huge_memory.c, thp_get_unmapped_area for anonymous memory; from memory"),
        since("6.18", 1, "mm/huge_memory.c, __thp_get_unmapped_area; whatever THP is set to", V),
    ),
    "mmap_replaces_last": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, do_mmap_pgoff: munmap_back"),
        since("6.18", 1, "mm/vma.c, __mmap_region: vms_complete_munmap_vmas after the charge"),
    ),
    "noreserve_is_a_flag": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, do_mmap_pgoff"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, mmap_region: VM_NORESERVE"),
        since("6.18", 1, "mm/mmap.c, do_mmap: VM_NORESERVE", V),
    ),
    "data_limits_mappings": (
        since("2.4", 0, "2.4.27, 2.6.34 mm/mmap.c: sys_brk is all that asks"),
        since("4.7", 1, "f4fcd55841fc: enforced; counted since 4.5; from memory"),
        since("6.18", 1, "mm/mmap.c, may_expand_vm", V),
    ),
    "data_limit_stops_shrinking": (
        since("2.4", 0, "2.4.27 mm/mmap.c, sys_brk; 2.6.2 likewise, from memory"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, sys_brk"),
        since("6.18", 1, "mm/mmap.c, brk: check_data_rlimit", V),
    ),
    "brk_minds_task_size": (
        since("2.4", 0, "CVE-2003-0961 (December 2003): up to 2.4.22, mm/mmap.c, do_brk"),
        since("2.4.23", 1, "CVE-2003-0961 (December 2003)"),
        since("2.6", 1, "CVE-2003-0961: since 2.6.0-test6, mm/mmap.c, do_brk"),
    ),
    "heap_gap_bytes": (
        since("2.4", 0, "2.4.27, 2.6.2 fs/binfmt_elf.c, set_brk: right behind it"),
        since("2.6.25", 16 << 20, "c1d171a00294, January 2008: arch_randomize_brk, of 32 MiB; from memory"),
        since(
            "6.18",
            16 << 20,
            "arch/x86/kernel/process.c, arch_randomize_brk: of 1 GiB for 64-bit programs",
            value64=512 << 20,
        ),
    ),
    "heap_is_executable": (
        since("2.4", 1, "2.4.27 include/linux/mm.h, 2.6.2 include/asm-i386/page.h, VM_DATA_DEFAULT_FLAGS"),
        since("2.6.34", 0, "2.6.34, 6.18 arch/x86/include/asm/page_types.h, VM_DATA_DEFAULT_FLAGS"),
    ),
    "stack_guard_gap_pages": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c: VMAs may touch"),
        since("4.12", 256, "1be7107fbe18, Hugh Dickins"),
        since("6.18", 256, "mm/mmap.c, stack_guard_gap", V),
    ),
    "stack_prepares": (
        since("2.4", 0, "2.4.27 include/linux/mm.h, 2.6.2 mm/mmap.c, expand_stack; the -aa tree's"),
        since("2.6.7", 1, "2.6.7 mm/mmap.c, expand_stack: anon_vma_prepare"),
        since("6.18", 1, "mm/vma.c, expand_downwards", V),
    ),
    "stack_minds_memlock": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7, expand_stack"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, acct_stack_growth"),
        since("6.18", 1, "mm/vma.c, acct_stack_growth", V),
    ),
    "stack_growth_is_charged": (
        since("2.4", 0, "2.4.27 include/linux/mm.h, expand_stack"),
        since("2.6", 1, "2.6.2, 2.6.7 mm/mmap.c, expand_stack: security_vm_enough_memory, whatever its flags"),
        since("6.18", 0, "mm/vma.c, acct_stack_growth: for what is_accountable; here by VM_ACCOUNT"),
    ),
    "file_growth_refused_late": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.34 mm/mmap.c, do_mmap_pgoff, mmap_region: beside ->mmap"),
        since("3.19", 0, "3.19 mm/mmap.c, do_mmap_pgoff"),
        since("6.18", 0, "mm/mmap.c, do_mmap", V),
    ),
    # -- munmap.py, zap.py -----------------------------------------------------------------------------------------------
    "munmap_needs_spare_vma": (
        since("2.4", 1, "2.4.27 mm/mmap.c, do_munmap"),
        since("2.6", 0, "2.6.2 mm/mmap.c, do_munmap: split_vma allocates when it splits"),
        since("6.18", 0, "mm/vma.c, vms_gather_munmap_vmas: a VMA when it splits", V),
    ),
    "split_renews_ends": (
        since("2.4", 1, "2.4.27 mm/mprotect.c, mprotect_fixup_start, _end; mm/mlock.c, mm/filemap.c likewise"),
        since("2.6", 0, "2.6.2 mm/mprotect.c, mm/mlock.c, mm/madvise.c: split_vma below, then above"),
        since("6.18", 0, "mm/vma.c, vma_modify"),
    ),
    "munmap_keeps_inside": (
        since("2.4", 0, "2.4.27 mm/mmap.c, unmap_fixup; 2.6.2, 2.6.34 do_munmap: split_vma above, then below"),
        since("6.18", 1, "mm/vma.c, vms_gather_munmap_vmas: __split_vma below, then above"),
    ),
    "munmap_relinks": (
        since("2.4", 1, "2.4.27 mm/mmap.c, do_munmap, unmap_fixup: remove_shared_vm_struct, __insert_vm_struct"),
        since("2.6", 0, "2.6.2 mm/mmap.c, do_munmap: split_vma"),
    ),
    "munmap_counts_holes_only": (
        since("2.4", 1, "2.4.27 mm/mmap.c, do_munmap"),
        since("2.6", 0, "2.6.2 mm/mmap.c, split_vma counts always"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c, do_munmap, __split_vma"),
        since("6.18", 1, "mm/vma.c, vms_gather_munmap_vmas"),
    ),
    "frees_tables_by_level": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mmap.c, free_pgtables: whole entries of the top table"),
        since("2.6.34", 1, "2.6.34 mm/memory.c, free_pgd_range"),
        since("6.18", 1, "mm/memory.c, free_pgd_range", V),
    ),
    # -- mprotect.py -----------------------------------------------------------------------------------------------------
    "mprotect_merges": (
        since(
            "2.4", 1, "2.4.27 mm/mprotect.c, mprotect_fixup_all; 2.6.2 mprotect_attempt_merge: anonymous memory only"
        ),
        since("2.6.7", 1, "mm/mprotect.c, mprotect_fixup: vma_merge (c88a6aaa44)"),
        since("6.18", 1, "mm/mprotect.c, mprotect_fixup: vma_modify_flags", V),
    ),
    "mprotect_asks_both": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mprotect.c: the one before it, and at the end of sys_mprotect the next"),
        since("2.6.7", 1, "mm/mprotect.c, mprotect_fixup: vma_merge (c88a6aaa44)"),
        since("6.18", 1, "mm/vma.c, vma_modify", V),
    ),
    "mprotect_charges": (
        since("2.4", 0, "2.4.27 mm/mprotect.c, mprotect_fixup"),
        since("2.6", 1, "2.6.2 mm/mprotect.c, mprotect_fixup (c60bacf725, July 2002)"),
        since("6.18", 1, "mm/mprotect.c, mprotect_fixup", V),
    ),
    "mprotect_checks_length_first": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mprotect.c, sys_mprotect"),
        since("2.6.34", 1, "2.6.34 mm/mprotect.c, sys_mprotect"),
        since("6.18", 1, "mm/mprotect.c, do_mprotect_pkey", V),
    ),
    "mprotect_wrap_is_enomem": (
        since("2.4", 1, "2.4.27 mm/mprotect.c, sys_mprotect"),
        since("2.6", 0, "2.6.2 mm/mprotect.c, sys_mprotect: EINVAL"),
        since("2.6.5-rc3", 1, "e4dad6aefe, 20 March 2004"),
        since("6.18", 1, "mm/mprotect.c, do_mprotect_pkey", V),
    ),
    "mprotect_breaks_cow_of_locked": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/mprotect.c, mprotect_fixup"),
        since("4.2", 1, "mm/mprotect.c, mprotect_fixup; from memory"),
        since("6.18", 1, "mm/mprotect.c, mprotect_fixup: populate_vma_page_range", V),
    ),
    "unfaulted_loses_charge": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/mprotect.c, mprotect_fixup"),
        since("6.18", 1, "mm/mprotect.c, mprotect_fixup", V),
    ),
    # -- mremap.py, mremap_linked.py, move_ptes.py -----------------------------------------------------------------------
    "mremap_flags": (
        since("2.4", Bits(MAYMOVE | FIXED), "2.4.27, 2.6.2, 2.6.34 mm/mremap.c, do_mremap: MAYMOVE, FIXED"),
        since("5.7", Bits(MAYMOVE | FIXED | DONTUNMAP), "mm/mremap.c: DONTUNMAP; from memory"),
        since("6.18", Bits(MAYMOVE | FIXED | DONTUNMAP), "mm/mremap.c, check_mremap_params: DONTUNMAP too", V),
    ),
    "mremap_merges": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mremap.c, move_vma: anonymous memory only"),
        since("2.6.7", 1, "mm/mmap.c, copy_vma: vma_merge"),
        since("6.18", 1, "mm/vma.c, copy_vma: vma_merge_new_range", V),
    ),
    "mremap_to_nothing_unmaps": (
        since("2.4", 1, "2.4.27 mm/mremap.c, do_mremap"),
        since("2.6", 0, "2.6.2 mm/mremap.c, do_mremap: EINVAL"),
        since("6.18", 0, "mm/mremap.c, check_mremap_params: EINVAL", V),
    ),
    "mremap_to_nothing_may_move": (
        since("2.4", 1, "CVE-2003-0985 (isec-0013, January 2004): up to 2.4.23, a mapping of no length"),
        since("2.4.24", 0, "CVE-2003-0985 (isec-0013, January 2004)"),
        since("2.6", 0, "2.6.2 mm/mremap.c, do_mremap: EINVAL"),
    ),
    "mremap_minds_munmap": (
        since("2.4", 0, "CVE-2004-0077 (isec-0014, February 2004): up to 2.4.24"),
        since("2.4.25", 1, "CVE-2004-0077 (isec-0014, February 2004)"),
        since("2.6", 0, "2.6.2 mm/mremap.c, do_mremap: what do_munmap returns"),
        since("2.6.3", 1, "CVE-2004-0077 (isec-0014, February 2004)"),
    ),
    "mremap_links_first": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mremap.c, move_vma"),
        since("2.6.6", 1, "e01346d8e9, April 2004: copy_vma"),
        since("6.18", 1, "mm/mremap.c, move_vma", V),
    ),
    "mremap_moves_many": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7, 2.6.34 mm/mremap.c, do_mremap: EFAULT beyond one VMA"),
        since("6.17", 1, "mm/mremap.c, remap_move; from memory"),
        since("6.18", 1, "mm/mremap.c, remap_move", V),
    ),
    "mremap_by_table": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mremap.c, move_one_page: looks at the entry first"),
        since("2.6.34", 1, "2.6.34 mm/mremap.c, move_page_tables: alloc_new_pmd"),
        since("6.18", 1, "mm/mremap.c, move_page_tables: pte_alloc before move_ptes", V),
    ),
}
