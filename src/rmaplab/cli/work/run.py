"""`rmaplab run`: a workload on one kernel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click

from rmaplab.cli.options import COULD_NOT_END, Output
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.gdb import Debugging
from rmaplab.cli.work.mix import Typed, maker, seed_of
from rmaplab.errors import KilledByDebugger
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

FAILED = 1


class LookedAt(NamedTuple):
    """How a run is looked at: lines of vmstat(8) every so often, gdb at an address."""

    vmstat_ns: int | None = None
    gdb: tuple[str, int] | None = None


NOT_LOOKED_AT = LookedAt()


def run(kernel: str, level: int, box: Box, out: Output, looked: LookedAt = NOT_LOOKED_AT) -> int:
    """Run it, and show everything that was counted, and what was to be seen meanwhile: the exit status."""
    check_columns(OneRun, out.columns)
    the_box = with_paging(box, [kernel])
    with _watched("forkbench", looked, out) as (watch, debugging):
        runs = list(compare_forkbench([kernel], [level], [the_box], watch=watch))
        debugging.end(0)
        emit(OneRun(runs, the_box), *out)
        return 0
    return COULD_NOT_END


def run_one(
    workload: str, kernel: str, box: Box, asked: Typed, seed: int | None, out: Output, looked: LookedAt = NOT_LOOKED_AT
) -> int:
    """The same of qsbench or kbuild: 1 if some bytes were wrong."""
    check_columns(MixRun, out.columns)
    number = seed_of(seed)
    with _watched(workload, looked, out) as (watch, debugging):
        row = run_mix(kernel, with_paging(box, [kernel]), number, maker(workload, asked, number), watch)
        status = int(row.outcome == WRONG)
        debugging.end(status)
        emit(MixRun([row]), *out)
        return status
    return COULD_NOT_END


@contextmanager
def _watched(workload: str, looked: LookedAt, out: Output) -> Iterator[tuple[Watch, Debugging]]:
    """What is to look at each system, and the debugger that is to be told how it has ended; who is killed from gdb comes out of it with one line."""
    debugging = Debugging(looked.gdb, workload)

    def watch(system: System) -> None:
        if looked.vmstat_ns is not None:
            _sample(looked.vmstat_ns, out.form != "table", system)
        debugging.begin(system)

    try:
        yield watch, debugging
    except KilledByDebugger as end:
        click.echo(f"rmaplab: {end}", err=True)
    finally:
        debugging.end(FAILED)  # where nobody has said otherwise


def _sample(every_ns: int, aside: bool, system: System) -> None:
    """Lines as they come, on stdout; `aside`: on stderr."""
    screen = VmstatScreen()

    def tell(line: VmstatLine) -> None:
        click.echo(screen.text(line), nl=False, err=aside)

    Sampler(system, tell, every_ns)
