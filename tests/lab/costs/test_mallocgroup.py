"""mallocgroup: Rik van Riel's mail of 21 January 2010 in numbers: O(N) visits with one anon_vma, "about 2" with chains.

Expected values follow from history.md 1.8 and modern.md 1.3: with n children, anon_vma visits all n + 1 VMAs from any page;
anon_vma_chain visits them from the parent's pages only, 1/(n + 1) of all, and one VMA from every other page.
"""

from __future__ import annotations

import json

import pytest

from rmaplab.cli import main
from rmaplab.errors import UsageError
from rmaplab.kernels.box import announced
from rmaplab.lab.costs.mallocgroup import WalkResult, compare_mallocgroup
from rmaplab.workloads.mallocgroup import MallocGroup

KERNELS = ["2.6.5-rc1-aa1", "6.18", "2.6.5-rc1+anon_vma_chain", "2.6.5-rc1", "2.6.5-rc1+anonmm"]


def run(kernel: str, children: int, pages: int) -> WalkResult:
    (result,) = compare_mallocgroup([kernel], children, pages, 50, announced(paging="x86-64"))
    return result


@pytest.mark.parametrize("nr", [1, 10, 100])
def test_one_anon_vma_for_all(nr: int) -> None:
    """Every walk visits every process: O(N), whoever's the page is."""
    result = run("2.6.5-rc1-aa1", nr, 20)
    assert (result.visits_parent_page, result.visits_child_page, result.visits_max) == (nr + 1, nr + 1, nr + 1)
    assert result.rmap_objects == {"anon_vma": 1}


@pytest.mark.parametrize("nr", [1, 10, 100])
@pytest.mark.parametrize("kernel", ["6.18", "2.6.5-rc1+anon_vma_chain"])
def test_one_anon_vma_for_each(kernel: str, nr: int) -> None:
    """One visit from a child's page, n + 1 from the parent's: (n + 1 + n) / (n + 1) on average. Objects: F + 2Fn AVCs, F + Fn."""
    result = run(kernel, nr, 20)
    assert (result.visits_parent_page, result.visits_child_page) == (nr + 1, 1)
    assert result.visits_mean == pytest.approx((2 * nr + 1) / (nr + 1))
    assert result.rmap_objects == {"anon_vma": nr + 1, "anon_vma_chain": 2 * nr + 1}


def test_designs_that_need_no_walk_through_vmas() -> None:
    """A chain has one slot. anonmm begins with the mm that the page names, and that is it."""
    for kernel in ("2.6.5-rc1", "2.6.5-rc1+anonmm"):
        assert run(kernel, 20, 20).visits_max == 1


@pytest.mark.parametrize(("children", "pages"), [(0, 10), (10, 0), (-1, 5), (10**6, 1), (30_000, 30_000)])
def test_sizes_that_make_no_sense(children: int, pages: int) -> None:
    """One line that names sizes that do."""
    with pytest.raises(UsageError, match="--children 1000 --pages 1000"):
        MallocGroup(children, pages)


def test_compare(capsys: pytest.CaptureFixture[str]) -> None:
    """The command, by its defaults but smaller."""
    with pytest.raises(SystemExit) as stop:
        main(["compare", "mallocgroup", "--children", "30", "--pages", "10", "--format", "json"])
    assert stop.value.code == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["kernel"], row["visits_mean"]) for row in rows] == [
        ("2.6.5-rc1-aa1", 31),
        ("6.18", pytest.approx(61 / 31)),
    ]
    with pytest.raises(SystemExit):
        main(["compare", "mallocgroup", "--children", "30", "--pages", "10"])
    assert "60 anon_vma_chain" not in (table := capsys.readouterr().out)
    assert "31 anon_vma, 61 anon_vma_chain" in table


@pytest.mark.parametrize(
    "arguments",
    [
        ["--children", "0"],
        ["--walks", "0"],
        ["--host"],
        ["--kernels", "6.19"],
        ["--kernels", "6.18", "--paging", "i386"],
    ],
)
def test_wrong_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main(["compare", "mallocgroup", *arguments])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
