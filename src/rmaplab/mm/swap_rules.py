"""What differs between kernels about swap areas and is a number or a yes. Values, with their sources, are in kernels/figures_swap.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SwapRules:
    """One kernel's rules for swap areas, by what reads them: kernels/swap_space.py, kernels/loop_words.py, mm/swap_in.py, cache/swap.py, mm/swapoff.py, reclaim/oom_kill.py."""

    swap_uses_last_page: bool
    """The last page of an area is used like others; before, it never is."""
    swap_in_needs_uptodate: bool
    """A page that could not be read from swap is not mapped: SIGBUS. Without it is mapped, with whatever its frame had."""
    swap_write_error_redirties: bool
    """A page that could not be written to swap is dirty again and stays in memory. Without it is clean, and goes."""
    swapoff_is_charged: bool
    """swapoff asks whether all of the area could be promised to somebody, before it begins."""
    oom_kills_swapoff: bool
    """Out of memory while swapoff runs: that is who is killed (PF_SWAPOFF)."""
    has_cryptoloop: bool
    """A device whose sectors are encrypted with their number for an IV can be read: by cryptoloop, later by dm-crypt."""
    has_loop_fish2: bool
    """One whose IVs are zero: by loop_fish2, later by dm-crypt."""
