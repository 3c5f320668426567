"""The maps as a picture: nothing lies over anything else, however many maps and kinds of cells there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rmaplab
from rmaplab.kernels.box import announced
from rmaplab.lab.announcement.boundary import BoundaryRow, CellRun, Demand, Panel
from rmaplab.mm.overcommit import OvercommitMode, Request

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIB = 1 << 20


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("panels", [1, 2, 5])
def test_the_legend_fits_below_the_maps(panels: int, made: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from rmaplab.report import boundary_plot

    drawn = list["Figure"]()
    monkeypatch.setattr(boundary_plot, "save_plot", lambda figure, _: drawn.append(figure))
    rule = rmaplab.boot("2.6.2", ram="64M").kernel.overcommit
    demand = Demand(rule, (Request(256 * 256, 0, 0),), "ok")
    seen = {512 * 256: CellRun("#", ())} if made else {}
    kinds = [Panel(True, 32 << i, "own", OvercommitMode.HEURISTIC) for i in range(panels)]
    rows = [BoundaryRow(panel, use * MIB, demand, demand, demand, seen) for panel in kinds for use in (20, 38, 80)]
    boundary_plot.plot_boundary(rows, [mib * MIB for mib in range(0, 1025, 128)], announced(), Path("none.svg"))
    (figure,) = drawn
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
    assert len(legend.get_texts()) == (7 if made else 5)
    for axes in figure.axes:
        if axes.get_visible() and axes.get_xlabel():
            assert box.y1 <= axes.xaxis.label.get_window_extent().y0
