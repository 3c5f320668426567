"""Page faults, for one page or for a stretch of them: the same path, so that both mean the same.

    what the entry says         a read                     a write
    nothing                     map the zero page          a new page, zeroed
    zero page, read-only        -                          a new page, zeroed
    a page, read-only           -                          alone on it: make it writable (reuse); else copy it
    a page, writable            -                          -

A stretch is scanned first (what will it need?), then everything is allocated, then the entries change in one kernel that
cannot fail, then the reverse map hears of it in batches. When memory is short the stretch is halved: so everything before
the page that cannot be had is done, and nothing after it.

Source: 2.6.2 mm/memory.c, do_anonymous_page, do_wp_page, can_share_swap_page; eras.md 2.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.errors import AllocationFailed, NeedsReclaim, SegmentationFault
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, copy_frames
from rmaplab.machine.pagetable import fault_apply, hook_tables, touch_scan
from rmaplab.machine.pagetable_edit import read_entries, read_range
from rmaplab.mm.kernel import Kernel, halves
from rmaplab.mm.stack import expand_stack
from rmaplab.objects.flags import VM_ACCESS, VM_EXEC, VM_GROWSDOWN, VM_READ, VM_WRITE
from rmaplab.objects.mm_types import Limits, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


class Needs(NamedTuple):
    """What touch_scan says of a burst: where the first fault is, and what is needed from there on.

    `fresh` new pages, `zeroes` entries for the zero page, `copies` of pages that are shared, `reuses` of pages that are not, and
    `missing` page tables.
    """

    there: int
    fresh: int
    zeroes: int
    copies: int
    reuses: int
    missing: int


def touch(k: Kernel, mm: MmStruct, limits: Limits | None, start: int, end: int, write: bool) -> None:
    """A task touches every page of [start, end) once: what the MMU does not do alone, faults do. `limits` are for its stack.

    Without them the kernel does it for the task, in mappings that are there (mm/populate.py): it holds mmap_sem already, and no user
    time passes.
    Raises SegmentationFault at the first page it may not touch; what comes before it is done.
    """
    machine = k.machine
    geometry, count = machine.geometry, machine.frames.count
    if start >= end:
        return
    task_size = machine.paging.task_size
    if start < 0 or end > task_size:  # what can be touched is, then comes the fault
        if 0 <= start < task_size:
            touch(k, mm, limits, start, task_size, write=write)
        raise SegmentationFault(start if start < 0 else max(start, task_size), "an address outside the address space")
    address, end = start & -PAGE_SIZE, (end + PAGE_SIZE - 1) & -PAGE_SIZE
    while address < end:
        stop = end if end - address == PAGE_SIZE else k.alloc_burst_end(address, end)
        scan = touch_scan(*geometry, mm.pgd, address, stop, write, count)
        if scan[0] < stop:
            needs = Needs._make(scan)
            there = needs.there
            if limits is not None:  # else the caller holds it
                machine.locks.pass_through(mm.mmap_sem, write=False)
            vma = access_vma(k, mm, limits, max(there, start), write=write)
            near = min(stop, vma.end)
            if needs.copies:
                near = _until_the_pagevec_drains(k, mm, there, near)
            if near < stop:
                stop = near
                needs = Needs._make(touch_scan(*geometry, mm.pgd, there, stop, write, count))
            _handle_faults(k, vma, stop, write, needs)
        if limits is not None:
            machine.charge("page_touch", (stop - address) >> PAGE_SHIFT)
            machine.end_burst(user=True)
        address = stop


def _until_the_pagevec_drains(k: Kernel, mm: MmStruct, start: int, end: int) -> int:
    """Where a burst of COW faults must end because the pagevec may be full there, and lets go of pages still to come.

    Until then a page that waits in it has one reference too many and is copied, though nobody shares it.
    """
    waiting = k.lru_add.waiting(k.this_cpu())
    if not waiting:
        return end
    k.batch.nr = read_range(*k.machine.geometry, mm.pgd, start, end, k.batch.columns)
    if not np.isin(k.batch.pfns, waiting).any():
        return end
    return min(end, start + k.lru_add.room(k.this_cpu()) * PAGE_SIZE)


def access_vma(k: Kernel, mm: MmStruct, limits: Limits | None, address: int, *, write: bool) -> VmArea:
    """The VMA that allows the access, grown down to it if it does that; or SegmentationFault with address and cause."""
    vma = mm.find_vma(address)
    if vma is not None and vma.start > address and vma.flags & VM_GROWSDOWN and limits is not None:
        expand_stack(k, vma, address, limits)
    if vma is None or vma.start > address:
        raise SegmentationFault(address, f"{'write to' if write else 'read of'} an address that nothing is mapped at")
    if write and not vma.flags & VM_WRITE:
        raise SegmentationFault(address, f"write to {vma}, which is not writable")
    if not write and not vma.flags & (VM_ACCESS if k.rules.write_implies_read else VM_READ | VM_EXEC):
        raise SegmentationFault(address, f"read of {vma}, which is not readable")
    return vma


def _handle_faults(k: Kernel, vma: VmArea, end: int, write: bool, needs: Needs) -> None:
    """handle_mm_fault for every page from needs.there to `end`, inside one VMA and one burst."""
    machine, mm = k.machine, vma.mm
    geometry, count = machine.geometry, machine.frames.count
    start, fresh, zeroes, copies, reuses, missing = needs
    if fresh or copies:
        k.rmap.vma_prepare(vma)
    tables, pages = _NOTHING, _NOTHING
    try:
        if missing:
            tables = machine.alloc_tables(missing)
        if fresh or copies:
            pages = machine.allocator.alloc(fresh + copies, Gfp.HIGHUSER, zeroed=True)
    except (AllocationFailed, NeedsReclaim):
        if end - start <= PAGE_SIZE:  # the page cannot be had; its page tables stay, as pte_alloc_map leaves them
            if tables.size:
                hook_tables(*geometry, mm.pgd, start, tables)
                _tables_added(k, mm, start, end, tables.size)
            raise
        machine.free_tables(tables)
        for low, high in halves(start, end):
            rest = Needs._make(touch_scan(*geometry, mm.pgd, low, high, write, count))
            if rest.there < high:
                _handle_faults(k, vma, high, write, rest)
        return
    machine.locks.pass_through(mm.page_table_lock)
    more = fresh + zeroes + copies + reuses - 1
    if more:  # a fault per page, each with its locks
        machine.locks.count("mmap_sem", more, write=False)
        machine.locks.count("page_table_lock", more)
    added, removed, reused = k.batch, k.removed_batch, k.reused_batch
    copied_to = np.empty(copies, np.int64) if copies else _NOTHING
    added.nr, removed.nr, reused.nr = fault_apply(
        *geometry,
        mm.pgd,
        start,
        end,
        write,
        count,
        tables,
        pages,
        added.columns,
        removed.columns,
        reused.columns,
        copied_to,
    )
    _tables_added(k, mm, start, end, missing)
    _account(k, vma, needs, pages, copied_to)


def _account(k: Kernel, vma: VmArea, needs: Needs, pages: I64, copied_to: I64) -> None:
    """The entries of a burst have changed: copies get their contents, the reverse map hears of it, and everything is counted."""
    machine, flags = k.machine, k.machine.frames.flags
    added, removed, reused = k.batch, k.removed_batch, k.reused_batch
    _, fresh, zeroes, copies, reuses, _ = needs
    if copies:
        copy_frames(machine.ram.bytes, machine.frames.scribbled, removed.pfns, copied_to)
        k.rmap.remove(removed)
        machine.charge("cow_copy", copies)
    if copies or reuses:  # can_share_swap_page asks under a trylock of each page
        machine.locks.count("PG_locked", copies + reuses)
    if added.nr:
        k.rmap.add(added, vma)
        if k.rules.anon_exclusive:
            flags[added.pfns] |= np.uint32(PG_ANON_EXCLUSIVE)
        k.lru_add.add(k.this_cpu(), pages)
        vma.mm.rss += added.nr - copies
    if reuses:
        k.rmap.rehome(reused, vma)
        if k.rules.anon_exclusive:
            flags[reused.pfns] |= np.uint32(PG_ANON_EXCLUSIVE)
        machine.charge("cow_reuse", reuses)
    if fresh:
        machine.charge("anon_fault", fresh)
    if zeroes:
        machine.charge("zero_fault", zeroes)
    machine.end_burst()


def _tables_added(k: Kernel, mm: MmStruct, start: int, end: int, nr: int) -> None:
    if nr:
        mm.nr_tables += nr
        k.rmap.tables_added(mm, start, end)


def read_bytes(k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int) -> bytes:
    """The bytes a task sees at [start, start + length), faulting as it reads."""
    if length <= 0:
        return b""
    touch(k, mm, limits, start, start + length, write=False)
    pages = k.machine.ram.bytes[_pfns(k, mm, start, length)]
    first = start & (PAGE_SIZE - 1)
    return pages.reshape(-1)[first : first + length].tobytes()


def write_bytes(k: Kernel, mm: MmStruct, limits: Limits, start: int, data: bytes) -> None:
    """Store `data` at `start`, faulting as it writes. Pages before a bad address are written, as a program would."""
    done = 0
    while done < len(data):
        stop = min(len(data), done + k.burst_bytes)
        _write_burst(k, mm, limits, start + done, data[done:stop])
        done = stop


def _write_burst(k: Kernel, mm: MmStruct, limits: Limits, start: int, data: bytes) -> None:
    try:
        touch(k, mm, limits, start, start + len(data), write=True)
    except SegmentationFault as fault:
        _store(k, mm, start, data[: max(0, fault.address - start)])
        raise
    _store(k, mm, start, data)


def _store(k: Kernel, mm: MmStruct, start: int, data: bytes) -> None:
    if not data:
        return
    ram = k.machine.ram.bytes
    pfns = _pfns(k, mm, start, len(data))
    first = start & (PAGE_SIZE - 1)
    pages = ram[pfns]
    pages.reshape(-1)[first : first + len(data)] = np.frombuffer(data, np.uint8)
    ram[pfns] = pages
    k.machine.frames.scribbled[pfns] = 1


def _pfns(k: Kernel, mm: MmStruct, start: int, length: int) -> I64:
    """The frames of a stretch that has just been touched."""
    first, end = start & -PAGE_SIZE, (start + length + PAGE_SIZE - 1) & -PAGE_SIZE
    pfns = np.empty((end - first) >> PAGE_SHIFT, np.int64)
    read_entries(*k.machine.geometry, mm.pgd, first, pfns)
    return pfns


_NOTHING: I64 = np.empty(0, np.int64)
