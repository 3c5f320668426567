"""`rmaplab compare localmalloc`: what is printed, drawn and refused."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from rmaplab.cli import main
from rmaplab.workloads.localmalloc import Case

KEYS = [
    "workload",
    "case",
    "kernel",
    "design",
    "hardware",
    "children",
    "helpers",
    "pages",
    "walked",
    "mapped",
    "referenced_visits",
    "unmap_visits",
    "useful",
    "in_vain",
    "looked_at",
    "locks",
    "predicted_us",
    "rmap_bytes",
    "verdict",
    "wall_s",
]
KERNELS = ["2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "2.6.5-rc1+anonmm_unordered", "2.6.2"]
SMALL = ("--children", "6", "--pages", "2")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["compare", "localmalloc", *arguments])
    out, err = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, out, err


def test_json_has_exactly_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Each case on each of the four kernels; CSV says the same."""
    code, out, err = run(capsys, *SMALL, "--format", "json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["made_by"]["command"] == ["rmaplab", "compare", "localmalloc", *SMALL, "--format", "json"]
    assert [list(row) for row in found["rows"]] == [KEYS] * 28
    assert [(row["case"], row["kernel"]) for row in found["rows"]] == [
        (case.value, kernel) for case in Case for kernel in KERNELS
    ]
    assert {row["helpers"] for row in found["rows"] if row["case"].startswith("shared")} == {1}
    assert {row["helpers"] for row in found["rows"] if not row["case"].startswith("shared")} == {0}
    _, out, _ = run(capsys, *SMALL, "--format", "csv")
    assert [float(row["referenced_visits"]) for row in csv.DictReader(io.StringIO(out))] == [
        row["referenced_visits"] for row in found["rows"]
    ]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A case's name stands once; the sentence is quoted below."""
    code, out, _ = run(capsys, *SMALL, "--helpers", "2", "--kernels", "2.6.5-rc1-aa1,2.6.5-rc1+anonmm")
    assert code == 0
    assert "6 children of one process, each with 2 pages, and 2 helpers where they are shared" in out
    assert all(out.count(f" {case.value}  ") == 1 for case in Case)
    (shared,) = [line for line in out.splitlines() if line.startswith(" shared, helpers at once")]
    assert shared.split()[4:9] == ["2.6.5-rc1-aa1", "3", "3", "3", "0"]
    assert [line.split()[-1] for line in out.splitlines() if "+anonmm " in line] == [
        "ties", "fails", "holds", "ties", "holds", "fails", "ties",
    ]  # fmt: skip
    assert 'local "malloc" in a process-group' in out


def test_two_hundred_children_where_nothing_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """And 32 pages: mallocgroup's thousands are its own."""
    _, out, _ = run(capsys, "--kernels", "2.6.2", "--walks", "1", "--format", "json")
    assert {(row["children"], row["pages"], row["walked"]) for row in json.loads(out)["rows"]} == {(200, 32, 1)}


def test_the_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A panel for each case, through five sizes; the table has the whole one alone."""
    try:
        import matplotlib as mpl

        del mpl
    except ImportError:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip("matplotlib is not installed: pip install 'rmaplab[plot]'")
    path = tmp_path / "walks.svg"
    words = ("--children", "16", "--pages", "1", "--kernels", "2.6.5-rc1-aa1,2.6.5-rc1+anonmm", "--plot", str(path))
    code, out, _ = run(capsys, *words, "--format", "json")
    assert code == 0
    assert {row["children"] for row in json.loads(out)["rows"]} == {16}
    drawn = path.read_text()
    assert all(case.value in drawn for case in Case)
    assert drawn.count('id="2.6.5-rc1+anonmm"') == len(Case)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--children", "0"], "--children 200 --helpers 1 --pages 32"),
        (["--helpers", "0"], "--children 200 --helpers 1 --pages 32"),
        (["--helpers", "many"], "not a valid integer"),
        (["--pages", "1000000"], "--pages 32"),
        (["--walks", "0"], "0 walks"),
        (["--kernels", "2.6.5-rc1+anonm"], "did you mean anonmm"),
        (["--kernels", "6.18", "--paging", "i386"], "x86-64"),
        (["--prices", "2004-slot"], "leave --prices out"),
        (["--ram", "1G"], "localmalloc has no --ram"),
        (["--swap", "1G"], "localmalloc has no --swap"),
        (["--reclaim"], "localmalloc has no --reclaim"),
        (["--levels", "3"], "localmalloc has no --levels"),
        (["--mlock"], "localmalloc has no --mlock"),
        (["--users", "3"], "localmalloc has no --users"),
        (["--plot", "x.gif"], ".svg"),
    ],
)
def test_a_mistake_gets_one_line_and_2(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_helpers_are_localmallocs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """The other workloads say so."""
    for workload in ("forkbench", "mallocgroup", "manyvmas", "sga"):
        with pytest.raises(SystemExit) as stop:
            main(["compare", workload, "--helpers", "2"])
        assert stop.value.code == 2
        assert f"{workload} has no --helpers" in capsys.readouterr().err
