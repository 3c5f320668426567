"""What a sample of windows says of all pages: estimates, and bounds that hold them, rare pages included.

    a draw stands for so many windows:  what it found x that = z          total = read for certain + sum of z
    z = t x most                        t between 0 and 1: how much of the most there could have been
    0 of n draws have found any         the upper bound is not 0: as if 4.4 had, each with the most (the rule of three, with 98.75 %)

A sum of t over draws is between those of Poisson counts with steps of t: Stringer's bound of 1963, made by auditors for faults that
are rare and large; here with Poisson limits for both ends. Each bound holds with 98.75 %, so two of them, from which an
interval of a share is made, with 95 %. What the graph says of the windows not read is a bound too. Two ends are equal where
all was read.

Sources: Stringer, Practical aspects of statistical sampling in auditing, 1963; Poisson limits by Wilson and Hilferty, 1931.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numpy as np

from rmaplab.host.draw import Drawn, Sample
from rmaplab.lab.census.visits import QUANTILES, Quantiles, Within, quantiles
from rmaplab.machine.arrays import F64, I64, Bools, distinct
from rmaplab.objects.graph import NONE, Pages

_Z = 2.2414  # of 98.75 %


@dataclass(frozen=True)
class Estimator:
    """Of `rows` of pages, those found in some address spaces, `mms` by mm."""

    pages: Pages
    sample: Sample
    drawn: Drawn
    mms: Bools
    rows: Bools

    @property
    def complete(self) -> bool:
        """Whether every window of theirs was read."""
        return not self.sample.left_pages[self.mms].any()

    @cached_property
    def _chosen(self) -> I64:
        return np.flatnonzero(self.rows)

    @cached_property
    def _stands_for(self) -> F64:
        """By page chosen: for how many entries of a page table it stands."""
        chosen = self._chosen
        return np.ones(len(chosen)) if self.complete else self.pages.weight[chosen] * self.pages.mapcount[chosen]

    @cached_property
    def _drawn(self) -> tuple[Bools, I64]:
        """By page chosen: whether a draw has found it; and of those the draw, numbered without gaps."""
        draw = self.sample.draw[self._chosen]
        found = np.zeros(len(draw), np.bool_) if self.complete else draw != NONE
        return found, np.unique(draw[found], return_inverse=True)[1].reshape(-1)

    @cached_property
    def once(self) -> F64:
        """By page: what to count of each entry, so that a page counts once, however often it is mapped."""
        return 1 / self.pages.mapcount

    def total(self, values: F64) -> Within:
        """The sum over entries of page tables of `values`, none above 1. O(n log n)."""
        return self._pages(values[self._chosen])

    def _pages(self, values: F64) -> Within:
        """The same of the pages chosen."""
        return self._total(values, self.drawn.per_page, float(self.sample.left_pages[self.mms].sum()))

    def in_vain(self, visits: I64, useful_visits: I64, each: F64) -> Within | None:
        """The share of visits that find nothing, where an entry counts `each`; None where no page was found."""
        return share(self.visits((visits - useful_visits) * each), self.total(useful_visits * each))

    def visits(self, values: F64) -> Within:
        """The sum over entries of `values`, none above what its page may cost in visits."""
        most = float(self.sample.left_visits[self.mms].sum())
        return self._total(values[self._chosen], self.drawn.per_visit, most)

    def quantiles(self, values: I64, each: F64, top: int | None) -> Quantiles | None:
        """Of a count per page, where an entry counts `each`; no page has more than `top` (None: nobody knows)."""
        values, each = values[self._chosen], each[self._chosen]
        found = quantiles(np.zeros(len(values), np.int64), values, each * self._stands_for, 1)[0]
        if found is None or self.complete:
            return found
        most = None if top is None else max(top, found.max)
        each_value = distinct(values)

        @cache
        def sides(value: int) -> tuple[Within, Within]:
            """How many have up to so much, and how many more."""
            low = values <= value
            return self._pages(each * low), self._pages(each * ~low)

        (low, high), (low_99, high_99) = (_quantile(each_value, sides, share, most) for share in QUANTILES)
        return replace(found, low=(low, low_99, found.max), high=(high, high_99, most))

    def _total(self, values: F64, most: float, left: float) -> Within:
        """The sum where a page found stands for up to `most`, and windows not read hold up to `left`."""
        by_draw, draw = self._drawn
        found, certain = values[by_draw], float(values[~by_draw].sum())
        seen = float(found.sum())
        if self.complete:
            return Within(certain, certain, certain)
        z = np.bincount(draw, found * self._stands_for[by_draw])
        t = np.sort(z[z > 0])[::-1] / max(most, 1e-9)
        limits = [most * float(steps[0] + (steps[1:] * t).sum()) for steps in (_low_steps(len(t)), _high_steps(len(t)))]
        low, high = np.clip(limits, seen, seen + left).tolist()
        return Within(certain + low, certain + float(np.clip(z.sum(), low, high)), certain + high)


def _quantile(
    values: I64, sides: Callable[[int], tuple[Within, Within]], share: float, most: int | None
) -> tuple[int, int | None]:
    """Between which of `values` it is: `sides` of O(log n) of them are looked at."""

    def reaches(value: int, *, surely: bool) -> bool:
        below, above = sides(value)
        part, other = (below.low, above.high) if surely else (below.high, above.low)
        return part >= share * (part + other)

    low, high = (bisect_left(values, True, key=partial(reaches, surely=surely)) for surely in (False, True))
    return int(values[min(low, len(values) - 1)]), int(values[high]) if high < len(values) else most


def share(part: Within, other: Within) -> Within | None:
    """The part of both together; None where there is no other."""
    if not other.value:
        return None
    ends = ((part.low, other.high), (part.value, other.value), (part.high, other.low))
    return Within(*(mine / (mine + rest) for mine, rest in ends))


def _high_steps(nr: int) -> F64:
    """The upper limit of a Poisson mean of which 0 were seen, and by how much it grows with each of `nr`."""
    return _steps(nr.bit_length())[1][: nr + 1]


def _low_steps(nr: int) -> F64:
    """The same of the lower limit, which is 0 at first."""
    return _steps(nr.bit_length())[0][: nr + 1]


@cache
def _steps(bits: int) -> tuple[F64, F64]:
    """Of the lower and of the upper limit, for all numbers of so many bits."""
    seen = np.arange(1.0, (1 << bits) + 1)
    spread = _Z / (3 * np.sqrt(seen))
    low, high = (seen * (1 - 1 / (9 * seen) + way * spread) ** 3 for way in (-1, 1))
    return np.diff(np.append(0.0, low), prepend=0.0), np.diff(high, prepend=0.0)
