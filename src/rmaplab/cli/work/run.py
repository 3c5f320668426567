"""`rmaplab run`: the fork benchmark on one kernel."""

from functools import partial

import click

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System
from rmaplab.lab.announcement.experiment import compare_forkbench
from rmaplab.lab.vmstat import Sampler, VmstatLine
from rmaplab.report.emit import emit
from rmaplab.report.results import OneRun
from rmaplab.report.vmstat import VmstatScreen


def run(kernel: str, level: int, box: Box, out: Output, vmstat_ns: int | None = None) -> None:
    """Run it, and show everything that was counted; with `vmstat_ns` a line of vmstat(8) every so often meanwhile, beside what programs read."""
    the_box = with_paging(box, [kernel])
    watch = None if vmstat_ns is None else partial(_watch, vmstat_ns, out.form != "table")
    emit(OneRun(list(compare_forkbench([kernel], [level], [the_box], watch=watch)), the_box), *out)


def _watch(every_ns: int, aside: bool, system: System) -> None:
    """Lines as they come, on stdout; `aside`: on stderr."""
    screen = VmstatScreen()

    def tell(line: VmstatLine) -> None:
        click.echo(screen.text(line), nl=False, err=aside)

    Sampler(system, tell, every_ns)
