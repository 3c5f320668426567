"""The plot of `rmaplab compare`: time and memory over levels, kernels as lines, published runs as rings on top."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.experiment import Result
from rmaplab.lab.announcement.published import FIGURES, FORKBENCH
from rmaplab.report.plots import STYLE, Line, legend, looks, save_plot
from rmaplab.report.results import describe_box
from rmaplab.units import format_size

BASE = 2
MIB = 1 << 20


def plot_times(results: Sequence[Result], box: Box, path: Path) -> None:
    """Three panels: real time, system time, memory. Raises UsageError without a run that went well, or if it cannot be written."""
    done = [result for result in results if result.outcome == "ok" and result.time_s is not None]
    if not done:
        raise UsageError("--plot has nothing to draw: no run ended well, try --levels 6,7")
    levels = sorted({result.level for result in done})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 4.7))
        panels: list[Axes] = list(figure.subplots(1, 3))
        for axes, what, title in zip(panels, ("real", "sys"), ("real time", "system time"), strict=False):
            _panel(axes, _lines(done, partial(_seconds, what)), levels)
            _rings(axes, done, what)
            axes.set_title(f"{title}, simulated seconds")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        _panel(panels[2], _lines(done, _memory) + _lines(done, _rmap, dashed=True), levels)
        panels[2].set_title("page tables and reverse map at peak;\ndashed: the reverse map alone")
        panels[2].yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_size(value)))
        figure.text(0.01, 0.955, "The fork benchmark of March 2004", fontsize=11, weight="bold")
        prices = f"price list {done[0].prices}, fitted to level 6"
        rings = "; rings: the announcement's runs" if any(result.published_s for result in done) else ""
        figure.text(0.01, 0.912, f"{describe_box(box)}; {prices}{rings}")
        figure.subplots_adjust(left=0.05, right=0.985, bottom=0.115, top=0.79, wspace=0.24)
        for axes in panels:
            legend(axes)
        save_plot(figure, path)


def _seconds(what: str, result: Result) -> float:
    return (result.time_s or {})[what]


def _memory(result: Result) -> float:
    memory: dict[str, Any] = result.memory_peak_bytes or {}
    return float(memory["page_tables"] + memory["rmap"])


def _rmap(result: Result) -> float:
    """Only where it can be seen beside page tables."""
    size = (result.memory_peak_bytes or {})["rmap"]
    return float(size) if size >= MIB else 0.0


def _lines(results: Sequence[Result], value: Callable[[Result], float], *, dashed: bool = False) -> list[Line]:
    lines = []
    for kernel, look in looks(dict.fromkeys(result.kernel for result in results)).items():
        mine = sorted((result.level, value(result)) for result in results if result.kernel == kernel)
        shown = [(level, y) for level, y in mine if y > 0]
        if shown:
            xs, ys = zip(*shown, strict=True)
            lines.append(Line("" if dashed else kernel, look, dashed, xs, ys))
    return lines


def _panel(axes: Axes, lines: Sequence[Line], levels: Sequence[int]) -> None:
    for line in lines:
        line.draw(axes, markersize=4.0)
    axes.set_yscale("log", base=BASE)
    axes.xaxis.set_major_locator(FixedLocator(levels))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(levels[0] - 0.25, levels[-1] + 0.25)
    axes.set_xlabel("level: 2^level processes")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)


def _rings(axes: Axes, results: Sequence[Result], what: str) -> None:
    """Each published run, in its kernel's colour."""
    look = looks(dict.fromkeys(result.kernel for result in results))
    for result in results:
        if result.published_s is None:
            continue
        for run in FORKBENCH[result.kernel, result.level].runs_ms:
            seconds = run[FIGURES.index(what)] / 1000
            axes.plot(
                [result.level],
                [seconds],
                linestyle="",
                marker="o",
                markersize=9.0,
                markerfacecolor="none",
                markeredgecolor=look[result.kernel][0],
                markeredgewidth=1.1,
                label="_",
            )
