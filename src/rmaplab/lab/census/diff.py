"""Two censuses of one machine: what grew, in total and by process or tree.

A row is the same in both if pid and start time are: a process that ended and one that began in between, with its PID even, are rows of one
side only. Where one side does not know when a process began, its name decides.
"""

from dataclasses import dataclass
from typing import Any

from rmaplab.errors import KernelBug
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.rows import CensusRow
from rmaplab.machine.arrays import I64

Side = tuple[Census, I64 | None]
"""A census, and the address spaces that are meant (None: all)."""

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


def changes(before: Side, after: Side, *, trees: bool) -> list[Change]:
    """Every row that is in either; rows that only their neighbours changed are left out."""
    sides = [{row.pid: row for row in _rows(census, mms, trees)} for census, mms in (before, after)]
    found = []
    for pid in dict.fromkeys((*sides[0], *sides[1])):
        was, now = (side.get(pid) for side in sides)
        pairs = [(was, now)] if was is None or now is None or _is_same(was, now) else [(was, None), (None, now)]
        found += [_change(*pair) for pair in pairs]
    return [change for change in found if not change.before or not change.after or any(map(change.grown, OWN))]


def total_changes(before: Side, after: Side) -> Change:
    """Of all that was seen, or of those who were chosen."""
    sides = [{figure: census.totals(mms)[figure] for figure in COUNTED} for census, mms in (before, after)]
    whole = all(mms is None for _, mms in (before, after))
    return Change(0, "all that was seen" if whole else "all of these", *sides)


def _rows(census: Census, mms: I64 | None, trees: bool) -> list[CensusRow]:
    rows = census.trees() if trees else census.processes()
    if mms is None:
        return rows
    of_pid = dict(zip(census.graph.processes.pid.tolist(), census.graph.processes.mm.tolist(), strict=True))
    those = census.those(mms)
    return [row for row in rows if those[of_pid[row.pid]]]


def _is_same(was: CensusRow, now: CensusRow) -> bool:
    if was.start_time_ns and now.start_time_ns:
        return was.start_time_ns == now.start_time_ns
    return was.comm == now.comm


def _change(was: CensusRow | None, now: CensusRow | None) -> Change:
    row = now or was
    if row is None:
        raise KernelBug("diff", "a change of nothing")
    return Change(row.pid, row.comm, _figures(was), _figures(now))


def _figures(row: CensusRow | None) -> dict[str, int | None] | None:
    return None if row is None else {figure: getattr(row, figure) for figure in COUNTED}
