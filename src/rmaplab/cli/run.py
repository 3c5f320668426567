"""`rmaplab run WORKLOAD`."""

import click

from rmaplab.cli.box_options import box_options, time_options, with_usual
from rmaplab.cli.mix_options import OF_MIX, SMALL, MixOptions, mix_options
from rmaplab.cli.options import (
    Output,
    check_workload,
    first_typed,
    gdb_option,
    nanoseconds,
    output_options,
    vmstat_option,
)
from rmaplab.errors import UsageError
from rmaplab.files import check_writable
from rmaplab.kernels.box import Box

WORKLOADS = ("forkbench", *OF_MIX)
MEANINGLESS = {"forkbench": ("seed", *MixOptions._fields)} | {
    name: ("level", "reclaim", *(option for other in OF_MIX if other != name for option in OF_MIX[other]))
    for name in OF_MIX
}
"""Options of the other workloads."""


@click.command("run")
@click.argument("workload")
@click.option("--kernel", required=True, metavar="K", help="The kernel (see: rmaplab kernels).")
@click.option("--level", default=6, metavar="L", help="forkbench: depth of forking.")
@click.option("--seed", type=int, metavar="N", help="qsbench, kbuild: of what they draw.  [default: 1]")
@mix_options
@time_options
@box_options
@vmstat_option
@gdb_option
@output_options
def command(
    workload: str,
    kernel: str,
    level: int,
    seed: int | None,
    mix: MixOptions,
    box: Box,
    out: Output,
    vmstat: str | None,
    gdb: tuple[str, int] | None,
) -> None:
    """Run WORKLOAD (forkbench, qsbench, kbuild) on one kernel and show everything that was counted.

    qsbench sorts more numbers than there is RAM for; kbuild is make -jN, short compilers at once. Their box has 64M of RAM and 128M of swap if no other is
    said, and makes room as its kernel did. Exit code 1: some bytes have come back wrong.
    """
    check_workload(workload, WORKLOADS)
    typed = first_typed(MEANINGLESS[workload])
    if typed is not None:
        raise UsageError(f"{workload} has no {typed}: leave it out")
    every_ns = None if vmstat is None else nanoseconds(vmstat, "vmstat")
    check_writable(out.path)
    from rmaplab.cli.work import run as work

    looked = work.LookedAt(every_ns, gdb)
    if workload == "forkbench":
        status = work.run(kernel, level, box, out, looked)
    else:
        status = work.run_one(workload, kernel, with_usual(box, SMALL), mix, seed, out, looked)
    click.get_current_context().exit(status)
