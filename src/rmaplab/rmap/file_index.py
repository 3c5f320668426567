r"""Who maps this page of a file? The VMAs that map the file, on an index that each file has, whatever the design.

    file     . . . . . . [ page 7 ] . . . .           a page's walk, and truncate, ask for the VMAs that may show pages [first, last]
    VMAs     [=== A ===]     [== C ==]
                  [=== B ===]                         list        A B C: all of them, and each is tested
                                                      rbtree      A B C: those that begin at or before 7, and each is tested
                                                      prio_tree, interval_tree      B C: those that meet it

truncate(2) needs that index in every kernel, so objrmap had it for nothing. What differs is how many are visited in vain, and in which
order: on a list where a VMA was put, and where a fork puts the child's (ListOrder, by era).

    list           2.4, 2.6.2 to 2.6.6: two of them, private VMAs first
    rbtree         what the announcement of March 2004 planned for the next release; its key was never said: ours is the first page
    prio_tree      2.6.7 (prio_tree.py), with 2.6.7's fault in it; prio_tree_mended: as of 2.6.10
    interval_tree  since 3.7

Another package offers one by an entry point of the group `rmaplab.file_indexes`, derived from FileIndex. Nothing here may fail: an index
is changed after all that could.
Sources: mm/mmap.c, __vma_link_file, and kernel/fork.c, dup_mmap, of each era; files.md A3 to A6.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import count
from typing import ClassVar, NamedTuple

from rmaplab.errors import KernelBug
from rmaplab.machine.paging import Paging
from rmaplab.objects.flags import VM_SHARED
from rmaplab.objects.mm_types import VmaIndex, VmArea
from rmaplab.rmap.interval_tree import IntervalTree, Node
from rmaplab.rmap.prio_tree import PrioNode, PrioTree, add_beside


class IndexKind(IntEnum):
    """Ours that a release of Linux has had, by name."""

    LIST = 0
    PRIO_TREE = 1
    PRIO_TREE_MENDED = 2
    INTERVAL_TREE = 3


class ListOrder(NamedTuple):
    """Where a list has a VMA: a new one at its head (2.4), else its tail; a fork's child behind its parent's, or before it.

    `moved_to_tail`: one whose first page changes goes to the tail (00100's move_vma_start); else it stays where it is.
    """

    new_at_head: bool = False
    child_behind: bool = False
    moved_to_tail: bool = False


class FileIndex(ABC):
    """The VMAs that map one file. `looked_at`: nodes, or members of a list, that the last search has passed."""

    name: ClassVar[str]

    def __init__(self, paging: Paging, order: ListOrder) -> None:
        self.paging, self.order = paging, order
        self.looked_at = 0
        self.apart: Sequence[VmArea] = ()

    @staticmethod
    @abstractmethod
    def vma_bytes(paging: Paging) -> int:
        """Bytes that it adds to vm_area_struct."""

    @staticmethod
    @abstractmethod
    def file_bytes(paging: Paging) -> int:
        """And to a file's address_space."""

    @abstractmethod
    def link(self, vma: VmArea, parent: VmArea | None = None) -> None:
        """`vma` maps the file; as a fork's child of `parent`, which maps the same pages, if that is given."""

    @abstractmethod
    def unlink(self, vma: VmArea) -> None:
        """It does no more."""

    @abstractmethod
    def pre_update(self, vma: VmArea) -> None:
        """Its borders, or the page it begins with, are about to change."""

    @abstractmethod
    def post_update(self, vma: VmArea) -> None:
        """They have changed."""

    @abstractmethod
    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """Those that may show pages [first, last], in the order of a walk: who of them does, is the caller's to test."""

    @abstractmethod
    def __iter__(self) -> Iterator[VmArea]:
        """All, in the order of a walk."""

    def borders(self) -> Iterable[int] | None:
        """Where the page that candidates() is asked for decides whom it finds, or whom a walk looks at: nothing between two of these numbers does.

        None: unknown. Each class says it for its own search (alike.py). O(n).
        """
        return None

    def check(self) -> str | None:
        """The first thing that is wrong with it, in words. O(n)."""
        return None


# -- lists ---------------------------------------------------------------------------------------------------------------


class _Link:
    __slots__ = ("next", "pgoff", "prev", "vma")

    def __init__(self, vma: VmArea | None) -> None:
        self.vma, self.pgoff = vma, 0
        self.prev = self.next = self

    def insert_behind(self, other: "_Link") -> None:
        self.prev, self.next = other, other.next
        other.next.prev = self
        other.next = self

    def take_out(self) -> None:
        self.prev.next, self.next.prev = self.next, self.prev


class VmaLists(FileIndex):
    """i_mmap and i_mmap_shared: VM_SHARED decides. A search passes all of both."""

    name = "list"

    def __init__(self, paging: Paging, order: ListOrder) -> None:
        super().__init__(paging, order)
        self._heads = (_Link(None), _Link(None))
        self._links: dict[VmArea, _Link] = {}

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """Two pointers: a list_head, or vm_next_share and vm_pprev_share."""
        return 2 * paging.word_bytes

    @staticmethod
    def file_bytes(paging: Paging) -> int:
        """Two heads."""
        return 4 * paging.word_bytes

    def link(self, vma: VmArea, parent: VmArea | None = None) -> None:
        """O(1)."""
        link = self._links[vma] = _Link(vma)
        head = self._heads[bool(vma.flags & VM_SHARED)]
        if parent is not None:
            beside = self._links[parent]
            link.insert_behind(beside if self.order.child_behind else beside.prev)
        else:
            link.insert_behind(head if self.order.new_at_head else head.prev)

    def unlink(self, vma: VmArea) -> None:
        """O(1)."""
        self._links.pop(vma).take_out()

    def pre_update(self, vma: VmArea) -> None:
        """It stays where it is."""
        self._links[vma].pgoff = vma.pgoff

    def post_update(self, vma: VmArea) -> None:
        """But for 00100, where another first page puts it last."""
        link = self._links[vma]
        if self.order.moved_to_tail and link.pgoff != vma.pgoff:
            link.take_out()
            link.insert_behind(self._heads[bool(vma.flags & VM_SHARED)].prev)

    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """Everybody. O(n)."""
        del first, last
        self.looked_at = 0
        for vma in self:
            self.looked_at += 1
            yield vma

    def __iter__(self) -> Iterator[VmArea]:
        for head in self._heads:
            at = head.next
            while at.vma is not None:
                following = at.next
                yield at.vma
                at = following

    def borders(self) -> Iterable[int]:
        """Those of the VMAs."""
        return borders_of(self)

    def check(self) -> str | None:
        """Each VMA is on the list that its flags say."""
        for shared, head in enumerate(self._heads):
            at = head.next
            while at is not head:
                if at.vma is None or bool(at.vma.flags & VM_SHARED) != bool(shared) or at.next.prev is not at:
                    return f"{at.vma} is on the wrong list"
                at = at.next
        return None


# -- trees ---------------------------------------------------------------------------------------------------------------


class _Tree(FileIndex):
    """A tree finds a VMA by its pages: it is taken out before they change, and put in again."""

    def pre_update(self, vma: VmArea) -> None:
        """Out."""
        self.unlink(vma)

    def post_update(self, vma: VmArea) -> None:
        """In."""
        self.link(vma)


class _FileNode(Node):
    """`line` orders those that begin alike: by age, and a fork's child right behind its parent."""

    __slots__ = ("line", "vma")

    def __init__(self, vma: VmArea, line: tuple[int, ...]) -> None:
        super().__init__()
        self.vma, self.line = vma, line

    def before(self, other: Node) -> bool:
        """See above."""
        assert isinstance(other, _FileNode)
        return (self.first, self.line) < (other.first, other.line)


class VmaIntervalTree(_Tree):
    """Of 3.7 and later: only who meets the pages is found."""

    name = "interval_tree"

    def __init__(self, paging: Paging, order: ListOrder) -> None:
        super().__init__(paging, order)
        self._tree: IntervalTree[_FileNode] = IntervalTree()
        self._nodes: dict[VmArea, _FileNode] = {}
        self._born = count(1)

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """An rb_node, and the largest last page below it."""
        return 4 * paging.word_bytes

    @staticmethod
    def file_bytes(paging: Paging) -> int:
        """A root, and its leftmost node."""
        return 2 * paging.word_bytes

    def link(self, vma: VmArea, parent: VmArea | None = None) -> None:
        """O(log n)."""
        born = next(self._born)
        line = (born,) if parent is None else (*self._nodes[parent].line, -born)
        node = self._nodes[vma] = _FileNode(vma, line)
        self._tree.insert(node, vma.pgoff, vma.pgoff + vma.nr_pages - 1)

    def unlink(self, vma: VmArea) -> None:
        """O(log n)."""
        self._tree.remove(self._nodes.pop(vma))

    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """By first page. O(log n + m)."""
        for node in self._tree.overlapping(first, last):
            self.looked_at = self._tree.looked_at
            yield node.vma
        self.looked_at = self._tree.looked_at

    def __iter__(self) -> Iterator[VmArea]:
        yield from (node.vma for node in self._tree)

    def borders(self) -> Iterable[int]:
        """Those of the tree, and of the VMAs in it."""
        return [*self._tree.borders(), *borders_of(self)]

    def check(self) -> str | None:
        """The tree, and that each VMA is where its pages are."""
        wrong = (vma for vma, node in self._nodes.items() if (node.first, node.last) != _range(vma))
        return self._tree.check() or next((f"{vma} is in the tree with other pages" for vma in wrong), None)


class VmaRbTree(VmaIntervalTree):
    """A plain search tree by first page: who begins too late is left out, who ended before is not."""

    name = "rbtree"
    borders = VmaIntervalTree.borders

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """An rb_node."""
        return 3 * paging.word_bytes

    @staticmethod
    def file_bytes(paging: Paging) -> int:
        """A root."""
        return paging.word_bytes

    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """Everybody who begins at or before `last`. O(n)."""
        del first
        self.looked_at = 0
        for node in self._tree:
            self.looked_at += 1
            if node.first > last:
                return
            yield node.vma


class VmaPrioTree(_Tree):
    """Of 2.6.7, as it was."""

    name = "prio_tree"
    whole_words: ClassVar[bool] = False

    def __init__(self, paging: Paging, order: ListOrder) -> None:
        super().__init__(paging, order)
        self._tree: PrioTree[VmArea] = PrioTree(8 * paging.word_bytes, whole_words=self.whole_words)
        self._nodes: dict[VmArea, PrioNode[VmArea]] = {}

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """A union of a node of the tree and a place in a set of alike VMAs; and what is the same of both."""
        return 4 * paging.word_bytes

    @staticmethod
    def file_bytes(paging: Paging) -> int:
        """A root and its index_bits."""
        return 2 * paging.word_bytes

    def link(self, vma: VmArea, parent: VmArea | None = None) -> None:
        """A child joins its parent's node: O(1). Else O(bits of an index)."""
        if parent is not None:
            node = self._nodes[parent]
            add_beside(node, vma, parent)
        else:
            node = self._tree.insert(*_range(vma), vma)
        self._nodes[vma] = node

    def unlink(self, vma: VmArea) -> None:
        """O(bits of an index), and of VMAs alike."""
        self._tree.remove(self._nodes.pop(vma), vma)

    def candidates(self, first: int, last: int) -> Iterator[VmArea]:
        """Those that meet the pages, longer ones first. O(bits of an index + m)."""
        for node in self._tree.overlapping(first, last):
            self.looked_at = self._tree.looked_at
            yield from tuple(node.members)
        self.looked_at = self._tree.looked_at

    def __iter__(self) -> Iterator[VmArea]:
        yield from self.candidates(0, 1 << 64)

    def borders(self) -> Iterable[int]:
        """Those of the tree, and of the VMAs in it."""
        return [*self._tree.borders(), *borders_of(self)]

    def check(self) -> str | None:
        """The tree, and that each VMA is where its pages are."""
        wrong = (vma for vma, node in self._nodes.items() if (node.first, node.last) != _range(vma))
        return self._tree.check() or next((f"{vma} is in the tree with other pages" for vma in wrong), None)


class VmaMendedPrioTree(VmaPrioTree):
    """As of November 2004: paths do not run out of bits."""

    name = "prio_tree_mended"
    borders = VmaPrioTree.borders
    whole_words = True


def borders_of(vmas: Iterable[VmArea]) -> list[int]:
    """By page offset, where they begin and end."""
    return [border for vma in vmas for border in (vma.pgoff, vma.pgoff + vma.nr_pages)]


def _range(vma: VmArea) -> tuple[int, int]:
    return vma.pgoff, vma.pgoff + vma.nr_pages - 1


def check_index(index: VmaIndex, vmas: set[VmArea]) -> None:
    """It has exactly these VMAs, and is whole. Raises KernelBug. O(n)."""
    found = list(index)
    if len(found) != len(set(found)) or set(found) != vmas:
        raise KernelBug("i_mmap", f"{len(found)} VMAs are on a file's {index.name}, and {len(vmas)} map the file")
    if wrong := index.check():
        raise KernelBug("i_mmap", f"{index.name}: {wrong}")
