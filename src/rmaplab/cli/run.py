"""`rmaplab run WORKLOAD`."""

import click

from rmaplab.cli.box_options import box_options, time_options
from rmaplab.cli.options import Output, check_workload, nanoseconds, output_options, vmstat_option
from rmaplab.files import check_writable
from rmaplab.kernels.box import Box


@click.command("run")
@click.argument("workload")
@click.option("--kernel", required=True, metavar="K", help="The kernel (see: rmaplab kernels).")
@click.option("--level", default=6, metavar="L", help="Depth of forking.")
@time_options
@box_options
@vmstat_option
@output_options
def command(workload: str, kernel: str, level: int, box: Box, out: Output, vmstat: str | None) -> None:
    """Run WORKLOAD (forkbench) on one kernel and show everything that was counted."""
    check_workload(workload)
    every_ns = None if vmstat is None else nanoseconds(vmstat, "vmstat")
    check_writable(out.path)
    from rmaplab.cli.work.run import run

    run(kernel, level, box, out, every_ns)
