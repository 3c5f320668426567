"""Walks in numbers: how counts of visits are distributed over pages. How many VMAs are visited for one: objects/covering.py."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rmaplab.machine.arrays import F64, I64

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
