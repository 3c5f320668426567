"""A mapping of a file: its pages are those of the page cache, so whoever maps the file maps the same frames.

    pid 1  [page ro]---+
                       +--> page 7 of the file <--- page cache        found through the file's VMAs (i_mmap), whatever the design
    pid 2  [page ro]---+

    fault      private mapping                                 shared mapping
    a read     the page of the cache, read-only                the page; writable already, and clean, unless the write is to be noticed
    a write    a copy of it, at once: an anonymous page        the page, writable and dirty

A write is noticed (page_mkwrite) since 2.6.19 where the file is on a disk: then a page that was read first costs a second fault, and
write-out makes entries read-only again. Before that a dirty bit in an entry is all that says that the page is newer than its file.

Since 3.15 a read brings its neighbours along, as far as they are in the cache: up to 16 pages, from a border of 16 or the VMA's start. What is read
from the disk besides a page that is missing says mm/readahead.py.

Source: 2.6.2 mm/memory.c, do_no_page; mm/filemap.c, filemap_nopage, generic_file_mmap; 6.18 mm/memory.c, do_read_fault, do_cow_fault,
do_shared_fault, do_fault_around, wp_page_shared; eras.md 2.1, files.md C1, C5.
"""

import numpy as np

from rmaplab.errors import BusError, DiskError, KernelBug, NoMemory, Oops
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ADDRESS, ENTRY, LENGTH, PFN, PTE, Batch
from rmaplab.machine.entries import ACCESSED, DIRTY, PRESENT, READABLE, RW, WRITABLE
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, PG_DIRTY, PG_NOT_UPTODATE, PG_SLOW, copy_frames
from rmaplab.machine.pagetable import count_tables, lookup
from rmaplab.machine.pagetable_fault import count_ways, hang_ways, hook_tables
from rmaplab.mm.driver import check_nopage, is_device, map_device, nopage
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.readahead import count_hits, fault_page
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.flags import VM_ACCESS, VM_SHARED, VM_WRITE
from rmaplab.objects.mm_types import AddressSpace, File, Range, VmArea
from rmaplab.rmap.pages import map_again
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def notices_writes(k: Kernel, vma: VmArea) -> bool:
    """vma_wants_writenotify: whether a write to a page that was only read must fault."""
    return vma.file is not None and vma.file.mapping.on_disk and k.rules.dirty_is_accounted


def is_written_freely(k: Kernel, vma: VmArea, flags: int) -> bool:
    """Whether entries of `vma`, with the vm_flags `flags`, may be writable before anybody has written."""
    return flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE and not notices_writes(k, vma)


def do_no_page(k: Kernel, vma: VmArea, address: int, write: bool) -> None:
    """The page of the file that `address` shows, or for a write to a private mapping a copy of it; nothing if somebody has been faster.

    Of a device it is the driver's. Raises BusError beyond the end of the file, Oops, and as an allocation.
    """
    machine, mm, locks, around = k.machine, vma.mm, k.machine.locks, fault_around_pages(k, vma, write=write) > 0
    if vma.file is None:
        raise KernelBug("do_no_page", f"{vma} shows no file")
    make_ways(k, vma, address, address + PAGE_SIZE)
    if around and _fault_around(k, vma, vma.file, address):
        return
    index = vma.index_of(address)
    device, copies, sequence = is_device(vma), write and not vma.flags & VM_SHARED, vma.file.mapping.truncate_count
    copy, tables = _new_copy(k, vma) if copies and k.rules.cow_allocates_first else _NOTHING, _NOTHING
    try:
        slow = vma.file.mapping.on_disk and _is_slow(k, vma.file.mapping, index)
        page = _ask(k, vma, vma.file, index, address)
    except (BusError, NoMemory, Oops):
        machine.allocator.free(copy)
        raise
    if slow and around and k.rules.fault_drops_lock_to_read and _begin_again(k, vma, vma.file, address, page):
        return
    locked = np.array([[page]], np.int64)
    if k.rules.fault_locks_page:  # whoever truncates waits for it, and unmaps it again if we have mapped it
        locks.enter_bits("PG_locked", locked, 1)
    with k.batch() as batch:
        batch.hold_one(page, 0, address, 0)
        try:
            if copies:
                copy = copy if copy.size else _new_copy(k, vma)
                batch.columns[PFN, 0] = copy[0]
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, address + PAGE_SIZE)
            if missing:
                tables = machine.alloc_tables(missing)
            k.design.reserve(batch)
            lock = machine.pte_lock(mm, address)
            locks.enter(lock)
            same = (
                lock is machine.pte_lock(mm, address)
                and (device or _is_still(k, vma.file.mapping, index, page, sequence))
                and not lookup(*machine.geometry, mm.pgd, address)[0]
            )
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, address + PAGE_SIZE)
            if same and missing == tables.size and k.design.reserved(batch):
                _hook(k, vma, address, tables)
                if copy.size:
                    _install_copy(k, vma, batch, page)
                else:
                    _install_pages(k, vma, batch, write=write)
                copy, tables = _NOTHING, _NOTHING
            locks.leave(lock)
        finally:
            k.design.unreserve()
            machine.allocator.free(copy)
            if tables.size:
                machine.free_tables(tables)
            if k.rules.fault_locks_page:
                locks.leave_bits("PG_locked", locked, 1)
            put_page(k, page)
    machine.end_burst()


def _ask(k: Kernel, vma: VmArea, opened: File, index: int, address: int) -> int:
    """vm_ops->nopage: the page, with one more reference. Raises BusError, Oops, and as an allocation."""
    if index < opened.mapping.nr_pages and _is_major(k, opened.mapping, index):
        k.machine.charge("pgmajfault")
    try:
        page = nopage(vma, address) if is_device(vma) else fault_page(k, vma, opened, index)
    except DiskError:
        raise BusError(address, f"page {index} of the file that {vma} shows cannot be read") from None
    check_nopage(k, vma, page)
    if page < 0:
        raise BusError(address, f"{vma} ends there: page {index} of the file is not there")
    if opened.mapping.on_lru and not is_device(vma):
        k.lru_add.mark_accessed(page)
    return page


def _is_slow(k: Kernel, file: AddressSpace, index: int) -> bool:
    """Whether a fault will have to read that page, or to read ahead."""
    return index not in file.pages or bool(k.machine.frames.flags[file.pages[index]] & PG_SLOW)


def _is_major(k: Kernel, file: AddressSpace, index: int) -> bool:
    """Whether a fault counts as major: the page must be read; or, in some eras, waited for."""
    if not file.on_disk:
        return index in file.slots and file.slots[index] not in k.swap.cached
    page = file.pages.find(index)
    return page < 0 or (k.rules.waiting_is_major and bool(k.machine.frames.flags[page] & PG_NOT_UPTODATE))


def _is_still(k: Kernel, file: AddressSpace, index: int, page: int, sequence: int) -> bool:
    """Whether a page that was found may be mapped; if not, the fault begins again. Nobody may have truncated meanwhile, or begun to, as each era sees it."""
    if k.rules.fault_compares_truncate_count and file.truncate_count != sequence:
        return False
    if k.rules.fault_locks_page and index >= file.nr_pages:
        return False
    return file.pages.get(index) == page


def make_ways(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """__handle_mm_fault: the page tables that are there before anybody asks which pages [start, end) shows. Raises as an allocation."""
    geometry, mm, locks = k.machine.geometry, vma.mm, k.machine.locks
    depth = k.machine.paging.levels - (1 if k.rules.tables_before_files else 2)
    while (ways := count_ways(*geometry, mm.pgd, start, end, depth))[0]:
        missing, paths = ways
        tables = k.machine.alloc_tables(missing)
        locks.enter(mm.page_table_lock)
        locks.count("page_table_lock", paths - 1)
        same = count_ways(*geometry, mm.pgd, start, end, depth) == ways  # nobody has been faster
        if same:
            hang_ways(*geometry, mm.pgd, start, end, depth, tables)
            mm.nr_tables += missing
            if k.rules.tables_before_files:
                k.design.tables_added(mm, start, end)
        locks.leave(mm.page_table_lock)
        if same:
            return
        k.machine.free_tables(tables)


def _new_copy(k: Kernel, vma: VmArea) -> I64:
    """Where a private copy goes: the VMA has its place in the reverse map from now on, whatever comes of the fault. Raises as an allocation."""
    k.design.vma_prepare(vma)
    return k.machine.allocator.alloc(1, Gfp.HIGHUSER, zeroed=True)


def do_shared_write(k: Kernel, vma: VmArea, address: int) -> None:
    """do_wp_page in a shared mapping: the page may be written to, and its file hears of it; nothing if somebody has been faster."""
    machine = k.machine
    lock = machine.pte_lock(vma.mm, address)
    machine.locks.enter(lock)
    entry, pte = lookup(*machine.geometry, vma.mm.pgd, address)
    if entry & PRESENT and not entry & RW:
        machine.set_entry(pte, int(entry) | RW | DIRTY | ACCESSED)
        machine.frames.flags[int(entry) >> PAGE_SHIFT] |= np.uint32(PG_DIRTY)
        machine.charge("page_mkwrite")
    machine.locks.leave(lock)
    machine.end_burst()


def _fault_around(k: Kernel, vma: VmArea, opened: File, address: int) -> bool:
    """do_fault_around: map what is in the cache near `address`, and nothing else; whether `address` is mapped now. Raises as an allocation."""
    machine, mm, file = k.machine, vma.mm, opened.mapping
    start, end = fault_window(k, vma, address)
    tables = _NOTHING
    with k.batch() as batch:
        if not _collect(k, vma, file, start, end, batch):
            return False
        try:
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, address + PAGE_SIZE)
            if missing:
                tables = machine.alloc_tables(missing)
            k.design.reserve(batch)
            lock = machine.pte_lock(mm, address)
            machine.locks.enter(lock)
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, address + PAGE_SIZE)
            same = lock is machine.pte_lock(mm, address) and missing == tables.size
            if same and _collect(k, vma, file, start, end, batch) and k.design.reserved(batch):
                count_hits(k, opened, batch.nr)
                _hook(k, vma, address, tables)
                tables = _NOTHING
                _install_pages(k, vma, batch, write=False)
            machine.locks.leave(lock)
        finally:
            k.design.unreserve()
            if tables.size:
                machine.free_tables(tables)
    machine.end_burst()
    return bool(lookup(*machine.geometry, mm.pgd, address)[0])


def _begin_again(k: Kernel, vma: VmArea, opened: File, address: int, page: int) -> bool:
    """VM_FAULT_RETRY: the fault has waited for `page`, and begins again; whether that has mapped it, and let go of it. Raises as an allocation."""
    there = True
    try:
        there = _fault_around(k, vma, opened, address)
    finally:
        if there:
            put_page(k, page)
    return there


def fault_around_pages(k: Kernel, vma: VmArea, *, write: bool) -> int:
    """How many pages a fault looks at; 0: its own alone. vm_ops of a segment have no map_pages (ipc/shm.c, shm_vm_ops)."""
    return 0 if write or vma.ops is not None else k.rules.fault_around_pages


def fault_window(k: Kernel, vma: VmArea, address: int) -> Range:
    """The addresses that a read fault looks at: 16 pages from a border of 16, or from the VMA's start, within one page table."""
    window, span = k.rules.fault_around_pages * PAGE_SIZE, k.machine.paging.leaf_span
    start = max(address & -window, vma.start)
    return start, min(start + window, (address & -span) + span, vma.end)


def _collect(k: Kernel, vma: VmArea, file: AddressSpace, start: int, end: int, batch: Batch) -> bool:
    """The pages of the cache that [start, end), in one page table, shows and has no entries for. False if the cache has none."""
    first = vma.index_of(start)
    nr, flags, watched, bit = 0, k.machine.frames.flags, k.machine.watched, k.machine.locks.bit
    for i in range((end - start) >> PAGE_SHIFT):
        page = file.pages.find(first + i)
        at = start + (i << PAGE_SHIFT)
        seen = page >= 0 and first + i < file.nr_pages and not flags[page] & PG_SLOW
        seen = seen and not (watched and bit("PG_locked", page).busy(write=True))
        if seen and not lookup(*k.machine.geometry, vma.mm.pgd, at)[0]:
            batch.columns[PFN, nr], batch.columns[ADDRESS, nr], batch.columns[LENGTH, nr] = page, at, 1
            nr += 1
    batch.nr = batch.runs = nr
    return nr > 0


def _hook(k: Kernel, vma: VmArea, address: int, tables: I64) -> None:
    """The page tables that were missing."""
    if tables.size:
        hook_tables(*k.machine.geometry, vma.mm.pgd, address, tables)
        vma.mm.nr_tables += tables.size
        k.design.tables_added(vma.mm, address, address + PAGE_SIZE)


def _install_pages(k: Kernel, vma: VmArea, batch: Batch, *, write: bool) -> None:
    """Entries for pages of the cache: those of `batch`, whose table is there. For a write the only one."""
    machine, columns = k.machine, batch.columns
    bits = protection(k, vma, write=write)
    for i in range(batch.nr):
        _, columns[PTE, i] = lookup(*machine.geometry, vma.mm.pgd, columns[ADDRESS, i])
        columns[ENTRY, i] = (columns[PFN, i] << PAGE_SHIFT) | bits
        machine.set_entry(int(columns[PTE, i]), int(columns[ENTRY, i]))
    mapped(k, vma, batch, write=write)
    machine.charge("file_fault")
    machine.charge("file_map_around", batch.nr - 1)


def protection(k: Kernel, vma: VmArea, *, write: bool) -> int:
    """What entries for pages of the file may do at once. Nothing, if nobody may access them."""
    if write:
        return WRITABLE
    if not vma.flags & VM_ACCESS:
        return READABLE & ~PRESENT | k.machine.encoding.hidden
    return READABLE | (RW if is_written_freely(k, vma, vma.flags) else 0)


def mapped(k: Kernel, vma: VmArea, batch: Batch, *, write: bool) -> None:
    """Entries for pages of the file are there: references, rss, reverse map; and page_mkwrite, if the write is noticed."""
    if is_device(vma):
        map_device(k, vma, batch)
        return
    map_again(k.machine.frames.count, batch.columns, batch.runs)
    if write and notices_writes(k, vma):
        k.machine.frames.flags[batch.pfns] |= np.uint32(PG_DIRTY)
    vma.mm.rss += batch.nr
    k.rmap.add_file(batch, vma)


def _install_copy(k: Kernel, vma: VmArea, batch: Batch, page: int) -> None:
    """The entry for the page of `batch`, which becomes a copy of `page`: anonymous, and the task's own."""
    machine, frames, columns = k.machine, k.machine.frames, batch.columns
    new = int(columns[PFN, 0])
    _, pte = lookup(*machine.geometry, vma.mm.pgd, int(columns[ADDRESS, 0]))
    columns[PTE, 0], columns[ENTRY, 0] = pte, (new << PAGE_SHIFT) | WRITABLE
    machine.set_entry(int(pte), int(columns[ENTRY, 0]))
    vma.mm.rss += 1
    pages = np.array([new], np.int64)
    copy_frames(machine.ram.bytes, frames.scribbled, np.array([page], np.int64), pages)
    k.rmap.add(batch, vma)
    if k.rules.anon_exclusive:
        frames.flags[new] |= np.uint32(PG_ANON_EXCLUSIVE)
    k.lru_add.add(k.this_cpu(), pages)
    machine.charge("cow_copy")


_NOTHING: I64 = np.empty(0, np.int64)
