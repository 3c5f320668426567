"""The plot of manyvmas: what walks visit as VMAs become more, a column for each test, a line for each kernel and index."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rmaplab.lab.costs.manyvmas import ManyVmasRow
from rmaplab.report.plots import STYLE, Line, apart, looks, save_plot

COLUMN_INCHES, HEIGHT_INCHES = 4.2, 6.4
LARGEST = 9.0  # marker of the first line: lines that lie upon each other show as rings in rings
SMALLER = 1.6


def plot_manyvmas(rows: Sequence[ManyVmasRow], path: Path) -> None:
    """Visits above, nodes of the index below. Raises UsageError where it cannot be written."""
    tests = list(dict.fromkeys(row.program.name for row in rows))
    names = _names(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(2, len(tests)) * COLUMN_INCHES, HEIGHT_INCHES))
        panels = figure.subplots(2, len(tests), squeeze=False, sharex="col", sharey="row")
        for (above, below), test in zip(panels.T, tests, strict=True):
            mine = [row for row in rows if row.program.name == test]
            lines = _lines(mine, names, lambda row: row.visits.referenced)
            lines += _lines(mine, names, lambda row: row.visits.unmap, dashed=True)
            _panel(above, lines, names)
            _panel(below, _lines(mine, names, lambda row: row.visits.nodes), names)
            above.set_title(test)
            below.set_xlabel("VMAs that map the file")
            below.xaxis.set_major_locator(FixedLocator(apart({row.program.nr_vmas for row in mine})))
        panels[0, 0].set_ylabel("visits of a walk from a page\n(dashed: by try_to_unmap)")
        panels[1, 0].set_ylabel("nodes of the index\nexamined for it")
        locked = ", all mappings locked" if any(row.unlocked is not None for row in rows) else ""
        figure.text(0.01, 0.965, f"One file, many VMAs{locked}", fontsize=11, weight="bold")
        figure.text(
            0.01, 0.935, "what page_referenced and try_to_unmap have visited, on average, up to the published size"
        )
        handles = panels[0, 0].get_legend_handles_labels()
        figure.legend(
            *handles, loc="lower center", ncols=min(len(names), 2 * max(2, len(tests))), fontsize=8, frameon=False
        )
        figure.subplots_adjust(
            left=0.95 / figure.get_figwidth(), right=0.985, bottom=0.15, top=0.87, wspace=0.08, hspace=0.1
        )
        save_plot(figure, path)


def _names(rows: Sequence[ManyVmasRow]) -> dict[tuple[str, str], str]:
    """By what each kernel and index is looked up: the kernel's name where it has one index, so that it looks as in other plots."""
    pairs = list(dict.fromkeys((row.kernel, row.index) for row in rows))
    kernels = [kernel for kernel, _ in pairs]
    return {(kernel, index): kernel if kernels.count(kernel) == 1 else f"{kernel}, {index}" for kernel, index in pairs}


def _lines(
    rows: Sequence[ManyVmasRow],
    names: dict[tuple[str, str], str],
    value: Callable[[ManyVmasRow], float | None],
    *,
    dashed: bool = False,
) -> list[Line]:
    look, lines = looks(names.values()), []
    for (kernel, index), name in names.items():
        mine = [(row.program.nr_vmas, value(row)) for row in rows if (row.kernel, row.index) == (kernel, index)]
        found = sorted((x, y) for x, y in mine if y)
        if found:
            xs, ys = zip(*found, strict=True)
            lines.append(Line("" if dashed else f"{kernel}, {index}", look[name], dashed, xs, ys))
    return lines


def _panel(axes: Axes, lines: Sequence[Line], names: dict[tuple[str, str], str]) -> None:
    order = {look: i for i, look in enumerate(looks(names.values()).values())}
    for line in lines:
        line.draw(axes, markersize=max(LARGEST - SMALLER * order[line.look], 3.0), markerfacecolor="none")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
