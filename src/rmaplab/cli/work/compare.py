"""`rmaplab compare`: a workload on several kernels, on one box or on several."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from rmaplab.cli.options import Output, split_names
from rmaplab.cli.work.box import with_paging
from rmaplab.cli.work.mix import Typed, maker, seed_of
from rmaplab.cli.work.progress import Meanwhile, gather
from rmaplab.errors import UsageError
from rmaplab.host.forkbench import HostForkbench
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.baselines import baselines
from rmaplab.lab.announcement.experiment import Result, compare_forkbench
from rmaplab.lab.costs.beyond_ram import WRONG, BeyondRow
from rmaplab.lab.costs.localmalloc import LocalMallocRow, compare_localmalloc
from rmaplab.lab.costs.mallocgroup import WalkResult, compare_mallocgroup
from rmaplab.lab.costs.manyvmas import ManyVmasRow, compare_manyvmas
from rmaplab.lab.costs.mixes import compare_mix
from rmaplab.lab.costs.nonlinear_user import compare_nonlinear_user
from rmaplab.lab.costs.rmaptest import compare_rmap_test
from rmaplab.lab.costs.sga import HOST_BYTES, SgaRow, compare_sga
from rmaplab.lab.costs.swapload import SwaploadRow, compare_swapload
from rmaplab.report.emit import check_columns, emit
from rmaplab.report.localmalloc import LocalMallocReport, of_all_children
from rmaplab.report.mallocgroup import WalksReport
from rmaplab.report.manyvmas import ManyVmasReport, published
from rmaplab.report.mixes import MixReport
from rmaplab.report.nonlinear_user import NonlinearUserReport
from rmaplab.report.rmaptest import RmapTestReport
from rmaplab.report.sga import SgaReport
from rmaplab.report.swapload import SwaploadReport
from rmaplab.report.times import Comparison, Scaling
from rmaplab.units import format_size, parse_size
from rmaplab.workloads.sga import How

B = TypeVar("B", bound=BeyondRow)
GROWTH = (16, 8, 4, 2, 1)
"""A plot has the programs at a 16th of their VMAs (localmalloc: of its children), at an 8th, and so on."""


def forkbench(
    kernels: list[str], levels: list[int], typed: list[Box], plot: Path | None, out: Output, *, host: bool
) -> None:
    """The fork benchmark on each of these boxes; on the real kernel too, if `host`."""
    boxes = [with_paging(box, kernels) for box in typed]
    check_columns(Scaling if len(boxes) > 1 else Comparison, out.columns)
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
    check_columns(WalksReport, out.columns)
    runs = compare_mallocgroup(kernels, *sizes, with_paging(box, kernels))

    def show(results: Sequence[WalkResult]) -> None:
        emit(WalksReport(results), *out)

    gather(runs, "compiling", len(kernels), lambda result: result.kernel, show)


def localmalloc(kernels: list[str], sizes: tuple[int, int, int, int], box: Box, plot: Path | None, out: Output) -> None:
    """`sizes`: children, pages, walks, helpers."""
    check_columns(LocalMallocReport, out.columns)
    children, pages, walks, helpers = sizes
    growth = GROWTH if plot is not None else GROWTH[-1:]
    runs, total = compare_localmalloc(kernels, children, helpers, pages, walks, with_paging(box, kernels), growth)

    def show(rows: Sequence[LocalMallocRow]) -> None:
        if whole := of_all_children(rows, children):
            emit(LocalMallocReport(whole), *out)
        if plot is not None and len(rows) == total:
            from rmaplab.report.localmalloc_plot import plot_localmalloc  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_localmalloc(rows, plot)

    gather(runs, "compiling", total, lambda row: f"{row.children:,} children, {row.case}, {row.kernel}", show)


def manyvmas(
    tests: list[str], kernels: list[str], indexes: list[str], box: Box, plot: Path | None, out: Output, *, locked: bool
) -> None:
    """Each test on each kernel with each index, or its own; for a plot, at smaller sizes before that."""
    check_columns(ManyVmasReport, out.columns)
    growth = GROWTH if plot is not None else GROWTH[-1:]
    runs, total = compare_manyvmas(tests, kernels, indexes, with_paging(box, kernels), locked=locked, growth=growth)

    def show(rows: Sequence[ManyVmasRow]) -> None:
        if whole := published(rows):
            emit(ManyVmasReport(whole), *out)
        if plot is not None and len(rows) == total:
            from rmaplab.report.manyvmas_plot import plot_manyvmas  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_manyvmas(rows, plot)

    gather(runs, "compiling", total, lambda row: f"{row.program.name}, {row.kernel}, {row.index}", show)


def sga(kernels: list[str], typed: Box, shared: tuple[int | None, str | None, bool], out: Output) -> None:
    """On a box of each RAM and each split that the box names. `shared`: users and segment (None: not typed), whether in windows."""
    check_columns(SgaReport, out.columns)
    users, segment, windows = shared
    box = with_paging(typed, kernels)
    rams = split_names(str(box.ram), "ram")
    untyped = [None] if box.paging == "x86-64" else ["3:1", "4:4"]
    splits = untyped if box.split is None else split_names(box.split, "split")
    boxes = [replace(box, ram=ram, split=split) for ram in rams for split in splits]
    hows = [How.IN_ORDER, How.BACKWARDS, How.REMAPPED] if windows else [How.WHOLE]
    size = "512M" if segment is None and windows else segment
    if size is not None and re.fullmatch(r"\s*\d+\.\d+\s*B?", size, re.IGNORECASE):
        raise UsageError(f"--segment {size}: say {size.strip(' bB')}G (bytes must be whole numbers)")
    most = (2 if windows else 1000) if users is None else users
    if most < 2:
        raise UsageError(f"--users {most}: give 2 or more, the first one needs no chain")
    meanwhile = Meanwhile()
    runs, total = compare_sga(kernels, boxes, None if size is None else parse_size(size), most, hows, meanwhile)

    def show(rows: Sequence[SgaRow]) -> None:
        emit(SgaReport(rows), *out)

    takes = f"up to {most:,} users on each, and {format_size(HOST_BYTES)} of memory"
    gather(
        runs,
        takes,
        total,
        lambda row: f"{row.kernel}, {row.hardware['split'] or row.hardware['arch']}: {row.users:,} users",
        show,
        meanwhile=meanwhile,
    )


def swapload(
    kernels: list[str],
    typed: Box,
    beyond: tuple[str | None, int | None, bool, bool, str, str | None],
    bursts: list[int],
    plot: Path | None,
    out: Output,
) -> bool:
    """Each kernel with each burst: whether all bytes were right. `beyond`: load (None: the usual one), seed, whether with forks, and with files, bursts as typed, form."""
    check_columns(SwaploadReport, out.columns)
    load, _, forks, files, _, crypt = beyond
    seed = seed_of(beyond[1])
    wanted = None if load is None else parse_size(load)
    box = with_paging(typed, kernels)
    runs, total = compare_swapload(kernels, box, wanted, seed, bursts, forks=forks, files=files, crypt=crypt)

    def show(found: Sequence[SwaploadRow]) -> None:
        emit(SwaploadReport(found), *out)
        if plot is not None and len(found) == total:
            from rmaplab.report.swapload_plot import plot_swapload  # noqa: PLC0415  (matplotlib is optional, and slow)

            plot_swapload(found, plot)

    return _all_right(runs, total, _kernel_of, show)


def mix(workload: str, kernels: list[str], typed: Box, asked: Typed, seed: int | None, out: Output) -> bool:
    """On each kernel: whether all bytes were right."""
    check_columns(MixReport, out.columns)
    number = seed_of(seed)
    runs, total = compare_mix(kernels, with_paging(typed, kernels), number, maker(workload, asked, number))
    return _all_right(runs, total, _kernel_of, lambda rows: emit(MixReport(rows), *out))


def nonlinear_user(kernels: list[str], typed: Box, out: Output) -> bool:
    """Each kernel with a window in order, and with one that is remapped: whether all bytes were right."""
    check_columns(NonlinearUserReport, out.columns)
    runs, total = compare_nonlinear_user(kernels, with_paging(typed, kernels))
    name = "{0.kernel}, {0.window}".format
    return _all_right(runs, total, name, lambda rows: emit(NonlinearUserReport(rows), *out))


def rmap_test(kernels: list[str], indexes: list[str], typed: Box, out: Output) -> bool:
    """Each kernel with each index, or its own: whether all bytes were right."""
    check_columns(RmapTestReport, out.columns)
    runs, total = compare_rmap_test(kernels, indexes, with_paging(typed, kernels))
    return _all_right(runs, total, "{0.kernel}, {0.index}".format, lambda rows: emit(RmapTestReport(rows), *out))


def _kernel_of(row: BeyondRow) -> str:
    return row.kernel


def _all_right(runs: Iterator[B], total: int, name: Callable[[B], str], show: Callable[[Sequence[B]], None]) -> bool:
    """Make the runs and show them: whether all bytes were right."""
    found: Sequence[B] = []

    def shown(rows: Sequence[B]) -> None:
        nonlocal found
        found = rows
        show(rows)

    gather(runs, "the first kernel", total, lambda row: f"{name(row)}: {row.outcome}", shown)
    return all(row.outcome != WRONG for row in found)
