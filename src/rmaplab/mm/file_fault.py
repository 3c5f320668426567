"""Faults of a file's pages that are in the cache: one at once, and a stretch of them in one piece. They come to what do_no_page comes to.

    touch_cached    the commonest: one page, whose page table is there, and nobody is in the way
    map_stretch     many pages that nobody has touched; a fault for each, or since 3.15 for each window of 16

Source: 2.6.2 mm/memory.c, do_no_page; 6.18 mm/memory.c, do_fault_around, do_shared_fault; mm/filemap.c, filemap_map_pages; files.md C1, C5.
"""

import numpy as np

from rmaplab.errors import KernelBug, NoMemory, NoSpace
from rmaplab.machine.arrays import I8, I64
from rmaplab.machine.batch import LENGTH, PFN
from rmaplab.machine.frames import PG_DIRTY, PG_SLOW
from rmaplab.machine.pagetable import count_tables
from rmaplab.machine.pagetable_fault import alike, empty_entry, map_around, map_pages
from rmaplab.mm.driver import is_device
from rmaplab.mm.filemap import fault_around_pages, fault_window, make_ways, mapped, notices_writes, protection
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_read import absent, add_new
from rmaplab.mm.readahead import asks_each_time, count_hits
from rmaplab.mm.vma_lock import is_write_locked
from rmaplab.objects.flags import VM_ACCESS, VM_EXEC, VM_READ, VM_SHARED, VM_WRITE
from rmaplab.objects.mm_types import AddressSpace, File, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def touch_cached(k: Kernel, vma: VmArea | None, address: int, *, write: bool) -> bool:
    """One page is touched for the first time, a private one only read. False if it is another kind of touch: nothing is done."""
    if vma is None or vma.file is None or vma.start > address:
        return False
    may_read = VM_ACCESS if k.rules.write_implies_read else VM_READ | VM_EXEC
    if vma.flags & (VM_SHARED | VM_WRITE) != VM_SHARED | VM_WRITE if write else not vma.flags & may_read:
        return False
    machine, mm, locks = k.machine, vma.mm, k.machine.locks
    outer, seen = vma.lock or mm.mmap_sem, machine.changes
    if locks.listener is not None or outer.busy(write=False) or is_write_locked(vma):
        return False
    file, index = vma.file.mapping, vma.index_of(address)
    page = file.pages.find(index) if index < file.nr_pages else -1
    pte = empty_entry(*machine.geometry, mm.pgd, address) if page >= 0 else -1
    if pte < 0 or machine.frames.flags[page] & PG_SLOW or asks_each_time(k, vma):
        return False
    inner = machine.table_lock(pte >> PAGE_SHIFT) if machine.locks_tables else mm.page_table_lock
    if inner.busy(write=True):
        return False
    around = fault_around_pages(k, vma, write=write) > 0
    if k.design.covers_files if around else not k.rmap.adds_at_once(page):
        return False
    locks.pass_through(outer, write=False)
    locks.pass_through(inner)
    if machine.changes != seen:  # it took a while
        return False
    if around:
        _around(k, vma, vma.file, address)
    else:
        entry = (page << PAGE_SHIFT) | protection(k, vma, write=write)
        machine.set_entry(pte, entry)
        machine.frames.count[page] += 1
        k.rmap.add_file_one(page, pte, address, entry, vma)
        if write and notices_writes(k, vma):
            machine.frames.flags[page] |= PG_DIRTY
        mm.rss += 1
        count_hits(k, vma.file, 1)
        if file.on_lru:
            k.lru_add.mark_accessed(page)
        if k.rules.fault_locks_page:
            locks.count("PG_locked", 1)
    machine.charge("file_fault")
    machine.end_burst()
    machine.charge("page_touch")
    machine.end_burst(user=True)
    return True


def _around(k: Kernel, vma: VmArea, opened: File, address: int) -> None:
    """do_fault_around, where the page is in the cache and its table is there."""
    file = opened.mapping
    machine, frames = k.machine, k.machine.frames
    start, end = fault_window(k, vma, address)
    first = vma.index_of(start)
    pfns = file.pages.range(first, first + ((end - start) >> PAGE_SHIFT))
    bits, counted = protection(k, vma, write=False), (frames.flags, frames.count, frames.mapcount)
    nr = map_around(*machine.geometry, vma.mm.pgd, start, pfns, bits, *counted)
    k.rmap.count_file(nr)
    vma.mm.rss += nr
    count_hits(k, opened, nr)
    machine.charge("file_map_around", nr - 1)


def map_stretch(k: Kernel, vma: VmArea, start: int, codes: I8, write: bool) -> bool:
    """The faults of the first of these pages, as many as can be done in one burst; `codes` are what classify says of them, from `start` on.

    False if the first is better done by itself: it must be read from a disk, memory is short for two, or somebody has been faster.
    """
    machine, mm, locks = k.machine, vma.mm, k.machine.locks
    if vma.file is None:
        raise KernelBug("do_no_page", f"{vma} shows no file")
    file, first = vma.file.mapping, vma.index_of(start)
    seen, pfns = machine.changes, _alike(k, vma, file, first, start, codes, write)
    nr = pfns.size
    if nr < 2:
        return False
    around = fault_around_pages(k, vma, write=write) if pfns[0] >= 0 else 0  # a hole has nothing around it
    end, last, tables = start + (nr << PAGE_SHIFT), first + nr, _NOTHING
    with k.batch() as batch:
        try:
            make_ways(k, vma, start, end)
            if machine.changes != seen or pfns.min() < 0:
                if not file.on_disk:
                    k.page_cache.start_reading(file, *add_new(k, file, absent(file, first, last)))
                seen, pfns = machine.changes, file.pages.range(first, last)
                if pfns.min() < 0 or (machine.frames.flags[pfns] & PG_SLOW).any():  # reclaim has taken one
                    return False
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, start, end)
            tables = machine.alloc_tables(missing) if missing else tables
            batch.nr = batch.runs = nr
            batch.columns[PFN, :nr], batch.columns[LENGTH, :nr] = pfns, 1
            k.design.reserve(batch)
            lock = machine.pte_lock(mm, start)
            locks.enter(lock)
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, start, end)
            same = lock is machine.pte_lock(mm, start) and missing == tables.size and k.design.reserved(batch)
            if machine.changes != seen:  # nobody holds the pages
                same = same and pfns.min() >= 0 and np.array_equal(pfns, file.pages.range(first, last))
                same = same and not (machine.frames.flags[pfns] & PG_SLOW).any()
            if same:
                batch.runs = map_pages(
                    *machine.geometry, mm.pgd, start, pfns, protection(k, vma, write=write), tables, batch.columns
                )
                if tables.size:
                    mm.nr_tables += tables.size
                    k.design.tables_added(mm, start, end)
                    tables = _NOTHING
                mapped(k, vma, batch, write=write)
                _count_faults(k, vma.file, pfns, around)
            locks.leave(lock)
        except (NoMemory, NoSpace):
            same, codes = False, codes[: nr // 2]
        else:
            codes = codes[:0]
        finally:
            k.design.unreserve()
            if tables.size:
                machine.free_tables(tables)
    if codes.size:
        return map_stretch(k, vma, start, codes, write)
    machine.end_burst()
    return same


def _count_faults(k: Kernel, opened: File, pfns: I64, around: int) -> None:
    """These pages have been used; what that costs, and what their faults have locked: one for each page, or for each window of `around`."""
    if opened.mapping.on_lru:
        k.lru_add.mark_all_accessed(pfns)
    nr, locks = pfns.size, k.machine.locks
    count_hits(k, opened, nr)
    faults = -(-nr // around) if around else nr
    locks.count("vma_lock" if k.rules.vma_locks else "mmap_sem", faults - 1, write=False)
    locks.count("page_table_lock", faults - 1)
    if k.rules.fault_locks_page and not around:
        locks.count("PG_locked", nr)
    k.machine.charge("file_fault", faults)
    k.machine.charge("file_map_around", nr - faults)


def _alike(k: Kernel, vma: VmArea, file: AddressSpace, first: int, start: int, codes: I8, write: bool) -> I64:
    """Those of the pages that have no entry, and the same story, by PFN: in the cache, or (-1) to be had at once, without a disk; in whole windows, where faults map windows.

    None, or one, where the first is alone.
    """
    around = fault_around_pages(k, vma, write=write)
    if codes.size == 1 or (write and not vma.flags & VM_SHARED) or k.machine.watched or is_device(vma):
        return _NOTHING
    if asks_each_time(k, vma):
        return _NOTHING
    pfns = file.pages.range(first, first + min(codes.size, max(file.nr_pages - first, 1)))
    if file.slots:  # what comes from swap comes alone
        pfns = pfns[: next((i for i in range(pfns.size) if first + i in file.slots), pfns.size)]
    holes = bool(around and not file.on_disk and pfns.size and pfns[0] < 0)  # each is a page of its own
    if holes:
        there = np.flatnonzero(pfns >= 0)
        pfns = pfns[: there[0]] if there.size else pfns
    nr = alike(codes, pfns, k.machine.frames.flags, holes or (not around and not file.on_disk))
    if around:
        if start % (around * PAGE_SIZE):
            return _NOTHING
        if start + (nr << PAGE_SHIFT) != vma.end:
            nr -= nr % around
    return pfns[:nr]


_NOTHING: I64 = np.empty(0, np.int64)
