"""Two censuses of one machine: what grew, in total and by process or tree.

A row is the same in both if pid and name are: a process that ended and one that began in between are rows of one side only.
"""

from dataclasses import dataclass
from typing import Any

from rmaplab.lab.census.census import Census
from rmaplab.lab.census.rows import CensusRow

OWN = ("vmas", "anon_vmas", "chains", "page_tables_bytes", "private_bytes")
"""What a process changes itself: its pss changes with its neighbours."""

COUNTED = ("vmas", "anon_vmas", "chains", "rmap_bytes", "page_tables_bytes", "private_bytes", "pss_bytes")


@dataclass(frozen=True)
class Change:
    """A row's figures before and after; None where it was not there, or the figure was not known."""

    pid: int
    comm: str
    before: dict[str, int | None] | None
    after: dict[str, int | None] | None

    def grown(self, figure: str) -> int | None:
        """After minus before; a row that is not there holds 0. None where a figure is not known."""
        sides = [0 if side is None else side[figure] for side in (self.before, self.after)]
        return None if sides[0] is None or sides[1] is None else sides[1] - sides[0]

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        grown = {figure: self.grown(figure) for figure in COUNTED}
        return {"pid": self.pid, "comm": self.comm, "before": self.before, "after": self.after, "grown": grown}


def changes(before: Census, after: Census, *, trees: bool) -> list[Change]:
    """Every row that is in either; rows that only their neighbours changed are left out."""
    sides = [{(row.pid, row.comm): _figures(row) for row in _rows(census, trees)} for census in (before, after)]
    found = [Change(*key, sides[0].get(key), sides[1].get(key)) for key in dict.fromkeys((*sides[0], *sides[1]))]
    return [change for change in found if not change.before or not change.after or any(map(change.grown, OWN))]


def total_changes(before: Census, after: Census) -> Change:
    """Of the whole machine."""
    sides = [{figure: census.totals()[figure] for figure in COUNTED} for census in (before, after)]
    return Change(0, "the whole machine", *sides)


def _rows(census: Census, trees: bool) -> list[CensusRow]:
    return census.trees() if trees else census.processes()


def _figures(row: CensusRow) -> dict[str, int | None]:
    return {figure: getattr(row, figure) for figure in COUNTED}
