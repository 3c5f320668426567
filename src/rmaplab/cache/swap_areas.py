"""The swap areas of a box, by priority, and what is behind their slots.

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

    AreaStore    MemoryAreaStore    rows of an array, which the host commits as they are written
                 FileAreaStore      a file of the host: slot n is at n x 4096, so that swapon of it would find the same

Source: mm/swapfile.c (get_swap_page, swap_info_get, sys_swapon, sys_swapoff) of 2.4.27, 2.6.2, 2.6.7; reclaim.md F.1, F.9.
"""

import errno
import os
import stat
import weakref
from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from rmaplab.cache.swap_area import SwapArea
from rmaplab.errors import DiskError, KernelBug, SyscallError, UsageError
from rmaplab.harmless import printable
from rmaplab.machine.arrays import I64, U8, Bools
from rmaplab.units import PAGE_SIZE

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
        numbers, full = self._turns(min(nr, max(self.nr_swap_pages, 0)))
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
            self.look_up(number)  # in the order in which areas are first met, which is all that matters for `next`
            area = self.areas[number]
            before = area.nr_free
            left[mine] = area.give(slots[mine])
            self.nr_swap_pages += area.nr_free - before
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


# -- bytes -------------------------------------------------------------------------------------------------------------


class AreaStore(Protocol):
    """Where the bytes of an area's slots are. Slot 0 is nobody's: KernelBug, as for one behind the end. DiskError: it cannot be done.

    A batch is done in runs of slots that follow each other, in the order given; if one fails, those before it are done. O(slots).
    """

    @abstractmethod
    def read_many(self, slots: I64, out: U8) -> None:
        """The bytes of slots to the rows of `out`, (slots, 4096) in C order. Of one that was never written: what was there."""

    @abstractmethod
    def write_many(self, slots: I64, pages: U8) -> None:
        """The rows of `pages`, (slots, 4096), to slots. Of one that is named twice the last row counts."""

    def read(self, slot: int) -> U8:
        """The 4096 bytes of a slot, a copy."""
        page: U8 = np.empty((1, PAGE_SIZE), np.uint8)
        self.read_many(np.array([slot]), page)
        return page.reshape(-1)

    def write(self, slot: int, page: U8) -> None:
        """4096 bytes to a slot."""
        self.write_many(np.array([slot]), page.reshape(1, PAGE_SIZE))


def _in_bounds(slots: I64, nr_slots: int) -> None:
    bad = np.flatnonzero((slots < 1) | (slots >= nr_slots))
    if bad.size:
        raise KernelBug("rw_swap_page", f"slot {slots[bad[0]]} is not one of 1 to {nr_slots - 1}")


class MemoryAreaStore(AreaStore):
    """An area of `nr_slots` pages in the host's memory. What was never written is zeros."""

    def __init__(self, nr_slots: int) -> None:
        self._rows: U8 = np.zeros((nr_slots, PAGE_SIZE), np.uint8)

    def read_many(self, slots: I64, out: U8) -> None:
        """As AreaStore."""
        _in_bounds(slots, len(self._rows))
        np.take(self._rows, slots, axis=0, out=out, mode="clip")  # "raise" would copy

    def write_many(self, slots: I64, pages: U8) -> None:
        """As AreaStore."""
        _in_bounds(slots, len(self._rows))
        self._rows[slots] = pages


class FileAreaStore(AreaStore):
    """An area in a file of the host, open for reading and writing as `fd`, which is closed when this goes. It has the file's whole pages.

    Who names a file opens it, and answers for what is in it. `name` is for messages. Raises UsageError for what is no regular file, and leaves
    that open: no device of the host is written to by mistake.
    """

    def __init__(self, fd: int, name: str = "a file of the host") -> None:
        self._fd, self._name = fd, printable(name)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{self._name}: slots are kept in regular files only: name one")
        self.nr_slots = found.st_size // PAGE_SIZE
        weakref.finalize(self, os.close, fd)

    def read_many(self, slots: I64, out: U8) -> None:
        """As AreaStore."""
        _in_bounds(slots, self.nr_slots)
        for slot, rows in _runs(slots):
            self._whole(slot, out[rows].data.cast("B"), reading=True)

    def write_many(self, slots: I64, pages: U8) -> None:
        """As AreaStore."""
        _in_bounds(slots, self.nr_slots)
        for slot, rows in _runs(slots):
            self._whole(slot, np.ascontiguousarray(pages[rows]).data.cast("B"), reading=False)

    def _whole(self, slot: int, data: memoryview, *, reading: bool) -> None:
        """All of `data`, from or to a slot on: the host may do it in parts."""
        at, done = slot * PAGE_SIZE, 0
        while done < len(data):
            try:
                part, place = data[done:], at + done
                nr = os.preadv(self._fd, [part], place) if reading else os.pwrite(self._fd, part, place)
                why = "" if nr else "it has become shorter"
            except OSError as failure:
                nr, why = 0, failure.strerror or "an error"
            if not nr:
                raise DiskError(f"slot {slot + done // PAGE_SIZE} of {self._name}: {why}")
            done += nr


def _runs(slots: I64) -> Iterator[tuple[int, slice]]:
    """(first slot, its rows) of each run of slots that follow each other."""
    borders = np.flatnonzero(np.diff(slots) != 1) + 1
    for first, last in zip([0, *borders.tolist()], [*borders.tolist(), slots.size], strict=True):
        if first < last:
            yield int(slots[first]), slice(first, last)
