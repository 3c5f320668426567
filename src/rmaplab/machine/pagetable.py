"""Page tables in frames of the simulated RAM: the loops that Linux calls copy_page_range, zap_page_range and the like.

    pgd (physical)      middle table (PAE, x86-64)     leaf table                frame
    +-----------+       +-----------+                  +------------------+     +------+
    | pfn | TABLE ----> | pfn | TABLE ------...------> | pfn | ..A.UWP    ----> | data |
    +-----------+       +-----------+                  +------------------+     +------+

Every kernel begins with the same four arguments: `words` (RAM as words of one entry's size), `levels`, `bits` (the format,
see paging.py) and `pgd` (physical address of the top table); `mapped` is what pte_present() looks at (entries.py). Ranges
[start, end) are virtual addresses, whole pages. None of them allocates or can fail: whoever calls has counted what is missing
(`count_tables`, `fault_scan`) and brings it along.

What they meet goes to the rows of a batch (batch.py): `pages` its runs, `others` what is no page. Entries are int64 while they
are worked on, whatever their size in memory (Numba makes floats of a mix).
"""

import numpy as np

from rmaplab.machine.arrays import I32, I64, Words
from rmaplab.machine.batch import note, note_run
from rmaplab.machine.entries import ACCESSED, DIRTY, PFN_MASK, PRESENT, RW, TABLE
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.jit import inline, kernel


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
        first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        entries = words[first : first + ((stop - address) >> 12)]
        common = np.int64(-1)
        for i in range(entries.size):
            common &= np.int64(entries[i])
        if common & need != need:
            for i in range(entries.size):
                entry = np.int64(entries[i])
                if entry & need != need:
                    return address + (i << 12)
                entries[i] = entry | mark
        elif common & mark != mark:
            for i in range(entries.size):
                entries[i] = np.int64(entries[i]) | mark
        address = stop
    return end


@inline
def row(words: Words, bits: int, table: int, offset: int, length: int) -> Words:
    """Some entries of a table, the first of them the `offset`-th: a view."""
    first = (table >> (12 - bits)) + offset
    return words[first : first + length]


@inline
def is_run(entries: Words, mapped: int) -> bool:
    """Whether all of these entries map pages one behind the other, alike in all bits, and none of them is the zero page."""
    first = np.int64(entries[0])
    odd = np.int64(0)
    for i in range(entries.size):
        odd |= np.int64(entries[i]) ^ (first + (i << 12))
    return not odd and first & mapped != 0 and (first >> 12) & PFN_MASK != ZERO_PFN


@kernel
def copy_range(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, child: int, start: int, end: int, cow: bool,
    count: I32, tables: I64, pages: I64, others: I64,
) -> tuple[int, int, int, int]:  # fmt: skip
    """copy_page_range: the entries of `pgd` into `child`, both write-protected where `cow`, else the child's clean; and old (not accessed).

    References are taken on the pages; what is no page is copied as it is. The batch gets the child's new entries. Returns (runs,
    pages in them, others, entries that map something: the zero page is one).
    """
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = nr = nr_others = copied = used = 0
    dropped = np.int64(ACCESSED | RW) if cow else np.int64(ACCESSED | DIRTY)
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            below, used = leaf_make(words, levels, bits, child, address, tables, used)
            offset = (address >> 12) & ((1 << bits) - 1)
            length = (stop - address) >> 12
            source, target = row(words, bits, table, offset, length), row(words, bits, below, offset, length)
            pte = below + offset * size
            if is_run(source, mapped):
                entry = np.int64(source[0])
                for i in range(length):
                    target[i] = np.int64(source[i]) & ~dropped
                if cow and entry & RW:
                    for i in range(length):
                        source[i] = np.int64(source[i]) & ~np.int64(RW)
                pfn = (entry >> 12) & PFN_MASK
                references = count[pfn : pfn + length]
                for i in range(length):
                    references[i] += np.int32(1)
                runs = note_run(pages, runs, pfn, pte, address, length, entry & ~dropped)
                nr += length
                copied += length
            else:
                for i in range(length):
                    entry = np.int64(source[i])
                    if entry & mapped:
                        if cow and entry & RW:
                            source[i] = entry & ~np.int64(RW)
                        entry &= ~dropped
                        target[i] = entry
                        copied += 1
                        pfn = (entry >> 12) & PFN_MASK
                        if pfn != ZERO_PFN:
                            count[pfn] += np.int32(1)
                            runs = note(pages, runs, pfn, pte + i * size, address + (i << 12), entry, size)
                            nr += 1
                    elif entry:
                        target[i] = entry
                        nr_others = note_run(others, nr_others, -1, pte + i * size, address + (i << 12), 1, entry)
        else:
            used = make_path(
                words, levels, bits, child, address, depth_at(words, levels, bits, pgd, address), tables, used
            )
        address = stop
    return runs, nr, nr_others, copied


@kernel
def zap_range(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, keep: int, pages: I64, others: I64
) -> tuple[int, int, int, int]:  # fmt: skip
    """zap_page_range: clear all entries of [start, end) but those that are `keep`. The batch gets what was there, accessed and dirty bits included.

    Returns (runs, pages in them, others, entries that mapped something). References are still held: the reverse map forgets the
    batch first, then put_runs drops them. Tables stay, all zero.
    """
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = nr = nr_others = cleared = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            offset = (address >> 12) & ((1 << bits) - 1)
            length = (stop - address) >> 12
            entries = row(words, bits, table, offset, length)
            pte = table + offset * size
            if is_run(entries, mapped):
                entry = np.int64(entries[0])
                for i in range(length):
                    entries[i] = 0
                runs = note_run(pages, runs, (entry >> 12) & PFN_MASK, pte, address, length, entry)
                nr += length
                cleared += length
            else:
                for i in range(length):
                    entry = np.int64(entries[i])
                    if not entry or entry == keep:
                        continue
                    entries[i] = 0
                    if entry & mapped:
                        cleared += 1
                        pfn = (entry >> 12) & PFN_MASK
                        if pfn != ZERO_PFN:
                            runs = note(pages, runs, pfn, pte + i * size, address + (i << 12), entry, size)
                            nr += 1
                    else:
                        nr_others = note_run(others, nr_others, -1, pte + i * size, address + (i << 12), 1, entry)
        address = stop
    return runs, nr, nr_others, cleared


@kernel
def unhook_tables(
    words: Words, levels: int, bits: int, pgd: int, first: int, last: int, stay: bool, tables: I64
) -> int:  # fmt: skip
    """Unhook all tables below the entries [first, last) of the top table. Where those right below it `stay`, all below these.

    Their frames go to `tables`, level by level, top down; returns their number. The leaf tables are empty by then, and every entry
    read here is cleared, so all of them are zero pages again.
    """
    if not stay:
        return unhook_below(words, levels, bits, pgd, first, last, tables, 0)
    nr = 0
    for slot in range(first, last):
        entry = np.int64(words[(pgd >> (12 - bits)) + slot])
        if entry & PRESENT:
            below = ((entry >> 12) & PFN_MASK) << 12
            nr = unhook_below(words, levels - 1, bits, below, 0, 1 << bits, tables, nr)
    return nr


@inline
def unhook_below(
    words: Words, levels: int, bits: int, top: int, first: int, last: int, tables: I64, nr: int
) -> int:  # fmt: skip
    """The same for one top table of `levels`; `nr` frames are in `tables` already."""
    begin = nr
    nr = unhook_row(words, bits, top, first, last, tables, nr)
    for _ in range(levels - 2):
        end = nr
        for i in range(begin, end):
            nr = unhook_row(words, bits, tables[i] << 12, 0, 1 << bits, tables, nr)
        begin = end
    return nr


@inline
def unhook_row(words: Words, bits: int, table: int, first: int, last: int, tables: I64, nr: int) -> int:
    """The entries [first, last) of one table."""
    for slot in range((table >> (12 - bits)) + first, (table >> (12 - bits)) + last):
        entry = np.int64(words[slot])
        if entry & PRESENT:
            words[slot] = 0
            tables[nr] = (entry >> 12) & PFN_MASK
            nr += 1
    return nr
