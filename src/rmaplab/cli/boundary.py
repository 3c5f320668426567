"""`rmaplab boundary`."""

from itertools import product
from pathlib import Path

import click

from rmaplab.cli.options import FILE, Output, check_files, output_options_without_tables, split_choices, split_names
from rmaplab.errors import UsageError
from rmaplab.kernels.box import announced
from rmaplab.units import parse_size, typed_size

MOST_COLUMNS = 200


@click.command("boundary")
@click.option("--boot-use", default="20M,38M,80M", metavar="SIZE,...", help="Rows: in use after boot.")
@click.option("--swap-most", default="1G", metavar="SIZE", help="The right edge.")
@click.option("--swap-step", default="32M", metavar="SIZE", help="Swap from one column to the next.")
@click.option("--highpte", default="yes,no", metavar="yes,no", help="Page tables in high memory.")
@click.option("--lines", default="128", metavar="N,...", help="Cache lines: 32, 64, 128.")
@click.option("--overcommit", default="0", metavar="MODE,...", help="0 heuristic, 1 always, 2 strict.")
@click.option("--schedulers", default="own", metavar="NAME,...", help="own, parent-first, short-slices, one-queue.")
@click.option("--ram", default="1G", metavar="SIZE", help="RAM of the box.")
@click.option("--cpus", default=4, metavar="N", help="Number of CPUs.")
@click.option("--reclaim", is_flag=True, help="Make the runs that have to swap, to their end: minutes for each cell.")
@click.option("--plot", **FILE, help="Draw it too, as .png or .svg.")
@output_options_without_tables
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
    reclaim: bool,
    plot: Path | None,
    out: Output,
) -> None:
    """Map the boxes on which the announcement's outcome follows: 2.6.2 fails from level 8 on, 2.6.5-rc1-aa1 does not.

    Every combination of --highpte, --lines, --overcommit and --schedulers is a map of its own.
    """
    uses = split_names(boot_use, "boot use")
    for use in uses:
        parse_size(use)
    swaps = columns(swap_most, swap_step)
    pte = split_choices(highpte, "highpte", {"yes": True, "no": False})
    line_list = split_choices(lines, "lines", {"32": 32, "64": 64, "128": 128})
    modes = split_choices(overcommit, "overcommit", {"0": 0, "1": 1, "2": 2})
    names = split_names(schedulers, "schedulers")
    check_files(out.path, plot)
    from rmaplab.cli.work.boundary import map_boundary

    combinations = list(product(names, pte, line_list, modes))
    map_boundary(combinations, uses, swaps, announced(ram=ram, cpus=cpus), plot, out, to_the_end=reclaim)


def columns(most: str, step: str) -> list[int]:
    """Swap sizes from 0 to `most`, in bytes. Raises UsageError."""
    last, width = parse_size(most), parse_size(step)
    if width < 1 << 20 or width % (1 << 20) or last < 0:
        raise UsageError(f"--swap-step {step}: give whole MiB, such as 32M")
    if last // width >= MOST_COLUMNS:
        raise UsageError(
            f"--swap-step {step} up to {most} is {last // width} columns: try --swap-step {typed_size(last // 32 >> 20 << 20)}"
        )
    return list(range(0, last + 1, width))
