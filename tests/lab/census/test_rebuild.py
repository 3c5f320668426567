"""A machine's census, saved, read back and lived through under other designs: beside the same history made under each of them.

The machine is the model's, so that nothing of this needs a privilege; tests/host/test_relived.py does it with real processes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.host.snapshot import Rung
from rmaplab.kernels.system import System
from rmaplab.lab.census import rebuild
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.rebuild import check_census, choose, live_through
from rmaplab.lab.census.relive import relive
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.graph import Graph, Pages
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.graph_of import graph_of

from .machines import (
    DESIGNS,
    HISTORIES,
    History,
    census_of,
    generations,
    heads_of,
    moved,
    parts_of_one,
    relived,
    two_trees,
)


def visits_of(system: System) -> list[int]:
    """Of a walk for each page that is mapped, sorted; at least those that find something."""
    ledger = system.machine.ledger
    mms = [task.mm for task in system.kernel.tasks.values() if task.mm is not None]
    pfns = np.unique(np.concatenate([read_page_tables(system.machine, mm.pgd)[0].pfns for mm in mms]))
    found = []
    for pfn in pfns.tolist():
        before = ledger.visits
        useful = len(list(system.kernel.rmap.walk(pfn)))
        found.append(max(ledger.visits - before, useful))
    return sorted(found)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_under_its_own_design_it_is_the_same_machine(history: History, tmp_path: Path) -> None:
    """Every VMA, every page with all its mappings, every walk's visits, every object."""
    _, census = census_of(history, tmp_path / "census")
    was, now = relived(census, "anon_vma_chain")
    assert (now.vmas, now.pages) == (was.vmas, was.pages)
    assert now.like_live == now.walks == was.pages
    assert (now.visits, now.useful) == (was.visits, was.useful)
    assert now.wasted_share == pytest.approx(was.wasted_share)
    assert now.objects == was.objects


@pytest.mark.parametrize("history", [generations, parts_of_one, moved], ids=lambda history: history.__name__)
def test_the_graph_is_the_same_up_to_renaming(history: History, tmp_path: Path) -> None:
    """Level L2: VMAs, anon_vmas with their counters, every chain in its order."""
    _, census = census_of(history, tmp_path / "census")
    chosen, lived, _ = choose(census, heads_of(census))
    system, _ = relive("anon_vma_chain", lived, complete=chosen.complete)
    design = system.kernel.design
    assert isinstance(design, AnonVmaChainMap)
    again: Graph = graph_of(design, system.kernel.tasks.values()).graph
    assert census.graph.unlike(again) is None


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("history", HISTORIES[:4], ids=lambda history: history.__name__)
def test_walks_are_those_of_the_same_history_under_the_design(history: History, design: str, tmp_path: Path) -> None:
    """The design never saw the first machine: its walks on what was rebuilt are as long as if it had been there from the start."""
    _, census = census_of(history, tmp_path / "census")
    was, now = relived(census, design)
    assert now.pages == was.pages
    there = rmaplab.boot(f"6.18+{design}", ram="256M", overcommit=1)
    history(there)
    visits = visits_of(there)
    assert now.visits is not None
    assert now.visits.p50 == visits[(len(visits) - 1) // 2]
    assert now.visits.max == visits[-1]
    found = {cache.name: cache.nr_objects for cache in there.kernel.design.caches()}
    assert now.objects == found or design == "pte_chain"  # its blocks tell of what was shared once, too


def test_anonmm_copies_what_moves_and_says_so(tmp_path: Path) -> None:
    """Three shared pages of four go to another address with b: each is two pages then, and unlike the census."""
    _, census = census_of(moved, tmp_path / "census")
    was, now = relived(census, "anonmm")
    assert (now.copied, was.pages - now.pages) == (3, 3)


def test_what_cannot_be_placed_or_was_not_looked_at_is_said(tmp_path: Path) -> None:
    """A census that is a sample: no page is given back, what is unlike is not counted as alike, and nothing is hidden."""
    _, census = census_of(generations, tmp_path / "census")
    snapshot, pages = census.snapshot, census.graph.pages
    assert pages is not None
    some = np.arange(0, len(pages.pfn), 2)
    part = Pages._make(column[some] for column in pages)
    part = part._replace(weight=part.weight * 2)
    part.anon_vma[0] = -1
    census = Census(replace(snapshot, graph=replace(snapshot.graph, pages=part)))
    chosen, was, (now,), _, alike = live_through(census, heads_of(census), ["anon_vma"])
    assert not chosen.complete
    assert chosen.unplaced == 1
    assert 0 < alike == now.pages <= chosen.pages
    assert was.walks == now.walks == alike


def test_trees_beyond_the_bound_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, census = census_of(two_trees, tmp_path / "census")
    heads = heads_of(census)
    assert len(heads) == 2
    chosen, _, _ = choose(census, heads, top=1)
    assert (chosen.trees, chosen.trees_left_out) == (1, 1)
    assert chosen.entries + chosen.entries_left_out == choose(census, heads)[0].entries
    monkeypatch.setattr(rebuild, "MAX_ENTRIES", 40)
    chosen, _, _ = choose(census, heads)
    assert (chosen.trees, chosen.entries) == (1, 18)
    monkeypatch.setattr(rebuild, "MAX_ENTRIES", 4)
    with pytest.raises(UsageError, match="--pid"):
        choose(census, heads)


def test_a_census_that_lacks_what_it_takes_is_refused(tmp_path: Path) -> None:
    _, census = census_of(moved, tmp_path / "census")
    snapshot = census.snapshot
    without = replace(snapshot, graph=replace(snapshot.graph, pages=None), rung=Rung.GRAPH)
    with pytest.raises(UsageError, match="rung 2"):
        check_census(Census(without), "a file")
    with pytest.raises(UsageError, match="rung 3"):
        check_census(Census(replace(snapshot, rung=Rung.PAGEMAP)), "a file")
    with pytest.raises(UsageError, match="aarch64"):
        check_census(Census(replace(snapshot, arch="aarch64")), "a file")
