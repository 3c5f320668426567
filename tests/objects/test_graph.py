"""The graph of a reverse map: renaming, what it is asked, and what it notices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, UNKNOWN, AnonVmas, Chains, Files, Graph, Processes, Vmas, build
from rmaplab.objects.graph_check import findings, hidden

BASE = 0xFFFF_8881_0000_0000 - (1 << 64)  # a kernel pointer, as int64 has it


class Family:
    """A machine that forks as Linux 6.x does without reuse: a child VMA hangs on its own anon_vma and on all of its parent's VMA.

    Pointers are random numbers, rows are in random order: what build() makes of it must not depend on either.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.used: set[int] = set()
        self.processes: list[tuple[int, int, bytes, int, int]] = []
        self.vmas: list[dict[str, int]] = []
        self.anon_vmas: dict[int, dict[str, int]] = {}
        self.chains: list[tuple[int, int]] = []  # (VMA's pointer, anon_vma's), in order

    def pointer(self) -> int:
        while True:
            new = BASE + 8 * int(self.random.integers(1, 1 << 28))
            if new not in self.used:
                self.used.add(new)
                return new

    def exec(self, pid: int, ranges: list[tuple[int, int]]) -> int:
        mm = self.pointer()
        self.processes.append((pid, 1, b"first", pid, mm))
        for start, end in ranges:
            anon_vma = self._new_anon_vma()
            vma = self._new_vma(mm, start, end, anon_vma)
            self.chains.append((vma, anon_vma))
        return pid

    def fork(self, parent: int, pid: int) -> int:
        mm, of = self.pointer(), next(process[4] for process in self.processes if process[0] == parent)
        self.processes.append((pid, parent, b"child", pid, mm))
        for vma in [vma for vma in self.vmas if vma["mm"] == of]:
            own = self._new_anon_vma(vma["anon_vma"])
            child = self._new_vma(mm, vma["start"], vma["end"], own)
            inherited = [anon_vma for at, anon_vma in self.chains if at == vma["pointer"]]
            self.chains += [(child, own), *((child, anon_vma) for anon_vma in inherited)]
        return pid

    def _new_vma(self, mm: int, start: int, end: int, anon_vma: int) -> int:
        pointer = self.pointer()
        row = {"pointer": pointer, "mm": mm, "start": start, "end": end, "anon_vma": anon_vma}
        self.vmas.append(row)
        self.anon_vmas[anon_vma]["active"] += 1
        return pointer

    def _new_anon_vma(self, parent: int = 0) -> int:
        new = self.pointer()
        root = self.anon_vmas[parent]["root"] if parent else new
        self.anon_vmas[new] = {"root": root, "parent": parent or new, "children": 0 if parent else 1, "active": 0}
        if parent:
            self.anon_vmas[parent]["children"] += 1
        return new

    def graph(self) -> Graph:
        order = self.random.permutation(len(self.vmas))
        vmas = [self.vmas[i] for i in order]
        at = {vma["pointer"]: row for row, vma in enumerate(vmas)}
        names = self.random.permutation(list(self.anon_vmas))
        anon = [self.anon_vmas[int(pointer)] for pointer in names]
        row_of = {int(pointer): row for row, pointer in enumerate(names)}
        people = [self.processes[i] for i in self.random.permutation(len(self.processes))]
        zeros = np.zeros(len(vmas), np.int64)
        return build(
            Processes(*(np.array(column) for column in zip(*people, strict=True))),
            Vmas(
                _column(vmas, "mm"),
                _column(vmas, "start"),
                _column(vmas, "end"),
                _column(vmas, "start") >> 12,
                zeros,
                _column(vmas, "anon_vma"),
                zeros + NONE,
            ),
            AnonVmas(
                _column(anon, "root"),
                _column(anon, "parent"),
                _column(anon, "children"),
                _column(anon, "active"),
                np.ones(len(anon), np.int64),
            ),
            Chains(np.array([at[vma] for vma, _ in self.chains]), np.array([row_of[anon] for _, anon in self.chains])),
            Files(np.zeros(0, np.int64), np.zeros(0, np.int64)),
            names,
        ).graph


def _column(rows: list[dict[str, int]], name: str) -> I64:
    return np.array([row[name] for row in rows], np.int64)


def forest(seed: int, forks: list[int]) -> Graph:
    """Two programs of some VMAs each; forks[i] says which process (modulo their number) forks the i-th."""
    family = Family(seed)
    pids = [family.exec(10, [(0x10000, 0x14000), (0x20000, 0x21000)]), family.exec(11, [(0x10000, 0x12000)])]
    for i, parent in enumerate(forks):
        pids.append(family.fork(pids[parent % len(pids)], 100 + i))
    return family.graph()


def same(one: Graph, other: Graph) -> bool:
    mine, its = one.columns(), other.columns()
    return mine.keys() == its.keys() and all(np.array_equal(mine[name], its[name]) for name in mine)


FORKS = st.lists(st.integers(0, 20), max_size=12)


@given(st.integers(0, 99), st.integers(100, 199), FORKS)
def test_pointers_and_the_order_of_rows_leave_no_trace(one: int, other: int, forks: list[int]) -> None:
    """The same history with other pointers, read in another order, is the same graph."""
    assert same(forest(one, forks), forest(other, forks))


@given(st.integers(0, 99), FORKS)
def test_a_sound_graph_is_found_sound(seed: int, forks: list[int]) -> None:
    """No findings, nothing hidden, and it survives becoming columns and back."""
    graph = forest(seed, forks)
    assert findings(graph) == []
    assert hidden(graph) == (0, 0)
    assert same(Graph.from_columns(graph.columns()), graph)


@pytest.mark.parametrize(("children", "chains"), [(1, 2 + 4), (5, 2 + 20), (50, 2 + 200)])
def test_flat_forks_have_the_published_number_of_chains(children: int, chains: int) -> None:
    """F + 2Fn chains and F + Fn anon_vmas for n children alive (reference modern.md 1.3), F = 2."""
    family = Family(1)
    family.exec(1, [(0x1000, 0x2000), (0x3000, 0x4000)])
    for child in range(children):
        family.fork(1, 2 + child)
    graph = family.graph()
    assert (len(graph.chains.vma), len(graph.anon_vmas.root)) == (chains, 2 + 2 * children)
    assert graph.depths.max() == 2


def test_depths_follow_a_chain_of_forks() -> None:
    """F D (D + 1) / 2 chains, and generations 1 to D."""
    family = Family(2)
    family.exec(1, [(0x1000, 0x2000), (0x3000, 0x4000)])
    for pid in range(2, 31):
        family.fork(pid - 1, pid)
    graph = family.graph()
    assert len(graph.chains.vma) == 2 * 30 * 31 // 2
    assert sorted(graph.depths.tolist()) == sorted([*range(1, 31)] * 2)
    assert graph.chain_lengths().max() == 30


@given(st.integers(0, 99), FORKS)
def test_families_are_what_a_fork_can_reach(seed: int, forks: list[int]) -> None:
    """Two programs are two families, whoever forked how often."""
    graph = forest(seed, forks)
    parent = dict(zip(graph.processes.pid.tolist(), graph.processes.parent.tolist(), strict=True))
    families = graph.families[graph.processes.mm]

    def ancestor(pid: int) -> int:
        return pid if parent[pid] == 1 else ancestor(parent[pid])

    ancestors = [ancestor(pid) for pid in graph.processes.pid.tolist()]
    pairs = set(zip(ancestors, families.tolist(), strict=True))
    assert len(pairs) == len(set(ancestors)) == len(set(families.tolist()))


@given(st.integers(0, 99), FORKS)
def test_candidates_are_the_vmas_that_cover_an_index(seed: int, forks: list[int]) -> None:
    """By stretches, as by asking every VMA on the anon_vma about every index; one VMA is made shorter and moved, as mremap does."""
    graph = forest(seed, forks)
    graph.vmas.end[0] -= 0x1000
    graph.vmas.pgoff[-1] += 1
    found = {}
    for owner, first, length, cover in zip(*(column.tolist() for column in graph.stretches), strict=True):
        for index in range(first, first + length):
            assert (owner, index) not in found
            found[owner, index] = cover
    brute: dict[tuple[int, int], int] = {}
    for vma, owner in zip(*(column.tolist() for column in graph.chains), strict=True):
        first = int(graph.vmas.pgoff[vma])
        for index in range(first, first + int(graph.vmas.nr_pages[vma])):
            brute[owner, index] = brute.get((owner, index), 0) + 1
    assert found == brute


# -- what findings() notices ------------------------------------------------------------------------------------------


def test_two_vmas_of_one_anon_vma_with_different_chains_are_found() -> None:
    """CVE-2022-42703: an anon_vma reused twice."""
    graph = forest(3, [0, 0])
    vmas = graph.vmas
    children = np.flatnonzero((vmas.start == 0x10000) & (vmas.mm > 1))[:2]
    vmas.anon_vma[children[1]] = vmas.anon_vma[children[0]]
    assert any("another set" in what for what in map(str, findings(graph)))


def test_a_chain_that_was_cut_is_found() -> None:
    """One chain of a VMA missing: another VMA of the same anon_vma has it, or the VMA itself hangs on nothing of its own."""
    graph = forest(4, [0, 1, 2])
    for lost in range(len(graph.chains.vma)):
        chains = Chains(*(np.delete(column, lost) for column in graph.chains))
        own = graph.chains.anon_vma[lost] == graph.vmas.anon_vma[graph.chains.vma[lost]]
        assert bool(findings(replace(graph, chains=chains))) == bool(own)


@pytest.mark.parametrize("column", ["num_children", "num_active_vmas"])
def test_counters_below_the_recount_are_broken_and_above_it_hidden(column: str) -> None:
    """Too few cannot be; too many are processes that we do not see."""
    graph = forest(5, [0, 0])
    values = getattr(graph.anon_vmas, column)
    values[0] -= 1
    assert any(column in what for what in map(str, findings(graph)))
    values[0] += 3
    assert findings(graph) == []
    assert sum(hidden(graph)) == 2
    values[:] = UNKNOWN
    assert (findings(graph), hidden(graph)) == ([], (0, 0))


def test_wrong_roots_parents_and_layouts_are_found() -> None:
    """Each damage alone is noticed."""
    for damage in ("root", "parent", "overlap", "no chain", "circle"):
        graph = forest(6, [0, 2])
        child = int(np.flatnonzero(graph.anon_vmas.parent != np.arange(len(graph.anon_vmas.root)))[0])
        if damage == "root":
            graph.anon_vmas.root[child] = child
        elif damage == "parent":
            other = np.flatnonzero(graph.anon_vmas.root != graph.anon_vmas.root[child])[0]
            graph.anon_vmas.parent[child] = other
        elif damage == "overlap":
            graph.vmas.end[0] = graph.vmas.start[1] + 0x1000
        elif damage == "no chain":
            graph.vmas.anon_vma[0] = NONE
        else:
            root = graph.anon_vmas.root[child]
            graph.anon_vmas.parent[root] = child
        assert findings(graph), damage


def test_an_empty_machine_is_sound() -> None:
    """No processes, no VMAs: every question has an answer."""
    none = np.zeros(0, np.int64)
    empty = build(
        Processes(none, none, none.astype("S16"), none, none),
        Vmas(none, none, none, none, none, none, none),
        AnonVmas(none, none, none, none, none),
        Chains(none, none),
        Files(none, none),
        none,
    ).graph
    assert (findings(empty), hidden(empty), empty.nr_mms) == ([], (0, 0), 0)
    assert [len(column) for column in (*empty.stretches, empty.families, empty.depths)] == [0] * 6


@pytest.mark.parametrize("damage", ["short", "outside", "missing"])
def test_columns_that_do_not_fit_are_refused(damage: str) -> None:
    """A file that was tampered with must not become a graph."""
    columns = forest(7, [0]).columns()
    if damage == "short":
        columns["vmas.end"] = columns["vmas.end"][1:]
    elif damage == "outside":
        columns["chains.vma"] = columns["chains.vma"] + 100
    else:
        del columns["anon_vmas.root"]
    with pytest.raises((ValueError, KeyError)):
        Graph.from_columns(columns)
