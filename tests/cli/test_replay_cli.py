"""`rmaplab replay`: what is printed; mistakes are one line and exit code 2, and nothing is written that was not asked for."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from rmaplab.cli import main

LOG = Path(__file__).parents[1] / "data/logs/prefork.log.gz"
SMALL = ("--kernels", "2.6.7,6.18", "--ram", "256M", "--no-check")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["replay", *arguments])
    out, err = capsys.readouterr()
    code = exit_.value.code
    assert isinstance(code, int)
    return code, out, err


def test_a_server_on_two_kernels(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, str(LOG), *SMALL)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines() if line.startswith((" 2.6.7", " 6.18"))] == ["2.6.7", "6.18"]
    assert "on x86-64 with 256 MiB of RAM; touched: used" in out
    assert list(tmp_path.iterdir()) == []


def test_json_and_csv_have_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, str(LOG), *SMALL, "--format", "json", "--over-time", "2")
    rows = json.loads(out)["rows"]
    _, out, _ = run(capsys, str(LOG), *SMALL, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [line["vmas_peak"] for line in lines] == [str(row["vmas_peak"]) for row in rows]
    assert [len(row["over_time"]) for row in rows] == [2, 2]


def test_what_help_says_of_the_box_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    _, said, _ = run(capsys, "--help")
    assert "[default: 2G]" in " ".join(said.split())
    assert "--reclaim" not in said
    _, out, _ = run(capsys, str(LOG), "--kernels", "2.6.7", "--no-check", "--format", "json")
    hardware = json.loads(out)["rows"][0]["hardware"]
    assert (hardware["ram_bytes"], hardware["swap_bytes"]) == (2 << 30, 0)


def test_paging_may_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(LOG), "--kernels", "2.6.2", "--paging", "i386-pae", "--ram", "256M")
    assert code == 0
    assert "on i386-pae with" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.log",), "cannot read nowhere.log (No such file or directory): give a log of strace"),
        (("/",), "/ is no file: give a log of strace"),
        (("/dev/null",), "/dev/null is no file"),
        ((__file__,), "is no log of strace: none of its"),
        ((str(LOG), "--kernels", "2.6.99"), "no kernel '2.6.99' (did you mean 2.6.7?)"),
        ((str(LOG), "--touch", "some"), "--touch 'some': choose from none, used, all"),
        ((str(LOG), "--ram", "8M"), "is too small"),
        ((str(LOG), "--reclaim"), "No such option '--reclaim'"),
        ((str(LOG), "--over-time", "1000000000"), "samples: ask for 0 to"),
        ((str(LOG), "--paging", "i386"), "6.18 does not run on i386 here"),
        ((str(LOG), "--plot", "x.pdf"), "give --plot a file that ends in .png or .svg"),
        ((), "Missing argument 'LOG'"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
