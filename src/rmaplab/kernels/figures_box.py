"""What a kernel is made of beside the rules of mm/, since 2.4: the address space, sizes, the page allocator, the scheduler.

Sizes are without what the reverse-mapping design adds; "computed" ones are sums of the fields in that source. Those of 6.18 are of its
BTF and slabinfo; they depend on the configuration, and this is one of them (4 levels, MEMCG, KSM, NUMA, no debugging). Its scheduler is
not 6.18's but the O(1) one with the parent first: nothing here depends on time.
"""

from rmaplab.kernels.history import History, Status, since
from rmaplab.machine.entries import EntryEra
from rmaplab.machine.watermarks import WatermarkRule

V = Status.VALIDATED

SIZES: dict[str, History] = {
    # -- the address space: before 6.18 that of the format (machine/paging.py) -------------------------------------------
    "task_size_bytes": (
        since("6.18", 0x7FFF_FFFF_F000, "arch/x86/include/asm/page_64_types.h: 47 bits less a page", V),
    ),
    "mmap_base_bytes": (
        since("6.18", 0x7FFF_F7FF_F000, "arch/x86/mm/mmap.c, mmap_base, not randomised: 128 MiB below"),
    ),
    "heap_base_bytes": (since("6.18", 0x5555_5555_9000, "behind a small program's data, not randomised"),),
    # -- sizes -----------------------------------------------------------------------------------------------------------
    "slub": (
        since("2.4", 0, "2.4.27, 2.6.2 mm/slab.c"),
        since("2.6.23", 1, "init/Kconfig: SLUB is the default; 2.6.22 has it"),
        since("6.18", 1, "mm/slub.c, calculate_order: no management in the slab; 39 anon_vmas, 21 VMAs a page", V),
    ),
    "page_struct_bytes": (
        since("2.4", 48, "2.4.22 include/linux/mm.h with HIGHMEM, computed", value64=88),
        since(
            "2.6",
            36,
            "2.6.2 include/linux/mm.h, computed: flags, count, list, mapping, index, lru, private",
            value64=72,
        ),
        since("2.6.5-rc2", 36, "b57eb9f4ee, March 2004: eight bytes of padding go on x86-64", value64=64),
        since("2.6.6-rc1", 28, "4244fe5bb0, April 2004: page->list goes", value64=48),
        since("6.18", 56, "64 by BTF, less _mapcount and _refcount", V),
    ),
    "vm_area_struct_bytes": (
        since("2.4", 68, "2.4.22 include/linux/mm.h, computed", value64=136),
        since(
            "2.6",
            64,
            "2.6.2 include/linux/mm.h; Hugh Dickins counts what comes on top of 64 (LKML, March 2004)",
            V,
            value64=128,
        ),
        since(
            "2.6.7",
            72,
            "include/linux/mm.h: prio_tree_node, two words more; Hugh Dickins (LKML, 8 April 2004): 8 for prio_tree",
            value64=144,
        ),
        since("6.18", 168, "192 by BTF, less anon_vma_chain and anon_vma", V),
    ),
    "mm_struct_bytes": (
        since("2.4", 128, "2.4.27 include/linux/sched.h, an estimate", value64=232),
        since("2.6", 528, "2.6.2 include/linux/sched.h, computed; not read from a slabinfo", value64=912),
        since("6.18", 1600, "slabinfo; 1472 by BTF, and the masks of CPUs behind it", V),
    ),
    "task_struct_bytes": (
        since("2.4", 0, "2.4.27 include/linux/sched.h: the task lies at the foot of its stack"),
        since("2.6", 1696, "2.6.2 include/linux/sched.h, as slabinfo of 2.6 showed it; from memory", value64=2200),
        since("6.18", 5888, "slabinfo; depends on the configuration more than most", V),
    ),
    "sighand_bytes": (
        since("2.4", 1312, "2.4.27 include/linux/sched.h, signal_struct, computed", value64=2096),
        since(
            "2.6",
            1300,
            "2.6.2 include/linux/sched.h, computed: 64 sigactions of 20 bytes, count, lock",
            value64=2088,
        ),
        since("6.18", 2112, "slabinfo, sighand_cache; signal_cache (1152) is left out", V),
    ),
    "thread_stack_bytes": (
        since("2.4", 8192, "2.4.27 include/asm-i386/processor.h, 2.6.2 thread_info.h, THREAD_SIZE"),
        since("6.18", 16384, "arch/x86/include/asm/page_64_types.h, THREAD_SIZE"),
    ),
    "image_bytes": (
        since("2.4", 3 << 20, "kernel text and data: 1 GB boots with about 1010 MiB usable"),
        since("6.18", 12 << 20, "kernel text and data of a small configuration; an estimate"),
    ),
    "boot_kernel_bytes": (
        since("2.4", 17 << 20, "slab, stacks and page tables after boot, in low memory; an estimate"),
        since("6.18", 14 << 20, "slab, stacks and page tables after boot; an estimate"),
    ),
    "boot_user_bytes": (
        since("2.4", 18 << 20, "pages of a quiet user land that cannot be dropped; an estimate"),
        since("6.18", 6 << 20, "pages of a quiet user land that cannot be dropped; an estimate"),
    ),
    # -- the page allocator ----------------------------------------------------------------------------------------------
    "pte_encoding": (
        since(
            "2.4",
            EntryEra.LINUX_2_4,
            "2.4.27 include/asm-i386/pgtable.h, SWP_TYPE: six bits, and no nonlinear mappings",
        ),
        since("2.6", EntryEra.LINUX_2_6, "2.6.2 include/asm-i386/pgtable.h, pgtable-2level.h, pgtable-3level.h"),
        since("2.6.34", EntryEra.LINUX_2_6_34, "2.6.34 arch/x86/include/asm/pgtable_types.h: _PAGE_PROTNONE is bit 8"),
        since("6.18", EntryEra.LINUX_6_18, "arch/x86/include/asm/pgtable_64.h, __swp_entry"),
    ),
    "watermarks": (
        since("2.4", WatermarkRule.CLASS_RESERVES, "2.4.27 mm/page_alloc.c, free_area_init_core"),
        since(
            "2.6",
            WatermarkRule.SUMMED,
            "2.6.2 mm/page_alloc.c, setup_per_zone_pages_min and __alloc_pages: marks add up",
        ),
        since("6.18", WatermarkRule.STEPS, "mm/page_alloc.c, __setup_per_zone_wmarks"),
    ),
    "per_cpu_lists": (
        since("2.4", 0, "2.4.27 mm/page_alloc.c: only the reclaimer has local_pages"),
        since("2.6", 1, "2.6.2 mm/page_alloc.c, free_area_init_core and buffered_rmqueue"),
        since("6.18", 1, "mm/page_alloc.c, zone_batchsize; sizes here are those of 2.6.2"),
    ),
}

SCHEDULER: dict[str, History] = {
    "timeslice_ms": (
        since("2.4", 60, "2.4.27 kernel/sched.c, NICE_TO_TICKS at HZ 100"),
        since("2.6", 102, "2.6.2 kernel/sched.c, task_timeslice at nice 0"),
        since("6.18", 3, "kernel/sched/fair.c, base slice; the rest is not EEVDF"),
    ),
    "max_timeslice_ms": (
        since("2.4", 200, "2.4.27 kernel/exit.c, release_task: MAX_COUNTER, 20 ticks of include/linux/sched.h"),
        since("2.6", 200, "2.6.2 kernel/sched.c, MAX_TIMESLICE"),
        since("6.18", 3, "as the slice"),
    ),
    "tick_us": (
        since("2.4", 10_000, "2.4.27 include/asm-i386/param.h, HZ 100"),
        since("2.6", 1000, "2.6.2 include/asm-i386/param.h, HZ 1000"),
        since("6.18", 4000, "HZ 250"),
    ),
    "one_run_queue": (
        since("2.4", 1, "2.4.27 kernel/sched.c, runqueue_head"),
        since("2.6", 0, "2.6.2 kernel/sched.c: a runqueue_t per CPU"),
        since("6.18", 0, "kernel/sched/core.c: a struct rq per CPU; EEVDF itself is not modelled"),
    ),
    "child_runs_first": (
        since("2.4", 0, "2.4.27 kernel/fork.c, do_fork: wake_up_process at the end, the parent goes on"),
        since("2.6", 1, "2.6.2 kernel/sched.c, wake_up_forked_process; kernel/fork.c, do_fork: set_need_resched"),
        since("6.18", 0, "kernel/sched/fair.c: the knob is gone, the parent goes on"),
    ),
    "sched_knows_siblings": (
        since("2.4", 1, "2.4.27 kernel/sched.c, reschedule_idle: CPUs whose sibling idles too first"),
        since("2.6", 0, "2.6.2 kernel/sched.c: siblings came with sched domains in 2.6.7; the announcement says so"),
        since("6.18", 0, "kernel/sched/topology.c: it does; not modelled"),
    ),
    "sync_wakes_move": (
        since("2.4", 0, "2.4.27 kernel/signal.c, wake_up_parent: an ordinary wakeup"),
        since("2.6", 1, "2.6.2 kernel/sched.c, try_to_wake_up: sync; kernel/signal.c, __wake_up_parent"),
        since("6.18", 1, "kernel/sched/fair.c, wake_affine, may; here always, as in 2.6.2"),
    ),
    "busy_balance_ms": (
        since("2.4", 200, "one queue: there is nothing to balance, and nobody reads this"),
        since("2.6", 200, "2.6.2 kernel/sched.c, BUSY_REBALANCE_TICK"),
        since("6.18", 200, "kernel/sched/fair.c balances otherwise; here as in 2.6.2"),
    ),
}
