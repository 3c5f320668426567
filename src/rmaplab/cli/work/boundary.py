"""`rmaplab boundary`: a map for every combination of rules."""

from collections.abc import Sequence
from pathlib import Path

from rmaplab.cli.options import Output
from rmaplab.cli.work.progress import gather
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.boundary import BoundaryRow, Panel, boundary
from rmaplab.mm.overcommit import OvercommitMode
from rmaplab.report.boundary import BoundaryReport, describe
from rmaplab.report.emit import emit
from rmaplab.units import PAGE_SIZE


def map_boundary(
    combinations: Sequence[tuple[str, bool, int, int]],
    uses: Sequence[str],
    swaps: Sequence[int],
    box: Box,
    plot: Path | None,
    out: Output,
    *,
    to_the_end: bool = False,
) -> None:
    """`combinations` are of scheduler, HIGHPTE, cache line and overcommit mode; `uses` after boot are rows, `swaps` columns, in bytes."""
    panels = [Panel(high, line, name, OvercommitMode(mode)) for name, high, line, mode in combinations]
    made = [swap // PAGE_SIZE for swap in swaps] if to_the_end else []
    runs, total = boundary(panels, uses, box, made), len(panels) * len(uses)

    def show(rows: Sequence[BoundaryRow]) -> None:
        emit(BoundaryReport(rows, swaps, box), *out)
        if plot is not None and len(rows) == total:
            from rmaplab.report.boundary_plot import plot_boundary  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_boundary(rows, swaps, box, plot)

    gather(runs, "compiling", total, lambda row: describe(row.panel), show)
