"""`rmaplab compare`: a workload on several kernels, on one box or on several."""

from contextlib import ExitStack
from pathlib import Path

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.progress import COUNTED, progress
from rmaplab.host.forkbench import HostForkbench
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.baselines import baselines
from rmaplab.lab.announcement.experiment import compare_forkbench
from rmaplab.lab.costs.mallocgroup import compare_mallocgroup
from rmaplab.report.emit import emit
from rmaplab.report.mallocgroup import WalksReport
from rmaplab.report.times import Comparison, Scaling


def forkbench(
    kernels: list[str], levels: list[int], typed: list[Box], plot: Path | None, out: Output, *, host: bool
) -> None:
    """The fork benchmark on each of these boxes; on the real kernel too, if `host`."""
    boxes = [with_paging(box, kernels) for box in typed]
    several = len(boxes) > 1
    results = []
    with ExitStack() as stack:
        real = stack.enter_context(HostForkbench()) if host else None
        runs = compare_forkbench(kernels, levels, boxes, host=real)
        total = len(levels) * (len(kernels) * len(boxes) + bool(real))
        done = stack.enter_context(progress("compiling", total, COUNTED))
        for result in runs:
            results.append(result)
            done(f"level {result.level}, {result.kernel}")
        scores = baselines(results, boxes[0]) if out.form == "table" and not several else []
    emit(Scaling(results, boxes[0]) if several else Comparison(results, boxes[0], scores), *out)
    if plot is not None:
        from rmaplab.report.plot_times import plot_times  # noqa: PLC0415  (matplotlib is optional, and slow)

        plot_times(results, boxes[0], plot)


def mallocgroup(kernels: list[str], sizes: tuple[int, int, int], box: Box, out: Output) -> None:
    """`sizes`: children, pages and walks."""
    emit(WalksReport(list(compare_mallocgroup(kernels, *sizes, with_paging(box, kernels)))), *out)
