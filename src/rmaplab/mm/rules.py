"""What differs between kernels and is a number or a yes: the rules that mm/ goes by, grouped by the file that reads them.

Nothing in this house compares kernel names. A kernel is a value of this class, a reverse-mapping design and a few sizes,
composed in kernels/, where every figure has its history and its sources. A rule is one fact: two things that came with the
same release are two rules, and no rule is read as a sign of another.
"""

from dataclasses import dataclass

from rmaplab.mm.file_rules import FileLock, FileMerging, FileRules, Populate
from rmaplab.mm.ipc_rules import IpcRules
from rmaplab.mm.swap_rules import SwapRules


@dataclass(frozen=True)
class Rules(FileRules, IpcRules, SwapRules):
    """One kernel's rules, those for files (file_rules.py), segments (ipc_rules.py) and swap areas (swap_rules.py) among them. Sizes in bytes, for the architecture it was booted on."""

    # -- kernel.py: what objects take -----------------------------------------------------------------------------------
    task_struct_bytes: int
    thread_stack_bytes: int
    sighand_bytes: int
    mm_struct_bytes: int
    vm_area_struct_bytes: int
    """Without what the reverse-mapping design adds."""
    pagevec_size: int
    """Pages that wait per CPU to go to the LRU, each with a reference; 0 if they go at once."""
    lru_lists: bool
    """New pages go on the lists that reclaim takes pages from. Where no reclaim is modelled there are none."""
    lru_has_files: bool
    """Pages of files on disks are on them too, and come on the inactive one."""
    lru_has_shmem: bool
    """And so are those of files that live in memory, which may go to swap."""
    writepage_keeps_lock: bool
    """A page that is being written is locked until that is done; else it is unlocked, and PG_writeback."""
    write_dirties_buffers: bool
    """What write(2) has written is dirty in its buffers, not in its page."""
    first_read_is_access: bool
    """The first read(2) of an open file has used its page from wherever it begins; others where they begin with the page."""
    write_is_access: bool
    """write(2) uses a page as read(2) does (mark_page_accessed); else it is PG_referenced, however often."""
    zap_is_access: bool
    """A page of a file has been used if a young entry of it goes."""
    write_error_is_the_files: bool
    """An error of the disk is remembered by the file (AS_EIO) until fsync has told it; else fsync hears of pages that are under way when it comes."""
    new_pages_are_active: bool
    """They go on the active list, not on the inactive one; so do those that come back from swap."""
    new_anon_is_referenced: bool
    """A page that is touched for the first time has PG_referenced; a copy has not."""
    page_cluster: int
    """What comes back from swap brings the pages of its block of 2^page_cluster slots; 0: none, or it is not modelled."""
    swap_in_is_accessed: bool
    """A page that comes back from swap counts as used (mark_page_accessed)."""
    small_allocations_fail: bool
    """A request for a page returns nothing when nothing can be reclaimed, instead of trying for ever."""
    commit_is_accounted: bool
    """VMAs carry their charge (VM_ACCOUNT); without it a request is only compared with what is free."""

    # -- overcommit.py ---------------------------------------------------------------------------------------------------
    root_reserve_divisor: int
    """1/n of what is free is kept from users who are not root."""
    overcommit_totals: bool
    """Mode 0 compares a request with all RAM and swap, free or not."""
    overcommit_strict: bool
    """There is a mode 2; without it every mode but 0 means always."""
    admin_reserve_kib: int
    """At most so much of what mode 2 promises is kept from users who are not root."""
    user_reserve_kib: int
    """At most so much of it is kept from a process that has promises already."""

    # -- reclaim/oom_kill.py ---------------------------------------------------------------------------------------------
    oom_counts_resident: bool
    """Out of memory, who has most in memory is killed; otherwise who has mapped most."""
    oom_last_of_equals: bool
    """Of those that are alike the youngest; otherwise the oldest."""
    oom_rough_root: bool
    """badness has a square root of its own, which is often wrong."""

    # -- fork.py -----------------------------------------------------------------------------------------------------------
    fork_charges: bool
    """fork asks vm_enough_memory for every VM_ACCOUNT VMA."""
    fork_failure_uncharges_twice: bool
    """A failed fork takes its charges back, and exit_mmap of the half-made child does so again."""
    fork_cond_resched: bool
    """copy_page_range offers the CPU as it goes."""
    lazy_fork: bool
    """A VMA that has no anonymous pages is not copied entry by entry: the child faults again."""

    # -- fault.py ----------------------------------------------------------------------------------------------------------
    write_implies_read: bool
    """A page that may be written may be read, even the first time."""
    vma_locks: bool
    """A fault takes its VMA's lock, where that does, and not mmap_sem."""
    fault_retries_oom: bool
    """A fault that got no memory is tried again (pagefault_out_of_memory); otherwise its task dies."""
    stack_grows_under_write: bool
    """A fault that makes a stack grow takes mmap_sem for writing; otherwise for reading."""
    table_locks: bool
    """Entries are changed under a lock of their leaf table, not of the mm."""
    knows_nx: bool
    """An entry without VM_EXEC may not be run."""
    anon_rmap_after_unlock: bool
    """A new anonymous page is told to the reverse map when page_table_lock is free again; until then nobody finds it."""
    anon_exclusive: bool
    """A bit in struct page says that nobody shares it (PageAnonExclusive)."""

    # -- process.py --------------------------------------------------------------------------------------------------------
    thread_groups: bool
    """Threads of one process end together (exit_group, a fatal signal), and execve leaves one of them."""
    setuid_minds_nproc: bool
    """setuid fails where the user has as many tasks as RLIMIT_NPROC allows."""
    execve_minds_nproc: bool
    """It does not: the next execve fails, if he has still more."""

    # -- access.py ---------------------------------------------------------------------------------------------------------
    copy_checks_length_first: bool
    """read(2) and write(2) say EINVAL to a negative length before they look where it is; otherwise EFAULT."""

    # -- rmap/pages.py -----------------------------------------------------------------------------------------------------
    anon_mapping_dies_at_free: bool
    """An anonymous page keeps page->mapping and PG_anon until it is freed; otherwise it loses them with its last entry."""

    file_lock: FileLock
    """A spinlock, a semaphore, a spinlock again, a mutex; today walks share it."""
    file_merging: FileMerging

    # -- vma.py, merge.py --------------------------------------------------------------------------------------------------
    max_map_count: int
    max_map_count_settable: bool
    """vm.max_map_count is a sysctl."""
    split_holds_page_table_lock: bool
    """A VMA is split under it; later the locks of what indexes VMAs are enough."""
    vm_sticky: int
    """Flags that VMAs need not have in common to merge: the whole has what a part had."""
    split_renews_ends: bool
    """Of a VMA whose one end changes, that end is the new VMA; otherwise what sticks out is."""
    vm_special: int
    """VMAs with one of these vm_flags never merge."""
    removal_minds_close: bool
    """One whose vm_ops count VMAs may grow, and no such one may go; otherwise none of them merges at all."""

    # -- mmap.py, unmapped_area.py, stack.py -------------------------------------------------------------------------------
    mmap_of_nothing_succeeds: bool
    """mmap of length 0 returns the address."""
    mmap_too_long_is_enomem: bool
    """A length beyond the address space is ENOMEM, not EINVAL."""
    mmap_flags: int
    """The MAP_ bits it knows beside type, MAP_ANONYMOUS and MAP_FIXED; others are ignored."""
    mmap_flags_not_modelled: int
    """Those of them that this version does not: it says so."""
    map_populate: Populate
    mmap_rounds_hint_down: bool
    """An address that is asked for loses its offset into the page; otherwise it goes up to the next page."""
    mmap_topdown: bool
    """Mappings go below the last one, not above."""
    mmap_remembers_hole: bool
    """Upwards, the search begins where the last one ended (free_area_cache)."""
    mmap_fixed_may_be_errno: bool
    """An address that is ordered with MAP_FIXED and looks like an errno is taken for one."""
    mmap_aligns_huge: bool
    """A mapping of whole huge pages goes where they could be."""
    mmap_replaces_last: bool
    """MAP_FIXED takes away what was there only when nothing can fail any more."""
    noreserve_is_a_flag: bool
    """MAP_NORESERVE leaves VM_NORESERVE behind, which is compared when VMAs merge."""
    data_limits_mappings: bool
    """RLIMIT_DATA holds for all that is private and writable; otherwise for the heap alone."""
    data_limit_stops_shrinking: bool
    """A break beyond RLIMIT_DATA is refused before anybody asks whether it is lower than it was."""
    brk_minds_task_size: bool
    """The heap ends where the address space does."""
    heap_gap_bytes: int
    """How far behind a program's last page its heap begins: execve draws that at random, so the middle of what it draws from."""
    heap_is_executable: bool
    stack_guard_gap_pages: int
    """Pages that stay free below a mapping that grows down."""
    stack_prepares: bool
    """A mapping that grows gets its place in the reverse map first: whoever walks must not see its borders move."""
    stack_minds_memlock: bool
    """A locked one grows within RLIMIT_MEMLOCK."""
    stack_growth_is_charged: bool
    """Growth is charged whatever the mapping; munmap gives back only what VM_ACCOUNT says."""
    file_growth_refused_late: bool
    """A file that is to grow down is refused when what it replaces is gone."""

    # -- munmap.py, zap.py -------------------------------------------------------------------------------------------------
    munmap_needs_spare_vma: bool
    """munmap takes a VMA beforehand, and fails without one."""
    munmap_counts_holes_only: bool
    """The limit of mappings is only looked at where munmap makes two of one."""
    munmap_keeps_inside: bool
    """Of a VMA that is cut, what is unmapped is the old one; otherwise what stays (of a hole, its lower end)."""
    munmap_relinks: bool
    """What is left of a VMA comes on its file's index anew."""
    frees_tables_by_level: bool
    """munmap frees every page table that nobody needs, not only whole entries of the top table."""

    # -- mprotect.py -------------------------------------------------------------------------------------------------------
    mprotect_merges: bool
    """VMAs that it has made alike are joined."""
    mprotect_asks_both: bool
    """For each part it asks the VMA before it and the one after it; otherwise before it, and after it at the end of the call."""
    mprotect_charges: bool
    """What becomes writable is asked of vm_enough_memory."""
    mprotect_checks_length_first: bool
    """A length of 0 is fine even with bits of protection that it does not know."""
    mprotect_wrap_is_enomem: bool
    """A range that wraps is ENOMEM, not EINVAL."""
    mprotect_breaks_cow_of_locked: bool
    """A locked VMA that becomes writable has its pages copied now: a locked page must not fault later."""
    unfaulted_loses_charge: bool
    """mprotect to read-only gives back what was charged for a VMA that has no anonymous pages."""

    # -- mremap.py, mremap_linked.py, move_ptes.py -------------------------------------------------------------------------
    mremap_flags: int
    """The MREMAP_ bits it knows; others are EINVAL."""
    mremap_merges: bool
    mremap_to_nothing_unmaps: bool
    """mremap to length 0 unmaps the range."""
    mremap_to_nothing_may_move: bool
    """... and with MREMAP_FIXED makes a mapping of no length."""
    mremap_minds_munmap: bool
    """If the destination cannot be cleared, or what is too much cannot be cut off, it fails."""
    mremap_links_first: bool
    """The new VMA is linked before entries move, not after."""
    mremap_moves_many: bool
    """A move may cover several VMAs; the source is looked at before the destination is cleared (mm/mremap_linked.py)."""
    mremap_by_table: bool
    """The destination gets a page table wherever the source has one, even if nothing of it moves."""

    # -- madvise.py --------------------------------------------------------------------------------------------------------
    madvise_advice: int
    """The advice it knows, bit by number."""
    madvise_checks_advice_first: bool
    """An advice that it does not know is EINVAL whatever the range; otherwise only a VMA of the range finds that out."""
    madvise_skips_unchanged: bool
    """A VMA that has the flags already is left as it is; otherwise it is split all the same."""
    madvise_merges: bool
    """A VMA whose flags it changes is joined with its neighbours."""
    process_madvise_known: bool
    process_madvise_own_freely: bool
    """Of its own memory a process may say with it what madvise knows; otherwise only what it may say of others'."""
    willneed_needs_file: bool
    """MADV_WILLNEED of anonymous memory is EBADF."""
    dontneed_frees_tables: bool
    """MADV_DONTNEED of a whole leaf table's range frees the table (PT_RECLAIM)."""

    # -- mlock.py, mincore.py ----------------------------------------------------------------------------------------------
    mseal_known: bool
    mbind_known: bool
    anon_names_known: bool
    """VMAs may have names (CONFIG_ANON_VMA_NAME)."""
    mlock2_known: bool
    mcl_onfault_known: bool
    mlock_needs_capability: bool
    """Nobody locks memory without CAP_IPC_LOCK."""
    cap_mlock_disablable: bool
    """vm.disable_cap_mlock is a sysctl."""
    cap_mlock_disabled: bool
    """And it is set: everybody counts as who has CAP_IPC_LOCK, where memory is locked."""
    munlockall_needs_capability: bool
    mlock_half_of_ram: bool
    """No more than half of all frames may be locked."""
    memlock_limit_bytes: int
    """RLIMIT_MEMLOCK of a first task."""
    memlock_limits_all: bool
    """RLIMIT_MEMLOCK holds for those with CAP_IPC_LOCK too."""
    memlock_limits_future: bool
    """mlockall(MCL_FUTURE) alone is refused where more is mapped than RLIMIT_MEMLOCK allows."""
    mlock_counts_pages_once: bool
    """Pages of the range that are locked already do not count again towards RLIMIT_MEMLOCK."""
    mlock_faults_each_vma: bool
    """Pages come VMA by VMA, under mmap_sem, where they were not locked before; otherwise those of the whole range, at the end."""
    mlock_tells_faults: bool
    """Pages that cannot come are an error of mlock."""
    mlock_split_is_eagain: bool
    """A VMA that cannot be split is EAGAIN, not ENOMEM."""
    mlockall_future_unlocks: bool
    """mlockall(MCL_FUTURE) alone unlocks what is locked."""
    mlock_merges: bool
    mlock_leaves: int
    """VMAs with one of these vm_flags it passes over."""
    mincore_knows_anonymous: bool

    # -- TLBs (mm/mmu_gather.py) ---------------------------------------------------------------------------------------
    gather_pages: int
    """Pages that an mmu_gather holds: with so many it flushes."""
    gather_fast_mode: int
    """When pages need not wait for the flush (FastMode)."""
    gather_per_vma: bool
    """munmap and madvise have a gather for each VMA's part; without it there is one for the call."""
    gather_tables: int
    """How page tables are freed (TableFree)."""
    madvise_gathers_once: bool
    """One gather for all that an madvise takes away."""
    mprotect_gathers: bool
    """mprotect flushes once, at its end, if any entry has changed; without it once for each VMA's part, whether or not one has."""
    mremap_flushes: int
    """How often a move of entries flushes (MoveFlush)."""
    cow_reuse_flushes: bool
    """A fault that only makes an entry writable flushes its page."""
