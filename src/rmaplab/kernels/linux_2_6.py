"""Linux 2.6.2 and 2.6.5-rc1 with its -aa patches: the kernels of the announcement of 18 March 2004.

Sources are named where they were read: a path in the kernel's tree at that release, a mail on LKML, or the announcement
itself. "computed" figures are sums of the fields in that source.
"""

from rmaplab.kernels.spec import Figure, KernelSpec, Patch, Status
from rmaplab.machine.entries import EntryEra
from rmaplab.machine.watermarks import WatermarkRule

V, B = Status.VALIDATED, Status.BELIEVED

PTE_CHAIN = "rmaplab.rmap.pte_chain:PteChain"
ANON_VMA = "rmaplab.rmap.anon_vma:AnonVmaMap"

FIGURES_2_6_2 = {
    # sizes, without what the reverse-mapping design adds
    "page_struct_bytes": Figure(
        36, "include/linux/mm.h, computed: flags, count, list, mapping, index, lru, private", B, 72
    ),
    "vm_area_struct_bytes": Figure(
        64, "include/linux/mm.h; Hugh Dickins counts what comes on top of 64 (LKML, March 2004)", V, 128
    ),
    "mm_struct_bytes": Figure(528, "include/linux/sched.h, computed; not read from a slabinfo", B, 912),
    "task_struct_bytes": Figure(1696, "include/linux/sched.h, as slabinfo of 2.6 showed it; from memory", B, 2200),
    "sighand_bytes": Figure(1300, "include/linux/sched.h, computed: 64 sigactions of 20 bytes, count, lock", B, 2088),
    "thread_stack_bytes": Figure(8192, "include/asm-i386/thread_info.h, THREAD_SIZE", B),
    "image_bytes": Figure(3 << 20, "kernel text and data: 1 GB boots with about 1010 MiB usable", B),
    "boot_kernel_bytes": Figure(17 << 20, "slab, stacks and page tables after boot, in low memory; an estimate", B),
    "boot_user_bytes": Figure(18 << 20, "pages of a quiet user land that cannot be dropped; an estimate", B),
    # the page allocator
    "watermarks": Figure(
        WatermarkRule.SUMMED, "mm/page_alloc.c, setup_per_zone_pages_min and __alloc_pages: marks add up", B
    ),
    "per_cpu_lists": Figure(1, "mm/page_alloc.c, free_area_init_core and buffered_rmqueue", B),
    # rules
    "fork_charges": Figure(1, "kernel/fork.c, dup_mmap: security_vm_enough_memory per VM_ACCOUNT VMA", B),
    "fork_failure_uncharges_twice": Figure(
        1, "kernel/fork.c and mm/mmap.c; fixed by BK ca6dbf6b62, a6a7e5bf84 in June 2004", B
    ),
    "root_reserve_divisor": Figure(32, "security/commoncap.c, cap_vm_enough_memory: 3 % for root", B),
    "overcommit_totals": Figure(0, "security/commoncap.c, cap_vm_enough_memory: what is free now", B),
    "overcommit_strict": Figure(1, "Documentation/vm/overcommit-accounting: mode 2", B),
    "max_map_count": Figure(65536, "include/linux/sched.h, MAX_MAP_COUNT", B),
    "commit_is_accounted": Figure(1, "mm/mmap.c, do_mmap_pgoff: VM_ACCOUNT", B),
    "pagevec_size": Figure(16, "include/linux/pagevec.h, PAGEVEC_SIZE; mm/swap.c, lru_cache_add_active", B),
    "mmap_of_nothing_succeeds": Figure(1, "mm/mmap.c, do_mmap_pgoff", B),
    "mprotect_merges": Figure(1, "mm/mprotect.c, mprotect_attempt_merge: anonymous memory only", B),
    "mremap_merges": Figure(1, "mm/mremap.c, move_vma: anonymous memory only", B),
    "mremap_to_nothing_unmaps": Figure(0, "mm/mremap.c, do_mremap: EINVAL", B),
    "munmap_needs_spare_vma": Figure(0, "mm/mmap.c, do_munmap: split_vma allocates when it splits", B),
    "small_allocations_fail": Figure(0, "mm/page_alloc.c, __alloc_pages: order 3 and below are retried for ever", B),
    "fork_cond_resched": Figure(0, "mm/memory.c, copy_page_range", B),
    "anon_mapping_dies_at_free": Figure(0, "2.6.7 mm/rmap.c, page_remove_rmap: clear_page_anon at the last entry", B),
    "pte_encoding": Figure(EntryEra.LINUX_2_6, "include/asm-i386/pgtable.h, pgtable-2level.h, pgtable-3level.h", B),
    # what came later
    "slub": Figure(0, "mm/slab.c", B),
    "vm_special": Figure(0xE_4000, "include/linux/mm.h, VM_SPECIAL: IO, DONTCOPY, DONTEXPAND, RESERVED", B),
    "merges_everywhere": Figure(0, "mm/mlock.c, mm/madvise.c: split_vma only; mlock merges from 2.6.12", B),
    "mremap_links_first": Figure(0, "mm/mremap.c, move_vma: from 2.6.6", B),
    "mremap_by_table": Figure(0, "mm/mremap.c, move_one_page: looks at the entry first", B),
    "write_implies_read": Figure(0, "arch/i386/mm/fault.c, do_page_fault: VM_READ or VM_EXEC", B),
    "lazy_fork": Figure(0, "mm/memory.c, copy_page_range: from 2.6.14", B),
    "anon_exclusive": Figure(0, "the bit is of 5.19", B),
    "frees_tables_by_level": Figure(0, "mm/mmap.c, free_pgtables: whole entries of the top table", B),
    "dontneed_frees_tables": Figure(0, "of 6.14", B),
    "munmap_counts_holes_only": Figure(0, "mm/mmap.c, split_vma counts always", B),
    "mmap_topdown": Figure(0, "mm/mmap.c, arch_get_unmapped_area: from TASK_UNMAPPED_BASE upwards", B),
    "mmap_aligns_huge": Figure(0, "of 6.7", B),
    "mmap_replaces_last": Figure(0, "mm/mmap.c, do_mmap_pgoff: munmap_back", B),
    "mmap_flags": Figure(0x4000, "MAP_NORESERVE; MAP_LOCKED, MAP_GROWSDOWN and MAP_POPULATE are not modelled here", B),
    "heap_is_executable": Figure(1, "include/asm-i386/page.h, VM_DATA_DEFAULT_FLAGS", B),
    "noreserve_is_a_flag": Figure(0, "mm/mmap.c, do_mmap_pgoff", B),
    "unfaulted_loses_charge": Figure(0, "mm/mprotect.c, mprotect_fixup", B),
    "mprotect_length_first": Figure(0, "mm/mprotect.c, sys_mprotect", B),
    "mlock_needs_capability": Figure(1, "mm/mlock.c, do_mlock: CAP_IPC_LOCK, and RLIMIT_MEMLOCK for all", B),
    "mlock2_known": Figure(0, "of 4.4", B),
    "mlock_merges": Figure(0, "mm/mlock.c, mlock_fixup: split_vma", B),
    "mincore_knows_anonymous": Figure(0, "mm/mincore.c, mincore_vma: ENOMEM without a file", B),
    "madvise_advice": Figure(0x1F, "mm/madvise.c: NORMAL to DONTNEED", B),
    "memlock_limit_bytes": Figure(1 << 62, "include/asm-generic/resource.h: RLIM_INFINITY", B),
    "stack_guard_gap_pages": Figure(0, "of 4.12", B),
    # the O(1) scheduler
    "timeslice_ms": Figure(102, "kernel/sched.c, task_timeslice at nice 0", B),
    "max_timeslice_ms": Figure(200, "kernel/sched.c, MAX_TIMESLICE", B),
    "tick_us": Figure(1000, "include/asm-i386/param.h, HZ 1000", B),
    "one_run_queue": Figure(0, "kernel/sched.c: a runqueue_t per CPU", B),
    "child_runs_first": Figure(
        1, "kernel/sched.c, wake_up_forked_process; kernel/fork.c, do_fork: set_need_resched", B
    ),
    "sched_knows_siblings": Figure(
        0, "kernel/sched.c: siblings came with sched domains in 2.6.7; the announcement says so", B
    ),
    "sync_wakes_move": Figure(1, "kernel/sched.c, try_to_wake_up: sync; kernel/signal.c, __wake_up_parent", B),
    "busy_balance_ms": Figure(200, "kernel/sched.c, BUSY_REBALANCE_TICK", B),
}

LINUX_2_6_2 = KernelSpec(
    name="2.6.2",
    released="2004-02-04",
    about='mainline with reverse mapping by pte chains; the announcement\'s "last non-objrmap kernel"',
    design=PTE_CHAIN,
    figures=FIGURES_2_6_2,
)

LINUX_2_6_5_RC1 = KernelSpec(
    name="2.6.5-rc1",
    released="2004-03-16",
    about="mainline, the base of the announcement's kernel; reverse mapping as in 2.6.2",
    design=PTE_CHAIN,
    figures=FIGURES_2_6_2 | {"fork_cond_resched": Figure(1, "mm/memory.c, copy_page_range: cond_resched_lock", B)},
)

OBJRMAP_CORE = Patch(
    "00100_objrmap-core-1",
    "Dave McCracken, Andrea Arcangeli",
    "file pages are found through the file's list of VMAs; anonymous ones still by pte chains",
)

ANON_VMA_1 = Patch(
    "00101_anon_vma-1",
    "Andrea Arcangeli",
    "anonymous pages are found through a 12-byte object per group of related VMAs; pte chains are gone",
    figures={
        "mprotect_merges": Figure(0, 'the announcement: "vma merging for mprotect and mremap is disabled for now"', V),
        "mremap_merges": Figure(0, 'the announcement: "vma merging for mprotect and mremap is disabled for now"', V),
    },
    published={
        "anon_vma": Figure(12, 'the announcement: "an anon_vma is only 12 bytes"; slabinfo in LKML: 250 a page', V),
        "struct vm_area_struct": Figure(76, "slabinfo in LKML, March 2004: 50 a page, which 73 to 76 bytes give", V),
        "struct page": Figure(40, 'the announcement: "releases 4byte of page_t", from 44 with PAE and HIGHPTE', V),
    },
    design=ANON_VMA,
)

LINUX_2_6_5_RC1_AA1 = LINUX_2_6_5_RC1.patched(
    "2.6.5-rc1-aa1",
    "2004-03-18",
    "the kernel of the announcement: objrmap for files, anon_vma for anonymous memory",
    Patch("00000_extraversion-1", "Andrea Arcangeli", "the name"),
    OBJRMAP_CORE,
    ANON_VMA_1,
)
