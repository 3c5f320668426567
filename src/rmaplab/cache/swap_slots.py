"""Slots of all swap areas as numbers: which area and slot that is, how often each is used, and which bytes are behind it.

Areas lie one behind the other, so that a slot of any of them is one number. Entries say area and slot (machine/entries.py):

    users    | area 0: 0 1 2 ... max - 1 | area 2: 0 1 2 ... max - 1 | free | area 1: ...        each area's counts are a part of one array
    number     0                           base of 2                          base of 1          number = base + slot

Which slot is taken is the areas' (swap_areas.py, swap_area.py), the bytes are a store's (area_store.py).

Source: mm/swapfile.c (get_swap_page, swap_info_get, swap_duplicate, swap_free), mm/swap_state.c (valid_swaphandles) of 2.6.2; reclaim.md F.1, F.2, F.6. The numbers are ours.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import takewhile

import numpy as np

from rmaplab.cache.area_store import AreaStore, MemoryAreaStore
from rmaplab.cache.swap_area import SWAP_MAP_BAD, SwapArea
from rmaplab.cache.swap_areas import MAX_SWAPFILES, SwapAreas
from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, Bools, consecutive
from rmaplab.machine.entries import Encoding


class SwapSlots:
    """The areas that are on. "Slots" are numbers as drawn above, where nothing else is said."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        # a type that means something else no area can have
        self.areas = SwapAreas(min(MAX_SWAPFILES, encoding.marker) if encoding.marker > 0 else MAX_SWAPFILES)
        self.users: I32 = np.zeros(1, np.int32)
        """Of every slot. Another array after swapon."""
        self.stores: list[AreaStore] = []
        """By area. Others may be put in their place."""
        types = 1 << encoding.type.nr
        self._base: I64 = np.zeros(types, np.int64)  # by area
        self._max: I64 = np.zeros(types, np.int64)  # its slots; 0: there is none
        self._promised: dict[int, int] = {}
        self._bases: list[int] = []  # of the areas there are, in this order
        self._owners: list[int] = []  # which these are

    # -- areas -------------------------------------------------------------------------------------------------------

    def swapon(self, area: SwapArea, store: AreaStore, priority: int | None = None, promised: int | None = None) -> int:
        """A fresh area, and what is behind its slots. Returns its number. Raises SyscallError as SwapAreas.swapon. O(slots of all).

        `promised`: pages that overcommit counts of it, if not its good ones.
        """
        number = self.areas.swapon(area, priority)
        self._promised[number] = area.pages if promised is None else promised
        base = self._gap(area.max)
        if not self._bases:
            self.users = area.users
        else:
            if base + area.max > self.users.size:
                self.users = np.concatenate((self.users, np.zeros(base + area.max - self.users.size, np.int32)))
            self.users[base : base + area.max] = area.users
        self.stores[number : number + 1] = [store]
        self._base[number], self._max[number] = base, area.max
        self._order()
        return number

    def release(self, number: int) -> None:
        """An area that has left the list, and of which no slot is used, is gone: its number and its place are free. Raises KernelBug as SwapAreas.release."""
        self.areas.release(number)
        base, nr = self.base_of(number), int(self._max[number])
        self.users[base : base + nr] = 0
        self.stores[number] = MemoryAreaStore(0)  # a file is let go of
        self._max[number] = 0
        self._order()

    def _gap(self, nr: int) -> int:
        """Where an area of `nr` slots has room."""
        end = 0
        for base, owner in zip(self._bases, self._owners, strict=True):
            if base - end >= nr:
                break
            end = base + int(self._max[owner])
        return end

    def _order(self) -> None:
        there = sorted((int(self._base[number]), int(number)) for number in np.flatnonzero(self._max))
        self._bases, self._owners = [base for base, _ in there], [number for _, number in there]
        for base, number in there:
            area = self.areas.areas[number]
            area.users = self.users[base : base + area.max]

    def base_of(self, number: int) -> int:
        """Where an area begins."""
        return int(self._base[number])

    def place(self, slot: int) -> tuple[int, int]:
        """(area, which of its slots). O(log areas)."""
        row = bisect_right(self._bases, slot) - 1
        return self._owners[row], slot - self._bases[row]

    @property
    def nr_free(self) -> int:
        """nr_swap_pages: slots that nobody names, headers left out. An area that is being emptied has less than none."""
        return self.areas.nr_swap_pages

    @property
    def is_full(self) -> bool:
        """vm_swap_full: more than half is used."""
        return 2 * self.areas.nr_swap_pages < self.areas.total_swap_pages

    @property
    def nr_too_full(self) -> int:
        """How many slots must be given back until it is not full. Of areas that are full."""
        return (self.areas.total_swap_pages - 2 * self.areas.nr_swap_pages + 1) // 2

    @property
    def nr_used(self) -> int:
        """Slots that somebody names."""
        return self.areas.total_swap_pages - self.areas.nr_swap_pages

    @property
    def promised(self) -> int:
        """Pages that overcommit counts, of the areas on the list."""
        return sum(self._promised[number] for number in self.areas)

    # -- slots -------------------------------------------------------------------------------------------------------

    def block_of(self, slot: int, nr: int) -> range:
        """valid_swaphandles: the slots of the block of `nr` in its area that a slot lies in, from the first one up to the first that is free or bad. O(nr)."""
        number, own = self.place(slot)
        base, first = slot - own, own // nr * nr
        start, end = base + max(first, 1), base + min(first + nr, int(self._max[number]))
        used = takewhile(lambda users: users not in (0, SWAP_MAP_BAD), self.users[start:end].tolist())
        return range(start, start + len(list(used)))

    def get_slot(self) -> int:
        """get_swap_page: a slot, used once (by the cache); 0 if all areas are full or there is none. Which one: swap_areas.py. O(slots) at worst."""
        number, slot = self.areas.take()
        return slot and slot + self.base_of(number)

    def get_slots(self, nr: int) -> I64:
        """The slots of `nr` calls, as far as there are any."""
        numbers, own = self.areas.get(nr)
        return own + self._base[numbers]

    def use(self, slot: int) -> None:
        """swap_duplicate of a slot that somebody uses."""
        self.use_all(np.array((slot,), np.int64))

    def use_all(self, slots: I64) -> None:
        """The same of many."""
        if len(self._bases) == 1:
            self.areas.areas[self._owners[0]].duplicate(slots - self._bases[0])
        else:
            self.areas.duplicate(*self._places(slots))

    def give_uses(self, slots: I64) -> I64:
        """swap_free of each: what is left of it. Of slots whose pages somebody holds."""
        if len(self._bases) == 1:
            return self.areas.give_of(self._owners[0], slots - self._bases[0])
        return self.areas.give(*self._places(slots))

    def slot_of(self, entry: int) -> int:
        """The slot that a swap entry names."""
        number, own = self._encoding.swap_slot(entry)
        return self.base_of(number) + own

    def entry(self, slot: int) -> int:
        """What a page-table entry says that names it."""
        return self._encoding.swap_entry(*self.place(slot))

    def entries(self, slots: I64) -> I64:
        """The same of many."""
        if len(self._bases) == 1:
            return self._encoding.swap_entries(self._owners[0], slots - self._bases[0])
        return self._encoding.swap_entries(*self._places(slots))

    def slots_of(self, entries: I64) -> I64:
        """The slots that entries name; entries of other kinds are left out. Raises KernelBug for one of no area, or that nobody uses."""
        if entries.size == 1:  # as mostly
            entry = int(entries[0])
            if not self._encoding.is_swap(entry):
                return entries[:0]
            number, one = self._encoding.swap_slot(entry)
            slot = self.base_of(number) + one
            if not 0 < one < self._max[number] or not self.users[slot]:
                raise KernelBug("swap_info_get", f"bad swap file entry {entry:#x}")
            return np.array((slot,), np.int64)
        kinds = entries[self._encoding.are_swap(entries)]
        areas, own = self._encoding.swap_slots(kinds)
        slots = self._base[areas] + own
        if not ((own > 0) & (own < self._max[areas])).all() or not self.users[slots].all():
            raise KernelBug(
                "swap_info_get", f"bad swap file entry among {[hex(entry) for entry in kinds[:4].tolist()]}"
            )
        return slots

    def duplicate(self, entries: I64) -> None:
        """swap_duplicate: entries have been copied."""
        self.use_all(self.slots_of(entries))

    def look_up(self, slot: int) -> None:
        """swap_info_get of somebody who wants to know whether the slot is his alone: where the next search begins may hang on it."""
        self.areas.look_up(self.place(slot)[0])

    def look_up_all(self, slots: I64) -> None:
        """The same of many, in order. Where there is one area nothing hangs on it. O(slots)."""
        if len(self._bases) > 1:
            for slot in slots.tolist():
                self.look_up(slot)

    def by_area(self, slots: I64) -> Iterator[tuple[int, slice | Bools, I64]]:
        """(area, which of `slots` are its, and which of its own they are.)"""
        if len(self._bases) == 1:
            yield self._owners[0], slice(None), slots - self._bases[0]
            return
        numbers, own = self._places(slots)
        for number in dict.fromkeys(numbers.tolist()):
            mine = numbers == number
            yield number, mine, own[mine]

    def in_rows(self, slots: I64, pfns: I64) -> Iterator[tuple[int, int, I64]]:
        """(area, first of its slots, the pages) of those that follow each other in slots, in order. No row crosses areas: between two lies a header."""
        for slot, first, end in consecutive(slots):
            yield *self.place(slot), pfns[first:end]

    def _places(self, slots: I64) -> tuple[I64, I64]:
        """`place` of many, as two columns."""
        rows = np.searchsorted(self._bases, slots, "right") - 1
        return np.array(self._owners, np.int64)[rows], slots - np.array(self._bases, np.int64)[rows]
