"""pte_chain's loops, made for one block shape: as constants it makes them twice as fast as arguments would.

    nodes     ... [next_and_idx][ slot ][ slot ] ... [ slot ] ...      RAM as words of one slot, of 2^shift bytes
                   word b        b + 1                b + nrpte        block b

next_and_idx is the next block's address, or-ed with the first used slot: blocks are line-aligned and nrpte is 2^k - 1, so both fit. With `anon`
pages of files are passed over.

Source: as pte_chain.py.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from rmaplab.machine.arrays import I64, U32, Words
from rmaplab.machine.batch import LENGTH, PFN, PTE
from rmaplab.machine.frames import PG_ANON, PG_DIRECT
from rmaplab.machine.jit import kernel


@cache
def need_kernel(shift: int, nrpte: int, anon: bool) -> Callable[..., Any]:
    """How many blocks a batch will take."""

    @kernel
    def need(nodes: Words, flags: U32, pte: I64, pages: I64, runs: int) -> int:
        blocks = 0
        for run in range(runs):
            for i in range(pages[LENGTH, run]):
                pfn = np.uint64(pages[PFN, run] + i)
                if anon and not flags[pfn] & PG_ANON:
                    continue
                first = pte[pfn]
                if first and (flags[pfn] & PG_DIRECT or not np.int64(nodes[np.uint64(first >> shift)]) & nrpte):
                    blocks += 1
        return blocks

    return need


@cache
def insert_kernel(shift: int, nrpte: int, anon: bool, step: int) -> Callable[..., Any]:
    """Adds a batch, into `spare` blocks; how many of them it has used, or -1 if they are not enough."""

    @kernel
    def insert(nodes: Words, flags: U32, pte: I64, pages: I64, runs: int, spare: I64) -> int:
        used = 0
        for run in range(runs):
            for i in range(pages[LENGTH, run]):
                pfn, entry = np.uint64(pages[PFN, run] + i), pages[PTE, run] + i * step
                if anon and not flags[pfn] & PG_ANON:
                    continue
                first = pte[pfn]
                if not first:
                    pte[pfn] = entry
                    flags[pfn] |= np.uint32(PG_DIRECT)
                elif flags[pfn] & PG_DIRECT:
                    if used == spare.size:
                        return -1
                    word = np.uint64(spare[used] >> shift)
                    nodes[word] = nrpte - 2
                    nodes[word + np.uint64(nrpte)] = first
                    nodes[word + np.uint64(nrpte - 1)] = entry
                    pte[pfn] = spare[used]
                    flags[pfn] &= ~np.uint32(PG_DIRECT)
                    used += 1
                else:
                    word = np.uint64(first >> shift)
                    head = np.int64(nodes[word])
                    free = head & nrpte  # slots below the first used one
                    if free:
                        nodes[word + np.uint64(free)] = entry
                        nodes[word] = head - 1
                    else:
                        if used == spare.size:
                            return -1
                        word = np.uint64(spare[used] >> shift)
                        nodes[word] = first | (nrpte - 1)
                        nodes[word + np.uint64(nrpte)] = entry
                        pte[pfn] = spare[used]
                        used += 1
        return used

    return insert


@cache
def remove_kernel(shift: int, nrpte: int, anon: bool, step: int) -> Callable[..., Any]:
    """Removes a batch; (blocks that became empty, slots looked at, cache lines visited), the first -1 if an entry is missing."""

    @kernel
    def remove(nodes: Words, flags: U32, pte: I64, pages: I64, runs: int, emptied: I64) -> tuple[int, int, int]:
        nr_emptied = slots = lines = 0
        for run in range(runs):
            for i in range(pages[LENGTH, run]):
                pfn, wanted = np.uint64(pages[PFN, run] + i), pages[PTE, run] + i * step
                if anon and not flags[pfn] & PG_ANON:
                    continue
                first = pte[pfn]
                if flags[pfn] & PG_DIRECT:
                    if first != wanted:
                        return -1, slots, lines
                    pte[pfn] = 0
                    flags[pfn] &= ~np.uint32(PG_DIRECT)
                    continue
                word = np.uint64(first >> shift)
                head = np.int64(nodes[word])
                top = word + np.uint64(1 + (head & nrpte))  # the head's first used slot
                block, next_and_idx, at = word, head, top
                lines += 1
                while True:
                    slots += 1
                    if nodes[at] == wanted:
                        break
                    at += np.uint64(1)
                    if at > block + np.uint64(nrpte):
                        below = next_and_idx & ~np.int64(nrpte)
                        if not below:
                            return -1, slots, lines
                        block = np.uint64(below >> shift)
                        next_and_idx = np.int64(nodes[block])
                        at = block + np.uint64(1 + (next_and_idx & nrpte))
                        lines += 1
                nodes[at] = nodes[top]
                nodes[top] = 0
                if head & nrpte == nrpte - 1:
                    nodes[word] = 0
                    pte[pfn] = head & ~np.int64(nrpte)
                    emptied[nr_emptied] = first
                    nr_emptied += 1
                else:
                    nodes[word] = head + 1
        return nr_emptied, slots, lines

    return remove


@cache
def slots_kernel(shift: int, nrpte: int) -> Callable[..., Any]:
    """Reads the lists of pages: for each slot which of `pfns` it is of, and its entry. How many; -1 if there are more than there is room for."""

    @kernel
    def slots(nodes: Words, flags: U32, pte: I64, pfns: I64, rows: I64, entries: I64) -> int:
        nr = 0
        for i in range(pfns.size):
            pfn = np.uint64(pfns[i])
            block = pte[pfn]
            if flags[pfn] & PG_DIRECT:
                if nr == rows.size:
                    return -1
                rows[nr], entries[nr] = i, block
                nr += 1
                continue
            while block:
                word = block >> shift
                head = np.int64(nodes[np.uint64(word)])
                used = head & nrpte
                if nr + nrpte - used > rows.size:
                    return -1
                for slot in range(used, nrpte):
                    rows[nr], entries[nr] = i, nodes[np.uint64(word + 1 + slot)]
                    nr += 1
                block = head & ~np.int64(nrpte)
        return nr

    return slots


@cache
def direct_kernel(shift: int, nrpte: int) -> Callable[..., Any]:
    """Lists of one entry become direct pointers: how many, and `emptied` are their blocks."""

    @kernel
    def direct(nodes: Words, flags: U32, pte: I64, pfns: I64, emptied: I64) -> int:
        nr = 0
        for i in range(pfns.size):
            pfn = np.uint64(pfns[i])
            block = pte[pfn]
            if not block or flags[pfn] & PG_DIRECT:
                continue
            word = np.uint64(block >> shift)
            last = word + np.uint64(nrpte)
            if np.int64(nodes[word]) == nrpte - 1:
                pte[pfn] = nodes[last]
                flags[pfn] |= np.uint32(PG_DIRECT)
                nodes[word] = nodes[last] = 0
                emptied[nr] = block
                nr += 1
        return nr

    return direct
