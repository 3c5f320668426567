"""How many VMAs a walk from a page visits, by the graph of a reverse map.

stretches of an anon_vma     index 10 -------- 14 -- 16      pages     a0:10   a0:15   a1:3
VMAs that cover them               2           1             visits    2       1       ...
"""

import numpy as np

from rmaplab.machine.arrays import I64, ascending_order
from rmaplab.objects.graph import NONE, Pages, Stretches


def candidates_of(pages: Pages, stretches: Stretches) -> I64:
    """By page: how many VMAs a walk for it visits, by the stretches of Graph.stretches; 0 where none covers it. O(n log n)."""
    *where, cover = stretches
    return np.append(cover, 0)[covering(pages.anon_vma, pages.pgoff, *where)]


def covering(owner: I64, index: I64, owners: I64, first: I64, length: I64) -> I64:
    """For each (owner, index) the row of the stretch [first, first + length) of that owner that covers it, or NONE (-1). O(n log n).

    Stretches stand in order of their owner and first index; where those of one owner overlap, the last to begin is asked.
    """
    nr = len(owners)
    order = ascending_order(
        np.concatenate([first, index]), np.concatenate([owners, owner])
    )  # stretches before who asks
    at = np.empty(len(order), np.int64)
    at[order] = np.maximum.accumulate(np.where(order < nr, order, NONE))  # the last stretch that begins before
    at = at[nr:]
    if not nr:
        return at
    return np.where((at != NONE) & (owners[at] == owner) & (index < first[at] + length[at]), at, NONE)
