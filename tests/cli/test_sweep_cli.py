"""`rmaplab sweep memory`: what is printed and written; mistakes are one line and exit code 2."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest

from rmaplab.cli import main

SMALL = ("--children", "1,10", "--vmas", "1,2,3", "--ram", "128M")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["sweep", *arguments])
    out, err = capsys.readouterr()
    code = exit_.value.code
    assert isinstance(code, int)
    return code, out, err


def need_matplotlib() -> None:
    """Skip where it is missing, unless everything is required."""
    try:
        import matplotlib as mpl

        del mpl
    except ImportError:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip("matplotlib is not installed: pip install 'rmaplab[plot]'")


def test_the_table_and_where_the_order_turns(capsys: pytest.CaptureFixture[str]) -> None:
    """With 1 child and 1 VMA 2 * 28 bytes against 36; the turns are those of 28 (C + 1) against 12 V (C + 2)."""
    code, out, err = run(capsys, "memory", *SMALL)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["2.6.5-rc1+anonmm", "anonmm", "2", "48", "0", "8", "56", "1.56", "4", "KiB", "12", "KiB"] in rows
    assert ["2.6.5-rc1-aa1", "anon_vma", "1", "12", "24", "0", "36", "1.00", "4", "KiB", "12", "KiB"] in rows
    said = out[out.index("anonmm or anon_vma") :].splitlines()
    assert said[1:3] == [
        "  with 1 child: anon_vma is cheaper at 1, anonmm is cheaper from 2 VMAs per process on",
        "  with 10 children: anon_vma is cheaper up to 2, anonmm is cheaper from 3 VMAs per process on",
    ]


def test_a_turn_between_two_measured_numbers_is_said_to_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--children", "1", "--vmas", "1,10", "--kernels", "2.6.5-rc1+anonmm,2.6.5-rc1-aa1", "--ram", "128M")
    _, out, _ = run(capsys, "memory", *arguments)
    assert "anonmm is cheaper from 10 VMAs per process on (it turns between 1 and 10)" in out


def test_kernels_of_one_design_are_called_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "memory", *SMALL, "--kernels", "2.6.2,2.6.5-rc1")
    assert "2.6.2 or 2.6.5-rc1, in total:" in out
    assert "both are equal at every number of VMAs per process measured" in out


def test_a_design_that_takes_nothing_has_no_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "memory", *SMALL, "--kernels", "2.4.21,2.6.2")
    assert code == 0
    assert "virtual_scan is cheaper at every number" in out


def test_what_is_skipped_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "memory", *SMALL, "--limit", "10", "--format", "csv")
    assert code == 0
    assert err == "rmaplab: skipped, more than 10 children x VMAs: 10 x 2, 10 x 3 (see --limit)\n"
    places = {(row["children"], row["vmas"]) for row in csv.DictReader(io.StringIO(out))}
    assert places == {("1", "1"), ("1", "2"), ("1", "3"), ("10", "1")}


def test_json_and_csv_say_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    code, out, _ = run(capsys, "memory", *SMALL, "--format", "json", "--output", str(path))
    assert (code, out) == (0, "")
    points = json.loads(path.read_text())["rows"]
    _, out, _ = run(capsys, "memory", *SMALL, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(points) == len(rows) == 3 * 2 * 3
    assert [str(point["total_bytes"]) for point in points] == [row["total_bytes"] for row in rows]
    assert [point["hardware"]["arch"] for point in points] == [row["hardware.arch"] for row in rows]
    assert points == sorted(points, key=lambda point: (point["children"], point["vmas"]))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["png", "svg", "SVG"])
def test_a_plot_is_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    """A file of its kind, whole, and the same every time."""
    need_matplotlib()
    paths = [tmp_path / f"{name}.{form}" for name in ("one", "two")]
    for path in paths:
        code, out, err = run(capsys, "memory", *SMALL, "--plot", str(path))
        assert (code, err) == (0, "")
        assert "in total" in out
    one, two = (path.read_bytes() for path in paths)
    assert one.startswith(b"\x89PNG\r\n" if form == "png" else b"<?xml")
    assert one == two
    assert sorted(tmp_path.iterdir()) == paths


def test_a_plot_of_one_point(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    need_matplotlib()
    path = tmp_path / "point.png"
    code, _, _ = run(capsys, "memory", "--children", "2", "--vmas", "2", "--ram", "128M", "--plot", str(path))
    assert code == 0
    assert path.stat().st_size > 1000


def test_a_plot_of_nothing_to_draw(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """2.4 takes no bytes, and a logarithmic axis has no zero: one line, and no file."""
    need_matplotlib()
    path = tmp_path / "nothing.png"
    code, _, err = run(capsys, "memory", *SMALL, "--kernels", "2.4.21", "--plot", str(path))
    assert (code, err.count("\n")) == (2, 1)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "rmaplab.report.plots", raising=False)
    code, out, err = run(capsys, "memory", *SMALL, "--plot", str(tmp_path / "a.png"))
    assert (code, out) == (2, "")
    assert err == "rmaplab: --plot needs matplotlib: install it with pip install 'rmaplab[plot]'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["memory", "--children", "x"],
        ["memory", "--children", ""],
        ["memory", "--children", "0"],
        ["memory", "--vmas", "-1"],
        ["memory", "--vmas", "1.5"],
        ["memory", "--vmas", "100000"],
        ["memory", "--children", "40000"],
        ["memory", "--children", "10", "--vmas", "10", "--limit", "99"],
        ["memory", "--limit", "0"],
        ["memory", "--kernels", "2.7.0"],
        ["memory", "--kernels", ","],
        ["memory", "--paging", "vax"],
        ["memory", "--ram", "8M"],
        ["memory", "--children", "5000", "--vmas", "1", "--ram", "64M"],
        ["memory", "--format", "xml"],
        ["memory", "--output", "/nonexistent/x"],
        ["memory", "--plot", "a.pdf"],
        ["memory", "--plot", "/nonexistent/a.png"],
        ["memory", "--plot", "a.png", "--output", "a.png"],
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("rmaplab: ")
    assert err.count("\n") == 1
