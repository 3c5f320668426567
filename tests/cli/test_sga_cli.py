"""`rmaplab compare sga`: what is printed and refused."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from rmaplab.cli import main
from rmaplab.cli.work import progress
from rmaplab.report import emit, tables

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
    "why",
    "per_user_bytes",
    "zones_bytes",
    "swap",
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
    assert out.count(" (run)  ") == 2
    assert "(from " not in out
    _, out, _ = run(capsys, *words[:-1], "5", "--split", "2:2")
    assert out.count(" (from 5)  ") == 2
    assert "chain blocks come in rounds" in out


def test_on_80_columns_a_row_still_says_that_it_is_arithmetic(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of users says so itself: no column that says it can be left out."""
    monkeypatch.setattr(tables, "terminal_width", lambda: 80)
    monkeypatch.setattr(emit, "terminal_width", lambda: 80)
    code, out, _ = run(capsys, *SMALL, "--kernels", "2.6.2", "--split", "3:1")
    assert code == 0
    assert "not shown for width" in out
    assert max(map(len, out.splitlines())) <= 80
    assert " (from 20)" in out
    assert re.search(r"64 MiB +3:1 +2\.6\.2 +20 ", out)  # memory after 20 users


def test_x86_64_has_one_memory_and_no_highpte(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor a split, so that one which was typed is refused (below)."""
    code, out, _ = run(capsys, *SMALL, "--kernels", "2.6.2,6.18")
    assert code == 0
    assert "on x86-64, 128-byte" in out
    assert not any(word in out for word in ("HIGHPTE", "low", "high", "3:1"))
    _, out, _ = run(
        capsys, "--ram", "64M", "--segment", "16M", "--kernels", "2.6.2", "--paging", "x86-64", "--no-highpte"
    )
    assert " (run) " in out
    assert "a kernel stack  " in out
    assert "low memory" not in out


def test_the_help_says_what_sga_has_where_nothing_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    words = " ".join(out.split())
    assert code == 0
    for says in ("its default is 8G", "sga's default is 0", "its default on i386 is 3:1,4:4"):
        assert says in words
    assert words.count("(forkbench alone)") == 2


def test_who_waits_is_told_of_the_users_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each of them, on the bar."""
    said: list[str] = []
    monkeypatch.setattr(progress.Meanwhile, "__call__", lambda _, text: said.append(text))
    run(capsys, *SMALL[:-1], "3", "--kernels", "2.6.2", "--split", "3:1")
    assert said == [f"2.6.2, 3:1: {nr} users so far" for nr in (1, 2, 3)]


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
    (row,) = [line for line in out.splitlines() if "ENOSYS" in line]
    assert re.search(r"virtual_scan +- +- +no such call +remap_file_pages: ENOSYS +- +- +- +-$", row)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--segment", "2.8G"], "--segment 2764M"),
        (["--segment", "2.7G", "--split", "2:2"], "--segment 1740M"),
        (["--segment", "huge"], "512M"),
        (["--segment", "2.7"], "--segment 2.7: say 2.7G (bytes must be whole numbers)"),
        (["--ram", "64M"], "a segment of 2.7 GiB is refused on 64 MiB: "),
        (["--ram", "64M"], "MiB are free, swap included; try more --ram or a smaller --segment"),
        (["--ram", "512M", "--segment", "300M", "--overcommit", "2"], "the limit of promises"),
        (["--paging", "x86-64", "--split", "3:1", "--kernels", "6.18"], "x86-64 has no split"),
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
    for workload in ("forkbench", "localmalloc", "mallocgroup", "manyvmas"):
        with pytest.raises(SystemExit) as stop:
            main(["compare", workload, option])
        assert stop.value.code == 2
        assert f"{workload} has no {option.partition('=')[0]}" in capsys.readouterr().err


def test_a_workload_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has those there are."""
    with pytest.raises(SystemExit):
        main(["compare", "sgb"])
    assert (
        "choose from forkbench, kbuild, localmalloc, mallocgroup, manyvmas, nonlinear-user, qsbench, rmap-test, sga, swapload\n"
        in capsys.readouterr().err
    )
