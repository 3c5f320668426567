"""Plots, by matplotlib, which only this module, plot_times.py and boundary_plot.py import.

A kernel has one colour and one marker in all plots (`looks`); legends stand inside the axes, where the lines leave most room.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rmaplab.errors import UsageError
from rmaplab.files import write_whole
from rmaplab.lab.costs.sweep import MemoryPoint
from rmaplab.report.sweep import describe, labels_of, page_lines
from rmaplab.units import format_size

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.hashsalt": "rmaplab",  # the same plot is the same file
}
Look = tuple[str, str]
"""A colour and a marker."""
LOOKS: dict[str, Look] = {  # told apart by the colour-blind, too
    "2.4.21": ("#0072B2", "o"),
    "2.6.2": ("#D55E00", "s"),
    "2.6.5-rc1": ("#8A6D00", "v"),
    "2.6.5-rc1+anonmm": ("#3A9BD9", "P"),
    "2.6.5-rc1-aa1": ("#007A5A", "^"),
    "6.18": ("#7A3E9D", "D"),
    "host": ("#444444", "p"),
}
OTHER_LOOKS: tuple[Look, ...] = (
    ("#C2558B", "X"),
    ("#6B3F1D", "*"),
    ("#9AA500", "h"),
    ("#000000", "d"),
)
MORE_ROOM = 0.12  # of what the lines take, for each name
BASE = 4  # of the scale of bytes
WIDTH_INCHES, HEIGHT_INCHES = 9.0, 4.7


class Line(NamedTuple):
    """One line of a panel. `name` stands in the legend; "" for a line that the legend says nothing of."""

    name: str
    look: Look
    dashed: bool
    xs: tuple[int, ...]
    ys: tuple[float, ...]

    def draw(self, axes: Axes, **style: Any) -> None:
        """On a panel."""
        pattern = (0, (4, 2)) if self.dashed else "-"
        colour, marker = self.look
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": pattern, "linewidth": 1.5}
        axes.plot(self.xs, self.ys, label=self.name or "_", gid=self.name, **look, **style)  # matplotlib leaves "_" out


def looks(kernels: Iterable[str]) -> dict[str, Look]:
    """Of each kernel, the same in every plot; a composition's is chosen by its name, another one if two in the plot have the same."""
    found = {name: LOOKS[name] for name in kernels if name in LOOKS}
    for name in sorted(set(kernels) - found.keys()):
        first = crc32(name.encode()) % len(OTHER_LOOKS)
        choice = OTHER_LOOKS[first:] + OTHER_LOOKS[:first]
        found[name] = next((look for look in choice if look not in found.values()), choice[0])
    return found


def legend(axes: Axes) -> None:
    """Inside, where the lines leave most room; more is made above them, on a logarithmic axis, for more than a few names."""
    low, high = axes.dataLim.intervaly
    more = MORE_ROOM * max(0, len(axes.get_legend_handles_labels()[0]) - 3)
    if more and low < high:
        axes.set_ylim(top=max(axes.get_ylim()[1], high * (high / low) ** more))
    axes.legend(loc="best", fontsize=8, framealpha=0.85, edgecolor="#dddddd")


def save_plot(figure: Figure, path: Path) -> None:
    """Write it, as the ending of the file's name says; whole or not at all. Raises UsageError."""
    form = path.suffix.lower().lstrip(".")
    metadata = {"Date": None} if form == "svg" else {}
    write_whole(path, "--plot", lambda part: figure.savefig(part, format=form, dpi=160, metadata=metadata))


def plot_memory_sweep(points: Sequence[MemoryPoint], path: Path) -> None:
    """Two panels, total bytes over children and over VMAs per process.

    Raises UsageError where every total is 0, for a logarithmic axis cannot show it, or where it cannot be written.
    """
    if not any(point.total_bytes for point in points):
        raise UsageError("--plot has nothing to draw: these kernels keep no reverse map, name one that does")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES))
        left, right = figure.subplots(1, 2, sharey=True)
        _panel(left, points, lambda point: (point.children, point.vmas), "children, all alive", ("VMA", "VMAs"))
        _panel(right, points, lambda point: (point.vmas, point.children), "VMAs per process", ("child", "children"))
        left.set_ylabel("objects + bytes added to VMAs and mms")
        figure.text(0.01, 0.955, "Memory that reverse maps take", fontsize=11, weight="bold")
        figure.text(0.01, 0.912, f"measured on {describe(points[0])}; VMAs of one page each")
        figure.text(0.01, 0.02, "\n".join(page_lines(points)), fontsize=8)
        figure.subplots_adjust(left=0.125, right=0.975, bottom=0.185, top=0.82, wspace=0.12)
        save_plot(figure, path)


def _panel(
    axes: Axes,
    points: Sequence[MemoryPoint],
    place: Callable[[MemoryPoint], tuple[int, int]],
    xlabel: str,
    held_unit: tuple[str, str],
) -> None:
    """The lines of a panel: the least of what is held, and dashed the most that was measured over the whole axis."""
    held = _held([place(point) for point in points])
    for line in _lines(points, place, held):
        inside, zorder = ("white", 2) if line.dashed else (line.look[0], 3)
        line.draw(axes, markersize=4.5, markerfacecolor=inside, zorder=zorder)
    axes.set_xscale("log")
    axes.set_yscale("log", base=BASE)
    axes.xaxis.set_major_locator(FixedLocator(apart({place(point)[0] for point in points})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_size(value)))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_xlabel(xlabel)
    title = _count(held[0], held_unit)
    axes.set_title(title if len(held) == 1 else f"{title}; dashed: {_count(held[1], held_unit)}")
    legend(axes)


def _held(places: Sequence[tuple[int, int]]) -> list[int]:
    """What the other axis is held at: its least value, and the greatest that goes as far."""
    reach: dict[int, int] = {}
    for x, other in places:
        reach[other] = max(reach.get(other, 0), x)
    least = min(reach)
    greatest = max(other for other in reach if reach[other] >= reach[least])
    return [least] if greatest == least else [least, greatest]


def _lines(
    points: Sequence[MemoryPoint], place: Callable[[MemoryPoint], tuple[int, int]], held: Sequence[int]
) -> list[Line]:
    lines = []
    labels = labels_of(points)
    look = looks(labels)
    for kernel, label in labels.items():
        for other in held:
            mine = [point for point in points if point.kernel == kernel and place(point)[1] == other]
            pairs = sorted((place(point)[0], point.total_bytes) for point in mine if point.total_bytes)
            if pairs:
                xs, ys = zip(*pairs, strict=True)
                dashed = other != held[0]
                lines.append(Line("" if dashed else label, look[kernel], dashed, xs, ys))
    return lines


def apart(values: set[int]) -> list[int]:
    """Values far enough apart on a logarithmic axis for their numbers to stand side by side."""
    kept: list[int] = []
    for value in sorted(values):
        if not kept or value >= 3 * kept[-1]:
            kept.append(value)
    return kept


def _count(number: int, unit: tuple[str, str]) -> str:
    return f"{number:,} {unit[0] if number == 1 else unit[1]}"
