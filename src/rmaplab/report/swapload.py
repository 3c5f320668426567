"""The tables of swapload: what each kernel has done to live beyond RAM, and what of it hangs on the grain of simulated time."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group

from rmaplab.lab.costs.swapload import SwaploadRow
from rmaplab.report.beyond import on_box, whys
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Legend, Table, new_table
from rmaplab.units import format_size

COUNTS: Mapping[str, Callable[[SwaploadRow], float | None]] = {
    "pages in": lambda row: row.swap["pages_in"],
    "pages out": lambda row: row.swap["pages_out"],
    "scanned per freed": lambda row: row.scanned_per_freed,
    "entries per freed": lambda row: row.entries_per_freed,
    "VMAs per freed": lambda row: row.vmas_per_freed,
    "visits useful": lambda row: row.visits["useful"] if row.visits["all"] else None,
    "in vain": lambda row: row.visits["in_vain"] if row.visits["all"] else None,
    "reclaim locks": lambda row: sum(row.walk_locks.values()),
    "allocstalls": lambda row: row.stalls,
    "kswapd's": lambda row: row.kswapd_share,
    "s, believed": lambda row: row.time_s["real"],
    "walks s, believed": lambda row: row.walks_s,
}
"""Columns of the table, and lines of that of bursts."""
OF_FILES: Mapping[str, Callable[[SwaploadRow], float | None]] = {
    "files read": lambda row: row.files["pages_read"],
    "files written": lambda row: row.files["pages_written"],
}
"""Columns more, where a part of it lies in files."""
OF_CRYPT: Mapping[str, Callable[[SwaploadRow], float | None]] = {
    "pages per s": lambda row: row.pages_per_s,
    "per real s": lambda row: row.pages_per_wall_s,
    "cipher s, believed": lambda row: row.crypt_s,
    "legible pages": lambda row: row.legible_pages,
}
"""And where an area lies encrypted."""
LEAVE_OUT = "design|verified|wall s|VMAs per freed|walks s, believed|reclaim locks"
LEAVE_OUT_BESIDE_CRYPT = "kswapd's|scanned per freed|in vain|visits useful|entries per freed|allocstalls|per real s|cipher s, believed|s, believed|pages in"
"""On a narrow terminal, in this order: what is left then is what was asked."""
LEGEND: Legend = (
    (
        ("scanned per freed", "scanned: pages looked at on the lists, by page freed."),
        (
            "entries per freed|VMAs per freed",
            "entries, VMAs: read and gone through to find who maps a page, by page freed.",
        ),
        ("reclaim locks", "reclaim locks: taken for that."),
        ("visits useful|in vain", "visits: of walks from a page; 2.4 makes none."),
    ),
    (
        ("allocstalls", "allocstalls: of 2.4 calls of balance_classzone."),
        ("kswapd's", "kswapd's: its share of the pages freed."),
    ),
    (
        ("s, believed", "s: simulated with a disk of 2004 whose figures are believed."),
        (
            "walks s, believed",
            "walks: the cache lines of all walks, all cold; the other seconds have less for them. Believed, too.",
        ),
    ),
    (
        ("pages per s|per real s", "pages per s: to and from swap, by simulated second, and by second of ours."),
        ("cipher s", "cipher: what of the simulated seconds it has taken."),
        ("legible pages", "legible: pages in which a word of a process can be read, where the areas lie."),
    ),
)
CAPTION = (
    "The announcement's BUG in page_add_rmap, found twenty hours later by a day of swapping and forking (Andrea Arcangeli, 18 March 2004, <20040318221447.GA3248@dualathlon.random>), is a "
    "race of a few\ninstructions: here a fault is one step, so no run can meet it."
)


class SwaploadReport(Report[SwaploadRow]):
    """What `compare swapload` found."""

    columns = "|".join(
        ("kernel|area|burst|design|outcome", *COUNTS, *OF_FILES, *OF_CRYPT, "verified|wall s|count|apart")
    )

    def text(self) -> Table | Group:
        """A row per kernel; with several bursts what hangs on them besides."""
        bursts = sorted({row.burst_tables for row in self.rows})
        if len(bursts) == 1:
            return _kernels(self.rows, with_bursts=False)
        return Group(_kernels(self.rows, with_bursts=True), "", _bursts(self.rows, bursts))


def _kernels(rows: Sequence[SwaploadRow], *, with_bursts: bool) -> Table:
    one = rows[0]
    burst = ">burst|" if with_bursts else ""
    crypt = any(row.crypt or row.legible_pages is not None for row in rows)
    area = "area|" if crypt else ""
    counts = {**COUNTS, **(OF_FILES if one.file_bytes else {}), **(OF_CRYPT if crypt else {})}
    files = f", {format_size(one.file_bytes)} of it in files," if one.file_bytes else ""
    table = new_table(
        f"swapload: {format_size(one.working_set_bytes)}{files} written, read and compared by four processes, {'three of them forked' if one.forks else 'none of them forked'}, "
        f"{on_box(one.hardware)}",
        f"kernel|{area}{burst}design|outcome|{'|'.join(f'>{name}' for name in counts)}|>verified|>wall s",
        caption=whys(rows, _name) + CAPTION,
        legend=LEGEND,
        leave_out=f"{LEAVE_OUT}|{LEAVE_OUT_BESIDE_CRYPT}" if crypt else LEAVE_OUT,
    )
    for i, row in enumerate(rows):
        last = with_bursts and (i + 1 == len(rows) or _name(rows[i + 1]) != _name(row))
        table.add_row(
            row.kernel,
            *([row.area] if crypt else []),
            *([str(row.burst_tables)] if with_bursts else []),
            row.design,
            row.outcome,
            *(_figure(name, count(row)) for name, count in counts.items()),
            format_size(row.verified_bytes),
            f"{row.wall_s:.1f}",
            end_section=last,
        )
    return table


def _bursts(rows: Sequence[SwaploadRow], bursts: Sequence[int]) -> Table:
    """A line for each count of each kernel, and by how much the largest is more than the smallest."""
    table = new_table(
        "what hangs on the burst: page tables of work after which others may act",
        f"kernel|count|{'|'.join(f'>{tables}' for tables in bursts)}|>apart",
        caption="apart: how much more the largest is than the smallest. What is 0% does not hang on the grain; of the rest no digit beyond that is a statement about Linux.",
    )
    for kernel in dict.fromkeys(map(_name, rows)):
        mine = {row.burst_tables: row for row in rows if _name(row) == kernel}
        for nr, (name, count) in enumerate(COUNTS.items()):
            found = [count(mine[tables]) if tables in mine else None for tables in bursts]
            there = [value for value in found if value is not None]
            apart = f"{(max(there) / min(there) - 1):.1%}" if there and min(there) > 0 else DASH
            shown = (_figure(name, value) for value in found)
            table.add_row(kernel if nr == 0 else "", name, *shown, apart, end_section=nr + 1 == len(COUNTS))
    return table


def _name(row: SwaploadRow) -> str:
    return row.kernel if row.crypt is None else f"{row.kernel} behind {row.crypt}"


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return DASH
    if name == "kswapd's":
        return f"{value:.0%}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if value >= 1 else f"{value:.2f}"
