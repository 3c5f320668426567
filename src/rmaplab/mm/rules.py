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
