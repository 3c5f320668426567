"""Walks of a census: how many VMAs they visit, and how many of those visits find the page; per page, per folio, over all or over some.

A page counts if it was mapped as the graph says. One that has more entries than VMAs that could have them was mapped since, or by
somebody who is not seen: nobody knows what a walk for it visits, so it is left out, and counted as such. Where pages are a
sample, every figure is an estimate with its interval (estimate.py).
"""

from functools import cached_property

import numpy as np

from rmaplab.host.draw import Sample
from rmaplab.host.sample import mapped_since
from rmaplab.host.snapshot import Snapshot
from rmaplab.lab.census.estimate import Estimator
from rmaplab.lab.census.visits import FolioWalk, Walk, Within, overlapping, quantiles
from rmaplab.machine.arrays import I64, Bools, distinct
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE


class CensusWalks:
    """Of one snapshot. `meant`, by mm: whether it was asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.graph = snapshot.graph
        self.meant: Bools = np.full(self.graph.nr_mms, snapshot.scope is None)
        self.meant[list(snapshot.scope or ())] = True
        self._walks: dict[bytes | None, Walk | None] = {}

    @cached_property
    def families(self) -> I64:
        """By mm: its fork tree."""
        return self.graph.families

    @cached_property
    def page_candidates(self) -> I64:
        """By page of the sample: the VMAs a walk for it visits; 0 if its anon_vma is not in the graph."""
        pages = self.graph.pages
        return np.zeros(0, np.int64) if pages is None else candidates_of(pages, self.graph.stretches)

    @cached_property
    def usable(self) -> Bools:
        """By page: whether it was mapped as the graph has it. Without a graph, all are."""
        pages = self.graph.pages
        if pages is None or not self.snapshot.knows_anon_vmas:
            return np.ones(0 if pages is None else len(pages.pfn), np.bool_)
        return ~mapped_since(self.graph, pages, self.page_candidates)

    @cached_property
    def sample(self) -> Sample:
        """How the pages were found; if nobody said, they are all there are, and small."""
        pages, nothing = self.graph.pages, np.zeros(self.graph.nr_mms, np.int64)
        if self.snapshot.sample is not None or pages is None:
            return self.snapshot.sample or Sample(nothing, nothing, nothing, nothing, nothing, nothing)
        return Sample(
            np.full(len(pages.pfn), NONE), pages.pfn, np.ones(len(pages.pfn), np.int64), nothing, nothing, nothing
        )

    def those(self, mms: I64 | None) -> Bools:
        """By mm, whether it is one of some, or of those asked for (None)."""
        those: Bools = self.meant if mms is None else np.isin(np.arange(self.graph.nr_mms), mms)
        return those

    def estimator(self, mms: I64 | None = None) -> Estimator | None:
        """Of the usable pages of some address spaces, or all that were asked for; None without pages."""
        pages = self.graph.pages
        if pages is None:
            return None
        meant = self.those(mms)
        return Estimator(pages, self.sample, self.snapshot.drawn, meant, meant[pages.mm] & self.usable)

    def walk(self, mms: I64 | None = None) -> Walk | None:
        """Over all pages, or over those found in some address spaces; None where nothing is known. Several tables ask for it."""
        key = None if mms is None else mms.tobytes()
        if key not in self._walks:
            self._walks[key] = self._walk(mms)
        return self._walks[key]

    def _walk(self, mms: I64 | None) -> Walk | None:
        found = self.estimator(mms)
        if found is None:
            return self._walk_over_indexes(mms)
        mapcount, known = found.pages.mapcount, self.snapshot.knows_anon_vmas
        looked = len(distinct(found.pages.pfn[found.rows]))
        left_out = len(distinct(found.pages.pfn[found.mms[found.pages.mm] & ~found.rows]))
        total, top = found.total(found.once), int(self.sample.left_cover[found.mms].max(initial=0))
        useful = found.quantiles(mapcount, found.once, top if known else None)
        if not known:
            return Walk("pages of private memory", total, looked, None, useful, None)
        visits = self.page_candidates
        candidates, wasted = found.quantiles(visits, found.once, top), found.in_vain(visits, mapcount, found.once)
        folios = self._folio_walk(found, top)
        return Walk("anonymous pages", total, looked, candidates, useful, wasted, left_out, folios)

    def _folio_walk(self, found: Estimator, top: int) -> FolioWalk | None:
        """A walk per folio; None if this kernel does not say how large they are."""
        sample, pages = self.sample, found.pages
        if not sample.folio_pages[found.rows].all():
            return None
        large = found.rows & (sample.folio_pages > 1)
        visits, useful = self.page_candidates.copy(), pages.mapcount.copy()
        nr = sample.folio_pages[large]
        first = pages.pgoff[large] - (pages.pfn[large] - sample.folio[large])
        visits[large] = overlapping(self.graph, pages.anon_vma[large], first, nr)
        _, which = np.unique(sample.folio[large], return_inverse=True)
        most = np.zeros(len(which), np.int64)
        np.maximum.at(most, which.reshape(-1), useful[large])
        useful[large] = most[which.reshape(-1)]
        each = found.once / np.maximum(sample.folio_pages, 1)
        candidates, maps = found.quantiles(visits, each, top), found.quantiles(useful, each, top)
        return FolioWalk(found.total(each), candidates, maps, found.in_vain(visits, useful, each))

    def _walk_over_indexes(self, mms: I64 | None) -> Walk | None:
        """Where no pages are known: over what the graph covers."""
        if not self.snapshot.knows_anon_vmas:
            return None
        owner, _, length, cover = self.graph.stretches
        of_them = self.those(mms)[self.graph.vmas.mm[self.graph.chains.vma]]
        chosen = np.isin(owner, self.graph.chains.anon_vma[of_them])
        length, cover = length[chosen], cover[chosen]
        zero, total = np.zeros(len(length), np.int64), int(length.sum())
        found = quantiles(zero, cover, length.astype(np.float64), 1)[0]
        return Walk(
            "indexes that anon_vmas cover, a page there or not", Within(total, total, total), total, found, None, None
        )
