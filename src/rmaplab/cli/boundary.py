"""`rmaplab boundary`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import click

from rmaplab.cli.options import check_output, check_plot, emit, output_options, split_names, write_plot
from rmaplab.errors import UsageError
from rmaplab.units import parse_size

MOST_COLUMNS = 200
T = TypeVar("T")


@click.command("boundary")
@click.option(
    "--boot-use", default="20M,38M,80M", show_default=True, metavar="SIZE,...", help="Rows: in use after boot."
)
@click.option("--swap-most", default="1G", show_default=True, metavar="SIZE", help="The right edge.")
@click.option("--swap-step", default="32M", show_default=True, metavar="SIZE", help="Swap from one column to the next.")
@click.option("--highpte", default="yes,no", show_default=True, metavar="yes,no", help="Page tables in high memory.")
@click.option("--lines", default="128", show_default=True, metavar="N,...", help="Cache lines: 32, 64, 128.")
@click.option(
    "--overcommit", default="0", show_default=True, metavar="MODE,...", help="0 heuristic, 1 always, 2 strict."
)
@click.option(
    "--schedulers",
    default="own",
    show_default=True,
    metavar="NAME,...",
    help="own, parent-first, short-slices, one-queue.",
)
@click.option("--ram", default="1G", show_default=True, metavar="SIZE", help="RAM of the box.")
@click.option("--cpus", default=4, show_default=True, metavar="N", help="Number of CPUs.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too, as .png or .svg.")
@output_options
def command(
    boot_use: str,
    swap_most: str,
    swap_step: str,
    highpte: str,
    lines: str,
    overcommit: str,
    schedulers: str,
    ram: str,
    cpus: int,
    plot: Path | None,
    form: str,
    output: Path | None,
) -> None:
    """Map the boxes on which the announcement's outcome follows: 2.6.2 fails from level 8 on, 2.6.5-rc1-aa1 does not.

    Every combination of --highpte, --lines, --overcommit and --schedulers is a map of its own.
    """
    uses = split_names(boot_use, "boot use")
    for use in uses:
        parse_size(use)
    swaps = columns(swap_most, swap_step)
    pte = [_choice(name, {"yes": True, "no": False}, "--highpte") for name in split_names(highpte, "highpte")]
    line_list = [_choice(name, {"32": 32, "64": 64, "128": 128}, "--lines") for name in split_names(lines, "lines")]
    modes = [_choice(name, {"0": 0, "1": 1, "2": 2}, "--overcommit") for name in split_names(overcommit, "overcommit")]
    names = split_names(schedulers, "schedulers")
    check_output(output)
    check_plot(plot, output)

    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    from rmaplab.lab.announcement.boundary import BoundaryRow, Panel, boundary  # noqa: PLC0415
    from rmaplab.lab.announcement.experiment import Box  # noqa: PLC0415
    from rmaplab.mm.overcommit import OvercommitMode  # noqa: PLC0415
    from rmaplab.report.boundary import describe, maps  # noqa: PLC0415

    box = Box(ram=ram, cpus=cpus)
    panels = [
        Panel(high, line, name, OvercommitMode(mode))
        for name in names
        for high in pte
        for line in line_list
        for mode in modes
    ]
    runs = boundary(panels, uses, box)
    rows: list[BoundaryRow] = []
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("compiling", total=len(panels) * len(uses))
        for row in runs:
            rows.append(row)
            progress.update(bar, advance=1, description=describe(row.panel))
    emit(rows, form, output, lambda: maps(rows, swaps, box))
    if plot is not None:
        from rmaplab.report.boundary_plot import plot_boundary  # noqa: PLC0415

        write_plot(plot, lambda part, kind: plot_boundary(rows, swaps, box, part, kind))


def columns(most: str, step: str) -> list[int]:
    """Swap sizes from 0 to `most`, in bytes. Raises UsageError."""
    last, width = parse_size(most), parse_size(step)
    if width < 1 << 20 or width % (1 << 20) or last < 0:
        raise UsageError(f"--swap-step {step}: give whole MiB, such as 32M")
    if last // width >= MOST_COLUMNS:
        raise UsageError(
            f"--swap-step {step} up to {most} is {last // width} columns: try --swap-step {last // 32 >> 20}M"
        )
    return list(range(0, last + 1, width))


def _choice(name: str, choices: dict[str, T], option: str) -> T:
    if name not in choices:
        raise UsageError(f"{option} {name!r}: choose from {', '.join(choices)}")
    return choices[name]
