"""files.md E4, by walking: what page_referenced and try_to_unmap visit in small editions of rmap-test and test-mmap, page by page.

Of N VMAs in each of P processes, on lists: page_referenced passes all P N; try_to_unmap stops behind the block of its page's VMA, the
i-th: P (i + 1), on average P (N + 1) / 2. In trees and by chains: the P that map the page.

`make vmas` walks at the published sizes: lists 10,100, 20,000, 513, 18,000, 57,600, 576,000.
"""

from collections.abc import Sequence

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import UsageError
from rmaplab.kernels.box import announced
from rmaplab.lab.costs import manyvmas
from rmaplab.lab.costs.manyvmas import DERIVED, ManyVmasRow, compare_manyvmas
from rmaplab.machine.frames import PG_REFERENCED
from rmaplab.rmap.prio_tree import PrioTree
from rmaplab.rmap.queries import Outcome, referenced, unmap
from rmaplab.workloads.manyvmas import PROGRAMS, ManyVmas

SMALL = (
    ManyVmas("rmap-test-1", 10, 6, 1, 11),
    ManyVmas("rmap-test-3", 200, 7, 1, 2),
    ManyVmas("rmap-test-4", 1, 128, 0, 23),
    ManyVmas("test-mmap", 180, 1, 0, 1, backwards=True),
    ManyVmas("test-mmap2", 18, 1, 0, 8, backwards=True),
)
programs = pytest.mark.parametrize("program", SMALL, ids=lambda program: program.name)
BOX = announced(paging="x86-64")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests by these names have these sizes."""
    for program in SMALL:
        monkeypatch.setitem(PROGRAMS, program.name, program)
    monkeypatch.setattr(manyvmas, "RAM", "64M")


def run(
    program: ManyVmas, kernels: Sequence[str], indexes: Sequence[str] = (), *, locked: bool = False
) -> list[ManyVmasRow]:
    runs, total = compare_manyvmas([program.name], kernels, indexes, BOX, locked=locked, growth=[1])
    rows = list(runs)
    assert len(rows) == total
    return rows


@programs
@pytest.mark.parametrize("kernel", ["2.6.5-rc1+00100", "2.6.5-rc1-aa1"])
def test_lists_page_by_page(program: ManyVmas, kernel: str) -> None:
    """The i-th VMA's page: P N for page_referenced, P (i + 1) for try_to_unmap."""
    system = rmaplab.boot(kernel, ram="64M", paging="x86-64")
    space, _ = program.run(system)
    ledger, frames = system.machine.ledger, system.machine.frames
    for nr in range(0, program.vmas * program.pages, 5):
        page = np.array([space.pages[program.file_page(nr)]])
        frames.flags[page] &= ~np.uint32(PG_REFERENCED)  # which counts as one more
        before = ledger.counts.copy()
        assert referenced(system.kernel.rmap, page).nr.tolist() == [program.processes]
        spent = ledger.counts - before
        assert spent["vma_visit"] == spent["file_node_visit"] == program.nr_vmas
        assert spent["visit_out_of_range"] == program.nr_vmas - program.processes
        frames.count[page] += 1
        before = ledger.counts.copy()
        assert unmap(system.kernel.rmap, page, np.zeros(1, np.int64)).replaced.tolist() == [program.processes]
        spent = ledger.counts - before
        assert spent["vma_visit"] == spent["file_node_visit"] == program.processes * (nr // program.pages + 1)
        frames.count[page] -= 1
    system.check()


@programs
def test_lists_on_average(program: ManyVmas) -> None:
    """Of all pages, though a sample was walked from."""
    (row,) = run(program, ["2.6.5-rc1-aa1"])
    assert row.as_json() == {
        "test": program.name,
        "kernel": "2.6.5-rc1-aa1",
        "index": "list",
        "vmas": program.nr_vmas,
        "referenced_visits_per_page": program.nr_vmas,
        "unmap_visits_per_page": program.processes * (program.vmas + 1) / 2,
        "nodes_per_walk": program.nr_vmas,
    }
    assert row.outcome is Outcome.SUCCESS


@programs
def test_trees_and_chains(program: ManyVmas) -> None:
    """Those that map the page and nobody else; an rbtree by first page passes those that begin earlier."""
    trees = ["prio_tree", "prio_tree_mended", "interval_tree"]
    rows = [*run(program, ["2.6.5-rc1-aa1"], trees), *run(program, ["2.6.2", "2.6.7", "6.18"])]
    assert [row.index for row in rows] == [*trees, "pte_chain", "prio_tree", "interval_tree"]
    for row in rows:
        assert row.visits.referenced == row.visits.unmap == program.processes
        if row.visits.nodes is None:
            assert row.index == "pte_chain"
        else:
            assert row.visits.nodes <= program.processes + 2 * (program.vmas * (program.pages + 1)).bit_length()
    (rbtree,) = run(program, ["2.6.5-rc1-aa1"], ["rbtree"])
    assert rbtree.visits.referenced == program.processes * (program.vmas + 1) / 2


@programs
def test_locked_mappings(program: ManyVmas) -> None:
    """Nothing goes. Whoever maps a page first ends the walks that look at VM_LOCKED; a list is passed up to there all the same."""
    chain, on_list, tree, today = run(program, ["2.6.2", "2.6.5-rc1-aa1", "2.6.7", "6.18"], locked=True)
    assert {row.outcome for row in (chain, on_list, tree, today)} == {Outcome.FAIL}
    assert on_list.unlocked is not None
    assert on_list.visits.referenced == on_list.unlocked.referenced == program.nr_vmas
    assert on_list.visits.unmap == program.processes * (program.vmas - 1) / 2 + 1
    assert (chain.visits.referenced, chain.visits.unmap) == (program.processes, 1)
    for row in (tree, today):
        assert (row.visits.referenced, row.visits.unmap) == (1, 1)
        assert row.unlocked is not None
        assert row.unlocked.referenced == program.processes


def test_a_long_walk_is_made_from_fewer_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its mean is the same."""
    (all_of_them,) = run(SMALL[1], ["2.6.5-rc1-aa1"])
    monkeypatch.setattr(manyvmas, "BUDGET", 4_000)
    (few,) = run(SMALL[1], ["2.6.5-rc1-aa1"])
    assert few.pages < all_of_them.pages
    assert few.visits == all_of_them.visits


def test_a_kernel_that_asks_no_index_is_walked_as_it_is() -> None:
    """Beside others; alone, --indexes makes no sense."""
    rows = run(SMALL[0], ["2.6.2", "2.6.5-rc1-aa1"], ["list", "rbtree"])
    assert [(row.kernel, row.index) for row in rows] == [
        ("2.6.2", "pte_chain"),
        ("2.6.5-rc1-aa1", "list"),
        ("2.6.5-rc1-aa1", "rbtree"),
    ]
    with pytest.raises(UsageError, match="leave --indexes out"):
        run(SMALL[0], ["2.6.2"], ["rbtree"])


def test_growth() -> None:
    """Smaller ones first: visits grow with the VMAs."""
    runs, total = compare_manyvmas(["test-mmap"], ["2.6.5-rc1-aa1"], [], BOX, locked=False, growth=[1, 2, 4])
    rows = list(runs)
    assert len(rows) == total == 3
    assert [row.visits.referenced for row in rows] == [45, 90, 180]


def test_a_box_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the test."""
    monkeypatch.setitem(PROGRAMS, "rmap-test-4", ManyVmas("rmap-test-4", 512, 16, 1, 3))
    runs, _ = compare_manyvmas(["rmap-test-4"], ["2.6.2"], [], BOX, locked=False, growth=[1])
    with pytest.raises(UsageError, match=r"rmap-test-4 under 2\.6\.2"):
        list(runs)


def test_what_is_derived_follows_from_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """files.md E4's figures are those of its own formulas."""
    monkeypatch.undo()
    for name, program in PROGRAMS.items():
        derived, mean = DERIVED[name], program.processes * (program.vmas + 1) / 2
        assert (*derived.on_list, derived.found) == (program.nr_vmas, mean, program.processes)


@pytest.mark.parametrize(("test", "index_bits"), [("rmap-test-1", 16), ("rmap-test-3", 17), ("test-mmap", 15)])
def test_nodes_of_a_prio_tree(test: str, index_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """files.md E4's means are over all pages of the file from its first mapped one on, those that nobody maps included."""
    monkeypatch.undo()
    program, tree, nodes = PROGRAMS[test], PrioTree[int](32, whole_words=False), 0
    for vma in range(program.vmas):
        first = program.file_page(vma * program.pages)
        tree.insert(first, first + program.pages - 1, vma)
    ends = program.file_page(0), program.file_page(program.vmas * program.pages - 1)
    pages = range(min(ends), max(ends) + 1)
    for page in pages:
        assert len(list(tree.overlapping(page, page))) <= 1
        nodes += tree.looked_at
    assert tree.index_bits == index_bits
    assert round(nodes / len(pages), 1) == DERIVED[test].prio_nodes
