"""The buddy system: free memory as blocks of 2^order frames that split and join.

    order 3   |               8               |      one free block
    order 2   |       4       |  free 4       |      split for a request of one frame:
    order 1   |   2   | free 2|               |      the lower half goes on being split,
    order 0   | 1 |f 1|                           the upper halves wait on their free lists

A block's buddy is its number with one bit flipped (pfn ^ 2^order), so freeing looks at one neighbour per order: O(log n).
The free lists are doubly linked through two columns, as page->list links them in mem_map, last in first out: memory used
a moment ago is used again first. Linux's own lists do the same, and it keeps the host's footprint at the working set.

Blocks of the largest order that nobody has asked for yet stand on no list: they are the rest of the zone, from `fresh` on,
and count as the tail of the last list. So a zone of 60 GiB is set up in the time of a small one, and costs the host nothing.

Source: 2.6.2 mm/page_alloc.c, __free_pages_bulk, expand, __rmqueue.
"""

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I8, I32, I64, Bools
from rmaplab.machine.jit import inline, kernel

MAX_ORDER = 11  # orders 0 to 10, blocks of up to 4 MiB
FRESH, FRESH_END = MAX_ORDER, MAX_ORDER + 1  # places in `heads` behind those of the lists


class FreeLists:
    """The columns that link free blocks, one row per frame, shared by the zones of a box. 0 is "none": links are pfn + 1."""

    def __init__(self, nr_frames: int) -> None:
        self.next: I32 = np.zeros(nr_frames, np.int32)
        self.prev: I32 = np.zeros(nr_frames, np.int32)
        self.order: I8 = np.zeros(nr_frames, np.int8)  # 1 + order of the free block that begins here


class Buddy:
    """The free memory of one range of frames [start, end)."""

    def __init__(self, lists: FreeLists, start: int, end: int) -> None:
        self.start, self.end = start, end
        self._lists = lists
        self._heads: I64 = np.zeros(MAX_ORDER + 2, np.int64)
        self._state = (lists.next, lists.prev, lists.order, self._heads)
        self.nr_free = max(end - start, 0)
        self.frees = 0
        """How often something came back: free_pages_bulk."""
        _fill(*self._state, start, end)

    def alloc(self, nr: int, order: int = 0) -> I64:
        """Up to `nr` blocks of 2^order frames, by the number of their first frame: fewer where memory is out or split.

        O(nr log n) at worst, O(nr) in bulk.
        """
        blocks = np.empty(nr, np.int64)
        got = _alloc(*self._state, nr, order, blocks)
        self.nr_free -= got << order
        return blocks[:got]

    def free(self, blocks: I64, order: int = 0) -> None:
        """Give blocks of 2^order frames back. O(log n) each."""
        bad = _free(*self._state, self.start, self.end, blocks, order)
        if bad >= 0:
            raise KernelBug("free_pages", f"frame {blocks[bad]} is already free or not of this zone")
        self.nr_free += blocks.size << order
        self.frees += 1

    def free_mask(self) -> Bools:
        """For each frame of the box, whether a free block of this zone holds it. Read off the lists anew: for check()."""
        mask = np.zeros(self._lists.order.size, np.bool_)
        mask[int(self._heads[FRESH]) : int(self._heads[FRESH_END])] = True
        for order, head in enumerate(self._heads[:MAX_ORDER].tolist()):
            pfn = head - 1
            while pfn >= 0:
                if self._lists.order[pfn] != order + 1 or mask[pfn : pfn + (1 << order)].any():
                    raise KernelBug("free_area", f"frame {pfn} stands on the list of order {order} wrongly")
                mask[pfn : pfn + (1 << order)] = True
                pfn = int(self._lists.next[pfn]) - 1
        if int(mask.sum()) != self.nr_free:
            raise KernelBug("free_area", f"lists hold {int(mask.sum())} frames, the counter says {self.nr_free}")
        return mask


@inline
def _push(nxt: I32, prv: I32, orders: I8, heads: I64, pfn: int, order: int) -> None:
    head = heads[order]
    nxt[pfn] = head
    prv[pfn] = 0
    if head:
        prv[head - 1] = pfn + 1
    heads[order] = pfn + 1
    orders[pfn] = order + 1


@inline
def _unlink(nxt: I32, prv: I32, orders: I8, heads: I64, pfn: int, order: int) -> None:
    after, before = nxt[pfn], prv[pfn]
    if before:
        nxt[before - 1] = after
    else:
        heads[order] = after
    if after:
        prv[after - 1] = before
    orders[pfn] = 0


@kernel
def _fill(nxt: I32, prv: I32, orders: I8, heads: I64, start: int, end: int) -> None:
    """The edges of [start, end) in the largest aligned blocks, lowest first; what is whole in between stays fresh."""
    whole = 1 << (MAX_ORDER - 1)
    fresh = (start + whole - 1) // whole * whole
    fresh_end = end // whole * whole
    if fresh >= fresh_end:
        fresh = fresh_end = end
    heads[FRESH] = fresh
    heads[FRESH_END] = fresh_end
    for edge in range(2):
        low = fresh_end if edge == 0 else start
        pfn = end if edge == 0 else fresh
        while pfn > low:
            order = 0
            while order < MAX_ORDER - 1 and pfn & ((2 << order) - 1) == 0 and pfn - (2 << order) >= low:
                order += 1
            pfn -= 1 << order
            _push(nxt, prv, orders, heads, pfn, order)


@kernel
def _alloc(nxt: I32, prv: I32, orders: I8, heads: I64, nr: int, order: int, blocks: I64) -> int:
    for i in range(nr):
        current = order
        while current < MAX_ORDER and heads[current] == 0:
            current += 1
        if current < MAX_ORDER:
            pfn = heads[current] - 1
            _unlink(nxt, prv, orders, heads, pfn, current)
        elif heads[FRESH] < heads[FRESH_END]:
            current = MAX_ORDER - 1
            pfn = heads[FRESH]
            heads[FRESH] += 1 << current
        else:
            return i
        while current > order:
            current -= 1
            _push(nxt, prv, orders, heads, pfn + (1 << current), current)
        blocks[i] = pfn
    return nr


@kernel
def _free(nxt: I32, prv: I32, orders: I8, heads: I64, start: int, end: int, blocks: I64, order: int) -> int:
    """Return -1, or the place in `blocks` of the first that cannot be freed."""
    for i in range(blocks.size):
        pfn = blocks[i]
        if pfn < start or pfn + (1 << order) > end or pfn & ((1 << order) - 1):
            return i
        if heads[FRESH] <= pfn < heads[FRESH_END]:
            return i
        for above in range(MAX_ORDER):  # is it, or is it part of, a free block?
            head = pfn & ~((1 << above) - 1)
            if head >= start and orders[head] > above:
                return i
        current = order
        while current < MAX_ORDER - 1:
            buddy = pfn ^ (1 << current)
            if buddy < start or buddy + (1 << current) > end or orders[buddy] != current + 1:
                break
            _unlink(nxt, prv, orders, heads, buddy, current)
            pfn &= ~(1 << current)
            current += 1
        _push(nxt, prv, orders, heads, pfn, current)
    return -1
