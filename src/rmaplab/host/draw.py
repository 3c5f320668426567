"""Which windows of memory are read where not all can be: a draw that large families cannot escape, and what it may have missed.

    size of a window     its pages, the visits in vain they may cost at most, and those that pages of its own may cost, each as a
                         share of all, added up
    windows whose size is more than a draw's share       are read for certain
    the others, family by family, laid end to end        |--a--|b|----c----|-d-|    cut into as many equal strata as there are
                                                         |  .   |   .   | .    |    draws left; each draws one point, and its window

A window is cut out of a VMA; a page there belongs to an anon_vma that the VMA hangs on, and a walk for it visits no more VMAs than
cover the fullest index of one of those. So the graph bounds what a window that was not read may hide. Pages that a process wrote
after it forked belong to its own anon_vma, on which all its children hang: they are why a parent counts a third time.
Source of drawing by size, one from each equal stratum: Cochran, Sampling Techniques, 3rd edition, chapter 9A.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rmaplab.machine.arrays import F64, I64, Bools, ascending_order
from rmaplab.objects.graph import NONE, Graph


class Measure(NamedTuple):
    """A row per window: its family, its pages, and the most VMAs that a walk for a page there may visit, for one of its own too."""

    family: I64
    pages: I64
    cover: I64
    own_cover: I64


class Draw(NamedTuple):
    """`windows` that are read, ascending, and for how many windows of its size each stands: 1 if it was read for certain.

    Of the others, one page of a drawn window stands for at most `per_page` pages, and a visit in vain for `per_visit` of the most there may
    be: what a bound on the unseen needs.
    """

    windows: I64
    stands_for: F64
    certain: Bools
    per_page: float
    per_visit: float


class Drawn(NamedTuple):
    """What was drawn in one look: windows read of those there are, by which seed (None: all were read), and the bounds of Draw."""

    windows: int = 0
    of: int = 0
    seed: int | None = None
    per_page: float = 0.0
    per_visit: float = 0.0


class Sample(NamedTuple):
    """How the pages of a census were found.

    By row of Pages: the draw that found it (NONE: its window was read for certain), the PFN of its folio's head and the folio's
    pages (0: not known). By mm: what the windows that were not read have: pages, at most so many visits in vain for all of them, and
    at most so many visits for one.
    """

    draw: I64
    folio: I64
    folio_pages: I64
    left_pages: I64
    left_visits: I64
    left_cover: I64


def measure(graph: Graph, vma: I64, pages: I64) -> Measure:
    """Of windows, by their VMA and pages; O(chains)."""
    most = np.zeros(len(graph.anon_vmas.root) + 1, np.int64)  # the last one is that of NONE
    owner, _, _, covers = graph.stretches
    np.maximum.at(most, owner, covers)
    cover = np.ones(len(graph.vmas.mm), np.int64)
    np.maximum.at(cover, graph.chains.vma, most[graph.chains.anon_vma])
    own = np.where(graph.vmas.anon_vma == NONE, 0, most[graph.vmas.anon_vma])
    return Measure(graph.families[graph.vmas.mm[vma]], pages, cover[vma], np.maximum(own[vma], 1))


def all_of(nr: int) -> Draw:
    """All of so many windows."""
    return Draw(np.arange(nr), np.ones(nr), np.ones(nr, np.bool_), 0.0, 0.0)


def draw(found: Measure, nr: int, rng: np.random.Generator) -> Draw:
    """`nr` of these windows, fewer where one is drawn twice; all if there are not more. O(n log n)."""
    everything = np.ones(len(found.pages), np.bool_)
    if nr >= len(found.pages):
        return all_of(len(found.pages))
    parts = np.stack([found.pages, found.pages * (found.cover - 1), found.pages * (found.own_cover - 1)]).astype(
        np.float64
    )
    rest = np.flatnonzero(everything)
    while True:  # each window read for certain leaves a larger share to the others
        draws = nr - (len(everything) - len(rest))
        sums = parts.sum(axis=1)
        kinds = np.flatnonzero(sums)
        size = np.zeros(len(rest))
        for kind in kinds.tolist():
            size += parts[kind] / sums[kind]
        size /= len(kinds)
        large = size * draws >= 1
        if not large.any():
            break
        parts, rest = parts[:, ~large], rest[~large]
    order = ascending_order(found.family[rest])
    line = np.cumsum(size[order])
    points = (np.arange(draws) + rng.random(draws)) / draws * line[-1]
    picked, times = np.unique(np.searchsorted(line, points).clip(max=len(rest) - 1), return_counts=True)
    stands_for, read = np.ones(len(everything)), everything.copy()
    read[rest] = False
    certain = read.copy()
    read[rest[order[picked]]] = True
    stands_for[rest[order[picked]]] = times / (draws * size[order[picked]])
    windows = np.flatnonzero(read)
    most = len(kinds) / draws * sums
    return Draw(windows, stands_for[windows], certain[windows], float(most[0]), float(most[1]))


def left_over(found: Measure, mm: I64, read: I64, nr_mms: int) -> tuple[I64, I64, I64]:
    """By mm, of the windows that were not read: pages, the visits in vain for all of them at most, the visits for one at most."""
    left = np.ones(len(mm), np.bool_)
    left[read] = False
    pages, visits, cover = (np.zeros(nr_mms, np.int64) for _ in range(3))
    np.add.at(pages, mm[left], found.pages[left])
    np.add.at(visits, mm[left], (found.pages * (found.cover - 1))[left])
    np.maximum.at(cover, mm[left], found.cover[left])
    return pages, visits, cover
