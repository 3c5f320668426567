"""`rmaplab compare`: a workload on several kernels, on one box or on several."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.progress import gather
from rmaplab.host.forkbench import HostForkbench
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.baselines import baselines
from rmaplab.lab.announcement.experiment import Result, compare_forkbench
from rmaplab.lab.costs.mallocgroup import WalkResult, compare_mallocgroup
from rmaplab.report.emit import emit
from rmaplab.report.mallocgroup import WalksReport
from rmaplab.report.times import Comparison, Scaling


def forkbench(
    kernels: list[str], levels: list[int], typed: list[Box], plot: Path | None, out: Output, *, host: bool
) -> None:
    """The fork benchmark on each of these boxes; on the real kernel too, if `host`."""
    boxes = [with_paging(box, kernels) for box in typed]
    total = len(levels) * (len(kernels) * len(boxes) + host)

    def show(results: Sequence[Result]) -> None:
        if len(boxes) > 1:
            emit(Scaling(results, boxes[0]), *out)
        else:
            scores = baselines(results, boxes[0]) if out.form == "table" else []
            emit(Comparison(results, boxes[0], scores), *out)
        if plot is not None and len(results) == total:
            from rmaplab.report.plot_times import plot_times  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_times(results, boxes[0], plot)

    with ExitStack() as stack:
        real = stack.enter_context(HostForkbench()) if host else None
        runs = compare_forkbench(kernels, levels, boxes, host=real)
        gather(runs, "compiling", total, lambda result: f"level {result.level}, {result.kernel}", show)


def mallocgroup(kernels: list[str], sizes: tuple[int, int, int], box: Box, out: Output) -> None:
    """`sizes`: children, pages and walks."""
    runs = compare_mallocgroup(kernels, *sizes, with_paging(box, kernels))

    def show(results: Sequence[WalkResult]) -> None:
        emit(WalksReport(results), *out)

    gather(runs, "compiling", len(kernels), lambda result: result.kernel, show)
