"""The buddy system: free memory as blocks of 2^order frames that split and join.

    order 3   |               8               |      one free block
    order 2   |       4       |  free 4       |      split for a request of one frame:
    order 1   |   2   | free 2|               |      the lower half goes on being split,
    order 0   | 1 |f 1|                           the upper halves wait on their free lists

A block's buddy is its number with one bit flipped (pfn ^ 2^order), so freeing looks at one neighbour per order: O(log n).
The free lists are doubly linked through two columns, as page->list links them in mem_map, last in first out: memory used
a moment ago is used again first. Linux's own lists do the same, and it keeps the host's footprint at the working set.

What is left out: per-CPU lists of hot pages (their up to 128 frames a CPU are invisible to the free count) and zones,
which come as several of these.

Source: 2.6.2 mm/page_alloc.c, __free_pages_bulk, expand, __rmqueue.
"""

import numpy as np
import numpy.typing as npt

from rmaplab.errors import KernelBug
from rmaplab.machine.jit import inline, kernel

MAX_ORDER = 11  # orders 0 to 10, blocks of up to 4 MiB

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
I8 = npt.NDArray[np.int8]


class Buddy:
    """The free memory of one range of frames [start, end)."""

    def __init__(self, nr_frames: int, start: int, end: int) -> None:
        self.start, self.end = start, end
        self._next: I32 = np.full(nr_frames, -1, np.int32)
        self._prev: I32 = np.full(nr_frames, -1, np.int32)
        self._order: I8 = np.full(nr_frames, -1, np.int8)  # of the free block that begins here, or -1
        self._heads: I32 = np.full(MAX_ORDER, -1, np.int32)
        self.nr_free = end - start
        _fill(self._next, self._prev, self._order, self._heads, start, end)

    def alloc(self, nr: int, order: int = 0) -> I64:
        """Up to `nr` blocks of 2^order frames, by the number of their first frame: fewer where memory is out or split.

        O(nr log n) at worst, O(nr) in bulk.
        """
        blocks = np.empty(nr, np.int64)
        got = _alloc(self._next, self._prev, self._order, self._heads, nr, order, blocks)
        self.nr_free -= got << order
        return blocks[:got]

    def free(self, blocks: I64, order: int = 0) -> None:
        """Give blocks of 2^order frames back. O(log n) each."""
        bad = _free(self._next, self._prev, self._order, self._heads, self.start, self.end, blocks, order)
        if bad >= 0:
            raise KernelBug("free_pages", f"frame {blocks[bad]} is already free or not of this zone")
        self.nr_free += blocks.size << order

    def free_mask(self) -> npt.NDArray[np.bool_]:
        """For each frame, whether a free block holds it. Read off the lists anew: for check()."""
        mask = np.zeros(self._order.size, np.bool_)
        for order, head in enumerate(self._heads.tolist()):
            pfn = head
            while pfn >= 0:
                if self._order[pfn] != order or mask[pfn : pfn + (1 << order)].any():
                    raise KernelBug("free_area", f"frame {pfn} stands on the list of order {order} wrongly")
                mask[pfn : pfn + (1 << order)] = True
                pfn = int(self._next[pfn])
        if int(mask.sum()) != self.nr_free:
            raise KernelBug("free_area", f"lists hold {int(mask.sum())} frames, the counter says {self.nr_free}")
        return mask


@inline
def _push(nxt: I32, prv: I32, orders: I8, heads: I32, pfn: int, order: int) -> None:
    head = heads[order]
    nxt[pfn] = head
    prv[pfn] = -1
    if head >= 0:
        prv[head] = pfn
    heads[order] = pfn
    orders[pfn] = order


@inline
def _unlink(nxt: I32, prv: I32, orders: I8, heads: I32, pfn: int, order: int) -> None:
    after, before = nxt[pfn], prv[pfn]
    if before >= 0:
        nxt[before] = after
    else:
        heads[order] = after
    if after >= 0:
        prv[after] = before
    orders[pfn] = -1


@kernel
def _fill(nxt: I32, prv: I32, orders: I8, heads: I32, start: int, end: int) -> None:
    """Put [start, end) on the lists in the largest aligned blocks, so that low frames are handed out first."""
    pfn = end
    while pfn > start:
        order = 0
        while order < MAX_ORDER - 1 and pfn & ((2 << order) - 1) == 0 and pfn - (2 << order) >= start:
            order += 1
        pfn -= 1 << order
        _push(nxt, prv, orders, heads, pfn, order)


@kernel
def _alloc(nxt: I32, prv: I32, orders: I8, heads: I32, nr: int, order: int, blocks: I64) -> int:
    for i in range(nr):
        current = order
        while current < MAX_ORDER and heads[current] < 0:
            current += 1
        if current == MAX_ORDER:
            return i
        pfn = heads[current]
        _unlink(nxt, prv, orders, heads, pfn, current)
        while current > order:
            current -= 1
            _push(nxt, prv, orders, heads, pfn + (1 << current), current)
        blocks[i] = pfn
    return nr


@kernel
def _free(nxt: I32, prv: I32, orders: I8, heads: I32, start: int, end: int, blocks: I64, order: int) -> int:
    """Return -1, or the place in `blocks` of the first that cannot be freed."""
    for i in range(blocks.size):
        pfn = blocks[i]
        if pfn < start or pfn + (1 << order) > end or pfn & ((1 << order) - 1):
            return i
        for above in range(MAX_ORDER):  # is it, or is it part of, a free block?
            head = pfn & ~((1 << above) - 1)
            if head >= start and orders[head] >= above:
                return i
        current = order
        while current < MAX_ORDER - 1:
            buddy = pfn ^ (1 << current)
            if buddy < start or buddy + (1 << current) > end or orders[buddy] != current:
                break
            _unlink(nxt, prv, orders, heads, buddy, current)
            pfn &= ~(1 << current)
            current += 1
        _push(nxt, prv, orders, heads, pfn, current)
    return -1
