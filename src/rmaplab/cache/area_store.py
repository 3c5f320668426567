"""What is behind the slots of a swap area.

    AreaStore    MemoryAreaStore    rows of an array, which the host commits as they are written
                 FileAreaStore      a file of the host: slot n is at n x 4096, so that swapon of it would find the same

Who has a Swap may put another in a store's place (`Swap.stores`): one that stands before it and counts, fails or encrypts (cryptoloop.py).
"""

import os
import stat
import weakref
from abc import abstractmethod
from functools import cached_property
from typing import Protocol

import numpy as np

from rmaplab.errors import DiskError, KernelBug, UsageError
from rmaplab.harmless import printable
from rmaplab.machine.arrays import I64, U8, consecutive
from rmaplab.machine.jit import kernel
from rmaplab.units import PAGE_SIZE


class AreaStore(Protocol):
    """Where the bytes of an area's slots are. Slot 0 is nobody's: KernelBug, as for one behind the end.

    Who stands before another store needs read() and write() only; batches go through them then, one by one.
    """

    operation: str = ""
    """What the ledger counts for each page that goes through it, if its way costs something beside the disk's."""

    @property
    def on_disk(self) -> "AreaStore":
        """What its bytes lie in, as they lie there: of who stands before another, that one."""
        return self

    @abstractmethod
    def read(self, slot: int) -> U8:
        """The 4096 bytes of a slot, a copy. Of one that was never written: what was there. Raises DiskError."""

    @abstractmethod
    def write(self, slot: int, page: U8) -> None:
        """4096 bytes to a slot. Raises DiskError."""

    def read_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """The bytes of each slot to its row of `pages`, which is (any, 4096). By number of the slot in `slots` what could not be read; its row may have anything then."""
        failures: dict[int, DiskError] = {}
        for i, (slot, row) in enumerate(zip(slots.tolist(), rows.tolist(), strict=True)):
            try:
                pages[row] = self.read(slot)
            except DiskError as failure:
                failures[i] = failure
        return failures

    def write_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """Rows of `pages` to slots, in order. By number of the slot in `slots` what could not be written."""
        failures: dict[int, DiskError] = {}
        for i, (slot, row) in enumerate(zip(slots.tolist(), rows.tolist(), strict=True)):
            try:
                self.write(slot, pages[row])
            except DiskError as failure:
                failures[i] = failure
        return failures


def _in_bounds(slots: I64, nr_slots: int) -> None:
    bad = _first_bad(slots, nr_slots)
    if bad < slots.size:
        raise _out_of_bounds(int(slots[bad]), nr_slots)


@kernel
def _first_bad(slots: I64, nr_slots: int) -> int:
    """Where the first stands that is no slot; how many there are, if all are."""
    for i in range(slots.size):
        if slots[i] < 1 or slots[i] >= nr_slots:
            return i
    return int(slots.size)


def _out_of_bounds(slot: int, nr_slots: int) -> KernelBug:
    return KernelBug("rw_swap_page", f"slot {slot} is not one of 1 to {nr_slots - 1}")


class MemoryAreaStore(AreaStore):
    """An area of `nr_slots` pages in the host's memory. What was never written is zeros."""

    def __init__(self, nr_slots: int) -> None:
        self.nr_slots = nr_slots

    @cached_property
    def _rows(self) -> U8:
        """Made when somebody wants them: many a box has swap and never uses it."""
        rows: U8 = np.zeros((self.nr_slots, PAGE_SIZE), np.uint8)
        return rows

    def read(self, slot: int) -> U8:
        """As AreaStore."""
        if not 0 < slot < self.nr_slots:
            raise _out_of_bounds(slot, self.nr_slots)
        page: U8 = self._rows[slot].copy()
        return page

    def write(self, slot: int, page: U8) -> None:
        """As AreaStore."""
        if not 0 < slot < self.nr_slots:
            raise _out_of_bounds(slot, self.nr_slots)
        self._rows[slot] = page

    def read_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """As AreaStore."""
        _in_bounds(slots, self.nr_slots)
        _copy_pages(pages, rows, self._rows, slots)
        return {}

    def write_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """As AreaStore."""
        _in_bounds(slots, self.nr_slots)
        _copy_pages(self._rows, slots, pages, rows)
        return {}


@kernel
def _copy_pages(to: U8, to_rows: I64, source: U8, source_rows: I64) -> None:
    """Rows of one array of pages to rows of another."""
    for i in range(to_rows.size):
        to[to_rows[i]] = source[source_rows[i]]


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

    def read(self, slot: int) -> U8:
        """As AreaStore."""
        page: U8 = np.empty(PAGE_SIZE, np.uint8)
        if not 0 < slot < self.nr_slots:
            raise _out_of_bounds(slot, self.nr_slots)
        self._whole(slot, page.data, reading=True)
        return page

    def write(self, slot: int, page: U8) -> None:
        """As AreaStore."""
        if not 0 < slot < self.nr_slots:
            raise _out_of_bounds(slot, self.nr_slots)
        self._whole(slot, np.ascontiguousarray(page).data, reading=False)

    def read_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """As AreaStore, in runs of slots that follow each other."""
        _in_bounds(slots, self.nr_slots)
        failures: dict[int, DiskError] = {}
        for slot, first, end in consecutive(slots):
            run: U8 = np.empty((end - first, PAGE_SIZE), np.uint8)
            try:
                self._whole(slot, run.data.cast("B"), reading=True)
                pages[rows[first:end]] = run
            except DiskError:
                failed = super().read_pages(slots[first:end], pages, rows[first:end])
                failures |= {first + i: failure for i, failure in failed.items()}
        return failures

    def write_pages(self, slots: I64, pages: U8, rows: I64) -> dict[int, DiskError]:
        """The same."""
        _in_bounds(slots, self.nr_slots)
        failures: dict[int, DiskError] = {}
        for slot, first, end in consecutive(slots):
            try:
                self._whole(slot, pages[rows[first:end]].data.cast("B"), reading=False)
            except DiskError:
                failed = super().write_pages(slots[first:end], pages, rows[first:end])
                failures |= {first + i: failure for i, failure in failed.items()}
        return failures

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
