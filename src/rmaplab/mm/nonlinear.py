"""Pages of a file at places of their own: install_page, and entries that say which page a place shows when it has none.

    file     . . [2] . . [5] . . [8]
    VMA      |[8]|[2]|[5]|   |          one VMA, VM_NONLINEAR: where a page is says its entry alone, no pgoff
    later    |[8]|f 2|[5]|   |          reclaim has taken page 2: a file entry stays, and a touch brings page 2 back (do_file_page)

An entry that is empty is a linear one: its fault brings the page that pgoff says. Only VMAs that are VM_SHARED are nonlinear, so that there are no
private copies; files on disks and in the page cache, not devices.

A page that is truncated while install_page waits for memory was installed all the same, until July 2004; here it is looked for again.

Source: mm/fremap.c and mm/filemap.c (filemap_populate), mm/memory.c (do_file_page) of 2.6.2 and 2.6.7; files.md B6, C4.
"""

import errno

import numpy as np

from rmaplab.errors import BusError, DiskError, KernelBug, NoMemory, NoSpace, SyscallError
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ENTRY, LENGTH, PFN, Batch
from rmaplab.machine.frames import PG_ANON, PG_NOT_UPTODATE, put_runs
from rmaplab.machine.pagetable import lookup, zap_range
from rmaplab.machine.pagetable_edit import count_tables_at, hang_tables
from rmaplab.machine.pagetable_fault import put_each
from rmaplab.mm.filemap import mapped, protection
from rmaplab.mm.kernel import Kernel, halves
from rmaplab.mm.page_read import absent, add_new, find_or_read
from rmaplab.mm.readahead import force
from rmaplab.mm.swap_in import free_swap_and_cache, put_page
from rmaplab.mm.unowned import remove_until
from rmaplab.objects.mm_types import AddressSpace, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

CALL = "remap_file_pages"


def has_populate(vma: VmArea) -> bool:
    """vma->vm_ops->populate: what shows a file has it, but for devices and SysV segments."""
    return vma.file is not None and vma.file.mapping.driver is None and vma.ops is None


def populate(k: Kernel, vma: VmArea, start: int, end: int, pgoff: int, *, nonblock: bool = False) -> None:
    """filemap_populate: [start, end) shows the file from page `pgoff` on. What is not in the cache is read, or with `nonblock` left to a fault.

    Raises SyscallError: EINVAL (the file ends before), ENOMEM (a page that cannot be read). As an allocation, with the pages before mapped.
    """
    if vma.file is None:
        raise KernelBug("filemap_populate", f"{vma} shows no file")
    file = vma.file.mapping
    if not nonblock and file.on_disk:
        force(k, vma.file, pgoff, (end - start) >> PAGE_SHIFT)
    address = start
    while address < end:
        first = pgoff + ((address - start) >> PAGE_SHIFT)
        if first + ((end - address) >> PAGE_SHIFT) > file.nr_pages:
            raise SyscallError(errno.EINVAL, CALL, "the file ends before")
        stop = k.alloc_burst_end(address, end)
        if nonblock and first == vma.index_of(address):
            for low, high in _cached(file, first, (stop - address) >> PAGE_SHIFT):
                _install(k, vma, address + (low << PAGE_SHIFT), address + (high << PAGE_SHIFT), first + low, nonblock)
        else:
            _install(k, vma, address, stop, first, nonblock)
        address = stop


def do_file_page(k: Kernel, vma: VmArea, address: int) -> None:
    """A touch of a place that has a file entry: the page that it names comes back. Raises BusError, and as an allocation."""
    entry, _ = lookup(*k.machine.geometry, vma.mm.pgd, address)
    pgoff = k.machine.encoding.file_pgoff(int(entry))
    try:
        populate(k, vma, address, address + PAGE_SIZE, pgoff)
    except SyscallError as failure:
        if failure.errno == errno.ENOMEM:
            raise NoMemory(f"page {pgoff} of the file that {vma} shows cannot be read") from None
        raise BusError(address, f"page {pgoff} of the file that {vma} shows there is not there") from None


def _cached(file: AddressSpace, first: int, nr: int) -> list[tuple[int, int]]:
    """Stretches of [0, nr) that the cache has, counted from page `first` on."""
    there = np.flatnonzero(file.pages.range(first, first + nr) >= 0)
    return [
        (int(run[0]), int(run[-1]) + 1) for run in np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if run.size
    ]


def _install(k: Kernel, vma: VmArea, start: int, end: int, pgoff: int, nonblock: bool) -> None:
    """install_page and install_file_pte for one burst; halved when memory is short. Raises Oops."""
    if start < (stop := remove_until(k, vma.mm, start, end)) < end:
        _install(k, vma, start, stop, pgoff, nonblock)
        pgoff, start = pgoff + ((stop - start) >> PAGE_SHIFT), stop
        remove_until(k, vma.mm, start, end)
    try:
        _install_burst(k, vma, start, end, pgoff, nonblock)
    except (NoMemory, NoSpace) as failure:
        if end - start <= PAGE_SIZE:
            if isinstance(failure, NoSpace):
                raise SyscallError(errno.ENOSPC, CALL) from None
            raise
        for low, high in halves(start, end):
            _install(k, vma, low, high, pgoff + ((low - start) >> PAGE_SHIFT), nonblock)


def _install_burst(k: Kernel, vma: VmArea, start: int, end: int, pgoff: int, nonblock: bool) -> None:
    """Pages and memory first, then the lock, then a look whether all is as before; then the old entries go and the new ones come."""
    machine, mm, tables = k.machine, vma.mm, _NOTHING
    pgd = (*machine.geometry, mm.pgd)
    nr, lock = (end - start) >> PAGE_SHIFT, machine.pte_lock(mm, start)
    with k.batch() as new:
        try:
            while True:
                pfns = _pages(k, vma, pgoff, nr, nonblock=nonblock)
                entries, places = _entries(k, vma, pfns, pgoff, start), start + (np.arange(nr) << PAGE_SHIFT)
                new.nr = new.runs = int((pfns >= 0).sum())
                new.columns[PFN, : new.nr], new.columns[LENGTH, : new.nr] = pfns[pfns >= 0], 1
                places = places[entries != 0]
                if (missing := count_tables_at(*pgd, places, 0)) > tables.size:
                    tables = np.concatenate((tables, machine.alloc_tables(missing - tables.size)))
                if k.design.converts and pgoff != vma.index_of(start):
                    _convert(k, vma, pfns[pfns >= 0])
                k.design.reserve(new)
                machine.locks.enter(lock)
                if _are_still(vma, pfns, pgoff) and count_tables_at(*pgd, places, 0) == missing <= tables.size:
                    _zap(k, mm, start, end)
                    if k.design.reserved(new):  # a chain may be another one now
                        break
                machine.locks.leave(lock)
            if missing:
                hang_tables(*pgd, places, 0, tables[:missing])
                mm.nr_tables += missing
                k.design.tables_added(mm, start, end)
                tables = tables[missing:]
            new.runs, new.nr = put_each(*pgd, machine.mapped, start, entries, new.columns)
            if new.nr:
                mapped(k, vma, new, write=False)
                if vma.file is not None and vma.file.mapping.on_lru:
                    k.lru_add.mark_all_accessed(new.pfns)
            machine.locks.count("page_table_lock", nr - 1)
            machine.charge("page_install", nr)
            machine.locks.leave(lock)
        finally:
            k.design.unreserve()
            if tables.size:
                machine.free_tables(tables)
    machine.end_burst()


def _convert(k: Kernel, vma: VmArea, pfns: I64) -> None:
    """page_convert_anon, for those of the pages that are not converted yet: each is found where its file's VMAs say. Raises as an allocation."""
    assert vma.file is not None
    machine, frames = k.machine, k.machine.frames
    while (pages := np.unique(pfns[frames.flags[pfns] & PG_ANON == 0])).size:
        machine.locks.count("PG_locked", pages.size)
        machine.locks.enter(vma.file.mapping.lock)
        found = [(pfn, place.pte, place.address, 1, 0) for pfn in pages.tolist() for place in k.rmap.walk(pfn)]
        batch = Batch(0, machine.paging.entry_bytes)
        batch.columns = np.array(found, np.int64).reshape(-1, 5).T.copy()
        batch.nr = batch.runs = len(found)
        try:
            k.design.convert(pages, batch)
        finally:
            machine.locks.leave(vma.file.mapping.lock)
        machine.charge("page_convert", pages.size)


def _pages(k: Kernel, vma: VmArea, first: int, nr: int, *, nonblock: bool) -> I64:
    """filemap_getpage: the pages of the cache, uptodate; -1 where with `nonblock` there is none. Raises as populate."""
    assert vma.file is not None
    file, last = vma.file.mapping, first + nr
    if not nonblock and not file.on_disk:
        k.page_cache.start_reading(file, *add_new(k, file, absent(file, first, last)))
    while True:
        pfns = file.pages.range(first, last)
        away = (k.machine.frames.flags[pfns] & PG_NOT_UPTODATE != 0) & (pfns >= 0)
        away |= (pfns < 0) & (not nonblock)
        if not away.any():
            return pfns
        for index in (first + np.flatnonzero(away)).tolist():
            try:
                page = find_or_read(k, file, index, k.rules.nopage_reads)
            except NoSpace:
                raise
            except DiskError:
                error = errno.ENOMEM if file.on_disk else errno.EIO  # filemap_populate, shmem_populate
                raise SyscallError(error, CALL, f"page {index} of the file cannot be read") from None
            if page < 0:
                raise SyscallError(errno.EINVAL, CALL, "the file ends before")
            put_page(k, page)


def _entries(k: Kernel, vma: VmArea, pfns: I64, pgoff: int, start: int) -> I64:
    """What is to be there: pages; file entries where there is none and the place is not linear."""
    entries = (pfns << PAGE_SHIFT) | protection(k, vma, write=False)
    gone = np.flatnonzero(pfns < 0)
    if gone.size:
        entries[gone] = 0 if pgoff == vma.index_of(start) else k.machine.encoding.file_entries(pgoff + gone)
    return entries


def _are_still(vma: VmArea, pfns: I64, first: int) -> bool:
    """Whether the cache has the same pages."""
    return vma.file is not None and np.array_equal(pfns, vma.file.mapping.pages.range(first, first + pfns.size))


def _zap(k: Kernel, mm: MmStruct, start: int, end: int) -> None:
    """zap_pte of each place: what is there goes, and its page is flushed and let go of at once."""
    machine = k.machine
    with k.batch() as old:
        old.runs, old.nr, old.nr_others, cleared = zap_range(
            *machine.geometry, mm.pgd, machine.mapped, start, end, -1, old.columns, old.others
        )
        if old.nr:
            k.page_cache.take_dirty(old)
            k.rmap.remove(old)
            mm.rss -= old.nr
            machine.tlb.flush_page(mm, old.nr)
            freed = np.empty(old.nr, np.int64)
            machine.allocator.free(freed[: put_runs(machine.frames.count, old.columns, old.runs, freed)])
        if old.nr_others:
            free_swap_and_cache(k, old.others[ENTRY, : old.nr_others])
        machine.charge("pte_zap", cleared)


_NOTHING: I64 = np.empty(0, np.int64)
