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
    anon_merge_needs_pgoff: bool
    """Anonymous neighbours merge only if their page offsets continue."""
    fork_charges: bool
    """fork asks vm_enough_memory for every VM_ACCOUNT VMA."""
    fork_failure_uncharges_twice: bool
    """A failed fork takes its charges back, and exit_mmap of the half-made child does so again."""
    root_reserve_divisor: int
    """1/n of what is free is kept from users who are not root."""
    max_map_count: int
    fork_cond_resched: bool
    """copy_page_range offers the CPU as it goes."""
