"""Machines of the model whose histories are known, as censuses; what tests of living through them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.host.footprint import Footprints
from rmaplab.host.slabs import Sizes
from rmaplab.host.snapshot import Rung, Snapshot
from rmaplab.kernels.system import System
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.file import load, save_snapshot
from rmaplab.lab.census.rebuild import WalkedUnder, live_through
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.graph import Pages
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


def heads_of(census: Census) -> list[int]:
    return [row.pid for row in census.trees()]


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


def two_trees(system: System) -> None:
    """Their pages differ: 26 entries and 18, say."""
    generations(system)
    the_first_ended(system)
