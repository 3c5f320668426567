"""Walks in numbers: how many VMAs are visited for a page, and how such counts are distributed over pages.

stretches of an anon_vma     index 10 -------- 14 -- 16      pages     a0:10   a0:15   a1:3
VMAs that cover them               2           1             visits    2       1       ...
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rmaplab.machine.arrays import F64, I64
from rmaplab.objects.graph import NONE, Pages, Stretches

QUANTILES = (0.5, 0.99)


@dataclass(frozen=True)
class Quantiles:
    """Of a count per page: half of the pages have at most p50."""

    p50: int
    p99: int
    max: int


@dataclass(frozen=True)
class Walk:
    """Visits per page. `pages` is how many pages that is about, and `basis` where they come from."""

    basis: str
    pages: int
    sampled: int
    candidates: Quantiles | None
    useful: Quantiles | None
    wasted_share: float | None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def candidates_of(pages: Pages, stretches: Stretches) -> I64:
    """By page: how many VMAs a walk for it visits, by the stretches of Graph.candidates(); 0 where none covers it. O(n log n)."""
    *where, cover = stretches
    return np.append(cover, 0)[covering(pages.anon_vma, pages.pgoff, *where)]


def covering(owner: I64, index: I64, owners: I64, first: I64, length: I64) -> I64:
    """For each (owner, index) the row of the stretch [first, first + length) of that owner that covers it, or NONE (-1). O(n log n).

    Stretches stand in order of their owner and first index; where those of one owner overlap, the last to begin is asked.
    """
    nr = len(owners)
    kinds = np.concatenate([np.zeros(nr, np.int64), np.ones(len(owner), np.int64)])
    order = np.lexsort((kinds, np.concatenate([first, index]), np.concatenate([owners, owner])))
    at = np.empty(len(order), np.int64)
    at[order] = np.maximum.accumulate(np.where(order < nr, order, NONE))  # the last stretch that begins before
    at = at[nr:]
    if not nr:
        return at
    return np.where((at != NONE) & (owners[at] == owner) & (index < first[at] + length[at]), at, NONE)


def quantiles(group: I64, values: I64, weights: F64, nr: int) -> list[Quantiles | None]:
    """By group: the least value that p50, p99 and all of the weight do not exceed. O(n log n)."""
    order = np.lexsort((values, group))
    group, values = group[order], values[order]
    cumulated = np.cumsum(weights[order])
    ends = np.searchsorted(group, np.arange(nr + 1))
    before = np.concatenate([[0.0], cumulated])[ends]
    found: list[Quantiles | None] = []
    for i in range(nr):
        low, high = int(ends[i]), int(ends[i + 1])
        if low == high:
            found.append(None)
            continue
        wanted = before[i] + np.array(QUANTILES) * (before[i + 1] - before[i]) * (1 - 1e-12)
        at = (low + np.searchsorted(cumulated[low:high], wanted)).clip(max=high - 1)
        found.append(Quantiles(int(values[at[0]]), int(values[at[1]]), int(values[high - 1])))
    return found
