"""Walks in numbers: how counts of visits are distributed over pages. How many VMAs are visited for one: objects/covering.py; for a folio, here."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from rmaplab.machine.arrays import F64, I64, ascending_order, numbered
from rmaplab.objects.graph import Graph

QUANTILES = (0.5, 0.99)


@dataclass(frozen=True)
class Quantiles:
    """Of a count per page: half of the pages have at most p50. Of a sample: between `low` and `high` of the three each, with 95 %."""

    p50: int
    p99: int
    max: int
    low: tuple[int, int, int] | None = None
    high: tuple[int | None, int | None, int | None] | None = None
    """None among them: nobody knows."""


class Within(NamedTuple):
    """An estimate, and between what the truth is, with 95 %; three times the same where it is known."""

    low: float
    value: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether there is nothing to estimate."""
        return self.low == self.high


@dataclass(frozen=True)
class FolioWalk:
    """Visits per folio: the kernel walks a large one once, for all its pages. Useful is what maps the page of it that most map."""

    folios: Within
    candidates: Quantiles | None
    useful: Quantiles | None
    wasted: Within | None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        quantiles = {
            "candidates": self.candidates and asdict(self.candidates),
            "useful": self.useful and asdict(self.useful),
        }
        return {**_shares("folios", self.folios), **quantiles, **_shares("wasted_share", self.wasted)}


@dataclass(frozen=True)
class Walk:
    """Visits per page. `found` is how many pages that is about, and `basis` where they come from; `sampled` of them were looked at.

    `left_out` are pages that were: of other anon_vmas than the graph has, or mapped more often than it allows.
    """

    basis: str
    found: Within
    sampled: int
    candidates: Quantiles | None
    useful: Quantiles | None
    wasted: Within | None
    left_out: int = 0
    folios: FolioWalk | None = None

    @property
    def pages(self) -> int:
        """The estimate of their number."""
        return round(self.found.value)

    @property
    def wasted_share(self) -> float | None:
        """The estimate of the share of visits that find nothing."""
        return None if self.wasted is None else self.wasted.value

    def as_json(self) -> dict[str, Any]:
        """A JSON object; "pages_within" and "wasted_share_within" are null where nothing is estimated."""
        return {
            "basis": self.basis,
            **_shares("pages", self.found),
            "sampled": self.sampled,
            "left_out": self.left_out,
            "candidates": self.candidates and asdict(self.candidates),
            "useful": self.useful and asdict(self.useful),
            **_shares("wasted_share", self.wasted),
            "folios": self.folios and self.folios.as_json(),
        }


def _shares(name: str, found: Within | None) -> dict[str, Any]:
    """An estimate in JSON, and its interval beside it."""
    if found is None:
        return {name: None, f"{name}_within": None}
    value = found.value if name == "wasted_share" else round(found.value)
    return {name: value, f"{name}_within": None if found.exact else [found.low, found.high]}


def quantiles(group: I64, values: I64, weights: F64, nr: int) -> list[Quantiles | None]:
    """By group: the least value that p50, p99 and all of the weight do not exceed. O(n log n); of one group O(n + greatest value).

    No value is negative.
    """
    top = int(values.max(initial=0))
    if nr == 1 and len(values) and top < 8 * len(values):  # a histogram will do
        histogram = np.bincount(values, weights).astype(np.float64)
        values = np.flatnonzero(histogram)
        group, weights = values * 0, histogram[values]
    order = ascending_order(values, group)
    group, values = group[order], values[order]
    cumulated = np.cumsum(weights[order])
    ends = np.searchsorted(group, np.arange(nr + 1))
    before = np.concatenate([[0.0], cumulated])[ends]
    some = np.flatnonzero(ends[1:] > ends[:-1])
    low, high = ends[some], ends[some + 1] - 1
    begun, whole = before[some], before[some + 1] - before[some]
    wanted = begun + np.array(QUANTILES)[:, None] * whole * (1 - 1e-12)
    at = np.searchsorted(cumulated, wanted).clip(low, high)
    found: list[Quantiles | None] = [None] * nr
    for i, *figures in zip(some.tolist(), *values[at].tolist(), values[high].tolist(), strict=True):
        found[i] = Quantiles(*figures)
    return found


def overlapping(graph: Graph, anon_vma: I64, first: I64, nr: I64) -> I64:
    """How many VMAs a walk visits for a folio at these indexes of an anon_vma: those that cover any of its pages. O(n log n)."""
    known, _, row = numbered(anon_vma)
    hung = np.flatnonzero(np.isin(graph.chains.anon_vma, known))
    owner = np.searchsorted(known, graph.chains.anon_vma[hung]) << 45
    begin = graph.vmas.pgoff[graph.chains.vma[hung]]
    end = begin + graph.vmas.nr_pages[graph.chains.vma[hung]]
    begun, ended = np.sort(owner + begin), np.sort(owner + end)
    at = row << 45
    return np.searchsorted(begun, at + first + nr) - np.searchsorted(ended, at + first, side="right")
