"""The plot of swapload: a panel for each count, a bar for each kernel."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rmaplab.lab.costs.swapload import SwaploadRow
from rmaplab.report.plots import STYLE, looks, save_plot
from rmaplab.report.swapload import COUNTS

PANELS = (
    "pages in",
    "pages out",
    "scanned per freed",
    "entries per freed",
    "visits useful",
    "in vain",
    "allocstalls",
    "s, believed",
)
COLUMNS = 4


def plot_swapload(rows: Sequence[SwaploadRow], path: Path) -> None:
    """Bars, each panel with a scale of its own; with several bursts a bar for each. Raises UsageError where it cannot be written."""
    look = looks(dict.fromkeys(row.kernel for row in rows))
    several = len({row.burst_tables for row in rows}) > 1
    areas = ["" if row.crypt is None else f" behind {row.crypt}" for row in rows]
    bursts = [f", {row.burst_tables}" if several else "" for row in rows]
    names = [f"{row.kernel}{area}{burst}" for row, area, burst in zip(rows, areas, bursts, strict=True)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.0, 1.6 + 2 * 0.28 * len(rows) + 1.4))
        panels = figure.subplots(2, COLUMNS, sharey=True).flat
        for panel, count in zip(panels, PANELS, strict=True):
            values = [COUNTS[count](row) or 0 for row in rows]
            panel.barh(names, values, color=[look[row.kernel][0] for row in rows])
            panel.set_title(count)
            panel.xaxis.set_major_locator(MaxNLocator(3))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
            panel.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
            panel.set_axisbelow(True)
        figure.axes[0].invert_yaxis()
        figure.suptitle("swapload: beyond RAM, by kernel", x=0.01, ha="left", fontsize=11, weight="bold")
        figure.tight_layout(rect=(0, 0, 1, 0.96))
        save_plot(figure, path)
