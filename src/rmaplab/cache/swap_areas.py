"""The swap areas of a box, by priority. What is behind their slots: area_store.py.

    head                 next
     |                    |
     v                    v
    area 2, prio 7  ->  area 0, prio 7  ->  area 1, prio -1         areas 2 and 0 in turn while one of them has a slot, then area 1

`next` is where the search for a slot begins. A slot found: it goes on to the next area if that has the same priority, else back to the head.
It also goes to an area of higher priority whenever one of that area's slots is looked up: it may be free soon. An area whose priority
was not given gets -1, -2, ... in order of swapon; a new one stands before those of its own priority.

An area that swapoff is emptying is not on the list, and its slots are looked up: so `next` may point to it, and the search goes on from where
it once stood. Its number may be another area's later, and `next` still points there. The list is kept as the kernel keeps it, by numbers,
so such things happen here too.

Source: mm/swapfile.c (get_swap_page, swap_info_get, sys_swapon, sys_swapoff) of 2.4.27, 2.6.2, 2.6.7; reclaim.md F.1, F.9.
"""

import errno
from collections.abc import Iterator

import numpy as np

from rmaplab.cache.swap_area import SwapArea
from rmaplab.errors import KernelBug, SyscallError
from rmaplab.machine.arrays import I64, Bools

MAX_SWAPFILES = 32
SWAP_FLAG_PRIO_MASK = 0x7FFF

# -- the list ----------------------------------------------------------------------------------------------------------


class SwapAreas:
    """swap_info and swap_list. `areas` are by number; who is not on the list (any more) is still there, until its number is another's."""

    def __init__(self, most: int = MAX_SWAPFILES) -> None:
        self.areas: list[SwapArea] = []
        self.head = self.next = -1
        self.nr_swap_pages = self.total_swap_pages = 0
        """Free pages, all pages, of the areas on the list. Used slots of an area that is being emptied count as less than none."""
        self._most, self._least_priority = most, 0
        self._gone: set[int] = set()

    # -- swapon, swapoff -----------------------------------------------------------------------------------------------

    def swapon(self, area: SwapArea, priority: int | None = None) -> int:
        """Put a fresh area on the list. Returns its number. O(areas).

        `priority`: of 0 to 32767 (more bits are not seen), None for the next negative one. Raises SyscallError: EPERM, there are too many.
        """
        number = min(self._gone, default=len(self.areas))
        if number >= self._most:
            raise SyscallError(errno.EPERM, "swapon", f"there are {self._most} swap areas already")
        if priority is None:
            self._least_priority -= 1
        area.priority = self._least_priority if priority is None else priority & SWAP_FLAG_PRIO_MASK
        self._gone.discard(number)
        self.areas[number : number + 1] = [area]
        self._insert(number)
        return number

    def leave(self, number: int) -> None:
        """The first half of swapoff: no slot is taken there any more, those that are used are the caller's to empty. O(areas).

        Raises SyscallError: EINVAL, it is not on the list.
        """
        order = list(self)
        if number not in order:
            raise SyscallError(errno.EINVAL, "swapoff", f"there is no swap area {number}")
        area, place = self.areas[number], order.index(number)
        if place:
            self.areas[order[place - 1]].next = area.next
        else:
            self.head = area.next
        if self.next == number:
            self.next = self.head
        area.writeok = False
        self.nr_swap_pages -= area.pages
        self.total_swap_pages -= area.pages

    def rejoin(self, number: int) -> None:
        """Where swapoff has failed: back to the list, before those of its priority. O(areas). Raises KernelBug for one that has not left."""
        if number in self._gone or self.areas[number].writeok:
            raise KernelBug("sys_swapoff", f"area {number} has not left")
        self._insert(number)

    def release(self, number: int) -> None:
        """The second half of swapoff: nobody uses a slot, the number is free. O(1). Raises KernelBug if somebody does, or it is on the list."""
        area = self.areas[number]
        if number in self._gone or area.writeok or area.nr_free != area.pages:
            raise KernelBug("sys_swapoff", f"area {number} is in use, or gone already")
        self._gone.add(number)

    def _insert(self, number: int) -> None:
        area, above = self.areas[number], -1
        for other in self:
            if area.priority >= self.areas[other].priority:
                break
            above = other
        if above < 0:
            area.next = self.head
            self.head = self.next = number
        else:
            area.next, self.areas[above].next = self.areas[above].next, number
        area.writeok = True
        self.nr_swap_pages += area.pages
        self.total_swap_pages += area.pages

    def __iter__(self) -> Iterator[int]:
        """The numbers of those on the list, in its order."""
        number = self.head
        while number >= 0:
            yield number
            number = self.areas[number].next

    # -- slots ---------------------------------------------------------------------------------------------------------

    def get(self, nr: int) -> tuple[I64, I64]:
        """get_swap_page, `nr` times: (area numbers, slots), fewer where swap is full. O(nr x areas), and a search of each area.

        Whose turn it is hangs on who has a free slot, not on which: so turns come first, and then each area takes its slots at once.
        """
        nr = min(nr, max(self.nr_swap_pages, 0))
        if self.head >= 0 and self.next == self.head and self.areas[self.head].next < 0:
            slots = self.areas[self.head].take_many(nr)
            self.nr_swap_pages -= slots.size
            return np.full(slots.size, self.head, np.int64), slots
        numbers, full = self._turns(nr)
        slots = np.zeros(numbers.size, np.int64)
        for number in self:
            mine = numbers == number
            if mine.any():
                slots[mine] = self.areas[number].take_many(int(np.count_nonzero(mine)))
        for number in full:  # a search in vain leaves traces
            if self.areas[number].take():
                raise KernelBug("get_swap_page", f"area {number} is full and has a slot")
        self.nr_swap_pages -= numbers.size
        return numbers, slots

    def take(self) -> tuple[int, int]:
        """get_swap_page: (area number, slot), once. (-1, 0): swap is full. O(areas), and a search of each that is asked."""
        number, again = self.next, False
        if self.nr_swap_pages <= 0:
            number = -1
        while number >= 0:
            area = self.areas[number]
            slot = area.take() if area.writeok else 0
            below = area.next
            ends = below < 0 or not self._same_priority(number, below)
            if slot:
                self.next = self.head if ends else below
                self.nr_swap_pages -= 1
                return number, slot
            if ends and not again:
                below, again = self.head, True
            number = below
        return -1, 0

    def _turns(self, nr: int) -> tuple[I64, set[int]]:
        """(the areas that give a slot, in turn; those that are asked in vain on the way). Moves `next`."""
        left = {number: self.areas[number].nr_available for number in self}
        full: set[int] = set()
        turns = [np.empty(0, np.int64)]
        while nr:
            start = self.next
            once = self._round(start, min(nr, len(left)), left, full)
            if not once:
                break
            again = 0
            # back at the start, it goes on so until one has no slot. Nobody is in a round twice: who it was says where the next search begins
            if self.next == start:
                again = min(nr // len(once) - 1, *(left[number] for number in once))
                for number in once:
                    left[number] -= again
            turns.append(np.tile(np.array(once, np.int64), 1 + again))
            nr -= turns[-1].size
        return np.concatenate(turns), full

    def _round(self, start: int, most: int, left: dict[int, int], full: set[int]) -> list[int]:
        """The areas that give a slot, one after another, until `next` is `start` again, or they are `most`, or there is none."""
        once: list[int] = []
        while len(once) < most and (self.next != start or not once):
            number = self._who(left, full)
            if number < 0:
                break
            below = self.areas[number].next
            self.next = below if below >= 0 and self._same_priority(number, below) else self.head
            left[number] -= 1
            once.append(number)
        return once

    def _who(self, left: dict[int, int], full: set[int]) -> int:
        """The area with a slot that a search from `next` comes to, or -1. Once, where a priority ends, it starts again at the head."""
        number, again = self.next, False
        while number >= 0:
            if self.areas[number].writeok:
                if left[number]:
                    return number
                full.add(number)
            below = self.areas[number].next
            if not again and (below < 0 or not self._same_priority(number, below)):
                below, again = self.head, True
            number = below
        return -1

    def _same_priority(self, one: int, other: int) -> bool:
        return self.areas[one].priority == self.areas[other].priority

    def look_up(self, number: int) -> None:
        """swap_info_get: a slot of this area may soon be free, or is somebody's alone. Searches begin there if its priority is higher. O(1)."""
        if self.next >= 0 and self.areas[number].priority > self.areas[self.next].priority:
            self.next = number

    def give(self, numbers: I64, slots: I64) -> I64:
        """swap_free of each, in turn; what is then left of it. Raises KernelBug as SwapArea.give, and for an area that is not there. O(slots)."""
        left = np.empty(slots.size, np.int64)
        for number, mine in self._by_area(numbers, "swap_free"):
            left[mine] = self.give_of(
                number, slots[mine]
            )  # in the order in which areas are first met, which is all that matters for `next`
        return left

    def give_of(self, number: int, slots: I64) -> I64:
        """The same of one area that is there."""
        self.look_up(number)
        area = self.areas[number]
        before = area.nr_available
        left = area.give(slots)
        self.nr_swap_pages += area.nr_available - before
        return left

    def duplicate(self, numbers: I64, slots: I64) -> Bools:
        """swap_duplicate of each: whether there was such a slot. Raises KernelBug for an area that is not there. O(slots)."""
        done = np.zeros(slots.size, np.bool_)
        for number, mine in self._by_area(numbers, "swap_dup"):
            done[mine] = self.areas[number].duplicate(slots[mine])
        return done

    def _by_area(self, numbers: I64, where: str) -> Iterator[tuple[int, Bools]]:
        for number in dict.fromkeys(numbers.tolist()):
            if number in self._gone or not 0 <= number < len(self.areas):
                raise KernelBug(where, f"bad swap file entry: there is no area {number}")
            yield number, numbers == number

    def check(self) -> None:
        """Each area, the order of the list and the totals. Raises KernelBug. O(slots)."""
        order: list[int] = []
        for number in self:
            if number in order:
                raise KernelBug("swap_list", f"it goes in a circle at area {number}")
            order.append(number)
        there = [number for number in range(len(self.areas)) if number not in self._gone]
        if sorted(order) != [number for number in there if self.areas[number].writeok]:
            raise KernelBug("swap_list", f"on the list are {order}, of {there}")
        for number in there:
            self.areas[number].check()
        priorities = [self.areas[number].priority for number in order]
        if priorities != sorted(priorities, reverse=True):
            raise KernelBug("swap_list", f"its priorities are {priorities}")
        if order and not 0 <= self.next < len(self.areas):
            raise KernelBug("swap_list", f"next is {self.next}")
        total = sum(self.areas[number].pages for number in order)
        used = sum(self.areas[number].pages - self.areas[number].nr_free for number in there)
        if (self.total_swap_pages, self.nr_swap_pages) != (total, total - used):
            said = f"{self.nr_swap_pages} of {self.total_swap_pages} pages"
            raise KernelBug("nr_swap_pages", f"{said} are said to be free, there are {total - used} of {total}")
