"""A mapping of a file: its pages are those of the page cache, so whoever maps the file maps the same frames.

    pid 1  [page ro]---+
                       +--> page 7 of the file <--- page cache        found through the file's VMAs (i_mmap), whatever the design
    pid 2  [page ro]---+

    a read     the page of the cache, read-only                    a write (private)     a copy of it, at once: an anonymous page

Private mappings only, so far. Page by page: faults that bring many (fault-around) come with files.

Source: 2.6.2 mm/memory.c, do_no_page; mm/filemap.c, filemap_nopage, generic_file_mmap; eras.md 2.1.
"""

import numpy as np

from rmaplab.errors import BusError, KernelBug
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ADDRESS, ENTRY, PFN, PTE, Batch
from rmaplab.machine.entries import READABLE, WRITABLE
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, copy_frames
from rmaplab.machine.pagetable import count_tables, lookup
from rmaplab.machine.pagetable_fault import hook_tables
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.mm_types import AddressSpace, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def do_no_page(k: Kernel, vma: VmArea, address: int, write: bool) -> None:
    """The page of the file that `address` shows, or for a write a copy of it; nothing if somebody has been faster.

    Raises BusError beyond the end of the file, and as an allocation.
    """
    machine, mm, locks = k.machine, vma.mm, k.machine.locks
    if vma.file is None:
        raise KernelBug("do_no_page", f"{vma} shows no file")
    index = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    page = _find_or_read(k, vma.file.mapping, index)
    if page < 0:
        raise BusError(address, f"{vma} ends there: page {index} of the file is not there")
    copy, tables = _NOTHING, _NOTHING
    with k.batch() as batch:
        batch.hold_one(page, 0, address, 0)
        try:
            if write:
                k.design.vma_prepare(vma)
                copy = machine.allocator.alloc(1, Gfp.HIGHUSER, zeroed=True)
                batch.columns[PFN, 0] = copy[0]
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, address + PAGE_SIZE)
            if missing:
                tables = machine.alloc_tables(missing)
            k.design.reserve(batch)
            lock = machine.pte_lock(mm, address)
            locks.enter(lock)
            same = (
                lock is machine.pte_lock(mm, address)
                and vma.file.mapping.pages.get(index) == page
                and not lookup(*machine.geometry, mm.pgd, address)[0]
            )
            missing, _ = count_tables(*machine.geometry, mm.pgd, -1, address, address + PAGE_SIZE)
            if same and missing == tables.size and k.design.reserved(batch):
                _install_page(k, vma, batch, page, tables)
                copy, tables = _NOTHING, _NOTHING
            locks.leave(lock)
        finally:
            k.design.unreserve()
            machine.allocator.free(copy)
            if tables.size:
                machine.free_tables(tables)
            put_page(k, page)
    machine.end_burst()


def _find_or_read(k: Kernel, file: AddressSpace, index: int) -> int:
    """filemap_nopage: the page, with one more reference; read if it was not there. -1 beyond the end."""
    cache = k.page_cache
    if index >= file.nr_pages:
        return -1
    page = cache.find_get_page(file, index)
    if page >= 0:
        return page
    new = k.machine.allocator.alloc(1, Gfp.HIGHUSER)
    page = cache.find_get_page(file, index)  # whoever slept looks again
    if page >= 0 or index >= file.nr_pages:
        k.machine.allocator.free(new)
        return page
    cache.read(file, index, int(new[0]))
    cache.add(file, index, int(new[0]))
    return int(new[0])


def _install_page(k: Kernel, vma: VmArea, batch: Batch, page: int, tables: I64) -> None:
    """The entry for the page of `batch`: `page` of the cache, or a copy of it, which is anonymous. All is there that it takes."""
    machine, mm, frames = k.machine, vma.mm, k.machine.frames
    address, new = int(batch.columns[ADDRESS, 0]), int(batch.columns[PFN, 0])
    if tables.size:
        hook_tables(*machine.geometry, mm.pgd, address, tables)
        mm.nr_tables += tables.size
        k.design.tables_added(mm, address, address + PAGE_SIZE)
    _, pte = lookup(*machine.geometry, mm.pgd, address)
    entry = (new << PAGE_SHIFT) | (READABLE if new == page else WRITABLE)
    machine.set_entry(pte, entry)
    batch.columns[PTE, 0], batch.columns[ENTRY, 0] = pte, entry
    mm.rss += 1
    if new == page:
        frames.count[page] += 1
        k.rmap.add_file(batch, vma)
        machine.charge("file_fault")
        return
    pages = np.array([new], np.int64)
    copy_frames(machine.ram.bytes, frames.scribbled, np.array([page], np.int64), pages)
    k.rmap.add(batch, vma)
    if k.rules.anon_exclusive:
        frames.flags[new] |= np.uint32(PG_ANON_EXCLUSIVE)
    k.lru_add.add(k.this_cpu(), pages)
    machine.charge("cow_copy")


_NOTHING: I64 = np.empty(0, np.int64)
