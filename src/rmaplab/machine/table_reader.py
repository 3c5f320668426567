"""What page tables say, read whole: every entry of every table under a pgd.

It reads rows of RAM as NumPy arrays, with bits of its own, and shares no loop with those that build the tables (pagetable.py):
the judge (rmap/brute_force.py) and the checks stand on it.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.machine import Machine


class Entries(NamedTuple):
    """Leaf entries that map a page, as columns, in address order: the entry itself, its PFN, the virtual address it maps.

    Those that are not empty and map none are in `others` and `other_addresses`.
    """

    entries: I64
    pfns: I64
    addresses: I64
    others: I64
    other_addresses: I64


def read_page_tables(machine: Machine, pgd: int) -> tuple[Entries, list[int]]:
    """All leaf entries under `pgd` that are not empty, and the frames of all tables below it."""
    paging, hidden = machine.paging, machine.encoding.hidden
    words, width = machine.words, 1 << paging.bits
    tables: list[int] = []
    found: list[tuple[I64, I64]] = []

    def descend(first_word: int, nr_words: int, base: int, level: int) -> None:
        row = words[first_word : first_word + nr_words].astype(np.int64)
        present = np.flatnonzero(row & 1 if level else row)
        span = 4096 << (paging.bits * level)
        if level == 0:
            found.append((row[present], base + present * span))
            return
        for i in present.tolist():
            frame = int(row[i]) >> 12
            tables.append(frame)
            descend(frame * 4096 // paging.entry_bytes, width, base + i * span, level - 1)

    descend(pgd // paging.entry_bytes, paging.pgd_bytes // paging.entry_bytes, 0, paging.levels - 1)
    entries = np.concatenate([e for e, _ in found]) if found else np.empty(0, np.int64)
    addresses = np.concatenate([a for _, a in found]) if found else np.empty(0, np.int64)
    maps = entries & (1 | hidden) != 0  # a PROT_NONE page is mapped too
    there = entries[maps]
    return Entries(there, (there >> 12) & 0xFF_FFFF_FFFF, addresses[maps], entries[~maps], addresses[~maps]), tables
