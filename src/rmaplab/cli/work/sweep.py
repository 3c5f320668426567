"""`rmaplab sweep memory`: what reverse maps take, at every place of a grid."""

from collections.abc import Sequence
from pathlib import Path

import click

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.progress import gather
from rmaplab.kernels.box import Box
from rmaplab.lab.costs.sweep import Combination, MemoryPoint, grid, sweep_memory
from rmaplab.report.emit import check_columns, emit
from rmaplab.report.sweep import MemoryReport


def sweep_over(
    children: list[int],
    vmas: list[int],
    limit: int,
    kernels: list[str],
    box: Box,
    plot: Path | None,
    out: Output,
) -> None:
    """Measure each kernel at each place but those of more than `limit` children times VMAs."""
    check_columns(MemoryReport, out.columns)
    the_box = with_paging(box, kernels)
    places, skipped = grid(children, vmas, limit)
    runs = sweep_memory(kernels, places, the_box)
    if skipped:
        click.echo(skipped_line(skipped, limit), err=True)
    total = len(places) * len(kernels)

    def show(points: list[MemoryPoint]) -> None:
        points.sort(key=lambda point: (point.children, point.vmas))
        emit(MemoryReport(points), *out)
        if plot is not None and len(points) == total:
            from rmaplab.report.plots import plot_memory_sweep  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_memory_sweep(points, plot)

    gather(runs, kernels[0], total, lambda point: f"{point.kernel}, {point.vmas:,} VMAs", show)


def skipped_line(skipped: Sequence[Combination], limit: int) -> str:
    """Which combinations are left out, and why: one line."""
    most = max(skipped)
    names = [f"{point.children:,} x {point.vmas:,}" for point in skipped]
    which = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} ... {most.children:,} x {most.vmas:,}"
    return f"rmaplab: skipped, more than {limit:,} children x VMAs: {which} (see --limit)"
