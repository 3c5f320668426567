r"""The priority search tree of 2.6.7: which of many ranges of a file meet this one. A heap by end, a radix tree by start, in one.

    every node ends at or beyond those below it, and the bits of its start, from the highest on, say where it hangs:

    [0,3] [4,7] [0,7] [2,5] [1,2] [6,6] [0,0] [3,7]                 (0,7)                    who meets [6,6]?
                                                             0 . . /     \ 1 . .             (0,7) (3,7) (4,7) (6,6):
                                                            (3,7)         (4,7)              left of (3,7) nobody
                                                       0 0 /     \ 0 1        \ 1 1          reaches 6: 4 nodes
                                                      (0,3)      (2,5)       (6,6)           entered, not 8
                                                     /     \
                                                  (0,0)   (1,2)

Ranges that begin and end alike share a node (the vm_set): of 512 processes that map a file alike there is one node. Where the bits of
the start are used up, those of the length decide (the overflow phase). index_bits is how many bits the starts have; a range that needs
more makes the tree grow by a level: roots are taken out and hung above, on the left, since all that was there has a 0 in the new bit.

2.6.7's own fault: in the overflow phase it took as many bits of the length as starts have, from the highest on, and a tree that grows does not
sort what hangs there anew. So a range that is there may be looked for elsewhere, and comes in twice; where a later insertion pushes one of the
two down to the other, BUG_ON in vma_prio_tree_add. `whole_words` is the mend of November 2004 (8c70a6bafd): all bits of a word.

Cost: an insertion, a removal O(bits of an index), more with the overflow; a search O(bits of an index + m).
Sources: McCreight, Priority search trees, 1985; mm/prio_tree.c of 2.6.7, lib/prio_tree.c of 2.6.34; files.md A5.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from rmaplab.errors import KernelBug

T = TypeVar("T")


class PrioNode(Generic[T]):
    """[first, last] of page offsets, both included. `members` are those who have that range: the one in the tree, the head of its set, the rest."""

    __slots__ = ("first", "last", "left", "members", "parent", "right")

    def __init__(self, first: int, last: int, member: T) -> None:
        self.first, self.last = first, last
        self.members: list[T] = [member]
        self.left: PrioNode[T] | None = None
        self.right: PrioNode[T] | None = None
        self.parent: PrioNode[T] | None = None

    def __repr__(self) -> str:
        below = "".join(f" {side}{child}" for side, child in (("L", self.left), ("R", self.right)) if child is not None)
        return f"({self.first},{self.last}{below})"


class PrioTree(Generic[T]):
    """Of any things that have a range. `looked_at` counts the nodes that the last search entered; `word_bits` is the machine's."""

    def __init__(self, word_bits: int, *, whole_words: bool) -> None:
        self.root: PrioNode[T] | None = None
        self.index_bits = 1
        self.looked_at = 0
        self._word_bits, self._whole_words = word_bits, whole_words

    def insert(self, first: int, last: int, member: T) -> PrioNode[T]:
        """Its node: a new one, or that of those with the same range. Raises KernelBug where an old node meets one of its own range."""
        node = PrioNode(first, last, member)
        if self.root is None or last >= 1 << self.index_bits:
            self._expand(node)
            return node
        at, mask, overflow = self.root, 1 << (self.index_bits - 1), False
        carried = node
        while True:
            if (at.first, at.last) == (carried.first, carried.last):
                if carried is not node:  # the caller would take `member` for one that has this range
                    raise KernelBug(
                        "vma_prio_tree_add", f"{member} has no place: [{at.first}, {at.last}] is there twice"
                    )
                add_beside(at, member, at.members[0])
                return at
            if (at.last, -at.first) < (carried.last, -carried.first):
                self._replace(at, carried)
                at, carried = carried, at
            bits = carried.last - carried.first if overflow else carried.first
            child = at.right if bits & mask else at.left
            if child is None:
                self._attach(carried, at, right=bool(bits & mask))
                return node
            at, mask = child, mask >> 1
            if not mask:
                overflow = True
                mask = 1 << ((self._word_bits if self._whole_words else self.index_bits) - 1)

    def _expand(self, node: PrioNode[T]) -> None:
        """`node` becomes the root of a tree with bits enough for it: what was there hangs on its left, below old roots, one a level."""
        chain: list[PrioNode[T]] = []
        if node.last >= 1 << self.index_bits:
            self.index_bits += 1
        while node.last >= 1 << self.index_bits:
            self.index_bits += 1
            if self.root is not None:
                chain.append(self.root)
                bits = self.index_bits
                self._unlink(self.root)
                self.index_bits = bits  # an empty tree forgets them
        rest, self.root = self.root, node
        node.parent = None
        at = node
        for link in (*chain, *([] if rest is None else [rest])):
            self._attach(link, at, right=False)
            at = link

    def _attach(self, node: PrioNode[T], parent: PrioNode[T], *, right: bool) -> None:
        node.parent = parent
        if right:
            parent.right = node
        else:
            parent.left = node

    def _replace(self, old: PrioNode[T], new: PrioNode[T]) -> None:
        """`new`, which hangs nowhere, takes the place of `old`, which hangs nowhere then."""
        parent, left, right = old.parent, old.left, old.right
        new.parent, new.left, new.right = parent, left, right
        if parent is None:
            self.root = new
        elif parent.left is old:
            parent.left = new
        else:
            parent.right = new
        for child in (left, right):
            if child is not None:
                child.parent = new
        old.parent = old.left = old.right = None

    def remove(self, node: PrioNode[T], member: T) -> None:
        """Of this node one member; the node too if it was the last."""
        node.members.remove(member)
        if not node.members:
            self._unlink(node)

    def _unlink(self, node: PrioNode[T]) -> None:
        """A leaf takes its place: the one that is found by going where the larger end is. Each on that path moves one up."""
        path = [node]
        while (below := _larger(path[-1])) is not None:
            path.append(below)
        leaf, parent = path[-1], path[-1].parent
        if parent is None:
            self.root, self.index_bits = None, 1
            return
        if parent.left is leaf:
            parent.left = None
        else:
            parent.right = None
        leaf.parent = None
        for place in reversed(path[:-1]):
            self._replace(place, leaf)
            leaf = place

    def overlapping(self, first: int, last: int) -> Iterator[PrioNode[T]]:
        """The nodes that meet [first, last]: parents first, left before right."""
        self.looked_at = 0
        if self.root is None or first > self.root.last:
            return
        waiting = [(self.root, 0, 1 << (self.index_bits - 1))]
        while waiting:
            node, prefix, mask = waiting.pop()
            self.looked_at += 1
            if node.first <= last and node.last >= first:
                yield node
            right, left = node.right, node.left
            if right is not None and first <= right.last and (not mask or last >= prefix | mask):
                waiting.append((right, prefix | mask, mask >> 1))
            if left is not None and first <= left.last:
                waiting.append((left, prefix, mask >> 1))

    def borders(self) -> list[int]:
        """Where the place that a search is for decides which way it goes: between two of these nothing does. Read from the nodes. O(n)."""
        if self.root is None:
            return []
        found = [self.root.last + 1]
        waiting = [(self.root, 0, 1 << (self.index_bits - 1))]
        while waiting:
            node, prefix, mask = waiting.pop()
            found += (node.first, node.last + 1)
            if node.right is not None:
                found += (node.right.last + 1, prefix | mask)
                waiting.append((node.right, prefix | mask, mask >> 1))
            if node.left is not None:
                found.append(node.left.last + 1)
                waiting.append((node.left, prefix, mask >> 1))
        return found

    def check(self) -> str | None:
        """The first thing that is wrong, in words. O(n)."""
        seen: set[tuple[int, int]] = set()
        waiting = [] if self.root is None else [self.root]
        while waiting:
            node = waiting.pop()
            if (node.first, node.last) in seen:
                return f"two nodes have the range [{node.first}, {node.last}]"
            seen.add((node.first, node.last))
            if not node.members or node.last >= 1 << self.index_bits:
                return f"{node} has no members, or does not fit into {self.index_bits} bits"
            for child in (node.left, node.right):
                if child is not None and (child.parent is not node or child.last > node.last):
                    return f"{child} hangs wrongly below {node}"
            waiting += [child for child in (node.left, node.right) if child is not None]
        return None


def add_beside(node: PrioNode[T], member: T, other: T) -> None:
    """One more with that range, beside `other`, who has it: behind him, but behind all if he is the one in the tree."""
    at = node.members.index(other)
    node.members.insert(at + 1 if at else len(node.members), member)


def _larger(node: PrioNode[T]) -> PrioNode[T] | None:
    """Of its children the one that ends later, the left one if both end alike."""
    left, right = node.left, node.right
    if left is None or right is None:
        return left or right
    return right if right.last > left.last else left
