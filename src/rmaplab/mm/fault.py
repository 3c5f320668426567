"""Page faults, for one page or for a stretch of them: the same path, so that both mean the same.

    what the entry says         a read                     a write
    nothing                     map the zero page          a new page, zeroed
    zero page, read-only        -                          a new page, zeroed
    a page, read-only           -                          alone on it: make it writable (reuse); else copy it (cow.py)
    a page, writable            -                          -

A stretch is looked at first (classify: what is there?), then what it needs is allocated, and the entries change in one kernel that cannot
fail (install); then the reverse map hears of it in batches. An allocation may sleep, and others change entries meanwhile: then the stretch
is looked at again, and only what is missing still is asked for. When memory is short the stretch is halved: so everything before the page
that cannot be had is done, and nothing after it.

The commonest fault by far, the first write to one page, has a way of its own that does the same with less ado (`_first_write`).

Source: 2.6.2 mm/memory.c, handle_mm_fault, do_anonymous_page, do_wp_page; eras.md 2.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.errors import NoMemory, NotModelled, SegmentationFault
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I8, I64
from rmaplab.machine.entries import WRITABLE, EntryKind
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, copy_frames, put_runs
from rmaplab.machine.locks import Lock
from rmaplab.machine.pagetable import count_tables, lookup, touch_range
from rmaplab.machine.pagetable_fault import COPY, EMPTY, NEW, empty_entry, fault_scan, hook_tables, install
from rmaplab.mm.cow import decide
from rmaplab.mm.file_fault import map_stretch, touch_cached
from rmaplab.mm.filemap import do_no_page, do_shared_write
from rmaplab.mm.guard import refuse_guard
from rmaplab.mm.kernel import Kernel, halves
from rmaplab.mm.nonlinear import do_file_page
from rmaplab.mm.stack import expand_stack
from rmaplab.mm.swap_in import do_swap_page
from rmaplab.mm.swap_in_many import map_cached
from rmaplab.mm.vma_lock import is_write_locked, take_for_fault
from rmaplab.objects.flags import VM_ACCESS, VM_EXEC, VM_GROWSDOWN, VM_READ, VM_SHARED, VM_WRITE
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


class Found(NamedTuple):
    """What a stretch looks like from its first fault on, at `there`, to `end`.

    `codes`, one per page, `pfns` of the pages that are SHARED; `empty` and `shared` are how many, `other` where the first entry is that is
    none of these (a page's number from `there` on, or -1), `missing` page tables, `seen` the machine's `changes` when it was looked at.
    """

    there: int
    end: int
    codes: I8
    pfns: I64
    empty: int
    shared: int
    other: int
    missing: int
    seen: int


def touch(k: Kernel, mm: MmStruct, limits: Limits | None, start: int, end: int, write: bool) -> None:
    """A task touches every page of [start, end) once: what the MMU does not do alone, faults do. `limits` are for its stack.

    Without them the kernel does it for the task, in mappings that are there (mm/populate.py): it holds mmap_sem already, and no user
    time passes.
    Raises SegmentationFault at the first page it may not touch; what comes before it is done.
    """
    machine = k.machine
    if start >= end:
        return
    task_size = machine.paging.task_size
    if start < 0 or end > task_size:  # what can be touched is, then comes the fault
        if 0 <= start < task_size:
            touch(k, mm, limits, start, task_size, write=write)
        bad = start if start < 0 else max(start, task_size)
        vma = mm.find_vma(bad)
        if vma is not None and vma.start <= bad:
            raise NotModelled(f"{vma} reaches into the kernel's own addresses: leave out what touches it there")
        if not machine.paging.is_canonical(bad):
            raise SegmentationFault(0, f"{bad:#x} is no address: a general protection fault", "KERNEL")
        raise SegmentationFault(bad, "an address outside the address space")
    address, end = start & -PAGE_SIZE, (end + PAGE_SIZE - 1) & -PAGE_SIZE
    if (
        limits is not None
        and end - address == PAGE_SIZE
        and (_first_write(k, mm, address) if write else touch_cached(k, mm.find_vma(address), address, write=False))
    ):
        return
    last = -1
    while address < end:
        # what is not there after a round may never be all there at once: then page by page
        stop, last = address + PAGE_SIZE if address == last else k.alloc_burst_end(address, end), address
        there = touch_range(*machine.geometry, mm.pgd, address, stop, write)
        if there < stop:
            found = _look(k, mm, there, stop, write)
            if limits is None:
                vma = access_vma(k, mm, limits, max(found.there, start), write=write)
                if found.other == 0:
                    refuse_guard(k, mm, max(found.there, start))
                stop = _handle_faults(k, vma, found, write)
            else:
                lock = take_for_fault(k, mm, max(found.there, start), write=write)
                try:
                    vma = access_vma(k, mm, limits, max(found.there, start), write=write)
                    if found.other == 0:
                        refuse_guard(k, mm, max(found.there, start))
                    stop = _handle_faults(k, vma, found, write)
                finally:
                    machine.locks.drop(lock)
        if limits is not None:
            machine.charge("page_touch", (stop - address) >> PAGE_SHIFT)
            machine.end_burst(user=True)
        address = stop


def _look(k: Kernel, mm: MmStruct, start: int, end: int, write: bool) -> Found:
    """Touch what can be touched, and say what the rest needs."""
    geometry, seen = k.machine.geometry, k.machine.changes
    there = touch_range(*geometry, mm.pgd, start, end, write)
    nr = (end - there) >> PAGE_SHIFT
    codes, pfns = np.empty(nr, np.int8), np.empty(nr, np.int64)
    empty, shared, other, missing = fault_scan(*geometry, mm.pgd, there, end, write, codes, pfns)
    return Found(there, end, codes, pfns, empty, shared, other, missing, seen)


def access_vma(k: Kernel, mm: MmStruct, limits: Limits | None, address: int, *, write: bool) -> VmArea:
    """The VMA that allows the access, grown down to it if it does that; or SegmentationFault with address and cause."""
    vma = mm.find_vma(address)
    if vma is not None and vma.start > address and vma.flags & VM_GROWSDOWN and limits is not None:
        expand_stack(k, vma, address, limits)
    if vma is None or vma.start > address:
        raise SegmentationFault(address, f"{'write to' if write else 'read of'} an address that nothing is mapped at")
    if write and not vma.flags & VM_WRITE:
        raise SegmentationFault(address, f"write to {vma}, which is not writable", "ACCERR")
    if not write and not vma.flags & (VM_ACCESS if k.rules.write_implies_read else VM_READ | VM_EXEC):
        raise SegmentationFault(address, f"read of {vma}, which is not readable", "ACCERR")
    return vma


def _first_write(k: Kernel, mm: MmStruct, address: int) -> bool:
    """The first write to one page, where its page table is there and a page is at hand. False if it is another kind of touch: nothing is done."""
    vma = mm.find_vma(address)
    if vma is None or vma.start > address or vma.file is not None or not vma.flags & VM_WRITE:
        return touch_cached(k, vma, address, write=True)
    if not k.design.vma_is_faulted(vma):
        return False
    machine, locks = k.machine, k.machine.locks
    outer = vma.lock or mm.mmap_sem
    if locks.listener is not None or outer.busy(write=False) or is_write_locked(vma):
        return False
    pte = empty_entry(*machine.geometry, mm.pgd, address)
    if pte < 0:
        return False
    inner = machine.table_lock(pte >> PAGE_SHIFT) if machine.locks_tables else mm.page_table_lock
    if inner.busy(write=True):
        return False
    page = machine.allocator.take_at_once(Gfp.HIGHUSER)
    if page < 0:
        return False
    locks.pass_through(outer, write=False)
    locks.pass_through(inner)
    entry = (page << PAGE_SHIFT) | WRITABLE
    machine.set_entry(pte, entry)
    k.rmap.add_one(page, pte, address, entry, vma)
    if k.rules.anon_exclusive:
        machine.frames.flags[page] |= PG_ANON_EXCLUSIVE
    if k.new_anon_flags:
        machine.frames.flags[page] |= k.new_anon_flags
    k.lru_add.add_one(k.this_cpu(), page)
    mm.rss += 1
    machine.charge("anon_fault")
    machine.end_burst()
    machine.charge("page_touch")
    machine.end_burst(user=True)
    return True


def _handle_faults(k: Kernel, vma: VmArea, found: Found, write: bool) -> int:
    """handle_mm_fault for every page from found.there on, inside one VMA and one burst. How far it has got, `found.end` at most."""
    there, end = found.there, min(found.end, vma.end)
    if end < found.end or found.seen != k.machine.changes:
        found = _look(k, vma.mm, there, end, write)
    if found.there > there:
        return there
    if found.other == 0:
        return bring_back(k, vma, there, end)
    if vma.file is not None:
        if found.codes[0] == EMPTY:
            if not map_stretch(k, vma, there, found.codes[: (end - there) >> PAGE_SHIFT], write):
                do_no_page(k, vma, there, write)
            return there
        if vma.flags & VM_SHARED:
            do_shared_write(k, vma, there)
            return there
        end = there + PAGE_SIZE
    if found.other > 0:
        end = min(end, there + found.other * PAGE_SIZE)
    if found.shared:
        end = _until_the_pagevec_drains(k, found, end)
    if end < found.end:
        found = _look(k, vma.mm, there, end, write)
    return _anonymous(k, vma, found, write)


def bring_back(k: Kernel, vma: VmArea, address: int, end: int) -> int:
    """Entries that are no pages say where they are: in swap, or in the file. From where on to look again. Raises BusError, and as an allocation, with the entry as it was."""
    entry, _ = lookup(*k.machine.geometry, vma.mm.pgd, address)
    if k.machine.encoding.kind(int(entry)) is EntryKind.FILE:
        do_file_page(k, vma, address)
    elif map_cached(k, vma, address, end) == address:
        do_swap_page(k, vma, address)
    return address


def _until_the_pagevec_drains(k: Kernel, found: Found, end: int) -> int:
    """Where a burst of COW faults must end because the pagevec may be full there, and lets go of pages still to come.

    Until then a page that waits in it has one reference too many and is copied, though nobody shares it.
    """
    waiting = k.lru_add.waiting(k.this_cpu())
    if not waiting or not np.isin(found.pfns[: found.shared], waiting).any():
        return end
    return min(end, found.there + k.lru_add.room(k.this_cpu()) * PAGE_SIZE)


def _anonymous(k: Kernel, vma: VmArea, found: Found, write: bool) -> int:
    """New pages, copies and reuses for all of what was found. Returns its end, or its beginning where it has become something else meanwhile."""
    machine, mm, locks = k.machine, vma.mm, k.machine.locks
    start, end = found.there, found.end
    nr = (end - start) >> PAGE_SHIFT
    tables, pages = _NOTHING, _NOTHING
    held: Lock | None = None
    to_copy = -1
    while True:
        copies, reuses, zeros = _decide(k, found, nr, write, to_copy)
        if nr == 1:  # that it is copied stands, whatever happens while memory is asked for
            to_copy = int(found.pfns[0]) if copies else -1
        wanted = copies + (found.empty if write else 0)
        enough = tables.size >= found.missing and pages.size >= wanted
        if held is not None:
            if enough and held is machine.pte_lock(mm, start):
                break
            locks.leave(held)
        if not enough:
            try:
                if wanted:
                    k.design.vma_prepare(vma)
            except NoMemory:
                _give_back(k, tables, pages)
                raise
            try:
                if found.missing > tables.size:
                    tables = _and(tables, machine.alloc_tables(found.missing - tables.size))
                if wanted > pages.size:
                    pages = _and(pages, machine.allocator.alloc(wanted - pages.size, Gfp.HIGHUSER, zeroed=True))
            except NoMemory:
                _give_back(k, _NOTHING, pages)
                if nr > 1:
                    _give_back(k, tables, _NOTHING)
                    return _halve(k, vma, found, write)
                _leave_tables(k, mm, start, tables)
                raise
        held = machine.pte_lock(mm, start)
        locks.enter(held)
        if found.seen == machine.changes:
            break
        found = _look(k, mm, start, end, write)  # somebody slept, or waited
        if found.there > start or found.other >= 0 or (vma.file is not None and found.empty):
            locks.leave(held)
            _give_back(k, tables, pages)
            return start
    if stale := copies + zeros + (reuses if k.rules.cow_reuse_flushes else 0):
        machine.tlb.flush_page(mm, stale)
    _install(k, vma, found, write, tables[: found.missing], pages[:wanted], copies, reuses, held)
    _give_back(k, tables[found.missing :], pages[wanted:])
    machine.end_burst()
    return end


def _leave_tables(k: Kernel, mm: MmStruct, start: int, tables: I64) -> None:
    """A page cannot be had; its page tables stay, as pte_alloc_map leaves them, if they are missing still."""
    missing, _ = count_tables(*k.machine.geometry, mm.pgd, -1, start, start + PAGE_SIZE)
    if tables.size and missing == tables.size:
        hook_tables(*k.machine.geometry, mm.pgd, start, tables)
        _tables_added(k, mm, start, start + PAGE_SIZE, tables.size)
    else:
        _give_back(k, tables, _NOTHING)


def _decide(k: Kernel, found: Found, nr: int, write: bool, to_copy: int) -> tuple[int, int, int]:
    """cow.decide. If somebody watches, it is asked under a trylock of the page: is that busy, or is it `to_copy`, the page is copied."""
    frames, locks = k.machine.frames, k.machine.locks
    holders = frames.count, frames.flags, frames.private, k.swap.users
    k.swap.look_up_pages(found.pfns[: found.shared])
    if not found.shared or nr > 1:
        return decide(found.codes, nr, found.pfns, write, *holders)
    pfn = int(found.pfns[0])
    lock = locks.bit("PG_locked", pfn) if locks.listener is not None else None
    if pfn == to_copy or (lock is not None and not locks.try_take(lock)):
        found.codes[0] = COPY
        return 1, 0, 0
    copies, reuses, zeros = decide(found.codes, nr, found.pfns, write, *holders)
    if lock is not None:
        locks.drop(lock)
    return copies, reuses, zeros


def _halve(k: Kernel, vma: VmArea, found: Found, write: bool) -> int:
    """The same for one half, then for the other."""
    for low, high in halves(found.there, found.end):
        part = _look(k, vma.mm, low, high, write)
        if part.there < high:
            if part.other >= 0:
                return part.there
            reached = _anonymous(k, vma, part, write)
            if reached < high:
                return reached
    return found.end


def _install(
    k: Kernel, vma: VmArea, found: Found, write: bool, tables: I64, pages: I64, copies: int, reuses: int, held: Lock
) -> None:
    """The entries change; copies get their contents, the reverse map hears of it, and everything is counted. Leaves `held`, page_table_lock."""
    machine, mm, frames = k.machine, vma.mm, k.machine.frames
    start, end = found.there, found.end
    unlocks_first = k.rules.anon_rmap_after_unlock and machine.watched and not copies
    more = ((end - start) >> PAGE_SHIFT) - 1
    if more:  # a fault per page, each with its locks
        more = found.empty + found.shared - 1
        machine.locks.count("vma_lock" if k.rules.vma_locks else "mmap_sem", more, write=False)
        machine.locks.count("page_table_lock", more)
    with k.batch() as added, k.batch() as removed, k.batch() as reused:
        added.runs, added.nr, removed.runs, removed.nr, reused.runs, reused.nr = install(
            *machine.geometry, mm.pgd, start, end, write, found.codes,
            tables, pages, added.columns, removed.columns, reused.columns,
        )  # fmt: skip
        _tables_added(k, mm, start, end, tables.size)
        if copies:
            old = removed.pfns
            copy_frames(machine.ram.bytes, frames.scribbled, old, pages[_copied(found)])
            k.rmap.remove(removed)
            freed = np.empty(copies, np.int64)
            machine.allocator.free(freed[: put_runs(frames.count, removed.columns, removed.runs, freed)])
            machine.charge("cow_copy", copies)
        if (copies or reuses) and not machine.watched:  # can_share_swap_page asks under a trylock of each page
            machine.locks.count("PG_locked", copies + reuses)
        if added.nr:
            mm.rss += added.nr - copies
            if k.new_anon_flags:
                frames.flags[np.delete(pages, _copied(found)) if copies else pages] |= np.uint32(k.new_anon_flags)
            k.lru_add.add(k.this_cpu(), pages)
            if unlocks_first:
                machine.locks.leave(held)
                machine.locks.reach("page_add_rmap", f"page {pages[0]}")
            k.rmap.add(added, vma)
            if k.rules.anon_exclusive:
                frames.flags[pages] |= np.uint32(PG_ANON_EXCLUSIVE)
        if reuses:
            k.design.rehome(reused, vma)
            if k.rules.anon_exclusive:
                frames.flags[reused.pfns] |= np.uint32(PG_ANON_EXCLUSIVE)
            machine.charge("cow_reuse", reuses)
        if write and found.empty:
            machine.charge("anon_fault", found.empty)
        if not write:
            machine.charge("zero_fault", found.empty)
        if not unlocks_first or not added.nr:
            machine.locks.leave(held)


def _copied(found: Found) -> I64:
    """Which of the new pages are copies: their places in the order of the entries."""
    new = found.codes[(found.codes == NEW) | (found.codes == COPY)]
    return np.flatnonzero(new == COPY)


def _give_back(k: Kernel, tables: I64, pages: I64) -> None:
    """What was allocated and is not wanted after all."""
    if tables.size:
        k.machine.free_tables(tables)
    if pages.size:
        k.machine.allocator.free(pages)


def _and(some: I64, more: I64) -> I64:
    return np.concatenate((some, more)) if some.size else more


def _tables_added(k: Kernel, mm: MmStruct, start: int, end: int, nr: int) -> None:
    if nr:
        mm.nr_tables += nr
        k.design.tables_added(mm, start, end)


_NOTHING: I64 = np.empty(0, np.int64)
