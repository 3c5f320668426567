"""A fault in two steps: what is there (classify), and what is to be there (install). Between them mm/ decides, and allocates.

    entries    [page rw][      ][page ro][zero ro][swap 7]        a task writes to all of them
    codes       READY    EMPTY   SHARED   ZERO     OTHER          classify: what stops the MMU, page by page
    decided     READY    NEW     COPY     NEW      (swapped in)   mm/fault.py, by the kernel's rules
    installed  [page rw][p1 rw ][p2 rw  ][p3 rw  ]                install: new pages in the order of the entries

Nothing here knows a kernel's policy. Conventions as in pagetable.py.
"""

import numpy as np

from rmaplab.machine.arrays import I8, I32, I64, U32, Words
from rmaplab.machine.batch import note
from rmaplab.machine.entries import ACCESSED, DIRTY, PFN_MASK, PRESENT, READABLE, RW, WRITABLE
from rmaplab.machine.frames import PG_SLOW, ZERO_PFN
from rmaplab.machine.jit import kernel
from rmaplab.machine.pagetable import count_tables, leaf, leaf_make, make_path, missing_on_path

READY, EMPTY, ZERO, SHARED, OTHER = range(5)
"""What classify finds: nothing to do; no entry; the zero page, to be written; a read-only page, to be written; anything else."""
NEW, COPY, REUSE, ZERO_PAGE = range(5, 9)
"""What install does where something is to be done: a new page, a copy of the one that is there, that one made writable, the zero page."""


@kernel
def classify(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool, codes: I8, pfns: I64
) -> tuple[int, int, int]:  # fmt: skip
    """What touching each page of [start, end) meets, into `codes`; where that is SHARED the PFN, into `pfns`.

    Returns (pages that are EMPTY or ZERO, pages that are SHARED, where the first OTHER is: its number, or -1).
    """
    span = 4096 << bits
    empty = shared = 0
    other = -1
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        at = (address - start) >> 12
        table = leaf(words, levels, bits, pgd, address)
        if table < 0:
            codes[at : at + ((stop - address) >> 12)] = EMPTY
            empty += (stop - address) >> 12
        else:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range((stop - address) >> 12):
                entry = np.int64(words[first + i])
                code = READY
                if not entry:
                    code = EMPTY
                    empty += 1
                elif not entry & PRESENT:
                    code = OTHER
                    if other < 0:
                        other = at + i
                elif write and not entry & RW:
                    if (entry >> 12) & PFN_MASK == ZERO_PFN:
                        code = ZERO
                        empty += 1
                    else:
                        code = SHARED
                        pfns[shared] = (entry >> 12) & PFN_MASK
                        shared += 1
                codes[at + i] = code
        address = stop
    return empty, shared, other


@kernel
def fault_scan(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool, codes: I8, pfns: I64
) -> tuple[int, int, int, int]:  # fmt: skip
    """What classify and count_tables say, in one call: (pages EMPTY or ZERO, pages SHARED, the first OTHER or -1, tables missing)."""
    empty, shared, other = classify(words, levels, bits, pgd, start, end, write, codes, pfns)
    missing, _ = count_tables(words, levels, bits, pgd, -1, start, end)
    return empty, shared, other, missing


@kernel
def install(
    words: Words, levels: int, bits: int, pgd: int, start: int, end: int, write: bool, codes: I8,
    tables: I64, new: I64, added: I64, removed: I64, reused: I64,
) -> tuple[int, int, int, int, int, int]:  # fmt: skip
    """Make every page of [start, end) accessible as `codes` say, with the frames `new` and the page tables that were missing.

    Rows out: `added` (new pages, copies among them), `removed` (the pages that copies replace, in the order of the copies), `reused`.
    Returns (runs, pages) of each.
    """
    span = 4096 << bits
    size = 1 << (12 - bits)
    add_runs = add_nr = gone_runs = gone_nr = again_runs = again_nr = used = 0
    mark = ACCESSED | DIRTY if write else ACCESSED
    address = start
    while address < end:
        stop = min(end, (address & ~(span - 1)) + span)
        table, used = leaf_make(words, levels, bits, pgd, address, tables, used)
        first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        at = (address - start) >> 12
        for i in range((stop - address) >> 12):
            code, pte, where = codes[at + i], (first + i) * size, address + (i << 12)
            entry = np.int64(words[first + i])
            if code == READY:
                words[first + i] = entry | mark
            elif code == ZERO_PAGE:
                words[first + i] = (ZERO_PFN << 12) | READABLE
            elif code == REUSE:
                words[first + i] = entry | WRITABLE
                again_runs = note(reused, again_runs, (entry >> 12) & PFN_MASK, pte, where, entry, size)
                again_nr += 1
            else:
                if code == COPY:
                    gone_runs = note(removed, gone_runs, (entry >> 12) & PFN_MASK, pte, where, entry, size)
                    gone_nr += 1
                entry = np.int64((new[add_nr] << 12) | WRITABLE)
                words[first + i] = entry
                add_runs = note(added, add_runs, new[add_nr], pte, where, entry, size)
                add_nr += 1
        address = stop
    return add_runs, add_nr, gone_runs, gone_nr, again_runs, again_nr


@kernel
def map_pages(
    words: Words, levels: int, bits: int, pgd: int, start: int, pfns: I64, protection: int, tables: I64, added: I64
) -> int:  # fmt: skip
    """Entries for the frames `pfns`, from `start` on where nothing is, each with the bits `protection`. Returns the runs of `added`."""
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = used = done = 0
    while done < pfns.size:
        address = start + (done << 12)
        stop = min(pfns.size, done + (((address & ~(span - 1)) + span - address) >> 12))
        table, used = leaf_make(words, levels, bits, pgd, address, tables, used)
        first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
        for i in range(stop - done):
            entry = (pfns[done + i] << 12) | protection
            words[first + i] = entry
            runs = note(added, runs, pfns[done + i], (first + i) * size, address + (i << 12), entry, size)
        done = stop
    return runs


@kernel
def put_each(
    words: Words, levels: int, bits: int, pgd: int, mapped: int, start: int, entries: I64, pages: I64
) -> tuple[int, int]:  # fmt: skip
    """These entries, from `start` on where nothing is and every table there that one of them needs; 0 leaves what is there. (Runs, pages) of those that map one."""
    span = 4096 << bits
    size = 1 << (12 - bits)
    runs = nr = done = 0
    while done < entries.size:
        address = start + (done << 12)
        stop = min(entries.size, done + (((address & ~(span - 1)) + span - address) >> 12))
        table = leaf(words, levels, bits, pgd, address)
        if table >= 0:
            first = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            for i in range(stop - done):
                entry = entries[done + i]
                if entry:
                    words[first + i] = entry
                    if entry & mapped:
                        pfn = (entry >> 12) & PFN_MASK
                        runs = note(pages, runs, pfn, (first + i) * size, address + (i << 12), entry, size)
                        nr += 1
        done = stop
    return runs, nr


@kernel
def alike(codes: I8, pfns: I64, flags: U32, absent: bool) -> int:
    """How many of the first pages of a file are EMPTY by `codes`, and in the cache and not PG_SLOW, or `absent` where that is as good. `pfns` may end before."""
    for i in range(pfns.size):
        if codes[i] != EMPTY or (pfns[i] < 0 and not absent) or (pfns[i] >= 0 and flags[pfns[i]] & PG_SLOW):
            return i
    return pfns.size


@kernel
def map_around(
    words: Words, levels: int, bits: int, pgd: int, start: int, pfns: I64, protection: int,
    flags: U32, count: I32, mapcount: I32,
) -> int:  # fmt: skip
    """Entries for those of `pfns`, from `start` on within one leaf table, that are frames, were read, and have none: they are counted. Returns how many."""
    table = leaf(words, levels, bits, pgd, start)
    first = (table >> (12 - bits)) + ((start >> 12) & ((1 << bits) - 1))
    nr = 0
    for i in range(pfns.size):
        if pfns[i] >= 0 and not words[first + i] and not flags[pfns[i]] & PG_SLOW:
            words[first + i] = (pfns[i] << 12) | protection
            count[pfns[i]] += np.int32(1)
            mapcount[pfns[i]] += np.int32(1)
            nr += 1
    return nr


@kernel
def empty_entry(words: Words, levels: int, bits: int, pgd: int, address: int) -> int:
    """The commonest fault: the physical address of the entry, where there is a page table and nothing in it; else -1."""
    table = leaf(words, levels, bits, pgd, address)
    if table < 0:
        return -1
    slot = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
    return -1 if words[slot] else slot << (12 - bits)


@kernel
def hook_tables(words: Words, levels: int, bits: int, pgd: int, address: int, tables: I64) -> None:
    """Hang `tables`, as many as count_tables said are missing, on the path to one address."""
    leaf_make(words, levels, bits, pgd, address, tables, 0)


@kernel
def count_ways(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, depth: int) -> tuple[int, int]:
    """How many of the first `depth` tables on the paths to [start, end) are missing (levels - 1 are all, with the leaf tables), and on how many paths."""
    span = 4096 << bits
    missing = paths = 0
    address, previous = start, -1
    while address < end:
        more = missing_on_path(words, levels, bits, pgd, address, previous, depth)
        missing += more
        paths += more > 0
        previous = address
        address = (address & ~(span - 1)) + span
    return missing, paths


@kernel
def hang_ways(words: Words, levels: int, bits: int, pgd: int, start: int, end: int, depth: int, tables: I64) -> None:
    """Hang `tables` in for them, as many as count_ways said."""
    span, used, address = 4096 << bits, 0, start
    while address < end:
        used = make_path(words, levels, bits, pgd, address, depth, tables, used)
        address = (address & ~(span - 1)) + span
