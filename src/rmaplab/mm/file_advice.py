"""madvise of what shows a file: WILLNEED has its pages read (nobody waits), PAGEOUT takes away those that nobody else maps.

    page of the range         its entry       in the cache
    mapped once, clean        goes            goes, if it can be read again
    mapped once, newer        goes            stays: writing is not madvise's business (tmpfs: there is no swap to write to)
    mapped by others too      stays           stays
    a private copy            stays           -              without swap

Not modelled: who may page out a file (its owner, or who may write to it): everybody is taken for the owner.

Source: 2.6.2 mm/madvise.c, madvise_willneed; 6.18 mm/madvise.c, madvise_cold_or_pageout_pte_range; mm/vmscan.c, shrink_folio_list; files.md G3.
"""

import errno

import numpy as np

from rmaplab.errors import NoMemory, NotModelled, SyscallError
from rmaplab.machine.frames import PG_ANON, PG_DIRTY
from rmaplab.machine.pagetable_edit import read_range
from rmaplab.mm.fallocate import punch
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.readahead import force
from rmaplab.mm.swap_in import put_page
from rmaplab.objects.flags import VM_MAYWRITE, VM_SHARED, VM_WRITE
from rmaplab.objects.mm_types import File, VmArea
from rmaplab.objects.seals import refuse_writing
from rmaplab.rmap.queries import unmap
from rmaplab.units import PAGE_SHIFT


def willneed(k: Kernel, vma: VmArea, opened: File, start: int, end: int) -> None:
    """Pages that are on a disk are on their way, up to the file's end, as far as there is memory, and as each era goes."""
    if opened.mapping.on_disk:
        force(k, opened, vma.index_of(start), (end - start) >> PAGE_SHIFT)


def madvise_remove(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """A hole in the file where [start, end) shows it. Raises SyscallError: EACCES (not shared, or nobody may write), EPERM (seals); NotModelled: on a disk."""
    may = VM_WRITE if k.rules.remove_needs_write else VM_MAYWRITE
    if vma.file is None or vma.flags & (VM_SHARED | may) != VM_SHARED | may:
        raise SyscallError(errno.EACCES, "madvise", f"{vma} is not shared, or may not be written")
    if vma.file.mapping.shmem is None:
        raise NotModelled("MADV_REMOVE of a file on a disk is not modelled: take one on tmpfs, or leave it out")
    refuse_writing(vma.file.mapping, "madvise")
    first = vma.index_of(start) << PAGE_SHIFT
    punch(k, vma.file.mapping, first, first + end - start)


def pageout(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """reclaim_pages of what entries of [start, end) show, but for what is mapped elsewhere too. Raises NoMemory where copies would have to be swapped."""
    machine, frames, address = k.machine, k.machine.frames, start
    while address < end:
        stop = k.burst_end(address, end)
        lock = machine.pte_lock(vma.mm, address)
        machine.locks.take(lock)
        with k.batch() as batch:
            batch.runs, batch.nr, _ = read_range(
                *machine.geometry, vma.mm.pgd, machine.mapped, address, stop, batch.columns, batch.others
            )
            pfns = batch.pfns[frames.mapcount[batch.pfns] == 1]
        machine.locks.drop(lock)
        machine.charge("pte_mark", batch.nr)
        machine.end_burst()
        if k.machine.swap_pages and (frames.flags[pfns] & PG_ANON).any():
            raise NoMemory("MADV_PAGEOUT: this version does not swap", waiting_helps=True)
        for pfn in pfns.tolist():
            _reclaim(k, pfn)
        address = stop


def _reclaim(k: Kernel, pfn: int) -> None:
    """shrink_folio_list: one page of a file."""
    frames, file = k.machine.frames, k.rmap.file_of(pfn)
    lock = k.machine.locks.bit("PG_locked", pfn)
    if file is None or k.page_cache.is_locked(pfn) or not k.machine.locks.try_take(lock):
        return
    frames.count[pfn] += 1  # isolated
    unmap(k.rmap, np.array([pfn]), np.array([0]))
    gone = not k.rmap.is_mapped(pfn) and not frames.flags[pfn] & PG_DIRTY and file.on_disk
    if gone and frames.count[pfn] == 2:  # the cache and we
        k.page_cache.remove(file, int(frames.index[pfn]))
    k.machine.locks.drop(lock)
    put_page(k, pfn)
