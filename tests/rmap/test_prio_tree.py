"""The priority search tree of 2.6.7 against a plain list of ranges, node by node where files.md A5 has the tree, and the fault it had.

pages   0 1 2 3 4 5 6 7
        [=====]                 who meets [6,6]?   (0,7) (3,7) (4,7) (6,6)
                [=====]
        [=============]
            [=====]
              ...
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.rmap.prio_tree import PrioNode, PrioTree, add_beside

EIGHT = [(0, 3), (4, 7), (0, 7), (2, 5), (1, 2), (6, 6), (0, 0), (3, 7)]


def tree_of(ranges: list[tuple[int, int]], *, whole_words: bool = False) -> PrioTree[object]:
    tree: PrioTree[object] = PrioTree(32, whole_words=whole_words)
    for i, (first, last) in enumerate(ranges):
        tree.insert(first, last, i)
    return tree


def test_the_tree_of_eight_ranges_is_the_kernels() -> None:
    """files.md A5, vectors: the tree, four searches with the nodes they enter, and the tree without its root."""
    tree = tree_of(EIGHT)
    assert (tree.index_bits, repr(tree.root)) == (3, "(0,7 L(3,7 L(0,3 L(0,0) R(1,2)) R(2,5)) R(4,7 R(6,6)))")
    for (first, last), found, entered in (
        ((0, 0), [(0, 7), (0, 3), (0, 0)], 4),
        ((2, 2), [(0, 7), (0, 3), (1, 2), (2, 5)], 5),
        ((6, 6), [(0, 7), (3, 7), (4, 7), (6, 6)], 4),
        ((5, 9), [(0, 7), (3, 7), (2, 5), (4, 7), (6, 6)], 5),
    ):
        assert [(node.first, node.last) for node in tree.overlapping(first, last)] == found
        assert tree.looked_at == entered
    assert tree.root is not None
    tree.remove(tree.root, 2)
    assert repr(tree.root) == "(3,7 L(2,5 L(0,3 L(0,0) R(1,2))) R(4,7 R(6,6)))"


def test_ranges_that_begin_alike_go_by_length() -> None:
    """files.md A5: 2.6.7 takes as many bits of the length as starts have, 2.6.34 all of a word, so its tree is a chain."""
    alike = [(0, last) for last in range(8)]
    assert repr(tree_of(alike).root) == "(0,7 L(0,6 L(0,5 L(0,4 L(0,3 L(0,1 L(0,0)) R(0,2))))))"
    mended = repr(tree_of(alike, whole_words=True).root)
    assert mended == " L".join(f"({0},{last}" for last in reversed(range(8))) + ")" * 8


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30), st.data(), st.sampled_from([False, True])
)
def test_every_range_that_meets_is_found_and_no_other(
    starts: list[tuple[int, int]], data: st.DataObject, whole_words: bool
) -> None:
    """Against a plain list, while ranges come and go; the tree is whole after each."""
    tree: PrioTree[int] = PrioTree(32, whole_words=whole_words)
    there: dict[int, PrioNode[int]] = {}
    for i, (first, length) in enumerate(starts):
        try:
            there[i] = tree.insert(first, first + length, i)
        except KernelBug:
            assert not whole_words  # 2.6.7's fault, below
            return
        one_goes = data.draw(st.booleans())
        if there and one_goes:
            gone = data.draw(st.sampled_from(sorted(there)))
            tree.remove(there.pop(gone), gone)
        if whole_words:
            assert tree.check() is None
        low = data.draw(st.integers(0, 80))
        high = low + data.draw(st.integers(0, 10))
        found = [member for node in tree.overlapping(low, high) for member in node.members]
        ranges = {j: (starts[j][0], sum(starts[j])) for j in there}
        assert sorted(found) == [j for j, (begin, end) in sorted(ranges.items()) if begin <= high and end >= low]


def test_2_6_7_takes_a_range_twice_and_stops_at_it() -> None:
    """Eleven calls, made small from a random run: eight VMAs of one file, two go, and the next one pushes (0,2) down to the other (0,2).

    The tree grew with [0,10]; after that the bits of the length that lead to (0,2) were other ones, so it came in twice.
    """

    def run(whole_words: bool) -> PrioTree[str]:
        tree: PrioTree[str] = PrioTree(32, whole_words=whole_words)
        there = {
            f"{a}-{b}": tree.insert(a, b, f"{a}-{b}")
            for a, b in ((0, 3), (0, 6), (0, 2), (0, 7), (0, 5), (1, 6), (0, 10))
        }
        tree.insert(0, 2, "again")
        for gone in ("0-10", "0-7"):
            tree.remove(there[gone], gone)
        tree.insert(0, 7, "new")
        return tree

    with pytest.raises(KernelBug, match=r"vma_prio_tree_add.*\[0, 2\] is there twice"):
        run(whole_words=False)
    assert run(whole_words=True).check() is None


def test_a_set_of_alike_ranges_is_in_the_kernels_order() -> None:
    """files.md A5, vm_set: beside the one in the tree means last, or the head of the set if there was none; beside another, behind it."""
    node = PrioNode(0, 3, "tree")
    add_beside(node, "head", "tree")
    add_beside(node, "third", "tree")
    add_beside(node, "behind head", "head")
    add_beside(node, "behind third", "third")
    assert node.members == ["tree", "head", "behind head", "third", "behind third"]


def test_nodes_that_a_walk_enters_are_those_of_the_published_tests() -> None:
    """files.md E4, prio_tree: rmap-test 1 and 3, one search for each page that is mapped; test-mmap's one-page VMAs, mapped downwards."""
    for vmas, pages, bits, mean in ((100, 600, 16, 6.4), (10_000, 7, 17, 13.2)):
        tree = tree_of([(i * (pages + 1), i * (pages + 1) + pages - 1) for i in range(vmas)])
        entered = [
            _entered(tree, i * (pages + 1) + k) for i in range(vmas) for k in range(0, pages, max(1, pages // 50))
        ]
        assert tree.index_bits == bits
        assert sum(entered) / len(entered) == pytest.approx(mean, abs=0.1)
    tree = tree_of([(page, page) for page in range(18_000, 0, -1)])
    entered = [_entered(tree, page) for page in range(1, 18_001)]
    assert (tree.index_bits, max(entered)) == (15, 16)
    assert sum(entered) / len(entered) == pytest.approx(14.2, abs=0.05)


def _entered(tree: PrioTree[object], page: int) -> int:
    assert [node.first <= page <= node.last for node in tree.overlapping(page, page)] == [True]
    return tree.looked_at
