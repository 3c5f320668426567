"""`rmaplab compare sga`: what is printed and refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from rmaplab.cli import main

KEYS = [
    "kernel",
    "design",
    "hardware",
    "how",
    "segment_bytes",
    "users",
    "users_run",
    "arithmetic",
    "short_of",
    "then",
    "per_user_bytes",
    "zones_bytes",
    "published_users",
]
SMALL = ("--ram", "64M", "--segment", "4M", "--users", "20")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "sga", *arguments])
    out, err = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, out, err


def test_json_has_exactly_these_keys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The four kernels on 3:1 and 4:4, without swap; CSV says the same, into a file too."""
    code, out, err = run(capsys, *SMALL, "--format", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["made_by"]["command"] == ["rmaplab", "compare", "sga", *SMALL, "--format", "json"]
    assert [list(row) for row in found["rows"]] == [KEYS] * 8
    kernels = ["2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1"]
    assert [row["kernel"] for row in found["rows"]] == kernels * 2
    assert [row["hardware"]["split"] for row in found["rows"]] == ["3:1"] * 4 + ["4:4"] * 4
    assert {row["hardware"]["swap_bytes"] for row in found["rows"]} == {0}
    assert all(row["arithmetic"] and row["users_run"] == 20 < row["users"] for row in found["rows"])
    path = tmp_path / "sga.csv"
    assert run(capsys, *SMALL, "--format", "csv", "--output", str(path))[0] == 0
    again = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [int(row["users"]) for row in again] == [row["users"] for row in found["rows"]]


def test_the_table_says_what_is_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    """And what memory was used for; a box for each --ram and --split."""
    words = ("--kernels", "2.6.2", "--ram", "64M,96M", "--segment", "8M", "--no-highpte", "--users", "9999")
    code, out, _ = run(capsys, *words, "--split", "2:2")
    assert code == 0
    assert "a shared segment" in out
    assert "i386-pae without HIGHPTE" in out
    first, second = [line for line in out.splitlines() if "pte_chain" in line and "the OOM killer takes user 1" in line]
    assert first.startswith(" 64 MiB  2:2    8 MiB")
    assert second.startswith(" 96 MiB  2:2    8 MiB")
    assert "arithmetic, " not in out
    _, out, _ = run(capsys, *words[:-1], "5", "--split", "2:2")
    assert out.count("arithmetic, 5 run") == 2


def test_windows(capsys: pytest.CaptureFixture[str]) -> None:
    """Mapped in three ways; what is not there says so."""
    words = ("--windows", "--ram", "64M", "--segment", "1M", "--split", "3:1", "--kernels", "2.4.21,2.6.2")
    _, out, _ = run(capsys, *words, "--format", "json")
    rows = {(row["kernel"], row["how"]): row for row in json.loads(out)["rows"]}
    vmas = {key: round(row["per_user_bytes"]["vmas"] / 64) for key, row in rows.items()}
    assert [vmas["2.6.2", how] for how in ("windows, in order", "windows, backwards", "remap_file_pages")] == [1, 35, 1]
    assert vmas["2.4.21", "windows, in order"] == vmas["2.4.21", "windows, backwards"] > 32
    assert rows["2.4.21", "remap_file_pages"]["then"] == "remap_file_pages: ENOSYS"
    _, out, _ = run(capsys, *words)
    assert "windows, backwards" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--segment", "2.8G"], "--segment 2764M"),
        (["--segment", "2.7G", "--split", "2:2"], "--segment 1740M"),
        (["--segment", "huge"], "512M"),
        (["--users", "1"], "2 or more"),
        (["--ram", ","], "8G,16G"),
        (["--split", "3:2"], "3:1"),
        (["--ram", "128G"], "64 GiB"),
        (["--kernels", "2.6.8"], "2.6.2"),
        (["--levels", "3"], "sga has no --levels"),
        (["--tests", "test-mmap"], "sga has no --tests"),
        (["--plot", "x.svg"], "sga has no --plot"),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize("option", ["--windows", "--segment=1M", "--users=3"])
def test_options_of_sga_are_no_others(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The other workloads say so."""
    for workload in ("forkbench", "mallocgroup", "manyvmas"):
        with pytest.raises(SystemExit) as stop:
            main(["compare", workload, option])
        assert stop.value.code == 2
        assert f"{workload} has no {option.partition('=')[0]}" in capsys.readouterr().err
