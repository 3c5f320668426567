r"""An interval tree: which of many ranges of page offsets meet this one, without looking at the others.

    ranges        [2,5]  [4,4]  [6,9]  [7,7]  [12,20]        a search tree by start; each node also knows the largest
                                                             end below it, so that a whole subtree can be left out
                        [6,9] max 20
                       /            \
              [2,5] max 5          [7,7] max 20              who meets [10,13]?   [6,9]: no; left of it nobody reaches
                    \                    \                    10, so nobody is asked; [7,7]: no; [12,20]: yes
                  [4,4] max 4          [12,20] max 20        3 nodes looked at, not 5

Linux's is an augmented red-black tree (lib/interval_tree.c and include/linux/interval_tree_generic.h since 3.7, commits
6b2dbba8b6ac and bf181b9f9d8d). This one is a treap: the same order of nodes, the same bound on average, half the code. A node's
priority is a hash of its number, so the same insertions make the same tree on every machine.

Order: by first page, and among equals by age; a walk goes in that order, as it does in Linux.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Generic, TypeVar

_MIX = 0x9E37_79B9_7F4A_7C15
_WORD = (1 << 64) - 1


class Node:
    """A range [first, last] of page offsets, both included. Derive from it: the node is the thing itself, as in Linux."""

    __slots__ = ("first", "last", "left", "order", "priority", "right", "subtree_last")

    def __init__(self) -> None:
        self.first = self.last = self.order = 0
        self.subtree_last = self.priority = 0
        self.left: Node | None = None
        self.right: Node | None = None

    def pull(self) -> None:
        """Recompute the largest end at or below this node. O(1)."""
        largest = self.last
        left, right = self.left, self.right
        if left is not None and left.subtree_last > largest:
            largest = left.subtree_last
        if right is not None and right.subtree_last > largest:
            largest = right.subtree_last
        self.subtree_last = largest

    def before(self, other: "Node") -> bool:
        """Whether it comes first in a walk."""
        return (self.first, self.order) < (other.first, other.order)


N = TypeVar("N", bound=Node)


class IntervalTree(Generic[N]):
    """Nodes of one kind. `looked_at` counts the nodes that the last search had to look at."""

    __slots__ = ("_born", "_nr", "_root", "looked_at")

    def __init__(self) -> None:
        self._root: Node | None = None
        self._nr = self._born = 0
        self.looked_at = 0

    def __len__(self) -> int:
        return self._nr

    def insert(self, node: N, first: int, last: int) -> None:
        """Put a node that is in no tree at [first, last]. O(log n)."""
        self._born += 1
        self._nr += 1
        node.first, node.last, node.order = first, last, self._born
        node.priority = _mix(self._born)
        node.left = node.right = None
        node.subtree_last = last
        self._root = _insert(self._root, node)

    def remove(self, node: N) -> None:
        """Take a node of this tree out. O(log n). Raises KeyError if it is not in it."""
        self._root = _remove(self._root, node)
        self._nr -= 1

    def overlapping(self, first: int, last: int) -> Iterator[N]:
        """The nodes that meet [first, last], in order. O(log n + m): `looked_at` is the number of nodes on the way."""
        self.looked_at = 0
        waiting: list[Node] = []
        node = self._root
        while True:
            while node is not None and node.subtree_last >= first:
                self.looked_at += 1
                waiting.append(node)
                node = node.left
            if not waiting:
                return
            node = waiting.pop()
            if node.first > last:  # so are all that follow
                return
            if node.last >= first:
                yield node  # type: ignore[misc]  # whoever inserted it says of which kind it is
            node = node.right

    def __iter__(self) -> Iterator[N]:
        yield from self.overlapping(-1, 1 << 64)

    def borders(self) -> list[int]:
        """Where the place that a search is for decides which way it goes: between two of these nothing does. Read from the nodes. O(n)."""
        found, waiting = list[int](), [self._root]
        while waiting:
            node = waiting.pop()
            if node is not None:
                found += (node.first, node.last + 1, node.subtree_last + 1)
                waiting += (node.left, node.right)
        return found

    def depth(self) -> int:
        """The longest path from the root. For tests. O(n)."""

        def below(node: Node | None) -> int:
            return 0 if node is None else 1 + max(below(node.left), below(node.right))

        return below(self._root)

    def check(self) -> str | None:
        """The first thing that is wrong with the tree, in words. O(n)."""
        nodes = list(self)
        if len(nodes) != self._nr:
            return f"{len(nodes)} nodes can be reached, {self._nr} were counted"
        for before, after in pairwise(nodes):
            if not before.before(after):
                return f"[{after.first}, {after.last}] comes too late"
        return _check_below(self._root)


def _mix(number: int) -> int:
    """splitmix64 of Steele, Lea and Flood: neighbours get unrelated priorities."""
    number = number * _MIX & _WORD
    number = (number ^ number >> 30) * 0xBF58_476D_1CE4_E5B9 & _WORD
    number = (number ^ number >> 27) * 0x94D0_49BB_1331_11EB & _WORD
    return number ^ number >> 31


def _insert(root: Node | None, node: Node) -> Node:
    if root is None:
        return node
    if node.priority > root.priority:
        node.left, node.right = _split(root, node)
        node.pull()
        return node
    if root.before(node):
        root.right = _insert(root.right, node)
    else:
        root.left = _insert(root.left, node)
    root.pull()
    return root


def _split(root: Node | None, at: Node) -> tuple[Node | None, Node | None]:
    """Those before `at`, those after it."""
    if root is None:
        return None, None
    if root.before(at):
        root.right, after = _split(root.right, at)
        root.pull()
        return root, after
    before, root.left = _split(root.left, at)
    root.pull()
    return before, root


def _remove(root: Node | None, node: Node) -> Node | None:
    if root is None:
        raise KeyError(f"[{node.first}, {node.last}] is not in the tree")
    if root is node:
        return _join(node.left, node.right)
    if root.before(node):
        root.right = _remove(root.right, node)
    else:
        root.left = _remove(root.left, node)
    root.pull()
    return root


def _join(left: Node | None, right: Node | None) -> Node | None:
    """One tree of two, all of `left` before all of `right`."""
    if left is None or right is None:
        return left or right
    if left.priority > right.priority:
        left.right = _join(left.right, right)
        left.pull()
        return left
    right.left = _join(left, right.left)
    right.pull()
    return right


def _check_below(node: Node | None) -> str | None:
    if node is None:
        return None
    was = node.subtree_last
    node.pull()
    if was != node.subtree_last:
        return f"below [{node.first}, {node.last}] the largest end is {node.subtree_last}, not {was}"
    for below in (node.left, node.right):
        if below is not None and below.priority > node.priority:
            return f"[{below.first}, {below.last}] hangs below a node of lower priority"
        wrong = _check_below(below)
        if wrong:
            return wrong
    return None
