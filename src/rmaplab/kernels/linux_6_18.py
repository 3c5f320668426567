"""Linux 6.18, x86-64: anonymous memory as it is today. Validated: seen on a running 6.18.44, by the scripts in tests/ or by hand.

Sizes are those of its BTF and slabinfo; they depend on the configuration, and this is one of them (4 levels, MEMCG, KSM, NUMA, no
debugging). The scheduler is not 6.18's but the O(1) one with the parent first: nothing here depends on time.
"""

from rmaplab.kernels.linux_2_6 import FIGURES_2_6_2
from rmaplab.kernels.spec import Figure, KernelSpec, Status
from rmaplab.machine.entries import EntryEra
from rmaplab.machine.watermarks import WatermarkRule

V, B = Status.VALIDATED, Status.BELIEVED

ANON_VMA_CHAIN = "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap"

NORESERVE, GROWSDOWN, LOCKED, POPULATE, NONBLOCK, STACK = 0x4000, 0x100, 0x2000, 0x8000, 0x1_0000, 0x2_0000
DROPPABLE, HUGETLB, FIXED_NOREPLACE = 0x8, 0x4_0000, 0x10_0000
MMAP_FLAGS = NORESERVE | GROWSDOWN | LOCKED | POPULATE | NONBLOCK | STACK | DROPPABLE | HUGETLB | FIXED_NOREPLACE
ADVICE = sum(1 << nr for nr in (0, 1, 2, 3, 4, *range(8, 26)))
SPECIAL = 0x4000 | 0x4_0000  # VM_IO, VM_DONTEXPAND

LINUX_6_18 = KernelSpec(
    name="6.18",
    released="2025-11-30",
    about="mainline of today's long-term series: an anon_vma per generation, chained",
    design=ANON_VMA_CHAIN,
    architectures=("x86-64",),
    figures=FIGURES_2_6_2
    | {
        # the address space
        "task_size_bytes": Figure(0x7FFF_FFFF_F000, "arch/x86/include/asm/page_64_types.h: 47 bits less a page", V),
        "mmap_base_bytes": Figure(0x7FFF_F7FF_F000, "arch/x86/mm/mmap.c, mmap_base, not randomised: 128 MiB below", B),
        "heap_base_bytes": Figure(0x5555_5555_9000, "behind a small program's data, not randomised", B),
        # sizes, without what the reverse-mapping design adds
        "slub": Figure(1, "mm/slub.c, calculate_order: no management in the slab; 39 anon_vmas, 21 VMAs a page", V),
        "page_struct_bytes": Figure(56, "64 by BTF, less _mapcount and _refcount", V),
        "vm_area_struct_bytes": Figure(168, "192 by BTF, less anon_vma_chain and anon_vma", V),
        "mm_struct_bytes": Figure(1600, "slabinfo; 1472 by BTF, and the masks of CPUs behind it", V),
        "task_struct_bytes": Figure(5888, "slabinfo; depends on the configuration more than most", V),
        "sighand_bytes": Figure(2112, "slabinfo, sighand_cache; signal_cache (1152) is left out", V),
        "thread_stack_bytes": Figure(16384, "arch/x86/include/asm/page_64_types.h, THREAD_SIZE", B),
        "image_bytes": Figure(12 << 20, "kernel text and data of a small configuration; an estimate", B),
        "boot_kernel_bytes": Figure(14 << 20, "slab, stacks and page tables after boot; an estimate", B),
        "boot_user_bytes": Figure(6 << 20, "pages of a quiet user land that cannot be dropped; an estimate", B),
        # the page allocator
        "watermarks": Figure(WatermarkRule.STEPS, "mm/page_alloc.c, __setup_per_zone_wmarks", B),
        "per_cpu_lists": Figure(1, "mm/page_alloc.c, zone_batchsize; sizes here are those of 2.6.2", B),
        # rules
        "fork_charges": Figure(1, "mm/mmap.c, dup_mmap: security_vm_enough_memory_mm per VM_ACCOUNT VMA", B),
        "fork_failure_uncharges_twice": Figure(0, "mm/mmap.c, dup_mmap: fixed in 2.6.7", B),
        "root_reserve_divisor": Figure(0, "mm/util.c, __vm_enough_memory: mode 0 looks at totals only", B),
        "overcommit_totals": Figure(1, "mm/util.c, __vm_enough_memory, OVERCOMMIT_GUESS", V),
        "overcommit_strict": Figure(1, "mm/util.c, __vm_enough_memory, OVERCOMMIT_NEVER; its reserves are left out", B),
        "commit_is_accounted": Figure(1, "mm/mmap.c, do_mmap; mm/vma.c: VM_ACCOUNT", V),
        "small_allocations_fail": Figure(0, "mm/page_alloc.c, __alloc_pages_slowpath: order 3 and below go on", B),
        "mprotect_merges": Figure(1, "mm/mprotect.c, mprotect_fixup: vma_modify_flags", V),
        "mremap_merges": Figure(1, "mm/vma.c, copy_vma: vma_merge_new_range", V),
        "mremap_to_nothing_unmaps": Figure(0, "mm/mremap.c, check_mremap_params: EINVAL", V),
        "munmap_needs_spare_vma": Figure(0, "mm/vma.c, vms_gather_munmap_vmas: a VMA when it splits", V),
        "max_map_count": Figure(65530, "include/linux/mm.h, DEFAULT_MAX_MAP_COUNT", V),
        "pagevec_size": Figure(
            0, "mm/memory.c, wp_can_reuse_anon_folio drains this CPU's first: 31 wait, and do not show", B
        ),
        "mmap_of_nothing_succeeds": Figure(0, "mm/mmap.c, do_mmap: EINVAL", V),
        "mmap_topdown": Figure(1, "arch/x86/kernel/sys_x86_64.c, arch_get_unmapped_area_topdown", V),
        "mmap_aligns_huge": Figure(1, "mm/huge_memory.c, __thp_get_unmapped_area; whatever THP is set to", V),
        "mmap_replaces_last": Figure(1, "mm/vma.c, __mmap_region: vms_complete_munmap_vmas after the charge", B),
        "mmap_flags": Figure(MMAP_FLAGS, "include/uapi/linux/mman.h; mm/mmap.c, do_mmap", V),
        "munmap_counts_holes_only": Figure(1, "mm/vma.c, vms_gather_munmap_vmas", B),
        "merges_everywhere": Figure(1, "mm/vma.c, vma_modify", V),
        "mprotect_length_first": Figure(1, "mm/mprotect.c, do_mprotect_pkey", V),
        "mremap_links_first": Figure(1, "mm/mremap.c, move_vma", V),
        "vm_special": Figure(SPECIAL, "include/linux/mm.h, VM_SPECIAL", B),
        "mremap_by_table": Figure(1, "mm/mremap.c, move_page_tables: pte_alloc before move_ptes", V),
        "write_implies_read": Figure(1, "arch/x86/mm/fault.c, access_error", V),
        "pte_encoding": Figure(EntryEra.LINUX_6_18, "arch/x86/include/asm/pgtable_64.h, __swp_entry", B),
        "anon_mapping_dies_at_free": Figure(1, "mm/page_alloc.c, free_pages_prepare: as since 2.6.34 at least", B),
        "lazy_fork": Figure(1, "mm/memory.c, vma_needs_copy", V),
        "anon_exclusive": Figure(1, "include/linux/page-flags.h, PageAnonExclusive", V),
        "frees_tables_by_level": Figure(1, "mm/memory.c, free_pgd_range", V),
        "dontneed_frees_tables": Figure(1, "mm/pt_reclaim.c, with CONFIG_PT_RECLAIM", V),
        "heap_is_executable": Figure(0, "arch/x86/include/asm/page_types.h, VM_DATA_DEFAULT_FLAGS", B),
        "noreserve_is_a_flag": Figure(1, "mm/mmap.c, do_mmap: VM_NORESERVE", V),
        "unfaulted_loses_charge": Figure(1, "mm/mprotect.c, mprotect_fixup", V),
        "mlock_needs_capability": Figure(0, "mm/mlock.c, can_do_mlock", V),
        "mlock2_known": Figure(1, "mm/mlock.c, since 4.4", V),
        "mlock_merges": Figure(1, "mm/mlock.c, mlock_fixup: vma_modify_flags", V),
        "mincore_knows_anonymous": Figure(1, "mm/mincore.c", V),
        "madvise_advice": Figure(ADVICE, "mm/madvise.c, madvise_behavior_valid", V),
        "memlock_limit_bytes": Figure(8 << 20, "include/uapi/linux/resource.h, MLOCK_LIMIT", V),
        "stack_guard_gap_pages": Figure(256, "mm/mmap.c, stack_guard_gap", V),
        # the scheduler
        "fork_cond_resched": Figure(1, "mm/memory.c, copy_pte_range", B),
        "one_run_queue": Figure(0, "kernel/sched/core.c: a struct rq per CPU; EEVDF itself is not modelled", B),
        "sched_knows_siblings": Figure(0, "kernel/sched/topology.c: it does; not modelled", B),
        "sync_wakes_move": Figure(1, "kernel/sched/fair.c, wake_affine, may; here always, as in 2.6.2", B),
        "busy_balance_ms": Figure(200, "kernel/sched/fair.c balances otherwise; here as in 2.6.2", B),
        "child_runs_first": Figure(0, "kernel/sched/fair.c: the knob is gone, the parent goes on", B),
        "timeslice_ms": Figure(3, "kernel/sched/fair.c, base slice; the rest is not EEVDF", B),
        "max_timeslice_ms": Figure(3, "as the slice", B),
        "tick_us": Figure(4000, "HZ 250", B),
    },
    published={
        "struct page": Figure(64, "BTF of 6.18.44", V),
        "struct vm_area_struct": Figure(192, "BTF and slabinfo of 6.18.44: 21 a page", V),
        "anon_vma": Figure(96, "BTF of 6.18.44; a slot of 104 in slabinfo, 39 a page", V),
        "anon_vma_chain": Figure(64, "BTF of 6.18.44; 64 a page", V),
    },
)
