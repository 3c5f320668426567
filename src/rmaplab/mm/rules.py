"""What differs between kernels and is a number or a yes: the rules that mm/ goes by.

Nothing in this house compares kernel names. A kernel is a value of this class, a reverse-mapping design and a few sizes,
composed in kernels/, where every figure has its source.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """One kernel's rules. Sizes in bytes, for the architecture it was booted on."""

    task_struct_bytes: int
    thread_stack_bytes: int
    sighand_bytes: int
    mm_struct_bytes: int
    vm_area_struct_bytes: int
    """Without what the reverse-mapping design adds."""
    commit_is_accounted: bool
    """VMAs carry their charge (VM_ACCOUNT); without it a request is only compared with what is free."""
    fork_charges: bool
    """fork asks vm_enough_memory for every VM_ACCOUNT VMA."""
    fork_failure_uncharges_twice: bool
    """A failed fork takes its charges back, and exit_mmap of the half-made child does so again."""
    root_reserve_divisor: int
    """1/n of what is free is kept from users who are not root."""
    overcommit_totals: bool
    """Overcommit mode 0 compares a request with all RAM and swap, free or not."""
    overcommit_strict: bool
    """There is a mode 2; without it every mode but 0 means always."""
    max_map_count: int
    fork_cond_resched: bool
    """copy_page_range offers the CPU as it goes."""
    pagevec_size: int
    """Pages that wait per CPU to go to the LRU, each with a reference; 0 if they go at once."""
    mmap_of_nothing_succeeds: bool
    """mmap of length 0 returns the address."""
    mprotect_merges: bool
    mremap_merges: bool
    mremap_to_nothing_unmaps: bool
    """mremap to length 0 unmaps the range."""
    munmap_needs_spare_vma: bool
    """munmap takes a VMA beforehand, and fails without one."""
    small_allocations_fail: bool
    """A request for a page returns nothing when nothing can be reclaimed, instead of trying for ever."""

    # -- rmap/ -------------------------------------------------------------------------------------------------------
    anon_mapping_dies_at_free: bool
    """An anonymous page keeps page->mapping and PG_anon until it is freed; otherwise it loses them with its last entry."""

    # -- later kernels -----------------------------------------------------------------------------------------------
    vm_special: int
    """VMAs with one of these vm_flags never merge."""
    merges_everywhere: bool
    """Every call that gives VMAs a range or flags merges them with their neighbours, on both sides (mm/merge.py)."""
    mremap_links_first: bool
    """The new VMA is linked before entries move (mm/mremap_linked.py), not after."""
    mremap_by_table: bool
    """The destination gets a page table wherever the source has one, even if nothing of it moves."""
    write_implies_read: bool
    """A page that may be written may be read, even the first time."""
    lazy_fork: bool
    """A VMA that has no anonymous pages is not copied entry by entry: the child faults again."""
    anon_exclusive: bool
    """A bit in struct page says that nobody shares it (PageAnonExclusive)."""
    frees_tables_by_level: bool
    """munmap frees every page table that nobody needs, not only whole entries of the top table."""
    dontneed_frees_tables: bool
    """MADV_DONTNEED of a whole leaf table's range frees the table (PT_RECLAIM)."""
    munmap_counts_holes_only: bool
    """The limit of mappings is only looked at where munmap makes two of one."""
    mmap_topdown: bool
    """Mappings go below the last one, not above."""
    mmap_aligns_huge: bool
    """A mapping of whole huge pages goes where they could be."""
    mmap_replaces_last: bool
    """MAP_FIXED takes away what was there only when nothing can fail any more."""
    mmap_flags: int
    """The MAP_ bits it knows beside type, MAP_ANONYMOUS and MAP_FIXED; others are ignored."""
    heap_is_executable: bool
    noreserve_is_a_flag: bool
    """MAP_NORESERVE leaves VM_NORESERVE behind, which is compared when VMAs merge."""
    unfaulted_loses_charge: bool
    """mprotect to read-only gives back what was charged for a VMA that has no anonymous pages."""
    mprotect_length_first: bool
    """A length of 0 is fine whatever else is asked, and a range that wraps is ENOMEM."""
    mlock_needs_capability: bool
    """Nobody locks memory without CAP_IPC_LOCK; RLIMIT_MEMLOCK holds for all (up to 2.6.8)."""
    mlock2_known: bool
    mlock_merges: bool
    mincore_knows_anonymous: bool
    madvise_advice: int
    """The advice it knows, bit by number."""
    memlock_limit_bytes: int
    """RLIMIT_MEMLOCK of a first task."""
    stack_guard_gap_pages: int
    """Pages that stay free below a mapping that grows down."""
