"""Page tables read, protected, moved and searched: what mprotect, mremap, loads and stores, and searching kernels need.

    read_range, read_entries, resident     entries into a batch, PFNs into a row, what is there; nothing changes
    protect_range, clear_bits              change_protection; entries that look old, or clean
    put_entries, take_entries              the same entry everywhere; and away again
    count_tables_to, hang_tables_to,       move_page_tables, with its tables counted and hung in first
    move_range
    count_tables_at, hang_tables           the same for given addresses
    leaf_tables, find_pfn, find_entries    where the tables are; where a frame is, or entries with certain bits
    free_level, free_range                 free_pgd_range: tables that nobody needs any more, level by level

The conventions, and the loops of fork and exit, are those of pagetable.py.
"""

import numpy as np

from rmaplab.machine.arrays import I64, Bools, Words
from rmaplab.machine.batch import ADDRESS, ENTRY, LENGTH, PFN, PTE, note, note_run
from rmaplab.machine.entries import PFN_MASK, PRESENT, RW
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.jit import kernel
from rmaplab.machine.pagetable import leaf, leaf_make, missing_on_path


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


@kernel
def read_range(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, pages: I64, others: I64
) -> tuple[int, int, int]:  # fmt: skip
    """The entries of [start, end) into a batch, those of the zero page excepted: (runs, pages in them, others). Changes nothing."""
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = nr = nr_others = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + i])
                pfn = (entry >> 12) & PFN_MASK
                if entry & mapped:
                    if pfn != ZERO_PFN:
                        runs = note(pages, runs, pfn, (first + i) * size, address + (i << 12), entry, size)
                        nr += 1
                elif entry:
                    nr_others = note_run(others, nr_others, -1, (first + i) * size, address + (i << 12), 1, entry)
        address = stop
    return runs, nr, nr_others


@kernel
def resident(words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, there: Bools) -> None:
    """For each page from `start` on whether its entry maps something, the zero page included."""
    span = 4096 << bits
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        for i in range((stop - address) >> 12):
            there[((address - start) >> 12) + i] = table >= 0 and np.int64(words[first + i]) & mapped != 0
        address = stop


@kernel
def read_entries(words: Words, levels: int, bits: int, pgd: int, need: int, start: int, pfns: I64) -> int:
    """The PFN of each page from `start` on, as many as `pfns` holds, up to the first entry without the bits `need`: how many."""
    for i in range(pfns.size):
        address = start + (i << 12)
        table = leaf(words, levels, bits, pgd, address)
        if table < 0:
            return i
        entry = np.int64(words[(table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))])
        if entry & need != need:
            return i
        pfns[i] = (entry >> 12) & PFN_MASK
    return pfns.size


@kernel
def protect_range(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, present: int
) -> int:  # fmt: skip
    """change_protection: every page of [start, end) read-only, and marked with `present` (PRESENT, or what hides it; with RW in a shared mapping).

    What is no page stays as it is. Returns the number of entries that map something.
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
                if entry & mapped:
                    words[first + i] = (entry & ~np.int64(mapped | RW)) | present
                    nr += 1
        address = stop
    return nr


@kernel
def put_entries(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, entry: int, tables: I64) -> None:
    """Every entry of [start, end), empty by now, becomes `entry`; `tables`, as many as count_tables said, are hung in."""
    span = 4096 << bits
    address, used = start, 0
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table, used = leaf_make(words, levels, bits, pgd, address, tables, used)
        first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        for i in range((stop - address) >> 12):
            words[first + i] = entry
        address = stop


@kernel
def take_entries(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, entry: int) -> int:
    """Every entry of [start, end) that is `entry` goes; how many."""
    span = 4096 << bits
    address, taken = start, 0
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                if np.int64(words[first + i]) == entry:
                    words[first + i] = 0
                    taken += 1
        address = stop
    return taken


@kernel
def clear_bits(words: Words, bits: int, pages: I64, runs: int, drop: int) -> None:
    """The entries of a batch lose the bits `drop`: they look old, or clean."""
    for run in range(runs):
        first = pages[PTE, run] >> (12 - bits)
        for i in range(pages[LENGTH, run]):
            words[first + i] = np.int64(words[first + i]) & ~np.int64(drop)


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
def count_tables_to(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, delta: int) -> int:
    """Tables missing under `pgd` so that all entries of [start, end) can move by `delta` bytes of address."""
    span = 4096 << bits
    missing = 0
    previous = np.int64(-1)
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                if words[first + i]:
                    there = address + (i << 12) + delta
                    if previous < 0 or there >> (12 + bits) != previous >> (12 + bits):
                        missing += missing_on_path(words, levels, bits, pgd, there, previous, levels - 1)
                        previous = there
        address = stop
    return missing


@kernel
def move_range(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, delta: int,
    tables: I64, old: I64, new: I64,
) -> tuple[int, int, int]:  # fmt: skip
    """Move every entry of [start, end) by `delta` bytes of address, whatever it is; `tables` are what count_tables_to says.

    `old` and `new` are rows of two batches: where pages were and where they are, run by run the same. Returns (runs, pages in
    them, entries moved).
    """
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = nr = moved = used = 0
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + i])
                if not entry:
                    continue
                there = address + (i << 12) + delta
                target, used = leaf_make(words, levels, bits, pgd, there, tables, used)
                slot = (target >> (12 - bits)) + ((there >> 12) & ((1 << bits) - 1))
                words[slot] = words[first + i]
                words[first + i] = 0
                moved += 1
                pfn = (entry >> 12) & PFN_MASK
                if entry & mapped and pfn != ZERO_PFN:
                    at, length = address + (i << 12), old[LENGTH, runs - 1] if runs else 0
                    if not (
                        runs
                        and old[ENTRY, runs - 1] + (length << 12) == entry
                        and old[ADDRESS, runs - 1] + (length << 12) == at
                        and old[PTE, runs - 1] + length * size == (first + i) * size
                        and new[PTE, runs - 1] + length * size == slot * size
                    ):
                        old[PTE, runs], new[PTE, runs] = (first + i) * size, slot * size
                        old[ADDRESS, runs], new[ADDRESS, runs] = at, there
                        old[PFN, runs], old[ENTRY, runs] = pfn, entry
                        new[PFN, runs], new[ENTRY, runs] = pfn, entry
                        length = 0
                        runs += 1
                    old[LENGTH, runs - 1] = new[LENGTH, runs - 1] = length + 1
                    nr += 1
        address = stop
    return runs, nr, moved


@kernel
def find_pfn(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, end: int, pfn: int
) -> tuple[int, int]:  # fmt: skip
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
                if entry & mapped and (entry >> 12) & PFN_MASK == pfn:
                    return address + (i << 12), scanned
        address = stop
    return np.int64(-1), scanned


@kernel
def find_entries(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, mask: int, wanted: int, found: I64, nr: int, looked_at: int
) -> tuple[int, int]:  # fmt: skip
    """Entries of [start, end) that are something and have of the bits `mask` just those `wanted`. Changes nothing.

    To the columns of `found` from `nr` on, as far as there is room: the entry, its physical address, the address it is for, and how many entries had been
    looked at up to it, beginning with `looked_at`. Returns (nr, looked_at), then.
    """
    span = 4096 << bits
    size = 1 << (12 - bits)
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + i])
                looked_at += 1
                if entry != 0 and entry & mask == wanted:
                    if nr < found.shape[1]:
                        found[0, nr], found[1, nr] = entry, (first + i) * size
                        found[2, nr], found[3, nr] = address + (i << 12), looked_at
                    nr += 1
        address = stop
    return nr, looked_at


@kernel
def free_level(
    words: Words, levels: int, bits: int, pgd: int, level: int, start: int, end: int, looks: bool, tables: I64, nr: int
) -> int:  # fmt: skip
    """Unhook the tables of one level (1: leaf tables) that map [start, end), whole tables: into tables[nr:]; the new `nr`.

    If it `looks`, those in which there is something stay.
    """
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
            first = ((entry >> 12) & PFN_MASK) << bits
            if not (looks and words[first : first + (1 << bits)].any()):
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
        nr = free_level(words, levels, bits, pgd, level, first, last, False, tables, nr)
    return nr
