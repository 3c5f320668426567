"""`rmaplab replay`: a log on several kernels."""

from dataclasses import replace as changed
from pathlib import Path

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.progress import gather
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.replay.run import ReplayResult, read_plan, replay
from rmaplab.report.emit import emit
from rmaplab.report.replay import ReplayReport

PLOTTED = 400
"""Samples of a plot, if nobody says how many."""


def replay_log(
    log: Path,
    kernels: list[str],
    touch: str,
    samples: int | None,
    check: bool,
    plot: Path | None,
    box: Box,
    out: Output,
) -> None:
    """Play it, and show what each kernel made of it. Raises UsageError."""
    if box.paging is None and all("x86-64" in find_kernel(name).architectures for name in kernels):
        box = changed(box, paging="x86-64")  # the log is of such a machine
    the_box = changed(with_paging(box, kernels), reclaim=False)
    plan = read_plan(log)
    runs = replay(plan, kernels, the_box, touch, samples or (PLOTTED if plot else 0), check=check)

    def show(results: list[ReplayResult]) -> None:
        emit(ReplayReport(results, plan, str(log), shows_samples=bool(samples)), *out)
        if plot is not None:
            from rmaplab.report.replay_plot import plot_replay  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_replay(results, str(log), plot)

    gather(runs, kernels[0], len(kernels), lambda result: result.kernel, show)
