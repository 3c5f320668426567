"""Where nothing is mapped: the holes of an address space in order, so that one that is long enough is found without a look at all the others.

    VMAs          [= A =]  [= B =][= C =]         [= D =]
    holes    .....       ..              .........       .............. - -     between B and C there is none, behind D there is no end

    blocks   |  .....  ..  |  .........  .............. - -  |                  the lowest of 6 pages: the first block has none, it is passed;
    longest        5                  no end                                    the next has one

A block knows how long its longest hole is at most, so that a search looks into those only which may have what it wants: O(n / 256 + 256), steps of one comparison.
That number may be too large, since nobody asks who is the longest now when it has been covered: a search that looks through a block in vain sets it right. So each
such look is paid for by somebody who has covered something there.

Linux of 2004 has no such thing and walks from VMA to VMA; since 3.8 it knows the longest hole of each subtree of VMAs. Which hole is found is the same either way.

Source: commit d37371870ceb (3.8), which says so of rb_subtree_gap and of what was there before.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

FULL = 256
"""More holes than that are two blocks."""
NO_END = 1 << 62
"""Where the last hole ends."""


class Holes:
    """[start, end) each, none beside another, in an address space from 0 to NO_END of which `taken`, ranges in order, is covered. Whoever covers more or less says so."""

    __slots__ = ("_blocks", "_firsts", "_most")

    def __init__(self, taken: Iterable[tuple[int, int]]) -> None:
        free = [(0, 0), *taken, (NO_END, NO_END)]
        holes = [(before[1], after[0]) for before, after in pairwise(free) if before[1] < after[0]]
        parts = [holes[i : i + FULL // 2] for i in range(0, len(holes), FULL // 2)]
        self._blocks = [([start for start, _ in part], [end - start for start, end in part]) for part in parts]
        """Where holes begin, and how long they are."""
        self._firsts = [starts[0] for starts, _ in self._blocks]
        self._most = [max(lengths) for _, lengths in self._blocks]
        """How long the longest of a block is, or more."""

    def lowest(self, length: int, address: int) -> tuple[int, int]:
        """The first hole that has `length` bytes at or above `address`, as far as it is there."""
        b = max(bisect_right(self._firsts, address) - 1, 0)
        starts, lengths = self._blocks[b]
        i = bisect_right(starts, address)
        if i and starts[i - 1] + lengths[i - 1] - address >= length:
            return address, starts[i - 1] + lengths[i - 1]
        while True:  # to the last one, which has no end
            if self._most[b] >= length:
                starts, lengths = self._blocks[b]
                for j in range(i, len(lengths)):
                    if lengths[j] >= length:
                        return starts[j], starts[j] + lengths[j]
                if not i:
                    self._most[b] = max(lengths)
            b, i = b + 1, 0

    def highest(self, length: int, top: int) -> tuple[int, int] | None:
        """The last hole that has `length` bytes below `top`, which is not 0."""
        b = bisect_left(self._firsts, top) - 1
        if b < 0:
            return None
        starts, lengths = self._blocks[b]
        i = bisect_left(starts, top) - 1
        if min(lengths[i], top - starts[i]) >= length:
            return starts[i], starts[i] + lengths[i]
        while True:
            if self._most[b] >= length:
                starts, lengths = self._blocks[b]
                for j in range(i - 1, -1, -1):
                    if lengths[j] >= length:
                        return starts[j], starts[j] + lengths[j]
                if i == len(lengths):
                    self._most[b] = max(lengths)
            if not b:
                return None
            b -= 1
            i = len(self._blocks[b][0])

    def cover(self, start: int, end: int) -> None:
        """[start, end), which lies in one hole, is none any more. O(256), a memory move."""
        b = bisect_right(self._firsts, start) - 1
        starts, lengths = self._blocks[b]
        i = bisect_right(starts, start) - 1
        below, above = start - starts[i], starts[i] + lengths[i] - end
        if below:
            lengths[i] = below
            if above:
                self._insert(b, i + 1, end, above)
        elif above:
            starts[i], lengths[i] = end, above
            if not i:
                self._firsts[b] = end
        else:
            self._delete(b, i)

    def uncover(self, start: int, end: int) -> None:
        """[start, end), of which nothing was a hole, is one, or part of one. O(256), a memory move."""
        b = max(bisect_right(self._firsts, start) - 1, 0)
        starts, lengths = self._blocks[b]
        i = bisect_right(starts, start)
        joins_below = i > 0 and starts[i - 1] + lengths[i - 1] == start
        after, j = (b, i) if i < len(starts) else (b + 1, 0)  # the hole above it
        joins_above = after < len(self._blocks) and self._blocks[after][0][j] == end
        if joins_below:
            lengths[i - 1] += end - start
            if joins_above:
                lengths[i - 1] += self._blocks[after][1][j]
                self._delete(after, j)
            self._most[b] = max(self._most[b], lengths[i - 1])
        elif joins_above:
            starts, lengths = self._blocks[after]
            starts[j] = start
            lengths[j] += end - start
            self._firsts[after] = starts[0]
            self._most[after] = max(self._most[after], lengths[j])
        else:
            self._insert(b, i, start, end - start)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for starts, lengths in self._blocks:
            yield from ((start, start + length) for start, length in zip(starts, lengths, strict=True))

    def check(self) -> str | None:
        """The first thing that is wrong with the blocks, in words. O(n)."""
        if [starts[0] for starts, _ in self._blocks if starts] != self._firsts:
            return "a block is not where it begins, or empty"
        for most, (starts, lengths) in zip(self._most, self._blocks, strict=True):
            if len(starts) > FULL or most < max(lengths):
                return f"the block at {starts[0]:#x} has {len(starts)} holes, the longest of {max(lengths)} bytes, not {most}"
        return None

    def _insert(self, b: int, i: int, start: int, length: int) -> None:
        starts, lengths = self._blocks[b]
        starts.insert(i, start)
        lengths.insert(i, length)
        self._most[b] = max(self._most[b], length)
        if len(starts) > FULL:
            half = FULL // 2
            self._blocks.insert(b + 1, (starts[half:], lengths[half:]))
            self._firsts.insert(b + 1, starts[half])
            self._most.insert(b + 1, max(lengths[half:]))
            del starts[half:], lengths[half:]
            self._most[b] = max(lengths)
        self._firsts[b] = starts[0]

    def _delete(self, b: int, i: int) -> None:
        starts, lengths = self._blocks[b]
        del starts[i], lengths[i]
        if not starts:
            del self._blocks[b], self._firsts[b], self._most[b]
        elif not i:
            self._firsts[b] = starts[0]
