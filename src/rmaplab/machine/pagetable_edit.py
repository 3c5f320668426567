"""Page tables read, protected, moved and searched: what mprotect, mremap, loads and stores, and searching kernels need.

    read_range, read_all, read_entries     entries into a batch, or PFNs into a row; nothing changes
    protect_range                          change_protection
    count_tables_at, hang_tables,          move_page_tables, with its tables counted and hung in first
    move_entries
    leaf_tables, find_pfn                  where the tables are; where a frame is
    free_range                             free_pgd_range: tables that nobody needs any more, level by level

The conventions, and the loops of fault, fork and exit, are those of pagetable.py.
"""

import numpy as np

from rmaplab.machine.arrays import I64, Words
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.jit import inline, kernel
from rmaplab.machine.pagetable import PFN_MASK, leaf, leaf_make, missing_on_path
from rmaplab.machine.paging import MAPPED, PRESENT, RW


@kernel
def leaf_tables(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, tables: I64, bases: I64) -> int:
    """The leaf tables of [start, end): their frames, and the first address each maps. Returns their number."""
    span = 4096 << bits
    nr = 0
    address = start & ~(span - 1)
    while address < end:
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            tables[nr], bases[nr] = table >> 12, address
            nr += 1
        address += span
    return nr


@inline
def _read(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, batch: I64, zero_too: bool) -> int:
    span = 4096 << bits
    nr = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + i])
                if entry & MAPPED and (zero_too or (entry >> 12) & PFN_MASK != ZERO_PFN):
                    batch[0, nr] = (entry >> 12) & PFN_MASK
                    batch[1, nr] = (first + i) << (12 - bits)
                    batch[2, nr] = address + (i << 12)
                    nr += 1
        address = stop
    return nr


@kernel
def read_range(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, batch: I64) -> int:
    """The present entries of [start, end) into `batch`, zero page excepted; their number. Changes nothing."""
    return _read(words, levels, bits, pgd, start, end, batch, False)


@kernel
def read_entries(words: Words, levels: int, bits: int, pgd: int, start: int, pfns: I64) -> None:
    """The PFN of each page from `start` on, as many as `pfns` holds, whose entries are all present."""
    for i in range(pfns.size):
        address = start + (i << 12)
        table = leaf(words, levels, bits, pgd, address)
        entry = np.int64(words[(table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))])
        pfns[i] = (entry >> 12) & PFN_MASK


@kernel
def protect_range(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, present: int) -> int:
    """change_protection: every entry of [start, end) read-only, and marked with `present` (PRESENT or PROTNONE).

    Returns the number of entries there are.
    """
    span = 4096 << bits
    nr = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + i])
                if entry & MAPPED:
                    words[first + i] = (entry & ~np.int64(MAPPED | RW)) | present
                    nr += 1
        address = stop
    return nr


@kernel
def read_all(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, batch: I64) -> int:
    """Like read_range, the zero page included: what mremap moves."""
    return _read(words, levels, bits, pgd, start, end, batch, True)


@kernel
def count_tables_at(words: Words, levels: int, bits: int, pgd: int, addresses: I64, delta: int) -> int:
    """Tables missing under `pgd` for entries at addresses + delta, which ascend."""
    missing = 0
    previous = np.int64(-1)
    for i in range(addresses.size):
        address = addresses[i] + delta
        if previous < 0 or address >> (12 + bits) != previous >> (12 + bits):
            missing += missing_on_path(words, levels, bits, pgd, address, previous, levels - 1)
            previous = address
    return missing


@kernel
def hang_tables(words: Words, levels: int, bits: int, pgd: int, addresses: I64, delta: int, tables: I64) -> None:
    """Hang `tables` in for the addresses + delta, which ascend: as many as count_tables_at says."""
    used = 0
    for i in range(addresses.size):
        _, used = leaf_make(words, levels, bits, pgd, addresses[i] + delta, tables, used)


@kernel
def move_entries(
    words: Words, levels: int, bits: int, pgd: int, batch: I64, nr: int, delta: int, moved: I64
) -> None:  # fmt: skip
    """Move the entries of `batch` by `delta` bytes of address, where tables are; `moved` is the batch of where they are now."""
    for i in range(nr):
        address = batch[2, i] + delta
        table = leaf(words, levels, bits, pgd, address)
        slot = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        source = batch[1, i] >> (12 - bits)
        words[slot] = words[source]
        words[source] = 0
        moved[0, i], moved[1, i], moved[2, i] = batch[0, i], slot << (12 - bits), address


@kernel
def find_pfn(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, pfn: int) -> tuple[int, int]:
    """The first address in [start, end) that maps `pfn`, or -1; and how many entries were looked at."""
    span = 4096 << bits
    scanned = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                scanned += 1
                entry = np.int64(words[first + i])
                if entry & MAPPED and (entry >> 12) & PFN_MASK == pfn:
                    return address + (i << 12), scanned
        address = stop
    return np.int64(-1), scanned


@kernel
def free_level(
    words: Words, levels: int, bits: int, pgd: int, level: int, start: int, end: int, tables: I64, nr: int
) -> int:  # fmt: skip
    """Unhook the tables of one level (1: leaf tables) that map [start, end), whole tables: into tables[nr:]; the new `nr`."""
    span = np.int64(4096) << (bits * level)
    address = np.int64(start)
    while address < end:
        table = np.int64(pgd)
        shift = 12 + bits * (levels - 1)
        slot = (table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))
        entry = np.int64(words[slot])
        while entry & PRESENT and shift > 12 + bits * level:
            table = ((entry >> 12) & PFN_MASK) << 12
            shift -= bits
            slot = (table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))
            entry = np.int64(words[slot])
        if entry & PRESENT:
            tables[nr] = (entry >> 12) & PFN_MASK
            words[slot] = 0
            nr += 1
            address += span
        else:  # nothing below this entry
            address = ((address >> shift) + 1) << shift
    return nr


@kernel
def free_range(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, floor: int, ceiling: int, tables: I64
) -> int:  # fmt: skip
    """Unhook all tables below the top that map something of [start, end), empty by now, and nothing outside [floor, ceiling).

    Their frames go to `tables`, leaf tables first: their number is returned. O(tables, and absent ones only where their parents are).
    """
    nr = 0
    for level in range(1, levels):
        span = np.int64(4096) << (bits * level)
        first = max(start // span, -(-floor // span)) * span
        last = min(-(-end // span), ceiling // span) * span
        nr = free_level(words, levels, bits, pgd, level, first, last, tables, nr)
    return nr
