"""The swap cache's index: which page has the bytes of a slot. Linux has a radix tree of swapper_space; here it is a row of PFNs, one place for each slot of all areas.

    slot   0   1   2   3   4 ...
    PFN    -   -  71   -   9          -1: nobody has it; slots 2 and 4 are cached

Whoever goes through a table of swap entries asks for hundreds of slots at once, so a place costs 8 bytes whether a page is there or not.

Source: 2.4.27 and 2.6.2 mm/swap_state.c, lookup_swap_cache.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from rmaplab.machine.arrays import I64, Bools


class SwapCache(Mapping[int, int]):
    """slot -> PFN, in the order of slots. It grows with the slots that it is told of."""

    def __init__(self) -> None:
        self._pfns: I64 = np.full(64, -1, np.int64)
        self._nr = 0

    def __len__(self) -> int:
        return self._nr

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._pfns >= 0).tolist())

    def __getitem__(self, slot: int) -> int:
        """Raises KeyError: nobody has it."""
        if slot not in self:
            raise KeyError(slot)
        return int(self._pfns[slot])

    def __contains__(self, slot: object) -> bool:
        return isinstance(slot, int) and 0 <= slot < self._pfns.size and bool(self._pfns[slot] >= 0)

    def pages(self, slots: I64) -> I64:
        """The PFN of each slot, -1 of those that nobody has. O(slots)."""
        if slots.size and slots.max() >= self._pfns.size:
            self._reach(int(slots.max()))
        pfns: I64 = self._pfns[slots]
        return pfns

    def set(self, slots: I64, pfns: I64) -> Bools:
        """Distinct slots are cached from now on. Which of them were already: those stay what they were. O(slots)."""
        there: Bools = self.pages(slots) >= 0
        self._pfns[slots[~there]] = pfns[~there]
        self._nr += int(slots.size - there.sum())
        return there

    def pop(self, slots: I64, pfns: I64) -> Bools:
        """Distinct slots leave it. Of which another page, or none, was there: those stay what they were. O(slots)."""
        wrong: Bools = self.pages(slots) != pfns
        self._pfns[slots[~wrong]] = -1
        self._nr -= int(slots.size - wrong.sum())
        return wrong

    def all_pages(self) -> I64:
        """The PFNs of all, in the order of slots. O(slots of all areas)."""
        pfns: I64 = self._pfns[self._pfns >= 0]
        return pfns

    def _reach(self, slot: int) -> None:
        grown = np.full(max(2 * self._pfns.size, slot + 1), -1, np.int64)
        grown[: self._pfns.size] = self._pfns
        self._pfns = grown
