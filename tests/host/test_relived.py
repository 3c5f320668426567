"""Real processes, their census saved, lived through again in the model: the live graph and the live pages come out. Needs root."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from rmaplab.cli import main
from rmaplab.host.snapshot import CensusTaker, Rung
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.file import load, save_snapshot
from rmaplab.lab.census.rebuild import WalkedUnder, check_census, choose, live_through
from rmaplab.lab.census.relive import relive
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.graph_of import graph_of

from .conftest import Family

BASE, END = 0x2000_0000_0000, 0x2100_0000_0000
DESIGNS = ("anonmm", "anon_vma", "anon_vma_chain")
Forks = Callable[..., AbstractContextManager[list[int]]]


def look(path: Path) -> Census:
    """A census of this machine, through a file; unsampled, however much memory its other processes have."""
    with pytest.MonkeyPatch.context() as patch, CensusTaker() as observer:
        patch.setattr("rmaplab.host.sample.WINDOWS", 1 << 30)
        if observer.rung != Rung.EVERYTHING:
            reason = "; ".join(observer.missing)
            if os.environ.get("RMAPLAB_REQUIRE_ALL"):
                pytest.fail(reason)
            pytest.skip(reason)
        save_snapshot(observer.look(), path)
    return Census(load(path))


def relived(census: Census, pid: int, design: str) -> tuple[WalkedUnder, WalkedUnder]:
    """(as it was on the machine, as it is under the design), of the tree of one process."""
    check_census(census, "this machine")
    _, was, (now,), unlived, alike = live_through(census, [head_of(census, pid)], [design])
    assert not unlived
    assert now.failed is None
    assert now.pages == alike
    assert was.useful == now.useful  # of the same pages, each by its weight
    return was, now


def head_of(census: Census, pid: int) -> int:
    """The process that the tree of `pid` is called after."""
    row_of = dict(zip(census.graph.processes.pid.tolist(), census.graph.processes.mm.tolist(), strict=True))
    family = census.families
    return next(row.pid for row in census.trees() if family[row_of[row.pid]] == family[row_of[pid]])


@pytest.mark.skipif(not platform.release().startswith("6.18."), reason="the host is not Linux 6.18")
@pytest.mark.parametrize(("vmas", "children", "depth"), [(3, 4, 0), (2, 0, 6), (2, 3, 5)])
def test_the_graph_of_real_processes_comes_out(
    forks: Forks, tmp_path: Path, vmas: int, children: int, depth: int
) -> None:
    """Level L2 within forks.c's own memory; of the whole tree, program and stack included, every page and every walk's visits."""
    with forks(vmas, children, depth, write=True) as pids:
        census = look(tmp_path / "census")
    was, now = relived(census, pids[0], "anon_vma_chain")
    assert (now.vmas, now.pages) == (was.vmas, was.pages)
    assert now.like_live == now.walks == was.pages
    assert now.objects == was.objects
    chosen, history, _ = choose(census, [head_of(census, pids[0])])
    system, tasks = relive("anon_vma_chain", history, complete=chosen.complete)
    design = system.kernel.design
    assert isinstance(design, AnonVmaChainMap)
    again = graph_of(design, system.kernel.tasks.values()).graph.part([task.pid for task in tasks], BASE, END)
    assert census.graph.part(pids, BASE, END, renumber=True).unlike(again) is None


def test_a_family_that_moves_copies_and_gives_back(family: Family, tmp_path: Path) -> None:
    """fork_tree.py: file-backed, moved, COWed and huge memory. Judged under each design; anonmm copies the eight pages that moved."""
    census = look(tmp_path / "census")
    for design in DESIGNS:
        was, now = relived(census, family.pids["A"], design)
        assert now.vmas == was.vmas
        assert was.pages - now.pages == now.copied == (8 if design == "anonmm" else 0)
        assert now.like_live == (now.walks if design == "anon_vma_chain" else None)


def test_the_command_says_it_all(capsys: pytest.CaptureFixture[str], forks: Forks, tmp_path: Path) -> None:
    """JSON, CSV and table of one run; anonmm visits no more than the whole family, anon_vma no fewer than the live kernel."""
    file = tmp_path / "census"
    with forks(2, 5, 2, write=True) as pids:
        look(file)
    arguments = ["live", "--from", str(file), "--pid", str(pids[3]), "--under", ",".join(DESIGNS)]

    def run(*more: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, *more])
        assert exit_.value.code == 0
        return capsys.readouterr().out

    said: dict[str, Any] = json.loads(run("--format", "json"))
    assert (said["lived_through"]["trees"], said["lived_through"]["address_spaces"]) == (1, 8)
    was, rows = said["on_the_machine"], {row["design"]: row for row in said["designs"]}
    assert tuple(rows) == DESIGNS
    assert was["visits"]["max"] == 8 >= rows["anonmm"]["visits"]["max"]
    assert rows["anon_vma"]["visits"]["max"] >= 8
    assert {row["pages"] for row in rows.values()} == {was["pages"]}
    assert rows["anonmm"]["objects"] == {"anonmm": 8}
    lines = list(csv.DictReader(run("--format", "csv").splitlines()))
    assert [line["design"] for line in lines] == ["on the live machine", *DESIGNS]
    assert {line["pages_compared"] for line in lines} == {str(was["pages"])}
    assert {line["walks"] for line in lines} == {str(was["pages"])}
    text = run()
    assert f"the same {was['pages']} pages" in text
    assert "rung 1 of 4" in text
    assert "8 address spaces" in text
    assert f"all {was['pages']}" in text
