"""`rmaplab run --vmstat`: where its lines go, and what is no time."""

from __future__ import annotations

import json

import pytest

from rmaplab.cli import main

RUN = ("run", "forkbench", "--kernel", "2.6.7", "--level", "1")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as stop:
        main([*RUN, *arguments])
    captured = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, captured.out, captured.err


def test_before_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of the simulated run, then what there would be without them, but for our own running time."""
    _, plain, _ = run(capsys)
    code, out, err = run(capsys, "--vmstat", "0.5")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split()[:2] == ["r", "b"]
    rows = [line.split() for line in lines[2:] if line[:2].strip().isdigit()]
    assert {len(row) for row in rows} == {16}
    without_wall = [line for line in lines if "our running time" not in line]
    assert without_wall[2 + len(rows) :] == [line for line in plain.splitlines() if "our running time" not in line]
    real = next(float(line.split()[2]) for line in lines if line.split()[:2] == ["real", "time"])
    assert len(rows) == 1 + int(real / 0.5)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_beside_what_programs_read(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """On stderr."""
    code, out, err = run(capsys, "--vmstat", "1", "--format", form)
    assert code == 0
    assert err.startswith("procs ---")
    assert "procs" not in out
    if form == "json":
        assert json.loads(out)["rows"][0]["outcome"] == "ok"


@pytest.mark.parametrize("word", ["x", "0", "-1", "nan", "inf", "1e-12", "", "1s"])
def test_what_is_no_time(capsys: pytest.CaptureFixture[str], word: str) -> None:
    """One line, and 2."""
    code, out, err = run(capsys, "--vmstat", word)
    assert (code, out) == (2, "")
    assert err == f"rmaplab: --vmstat {word!r}: give a number of seconds above 0, such as 1 or 0.1\n"
