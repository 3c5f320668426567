"""What the census says that other designs would visit, against those designs, walking: the same history on each of them."""

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.designs import OURS, find_design, load_design
from rmaplab.kernels.system import System
from rmaplab.lab.census.designs import OWN
from rmaplab.lab.census.relive import KERNEL
from rmaplab.machine.arrays import I64
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.objects.graph import Graph, Pages
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.rmap.graph_of import graph_of

BASE, STEP, PAGES_EACH = 0x10_0000_0000, 0x10000, 3


def history(kernel: str) -> tuple[System, list[Task]]:
    """A program of four mappings forks six times, two levels deep, and everybody writes a little."""
    system = rmaplab.boot(kernel, ram="256M", paging="x86-64")
    tasks = [system.spawn()]
    for i in range(4):
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        tasks[0].mmap(PAGES_EACH << 12, PROT_READ | PROT_WRITE, flags, BASE + i * STEP)
        tasks[0].touch(BASE + i * STEP, PAGES_EACH << 12, write=True)
    for parent in (0, 0, 1, 2, 0, 3):
        tasks.append(tasks[parent].fork())
        tasks[-1].touch(BASE, 4096, write=True)
    tasks[1].touch(BASE + STEP, PAGES_EACH << 12, write=True)
    tasks[0].touch(BASE + 2 * STEP, 4096, write=True)
    return system, tasks


PLACES = [(who, BASE + i * STEP + (page << 12)) for who in range(7) for i in range(4) for page in range(PAGES_EACH)]


def pfn_at(system: System, task: Task, address: int) -> int:
    mm = task.mm
    assert mm is not None
    return int(lookup(*system.machine.geometry, mm.pgd, address)[0]) >> 12


def look(system: System, tasks: list[Task]) -> tuple[Graph, Pages]:
    """The graph of 6.18, and the page at each place, as a census has them."""
    design = system.kernel.design
    assert isinstance(design, AnonVmaChainMap)
    graph, _, anon_vmas = graph_of(design, system.kernel.tasks.values())
    row_of = {anon_vma.address: row for row, anon_vma in enumerate(anon_vmas)}
    mm_of = dict(zip(graph.processes.pid.tolist(), graph.processes.mm.tolist(), strict=True))
    pfns = [pfn_at(system, tasks[who], address) for who, address in PLACES]
    pages = Pages(
        np.array(pfns),
        np.array([mm_of[tasks[who].pid] for who, _ in PLACES]),
        np.array([row_of[int(design.frames.mapping[pfn])] for pfn in pfns]),
        design.frames.index[pfns],
        design.frames.mapcount[pfns].astype(np.int64),
        np.ones(len(pfns)),
    )
    return graph, pages


def visits(kernel: str, operation: str) -> list[int]:
    """How often a walk for the page at each place charges the operation, under the kernel's own design."""
    system, tasks = history(kernel)
    counts = system.machine.ledger.counts
    found = []
    for who, address in PLACES:
        before = counts.get(operation, 0)
        assert system.who_maps(tasks[who], address)
        found.append(counts.get(operation, 0) - before)
    return found


def foretell(name: str, graph: Graph, pages: Pages) -> I64:
    """What a design says that its walks would visit."""
    live = load_design(find_design(name).path).live
    assert live is not None
    assert live.visits is not None
    return live.visits(graph, pages)


@pytest.mark.parametrize(
    ("design", "kernel", "operation"),
    [
        ("anon_vma_chain", "6.18", "vma_visit"),
        ("anon_vma", "2.6.5-rc1-aa1", "vma_visit"),
        ("pte_chain", "2.6.5-rc1", "chain_slot_visit"),
    ],
)
def test_the_visits_foretold_are_those_made(design: str, kernel: str, operation: str) -> None:
    """For every page of every process; a page that is mapped once has no chain to visit, but its entry."""
    graph, pages = look(*history("6.18"))
    foretold = foretell(design, graph, pages).tolist()
    made = [max(each, 1) for each in visits(kernel, operation)]
    assert foretold == made
    assert max(made) > 1


def test_anonmm_makes_at_most_the_visits_foretold() -> None:
    """And those exactly for pages that are their finder's own."""
    graph, pages = look(*history("6.18"))
    foretold = foretell("anonmm", graph, pages)
    made = np.array(visits("2.6.5-rc1+anonmm", "mm_visit"))
    assert (made <= foretold).all()
    assert (made[foretold == 1] == 1).all()
    assert (foretold == 1).any()
    assert (made > 1).any()


def test_the_machine_walks_as_the_newest_kernel_does() -> None:
    """The census says so by itself: it does without the catalogue."""
    assert load_design(OURS[OWN]) is find_kernel(KERNEL).design_class()
