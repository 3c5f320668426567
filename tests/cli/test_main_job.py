"""The main job as a user types it: `rmaplab compare`, `run`, `kernels`, right and wrong."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rmaplab.cli import main

BOTH = "2.6.2,2.6.5-rc1-aa1"
KEYS = {"workload", "level", "kernel", "hardware", "outcome", "failed_call", "processes", "processes_peak"}
KEYS |= {"memory_peak_bytes", "ledger", "prices", "time_s", "published_s", "wall_s"}


def call(*arguments: str) -> int:
    """Run the command line in this process: its exit code."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    code = stop.value.code
    return code if isinstance(code, int) else 0


def results(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert call(*arguments, "--format", "json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return found


def test_json_has_what_the_issue_names(capsys: pytest.CaptureFixture[str]) -> None:
    """A list of objects, a row per level and kernel in the order asked for, with sizes in bytes and exact counts."""
    rows = results(capsys, "compare", "forkbench", "--levels", "2,1", "--kernels", BOTH)
    assert [(row["level"], row["kernel"]) for row in rows] == [
        (2, "2.6.2"),
        (2, "2.6.5-rc1-aa1"),
        (1, "2.6.2"),
        (1, "2.6.5-rc1-aa1"),
    ]
    for row in rows:
        assert row.keys() >= KEYS
        assert (
            row["hardware"].items()
            >= {"ram_bytes": 1 << 30, "swap_bytes": 512 << 20, "cpus": 4, "arch": "i386-pae"}.items()
        )
        assert (row["outcome"], row["failed_call"]) == ("ok", None)
        assert row["ledger"]["pte_copy"] == (2 ** row["level"] - 1) * 131072
        assert row["memory_peak_bytes"].keys() == {"page_tables", "rmap", "by_cache"}
        assert row["memory_peak_bytes"]["page_tables"] >= 2 ** row["level"] * 256 * 4096
        assert row["wall_s"] > 0


def test_enomem_is_an_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    """Without swap the first fork on 1 GB fails the overcommit test: less than 512 MiB are free (eras.md 0.3)."""
    (row,) = results(capsys, "run", "forkbench", "--kernel", "2.6.2", "--level", "3", "--swap", "0")
    assert (row["outcome"], row["failed_call"], row["processes"]) == ("ENOMEM", "fork", 1)


def test_without_reclaim_a_full_box_is_an_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    """A box whose swap satisfies overcommit but whose RAM is full; why nobody makes room is said, of each kernel in its own words."""
    box = ("--level", "4", "--ram", "560M", "--swap", "4G")
    (row,) = results(capsys, "run", "forkbench", "--kernel", "2.6.2", *box, "--no-reclaim")
    assert (row["outcome"], row["failed_call"], row["why"]) == ("RAM is full", None, "nobody makes room (--no-reclaim)")
    (row,) = results(capsys, "run", "forkbench", "--kernel", "6.18", *box)
    assert (row["outcome"], row["failed_call"]) == ("RAM is full", None)
    assert row["why"].startswith("the reclaim of this kernel is not here yet; try ")


def test_csv_has_a_column_per_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Nested keys are joined by dots, and every row has every column."""
    assert call("compare", "forkbench", "--levels", "1", "--kernels", BOTH, "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["kernel"] for row in rows] == ["2.6.2", "2.6.5-rc1-aa1"]
    assert rows[1]["ledger.pte_copy"] == "131072"
    assert rows[1]["memory_peak_bytes.by_cache.anon_vma"] == "4096"
    assert rows[0]["memory_peak_bytes.by_cache.anon_vma"] == ""


def test_table_marks_the_best_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Relative columns: the best of a level is 1.00."""
    assert call("compare", "forkbench", "--levels", "1", "--kernels", BOTH) == 0
    out = capsys.readouterr().out
    assert "2.6.2" in out
    assert "1.00" in next(line for line in out.splitlines() if "2.6.5-rc1-aa1" in line)
    assert "price list 2004" in out


def test_output_goes_to_a_file_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--output writes the same JSON; nothing but the file is left in the directory."""
    file = tmp_path / "out.json"
    assert call("run", "forkbench", "--kernel", "2.6.2", "--level", "1", "--format", "json", "--output", str(file)) == 0
    assert json.loads(file.read_text())["rows"][0]["kernel"] == "2.6.2"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frob"], "--help"),
        (["compare"], "--help"),
        (["compare", "forkbanch"], "forkbench"),
        (["compare", "forkbench", "--kernels", "2.6.3"], "2.6.2"),
        (["compare", "forkbench", "--kernels", "2.6.2+frob"], "anon_vma"),
        (["compare", "forkbench", "--kernels", ","], "2.6.2"),
        (["compare", "forkbench", "--levels", "0"], "such as 6"),
        (["compare", "forkbench", "--levels", "40"], "1 to 14"),
        (["compare", "forkbench", "--levels", "3,x"], "3,6,7"),
        (["compare", "forkbench", "--ram", "16M"], "--ram 64M"),
        (["compare", "forkbench", "--ram", "256M"], "--ram 1G"),
        (["compare", "forkbench", "--ram", "lots"], "512M"),
        (["compare", "forkbench", "--ram", "80G"], "x86-64"),
        (["compare", "forkbench", "--paging", "arm"], "i386-pae"),
        (["compare", "forkbench", "--cpus", "0"], "1,2,4"),
        (["compare", "forkbench", "--cpus", "many"], "1,2,4"),
        (["compare", "forkbench", "--cpus", "65"], "1 to 64"),
        (["compare", "forkbench", "--cpus", "1,3", "--ht", "on"], "even"),
        (["compare", "forkbench", "--ht", "yes"], "aware"),
        (["compare", "forkbench", "--prices", "1999"], "2004-ht"),
        (["compare", "forkbench", "--cpus", "1,2", "--host"], "one --cpus"),
        (["compare", "forkbench", "--cpus", "1,2", "--plot", "x.png"], "one --cpus"),
        (["compare", "forkbench", "--plot", "x.gif"], ".svg"),
        (["run", "forkbench", "--kernel", "2.6.2", "--cpus", "0"], "1 to 64"),
        (["run", "forkbench", "--kernel", "2.6.2", "--cpus", "many"], "--help"),
        (["run", "forkbench", "--kernel", "2.6.2", "--prices", "1999"], "rmaplab fit"),
        (["fit", "--save", "/nonexistent/prices.json"], "cannot write"),
        (["fit", "6"], "--help"),
        (["compare", "forkbench", "--cache-line", "7"], "128"),
        (["compare", "forkbench", "--format", "xml"], "json"),
        (["compare", "forkbench", "--output", "/nonexistent/x"], "--output"),
        (["run", "forkbench"], "--kernel"),
        (["run", "forkbench", "--kernel", "2.6.2", "--level", "0"], "such as 6"),
        (["run", "forkbench", "--kernel", "2.6.2", "--swap", "-5"], "size"),
        (["kernels", "3.1"], "2.6.2"),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear line on stderr with the next thing to try; nothing on stdout; exit code 2."""
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("rmaplab: ")
    assert says in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback() -> None:
    """--debug is for us."""
    command = [sys.executable, "-m", "rmaplab", "--debug", "kernels", "3.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


def test_help_answers_without_the_heavy_libraries() -> None:
    """--help imports neither numba nor NumPy nor rich: that is what keeps it under 0.3 s."""
    code = (
        "import sys; from rmaplab.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numba', 'numpy', 'rich', 'greenlet'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "compare" in out


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.5-rc1+anonmm"])
def test_kernels_shows_figures_with_sources(kernel: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure has a status and a source."""
    assert call("kernels", kernel) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "vm_area_struct_bytes" in line)
    assert "validated" in line or "believed" in line
    assert "mm.h" in line


def test_kernels_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("kernels") == 0
    out = capsys.readouterr().out
    for name in ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1"):
        assert name in out


def test_a_closed_pipe_is_no_error() -> None:
    """`rmaplab kernels | head -1` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "rmaplab", "kernels", "2.6.2"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.stderr == ""
