"""Linux 2.4.21, the announcement's baseline: no reverse map.

No tree of 2.4.21 or of the -aa kernel that Andrea Arcangeli measured is at hand; the figures are those of 2.4.27, whose
memory manager came from -aa for the greater part. So the kernel is labelled: "2.4.21 (as 2.4.27 shows it)".
"""

from rmaplab.kernels.linux_2_6 import FIGURES_2_6_2
from rmaplab.kernels.spec import Figure, KernelSpec, Status
from rmaplab.machine.entries import EntryEra
from rmaplab.machine.watermarks import WatermarkRule
from rmaplab.mm.mmu_gather import FastMode, TableFree
from rmaplab.mm.move_ptes import MoveFlush

B = Status.BELIEVED

VIRTUAL_SCAN = "rmaplab.rmap.virtual_scan:VirtualScan"

LINUX_2_4_21 = KernelSpec(
    name="2.4.21",
    released="2003-06-13",
    about="2.4.21 as the stored 2.4.27 shows it: no reverse map, page tables are searched",
    design=VIRTUAL_SCAN,
    software="2.4",
    figures=FIGURES_2_6_2
    | {
        "page_struct_bytes": Figure(48, "2.4.22 include/linux/mm.h with HIGHMEM, computed", B, 88),
        "vm_area_struct_bytes": Figure(68, "2.4.22 include/linux/mm.h, computed", B, 136),
        "mm_struct_bytes": Figure(128, "2.4 include/linux/sched.h, an estimate", B, 232),
        "task_struct_bytes": Figure(0, "2.4 include/linux/sched.h: the task lies at the foot of its stack", B),
        "sighand_bytes": Figure(1312, "2.4 include/linux/sched.h, signal_struct, computed", B, 2096),
        "fork_charges": Figure(0, "2.4.27 kernel/fork.c, dup_mmap: no vm_enough_memory", B),
        "fork_failure_uncharges_twice": Figure(0, "nothing is charged", B),
        "commit_is_accounted": Figure(0, "2.4.27 mm/mmap.c, vm_enough_memory: a comparison, no count", B),
        "root_reserve_divisor": Figure(0, "2.4.27 mm/mmap.c, vm_enough_memory: no reserve", B),
        "overcommit_strict": Figure(0, "2.4.27 mm/mmap.c, vm_enough_memory: anything but 0 is always", B),
        "watermarks": Figure(WatermarkRule.CLASS_RESERVES, "2.4.27 mm/page_alloc.c, free_area_init_core", B),
        "per_cpu_lists": Figure(0, "2.4.27 mm/page_alloc.c: only the reclaimer has local_pages", B),
        "pte_encoding": Figure(EntryEra.LINUX_2_4, "2.4.27 include/asm-i386/pgtable.h, SWP_TYPE: six bits", B),
        "pagevec_size": Figure(0, "2.4.27 mm/swap.c, lru_cache_add: at once", B),
        "mremap_to_nothing_unmaps": Figure(1, "2.4.27 mm/mremap.c, do_mremap", B),
        "munmap_needs_spare_vma": Figure(1, "2.4.27 mm/mmap.c, do_munmap", B),
        "small_allocations_fail": Figure(1, "2.4.27 mm/page_alloc.c, balance_classzone", B),
        "gather_pages": Figure(508, "2.4.27 include/asm-generic/tlb.h, FREE_PTE_NR", B),
        "gather_fast_mode": Figure(
            FastMode.ONE_USER, "2.4.27 include/asm-generic/tlb.h, tlb_gather_mmu: mm_users is 1, at exit 0", B
        ),
        "gather_per_vma": Figure(1, "2.4.27 mm/memory.c, zap_page_range; exit_mmap has one for all", B),
        "gather_tables": Figure(TableFree.AFTER, "2.4.27 mm/memory.c, clear_page_tables: pte_free", B),
        "mremap_flushes": Figure(MoveFlush.RANGE, "2.4.27 mm/mremap.c, move_page_tables: flush_tlb_range", B),
        "timeslice_ms": Figure(60, "2.4.27 kernel/sched.c, NICE_TO_TICKS at HZ 100", B),
        "tick_us": Figure(10_000, "2.4 include/asm-i386/param.h, HZ 100", B),
        "one_run_queue": Figure(1, "2.4.27 kernel/sched.c, runqueue_head", B),
        "sched_knows_siblings": Figure(
            1, "2.4.27 kernel/sched.c, reschedule_idle: CPUs whose sibling idles too first", B
        ),
        "max_timeslice_ms": Figure(200, "2.4.27 kernel/exit.c, release_task: MAX_COUNTER, 20 ticks; from memory", B),
        "busy_balance_ms": Figure(200, "one queue: there is nothing to balance, and nobody reads this", B),
        "sync_wakes_move": Figure(0, "2.4.27 kernel/signal.c, wake_up_parent: an ordinary wakeup", B),
        "child_runs_first": Figure(
            0, "2.4.27 kernel/fork.c, do_fork: wake_up_process at the end, the parent goes on", B
        ),
    },
)
