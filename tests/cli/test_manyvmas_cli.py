"""`rmaplab compare manyvmas`: what is printed, drawn and refused."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from rmaplab.cli import main
from rmaplab.lab.costs import manyvmas
from rmaplab.workloads.manyvmas import PROGRAMS, ManyVmas

KEYS = [
    "test",
    "kernel",
    "index",
    "vmas",
    "referenced_visits_per_page",
    "unmap_visits_per_page",
    "nodes_per_walk",
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests by default, smaller."""
    monkeypatch.setitem(PROGRAMS, "rmap-test-1", ManyVmas("rmap-test-1", 16, 3, 1, 5))
    monkeypatch.setitem(PROGRAMS, "test-mmap", ManyVmas("test-mmap", 32, 1, 0, 1, backwards=True))
    monkeypatch.setattr(manyvmas, "RAM", "64M")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "manyvmas", *arguments])
    out, err = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, out, err


def test_json_has_exactly_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Each test on each kernel, with its own index; CSV says the same."""
    code, out, err = run(capsys, "--format", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["made_by"]["command"] == ["rmaplab", "compare", "manyvmas", "--format", "json"]
    assert [list(row) for row in found["rows"]] == [KEYS] * 8
    assert [row["index"] for row in found["rows"]] == ["pte_chain", "list", "prio_tree", "interval_tree"] * 2
    assert found["rows"][1] == dict(zip(KEYS, ["rmap-test-1", "2.6.5-rc1-aa1", "list", 80, 80, 42.5, 80], strict=True))
    _, out, _ = run(capsys, "--format", "csv")
    assert [float(row["unmap_visits_per_page"]) for row in csv.DictReader(io.StringIO(out))] == [
        row["unmap_visits_per_page"] for row in found["rows"]
    ]


def test_the_table_stands_beside_what_was_derived(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the published sizes, files.md E4; of an index that nobody has published, nothing."""
    code, out, _ = run(capsys, "--tests", "rmap-test-1", "--kernels", "2.6.5-rc1-aa1", "--indexes", "list,rbtree")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [
        "rmap-test-1",
        "5",
        "80",
        "2.6.5-rc1-aa1",
        "list",
        "80",
        "10,100",
        "42.5",
        "5,100.5",
        "80",
        "10,100",
    ] in rows
    assert [row[3::2] for row in rows if "rbtree" in row] == [["-", "-", "-"]]


def test_locked_stands_beside_unlocked(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has the locked figures."""
    words = ("--tests", "rmap-test-1", "--kernels", "2.6.5-rc1-aa1", "--mlock")
    _, out, _ = run(capsys, *words)
    assert ["2.6.5-rc1-aa1", "list", "80", "80", "38.5", "42.5", "80", "80", "FAIL"] in [
        line.split()[3:] for line in out.splitlines()
    ]
    _, out, _ = run(capsys, *words, "--format", "json")
    (row,) = json.loads(out)["rows"]
    assert (list(row), row["unmap_visits_per_page"]) == (KEYS, 38.5)


@pytest.mark.parametrize("locked", [[], ["--mlock"]])
def test_the_plot(locked: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A line for each kernel and index, through five sizes; the table has the published one alone."""
    try:
        import matplotlib as mpl

        del mpl
    except ImportError:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip("matplotlib is not installed: pip install 'rmaplab[plot]'")
    path = tmp_path / "walks.svg"
    words = ("--kernels", "2.6.5-rc1-aa1,6.18", "--indexes", "list,rbtree", "--plot", str(path))
    code, out, _ = run(capsys, *words, *locked, "--format", "json")
    assert code == 0
    assert [row["vmas"] for row in json.loads(out)["rows"]] == [80] * 4 + [32] * 4
    drawn = path.read_text()
    assert "One file, many VMAs" in drawn
    for name in ("2.6.5-rc1-aa1, list", "2.6.5-rc1-aa1, rbtree", "6.18, list", "6.18, rbtree"):
        assert f'id="{name}"' in drawn


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tests", "test-map"], "did you mean test-mmap"),
        (["--tests", ","], "rmap-test-1,test-mmap"),
        (["--indexes", "priotree"], "did you mean prio_tree"),
        (["--indexes", ""], "list,prio_tree"),
        (["--kernels", "2.6.8"], "2.6.2"),
        (["--kernels", "6.18", "--paging", "i386"], "x86-64"),
        (["--kernels", "2.6.2", "--indexes", "list"], "leave --indexes out"),
        (["--levels", "3"], "manyvmas has no --levels"),
        (["--host"], "manyvmas has no --host"),
        (["--ram", "1G"], "manyvmas has no --ram"),
        (["--plot", "x.gif"], ".svg"),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_options_of_manyvmas_are_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    """The other workloads say so."""
    for workload in ("forkbench", "mallocgroup"):
        with pytest.raises(SystemExit) as stop:
            main(["compare", workload, "--mlock"])
        assert stop.value.code == 2
        assert f"{workload} has no --mlock" in capsys.readouterr().err
