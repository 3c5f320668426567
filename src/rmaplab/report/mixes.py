"""The tables of qsbench and kbuild: several kernels side by side, or one with everything that was counted."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from rmaplab.lab.costs.mixes import MixRow
from rmaplab.report.beyond import on_box, whys
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Legend, Table, new_table
from rmaplab.units import format_size

COUNTS: Mapping[str, Callable[[MixRow], float | None]] = {
    "pages in": lambda row: row.swap["pages_in"],
    "pages out": lambda row: row.swap["pages_out"],
    "files read": lambda row: row.files["pages_read"],
    "major faults": lambda row: row.major_faults,
    "allocstalls": lambda row: row.stalls,
    "scanned per freed": lambda row: row.scanned_per_freed,
    "entries per freed": lambda row: row.entries_per_freed,
}
TIMES: Mapping[str, Callable[[MixRow], float | None]] = {
    "first done": lambda row: min(row.ends_s, default=None),
    "mean": lambda row: fmean(row.ends_s) if row.ends_s else None,
    "real s": lambda row: row.time_s["real"],
    "sys s": lambda row: row.time_s["sys"],
    "user s": lambda row: row.time_s["user"],
}
LEGEND: Legend = (
    (
        ("scanned per freed", "scanned: pages looked at on the lists, by page freed."),
        ("entries per freed", "entries: of page tables, read to find who maps a page, by page freed."),
        ("allocstalls", "allocstalls: of 2.4 calls of balance_classzone."),
        ("first done|mean", "first done, mean: when the first process had done its work, and all on average."),
    ),
)
CAPTION = "All seconds are simulated and believed: a disk of 2004, and a price for computing."


class MixReport(Report[MixRow]):
    """What `compare qsbench` or `compare kbuild` found."""

    columns = "|".join(("kernel|design|outcome", *COUNTS, *TIMES, "verified|wall s"))

    def text(self) -> Table:
        """A row per kernel."""
        several = any(len(row.ends_s) > 1 for row in self.rows)
        times = {name: time for name, time in TIMES.items() if several or name not in ("first done", "mean")}
        counts = {name: count for name, count in COUNTS.items() if name != "files read" or _has_files(self.rows)}
        table = new_table(
            describe(self.rows[0]),
            f"kernel|design|outcome|{'|'.join(f'>{name}' for name in (*counts, *times))}|>verified|>wall s",
            caption=whys(self.rows) + CAPTION,
            legend=LEGEND,
            leave_out="design|verified|user s|wall s|entries per freed|sys s|scanned per freed|allocstalls|mean|pages in",
        )
        for row in self.rows:
            table.add_row(
                row.kernel,
                row.design,
                row.outcome,
                *(_count(count(row)) for count in counts.values()),
                *(_seconds(time(row)) for time in times.values()),
                format_size(row.verified_bytes),
                f"{row.wall_s:.1f}",
            )
        return table


class MixRun(Report[MixRow]):
    """What `run qsbench` or `run kbuild` found: one result, a line per figure."""

    columns = "what|>value|_"

    def text(self) -> Table:
        """What came of it, counts, times."""
        (row,) = self.rows
        table = new_table(
            f"{describe(row)}: Linux {row.kernel}, {row.design}", self.columns, caption=whys(self.rows).rstrip("\n")
        )
        table.add_row("outcome", row.outcome, f"{row.oom_killed:,} killed for memory" if row.oom_killed else "")
        table.add_row("done", f"{len(row.ends_s):,}", "processes that came to the end of their work")
        table.add_row(
            "verified", format_size(row.verified_bytes), f"of {format_size(row.written_bytes)} that were written"
        )
        table.add_section()
        table.add_row("pages in", f"{row.swap['pages_in']:,}", "from swap")
        table.add_row("pages out", f"{row.swap['pages_out']:,}", "to swap")
        table.add_row("files read", f"{row.files['pages_read']:,}", "pages, from the disk")
        table.add_row("files written", f"{row.files['pages_written']:,}", "pages")
        table.add_section()
        for name, count in row.ledger.items():
            table.add_row(name, f"{count:,}", "counted")
        table.add_section()
        for name, seconds in row.time_s.items():
            table.add_row(f"{name} time", f"{seconds:.2f} s", f"simulated, prices {row.prices}; believed")
        if len(row.ends_s) > 1:
            table.add_row("first done", f"{min(row.ends_s):.2f} s", "")
            table.add_row("mean", f"{fmean(row.ends_s):.2f} s", "")
        table.add_row("wall", f"{row.wall_s:.2f} s", "our running time")
        return table


def describe(row: MixRow) -> str:
    """The workload and its box."""
    what = ", ".join(
        f"{name.removesuffix('_bytes')} {format_size(nr) if name.endswith('_bytes') else f'{nr:,}'}"
        for name, nr in row.asked.items()
    )
    return f"{row.workload} ({what}) {on_box(row.hardware)}"


def _has_files(rows: Sequence[MixRow]) -> bool:
    return any(row.files["pages_read"] for row in rows)


def _count(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _seconds(value: float | None) -> str:
    return DASH if value is None else f"{value:,.1f}"
