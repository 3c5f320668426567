"""The plot of localmalloc: what page_referenced visits as children become more, a panel for each case, a line for each kernel."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rmaplab.lab.costs.localmalloc import LocalMallocRow
from rmaplab.report.plots import STYLE, Line, apart, looks, save_plot

COLUMNS, PANEL_INCHES = 4, 2.9
LARGEST, SMALLER = (
    9.0,
    1.8,
)  # marker of the first line, and by how much the next is smaller: those upon each other show as rings in rings


def plot_localmalloc(rows: Sequence[LocalMallocRow], path: Path) -> None:
    """Visits of page_referenced over children, logarithmic both. Raises UsageError where it cannot be written."""
    cases = list(dict.fromkeys(row.case for row in rows))
    kernels = list(dict.fromkeys(row.kernel for row in rows))
    look = looks(kernels)
    nr_lines = -(-len(cases) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMNS * PANEL_INCHES, nr_lines * PANEL_INCHES + 1.2))
        panels = figure.subplots(nr_lines, COLUMNS, squeeze=False, sharex=True, sharey=True).flat
        for panel, case in zip(panels, cases, strict=False):
            for nr, kernel in enumerate(kernels):
                mine = sorted(
                    (row.children, row.referenced_visits) for row in rows if (row.case, row.kernel) == (case, kernel)
                )
                xs, ys = zip(*mine, strict=True)
                line = Line(kernel, look[kernel], nr > 0, xs, ys)
                line.draw(panel, markersize=max(LARGEST - SMALLER * nr, 3.0), markerfacecolor="none")
            panel.set_title(case)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.xaxis.set_major_locator(FixedLocator(apart({row.children for row in rows})))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_minor_locator(NullLocator())
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            panel.grid(visible=True, color="#dddddd", linewidth=0.6)
        handles = figure.axes[0].get_legend_handles_labels()
        for unused in figure.axes[len(cases) :]:
            unused.set_axis_off()
        figure.text(0.01, 0.955, "Local malloc in a process group", fontsize=11, weight="bold")
        figure.text(0.01, 0.915, "what page_referenced visits to ask one page, over the number of children")
        figure.legend(*handles, loc="lower right", fontsize=8, frameon=False)
        figure.subplots_adjust(left=0.06, right=0.985, bottom=0.07, top=0.85, wspace=0.08, hspace=0.25)
        save_plot(figure, path)
