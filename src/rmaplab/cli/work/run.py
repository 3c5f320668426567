"""`rmaplab run`: a workload on one kernel."""

from functools import partial

import click

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.mix import Typed, maker, seed_of
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System
from rmaplab.lab.announcement.experiment import Watch, compare_forkbench
from rmaplab.lab.costs.beyond_ram import WRONG
from rmaplab.lab.costs.mixes import run_mix
from rmaplab.lab.vmstat import Sampler, VmstatLine
from rmaplab.report.emit import check_columns, emit
from rmaplab.report.mixes import MixRun
from rmaplab.report.results import OneRun
from rmaplab.report.vmstat import VmstatScreen


def run(kernel: str, level: int, box: Box, out: Output, vmstat_ns: int | None = None) -> None:
    """Run it, and show everything that was counted; with `vmstat_ns` a line of vmstat(8) every so often meanwhile, beside what programs read."""
    check_columns(OneRun, out.columns)
    the_box = with_paging(box, [kernel])
    runs = compare_forkbench([kernel], [level], [the_box], watch=_watcher(vmstat_ns, out))
    emit(OneRun(list(runs), the_box), *out)


def run_one(
    workload: str, kernel: str, box: Box, asked: Typed, seed: int | None, out: Output, vmstat_ns: int | None = None
) -> bool:
    """The same of qsbench or kbuild: whether all bytes were right."""
    check_columns(MixRun, out.columns)
    number, watch = seed_of(seed), _watcher(vmstat_ns, out)
    row = run_mix(kernel, with_paging(box, [kernel]), number, maker(workload, asked, number), watch)
    emit(MixRun([row]), *out)
    return row.outcome != WRONG


def _watcher(vmstat_ns: int | None, out: Output) -> Watch | None:
    return None if vmstat_ns is None else partial(_watch, vmstat_ns, out.form != "table")


def _watch(every_ns: int, aside: bool, system: System) -> None:
    """Lines as they come, on stdout; `aside`: on stderr."""
    screen = VmstatScreen()

    def tell(line: VmstatLine) -> None:
        click.echo(screen.text(line), nl=False, err=aside)

    Sampler(system, tell, every_ns)
