"""`rmaplab sweep memory`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmaplab.cli.options import BoxOptions, box_options, check_output, emit, output_options, split_names
from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.lab.sweep import Combination, MemoryPoint

PLOTS = ("png", "svg")


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
@click.option(
    "--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too, as .png or .svg (needs matplotlib)."
)
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

    from rmaplab.lab.sweep import grid, sweep_memory  # noqa: PLC0415
    from rmaplab.report.sweep import memory_sweep  # noqa: PLC0415

    the_box = box.make()
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


def split_counts(text: str, option: str) -> list[int]:
    """Split "1,10,100" into numbers, ascending. Raises UsageError."""
    numbers = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isdecimal() or not int(part):
            raise UsageError(f"--{option} {part!r} is not a number from 1 on: write them with commas, such as 1,10,100")
        numbers.add(int(part))
    if not numbers:
        raise UsageError(f"--{option} names no number: write them with commas, such as 1,10,100")
    return sorted(numbers)


def skipped_line(skipped: Sequence[Combination], limit: int) -> str:
    """Which combinations are left out, and why: one line."""
    most = max(skipped)
    names = [f"{point.children:,} x {point.vmas:,}" for point in skipped]
    which = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:7])} ... {most.children:,} x {most.vmas:,}"
    return f"rmaplab: skipped, more than {limit:,} children x VMAs: {which} (see --limit)"


def check_plot(path: Path | None, output: Path | None) -> None:
    """Before any work: can the plot be drawn and written? Raises UsageError."""
    if path is None:
        return
    if path.suffix.lower().lstrip(".") not in PLOTS:
        raise UsageError(f"cannot draw {path}: give --plot a file that ends in .png or .svg")
    if path == output:
        raise UsageError(f"--plot and --output are both {path}: give them two files")
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(f"cannot write {path}: give --plot a file in a directory that exists and is yours")
    try:
        import rmaplab.report.plots  # noqa: F401, PLC0415
    except ImportError:
        raise UsageError("--plot needs matplotlib: install it with pip install 'rmaplab[plot]'") from None


def write_plot(path: Path, draw: Callable[[Path, str], None]) -> None:
    """Have `draw(file, "png" or "svg")` write the plot; the file appears whole or not at all. Raises UsageError."""
    part = path.with_name(path.name + ".part")
    try:
        draw(part, path.suffix.lower().lstrip("."))
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UsageError(f"cannot write {path} ({error.strerror}): try another --plot") from None
