"""The pages of a file by index: a radix tree of nodes with 64 slots, which come out of the slab and go back to it.

    height 0   root --> page 0                        a file of one page has no node
    height 1   root --> [0 1 2 ... 63]                pages 0 to 63
    height 2   root --> [0 1 2 ... 63]                pages 0 to 4095: a node for every 64 pages of which one is there, and one above
                         |     |
                     [0 ... 63] [128 ... 191]

The height is what the largest index needs, and grows a node at a time over what is there. A node without pages goes back at once. While there
is a page the height stays, or, by 2.6.34, it shrinks as far as it can. For n pages from 0 on there are ceil(n/64) + ceil(n/4096) + ... + 1.

Up to 2.4 the index is one hash over all files, whose table is made at boot: it takes no memory per page. `RadixTree(None)` answers the same.

What pages of a range are there is answered in one call, from the nodes of the lowest level, whose slots are rows of one array.

Source: 2.6.2 lib/radix-tree.c, radix_tree_insert, radix_tree_extend, radix_tree_delete; 2.6.34 radix_tree_shrink; 6.18 lib/xarray.c, xas_shrink;
2.4.27 include/linux/pagemap.h, page_hash; files.md A2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64

if TYPE_CHECKING:
    from rmaplab.machine.slab import SlabCache

SHIFT = 6
SLOTS = 1 << SHIFT
MASK = SLOTS - 1
NONE = -1
"""What a range says of a page that is not there."""


def height_for(index: int) -> int:
    """Levels of nodes that a tree with a page at `index` has at least."""
    return -(-index.bit_length() // SHIFT)


class RadixTree(Mapping[int, int]):
    """Index -> PFN, ascending. `cache` is where its nodes come from, None where there are none; `shrinks`: its height goes down too."""

    __slots__ = ("_cache", "_free", "_leaves", "_levels", "_nr", "_shrinks", "_slots", "height")

    def __init__(self, cache: SlabCache | None = None, *, shrinks: bool = False) -> None:
        self._cache, self._shrinks = cache, shrinks
        self._leaves: dict[int, int] = {}  # index >> 6 -> its row of _slots
        self._slots: I64 = np.full((2, SLOTS), NONE, np.int64)  # row 0 stands for nodes that are not there
        self._free = [1]  # rows
        self._levels: list[dict[int, list[int]]] = []  # level 1, 2, ...: index >> 6 * level -> [slots in use, address]
        self._nr = 0
        self.height = 0

    # -- asked of ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._nr

    def __iter__(self) -> Iterator[int]:
        return iter(self.within(0, 1 << 62)[0].tolist())

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.find(index) >= 0

    def __getitem__(self, index: int) -> int:
        pfn = self.find(index)
        if pfn < 0:
            raise KeyError(index)
        return pfn

    def find(self, index: int) -> int:
        """radix_tree_lookup: the PFN, or -1. O(1)."""
        leaf = self._leaves.get(index >> SHIFT)
        return NONE if leaf is None else self._slots.item(leaf, index & MASK)

    def range(self, first: int, last: int) -> I64:
        """The PFNs of [first, last), -1 for each that is not there. O(pages), a step for 64."""
        base = first >> SHIFT << SHIFT
        rows = [self._leaves.get(key, 0) for key in range(first >> SHIFT, (last + MASK) >> SHIFT)]
        found: I64 = self._slots[rows].reshape(-1)[first - base : last - base]
        return found

    def within(self, first: int, last: int) -> tuple[I64, I64]:
        """(indexes, PFNs) of those in [first, last] that are there, ascending. O(nodes)."""
        keys = sorted(key for key in self._leaves if first >> SHIFT <= key <= last >> SHIFT)
        if not keys:
            return _NOTHING, _NOTHING
        pfns = self._slots[[self._leaves[key] for key in keys]].reshape(-1)
        indexes = (np.array(keys, np.int64)[:, None] * SLOTS + np.arange(SLOTS)).reshape(-1)
        chosen = (pfns >= 0) & (indexes >= first) & (indexes <= last)
        return indexes[chosen], pfns[chosen]

    @property
    def nr_nodes(self) -> int:
        """Nodes that it has."""
        return sum(map(len, self._levels))

    # -- pages come and go ---------------------------------------------------------------------------------------------

    def missing(self, indexes: I64) -> int:
        """How many nodes insert() will take. O(indexes)."""
        if self._cache is None or not indexes.size:
            return 0
        height = max(self.height, height_for(int(indexes.max())))
        nr = grown = height - self.height if self._nr else 0
        keys = set((indexes >> SHIFT).tolist())
        for level in range(1, height + 1):
            nr += len(keys - self._level(level).keys())
            if grown and level > self.height:  # over key 0, and counted already
                nr -= 0 in keys
            keys = {key >> SHIFT for key in keys}
        return nr

    def insert(self, indexes: I64, pfns: I64, nodes: I64) -> None:
        """Pages that are not there, ascending; `nodes` are at least missing(indexes) objects of the slab, and what is left of them goes back."""
        spare = nodes.tolist()
        keys = indexes >> SHIFT
        borders = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), indexes.size]
        self._grow(height_for(int(indexes[-1])), spare)
        for start, end in pairwise(borders):
            key = int(keys[start])
            row = self._leaves[key] if key in self._leaves else self._new_row(key)
            leaf = self._slots[row]
            slots = indexes[start:end] & MASK
            if (leaf[slots] >= 0).any():
                raise KernelBug(
                    "radix_tree_insert", f"a page of {int(indexes[start])} and those behind it is there already"
                )
            leaf[slots] = pfns[start:end]
            self._use(1, key, end - start, spare)
        self._nr += indexes.size
        if spare and self._cache is not None:
            self._cache.free_bulk(np.array(spare, np.int64))

    def delete(self, index: int) -> int:
        """radix_tree_delete: the PFN that was there; nodes without pages are given back. Raises KeyError. O(height)."""
        pfn = self[index]
        key, emptied = index >> SHIFT, list[int]()
        self._slots[self._leaves[key], index & MASK] = NONE
        self._nr -= 1
        self._unuse(1, key, emptied)
        if not self.height or key not in self._level(1):
            self._free.append(self._leaves.pop(key))
        self._shrink(emptied)
        return pfn

    def delete_range(self, first: int, last: int) -> tuple[I64, I64]:
        """The same for all that are there of [first, last]: (indexes, PFNs), ascending. O(nodes)."""
        indexes, pfns = self.within(first, last)
        emptied = list[int]()
        keys, counts = np.unique(indexes >> SHIFT, return_counts=True)
        for key, nr in zip(keys.tolist(), counts.tolist(), strict=True):
            leaf, base = self._slots[self._leaves[key]], key << SHIFT
            leaf[max(first - base, 0) : max(last + 1 - base, 0)] = NONE
            self._nr -= nr
            self._unuse(1, key, emptied, nr)
            if not (leaf >= 0).any():
                self._free.append(self._leaves.pop(key))
        self._shrink(emptied)
        return indexes, pfns

    # -- inside --------------------------------------------------------------------------------------------------------

    def _new_row(self, key: int) -> int:
        if not self._free:
            nr = self._slots.shape[0]
            self._slots = np.concatenate((self._slots, np.full((nr, SLOTS), NONE, np.int64)))
            self._free = list(range(2 * nr - 1, nr - 1, -1))
        row = self._leaves[key] = self._free.pop()
        return row

    def _level(self, level: int) -> dict[int, list[int]]:
        while len(self._levels) < level:
            self._levels.append({})
        return self._levels[level - 1]

    def _grow(self, height: int, spare: list[int]) -> None:
        """radix_tree_extend: what is there hangs in slot 0 of each new node."""
        for level in range(self.height + 1, height + 1):
            if self._nr:
                self._level(level)[0] = [1, self._take(spare)]
        self.height = max(self.height, height)

    def _use(self, level: int, key: int, nr: int, spare: list[int]) -> None:
        """`nr` slots more of a node are in use, which is made if it is not there."""
        if level > self.height:
            return
        node = self._level(level).get(key)
        if node is None:
            node = self._level(level)[key] = [0, self._take(spare)]
            self._use(level + 1, key >> SHIFT, 1, spare)
        node[0] += nr

    def _shrink(self, emptied: list[int]) -> None:
        """Pages have gone: the height goes down, and nodes are given back."""
        if not self._nr:
            self.height = 0
        while self._shrinks and self.height and self._fits_below():
            emptied.append(self._level(self.height).pop(0)[1])
            self.height -= 1
        if emptied and self._cache is not None:
            self._cache.free_bulk(np.array(emptied, np.int64))

    def _unuse(self, level: int, key: int, emptied: list[int], nr: int = 1) -> None:
        if level > self.height:
            return
        node = self._level(level)[key]
        node[0] -= nr
        if not node[0]:
            emptied.append(self._level(level).pop(key)[1])
            self._unuse(level + 1, key >> SHIFT, emptied)

    def _fits_below(self) -> bool:
        """Whether slot 0 of the top node is the only one in use."""
        if self._level(self.height)[0][0] != 1:
            return False
        return 0 in self._level(self.height - 1) if self.height > 1 else self.find(0) >= 0

    def _take(self, spare: list[int]) -> int:
        if self._cache is None:
            return 0
        if not spare:
            raise KernelBug("radix_tree_insert", "nodes are missing that were to be reserved")
        return spare.pop()

    def check(self) -> None:
        """Nodes are those that its pages ask for, and count them. Raises KernelBug. O(pages)."""
        indexes, pfns = self.within(0, 1 << 62)
        if indexes.size != self._nr or np.unique(pfns).size != self._nr:
            raise KernelBug("radix_tree", f"it counts {self._nr} pages, there are {np.unique(pfns).size}")
        keys = indexes
        for level in range(1, len(self._levels) + 1):
            above, counts = np.unique(keys >> SHIFT, return_counts=True)
            wanted = dict(zip(above.tolist(), counts.tolist(), strict=True)) if level <= self.height else {}
            if {key: node[0] for key, node in self._level(level).items()} != wanted:
                raise KernelBug("radix_tree", f"the nodes of level {level} are not those that its pages ask for")
            keys = above
        if self.height < height_for(int(indexes[-1]) if indexes.size else 0):
            raise KernelBug("radix_tree", f"it is {self.height} high, too low for page {indexes[-1]}")


_NOTHING: I64 = np.empty(0, np.int64)
