"""`rmaplab run WORKLOAD`."""

from __future__ import annotations

from pathlib import Path

import click

from rmaplab.cli.options import (
    BoxOptions,
    box_options,
    check_output,
    check_workload,
    emit,
    output_options,
    time_options,
)


@click.command("run")
@click.argument("workload")
@click.option("--kernel", required=True, metavar="K", help="The kernel (see: rmaplab kernels).")
@click.option("--level", default=6, show_default=True, metavar="L", help="Depth of forking.")
@time_options
@box_options
@output_options
def command(
    workload: str,
    kernel: str,
    level: int,
    form: str,
    output: Path | None,
    box: BoxOptions,
) -> None:
    """Run WORKLOAD (forkbench) on one kernel and show everything that was counted."""
    check_workload(workload)
    check_output(output)

    from rmaplab.lab.announcement.experiment import compare_forkbench  # noqa: PLC0415
    from rmaplab.report.tables import single  # noqa: PLC0415

    the_box = box.make([kernel])
    results = list(compare_forkbench([kernel], [level], [the_box]))
    emit(results, form, output, lambda: single(results[0], the_box))
