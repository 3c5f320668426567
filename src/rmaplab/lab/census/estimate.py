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
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from rmaplab.host.draw import Drawn, Sample
from rmaplab.lab.census.visits import QUANTILES, Quantiles, Within, quantiles
from rmaplab.machine.arrays import F64, I64, Bools
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
    def stands_for(self) -> F64:
        """By page: for how many entries of a page table it stands."""
        return np.ones(len(self.rows)) if self.complete else self.pages.weight * self.pages.mapcount

    @cached_property
    def once(self) -> F64:
        """By page: what to count of each entry, so that a page counts once, however often it is mapped."""
        return 1 / self.pages.mapcount

    def total(self, values: F64, rows: Bools | None = None) -> Within:
        """The sum over entries of page tables of `values`, none above 1. O(n log n)."""
        return self._total(values, rows, self.drawn.per_page, float(self.sample.left_pages[self.mms].sum()))

    def in_vain(self, visits: I64, useful_visits: I64, each: F64) -> Within | None:
        """The share of visits that find nothing, where an entry counts `each`; None where no page was found."""
        return share(self.visits((visits - useful_visits) * each), self.total(useful_visits * each))

    def visits(self, values: F64) -> Within:
        """The sum over entries of `values`, none above what its page may cost in visits."""
        return self._total(values, None, self.drawn.per_visit, float(self.sample.left_visits[self.mms].sum()))

    def quantiles(self, values: I64, each: F64, top: int | None) -> Quantiles | None:
        """Of a count per page, where an entry counts `each`; no page has more than `top` (None: nobody knows)."""
        one = np.zeros(int(self.rows.sum()), np.int64)
        found = quantiles(one, values[self.rows], (each * self.stands_for)[self.rows], 1)[0]
        if found is None or self.complete:
            return found
        most = None if top is None else max(top, found.max)
        (low, high), (low_99, high_99) = (self._quantile(values, each, share, most) for share in QUANTILES)
        return replace(found, low=(low, low_99, found.max), high=(high, high_99, most))

    def _total(self, values: F64, rows: Bools | None, most: float, left: float) -> Within:
        """The same where a page found stands for up to `most`, and windows not read hold up to `left`."""
        rows = self.rows if rows is None else self.rows & rows
        draw = self.sample.draw
        by_draw = rows if self.complete else rows & (draw == NONE)
        certain = float(values[by_draw].sum())
        if self.complete:
            return Within(certain, certain, certain)
        rows = rows & (draw != NONE)
        seen, z = float(values[rows].sum()), np.bincount(draw[rows], (values * self.stands_for)[rows])
        t = np.sort(z[z > 0])[::-1] / max(most, 1e-9)
        limits = [most * float(steps[0] + (steps[1:] * t).sum()) for steps in (_low_steps(len(t)), _high_steps(len(t)))]
        low, high = np.clip(limits, seen, seen + left).tolist()
        return Within(certain + low, certain + float(np.clip(z.sum(), low, high)), certain + high)

    def _quantile(self, values: I64, each: F64, share: float, most: int | None) -> tuple[int, int | None]:
        """Between which values it is. O(n log n) for each of log n looks."""
        distinct = np.unique(values[self.rows])

        def reaches(value: int, *, surely: bool) -> bool:
            below, above = self.total(each, values <= value), self.total(each, values > value)
            part, other = (below.low, above.high) if surely else (below.high, above.low)
            return part >= share * (part + other)

        low, high = (bisect_left(distinct, True, key=partial(reaches, surely=surely)) for surely in (False, True))
        return int(distinct[min(low, len(distinct) - 1)]), int(distinct[high]) if high < len(distinct) else most


def share(part: Within, other: Within) -> Within | None:
    """The part of both together; None where there is no other."""
    if not other.value:
        return None
    ends = ((part.low, other.high), (part.value, other.value), (part.high, other.low))
    return Within(*(mine / (mine + rest) for mine, rest in ends))


def _high_steps(nr: int) -> F64:
    """The upper limit of a Poisson mean of which 0 were seen, and by how much it grows with each that is."""
    seen = np.arange(1.0, nr + 2)
    return np.diff(seen * (1 - 1 / (9 * seen) + _Z / (3 * np.sqrt(seen))) ** 3, prepend=0.0)


def _low_steps(nr: int) -> F64:
    """The same of the lower limit, which is 0 at first."""
    seen = np.arange(1.0, nr + 1)
    return np.diff(np.append(0.0, seen * (1 - 1 / (9 * seen) - _Z / (3 * np.sqrt(seen))) ** 3), prepend=0.0)
