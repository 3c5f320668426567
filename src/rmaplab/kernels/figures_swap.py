"""Swap areas since 2.4: the fields of mm/swap_rules.py. The facts: reclaim.md F.8."""

from rmaplab.kernels.history import History, since

SWAP: dict[str, History] = {
    "swap_uses_last_page": (
        since("2.4", 0, "2.4.27, 2.6.2, 2.6.7 mm/swapfile.c, sys_swapon: maxpages is last_page, and a limit"),
        since("2.6.34", 1, "2.6.34 mm/swapfile.c, sys_swapon: last_page + 1"),
    ),
}
