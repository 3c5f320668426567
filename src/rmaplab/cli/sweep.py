"""`rmaplab sweep memory`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmaplab.cli.options import (
    BoxOptions,
    box_options,
    check_output,
    check_plot,
    emit,
    output_options,
    plot_option,
    split_counts,
    split_names,
    write_plot,
)

if TYPE_CHECKING:
    from rmaplab.lab.costs.sweep import Combination, MemoryPoint


@click.group("sweep")
def command() -> None:
    """Measure something over a range of sizes."""


@command.command("memory")
@click.option(
    "--children",
    default="1,10,100,1000,10000",
    show_default=True,
    metavar="N,N,...",
    help="Children of the process, all alive.",
)
@click.option(
    "--vmas",
    default="1,2,3,10,100,1000,10000",
    show_default=True,
    metavar="N,N,...",
    help="VMAs per process, of one page each.",
)
@click.option(
    "--limit",
    default=100_000,
    show_default=True,
    metavar="N",
    type=click.IntRange(1),
    help="Skip combinations of more children times VMAs.",
)
@click.option(
    "--kernels",
    default="2.6.5-rc1,2.6.5-rc1+anonmm,2.6.5-rc1-aa1",
    show_default=True,
    metavar="K,K,...",
    help="Kernels to measure.",
)
@plot_option
@box_options
@output_options
def memory(
    children: str,
    vmas: str,
    limit: int,
    kernels: str,
    plot: Path | None,
    form: str,
    output: Path | None,
    box: BoxOptions,
) -> None:
    """What reverse maps take in memory, over children and VMAs: measured on live systems.

    A process with anonymous VMAs of one page each, a gap between them, forks children that stay alive.
    """
    children_list, vmas_list = split_counts(children, "children"), split_counts(vmas, "vmas")
    kernel_list = split_names(kernels, "kernels")
    check_output(output)
    check_plot(plot, output)

    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    from rmaplab.lab.costs.sweep import grid, sweep_memory  # noqa: PLC0415
    from rmaplab.report.sweep import memory_sweep  # noqa: PLC0415

    the_box = box.make(kernel_list)
    places, skipped = grid(children_list, vmas_list, limit)
    runs = sweep_memory(kernel_list, places, the_box)
    if skipped:
        click.echo(skipped_line(skipped, limit), err=True)
    points: list[MemoryPoint] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(f"{kernel_list[0]}", total=len(places) * len(kernel_list))
        for point in runs:
            points.append(point)
            progress.update(bar, advance=1, description=f"{point.kernel}, {point.vmas:,} VMAs")
    points.sort(key=lambda point: (point.children, point.vmas))
    emit(points, form, output, lambda: memory_sweep(points))
    if plot is not None:
        from rmaplab.report.plots import plot_memory_sweep  # noqa: PLC0415

        write_plot(plot, lambda part, kind: plot_memory_sweep(points, part, kind))


def skipped_line(skipped: Sequence[Combination], limit: int) -> str:
    """Which combinations are left out, and why: one line."""
    most = max(skipped)
    names = [f"{point.children:,} x {point.vmas:,}" for point in skipped]
    which = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} ... {most.children:,} x {most.vmas:,}"
    return f"rmaplab: skipped, more than {limit:,} children x VMAs: {which} (see --limit)"
