"""Moving page-table entries from one place of an address space to another: what mremap does to pages.

    source   [1][2][ ][ ]     destination   [ ][ ][3][4]          the highest first, burst by burst

What a move means to a page is the design's verdict: pte_chain rewrites its slots, anon_vma need not know, anonmm wants pages
that others share copied first. If memory runs out, what was moved moves back.

Source: mm/mremap.c, move_page_tables, of 2.6.5 -aa; later kernels start with the lowest; nobody can tell, because mmap_sem is held.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.errors import AllocationFailed, NeedsReclaim
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import Bools
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, copy_frames, put_pages
from rmaplab.machine.pagetable_edit import count_tables_at, hang_tables, leaf_tables, move_entries, read_all
from rmaplab.mm.kernel import Kernel, halves
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.protocol import Batch
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


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
        return vma.pgoff + ((self.old - vma.start) >> PAGE_SHIFT)


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
    except (AllocationFailed, NeedsReclaim):
        move_back(k, target, vma, start, old + length, new - old)
        raise


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
    """Move the entries of [start, end) by `delta` bytes: tables first, then the design's verdict, then the entries."""
    machine, mm, before, after = k.machine, vma.mm, k.batch, k.removed_batch
    geometry = machine.geometry
    before.nr = read_all(*geometry, mm.pgd, start, end, before.columns)
    if not before.nr:
        return
    missing = count_tables_at(*geometry, mm.pgd, before.addresses, delta)
    try:
        tables = machine.alloc_tables(missing) if missing else np.empty(0, np.int64)
    except (AllocationFailed, NeedsReclaim) as failure:
        _halve(k, vma, target, start, end, delta, failure)
        return
    tracked = before.pfns != 0
    if tracked.any():
        only = _select(before, tracked)
        verdict = k.rmap.move_verdict(only, target)
        if verdict is not None and verdict.any():
            try:
                _unshare(k, mm, _select(only, verdict), vma)
            except (AllocationFailed, NeedsReclaim) as failure:
                machine.free_tables(tables)
                _halve(k, vma, target, start, end, delta, failure)
                return
            before.nr = read_all(*geometry, mm.pgd, start, end, before.columns)
    machine.locks.count("page_table_lock", before.nr)  # taken page by page
    if missing:
        hang_tables(*geometry, mm.pgd, before.addresses, delta, tables)
        mm.nr_tables += missing
        first = int(before.addresses[0]) + delta
        k.rmap.tables_added(mm, first, int(before.addresses[-1]) + delta + PAGE_SIZE)
    move_entries(*geometry, mm.pgd, before.columns, before.nr, delta, after.columns)
    after.nr = before.nr
    if tracked.any():
        k.rmap.moved(_select(before, tracked), _select(after, tracked), target)
    machine.charge("pte_move", before.nr)
    machine.end_burst()


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
        k.rmap.tables_added(mm, new, new + length)


def _halve(
    k: Kernel, vma: VmArea, target: VmArea, start: int, end: int, delta: int, failure: AllocationFailed | NeedsReclaim
) -> None:
    """Memory was short for the whole of a burst: its parts, upper half first; a single page fails for good."""
    if end - start <= PAGE_SIZE:
        raise failure
    for low, high in reversed(halves(start, end)):
        _move_burst(k, vma, target, low, high, delta)


def _unshare(k: Kernel, mm: MmStruct, shared: Batch, vma: VmArea) -> None:
    """Give the task its own copies of `shared` pages, where they are: an early COW. Raises as an allocation."""
    machine, frames = k.machine, k.machine.frames
    pages = machine.allocator.alloc(shared.nr, Gfp.HIGHUSER, zeroed=True)
    copy_frames(machine.ram.bytes, frames.scribbled, shared.pfns, pages)
    words, shift = machine.words, machine.paging.entry_bytes.bit_length() - 1
    slots = shared.ptes >> shift
    flags = words[slots].astype(np.int64) & (PAGE_SIZE - 1)
    words[slots] = (pages << PAGE_SHIFT) | flags
    k.rmap.remove(shared)
    freed = np.empty(shared.nr, np.int64)
    machine.allocator.free(freed[: put_pages(frames.count, shared.pfns, freed)])
    copies = Batch(shared.nr)
    copies.columns[:] = shared.columns
    copies.columns[0] = pages
    copies.nr = shared.nr
    k.rmap.add(copies, vma)
    if k.rules.anon_exclusive:
        frames.flags[copies.pfns] |= np.uint32(PG_ANON_EXCLUSIVE)
    k.lru_add.add(k.this_cpu(), copies.pfns)
    machine.charge("mremap_copy", shared.nr)


def _select(batch: Batch, mask: Bools) -> Batch:
    """Those entries of a batch that the mask names."""
    chosen = Batch(0)
    chosen.columns = np.ascontiguousarray(batch.columns[:, : batch.nr][:, mask])
    chosen.nr = chosen.columns.shape[1]
    return chosen
