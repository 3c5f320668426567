"""What walks for some pages say of all: figures of a row of `--under`, and between what they are where not every page was walked.

a kind of pages, all walked      certain
a kind, some of it walked        each stands for others: a draw, as estimate.py has them
a page that was not walked       costs at most the VMAs on its root and the mms of its tree, or the most that any walk cost

An interval is about the pages that the census has. Whether those are a sample of the machine's is said elsewhere.
"""

from typing import Any, NamedTuple

import numpy as np

from rmaplab.host.draw import Drawn, Sample
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.estimate import Estimator, share
from rmaplab.lab.census.fork_history import History
from rmaplab.lab.census.measure import PagesToWalk
from rmaplab.lab.census.visits import quantiles
from rmaplab.machine.arrays import F64, I64, Bools
from rmaplab.objects.graph import NONE, Pages


class AllPages(NamedTuple):
    """By page of the census, walked or not: for how many it stands there, at most so many visits of a walk for it."""

    weight: F64
    most: F64


def all_pages(census: Census, history: History, pages: Pages, rows: I64) -> AllPages:
    """`rows` has a row of `pages` for each. O(VMAs + entries)."""
    entries, vmas, root_of = history.entries, census.graph.vmas, census.graph.anon_vmas.root
    weight = np.bincount(entries.page, pages.weight[entries.row], len(rows)).astype(np.float64)
    on_root = np.bincount(root_of[vmas.anon_vma[vmas.anon_vma != NONE]], minlength=len(root_of))
    in_tree = np.bincount(census.families, minlength=1)
    most = on_root[root_of[pages.anon_vma[rows]]] + in_tree[census.families[pages.mm[rows]]]
    return AllPages(weight, most.astype(np.float64))


def figures(everyone: AllPages, walked: PagesToWalk, alike: Bools, visits: I64, useful: I64) -> dict[str, Any]:
    """Of the pages that are `alike` (by page), of which some were `walked`: their `visits`, and how many of those were `useful`."""
    here = alike[walked.page]
    page, weight, visits, useful = walked.page[here], walked.weight[here], visits[here], useful[here]
    one, total = np.zeros(len(page), np.int64), float((visits * weight).sum())
    wasted = 1 - float((useful * weight).sum()) / total if total else None
    found = {"walks": len(page), "wasted_share": wasted}
    left = alike.copy()
    left[page] = False
    if not left.any():
        per_page = quantiles(one, visits, weight, 1), quantiles(one, useful, weight, 1)
        return {**found, "visits": per_page[0][0], "useful": per_page[1][0]}
    most = np.maximum(everyone.most, visits.max(initial=0))
    sampled = ~np.isclose(weight, everyone.weight[page])
    nr_left, visits_left = everyone.weight[left], (everyone.weight * most)[left]
    sample = Sample(
        draw=np.where(sampled, np.arange(len(page)), NONE),
        folio=page,
        folio_pages=one + 1,
        left_pages=np.ceil(nr_left.sum(keepdims=True)).astype(np.int64),
        left_visits=np.ceil(visits_left.sum(keepdims=True)).astype(np.int64),
        left_cover=np.ceil(most[left].max(keepdims=True)).astype(np.int64),
    )
    bounds = (float(part[sampled].max(initial=0)) for part in (weight, weight * most[page]))
    drawn = Drawn(len(page), int(alike.sum()), None, *bounds)
    each = everyone.weight[page]
    stand_in = Pages(page, one, one, one, one + 1, weight / each)
    estimator = Estimator(stand_in, sample, drawn, np.ones(1, np.bool_), np.ones(len(page), np.bool_))
    within = share(estimator.visits((visits - useful) * each), estimator.visits(useful * each))
    top = int(sample.left_cover[0])
    return {
        **found,
        "wasted_share_within": None if within is None else (within.low, within.high),
        "visits": estimator.quantiles(visits, each, top),
        "useful": estimator.quantiles(useful, each, top),
    }
