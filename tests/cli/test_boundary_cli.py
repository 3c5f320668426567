"""rmaplab boundary: mistakes in one line, the map, the plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rmaplab.cli import main as console_script
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.boundary import Demand


def main(arguments: list[str]) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as done:
        console_script(arguments)
    return int(done.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--boot-use", "much"], "much"),
        (["--boot-use", ","], "boot use"),
        (["--highpte", "maybe"], "yes, no"),
        (["--lines", "16"], "32, 64, 128"),
        (["--overcommit", "3"], "0, 1, 2"),
        (["--schedulers", "cfs"], "short-slices"),
        (["--swap-step", "1K"], "whole MiB"),
        (["--swap-step", "1M", "--swap-most", "4G"], "--swap-step 128M"),
        (["--swap-step", "32M", "--swap-most", "128G"], "try --swap-step 4G"),
        (["--boot-use", "2G"], "try --ram 4G"),
        (["--plot", "map.jpg"], ".svg"),
        (["--boot-use", "900M"], "too small"),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boundary", *arguments]) == 2
    captured = capsys.readouterr()
    assert hint in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs are those of level 2 on a smaller box: the same code, a twentieth of the time."""
    from rmaplab.lab.announcement import boundary

    def smaller(kernel: str, level: int, box: Box, scheduler: str) -> Demand:
        return real(kernel, level - 5, box, scheduler)

    real = boundary.demand_of
    monkeypatch.setattr(boundary, "demand_of", smaller)


@pytest.mark.usefixtures("quick")
def test_the_map(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A line per boot use in each of the two maps, a letter per step of swap, the window beside it; the plot is a file."""
    plot = tmp_path / "map.svg"
    arguments = ["boundary", "--ram", "700M", "--boot-use", "20M,38M", "--swap-most", "256M", "--plot", str(plot)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if "  as published" in line and "MiB  " in line]
    assert len(rows) == 4
    for line in rows:
        assert set(line.split()[2]) <= set("#789+sen")
        assert len(line.split()[2]) == 9
    assert plot.read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.usefixtures("quick")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes, errnos by name, one object a row."""
    assert main(["boundary", "--ram", "700M", "--boot-use", "38M", "--highpte", "no", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["rows"]
    assert found["boot_use_bytes"] == 38 << 20
    assert set(found["runs"]) == {"2.6.2 level 7", "2.6.2 level 8", "2.6.5-rc1-aa1 level 9"}
