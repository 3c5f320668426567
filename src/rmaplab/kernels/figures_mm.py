"""The rules of mm/ since 2.4, in the order of mm/rules.py: who set each, and when.

Sources are named where they were read: a path in the tree of the release named before it, or a commit (those before 2.6.12 are
in the history of BitKeeper's tree). 2.4 is read in 2.4.27, for want of a 2.4.21. What stands under 6.18 as validated was seen on a
running 6.18.44, by the scripts in tests/ or by hand.
"""

from rmaplab.kernels.history import Bits, History, Status, since

V = Status.VALIDATED

IO, DONTCOPY, DONTEXPAND, RESERVED, DROPPABLE, MAYBE_GUARD = 0x4000, 0x2_0000, 0x4_0000, 0x8_0000, 1 << 40, 0x800


def _advice(*numbers: int) -> Bits:
    return Bits(sum(1 << nr for nr in numbers))


RULES: dict[str, History] = {
    # -- kernel.py -------------------------------------------------------------------------------------------------------
    "pagevec_size": (
        since("2.4", 0, "2.4.27 mm/swap.c, lru_cache_add: at once"),
        since("2.6", 16, "2.6.2 include/linux/pagevec.h, PAGEVEC_SIZE; mm/swap.c, lru_cache_add_active"),
        since("2.6.34", 14, "2.6.34 include/linux/pagevec.h, PAGEVEC_SIZE"),
        since("6.18", 0, "mm/memory.c, wp_can_reuse_anon_folio drains this CPU's first: 31 wait, and do not show"),
    ),
    "small_allocations_fail": (
        since("2.4", 1, "2.4.27 mm/page_alloc.c, balance_classzone"),
        since("2.6", 0, "2.6.2 mm/page_alloc.c, __alloc_pages: order 3 and below are retried for ever"),
        since("6.18", 0, "mm/page_alloc.c, __alloc_pages_slowpath: order 3 and below go on"),
    ),
    "commit_is_accounted": (
        since("2.4", 0, "2.4.27 mm/mmap.c, vm_enough_memory: a comparison, no count"),
        since("2.6", 1, "2.6.2 mm/mmap.c, do_mmap_pgoff: VM_ACCOUNT (c60bacf725, July 2002)"),
        since("6.18", 1, "mm/mmap.c, do_mmap; mm/vma.c: VM_ACCOUNT", V),
    ),
    # -- overcommit.py ---------------------------------------------------------------------------------------------------
    "root_reserve_divisor": (
        since("2.4", 0, "2.4.27 mm/mmap.c, vm_enough_memory: no reserve"),
        since("2.6", 32, "2.6.2 security/commoncap.c, cap_vm_enough_memory: 3 % for root"),
        since("6.18", 0, "mm/util.c, __vm_enough_memory: mode 0 looks at totals only"),
    ),
    "overcommit_totals": (
        since("2.4", 0, "2.4.27 mm/mmap.c, vm_enough_memory; 2.6.2 security/commoncap.c: what is free now"),
        since("6.18", 1, "mm/util.c, __vm_enough_memory, OVERCOMMIT_GUESS", V),
    ),
    "overcommit_strict": (
        since("2.4", 0, "2.4.27 mm/mmap.c, vm_enough_memory: anything but 0 is always"),
        since("2.6", 1, "2.6.2 Documentation/vm/overcommit-accounting: mode 2"),
        since("6.18", 1, "mm/util.c, __vm_enough_memory, OVERCOMMIT_NEVER"),
    ),
    "admin_reserve_kib": (
        since("2.4", 0, "2.4.27, 2.6.2: mode 2 keeps nothing for root"),
        since("3.10", 8192, "4eeab4f5580d, April 2013: sysctl_admin_reserve_kbytes; from memory"),
        since("6.18", 8192, "mm/mmap.c, init_admin_reserve: or 1/32 of what is free at boot", V),
    ),
    "user_reserve_kib": (
        since("2.4", 0, "2.4.27, 2.6.2: a process that has much may have more"),
        since("3.10", 1 << 17, "c9b1d0981fcc, April 2013: sysctl_user_reserve_kbytes; from memory"),
        since("6.18", 1 << 17, "mm/mmap.c, init_user_reserve: or 1/32 of what is free at boot", V),
    ),
    # -- reclaim/oom_kill.py ---------------------------------------------------------------------------------------------
    "oom_counts_resident": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/oom_kill.c, badness: total_vm"),
        since("2.6.36", 1, "a63d83f427fb, August 2010: rss, swap and page tables; from memory"),
        since("6.18", 1, "mm/oom_kill.c, oom_badness"),
    ),
    "oom_last_of_equals": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/oom_kill.c, select_bad_process: more than the most so far"),
        since("6.18", 1, "mm/oom_kill.c, oom_evaluate_task: no less than it"),
    ),
    "oom_rough_root": (
        since("2.4", 1, "2.4.27 mm/oom_kill.c, int_sqrt"),
        since("2.6.1", 0, "62784ab211, December 2003; 2.6.2 lib/int_sqrt.c"),
    ),
    # -- fork.py ---------------------------------------------------------------------------------------------------------
    "fork_charges": (
        since("2.4", 0, "2.4.27 kernel/fork.c, dup_mmap: no vm_enough_memory"),
        since("2.6", 1, "2.6.2 kernel/fork.c, dup_mmap: security_vm_enough_memory per VM_ACCOUNT VMA"),
        since("6.18", 1, "mm/mmap.c, dup_mmap: security_vm_enough_memory_mm per VM_ACCOUNT VMA"),
    ),
    "fork_failure_uncharges_twice": (
        since("2.4", 0, "2.4.27 kernel/fork.c, dup_mmap: nothing is charged"),
        since("2.6", 1, "2.6.2 kernel/fork.c, dup_mmap, and mm/mmap.c, exit_mmap"),
        since("2.6.7", 0, "ca6dbf6b62 and a6a7e5bf84, June 2004"),
    ),
    "fork_cond_resched": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.5-rc1 mm/memory.c, copy_page_range"),
        since("2.6.7", 1, "mm/memory.c, copy_page_range: cond_resched_lock (369bfc8a8a, May 2004)"),
        since("6.18", 1, "mm/memory.c, copy_pte_range"),
    ),
    "lazy_fork": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/memory.c, copy_page_range: every entry"),
        since("2.6.14", 1, "d992895ba2b2; 2.6.34 mm/memory.c, copy_page_range"),
        since("6.18", 1, "mm/memory.c, vma_needs_copy", V),
    ),
    # -- fault.py --------------------------------------------------------------------------------------------------------
    "write_implies_read": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/mm/fault.c, do_page_fault: VM_READ or VM_EXEC"),
        since("2.6.34", 1, "2.6.34 arch/x86/mm/fault.c, access_error"),
        since("6.18", 1, "arch/x86/mm/fault.c, access_error", V),
    ),
    "vma_locks": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/mm/fault.c, do_page_fault: mmap_sem"),
        since("6.4", 1, "mm/memory.c, lock_vma_under_rcu; from memory"),
        since("6.18", 1, "mm/mmap_lock.c, lock_vma_under_rcu; from memory"),
    ),
    "fault_retries_oom": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/mm/fault.c, do_page_fault: out_of_memory, do_exit(SIGKILL)"),
        since("5.16", 1, "60e2793d440a, November 2021: mm/oom_kill.c, pagefault_out_of_memory; from memory"),
        since("6.18", 1, "mm/oom_kill.c, pagefault_out_of_memory; from memory"),
    ),
    "stack_grows_under_write": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/mm/fault.c, do_page_fault: expand_stack under down_read"),
        since("6.5", 1, "mm/memory.c, lock_mm_and_find_vma; from memory"),
        since("6.18", 1, "mm/mmap_lock.c, lock_mm_and_find_vma; from memory"),
    ),
    "table_locks": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/memory.c, handle_mm_fault: mm->page_table_lock"),
        since("2.6.15", 1, "include/linux/mm.h, pte_lockptr; from memory"),
        since("6.18", 1, "include/linux/mm.h, pte_lockptr: NR_CPUS of 4 and more; from memory"),
    ),
    "knows_nx": (
        since("2.4", 0, "2.4.27, 2.6.2 asm-i386/pgtable.h: no such bit; asm-x86_64: _PAGE_NX; from memory", value64=1),
        since("6.18", 1, "seen on the host, tests/host/execute.c", V),
    ),
    "anon_rmap_after_unlock": (
        since(
            "2.4", 0, "2.4.27: nobody is told; 2.6.2 mm/memory.c, do_anonymous_page: under it; 2.6.7: before set_pte"
        ),
        since("6.18", 0, "mm/memory.c, do_anonymous_page: folio_add_new_anon_rmap, then set_ptes"),
    ),
    "anon_exclusive": (
        since("2.4", 0, "struct page has no such bit: 2.4.27, 2.6.2 include/linux/page-flags.h, mm.h"),
        since("5.19", 1, "PG_anon_exclusive; from memory"),
        since("6.18", 1, "include/linux/page-flags.h, PageAnonExclusive", V),
    ),
    # -- process.py ------------------------------------------------------------------------------------------------------
    "thread_groups": (
        since("2.4", 0, "2.4.27 kernel/exit.c: no do_group_exit; from memory"),
        since("2.6", 1, "2.6.2 kernel/exit.c, do_group_exit, fs/exec.c, de_thread; from memory"),
        since("6.18", 1, "kernel/exit.c, do_group_exit, fs/exec.c, de_thread", V),
    ),
    "setuid_minds_nproc": (
        since("2.4", 0, "2.4.27 kernel/sys.c, set_user; from memory"),
        since("2.6", 1, "2.6.2 kernel/sys.c, set_user; from memory"),
        since("3.1", 0, "kernel/sys.c, set_user (72fa59970f8); from memory"),
    ),
    "execve_minds_nproc": (
        since("2.4", 0, "2.4.27 fs/exec.c, do_execve; from memory"),
        since("3.1", 1, "fs/exec.c, do_execve_common (72fa59970f8); from memory"),
    ),
    # -- access.py -------------------------------------------------------------------------------------------------------
    "copy_checks_length_first": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/shmem.c, shmem_file_read, shmem_file_write; from memory"),
        since("2.6.34", 0, "fs/read_write.c, vfs_read: access_ok, then rw_verify_area; from memory"),
        since("6.18", 0, "fs/read_write.c, vfs_read", V),
    ),
    # -- rmap/pages.py ---------------------------------------------------------------------------------------------------
    "anon_mapping_dies_at_free": (
        since("2.4", 0, "2.4.27, 2.6.2: no page keeps one; 2.6.7 mm/rmap.c, page_remove_rmap: clear_page_anon"),
        since("2.6.34", 1, "2.6.34 mm/page_alloc.c, free_pages_prepare"),
        since("6.18", 1, "mm/page_alloc.c, free_pages_prepare"),
    ),
    # -- vma.py, merge.py ------------------------------------------------------------------------------------------------
    "split_holds_page_table_lock": (
        since("2.4", 1, "2.4.27 mm/mmap.c, 2.6.2 mm/mmap.c, split_vma; the -aa tree's too"),
        since("2.6.7", 0, "2.6.7 mm/mmap.c, vma_adjust: i_mmap_lock, anon_vma->lock"),
        since("6.18", 0, "mm/vma.c, vma_prepare: i_mmap_rwsem, anon_vma->root->rwsem"),
    ),
    "max_map_count": (
        since("2.4", 65536, "2.4.27 include/linux/sched.h, DEFAULT_MAX_MAP_COUNT; 2.6.2 MAX_MAP_COUNT"),
        since("2.6.34", 65530, "2.6.34 include/linux/sched.h, DEFAULT_MAX_MAP_COUNT"),
        since("6.18", 65530, "include/linux/mm.h, DEFAULT_MAX_MAP_COUNT", V),
    ),
    "max_map_count_settable": (
        since("2.4", 1, "2.4.27 mm/mmap.c: max_map_count is a variable, kernel/sysctl.c shows it; from memory"),
        since("2.6", 0, "2.6.2 include/linux/sched.h: MAX_MAP_COUNT is a constant"),
        since("2.6.5", 1, "8990e381c8, April 2004: sysctl_max_map_count"),
        since("2.6.34", 1, "2.6.34 mm/mmap.c: sysctl_max_map_count"),
        since("6.18", 1, "mm/util.c: sysctl_max_map_count", V),
    ),
    "vm_special": (
        since("2.4", Bits(0), "2.4.27 mm/mmap.c, can_vma_merge: no flag is looked at by name"),
        since("2.6", Bits(IO | DONTCOPY | DONTEXPAND | RESERVED), "2.6.2 include/linux/mm.h, VM_SPECIAL"),
        since("2.6.34", Bits(IO | DONTEXPAND | RESERVED), "2.6.34 include/linux/mm.h, VM_SPECIAL; PFNMAP is not here"),
        since("6.18", Bits(IO | DONTEXPAND), "include/linux/mm.h, VM_SPECIAL: IO, DONTEXPAND; what is not here"),
    ),
    "vm_sticky": (
        since("2.4", Bits(0), "2.4.27, 2.6.2, 2.6.34 mm/mmap.c: all flags are compared"),
        since(
            "6.18",
            Bits(MAYBE_GUARD),
            "6.18.44: VmFlags gu in smaps; mainline 6.19 include/linux/mm.h, VM_STICKY; from memory",
            V,
        ),
    ),
    # -- madvise.py ------------------------------------------------------------------------------------------------------
    "madvise_advice": (
        since("2.4", _advice(*range(5)), "2.4.27 mm/filemap.c, 2.6.2 mm/madvise.c, madvise_vma: NORMAL to DONTNEED"),
        since(
            "2.6.34",
            _advice(*range(5), *range(9, 14), 100, 101),
            "2.6.34 mm/madvise.c: REMOVE, DONTFORK, DOFORK, MERGEABLE, UNMERGEABLE, HWPOISON",
        ),
        since(
            "3.19",
            _advice(*range(5), *range(9, 18), 100, 101),
            "3.19 mm/madvise.c: HUGEPAGE, NOHUGEPAGE, DONTDUMP, DODUMP",
        ),
        since("6.18", _advice(*range(5), *range(8, 26), *range(100, 104)), "mm/madvise.c, madvise_behavior_valid", V),
    ),
    "madvise_checks_advice_first": (
        since("2.4", 0, "2.4.27 mm/filemap.c, 2.6.2 mm/madvise.c, madvise_vma: the last case"),
        since("2.6.34", 1, "2.6.34 mm/madvise.c, madvise_behavior_valid"),
        since("6.18", 1, "mm/madvise.c, madvise_behavior_valid", V),
    ),
    "madvise_skips_unchanged": (
        since("2.4", 0, "2.4.27 mm/filemap.c, 2.6.2 mm/madvise.c, madvise_behavior"),
        since("2.6.34", 1, "2.6.34 mm/madvise.c, madvise_behavior"),
        since("6.18", 1, "mm/madvise.c, madvise_update_vma", V),
    ),
    "madvise_merges": (
        since("2.4", 0, "2.4.27 mm/filemap.c, 2.6.2 mm/madvise.c, madvise_behavior: splits only"),
        since("2.6.34", 1, "2.6.34 mm/madvise.c, madvise_behavior: vma_merge"),
        since("6.18", 1, "mm/madvise.c, madvise_update_vma: vma_modify_flags", V),
    ),
    "process_madvise_known": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/kernel/entry.S: no such call"),
        since("5.10", 1, "mm/madvise.c, process_madvise; from memory"),
        since("6.18", 1, "mm/madvise.c, process_madvise", V),
    ),
    "process_madvise_own_freely": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/kernel/entry.S: no such call"),
        since("6.13", 1, "mm/madvise.c, process_madvise: mm != current->mm; from memory"),
        since("6.18", 1, "mm/madvise.c, process_madvise: mm != current->mm", V),
    ),
    "willneed_needs_file": (
        since("2.4", 1, "2.4.27 mm/filemap.c, 2.6.2, 2.6.34 mm/madvise.c, madvise_willneed"),
        since("3.9", 0, "mm/madvise.c: swap is read ahead; from memory"),
        since("6.18", 0, "mm/madvise.c, madvise_willneed", V),
    ),
    "dontneed_frees_tables": (
        since("2.4", 0, "2.4.27 mm/filemap.c, 2.6.2 mm/madvise.c, madvise_dontneed: zap_page_range"),
        since("6.14", 1, "mm/pt_reclaim.c, with CONFIG_PT_RECLAIM; from memory"),
        since("6.18", 1, "mm/pt_reclaim.c, with CONFIG_PT_RECLAIM", V),
    ),
    # -- mlock.py, mincore.py --------------------------------------------------------------------------------------------
    "mbind_known": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/kernel/entry.S: no such call"),
        since("2.6.7", 1, "mm/mempolicy.c, sys_mbind; from memory"),
        since("6.18", 1, "mm/mempolicy.c, do_mbind", V),
    ),
    "anon_names_known": (
        since("2.4", 0, "2.4.27, 2.6.2 kernel/sys.c, sys_prctl: EINVAL"),
        since("5.17", 1, "9a10064f5625; with CONFIG_ANON_VMA_NAME; from memory"),
        since("6.18", 1, "mm/madvise.c, set_anon_vma_name; with CONFIG_ANON_VMA_NAME, which no host at hand has"),
    ),
    "mseal_known": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/kernel/entry.S: no such call"),
        since("6.10", 1, "mm/mseal.c, mseal; on 64-bit machines; from memory", value64=1),
        since("6.18", 1, "mm/mseal.c, do_mseal", V),
    ),
    "mlock2_known": (
        since("2.4", 0, "2.4.27, 2.6.2 arch/i386/kernel/entry.S: no such call"),
        since("4.4", 1, "mm/mlock.c, mlock2; from memory"),
        since("6.18", 1, "mm/mlock.c, mlock2", V),
    ),
    "mcl_onfault_known": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/mlock.c, sys_mlockall"),
        since("4.4", 1, "mm/mlock.c, mlockall; from memory"),
        since("6.18", 1, "mm/mlock.c, mlockall", V),
    ),
    "mlock_needs_capability": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mlock.c, do_mlock: CAP_IPC_LOCK"),
        since("2.6.9", 0, "2731280441, August 2004: can_do_mlock"),
        since("6.18", 0, "mm/mlock.c, can_do_mlock", V),
    ),
    "cap_mlock_disablable": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 kernel/sysctl.c: there is no vm.disable_cap_mlock, nor in mainline ever"),
    ),
    "cap_mlock_disabled": (
        since("2.4", 0, "2.4.27: there is none; <20040401184907.5026906b.akpm@osdl.org>: 0 at boot"),
    ),
    "munlockall_needs_capability": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mlock.c, do_mlockall, which sys_munlockall calls"),
        since("2.6.9", 0, "2731280441, August 2004"),
        since("6.18", 0, "mm/mlock.c, munlockall", V),
    ),
    "mlock_half_of_ram": (
        since("2.4", 1, "2.4.27 mm/mlock.c, sys_mlock, sys_mlockall: num_physpages/2"),
        since("2.6", 0, "944a871e88, March 2003; 2.6.2 mm/mlock.c"),
    ),
    "memlock_limit_bytes": (
        since("2.4", 1 << 62, "2.4.27 include/asm-i386/resource.h, 2.6.2 asm-generic/resource.h: RLIM_INFINITY"),
        since("2.6.34", 64 << 10, "2.6.34 include/linux/resource.h, MLOCK_LIMIT"),
        since("6.18", 8 << 20, "include/uapi/linux/resource.h, MLOCK_LIMIT", V),
    ),
    "memlock_limits_all": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mlock.c, sys_mlock, sys_mlockall"),
        since("2.6.9", 0, "2731280441, August 2004: or CAP_IPC_LOCK"),
        since("6.18", 0, "mm/mlock.c, do_mlock", V),
    ),
    "memlock_limits_future": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mlock.c, sys_mlockall"),
        since("2.6.9", 0, "da8dc97633, October 2004"),
        since("6.18", 0, "mm/mlock.c, mlockall", V),
    ),
    "mlock_counts_pages_once": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.34 mm/mlock.c, sys_mlock"),
        since("4.9", 1, "mm/mlock.c, count_mm_mlocked_page_nr; from memory"),
        since("6.18", 1, "mm/mlock.c, count_mm_mlocked_page_nr", V),
    ),
    "mlock_faults_each_vma": (
        since("2.4", 1, "2.4.27, 2.6.2, 2.6.34 mm/mlock.c, mlock_fixup"),
        since("3.9", 0, "mm/mlock.c, __mm_populate; from memory"),
        since("6.18", 0, "mm/mlock.c, do_mlock: __mm_populate", V),
    ),
    "mlock_tells_faults": (
        since("2.4", 0, "2.4.27 mm/mlock.c, mlock_fixup"),
        since("2.6", 1, "3a85d5d070, September 2003; 2.6.2 mm/mlock.c, mlock_fixup"),
        since("6.18", 1, "mm/mlock.c, __mlock_posix_error_return", V),
    ),
    "mlock_split_is_eagain": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mlock.c, mlock_fixup"),
        since("2.6.34", 0, "2.6.34 mm/mlock.c, mlock_fixup"),
        since("6.18", 0, "mm/mlock.c, mlock_fixup", V),
    ),
    "mlockall_future_unlocks": (
        since("2.4", 1, "2.4.27, 2.6.2 mm/mlock.c, do_mlockall"),
        since("2.6.9", 0, "b1f90fbaab, October 2004"),
        since("6.18", 0, "mm/mlock.c, apply_mlockall_flags", V),
    ),
    "mlock_merges": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/mlock.c, mlock_fixup: splits only"),
        since("2.6.12", 1, "9c7306731e, March 2005"),
        since("6.18", 1, "mm/mlock.c, mlock_fixup: vma_modify_flags", V),
    ),
    "mlock_leaves": (
        since("2.4", Bits(0), "2.4.27, 2.6.2 mm/mlock.c, mlock_fixup: none"),
        since("2.6.34", Bits(IO | DONTEXPAND | RESERVED), "2.6.34 mm/mlock.c, mlock_fixup"),
        since("6.18", Bits(IO | DONTEXPAND | DROPPABLE), "mm/mlock.c, mlock_fixup: VM_SPECIAL, VM_DROPPABLE", V),
    ),
    "mincore_knows_anonymous": (
        since("2.4", 0, "2.4.27 mm/filemap.c, 2.6.2 mm/mincore.c, mincore_vma: ENOMEM without a file"),
        since("2.6.34", 1, "2.6.34 mm/mincore.c"),
        since("6.18", 1, "mm/mincore.c", V),
    ),
}
