"""Moving page-table entries from one place of an address space to another: what mremap does to pages.

    source   [1][2][ ][ ]     destination   [ ][ ][3][4]          the highest first, burst by burst

What a move means to a page is the design's verdict: pte_chain rewrites its slots, anon_vma need not know, anonmm wants pages
that others share copied first. If memory runs out, what was moved moves back.

Source: mm/mremap.c, move_page_tables, of 2.6.5 -aa; later kernels start with the lowest; nobody can tell, because mmap_sem is held.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from rmaplab.errors import NoMemory
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.batch import ADDRESS, ENTRY, LENGTH, PFN, Batch
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, PG_SWAPCACHE, copy_frames, put_runs
from rmaplab.machine.pagetable_edit import (
    count_tables_at,
    count_tables_to,
    hang_tables,
    leaf_tables,
    move_range,
    read_range,
)
from rmaplab.mm.driver import is_device, move_device
from rmaplab.mm.kernel import Kernel, halves
from rmaplab.mm.swap_in import do_swap_page
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


class MoveFlush(IntEnum):
    """How often a move of entries flushes TLBs."""

    RANGE = 0
    """Once, when all have moved."""
    PAGE = 1
    """For each page, whether or not there is one."""
    ENTRY = 2
    """For each entry."""
    TABLE = 3
    """For each stretch that lies in one page table, before and after, and has a page."""


class Remap(NamedTuple):
    """What an mremap is to do, in bytes; as it is carried out parts of it are said more exactly (vma_remap_struct in 6.18)."""

    old: int
    old_length: int
    new_length: int
    flags: int
    new: int
    """Where to, if MREMAP_FIXED says so or a hole has been found."""

    def pgoff_in(self, vma: VmArea) -> int:
        """The page of the object behind `vma` that the old place begins with."""
        return vma.index_of(self.old)


def move_page_tables(k: Kernel, vma: VmArea, target: VmArea, remap: Remap) -> None:
    """Move all entries, the highest first as these kernels do; back again if that fails."""
    old, length, _, _, new = remap
    if k.rules.mremap_by_table:
        _make_tables(k, vma.mm, old, new, length)
    start = address = old + length
    try:
        while address > old:
            start = max(old, k.burst_start(address))
            _move_burst(k, vma, target, start, address, new - old)
            address = start
    except NoMemory:
        move_back(k, target, vma, start, old + length, new - old)
        raise
    finally:
        if k.rules.mremap_flushes == MoveFlush.RANGE:
            k.machine.tlb.flush_range(vma.mm)


def move_back(k: Kernel, target: VmArea, vma: VmArea, start: int, end: int, delta: int) -> None:
    """Rollback, with the failure injector at rest."""
    armed, k.machine.allocator.fail_after = k.machine.allocator.fail_after, None
    _move_burst_back(k, target, vma, start, end, delta)
    k.machine.allocator.fail_after = armed


def _move_burst_back(k: Kernel, target: VmArea, vma: VmArea, start: int, end: int, delta: int) -> None:
    """The tables on the old side are still there, so this cannot fail; pages that were copied stay copies."""
    address = start
    while address < end:
        stop = k.burst_end(address, end)
        _move_burst(k, target, vma, address + delta, stop + delta, -delta)
        address = stop


def _move_burst(k: Kernel, vma: VmArea, target: VmArea, start: int, end: int, delta: int) -> None:
    """Move the entries of [start, end) by `delta` bytes: tables first, then the design's verdict, then the entries.

    Whoever slept looks again: entries may have gone, none can have come.
    """
    machine, mm = k.machine, vma.mm
    geometry = machine.geometry
    tables = np.empty(0, np.int64)
    while True:
        seen = machine.changes
        missing = count_tables_to(*geometry, mm.pgd, start, end, delta)
        try:
            if missing > tables.size:
                tables = np.concatenate((tables, machine.alloc_tables(missing - tables.size)))
            _unshare(k, vma, target, start, end)
        except NoMemory:
            if tables.size:
                machine.free_tables(tables)
            if end - start <= PAGE_SIZE:
                raise
            for low, high in reversed(halves(start, end)):
                _move_burst(k, vma, target, low, high, delta)
            return
        if seen == machine.changes:
            break
    if missing < tables.size:
        machine.free_tables(tables[missing:])
    lock, is_held = machine.pte_lock(mm, start), machine.watched
    if is_held:  # page by page anyway
        machine.locks.take(lock)
    with k.batch() as before, k.batch() as after:
        before.runs, before.nr, moved = move_range(
            *geometry, mm.pgd, machine.mapped, start, end, delta, tables, before.columns, after.columns
        )
        after.runs, after.nr = before.runs, before.nr
        if missing:
            mm.nr_tables += missing
            k.design.tables_added(mm, start + delta, end + delta)
        if before.nr and is_device(vma):
            move_device(k, before, after, target)
        elif before.nr:
            k.design.moved(before, after, target)
        _flush(k, mm, before, (end - start) >> PAGE_SHIFT, moved, delta)
    if is_held:
        machine.locks.drop(lock)
    elif moved:
        machine.locks.count("page_table_lock", moved)  # taken page by page
    if moved:
        machine.charge("pte_move", moved)
        machine.end_burst()


def _flush(k: Kernel, mm: MmStruct, moved: Batch, nr_pages: int, nr_moved: int, delta: int) -> None:
    """TLBs hear of a burst of a move: `nr_pages` were looked at, `nr_moved` entries and the pages of `moved` have moved."""
    tlb, how = k.machine.tlb, k.rules.mremap_flushes
    if how == MoveFlush.PAGE:
        tlb.flush_page(mm, nr_pages)
    elif how == MoveFlush.ENTRY and nr_moved:
        tlb.flush_page(mm, nr_moved)
    elif how == MoveFlush.TABLE and moved.nr:
        span = k.machine.paging.leaf_span
        first = moved.columns[ADDRESS, : moved.runs]
        last = first + (moved.columns[LENGTH, : moved.runs] << PAGE_SHIFT) - PAGE_SIZE
        shifted = delta if delta % span else 0  # else tables begin together on both sides
        stretch, stretch_end = ((at + shifted) // span + (at // span if shifted else 0) for at in (first, last))
        again = np.count_nonzero(stretch[1:] == stretch_end[:-1])
        tlb.flush_range(mm, int((stretch_end - stretch + 1).sum()) - int(again))


def _make_tables(k: Kernel, mm: MmStruct, old: int, new: int, length: int) -> None:
    """A leaf table at the destination for each of the source's, whether or not there is an entry to move; the lowest first.

    One that has just been made counts as the source's where it also serves that, further on. Raises as an allocation.
    """
    machine, span, delta, end = k.machine, k.machine.paging.leaf_span, new - old, old + length
    tables, bases = np.empty((2, length // span + 2), np.int64)
    there = set(bases[: leaf_tables(*machine.geometry, mm.pgd, old, end, tables, bases)].tolist())
    stretches, address = list[int](), old
    while there and address < end:
        base, new_base = address // span * span, (address + delta) // span * span
        if base in there:
            stretches.append(address)
            there.add(new_base)
        address = min(base, new_base - delta) + span
    guides = np.array(stretches, np.int64)
    missing = count_tables_at(*machine.geometry, mm.pgd, guides, delta)
    if missing:
        hang_tables(*machine.geometry, mm.pgd, guides, delta, machine.alloc_tables(missing))
        mm.nr_tables += missing
        k.design.tables_added(mm, new, new + length)


def _unshare(k: Kernel, vma: VmArea, target: VmArea, start: int, end: int) -> None:
    """Give the task its own copies of pages that the design could not find at their new place: an early COW. Raises as an allocation."""
    machine, frames = k.machine, k.machine.frames
    if k.design.unshares_moves:
        _bring_in(k, vma, start, end)
    with k.batch() as batch:
        pages = np.empty(0, np.int64)
        while True:
            seen = machine.changes
            batch.runs, batch.nr, _ = read_range(
                *machine.geometry, vma.mm.pgd, machine.mapped, start, end, batch.columns, batch.others
            )
            verdict = k.design.move_verdict(batch, target) if batch.nr else None
            if verdict is not None:  # who names a page in swap may map it too, one day
                pfns = batch.pfns
                cached = frames.flags[pfns] & PG_SWAPCACHE != 0
                verdict |= cached & (k.swap.users[frames.private[pfns]] > 1)
            wanted = 0 if verdict is None else int(verdict.sum())
            try:
                if wanted > pages.size:
                    more = machine.allocator.alloc(wanted - pages.size, Gfp.HIGHUSER, zeroed=True)
                    pages = np.concatenate((pages, more))
            except NoMemory:
                machine.allocator.free(pages)
                raise
            if seen == machine.changes:
                break
        machine.allocator.free(pages[wanted:])
        if verdict is None or not wanted:
            return
        pages, shared = pages[:wanted], batch.select(verdict)
    copy_frames(machine.ram.bytes, frames.scribbled, shared.pfns, pages)
    slots = shared.ptes // machine.paging.entry_bytes
    copies = batch.select(verdict)
    copies.columns[PFN] = pages
    copies.columns[ENTRY] = (pages << PAGE_SHIFT) | (shared.entries & (PAGE_SIZE - 1))
    machine.words[slots] = copies.columns[ENTRY]
    k.rmap.remove(shared)
    freed = np.empty(wanted, np.int64)
    machine.allocator.free(freed[: put_runs(frames.count, shared.columns, shared.runs, freed)])
    k.rmap.add(copies, vma)
    if k.rules.anon_exclusive:
        frames.flags[pages] |= np.uint32(PG_ANON_EXCLUSIVE)
    k.lru_add.add(k.this_cpu(), pages)
    machine.charge("mremap_copy", wanted)


def _bring_in(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """make_page_exclusive: a page in swap that others name too must be here to be copied."""
    swap = k.swap
    with k.batch() as batch:
        _, _, nr = read_range(
            *k.machine.geometry, vma.mm.pgd, k.machine.mapped, start, end, batch.columns, batch.others
        )
        swapped = [k.machine.encoding.is_swap(entry) for entry in batch.others[ENTRY, :nr].tolist()]
        entries, addresses = batch.others[ENTRY, :nr][swapped], batch.others[ADDRESS, :nr][swapped]
        slots = swap.slots_of(entries)
        away = [a for a, slot in zip(addresses.tolist(), slots.tolist(), strict=True) if swap.users[slot] > 1]
    for address in away:
        do_swap_page(k, vma, address)
