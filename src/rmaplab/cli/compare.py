"""`rmaplab compare WORKLOAD`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from rmaplab.cli.options import (
    BoxOptions,
    box_options,
    check_output,
    check_workload,
    emit,
    output_options,
    split_levels,
    split_names,
)


@click.command("compare")
@click.argument("workload")
@click.option("--levels", default="3,6,7", show_default=True, metavar="L,L,...", help="Depths of forking.")
@click.option(
    "--kernels", default="2.6.2,2.6.5-rc1-aa1", show_default=True, metavar="K,K,...", help="Kernels to compare."
)
@click.option("--host", is_flag=True, help="Run it on the real kernel too (needs a C compiler).")
@box_options
@output_options
def command(
    workload: str,
    levels: str,
    kernels: str,
    form: str,
    output: Path | None,
    box: BoxOptions,
    *,
    host: bool,
) -> None:
    """Run WORKLOAD (forkbench) on several kernels, side by side.

    forkbench is the benchmark of 18 March 2004: 512 MiB of memory, 2^level processes that read all of it.
    """
    check_workload(workload)
    level_list, kernel_list = split_levels(levels), split_names(kernels, "kernels")
    check_output(output)

    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    from rmaplab.host.forkbench import HostForkbench  # noqa: PLC0415
    from rmaplab.lab.experiment import compare_forkbench  # noqa: PLC0415
    from rmaplab.report.tables import comparison  # noqa: PLC0415

    the_box = box.make()
    results = []
    with ExitStack() as stack:
        real = stack.enter_context(HostForkbench()) if host else None
        runs = compare_forkbench(kernel_list, level_list, the_box, host=real)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        stack.enter_context(progress)
        bar = progress.add_task("compiling", total=len(level_list) * (len(kernel_list) + bool(real)))
        for result in runs:
            results.append(result)
            progress.update(bar, advance=1, description=f"level {result.level}, {result.kernel}")
    emit(results, form, output, lambda: comparison(results, the_box))
