"""A machine's census, saved, read back and lived through under other designs: beside the same history made under each of them.

The machine is the model's, so that nothing of this needs a privilege; tests/host/test_relived.py does it with real processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug, SegmentationFault, SyscallError, UsageError
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.kernels.designs import find_design, load_design
from rmaplab.kernels.system import System
from rmaplab.lab.census import fork_history, measure, rebuild
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.file import load, save_snapshot
from rmaplab.lab.census.rebuild import WalkedUnder, check_census, choose, live_through
from rmaplab.lab.census.relive import relive
from rmaplab.machine.arrays import I64
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_KEEPONFORK,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.graph import Graph, Pages
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.graph_of import graph_of

BASE, PAGE = 0x10_0000_0000, 4096
FIXED, MOVE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 3
DESIGNS = ("pte_chain", "anonmm", "anon_vma", "anon_vma_chain")
History = Callable[[System], None]


def put(task: Task, page: int, nr: int) -> None:
    """Map and write `nr` pages."""
    task.mmap(nr * PAGE, PROT_READ | PROT_WRITE, FIXED, BASE + page * PAGE)
    write(task, page, nr)


def write(task: Task, page: int, nr: int) -> None:
    task.touch(BASE + page * PAGE, nr * PAGE, write=True)


def generations(system: System) -> None:
    """Two levels of children, who write a little; pages are given back, VMAs split, cut and dropped; children's own memory."""
    a = system.spawn()
    put(a, 0, 16)
    put(a, 32, 8)
    b = a.fork()
    write(b, 0, 4)
    c = b.fork()
    write(c, 2, 4)
    write(a, 8, 2)
    d = a.fork()
    d.madvise(BASE + 12 * PAGE, 2 * PAGE, MADV_DONTNEED)
    put(d, 64, 4)
    e = d.fork()
    write(e, 65, 1)
    e.munmap(BASE + 4 * PAGE, 4 * PAGE)
    c.munmap(BASE + 32 * PAGE, 8 * PAGE)
    put(c, 34, 2)
    b.mprotect(BASE + 34 * PAGE, 2 * PAGE, PROT_READ)


def somebody_ended(system: System) -> None:
    """The link between two generations is gone, its anon_vmas are not."""
    a = system.spawn()
    put(a, 0, 8)
    b = a.fork()
    write(b, 0, 2)
    c, d = b.fork(), b.fork()
    write(c, 1, 1)
    write(d, 4, 1)
    b.exit()


def the_first_ended(system: System) -> None:
    """Siblings whose parent is gone, as after a daemon's fork."""
    a = system.spawn()
    put(a, 0, 8)
    b, c = a.fork(), a.fork()
    write(b, 0, 2)
    put(c, 16, 2)
    a.exit()


def moved(system: System) -> None:
    """A mapping moves before a fork and another after it."""
    a = system.spawn()
    put(a, 0, 4)
    put(a, 16, 4)
    a.mremap(BASE, 4 * PAGE, 4 * PAGE, MOVE, BASE + 128 * PAGE)
    b = a.fork()
    b.mremap(BASE + 16 * PAGE, 4 * PAGE, 4 * PAGE, MOVE, BASE + 64 * PAGE)
    write(b, 64, 1)


def parts_of_one(system: System) -> None:
    """A process without children: holes, and borders that came after the first fault, as a loader leaves them."""
    a = system.spawn()
    put(a, 0, 8)
    put(a, 16, 8)
    a.munmap(BASE + 18 * PAGE, 2 * PAGE)
    a.mprotect(BASE, 2 * PAGE, PROT_READ)
    put(a, 40, 2)
    a.munmap(BASE + 20 * PAGE, 1 * PAGE)


HISTORIES = (generations, somebody_ended, the_first_ended, parts_of_one, moved)


def snapshot_of(system: System) -> Snapshot:
    """What `rmaplab live` would see of this machine."""
    design = system.kernel.design
    assert isinstance(design, AnonVmaChainMap)
    tasks = {task.pid: task for task in system.kernel.tasks.values() if task.mm is not None}
    graph, _, anon_vmas = graph_of(design, tasks.values())
    row_of = {anon_vma.address: row for row, anon_vma in enumerate(anon_vmas)}
    columns: list[list[int]] = [[], []]
    for pid, mm in zip(graph.processes.pid.tolist(), graph.processes.mm.tolist(), strict=True):
        found = tasks[pid].mm
        assert found is not None
        pfns = read_page_tables(system.machine, found.pgd)[0].pfns.tolist()
        columns[0] += pfns
        columns[1] += [mm] * len(pfns)
    pfn, of_mm = (np.array(column, np.int64) for column in columns)
    anon_vma = np.array([row_of[int(address)] for address in design.frames.mapping[pfn]], np.int64)
    mapcount = design.frames.mapcount[pfn].astype(np.int64)
    pages = Pages(pfn, of_mm, anon_vma, design.frames.index[pfn], mapcount, 1 / mapcount)
    nothing = np.zeros(len(graph.processes.pid), np.int64)
    return Snapshot(
        graph=replace(graph, pages=pages),
        footprints=Footprints(*[nothing] * len(Footprints._fields)),
        sizes=Sizes({"anon_vma": 104, "anon_vma_chain": 64}, "a test", {}),
        rung=Rung.EVERYTHING,
        missing=(),
        kernel="6.18.0-model",
        arch="x86_64",
        taken_at=1.0,
        nr_pages=1 << 16,
        cache_line_bytes=64,
        file_names={},
    )


def census_of(history: History, path: Path) -> tuple[System, Census]:
    system = rmaplab.boot("6.18", ram="256M", overcommit=1)
    history(system)
    save_snapshot(snapshot_of(system), path)
    return system, Census(load(path))


def relived(census: Census, design: str) -> tuple[WalkedUnder, WalkedUnder]:
    """(as it was, as it is under the design)."""
    chosen, was, (now,), unlived, alike = live_through(census, heads_of(census), [design])
    assert not unlived
    assert now.failed is None
    assert chosen.vmas == was.vmas
    assert chosen.unplaced == 0
    assert chosen.complete
    assert now.pages == alike
    return was, now


def heads_of(census: Census) -> list[int]:
    return [row.pid for row in census.trees()]


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


def two_trees(system: System) -> None:
    """Their pages differ: 26 entries and 18, say."""
    generations(system)
    the_first_ended(system)


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
        assert (row.visits, row.useful) == (same.visits, same.useful)
        assert row.wasted_share == pytest.approx(same.wasted_share)


# -- any history -----------------------------------------------------------------------------------------------------


def random_history(data: st.DataObject) -> History:
    """Forks, exits, moves, holes, borders, advice: of whoever is alive, in any order."""

    def run(system: System) -> None:
        people = [system.spawn()]
        put(people[0], 0, 12)
        for what in data.draw(st.lists(st.sampled_from(CALLS), min_size=4, max_size=30)):
            task = people[data.draw(st.integers(0, len(people) - 1))]
            page, nr = data.draw(st.integers(0, 24)), data.draw(st.integers(1, 6))
            start, length = BASE + page * PAGE, nr * PAGE
            try:
                if what == "fork" and len(people) < 7:
                    people.append(task.fork())
                elif what == "exit" and len(people) > 1:
                    people.remove(task)
                    task.exit()
                elif what == "put":
                    put(task, page, nr)
                elif what == "map":
                    task.mmap(length, PROT_READ | PROT_WRITE, FIXED, start)
                elif what == "write":
                    write(task, page, nr)
                elif what in ("move", "leave"):
                    to = BASE + data.draw(st.integers(0, 40)) * PAGE
                    task.mremap(start, length, length, MOVE | (MREMAP_DONTUNMAP if what == "leave" else 0), to)
                elif what == "unmap":
                    task.munmap(start, length)
                elif what == "protect":
                    task.mprotect(start, length, data.draw(st.sampled_from((0, PROT_READ, PROT_READ | PROT_WRITE))))
                elif what == "advise":
                    task.madvise(start, length, data.draw(st.sampled_from(ADVICE)))
            except (SyscallError, SegmentationFault):
                continue  # Linux would say so too

    return run


CALLS = ("fork", "exit", "put", "map", "write", "write", "move", "leave", "unmap", "protect", "advise")
ADVICE = (MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK)


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_can_be_lived_through_under_every_design(data: st.DataObject, tmp_path: Path) -> None:
    """No tree fails, no walk misses or invents a mapping, and all rows are about the same pages."""
    _, census = census_of(random_history(data), tmp_path / "census")
    pages = census.graph.pages
    assert pages is not None
    if not len(pages.pfn):
        return
    found = live_through(census, heads_of(census), DESIGNS)
    assert not found.unlived
    assert [row.failed for row in found.found] == [None] * len(DESIGNS)
    for row in found.found:
        assert row.useful == found.was.useful
        assert row.walks == found.alike <= row.pages
    assert found.chosen.unplaced == 0
