"""`rmaplab sweep memory`."""

from pathlib import Path

import click

from rmaplab.cli.box_options import box_options
from rmaplab.cli.options import Output, Verbs, check_files, output_options, plot_option, split_counts, split_names
from rmaplab.kernels.box import Box


@click.group("sweep", cls=Verbs)
def command() -> None:
    """Measure something over a range of sizes."""


@command.command("memory")
@click.option(
    "--children", default="1,10,100,1000,10000", metavar="N,N,...", help="Children of the process, all alive."
)
@click.option(
    "--vmas", default="1,2,3,10,100,1000,10000", metavar="N,N,...", help="VMAs per process, of one page each."
)
@click.option(
    "--limit",
    default=100_000,
    metavar="N",
    type=click.IntRange(1),
    help="Skip combinations of more children times VMAs.",
)
@click.option(
    "--kernels", default="2.6.5-rc1,2.6.5-rc1+anonmm,2.6.5-rc1-aa1", metavar="K,K,...", help="Kernels to measure."
)
@plot_option
@box_options
@output_options
def memory(children: str, vmas: str, limit: int, kernels: str, plot: Path | None, box: Box, out: Output) -> None:
    """What reverse maps take in memory, over children and VMAs: measured on live systems.

    A process with anonymous VMAs of one page each, a gap between them, forks children that stay alive.
    """
    children_list, vmas_list = split_counts(children, "children"), split_counts(vmas, "vmas")
    kernel_list = split_names(kernels, "kernels")
    check_files(out.path, plot)
    from rmaplab.cli.work.sweep import sweep_over

    sweep_over(children_list, vmas_list, limit, kernel_list, box, plot, out)
