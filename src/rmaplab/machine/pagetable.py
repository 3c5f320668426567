"""Page tables in frames of the simulated RAM: the loops that Linux calls copy_page_range, zap_page_range and the like.

    pgd (physical)      middle table (PAE, x86-64)     leaf table                frame
    +-----------+       +-----------+                  +------------------+     +------+
    | pfn | TABLE ----> | pfn | TABLE ------...------> | pfn | ..A.UWP    ----> | data |
    +-----------+       +-----------+                  +------------------+     +------+

Every kernel begins with the same four arguments: `words` (RAM as words of one entry's size), `levels`, `bits` (the format,
see paging.py) and `pgd` (physical address of the top table). Ranges [start, end) are virtual addresses, whole pages. None
of them allocates or can fail: whoever calls has counted what is missing (`count_tables`, `fault_scan`) and brings it along.
A batch of page-table entries is a column array of three rows, one column per entry:

    row 0   PFN          row 1   the entry's physical address          row 2   the virtual address it maps

Zero-page entries are copied and cleared like others but never enter a batch: ZERO_PAGE is reserved, and no reverse map
tracks it. Entries are int64 while they are worked on, whatever their size in memory (Numba makes floats of a mix).
"""

import numpy as np

from rmaplab.machine.arrays import I32, I64, Words
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.jit import inline, kernel
from rmaplab.machine.paging import ACCESSED, DIRTY, MAPPED, PRESENT, RW, TABLE, USER

PFN, PTE, ADDRESS = 0, 1, 2  # the rows of a batch
PFN_MASK = (1 << 40) - 1
READABLE = PRESENT | USER | ACCESSED
WRITABLE = READABLE | RW | DIRTY


@inline
def leaf(words: Words, levels: int, bits: int, pgd: int, address: int) -> int:
    """The physical address of the leaf table that maps `address`, or -1. This walk is all there is to paging."""
    table = np.int64(pgd)
    shift = 12 + bits * (levels - 1)
    for _ in range(levels - 1):
        entry = np.int64(words[(table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))])
        if not entry & PRESENT:
            return np.int64(-1)
        table = ((entry >> 12) & PFN_MASK) << 12
        shift -= bits
    return table


@inline
def leaf_make(words: Words, levels: int, bits: int, pgd: int, address: int, tables: I64, used: int) -> tuple[int, int]:
    """The same, hanging in tables[used:] where one is missing: (leaf table, used)."""
    table = np.int64(pgd)
    shift = 12 + bits * (levels - 1)
    for _ in range(levels - 1):
        slot = (table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))
        entry = np.int64(words[slot])
        if not entry & PRESENT:
            entry = (tables[used] << 12) | TABLE
            words[slot] = entry
            used += 1
        table = ((entry >> 12) & PFN_MASK) << 12
        shift -= bits
    return table, used


@kernel
def lookup(words: Words, levels: int, bits: int, pgd: int, address: int) -> tuple[int, int]:
    """(entry, its physical address) for one page; (0, -1) where there is no leaf table."""
    table = leaf(words, levels, bits, pgd, address)
    if table < 0:
        return np.int64(0), np.int64(-1)
    slot = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
    return np.int64(words[slot]), slot << (12 - bits)


@inline
def missing_on_path(words: Words, levels: int, bits: int, pgd: int, address: int, previous: int, depth: int) -> int:
    """Tables missing of the first `depth` on the way to `address`, those not counted that `previous` (or -1) also needs.

    At a depth of levels - 1 the last one is the leaf table.
    """
    table = np.int64(pgd)
    shift = 12 + bits * (levels - 1)
    missing = 0
    absent = False
    for _ in range(depth):
        if not absent:
            entry = np.int64(words[(table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))])
            if entry & PRESENT:
                table = ((entry >> 12) & PFN_MASK) << 12
            else:
                absent = True
        if absent and (previous < 0 or address >> shift != previous >> shift):
            missing += 1
        shift -= bits
    return missing


@inline
def make_path(
    words: Words, levels: int, bits: int, pgd: int, address: int, depth: int, tables: I64, used: int
) -> int:  # fmt: skip
    """Hang tables[used:] in where one of the first `depth` on the way to `address` is missing: used, then."""
    table = np.int64(pgd)
    shift = 12 + bits * (levels - 1)
    for _ in range(depth):
        slot = (table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))
        entry = np.int64(words[slot])
        if not entry & PRESENT:
            entry = (tables[used] << 12) | TABLE
            words[slot] = entry
            used += 1
        table = ((entry >> 12) & PFN_MASK) << 12
        shift -= bits
    return used


@inline
def depth_at(words: Words, levels: int, bits: int, pgd: int, address: int) -> int:
    """How many tables there are on the way to `address`, below the top one: levels - 1 where there is a leaf table."""
    table = np.int64(pgd)
    shift = 12 + bits * (levels - 1)
    depth = 0
    for _ in range(levels - 1):
        entry = np.int64(words[(table >> (12 - bits)) + ((address >> shift) & ((1 << bits) - 1))])
        if not entry & PRESENT:
            break
        table = ((entry >> 12) & PFN_MASK) << 12
        shift -= bits
        depth += 1
    return depth


@kernel
def count_tables(words: Words, levels: int, bits: int, pgd: int, guide: int, start: int, end: int) -> tuple[int, int]:
    """(tables missing under `pgd`, leaf tables there will be) so that [start, end) can be populated.

    With a `guide` (a pgd, or -1) only those tables count that the guide has: what copy_range will need. Upper ones, too, whose
    leaf tables are gone (freed, or never there): copy_pmd_range makes the child's before it looks.
    """
    span = 4096 << bits
    missing = leaves = 0
    address, previous = start, np.int64(-1)  # previous: the last address whose path is accounted for
    while address < end:
        depth = levels - 1 if guide < 0 else depth_at(words, levels, bits, guide, address)
        if depth:
            leaves += depth == levels - 1
            missing += missing_on_path(words, levels, bits, pgd, address, previous, depth)
            previous = address
        address = (address & ~(span - 1)) + span
    return missing, leaves


@kernel
def touch_range(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool) -> int:
    """What the MMU does when a task touches every page: set accessed (and dirty) bits.

    Returns the first address that faults instead, or `end`.
    """
    span = 4096 << bits
    need = PRESENT | RW if write else PRESENT
    mark = ACCESSED | DIRTY if write else ACCESSED
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table < 0:
            return address
        first = np.uint64((table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1)))
        for i in range((stop - address) >> 12):
            entry = np.int64(words[first + np.uint64(i)])
            if entry & need != need:
                return address + (i << 12)
            if entry & mark != mark:
                words[first + np.uint64(i)] = entry | mark
        address = stop
    return end


@kernel
def fault_scan(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool, count: I32
) -> tuple[int, int, int, int]:
    """What touching [start, end) will need: (new pages, zero-page mappings, COW copies, COW reuses).

    A page may be reused when nobody else holds a reference: the rule of 2.4 to 2.6.7 (eras.md 2.2).
    """
    span = 4096 << bits
    fresh = zeroes = copies = reuses = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        nr = (stop - address) >> 12
        if table < 0:
            if write:
                fresh += nr
            else:
                zeroes += nr
        else:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range(nr):
                entry = np.int64(words[first + i])
                if not entry & PRESENT:
                    if write:
                        fresh += 1
                    else:
                        zeroes += 1
                elif write and not entry & RW:
                    pfn = (entry >> 12) & PFN_MASK
                    if pfn == ZERO_PFN:
                        fresh += 1
                    elif count[pfn] == 1:
                        reuses += 1
                    else:
                        copies += 1
        address = stop
    return fresh, zeroes, copies, reuses


@kernel
def touch_scan(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool, count: I32
) -> tuple[int, int, int, int, int, int]:
    """touch_range up to the first fault; from there on, what fault_scan and count_tables say: one call for a whole touch.

    Returns (first address that faults or `end`, new pages, zero-page mappings, COW copies, COW reuses, tables missing).
    """
    there = touch_range(words, levels, bits, pgd, start, end, write)
    if there == end:
        return end, 0, 0, 0, 0, 0
    fresh, zeroes, copies, reuses = fault_scan(words, levels, bits, pgd, there, end, write, count)
    missing, _ = count_tables(words, levels, bits, pgd, -1, there, end)
    return there, fresh, zeroes, copies, reuses, missing


@kernel
def fault_apply(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool, count: I32,
    tables: I64, pages: I64, added: I64, removed: I64, reused: I64, copies: I64,
) -> tuple[int, int, int]:  # fmt: skip
    """Make every page of [start, end) accessible, with what fault_scan and count_tables asked for.

    Batches out: `added` (new pages, COW copies among them), `removed` (the pages those replaced; copies[i] is the copy of
    removed[PFN, i]) and `reused` (made writable where they are). Returns their three lengths.
    """
    span = 4096 << bits
    nr_added = nr_removed = nr_reused = used = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table, used = leaf_make(words, levels, bits, pgd, address, tables, used)
        first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        for i in range((stop - address) >> 12):
            slot = first + i
            entry = np.int64(words[slot])
            old = (entry >> 12) & PFN_MASK
            if entry & PRESENT and (entry & RW or not write):
                words[slot] = entry | (ACCESSED | DIRTY if write else ACCESSED)
            elif not write:
                words[slot] = (ZERO_PFN << 12) | READABLE
            elif entry & PRESENT and old != ZERO_PFN and count[old] == 1:
                words[slot] = entry | WRITABLE
                reused[0, nr_reused], reused[1, nr_reused] = old, slot << (12 - bits)
                reused[2, nr_reused] = address + (i << 12)
                nr_reused += 1
            else:
                new = pages[nr_added]
                if entry & PRESENT and old != ZERO_PFN:
                    count[old] -= 1
                    copies[nr_removed] = new
                    removed[0, nr_removed], removed[1, nr_removed] = old, slot << (12 - bits)
                    removed[2, nr_removed] = address + (i << 12)
                    nr_removed += 1
                words[slot] = (new << 12) | WRITABLE
                added[0, nr_added], added[1, nr_added] = new, slot << (12 - bits)
                added[2, nr_added] = address + (i << 12)
                nr_added += 1
        address = stop
    return nr_added, nr_removed, nr_reused


@kernel
def hook_tables(words: Words, levels: int, bits: int, pgd: int, address: int, tables: I64) -> None:
    """Hang `tables`, as many as count_tables said are missing, on the path to one address."""
    leaf_make(words, levels, bits, pgd, address, tables, 0)


@kernel
def copy_range(
    words: Words, levels: int, bits: int, pgd: int, child: int, start: int, end: int, cow: bool,
    count: I32, tables: I64, batch: I64,
) -> tuple[int, int]:  # fmt: skip
    """copy_page_range: the entries of `pgd` into `child`, both write-protected where `cow`, the child's old (not accessed).

    References are taken on the pages. `batch` gets the child's new mappings: (their number, entries copied in all).
    """
    span = 4096 << bits
    nr = copied = used = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            below, used = leaf_make(words, levels, bits, child, address, tables, used)
            offset = (address >> 12) & ((1 << bits) - 1)
            source = np.uint64((table >> (12 - bits)) + offset)
            target = np.uint64((below >> (12 - bits)) + offset)
            pte = below + (offset << (12 - bits))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[source + np.uint64(i)])
                if entry & MAPPED:
                    if cow and entry & RW:
                        entry &= ~np.int64(RW)
                        words[source + np.uint64(i)] = entry
                    words[target + np.uint64(i)] = entry & ~np.int64(ACCESSED)
                    copied += 1
                    pfn = (entry >> 12) & PFN_MASK
                    if pfn != ZERO_PFN:
                        count[np.uint64(pfn)] += 1
                        batch[0, np.uint64(nr)] = pfn
                        batch[1, np.uint64(nr)] = pte + (i << (12 - bits))
                        batch[2, np.uint64(nr)] = address + (i << 12)
                        nr += 1
        else:
            used = make_path(
                words, levels, bits, child, address, depth_at(words, levels, bits, pgd, address), tables, used
            )
        address = stop
    return nr, copied


@kernel
def zap_range(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, batch: I64) -> tuple[int, int]:
    """zap_page_range: clear all entries of [start, end); what was mapped goes to `batch`: (its length, entries cleared).

    References are still held: the reverse map forgets the batch first, then put_pages drops them. Tables stay, all zero.
    """
    span = 4096 << bits
    nr = cleared = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            offset = (address >> 12) & ((1 << bits) - 1)
            first = np.uint64((table >> (12 - bits)) + offset)
            pte = table + (offset << (12 - bits))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + np.uint64(i)])
                if entry & MAPPED:
                    words[first + np.uint64(i)] = 0
                    cleared += 1
                    pfn = (entry >> 12) & PFN_MASK
                    if pfn != ZERO_PFN:
                        batch[0, np.uint64(nr)] = pfn
                        batch[1, np.uint64(nr)] = pte + (i << (12 - bits))
                        batch[2, np.uint64(nr)] = address + (i << 12)
                        nr += 1
        address = stop
    return nr, cleared


def unhook_tables(words: Words, levels: int, bits: int, pgd: int, first: int, last: int) -> list[I64]:
    """Unhook all tables below the entries [first, last) of the top table: their frames, one array per level, top down.

    The leaf tables are empty by then, and every entry read here is cleared, so all of them are zero pages again.
    One gather per level, whatever the number of tables.
    """
    levels_found: list[I64] = []
    slots = (pgd >> (12 - bits)) + np.arange(first, last, dtype=np.int64)
    for level in range(levels - 1):
        entries = words[slots].astype(np.int64)
        present = entries & PRESENT != 0
        words[slots[present]] = 0
        below = (entries[present] >> 12) & PFN_MASK
        levels_found.append(below)
        if level < levels - 2:
            slots = ((below << bits)[:, None] + np.arange(1 << bits)).ravel()
    return levels_found
