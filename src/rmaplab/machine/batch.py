"""A batch: the page-table entries that one burst of work has met, as runs.

    entries    [p 40][p 41][p 42][   ][p 90][p 91][swap 7]
    runs       PFN 40, length 3       PFN 90, length 2         pages one behind the other, in entries that are too, alike in all their bits
    others                                        swap 7       what is no page (machine/entries.py), one by one

Memory is handed out in stretches, so there are far fewer runs than pages: what is done per page is a loop over numbers that follow each
other, and nobody carries a row per page about. Designs, counts and mapcounts go run by run. Whoever wants a column per page asks for
`pfns`, `ptes` or `addresses`; it is made then.

The zero page never enters a batch: ZERO_PAGE is reserved, and no reverse map tracks it.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.jit import inline

Int = int | np.int64

PFN, PTE, ADDRESS, LENGTH, ENTRY = range(5)
"""The rows of `columns`: a run's first frame, the physical address of its first entry, the address that maps, pages, its first entry."""


class Batch:
    """`columns[:, :runs]` are the runs, `nr` the pages in them; `others[:, :nr_others]` what is no page: rows PFN, PTE, ADDRESS, LENGTH, ENTRY.

    With `others` the PFN is -1 and the length 1. `entry_bytes` is the size of a page-table entry.
    """

    __slots__ = ("_pool", "columns", "entry_bytes", "nr", "nr_others", "others", "runs")

    def __init__(self, capacity: int, entry_bytes: int, pool: list[Batch] | None = None) -> None:
        self.columns: I64 = np.empty((5, capacity), np.int64)
        self.others: I64 = np.empty((5, capacity if pool is not None else 0), np.int64)
        self.nr = self.runs = self.nr_others = 0
        self.entry_bytes = entry_bytes
        self._pool = pool

    def __enter__(self) -> Self:
        """From the pool (`Kernel.batch`), for one `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def done(self) -> None:
        """Back to the pool."""
        if self._pool is not None:
            self._pool.append(self)

    def hold_one(self, pfn: int, pte: int, address: int, entry: int) -> None:
        """One page, and nothing else."""
        self.nr = self.runs = 1
        columns = self.columns  # one by one: NumPy makes an array of a tuple first
        columns[PFN, 0], columns[PTE, 0], columns[ADDRESS, 0] = pfn, pte, address
        columns[LENGTH, 0], columns[ENTRY, 0] = 1, entry

    @property
    def pfns(self) -> I64:
        """Frame numbers, one per page."""
        return self._spread(PFN, 1)

    @property
    def ptes(self) -> I64:
        """Physical addresses of the entries, in bytes, one per page."""
        return self._spread(PTE, self.entry_bytes)

    @property
    def addresses(self) -> I64:
        """Virtual addresses, one per page."""
        return self._spread(ADDRESS, 4096)

    @property
    def entries(self) -> I64:
        """The entries as they were met, one per page."""
        return self._spread(ENTRY, 4096)

    def select(self, mask: Bools) -> Batch:
        """A batch of those pages that `mask` names, each a run."""
        chosen = Batch(0, self.entry_bytes)
        rows = (self.pfns, self.ptes, self.addresses, np.ones(self.nr, np.int64), self.entries)
        chosen.columns = np.stack([row[mask] for row in rows])
        chosen.nr = chosen.runs = chosen.columns.shape[1]
        return chosen

    def _spread(self, row: int, step: int) -> I64:
        first = self.columns[row, : self.runs]
        if self.runs == self.nr:
            return first
        return spread(first, self.columns[LENGTH, : self.runs], step)


def spread(first: I64, lengths: I64, step: int = 1) -> I64:
    """Runs, one number after the other: `lengths` of them from each `first` on, `step` apart. O(numbers)."""
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    numbers: I64 = np.repeat(first, lengths) + within * step
    return numbers


@inline
def note_run(rows: I64, nr: int, pfn: Int, pte: int, address: int, length: int, entry: Int) -> int:
    """A run of its own into the rows of a batch. Returns the number of runs."""
    rows[PFN, nr], rows[PTE, nr], rows[ADDRESS, nr], rows[LENGTH, nr], rows[ENTRY, nr] = (
        pfn,
        pte,
        address,
        length,
        entry,
    )
    return nr + 1


@inline
def note(rows: I64, nr: int, pfn: Int, pte: int, address: int, entry: Int, entry_bytes: int) -> int:
    """A page into the rows of a batch: the last run grows if it goes on there. Returns the number of runs."""
    if nr:
        last = nr - 1
        length = rows[LENGTH, last]
        if (
            rows[ENTRY, last] + (length << 12) == entry
            and rows[ADDRESS, last] + (length << 12) == address
            and rows[PTE, last] + length * entry_bytes == pte
        ):
            rows[LENGTH, last] = length + 1
            return nr
    return note_run(rows, nr, pfn, pte, address, 1, entry)
