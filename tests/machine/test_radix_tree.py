"""The index of a file's pages, beside a dict and a count of nodes that is made anew from the pages that are there."""

import random

import numpy as np
import pytest

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.radix_tree import RadixTree, height_for


class Nodes:
    """Stands for a slab cache: which objects are out."""

    def __init__(self) -> None:
        self.out: set[int] = set()
        self._next = 0

    def take(self, nr: int) -> I64:
        taken = list(range(self._next, self._next + nr))
        self._next += nr
        self.out.update(taken)
        return np.array(taken, np.int64)

    def free_bulk(self, objects: I64) -> None:
        assert set(objects.tolist()) <= self.out
        self.out -= set(objects.tolist())


def tree_of(*, shrinks: bool) -> tuple[RadixTree, Nodes]:
    nodes = Nodes()
    return RadixTree(nodes, shrinks=shrinks), nodes  # type: ignore[arg-type]


def put(tree: RadixTree, nodes: Nodes, pages: dict[int, int]) -> None:
    indexes, before = np.array(sorted(pages), np.int64), tree.nr_nodes
    wanted = tree.missing(indexes)
    tree.insert(indexes, np.array([pages[i] for i in indexes.tolist()], np.int64), nodes.take(wanted))
    assert tree.nr_nodes - before == wanted


def wanted(pages: dict[int, int], height: int) -> int:
    return sum(len({index >> 6 * level for index in pages}) for level in range(1, height + 1))


@pytest.mark.parametrize("shrinks", [False, True])
def test_random_pages_beside_a_dict(shrinks: bool) -> None:
    """Answers, nodes and height after each step; the slab has exactly the nodes that are in the tree."""
    choose = random.Random(1)
    tree, nodes = tree_of(shrinks=shrinks)
    pages: dict[int, int] = {}
    height = 0
    for step in range(1500):
        if pages and choose.random() < 0.48:
            index = choose.choice(list(pages))
            assert tree.delete(index) == pages.pop(index)
            if not pages or shrinks:
                height = height_for(max(pages, default=0))
        else:
            base = choose.choice((0, 0, 60, 4000, 1 << 20))
            new = {base + choose.randrange(200) for _ in range(choose.randrange(1, 90))} - pages.keys()
            if not new:
                continue
            fresh = {index: 1000 * step + i for i, index in enumerate(sorted(new))}
            put(tree, nodes, fresh)
            pages |= fresh
            height = max(height, height_for(max(pages)))
        tree.check()
        assert (tree.height, tree.nr_nodes, len(nodes.out)) == (height, *[wanted(pages, height)] * 2)
        first = choose.randrange(4200)
        last = first + choose.randrange(1, 300)
        assert tree.range(first, last).tolist() == [pages.get(index, -1) for index in range(first, last)]
    assert dict(tree) == pages
    assert list(tree) == sorted(pages)
    assert tree == pages


def test_nodes_of_a_whole_file() -> None:
    """files.md A2: ceil(n/64) + ceil(n/4096) + ... until 1; the first page alone hangs on the root."""
    for nr, expected in ((1, 0), (2, 1), (64, 1), (65, 3), (4096, 65), (4097, 68), (262144, 4161)):
        tree, nodes = tree_of(shrinks=False)
        put(tree, nodes, {index: index for index in range(nr)})
        assert len(nodes.out) == expected, nr


def test_growth_over_what_is_there() -> None:
    """Page 0, then one that needs three levels: a node over page 0 at each, and two more on the other's path. Deletion shrinks it, or not."""
    for shrinks, left in ((False, 3), (True, 0)):
        tree, nodes = tree_of(shrinks=shrinks)
        put(tree, nodes, {0: 7})
        put(tree, nodes, {5000: 8})
        assert (tree.height, len(nodes.out)) == (3, 5)
        tree.delete(5000)
        assert (len(nodes.out), tree.find(0)) == (left, 7)
        tree.delete(0)
        assert (len(nodes.out), tree.height, len(tree)) == (0, 0, 0)


def test_without_nodes_it_answers_the_same() -> None:
    """2.4's hash."""
    tree = RadixTree()
    assert tree.missing(np.arange(100)) == 0
    tree.insert(np.arange(100), np.arange(100) + 5, np.empty(0, np.int64))
    assert (tree.range(98, 102).tolist(), 100 in tree, tree[99]) == ([103, 104, -1, -1], False, 104)
    with pytest.raises(KeyError):
        tree.delete(100)
    with pytest.raises(KernelBug, match="there already"):
        tree.insert(np.array([50]), np.array([1]), np.empty(0, np.int64))
