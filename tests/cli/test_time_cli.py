"""Simulated time as a user types it: compare's second table, several boxes, the plot, and `rmaplab fit`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import rmaplab.lab.announcement.baselines as lab
from rmaplab.cli import main
from rmaplab.kernels.box import announced
from rmaplab.kernels.prices import CHOSEN, MODELS, price_books

ALL = "2.4.21,2.6.2,2.6.5-rc1-aa1"


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that goes well prints."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert not stop.value.code
    return capsys.readouterr().out


def test_compare_ends_with_predicted_beside_published(capsys: pytest.CaptureFixture[str]) -> None:
    """The announcement's row for aa1 at level 7: 12.07 s real, 21.62 user, 22.10 sys, each beside ours and how far it is off."""
    out = output(capsys, "compare", "forkbench", "--levels", "6,7", "--kernels", "2.6.5-rc1-aa1")
    last = out[out.index("published") :]
    (row,) = [line.split() for line in last.splitlines() if line.split()[:2] == ["7", "2.6.5-rc1-aa1"]]
    assert [row[3], row[6], row[9]] == ["12.07", "21.62", "22.10"]
    for ours, theirs, off_by in (row[2:5], row[5:8], row[8:11]):
        assert 100 * (float(ours) / float(theirs) - 1) == pytest.approx(float(off_by.rstrip("%")), abs=0.1)
    for baseline in ("twice level 6", "one price per entry", "as published"):
        assert baseline in out


def test_json_has_both_times(capsys: pytest.CaptureFixture[str]) -> None:
    """published_s is null where nothing was published: of this kernel, this level or such a box."""
    rows = json.loads(
        output(capsys, "compare", "forkbench", "--levels", "6", "--kernels", "2.4.21", "--format", "json")
    )["rows"]
    assert rows[0]["published_s"] == pytest.approx({"real": 6.616, "user": 11.23, "sys": 10.91})
    assert rows[0]["time_s"].keys() == {"real", "user", "sys"}
    assert rows[0]["prices"] == "2004"
    for more in (["--levels", "1"], ["--levels", "6", "--cpus", "8"]):
        (row,) = json.loads(output(capsys, "compare", "forkbench", "--kernels", "2.4.21", "--format", "json", *more))[
            "rows"
        ]
        assert row["published_s"] is None
        assert row["time_s"]["real"] > 0


def test_several_boxes_show_how_it_scales(capsys: pytest.CaptureFixture[str]) -> None:
    """A row per number of CPUs and way to share cores; speed-up 1 at first, and never more than there are CPUs."""
    out = output(capsys, "compare", "forkbench", "--levels", "5", "--kernels", "2.6.2", "--cpus", "1,2,8")
    rows = [line.split() for line in out.splitlines() if line.split()[:2] == ["5", "2.6.2"]]
    assert [row[2] for row in rows] == ["1", "2", "8"]
    assert rows[0][5:7] == ["1.00", "100%"]
    assert 1 < float(rows[1][5]) <= 2
    assert float(rows[1][5]) < float(rows[2][5]) <= 8
    assert "PG_chainlock" in out
    assert "~zone_lock" in out
    out = output(capsys, "compare", "forkbench", "--levels", "3", "--kernels", "2.6.2", "--ht", "blind,aware")
    assert ["blind" in out, "aware" in out, "2004-ht" in out] == [True] * 3


def test_the_plot_has_lines_and_rings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A PNG of some size; the SVG names each kernel once in each panel, and is the same file in every run."""
    pytest.importorskip("matplotlib")
    png, svg, again = (tmp_path / name for name in ("a.png", "a.svg", "b.svg"))
    for file in (png, svg, again):
        output(capsys, "compare", "forkbench", "--levels", "2,3", "--kernels", ALL, "--plot", str(file))
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert text == again.read_text()
    for kernel in ALL.split(","):
        assert text.count(f'<g id="{kernel}">') >= 1
        assert text.count(f"<!-- {kernel} -->") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.svg"]


def test_fit_prints_and_saves_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chosen model on four CPUs: parameters, rank, nine residuals, and the file that the package would load."""
    monkeypatch.setattr(lab, "fits_to_show", lambda: [partial(lab.judge_fit, MODELS[CHOSEN], announced())])
    saved, report = tmp_path / "prices.json", tmp_path / "fit.json"
    out = output(capsys, "fit", "--save", str(saved), "--format", "json", "--output", str(report))
    assert out == ""
    (found,) = json.loads(report.read_text())["rows"]
    assert (found["rank"], len(found["parameters_ns"]), len(found["figures"])) == (5, 5, 9)
    assert found["settled"]
    books = json.loads(saved.read_text())
    assert list(books) == ["2004"]
    assert books["2004"]["parameters_ns"] == found["parameters_ns"]
    assert books["2004"]["parameters_ns"].keys() == price_books()["2004"].parameters_ns.keys()


def test_fit_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter with its price, every figure of level 6 with what is left, and the model beside the baseline."""
    monkeypatch.setattr(lab, "fits_to_show", lambda: [partial(lab.judge_fit, MODELS[CHOSEN], announced())])
    out = output(capsys, "fit")
    for parameter in MODELS[CHOSEN].parameters:
        assert parameter.about in out
    assert out.count("real") >= 3
    assert "Rank 5" in out
    assert "twice level 6" in out
