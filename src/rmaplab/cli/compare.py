"""`rmaplab compare WORKLOAD`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from rmaplab.cli.options import (
    BoxOptions,
    box_options_but_cpus,
    check_output,
    check_plot,
    check_workload,
    emit,
    output_options,
    plot_option,
    prices_option,
    split_counts,
    split_levels,
    split_names,
    write_plot,
)
from rmaplab.errors import UsageError

KERNELS = {"forkbench": "2.6.2,2.6.5-rc1-aa1", "mallocgroup": "2.6.5-rc1-aa1,6.18"}


@click.command("compare")
@click.argument("workload")
@click.option("--levels", default="3,6,7", show_default=True, metavar="L,L,...", help="Depths of forking.")
@click.option(
    "--kernels",
    metavar="K,K,...",
    help=f"Kernels to compare.  [default: {KERNELS['forkbench']}; mallocgroup: {KERNELS['mallocgroup']}]",
)
@click.option(
    "--children", default=1000, show_default=True, metavar="N", help="mallocgroup: processes that fork makes."
)
@click.option(
    "--pages", default=1000, show_default=True, metavar="N", help="mallocgroup: pages that each of them writes."
)
@click.option(
    "--walks", default=200, show_default=True, metavar="N", help="mallocgroup: pages of each kind to walk from."
)
@click.option("--host", is_flag=True, help="Run it on the real kernel too (needs a C compiler).")
@click.option(
    "--cpus",
    "cpu_list",
    default="4",
    show_default=True,
    metavar="N,N,...",
    help="Number of CPUs, such as 4; several, such as 1,2,4,8,16,32,64, show how it scales.",
)
@click.option(
    "--ht",
    "ht_list",
    default="off",
    show_default=True,
    metavar="HOW,...",
    help="Hyper-threading, two CPUs to a core: off, on (known to the scheduler as the kernel's is), aware, blind.",
)
@prices_option
@box_options_but_cpus
@plot_option
@output_options
def command(
    workload: str,
    levels: str,
    kernels: str | None,
    children: int,
    pages: int,
    walks: int,
    form: str,
    output: Path | None,
    box: BoxOptions,
    cpu_list: str,
    ht_list: str,
    plot: Path | None,
    *,
    host: bool,
) -> None:
    """Run WORKLOAD (forkbench, mallocgroup) on several kernels, side by side.

    forkbench is the benchmark of 18 March 2004: 512 MiB of memory, 2^level processes that read all of it. Where its seconds
    were published they stand beside the simulated ones. Several --cpus, or several --ht such as blind,aware, compare boxes.

    mallocgroup is the mail of 21 January 2010: a thousand children write a thousand inherited pages each, on a box with the RAM
    that takes; how many VMAs does a walk visit to find a page's one mapping?
    """
    check_workload(workload, KERNELS)
    kernel_list = split_names(KERNELS[workload] if kernels is None else kernels, "kernels")
    if workload == "mallocgroup":
        if host or plot is not None:
            raise UsageError("mallocgroup has neither --host nor --plot: leave them out")
        refuse_what_was_typed(workload, "levels", "ht_list", "cpu_list")
        check_output(output)
        _mallocgroup(
            kernel_list,
            (children, pages, walks),
            box,
            form,
            output,
        )
        return
    refuse_what_was_typed(workload, "children", "pages", "walks")
    level_list = split_levels(levels)
    counts, hows = split_counts(cpu_list, "cpus", "1,2,4"), split_names(ht_list, "ht")
    several = len(counts) > 1 or len(hows) > 1
    check_output(output)
    check_plot(plot, output)
    if several and host:
        raise UsageError("--host has the CPUs it has: leave it out, or give one --cpus and one --ht")
    if several and plot:
        raise UsageError("--plot draws times over levels on one box: give one --cpus and one --ht")

    from rich.console import Console, Group  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    from rmaplab.host.forkbench import HostForkbench  # noqa: PLC0415
    from rmaplab.lab.announcement.baselines import baselines  # noqa: PLC0415
    from rmaplab.lab.announcement.experiment import compare_forkbench  # noqa: PLC0415
    from rmaplab.report.tables import comparison  # noqa: PLC0415
    from rmaplab.report.times import scaling, time_tables  # noqa: PLC0415

    typed = box.make(kernel_list)
    boxes = [replace(typed, cpus=nr, ht=how) for how in hows for nr in counts]
    results = []
    with ExitStack() as stack:
        real = stack.enter_context(HostForkbench()) if host else None
        runs = compare_forkbench(kernel_list, level_list, boxes, host=real)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        stack.enter_context(progress)
        total = len(level_list) * (len(kernel_list) * len(boxes) + bool(real))
        bar = progress.add_task("compiling", total=total)
        for result in runs:
            results.append(result)
            progress.update(bar, advance=1, description=f"level {result.level}, {result.kernel}")
        scores = baselines(results, boxes[0]) if form == "table" and not several else []
    if several:
        emit(results, form, output, lambda: scaling(results, boxes[0]))
    else:
        emit(results, form, output, lambda: Group(comparison(results, boxes[0]), *time_tables(results, scores)))
    if plot is not None:
        from rmaplab.report.plot_times import plot_times  # noqa: PLC0415

        write_plot(plot, lambda path, kind: plot_times(results, boxes[0], path, kind))


def refuse_what_was_typed(workload: str, *names: str) -> None:
    """Options that mean nothing to this workload, if they were typed. Raises UsageError."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = {"ht_list": "ht", "cpu_list": "cpus"}.get(name, name)
            raise UsageError(f"{workload} has no --{option}: leave it out")


def _mallocgroup(
    kernels: list[str], sizes: tuple[int, int, int], box: BoxOptions, form: str, output: Path | None
) -> None:
    """Children, pages and walks as `sizes`."""
    from rmaplab.lab.costs.mallocgroup import compare_mallocgroup  # noqa: PLC0415
    from rmaplab.report.mallocgroup import walk_table  # noqa: PLC0415

    results = list(compare_mallocgroup(kernels, *sizes, box.make(kernels)))
    emit(results, form, output, lambda: walk_table(results))
