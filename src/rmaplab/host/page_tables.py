r"""Page-table entries of many small windows, read where they are in the kernel's memory, 8 entries at once (pages.py's peek).

    pgd --> ... --> table of the last level --> entries of a window      the way of many windows at once, a level after another
     \___ walked again when the entries have been read: what is not on the same way any more is left, and so is what is no plain table

pagemap would be asked a system call for each of them, or would read along what lies between. A table that is on its way before and after is
not given back in between, so what was read are entries. x86-64, as page_walk.py has found its tables.
Sources: arch/x86/include/asm/pgtable_types.h; Documentation/arch/x86/x86_64/mm.rst.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.host.bpf.btf import kernel_btf
from rmaplab.host.pages import PagePeeker
from rmaplab.host.windows import WindowEntries, Windows
from rmaplab.machine.arrays import I64, Bools, numbered

ADDRESS_IN_ENTRY = 0x000FFFFFFFFFF000
PRESENT, LEAF, PROTNONE, SPECIAL = 1, 1 << 7, 1 << 8, 1 << 9
SMALL = 64
"""Pages of a window that is read here; larger ones are pagemap's."""
_ENTRIES, _AT_ONCE = 512, 8


class _Ways(NamedTuple):
    """By table: its address, 0 where there is none; and whether all above it are plain tables."""

    table: I64
    plain: Bools


class PageTables:
    """Reads them. `shifts` are those of the levels, the topmost first; `page_offset` is where the kernel sees memory."""

    def __init__(self, peeker: PagePeeker, page_offset: int, shifts: tuple[int, ...]) -> None:
        self._peeker, self._page_offset, self._shifts = peeker, page_offset, shifts
        self._pgd = kernel_btf().offset("mm_struct", "pgd")

    def read(self, windows: Windows, mms: I64) -> tuple[WindowEntries, I64]:
        """What is present in these windows, and which of them were not read. `mms` are the kernel's addresses of mm_structs, by mm."""
        first, last = windows.first, windows.first + windows.pages - 1
        ours = (windows.pages <= SMALL) & (first // _ENTRIES == last // _ENTRIES)
        rows = np.flatnonzero(ours)
        _, at, which = numbered(windows.mm[rows] << 45 | first[rows] // _ENTRIES)
        some = windows.at(rows[at])
        ways = self._walk(mms[some.mm], some.first)
        ours[rows] = ways.plain[which]
        there = np.flatnonzero(ways.plain[which] & (ways.table[which] != 0))
        rows, table = rows[there], ways.table[which[there]]

        low, high = (at % _ENTRIES // _AT_ONCE for at in (first[rows], last[rows]))
        nr = high - low + 1
        owner = np.repeat(np.arange(len(rows)), nr)
        line = low[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(nr) - nr, nr)
        words, good = self._peeker.peek(table[owner] + line * 64)
        page = (first[rows] // _ENTRIES * _ENTRIES)[owner] + line * _AT_ONCE
        page = page[:, None] + np.arange(_AT_ONCE)
        inside = (page >= first[rows][owner][:, None]) & (page <= last[rows][owner][:, None])
        after = self._walk(mms[some.mm], some.first)
        ours[rows] &= (ways.table == after.table)[which[there]]
        closed = inside & (words & (PRESENT | PROTNONE) == PROTNONE)
        ours[rows[owner[~good | closed.any(axis=1)]]] = False

        present = inside & (words & (PRESENT | SPECIAL) == PRESENT) & ours[rows][owner][:, None]
        pfn = (words[present] & ADDRESS_IN_ENTRY) >> 12
        window = np.broadcast_to(rows[owner][:, None], present.shape)[present]
        return WindowEntries(window, pfn), np.flatnonzero(~ours)

    def _walk(self, mms: I64, page: I64) -> _Ways:
        """To the tables of the last level that have these pages."""
        table = self._peeker.peek(mms + self._pgd)[0][:, 0]
        plain = table != 0
        for shift in self._shifts[:-1]:
            entry = self._peeker.peek(np.where(table != 0, table + (page >> shift - 12 & 511) * 8, 0))[0][:, 0]
            is_table = entry & PRESENT != 0
            if shift < self._shifts[-1] + 27:
                is_table &= entry & LEAF == 0
            plain &= (entry == 0) | is_table
            table = np.where(is_table, self._page_offset + (entry & ADDRESS_IN_ENTRY), 0)
        return _Ways(table, plain)
