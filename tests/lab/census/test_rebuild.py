"""A machine's census, saved, read back and lived through under other designs: beside the same history made under each of them.

The machine is the model's, so that nothing of this needs a privilege; tests/host/test_relived.py does it with real processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.kernels.system import System
from rmaplab.lab.census import rebuild
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.file import load, save_snapshot
from rmaplab.lab.census.rebuild import WalkedUnder, check_census, choose, on_the_machine, walk_under
from rmaplab.lab.census.relive import relive
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MADV_DONTNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
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
    chosen, history, pages = choose(census, [row.pid for row in census.trees()])
    was = on_the_machine(census, chosen, history, pages)
    now = walk_under(design, census, chosen, history, pages)
    assert chosen.vmas == was.vmas
    assert chosen.unplaced == 0
    assert chosen.complete
    return was, now


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
    chosen, lived, _ = choose(census, [row.pid for row in census.trees()])
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
    chosen, history, pages = choose(census, [row.pid for row in census.trees()])
    assert not chosen.complete
    assert chosen.unplaced == 1
    now = walk_under("anon_vma", census, chosen, history, pages)
    assert 0 < now.pages <= chosen.pages


def test_trees_beyond_the_bound_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_trees(system: System) -> None:
        generations(system)
        the_first_ended(system)

    _, census = census_of(two_trees, tmp_path / "census")
    heads = [row.pid for row in census.trees()]
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
