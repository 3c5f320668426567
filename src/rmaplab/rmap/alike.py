"""Which pages a walk looks for in the same places: for the judge, who need not ask for a place twice.

    page --+                   [=== A ===]                    where a walk looks hangs on the owner, and on where page->index
    page --+--> owner -->            [=== B ===]              lies between its borders: 1 in A; 2 in A, then in B; 3 in B
    page --+      index   . . 1 1 1 2 2 2 3 3 3 . .

Pages are of one kind if they name one owner and their indexes lie between the same borders. Then each step of a walk decides alike from all of
them: no comparison comes out otherwise, the same VMAs or address spaces are looked at in the same order, each as far on as the index is. What
stands there the page tables say, and the judge has read them. So a place that one walk has answered, once, all walks of its kind look at, once;
and whatever is mapped at such places alone, as often as mapcount says (where some walks end), would be answered rightly.

That holds of the code that is here. So a design or an index says its `borders` itself, each class for its own walk, and who derives from one
says nothing: from each page of his the judge walks. Nor is it said of what knows each page by itself: a chain's answer is a page's own.

A walk that searches whole VMAs (`looks_everywhere`) decides nothing by the page: its places are those VMAs.
"""

from collections.abc import Iterable

import numpy as np

from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.frames import PG_ANON
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.index_apart import NonlinearApart
from rmaplab.rmap.pages import Rmap
from rmaplab.units import PAGE_SHIFT

ALONE = -1
FURTHEST = (1 << 63) - 1  # no page->index lies beyond


class Alike:
    """Of the pages of one `rmap`, as they are now."""

    def __init__(self, rmap: Rmap) -> None:
        self._rmap, self._frames = rmap, rmap.frames
        self._everywhere = says(rmap.design, "looks_everywhere") and rmap.design.looks_everywhere
        self._unit = PAGE_SHIFT if rmap.design.linear else 0

    def kinds(self, pfns: I64) -> I64:
        """A number for each page: its kind. ALONE: nobody says so of this one. O(pages log pages + borders)."""
        if self._everywhere:
            return np.zeros(pfns.size, np.int64)
        anon, mapping, index = self._is_anon(pfns), self._frames.mapping[pfns], self._frames.index[pfns]
        between = np.full(pfns.size, ALONE, np.int64)
        if not self._rmap.design.covers_files:
            order = np.lexsort((mapping, anon))
            new = (np.diff(mapping[order]) != 0) | (np.diff(anon[order]) != 0)
            for same in np.split(order, np.flatnonzero(new) + 1) if order.size else ():
                borders = self._borders(int(mapping[same[0]]), anon=bool(anon[same[0]]))
                if borders is not None:
                    ascending = np.unique(np.fromiter((min(border, FURTHEST) for border in borders), np.int64))
                    between[same] = np.searchsorted(ascending, index[same], side="right")
        _, kinds = np.unique(np.stack([anon, mapping, between]), axis=1, return_inverse=True)
        found: I64 = np.where(between == ALONE, ALONE, kinds.reshape(-1))
        return found

    def places(self, mm: MmStruct, pfns: I64, addresses: I64) -> I64:
        """Where entries of `mm` stand, as walks go that are not ALONE: those of two pages of a kind that are equal here are one place. O(n log VMAs)."""
        if not self._everywhere:
            unit = np.where(self._is_anon(pfns), self._unit, PAGE_SHIFT)
            return addresses - (self._frames.index[pfns] << unit)
        vmas: I64 = np.array([(vma.start, vma.end) for vma in mm.vmas], np.int64).reshape(-1, 2)
        row = np.searchsorted(vmas[:, 0], addresses, side="right") - 1
        inside = row >= 0
        inside[inside] = addresses[inside] < vmas[row[inside], 1]
        return np.where(inside, ALONE - row, addresses)

    def _is_anon(self, pfns: I64) -> Bools:
        anon: Bools = self._frames.flags[pfns] & PG_ANON != 0
        return anon

    def _borders(self, owner: int, *, anon: bool) -> Iterable[int] | None:
        if anon:
            return self._rmap.design.borders(owner) if says(self._rmap.design, "borders") else None
        file = self._rmap.files.get(owner)
        if file is None or file.has_nonlinear or file.i_mmap.apart:
            return None
        index = file.i_mmap.index if isinstance(file.i_mmap, NonlinearApart) else file.i_mmap
        borders: Iterable[int] | None = index.borders() if says(index, "borders") else None  # type: ignore[attr-defined]
        return borders


def says(thing: object, what: str) -> bool:
    """Whether its class says so itself: it has not got it from another one, whose walk may not be its own."""
    return what in vars(type(thing))
