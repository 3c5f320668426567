"""Two questions about a range: what of it is in memory (mincore), and has it been written back (msync).

    msync, up to 2.6.18    dirty bits of the range's entries go over to the pages; with MS_SYNC all of the file is written
    since 2.6.19           MS_SYNC is an fsync of the range: write-out itself finds the entries (page_mkclean); MS_ASYNC does nothing

Source: mm/mincore.c and mm/msync.c of 2.6.2 and 6.18. Up to 2.6.2 mincore knows files only.
"""

import errno

import numpy as np

from rmaplab.errors import DiskError, SyscallError
from rmaplab.machine.entries import DIRTY
from rmaplab.machine.frames import PG_NOT_UPTODATE
from rmaplab.machine.pagetable_edit import clear_bits, read_range, resident
from rmaplab.mm.file_io import LAST, write_out
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import MS_ASYNC, MS_INVALIDATE, MS_SYNC, VM_LOCKED, VM_SHARED
from rmaplab.objects.mm_types import AddressSpace, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align


def do_mincore(k: Kernel, mm: MmStruct, start: int, length: int) -> list[bool]:
    """For every page of the range whether it has an entry, the zero page counts; or is in the page cache, where the VMA shows a file.

    Raises SyscallError: EINVAL, ENOMEM (a hole).
    """
    if start % PAGE_SIZE:
        raise SyscallError(errno.EINVAL, "mincore")
    end = start + page_align(length)
    if not 0 <= start <= end <= k.machine.paging.task_size:
        raise SyscallError(errno.ENOMEM, "mincore", "beyond the end of the address space")
    answer: list[bool] = []
    address = start
    while address < end:
        vma = mm.find_vma(address)
        if vma is None or vma.start > address or not (k.rules.mincore_knows_anonymous or vma.vm_file):
            raise SyscallError(errno.ENOMEM, "mincore", f"nothing is mapped at {address:#x}, or nothing that it knows")
        stop = k.burst_end(address, min(end, vma.end))
        there = np.zeros((stop - address) >> PAGE_SHIFT, np.bool_)
        if vma.vm_file is None or k.rules.mincore_reads_entries:
            resident(*k.machine.geometry, mm.pgd, k.machine.mapped, address, stop, there)
        if vma.file is not None:
            pages, first = vma.file.mapping.pages, vma.index_of(address)
            pfns = pages.range(first, first + there.size)
            there |= (pfns >= 0) & (k.machine.frames.flags[pfns] & PG_NOT_UPTODATE == 0)
        answer += there.tolist()
        address = stop
    return answer


def do_msync(k: Kernel, mm: MmStruct, start: int, length: int, flags: int) -> None:
    """What was written to shared mappings goes to their files (MS_SYNC), or is known to be newer (MS_ASYNC, where entries are looked at).

    Raises SyscallError: EINVAL, EBUSY (locked and MS_INVALIDATE), ENOMEM (a hole; the rest is done).
    """
    both = MS_ASYNC | MS_SYNC
    if flags & ~(both | MS_INVALIDATE) or start % PAGE_SIZE or flags & both == both:
        raise SyscallError(errno.EINVAL, "msync")
    end = start + page_align(length) % k.machine.paging.wraps_at
    if end >= k.machine.paging.wraps_at:
        raise SyscallError(errno.ENOMEM, "msync", "the range wraps")
    hole = False
    for vma, address, stop in mm.stretches(start, end):
        hole |= vma is None
        if vma is not None and flags & MS_INVALIDATE and vma.flags & VM_LOCKED:
            raise SyscallError(errno.EBUSY, "msync", f"{vma} is locked")
        if vma is not None and vma.file is not None and vma.flags & VM_SHARED and flags & both:
            _sync(k, vma, vma.file.mapping, address, stop, flags)
    if hole:
        raise SyscallError(errno.ENOMEM, "msync", "a part of the range is not mapped")


def _sync(k: Kernel, vma: VmArea, file: AddressSpace, start: int, end: int, flags: int) -> None:
    """msync_interval; vfs_fsync_range."""
    first, last = (vma.index_of(at) for at in (start, end - PAGE_SIZE))
    if k.rules.msync_walks_entries:
        _take_dirty(k, vma.mm, start, end)
        first, last = 0, LAST
    if flags & MS_SYNC:
        try:
            write_out(k, file, first, last)
        except DiskError:
            raise SyscallError(errno.EIO, "msync") from None


def _take_dirty(k: Kernel, mm: MmStruct, start: int, end: int) -> None:
    """filemap_sync: entries are clean, and the pages know."""
    machine, address = k.machine, start
    while address < end:
        stop = k.burst_end(address, end)
        lock = machine.pte_lock(mm, address)
        machine.locks.take(lock)
        with k.batch() as batch:
            batch.runs, batch.nr, _ = read_range(
                *machine.geometry, mm.pgd, machine.mapped, address, stop, batch.columns, batch.others
            )
            k.page_cache.take_dirty(batch)
            clear_bits(machine.words, machine.paging.bits, batch.columns, batch.runs, DIRTY)
            machine.charge("pte_mark", batch.nr)
        machine.locks.drop(lock)
        machine.end_burst()
        address = stop
    machine.tlb.flush_range(mm)
