"""Censuses of machines that ran on, trees that cannot be lived through, and pages too many to be walked: what is told of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug
from rmaplab.kernels.designs import find_design, load_design
from rmaplab.kernels.system import System
from rmaplab.lab.census import fork_history, measure, rebuild
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.rebuild import choose, live_through
from rmaplab.lab.census.relive import relive
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import Graph, Pages

from .machines import BASE, DESIGNS, MOVE, PAGE, census_of, generations, heads_of, put, relived, two_trees, write


def crowded(system: System) -> None:
    """What moved away and what came in its place have the same indexes of one anon_vma; a child has both, and writes to both."""
    a = system.spawn()
    put(a, 0, 8)
    a.mremap(BASE + 4 * PAGE, 2 * PAGE, 2 * PAGE, MOVE, BASE + 64 * PAGE)
    put(a, 4, 2)
    b = a.fork()
    write(b, 4, 1)
    write(b, 65, 1)
    put(b, 128, 2)


def test_two_pages_of_one_index_are_two_pages(tmp_path: Path) -> None:
    """The model says where each is; the census does not, and every one comes out at its own place."""
    _, census = census_of(crowded, tmp_path / "census")
    pages = census.graph.pages
    assert pages is not None
    places = np.stack([pages.mm, census.graph.anon_vmas.root[np.maximum(pages.anon_vma, 0)], pages.pgoff])
    assert len(np.unique(places, axis=1).T) < len(pages.pfn)  # the case is there
    was, now = relived(census, "anon_vma_chain")
    assert now.pages == was.pages
    assert now.useful == was.useful
    assert now.walks == was.walks == was.pages


def without_vmas(census: Census, who: int, at: int) -> tuple[Census, set[int]]:
    """As if a process had let go of its memory from page `at` on between the dump and the look at pages; and the PFNs it had there."""
    graph = census.graph
    pages, vmas = graph.pages, graph.vmas
    assert pages is not None
    inside = (vmas.mm == who) & (vmas.start >= BASE + at * PAGE) & (vmas.start < BASE + (at + 32) * PAGE)
    assert inside.any()
    low, high = vmas.pgoff[inside].min(), (vmas.pgoff + vmas.nr_pages)[inside].max()
    lost = pages.pfn[(pages.mm == who) & (pages.pgoff >= low) & (pages.pgoff < high)]
    shifted = vmas._replace(pgoff=np.where(inside, vmas.pgoff + (1 << 30), vmas.pgoff))
    return Census(replace(census.snapshot, graph=replace(graph, vmas=shifted))), set(lost.tolist())


@pytest.mark.parametrize(("who", "at"), [(2, 0), (2, 34), (4, 64)])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_page_that_is_nowhere_costs_nothing_else(design: str, who: int, at: int, tmp_path: Path) -> None:
    """Of live machines: no VMA covers the index of pages, be they the first or the last of all. All others are alike."""
    _, census = census_of(generations, tmp_path / "census")
    census, lost = without_vmas(census, who, at)
    pages = census.graph.pages
    assert pages is not None
    alone = [pfn for pfn in lost if (pages.pfn == pfn).sum() == 1]
    assert alone  # nobody else tells where these are
    chosen, was, (now,), unlived, alike = live_through(census, heads_of(census), [design])
    assert not unlived
    assert chosen.unplaced == len(lost)
    assert alike == now.pages == chosen.pages - len(lost)
    assert was.walks == now.walks == alike
    assert was.useful == now.useful


@pytest.mark.parametrize("broken", [0, 1])
def test_a_tree_that_fails_is_a_line_and_the_others_are_as_without_it(
    broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one design of two: it is in nobody's row, so that all speak of the same pages."""
    _, census = census_of(two_trees, tmp_path / "census")
    heads = heads_of(census)
    alone = live_through(census, [heads[1 - broken]], ["anonmm", "anon_vma"])
    bad = int(census.families[census.graph.processes.mm[census.graph.processes.pid == heads[broken]][0]])
    real = relive

    def fails(design: str, history: fork_history.History, **rest: Any) -> tuple[System, list[Task]]:
        if design == "anon_vma" and any(census.families[node.mm] == bad for node in history.nodes if node.mm >= 0):
            raise IndexError("out of\nbounds")
        return real(design, history, **rest)

    monkeypatch.setattr(rebuild, "relive", fails)
    found = live_through(census, heads, ["anonmm", "anon_vma"])
    (unlived,) = found.unlived
    assert (unlived.pid, unlived.design) == (heads[broken], "anon_vma")
    assert (
        unlived.why == f"IndexError in fails ({Path(__file__).name}:{fails.__code__.co_firstlineno + 2}): out of bounds"
    )
    assert found.chosen.trees == 1
    assert found.chosen.trees_left_out == 0
    assert found.alike == alone.alike
    for row, same in zip([found.was, *found.found], [alone.was, *alone.found], strict=True):
        assert replace(row, wall_s=0) == replace(same, wall_s=0)


def test_a_tree_without_a_history_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, census = census_of(two_trees, tmp_path / "census")
    heads, real = heads_of(census), fork_history.history_of

    def fails(graph: Graph, pages: Pages, mms: I64) -> fork_history.History:
        if graph.processes.mm[graph.processes.pid == heads[0]][0] in mms:
            raise KernelBug("history", "cannot be")
        return real(graph, pages, mms)

    monkeypatch.setattr(rebuild, "history_of", fails)
    found = live_through(census, heads, ["anonmm"])
    assert [(tree.pid, tree.design, tree.why) for tree in found.unlived] == [(heads[0], "", "history: cannot be")]
    assert found.found[0].pages == found.alike > 0
    found = live_through(census, heads[:1], ["anonmm"])  # and if there is no other
    assert (found.chosen.trees, found.alike, found.was.visits, len(found.unlived)) == (0, 0, None, 1)


def test_a_design_that_fails_everywhere_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, census = census_of(two_trees, tmp_path / "census")
    real = relive

    def fails(design: str, history: fork_history.History, **rest: Any) -> tuple[System, list[Task]]:
        if design == "anonmm":
            raise KernelBug("anonmm", "no family")
        return real(design, history, **rest)

    monkeypatch.setattr(rebuild, "relive", fails)
    found = live_through(census, heads_of(census), ["anonmm", "anon_vma"])
    assert [row.failed for row in found.found] == ["anonmm: no family", None]
    assert not found.unlived
    assert found.alike == found.found[1].pages == found.chosen.pages


@pytest.mark.parametrize("design", DESIGNS)
def test_a_walk_that_misses_a_mapping_is_no_figure(
    design: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, census = census_of(generations, tmp_path / "census")
    kind = load_design(find_design(design).path)
    real = kind.walk
    monkeypatch.setattr(kind, "walk", lambda self, pfn: list(real(self, pfn))[1:])
    (row,) = live_through(census, heads_of(census), [design]).found
    assert row.failed is not None
    assert "the walk finds" in row.failed


def test_rows_of_a_sample_speak_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of page is walked, each stands for its kind: where visits do not differ within one, it is exact; and all rows have it."""
    _, census = census_of(generations, tmp_path / "census")
    heads = heads_of(census)
    whole = live_through(census, heads, ["anon_vma_chain"])
    monkeypatch.setattr(measure, "VISITS", 1)
    monkeypatch.setattr(measure, "LEAST", 2)
    part = live_through(census, heads, ["anon_vma_chain"])
    assert part.was.walks == part.found[0].walks < whole.was.walks
    assert part.alike == whole.alike
    _, history, pages = choose(census, heads)
    sample = measure.sample_of(census, history, pages)
    assert sample.weight.sum() == pytest.approx(whole.alike)
    assert part.was.wasted_share == pytest.approx(part.found[0].wasted_share)
    assert (part.was.visits.max, part.was.useful.max) == (whole.was.visits.max, whole.was.useful.max)  # type: ignore[union-attr]


def test_the_rare_pages_that_all_share_are_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page that sixty processes map, among hundreds of private ones: no coin toss."""

    def one_in_many(system: System) -> None:
        a = system.spawn()
        put(a, 0, 1)
        for _ in range(59):
            put(a.fork(), 16, 8)

    _, census = census_of(one_in_many, tmp_path / "census")
    heads = heads_of(census)
    whole = live_through(census, heads, ["anon_vma"])
    monkeypatch.setattr(measure, "VISITS", 100)
    part = live_through(census, heads, ["anon_vma"])
    assert part.was.walks < 60
    assert whole.was.walks > 400
    for row, same in zip([part.was, *part.found], [whole.was, *whole.found], strict=True):
        for mine, all_of_it in ((row.visits, same.visits), (row.useful, same.useful)):
            assert replace(mine, low=None, high=None) == all_of_it  # type: ignore[type-var]
        assert row.wasted_share == pytest.approx(same.wasted_share)


@pytest.mark.parametrize("history", [generations, two_trees])
def test_intervals_hold_what_all_walks_say(history: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are walked; and where all are, there is nothing to estimate."""
    _, census = census_of(history, tmp_path / "census")
    heads = heads_of(census)
    whole = live_through(census, heads, DESIGNS)
    assert all(row.wasted_share_within is None and row.visits.low is None for row in [whole.was, *whole.found])  # type: ignore[union-attr]
    for visits, least in ((1, 1), (1, 2), (1, 4), (100, 1), (300, 1)):
        monkeypatch.setattr(measure, "VISITS", visits)
        monkeypatch.setattr(measure, "LEAST", least)
        part = live_through(census, heads, DESIGNS)
        for row, true in zip([part.was, *part.found], [whole.was, *whole.found], strict=True):
            assert row.walks < true.walks
            assert row.wasted_share_within is not None
            assert true.wasted_share is not None
            low, high = row.wasted_share_within
            assert low - 1e-9 <= true.wasted_share <= high + 1e-9
            assert low < high
            for mine, all_of_it in ((row.visits, true.visits), (row.useful, true.useful)):
                assert mine is not None
                assert all_of_it is not None
                ends = zip(mine.low or (), (all_of_it.p50, all_of_it.p99, all_of_it.max), mine.high or (), strict=True)
                assert all(low <= value <= high for low, value, high in ends)  # type: ignore[operator]
