"""The VMAs of an address space in order, and the holes between them: who covers this address, who is next to whom, where is room.

    vmas      [= A =]   [= B =][= C =]         [= D =]
    starts    |         |      |               |           found by bisection
    holes            ...              .........       ..   (holes.py)

Linux keeps the VMAs on a list and in a red-black tree, since 6.1 in a maple tree alone; here a sorted list with bisection serves all ends.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from rmaplab.errors import KernelBug
from rmaplab.objects.holes import NO_END, Holes

FEW = 32
"""VMAs that are walked, as that is faster than to keep their holes in order."""


class Placed(Protocol):
    """A VMA, as far as its place goes."""

    start: int
    end: int
    pgoff: int


V = TypeVar("V", bound=Placed)


class VmaTree(Generic[V]):
    """The VMAs of the address space that was made for task `pid`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        """Of the task it was made for."""
        self.vmas: list[V] = []
        """In address order. mm/vma.py links and unlinks them."""
        self._starts: list[int] = []
        self._cached: V | None = None
        self._holes: Holes | None = None

    @property
    def map_count(self) -> int:
        """Number of VMAs."""
        return len(self.vmas)

    def find_vma(self, address: int) -> V | None:
        """The first VMA that ends above `address`, whether or not it covers it. O(log n), O(1) where the last search hit."""
        cached = self._cached
        if cached is not None and cached.start <= address < cached.end:
            return cached
        i = bisect_right(self._starts, address)
        if i and self.vmas[i - 1].end > address:
            self._cached = self.vmas[i - 1]
            return self._cached
        return self.vmas[i] if i < len(self.vmas) else None

    def neighbours(self, vma: V) -> tuple[V | None, V | None]:
        """(previous, next) in address order. O(log n)."""
        i = self._index(vma)
        return self.vmas[i - 1] if i else None, self.vmas[i + 1] if i + 1 < len(self.vmas) else None

    def gap_around(self, start: int, end: int) -> tuple[V | None, V | None]:
        """(the last VMA that ends at or before `start`, the first that begins at or after `end`). O(log n)."""
        i = bisect_right(self._starts, start)
        while i and self.vmas[i - 1].end > start:
            i -= 1
        j = bisect_left(self._starts, end)
        return self.vmas[i - 1] if i else None, self.vmas[j] if j < len(self.vmas) else None

    def hole_above(self, length: int, address: int) -> tuple[int, int]:
        """The lowest stretch without a VMA that has `length` bytes, as far as it is at or above `address`: [from, to). As Holes.lowest."""
        if (holes := self._known_holes()) is not None:
            return holes.lowest(length, address)
        for vma in self.overlapping(address, NO_END):
            if vma.start - address >= length:
                return address, vma.start
            address = vma.end
        return address, NO_END

    def hole_below(self, length: int, top: int) -> tuple[int, int] | None:
        """The highest hole that has `length` bytes below `top`. As Holes.highest."""
        if (holes := self._known_holes()) is not None:
            return holes.highest(length, top)
        i = bisect_left(self._starts, top)
        end = self._starts[i] if i < len(self._starts) else NO_END
        for vma in reversed(self.vmas[:i]):
            if min(end, top) - vma.end >= length:
                return vma.end, end
            end = vma.start
        return (0, end) if min(end, top) >= length else None

    def _known_holes(self) -> Holes | None:
        """Those of more VMAs than a few, which whoever looks for one walks. O(n) for the first who asks."""
        if self._holes is None and len(self.vmas) > FEW:
            self._holes = Holes((vma.start, vma.end) for vma in self.vmas)
        return self._holes

    def downwards(self, address: int) -> Iterator[V]:
        """The VMAs that begin below `address`, from the last one on. O(log n) and a step each."""
        return map(self.vmas.__getitem__, range(bisect_left(self._starts, address) - 1, -1, -1))

    def overlapping(self, start: int, end: int) -> list[V]:
        """All VMAs that meet [start, end), in order. O(log n + m)."""
        i = bisect_right(self._starts, start)
        if i and self.vmas[i - 1].end > start:
            i -= 1
        return self.vmas[i : bisect_left(self._starts, end)]

    def stretches(self, start: int, end: int) -> Iterator[tuple[V | None, int, int]]:
        """What [start, end) is made of, in order: (a VMA, or None for a hole; from; to). O(log n) each.

        The next one is looked up when it is asked for: whoever is given a VMA may split and merge it.
        """
        while start < end:
            vma = self.find_vma(start)
            if vma is None or vma.start > start:
                vma, stop = None, end if vma is None else min(end, vma.start)
            else:
                stop = min(end, vma.end)
            yield vma, start, stop
            start = stop

    def insert(self, vma: V) -> None:
        """Link a VMA that overlaps none. O(n), a memory move."""
        i = bisect_right(self._starts, vma.start)
        if (i and self.vmas[i - 1].end > vma.start) or (i < len(self.vmas) and self._starts[i] < vma.end):
            raise KernelBug("insert_vm_struct", f"{vma} overlaps a neighbour")
        self.vmas[i:i] = (vma,)  # a memory move, where list.insert goes entry by entry
        self._starts[i:i] = (vma.start,)
        if self._holes is not None:
            self._holes.cover(vma.start, vma.end)

    def remove(self, vma: V) -> None:
        """Unlink a VMA. O(n), a memory move."""
        i = self._index(vma)
        del self.vmas[i], self._starts[i]
        self._cached = None
        if self._holes is not None:
            self._holes.uncover(vma.start, vma.end)

    def move_start(self, vma: V, start: int, pgoff: int) -> None:
        """Give a linked VMA a new start within its gap, and the pgoff that goes with it."""
        self._starts[self._index(vma)] = start
        self._move_border(start, vma.start)
        vma.start, vma.pgoff = start, pgoff

    def move_end(self, vma: V, end: int) -> None:
        """And a new end."""
        self._move_border(vma.end, end)
        vma.end = end

    def _move_border(self, low: int, high: int) -> None:
        """[low, high) is covered from now on; or [high, low) no more."""
        if self._holes is not None and low < high:
            self._holes.cover(low, high)
        elif self._holes is not None and high < low:
            self._holes.uncover(high, low)

    def wrong_holes(self) -> str | None:
        """What is wrong with the holes, in words. O(n)."""
        if self._holes is None:
            return None
        if (wrong := self._holes.check()) is not None:
            return wrong
        if list(self._holes) != list(Holes((vma.start, vma.end) for vma in self.vmas)):
            return "its holes are not what its VMAs leave free"
        return None

    def _index(self, vma: V) -> int:
        i = bisect_left(self._starts, vma.start)
        if i == len(self.vmas) or self.vmas[i] is not vma:
            raise KernelBug("find_vma", f"{vma} is not of mm {self.pid}")
        return i
