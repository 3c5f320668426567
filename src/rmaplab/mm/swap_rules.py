"""What differs between kernels about swap areas and is a number or a yes. Values, with their sources, are in kernels/figures_swap.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SwapRules:
    """One kernel's rules for swap areas, by what reads them: kernels/swap_space.py."""

    swap_uses_last_page: bool
    """The last page of an area is used like others; before, it never is."""
