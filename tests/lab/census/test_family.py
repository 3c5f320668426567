"""Whose children they were: a graph made by hand, in which all parents have ended."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import pytest

from rmaplab.lab.census import family
from rmaplab.lab.census.family import FamilyNode, by_birth, family_tree
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, AnonVmas, Chains, Files, Graph, Processes, Vmas


def orphans(nr: int) -> Graph:
    """`nr` processes, the only child of a parent each, those the children of one; of all parents only anon_vmas are left.

    anon_vmas: 0 the root, 1 to nr the parents', then the children's. Each has a VMA and is told of its own and those above.
    """
    each = np.arange(nr)
    nothing, zeros = np.zeros(0, np.int64), np.zeros(nr, np.int64)
    processes = Processes(each + 10, zeros + 1, np.full(nr, b"orphan", "S16"), each + 5, each)
    vmas = Vmas(each, zeros + 4096, zeros + 8192, zeros + 1, zeros, 1 + nr + each, zeros + NONE)
    parent = np.concatenate([[0], zeros, 1 + each])
    none = np.zeros(len(parent), np.int64)
    return Graph(
        processes, vmas, AnonVmas(none, parent, none, none, none), Chains(each, vmas.anon_vma), Files(nothing, nothing)
    )


def steps(graph: Graph, mms: I64) -> tuple[int, list[FamilyNode]]:
    """Lines of family.py that are run, and the tree."""
    nr = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal nr
        nr += event == "line"
        return count if frame.f_code.co_filename == family.__file__ else None

    before = sys.gettrace()
    sys.settrace(count)
    try:
        nodes = family_tree(graph, mms)
        by_birth(nodes, list(range(len(nodes))))
    finally:
        sys.settrace(before)
    return nr, nodes


@pytest.mark.parametrize("nr", [1, 2, 50])
def test_parents_that_have_ended_are_found_by_what_they_left(nr: int) -> None:
    """An only child's parent is its own; the parents have one that has ended too; elders come before their children."""
    _, nodes = steps(orphans(nr), np.arange(nr))
    parents = [node.parent for node in nodes[:nr]]
    assert sorted(parents) == list(range(nr, 2 * nr))
    assert [nodes[parent].anon_vmas for parent in parents] == [{1 + i} for i in range(nr)]
    assert {nodes[parent].parent for parent in parents} == {2 * nr}
    assert nodes[2 * nr].anon_vmas == {0}
    order = by_birth(nodes, list(range(len(nodes))))
    assert sorted(order) == list(range(2 * nr + 1))
    assert all(order.index(node.parent) < order.index(i) for i, node in enumerate(nodes) if node.parent != NONE)


def test_ten_times_as_many_orphans_cost_ten_times_as_much() -> None:
    (few, _), (many, _) = (steps(orphans(nr), np.arange(nr)) for nr in (30, 300))
    assert many < 11 * few
