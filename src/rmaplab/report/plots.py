"""Plots, by matplotlib, which only this module, plot_times.py and boundary_plot.py import: lines are named where they end."""

from collections.abc import Callable, Sequence
from itertools import cycle
from math import log
from pathlib import Path
from typing import Any, NamedTuple

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
COLOURS = ("#0072B2", "#D55E00", "#007A5A", "#7A3E9D", "#8A6D00", "#444444")  # told apart by the colour-blind, too
MARKERS = "os^Dvp"
BASE = 4  # of the scale of bytes
LABEL_POINTS = 11.0  # between the middles of two labels
WIDTH_INCHES, HEIGHT_INCHES = 9.0, 4.7


class Line(NamedTuple):
    """One line of a panel. By its `name` the panel knows it again when it writes beside its end; "" for a line without."""

    name: str
    colour: str
    marker: str
    dashed: bool
    xs: tuple[int, ...]
    ys: tuple[float, ...]

    def draw(self, axes: Axes, **style: Any) -> None:
        """On a panel."""
        pattern = (0, (4, 2)) if self.dashed else "-"
        look: dict[str, Any] = {"color": self.colour, "marker": self.marker, "linestyle": pattern, "linewidth": 1.5}
        axes.plot(self.xs, self.ys, gid=self.name, **look, **style)


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
        figure.subplots_adjust(left=0.125, right=0.84, bottom=0.185, top=0.82, wspace=0.55)
        _name(left, figure)
        _name(right, figure)
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
        inside, zorder = ("white", 2) if line.dashed else (line.colour, 3)
        line.draw(axes, markersize=4.5, markerfacecolor=inside, zorder=zorder)
    axes.set_xscale("log")
    axes.set_yscale("log", base=BASE)
    axes.xaxis.set_major_locator(FixedLocator(_apart({place(point)[0] for point in points})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_size(value)))
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_xlabel(xlabel)
    title = _count(held[0], held_unit)
    axes.set_title(title if len(held) == 1 else f"{title}; dashed: {_count(held[1], held_unit)}")


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
    for (kernel, label), colour, marker in zip(labels_of(points).items(), cycle(COLOURS), cycle(MARKERS), strict=False):
        for other in held:
            mine = [point for point in points if point.kernel == kernel and place(point)[1] == other]
            pairs = sorted((place(point)[0], point.total_bytes) for point in mine if point.total_bytes)
            if pairs:
                xs, ys = zip(*pairs, strict=True)
                lines.append(Line(f"{label}|{other}", colour, marker, other != held[0], xs, ys))
    return lines


def _apart(values: set[int]) -> list[int]:
    """Values far enough apart on a logarithmic axis for their numbers to stand side by side."""
    kept: list[int] = []
    for value in sorted(values):
        if not kept or value >= 3 * kept[-1]:
            kept.append(value)
    return kept


def _count(number: int, unit: tuple[str, str]) -> str:
    return f"{number:,} {unit[0] if number == 1 else unit[1]}"


def _name(axes: Axes, figure: Figure) -> None:
    """Write each line's name beside its end, lines with the same end under one name, and no name on another."""
    ends: dict[tuple[float, str, str], list[int]] = {}
    x = max(float(line.get_xdata()[-1]) for line in axes.lines)  # type: ignore[index, arg-type]
    for line in axes.lines:
        label, _, held = str(line.get_gid()).rpartition("|")
        y = float(line.get_ydata()[-1])  # type: ignore[index, arg-type]
        ends.setdefault((y, label, str(line.get_color())), []).append(int(held))
    several = len({held for helds in ends.values() for held in helds}) > 1
    named = []
    for (y, label, colour), helds in sorted(ends.items()):
        named.append((y, f"{label} ({' or '.join(f'{held:,}' for held in helds)})" if several else label, colour))
    write_names(axes, figure, named, x, 8)


def write_names(axes: Axes, figure: Figure, ends: Sequence[tuple[float, str, str]], x: float, right: int) -> None:
    """`ends`, ascending: where a line ends, its name, its colour. At `x` and `right` points beside it; no name on another."""
    low, high = axes.get_ylim()
    scale = axes.get_position().height * figure.get_figheight() * 72 / log(high / low)
    heights = spread([log(y / low) * scale for y, _, _ in ends], LABEL_POINTS)
    for (y, name, colour), height in zip(ends, heights, strict=True):
        offset = (right, height - log(y / low) * scale)
        axes.annotate(
            name, (x, y), offset, textcoords="offset points", color=colour, va="center", annotation_clip=False
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights, moved apart to `gap` and no further than needed: groups that touch share the way."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _foot(groups[-1], gap) < _foot(groups[-2], gap) + len(groups[-2]) * gap:
            last = groups.pop()
            groups[-1] += last
    return [_foot(group, gap) + i * gap for group in groups for i in range(len(group))]


def _foot(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2
