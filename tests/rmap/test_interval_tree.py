"""The interval tree against a plain list: the same answers in the same order, and few nodes looked at for them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.rmap.interval_tree import IntervalTree, Node

RANGES = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("iiir"), RANGES, st.integers(0, 99)), max_size=60), RANGES)
def test_what_a_list_says(steps: list[tuple[str, tuple[int, int], int]], wanted: tuple[int, int]) -> None:
    """Insertions and removals in any order; a walk goes by first page, the older first among equals (rbtree order)."""
    tree: IntervalTree[Node] = IntervalTree()
    nodes: list[Node] = []
    for what, (first, last), which in steps:
        if what == "i":
            node = Node()
            tree.insert(node, first, last)
            nodes.append(node)
        elif nodes:
            tree.remove(nodes.pop(which % len(nodes)))
        assert tree.check() is None
    in_order = sorted(nodes, key=lambda node: node.first)  # stable: the older first
    assert list(tree) == in_order
    assert len(tree) == len(nodes)
    first, last = wanted
    assert list(tree.overlapping(first, last)) == [n for n in in_order if n.first <= last and n.last >= first]


@pytest.mark.parametrize("nr", [1, 100, 10_000])
def test_few_nodes_are_looked_at(nr: int) -> None:
    """O(log n + m): of n ranges in a row, a search for one sees a path of the tree, not the ranges."""
    tree: IntervalTree[Node] = IntervalTree()
    for i in range(nr):
        tree.insert(Node(), 10 * i, 10 * i + 9)
    bound = 3 * math.log2(nr + 1) + 4  # a treap is at most about 3 log2 n deep
    assert tree.depth() <= bound
    for page in (0, 5 * nr, 10 * nr - 1):
        assert [node.first for node in tree.overlapping(page, page)] == [page // 10 * 10]
        assert tree.looked_at <= bound


def test_a_node_that_is_not_in_it() -> None:
    """Removing it twice is a mistake, and is said."""
    tree: IntervalTree[Node] = IntervalTree()
    node = Node()
    tree.insert(node, 1, 2)
    tree.remove(node)
    with pytest.raises(KeyError):
        tree.remove(node)
    assert list(tree.overlapping(0, 9)) == []


def test_check_finds_a_wrong_end() -> None:
    """An end that the tree does not know would hide a range from searches."""
    tree: IntervalTree[Node] = IntervalTree()
    node = Node()
    tree.insert(node, 1, 2)
    node.last = 7
    assert "largest end" in str(tree.check())
