"""vmtruncate: a file gets shorter, and nobody may keep a page of what is cut off.

    1  the size            no fault brings such a page from now on
    2  unmapped            through the file's VMAs (i_mmap): every entry beyond the cut, private copies too, of everybody who maps it
    3  the pages           out of the page cache, and free, each when nobody reads it any more; of the page that straddles the cut the rest is zeros, but not of its private copies
    4  unmapped again      by 2.6.34: private copies that a fault has made meanwhile

A fault may have found its page before 1, and map it behind 2. 2.6 counts truncations at 2 (truncate_count), and a fault that sees another number
begins again. Later a fault holds the page's lock until it has mapped it: 3 waits for that, and unmaps the page once more. 2.4 does nothing:
the page stays mapped and is nobody's (here that is a KernelBug, remove_from_page_cache).

The order of VMAs is that of the file's index; each that it hands out is tested.

Source: 2.6.2 mm/memory.c, vmtruncate, invalidate_mmap_range; mm/truncate.c, truncate_inode_pages; 6.18 mm/truncate.c, truncate_pagecache;
files.md D1.
"""

from contextlib import suppress

from rmaplab.errors import DiskError
from rmaplab.machine.frames import PG_WRITEBACK
from rmaplab.machine.pagetable_edit import read_range
from rmaplab.mm.file_io import LAST, extend
from rmaplab.mm.kernel import Kernel, null_is_fine
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.page_read import wait_on_page
from rmaplab.mm.shmem_page import charge_growth, uncharge, uncharge_size
from rmaplab.mm.shmem_swap import bring_back, shmem_truncate
from rmaplab.mm.swap_in import put_page
from rmaplab.mm.unmap_mapping import unmap_nonlinear
from rmaplab.mm.zap import unmap_page_range
from rmaplab.objects.flags import VM_SHARED
from rmaplab.objects.mm_types import AddressSpace, Range, VmArea
from rmaplab.objects.seals import refuse_size
from rmaplab.units import PAGE_SIZE


def vmtruncate(k: Kernel, file: AddressSpace, size: int) -> None:
    """`file` is `size` bytes long: cut, or grown with zeros. Raises SyscallError: EPERM (seals), ENOMEM: what it grows by is not promised."""
    refuse_size(file, size, "ftruncate")
    if size >= file.size and not (
        size == file.size and file.shmem is not None and file.shmem.fallocend > file.nr_pages
    ):
        charge_growth(k, file, size, "ftruncate")
        extend(k, file, size)
        return
    held = _hold_straddling(k, file, size)
    before, file.size = file.size, size
    uncharge_size(k, file, before)
    nr_pages, straddling = file.nr_pages, size // PAGE_SIZE
    for index in [index for index in file.store if index >= nr_pages]:
        uncharge(k, file, index not in file.pages)
        del file.store[index]
    if straddling in file.store:
        file.store[straddling] = file.store[straddling][: size % PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
    unmap_mapping_range(k, file, nr_pages, LAST, copies=True)
    if size % PAGE_SIZE and straddling in file.pages:
        k.machine.ram.bytes[file.pages[straddling], size % PAGE_SIZE :] = 0
    k.page_cache.wait_for_writes(file)
    remove_pages(k, file, nr_pages, LAST)
    if file.shmem is not None:
        file.shmem.fallocend = min(file.shmem.fallocend, nr_pages)
    shmem_truncate(k, file, nr_pages)
    if file.shmem is not None and file.pages.within(nr_pages, LAST)[0].size:  # swapoff has brought some back
        remove_pages(k, file, nr_pages, LAST)
    if held >= 0:
        put_page(k, held)
    if k.rules.truncate_unmaps_twice:
        unmap_mapping_range(k, file, nr_pages, LAST, copies=True)


def _hold_straddling(k: Kernel, file: AddressSpace, size: int) -> int:
    """shmem_notify_change: the page that the cut goes through comes back from swap, so that its rest can be zeros, and stays: it, or -1. If it cannot be had nobody minds."""
    if file.shmem is None or not size % PAGE_SIZE:
        return -1
    with suppress(DiskError), null_is_fine():
        bring_back(k, file, size // PAGE_SIZE)
    return k.page_cache.find_get_page(file, size // PAGE_SIZE)


def remove_pages(k: Kernel, file: AddressSpace, first: int, last: int) -> None:
    """truncate_inode_pages, of [first, last]: they leave the cache, and are free when nobody has them any more. Nobody should map them, and who does loses them."""
    if not _remove_at_once(k, file, first, last):
        _remove_one_by_one(k, file, first, last)


def _remove_at_once(k: Kernel, file: AddressSpace, first: int, last: int) -> bool:
    """All, of what lives in memory, if nobody can act meanwhile, and nobody has mapped one again."""
    indexes, pfns = file.pages.within(first, last)
    if file.shmem is None or k.machine.watched or k.machine.frames.mapcount[pfns].any():
        return False
    freed = k.page_cache.remove_range(file, first, last)
    k.machine.allocator.free(freed)
    k.machine.charge("page_free", freed.size)
    k.machine.locks.count("PG_locked", indexes.size)
    uncharge(k, file, indexes.size)
    return True


def _remove_one_by_one(k: Kernel, file: AddressSpace, first: int, last: int) -> None:
    """Each when nobody reads it any more, or is about to map it."""
    for index in file.pages.within(first, last)[0].tolist():
        page = file.pages.get(index, -1)
        if page < 0:  # somebody else has truncated meanwhile
            continue
        k.machine.frames.count[page] += 1
        wait_on_page(k, page)
        while file.on_disk and k.machine.frames.flags[page] & PG_WRITEBACK:
            k.page_cache.wait_for_writes(file)
        with k.batch() as batch:
            batch.hold_one(page, 0, 0, 0)
            k.machine.locks.enter_bits("PG_locked", batch.columns, 1)
            if k.rules.fault_locks_page and k.machine.frames.mapcount[page]:  # by a fault that had locked it
                unmap_mapping_range(k, file, index, index, copies=False)
            if file.pages.get(index) == page:
                k.page_cache.remove(file, index, mapped=file.has_nonlinear and k.rules.truncate_misses_nonlinear)
                uncharge(k, file, 1)
                if k.machine.frames.mapcount[page]:
                    k.rmap.unowned.add(page)
            k.machine.locks.leave_bits("PG_locked", batch.columns, 1)
        put_page(k, page)


def unmap_mapping_range(k: Kernel, file: AddressSpace, first: int, last: int, *, copies: bool) -> None:
    """Nobody maps pages [first, last] of the file, or with `copies` a private copy of one (even_cows). Guard regions stay."""
    k.machine.locks.take(file.lock, write=not k.rmap.file_lock_is_shared)
    file.truncate_count += 1
    for vma in k.rmap.showing(file, first, last):
        start, end = max(vma.start, vma.address_of(first)), min(vma.end, vma.address_of(last + 1))
        if start >= end:
            continue
        k.lock_entries(vma.mm)
        with MmuGather(k, vma.mm) as tlb:
            for low, high in [(start, end)] if copies or vma.flags & VM_SHARED else _of_file(k, file, vma, start, end):
                unmap_page_range(k, tlb, low, high, keep=k.machine.encoding.guard)
        k.unlock_entries(vma.mm)
    for vma in file.i_mmap.apart:
        unmap_nonlinear(k, vma, first, last)
    k.machine.locks.drop(file.lock)


def _of_file(k: Kernel, file: AddressSpace, vma: VmArea, start: int, end: int) -> list[Range]:
    """Stretches of [start, end) whose entries map pages of the file, not copies."""
    machine, found, address = k.machine, list[Range](), start
    while address < end:
        stop = k.burst_end(address, end)
        with k.batch() as batch:
            batch.runs, batch.nr, _ = read_range(
                *machine.geometry, vma.mm.pgd, machine.mapped, address, stop, batch.columns, batch.others
            )
            here = batch.addresses[machine.frames.mapping[batch.pfns] == file.address]
        for at in here.tolist():
            if found and found[-1][1] == at:
                found[-1] = found[-1][0], at + PAGE_SIZE
            else:
                found.append((at, at + PAGE_SIZE))
        address = stop
    return found
