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
    if not len(owners):
        return np.full(len(owner), NONE)
    at = _last_begun(owner, index, owners, first)
    return np.where((at != NONE) & (owners[at] == owner) & (index < first[at] + length[at]), at, NONE)


def _last_begun(owner: I64, index: I64, owners: I64, first: I64) -> I64:
    """For each (owner, index) the last row of (owners, first) that is not behind it, or NONE."""
    lines = ((owners, owner), (first, index))
    low, least = (min(int(line.min(initial=0)) for line in pair) for pair in lines)
    high, width = (max(int(line.max(initial=0)) for line in pair) + 1 for pair in lines)
    width -= least
    at = np.empty(len(owner), np.int64)
    if (high - low) * width < 1 << 63:  # both fit into one word, by which the stretches are in order
        words, asked = ((who - low) * width + (where - least) for who, where in zip(*lines, strict=True))
        order = ascending_order(asked)
        at[order] = np.searchsorted(words, asked[order], side="right") - 1
        return at
    nr = len(owners)
    order = ascending_order(
        np.concatenate([first, index]), np.concatenate([owners, owner])
    )  # stretches before who asks
    all_of_them = np.empty(len(order), np.int64)
    all_of_them[order] = np.maximum.accumulate(np.where(order < nr, order, NONE))
    return all_of_them[nr:]
