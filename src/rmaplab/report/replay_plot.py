"""The plot of a replay: VMAs, merges, page tables and reverse map over the log's calls, a line for each kernel."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.lab.replay.run import ReplayResult, ReplaySample
from rmaplab.report.plots import STYLE, looks, save_plot
from rmaplab.units import format_size

PANELS: dict[str, tuple[Callable[[ReplaySample], int], bool]] = {
    "VMAs of all processes": (lambda sample: sample.vmas, False),
    "merges of VMAs, so far": (lambda sample: sample.merges, False),
    "page tables": (lambda sample: sample.page_tables_bytes, True),
    "reverse map": (lambda sample: sample.rmap_bytes, True),
}
"""By title: what is drawn, and whether it is bytes."""


def plot_replay(results: Sequence[ReplayResult], name: str, path: Path) -> None:
    """Four panels. Raises UsageError where there are no samples, or it cannot be written."""
    if not any(result.over_time for result in results):
        raise UsageError("--plot has nothing to draw: the log was not played far enough for one sample")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 6.4))
        panels: list[Axes] = list(figure.subplots(2, 2, sharex=True).flat)
        for axes, (title, (value, is_size)) in zip(panels, PANELS.items(), strict=True):
            _draw(axes, results, value)
            axes.set_title(title)
            if is_size:
                axes.yaxis.set_major_locator(MultipleLocator(_step(results, value)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: format_size(size)))
        for axes in panels[2:]:
            axes.set_xlabel("calls of the program")
        panels[0].legend(loc="best", fontsize=8, framealpha=0.85, edgecolor="#dddddd")
        figure.text(0.01, 0.962, f"{_escaped(name)}, replayed", fontsize=11, weight="bold")
        first = results[0]
        ram = format_size(first.hardware["ram_bytes"])
        figure.text(0.01, 0.932, f"{first.hardware['arch']}, {ram} RAM; touched: {first.touch}")
        figure.subplots_adjust(left=0.085, right=0.985, bottom=0.08, top=0.875, wspace=0.2, hspace=0.2)
        save_plot(figure, path)


def _step(results: Sequence[ReplayResult], value: Callable[[ReplaySample], int]) -> int:
    """Bytes from one tick to the next: a power of two, for at most eight of them."""
    most = max((value(sample) for result in results for sample in result.over_time), default=0)
    return 1 << max(most // 8, 512).bit_length()


def _escaped(name: str) -> str:
    """A dollar begins a formula to matplotlib."""
    return printable(Path(name).name).replace("$", r"\$")


def _draw(axes: Axes, results: Sequence[ReplayResult], value: Callable[[ReplaySample], int]) -> None:
    look = looks(dict.fromkeys(result.kernel for result in results))
    for nr, result in enumerate(results):
        xs = [sample.calls for sample in result.over_time]
        ys = [value(sample) for sample in result.over_time]
        colour, marker = look[result.kernel]
        every = max(len(xs) // 8, 1)
        axes.plot(
            xs, ys, color=colour, marker=marker, markersize=4.0, markevery=(nr * every // len(results), every), linewidth=1.3, label=result.kernel
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda calls, _: f"{calls:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
