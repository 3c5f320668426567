"""The boundary as a plot: a panel per map, a colour for what happens, the default box as a ring."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.boundary import BoundaryRow
from rmaplab.report.boundary import BY_RUNS, MEANING, describe
from rmaplab.report.plots import STYLE, save_plot
from rmaplab.units import PAGE_SIZE, format_size, parse_size

COLOURS = {"#": "#007A5A", "7": "#D55E00", "8": "#0072B2", "9": "#8E5A83"}
COLOURS |= {"+": "#7FC8B0", "s": "#F3B489", "e": "#8FC0E2", "n": "#CFB3C9"}  # the same, paler: not certain
COLOURS |= {"k": "#E6C200", "h": "#333333"}  # of cells that were run to the end
ACROSS = 3
DEFAULT_BOOT_USE = 38 << 20  # image and boot use of the 2.6 kernels' figures
MIB = 1 << 20
LEAST_WIDTH = 5.4  # inches, for the longest line of the legend
LINE = 0.16  # of it


def plot_boundary(rows: Sequence[BoundaryRow], swaps: Sequence[int], box: Box, path: Path) -> None:
    """A panel per combination. Raises UsageError if it cannot be written."""
    panels = list(dict.fromkeys(row.panel for row in rows))
    uses = sorted({row.boot_use_bytes for row in rows})
    letters = list(COLOURS)
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    patches = _legend(rows)
    below = LINE * len(patches) + 0.55  # the legend, and what stands below the axes
    with mpl.rc_context(STYLE):
        width, height = max(3.1 * across + 1.2, LEAST_WIDTH), 0.55 + below + down * (0.9 + 0.28 * len(uses))
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, panel in zip(grid.flat, panels, strict=False):
            by_use = {row.boot_use_bytes: row for row in rows if row.panel == panel}
            cells = [[letters.index(by_use[use].cell(swap // PAGE_SIZE)) for swap in swaps] for use in uses]
            axes.imshow(
                np.array(cells),
                cmap=ListedColormap(list(COLOURS.values())),
                vmin=0,
                vmax=len(letters) - 1,
                aspect="auto",
            )
            axes.set_yticks(range(len(uses)), [format_size(use) for use in uses])
            ticks = [i for i, swap in enumerate(swaps) if swap % (256 * MIB) == 0]
            axes.set_xticks(ticks, [f"{swaps[i] // MIB}" for i in ticks])
            axes.set_title(describe(panel).replace(", scheduler", ",\nscheduler"), fontsize=8)
            if DEFAULT_BOOT_USE in uses and isinstance(box.swap, int | str) and (swap := parse_size(box.swap)) in swaps:
                place = swaps.index(swap), uses.index(DEFAULT_BOOT_USE)
                axes.plot(*place, "o", markersize=7, markerfacecolor="none", markeredgecolor="black")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("swap, MiB")
        for axes in grid[:, 0]:
            axes.set_ylabel("boot use")
        figure.text(0.02, 1 - 0.3 / height, "Where the announcement's outcome holds", fontsize=11, weight="bold")
        figure.text(0.02, 1 - 0.5 / height, f"{box.paging}, {box.ram} RAM, {box.cpus} CPUs; ring: the default box")
        figure.legend(handles=patches, loc="lower left", fontsize=7, frameon=False, bbox_to_anchor=(0.01, 0.0))
        figure.subplots_adjust(
            left=0.9 / width,
            right=0.98,
            bottom=below / height,
            top=1 - 1.0 / height,
            wspace=0.12,
            hspace=0.65,
        )
        save_plot(figure, path)


def _legend(rows: Sequence[BoundaryRow]) -> list[Patch]:
    """What the colours mean, a line each."""
    told = MEANING | (BY_RUNS if any(row.seen for row in rows) else {})
    patches = [Patch(color=COLOURS[letter], label=meaning) for letter, meaning in told.items()]
    return [*patches, Patch(color="#DDDDDD", label="paler: if swapping out moves pages and changes nothing else")]
