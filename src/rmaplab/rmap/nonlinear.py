"""Nonlinear VMAs and the reverse map: no page offset says where in one a page is, so whoever wants to know reads it all.

    find, the judge's walk     every entry of every nonlinear VMA of the page's file: what Linux never does, for it has no need to know
    unmap, late -aa            all of each such VMA, in its turn on the list: whatever is old goes (unmap_old)
    unmap, 2.6.7               a cluster of 32 pages of each, and the next, until as many entries went as the page has (Clusters)

        VMA 1  |....cluster....|...............|...............|        cursor: how far this one is
        VMA 2  |....cluster....|........|                               whose page it was that went nobody asks

VMAs that are nonlinear may be kept apart from a file's index (index_apart.py): 2.6.7's i_mmap_nonlinear.

Source: mm/objrmap.c of later -aa, try_to_unmap_nonlinear; 2.6.7 mm/rmap.c, try_to_unmap_file, try_to_unmap_cluster; include/linux/fs.h; files.md A7, E2;
history.md 1.5.10.
"""

import numpy as np

from rmaplab.errors import Oops
from rmaplab.machine.batch import PFN, Batch
from rmaplab.machine.entries import ACCESSED, DIRTY
from rmaplab.machine.frames import PG_DIRTY, PG_RESERVED
from rmaplab.machine.pagetable_edit import clear_bits, find_pfn, read_range
from rmaplab.objects.flags import VM_LOCKED, VM_RESERVED
from rmaplab.objects.mm_types import AddressSpace, VmArea
from rmaplab.rmap.pages import Rmap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

CLUSTER = 32 * PAGE_SIZE
"""CLUSTER_SIZE: 32 pages, or what a leaf table maps if that is less."""


def unmap_old(rmap: Rmap, vma: VmArea, start: int, end: int) -> int:
    """Every entry of [start, end) that is not young goes, whatever page it maps; a file entry stays where that is not at its linear place. How many went.

    Young ones are old then. The caller has page_table_lock, and no page's bit lock. Raises Oops at a page that is nobody's (unmap_pte_page).
    """
    machine, frames = rmap.machine, rmap.frames
    pgd = (*machine.geometry, vma.mm.pgd)
    machine.charge("pte_scan", find_pfn(*pgd, machine.mapped, start, end, -1)[1])
    batch = Batch((end - start) >> PAGE_SHIFT, machine.paging.entry_bytes, [])
    batch.runs, batch.nr, _ = read_range(*pgd, machine.mapped, start, end, batch.columns, batch.others)
    pfns, entries = batch.pfns, batch.entries
    young = (entries & ACCESSED != 0) & (frames.flags[pfns] & PG_RESERVED == 0)
    if (made_old := batch.select(young)).nr:
        clear_bits(machine.words, machine.paging.bits, made_old.columns, made_old.runs, ACCESSED)
    goes = ~young & (frames.mapcount[pfns] > 0) & (frames.flags[pfns] & PG_RESERVED == 0)
    nobodys = np.flatnonzero(goes & (frames.mapping[pfns] == 0))
    goes[nobodys[0] if nobodys.size else pfns.size :] = False
    gone = batch.select(goes)
    if gone.nr:
        _take(rmap, vma, gone)
    if nobodys.size:
        raise Oops("unmap_pte_page", f"page {pfns[nobodys[0]]} has no mapping")
    return gone.nr


def _take(rmap: Rmap, vma: VmArea, gone: Batch) -> None:
    """The same for these entries: what stays in their place, dirty bits, references, rss."""
    machine, frames = rmap.machine, rmap.frames
    pfns, dirty = gone.columns[PFN], gone.entries & DIRTY != 0
    rmap.leave_file_entries(gone, vma)
    machine.tlb.flush_page(vma.mm, gone.nr)
    frames.flags[pfns[dirty]] |= np.uint32(PG_DIRTY)
    rmap.remove(gone)
    np.subtract.at(frames.count, pfns, 1)
    vma.mm.rss -= gone.nr
    machine.charge("pte_unmap", gone.nr)


def unmap_clusters(rmap: Rmap, file: AddressSpace, goal: int) -> None:
    """2.6.7's way: a cluster from each nonlinear VMA where its cursor stands, round after round, until `goal` entries went, or all is done: then cursors begin again.

    A VMA whose page_table_lock is busy is left as it is for this round. The caller has the file's lock, and no page's bit lock.
    """
    machine = rmap.machine
    cluster = min(CLUSTER, machine.paging.leaf_span)
    vmas = [vma for vma in file.i_mmap.apart if not vma.flags & (VM_LOCKED | VM_RESERVED)]
    if not vmas:
        return
    reached = max(vma.cursor for vma in vmas) or cluster
    longest = -(-max(vma.end - vma.start for vma in vmas) // cluster) * cluster
    while reached <= longest:
        for vma in vmas:
            while vma.mm.rss and vma.cursor < min(reached, vma.end - vma.start):
                nr = _unmap_cluster(rmap, vma, vma.cursor, cluster)
                if nr < 0:
                    break
                goal -= nr
                vma.cursor += cluster
                if goal <= 0:
                    return
            else:
                vma.cursor = reached
        reached += cluster
    for vma in file.i_mmap.apart:
        if not vma.flags & VM_RESERVED:
            vma.cursor = 0


def _unmap_cluster(rmap: Rmap, vma: VmArea, cursor: int, cluster: int) -> int:
    """try_to_unmap_cluster: how many entries went, of the cluster of addresses that `cursor` lies in; -1 if page_table_lock is busy."""
    locks = rmap.machine.locks
    rmap.machine.ledger.visit("vma_visit")
    if not locks.try_take(vma.mm.page_table_lock):
        return -1
    address = (vma.start + cursor) & -cluster
    nr = unmap_old(rmap, vma, max(address, vma.start), min(address + cluster, vma.end))
    locks.drop(vma.mm.page_table_lock)
    return nr
