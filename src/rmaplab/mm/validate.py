"""check(): what is known in two places must agree. All of it is recomputed from the page tables up; nothing is believed.

frames      free (by zone, by CPU list), reserved, slab, page table or a page, and none of them lost; a page's count is the entries
            that map it and what its holders say (pagevecs, the swap cache)
            what may be written is mapped once, or a page of a file, and then in a shared mapping
entries     of a kind that there is; slots of swap used as often as entries, swap vectors and the cache name them
mm          VMAs in order, every entry inside one and no more allowed than it allows; rss; page-table frames
system      committed pages, slab objects against the objects there are
design      its own invariants, and walk == judge for every page (or a fixed sample where there are very many)
"""

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.entries import RW, EntryKind
from rmaplab.machine.frames import PG_ANON, PG_ANON_EXCLUSIVE, PG_RESERVED, PG_SLAB, PG_TABLE, ZERO_PFN
from rmaplab.machine.table_reader import Entries, read_page_tables
from rmaplab.mm.driver import in_devices, is_device, was_told
from rmaplab.mm.ipc_shm import check_segments
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.shmem_swap import check_vectors
from rmaplab.objects.flags import VM_NONLINEAR, VM_SHARED, VM_WRITE
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.brute_force import judge
from rmaplab.units import PAGE_SHIFT

WALKS = 4096  # pages walked by check(): all, up to so many


def check(k: Kernel, *, walks: int = WALKS) -> None:
    """Raise KernelBug with the name of the first thing that does not add up. The ledger is left as it was. O(everything).

    `walks`: how many at most are judged; 0 if the caller judges his own.
    """
    before = k.machine.ledger.snapshot()
    mms = list(k.mms.values())
    unused = k.machine.check()
    k.check()
    _check_owners(k, unused)
    frames = k.machine.frames
    of_file = np.isin(frames.mapping, list(k.page_cache.files)) & ((frames.flags & PG_ANON == 0) | k.design.converts)
    mapped, told = np.zeros(
        (2, k.machine.frames.nr), np.int64
    )  # entries that have a reference; that the reverse map knows of
    devices = np.zeros(k.machine.frames.nr, np.bool_)
    writable: list[I64] = [np.empty(0, np.int64)]
    others: list[I64] = [np.empty(0, np.int64)]
    for mm in mms:
        mm.check()
        present, tables = read_page_tables(k.machine, mm.pgd)
        of_device, of_reserved = in_devices(mm, present.addresses)
        referred = (present.pfns != ZERO_PFN) & ~(of_device & (frames.flags[present.pfns] & PG_RESERVED != 0))
        devices[present.pfns[of_device]] = True
        _check_entries(mm, present, of_file[present.pfns] | of_device, int(referred.sum()))
        left = _check_places(k, mm, present, of_file)
        others.append(_check_others(k, mm, present))
        _check_tables(k, mm, tables)
        owned = referred & ~of_file[present.pfns] & ~of_device & ~left
        writable.append(present.pfns[(present.entries & RW != 0) & owned])
        np.add.at(mapped, present.pfns[referred], 1)
        np.add.at(told, present.pfns[referred & was_told(k, of_device, of_reserved)], 1)
    _check_writable(k, mapped, np.concatenate(writable))
    references = mapped.copy()
    for holder in k.holders:
        np.add.at(references, holder.references(), 1)
    _check_pages(k, mapped, references)
    k.swap.check(np.concatenate([*others, check_vectors(k)]))
    k.page_cache.check()
    check_segments(k, mms)
    k.rmap.check(mms, told, devices)
    pages = np.union1d(np.flatnonzero(mapped), k.design.tracked())
    if walks:
        judge(k.rmap, mms, pages[:: -(-pages.size // walks) or 1].tolist(), k.rmap.nobodys(devices))
    k.machine.ledger.restore(before)


def _check_entries(mm: MmStruct, present: Entries, of_file: Bools, rss: int) -> None:
    """`of_file`: which entries map pages of files, or of devices."""
    if rss != mm.rss:
        raise KernelBug("rss", f"mm {mm.pid} says {mm.rss} pages, its page tables {rss}")
    inside = 0
    for vma in mm.vmas:
        first, last = np.searchsorted(present.addresses, (vma.start, vma.end))
        inside += int(last - first)
        if not vma.flags & VM_WRITE and (present.entries[first:last] & RW).any():
            raise KernelBug("pte", f"a writable entry in {vma}")
        files = of_file[first:last]
        if vma.flags & VM_SHARED and not vma.flags & VM_NONLINEAR and not files.all():
            raise KernelBug("pte", f"{vma} is shared, and has a page that is not its file's")
        if not vma.flags & VM_SHARED and (files & (present.entries[first:last] & RW != 0)).any():
            raise KernelBug("pte", f"{vma} is private, and may write to its file")
    if inside != present.pfns.size:
        raise KernelBug("pte", f"mm {mm.pid} maps {present.pfns.size - inside} pages outside its VMAs")


def _check_places(k: Kernel, mm: MmStruct, present: Entries, of_file: Bools) -> Bools:
    """What shows a file has its pages, each at its linear place but in nonlinear VMAs. Returns which entries truncate has left, of pages that are nobody's."""
    frames, left = k.machine.frames, np.zeros(present.pfns.size, np.bool_)
    for vma in mm.vmas:
        if vma.file is None or is_device(vma):
            continue
        part = slice(*np.searchsorted(present.addresses, (vma.start, vma.end)))
        pfns, addresses = present.pfns[part], present.addresses[part]
        other = of_file[pfns] & (frames.mapping[pfns] != vma.file.mapping.address)
        if not vma.flags & VM_NONLINEAR:
            other |= of_file[pfns] & (frames.index[pfns] != vma.pgoff + ((addresses - vma.start) >> PAGE_SHIFT))
        elif k.rules.truncate_misses_nonlinear:
            left[part] = ~of_file[pfns]
        if other.any() or (vma.flags & VM_NONLINEAR and not (of_file[pfns] | left[part]).all()):
            raise KernelBug("pte", f"{vma} has a page that it does not show")
    return left


def _check_others(k: Kernel, mm: MmStruct, present: Entries) -> I64:
    """What maps no page is of a kind that there is, and inside a VMA. Returns those entries."""
    kinds = {
        entry: k.machine.encoding.kind(entry) for entry in np.unique(present.others).tolist()
    }  # raises for bits that nobody can read
    inside = sum(
        int(np.diff(np.searchsorted(present.other_addresses, (vma.start, vma.end)))[0]) for vma in mm.vmas
    ) if present.others.size else 0  # fmt: skip
    if inside != present.others.size:
        raise KernelBug("pte", f"mm {mm.pid} has {present.others.size - inside} entries outside its VMAs")
    files = [entry for entry, kind in kinds.items() if kind is EntryKind.FILE]
    for at in present.other_addresses[np.isin(present.others, files)].tolist() if files else ():
        if (vma := mm.find_vma(at)) is None or not vma.flags & VM_NONLINEAR:
            raise KernelBug("pte", f"mm {mm.pid} has a file entry at {at:#x}, where nothing is nonlinear")
    return present.others


def _check_tables(k: Kernel, mm: MmStruct, tables: list[int]) -> None:
    born_with = 1 if k.pgd_cache is None else 0  # the top table itself
    if len(tables) + born_with != mm.nr_tables or len(set(tables)) != len(tables):
        raise KernelBug(
            "nr_ptes", f"mm {mm.pid} says {mm.nr_tables} page tables, {len(tables) + born_with} hang together"
        )
    if not (k.machine.frames.flags[tables] & PG_TABLE).all():
        raise KernelBug("pte_alloc", "a page table is not marked as one")


def _check_pages(k: Kernel, mapped: I64, references: I64) -> None:
    frames = k.machine.frames
    count, flags = frames.count, frames.flags
    other = flags & (PG_RESERVED | PG_SLAB | PG_TABLE) != 0
    if mapped[other].any():
        raise KernelBug("pte", "an entry maps a page table, a slab page or the kernel")
    wrong = np.flatnonzero((count != references) & ~other)
    wrong = wrong[~_is_stack(k)[wrong]]
    if wrong.size:
        raise KernelBug(
            "page_count", f"page {wrong[0]} has count {count[wrong[0]]} and {references[wrong[0]]} references"
        )


def _check_writable(k: Kernel, mapped: I64, writable: I64) -> None:
    """What may be written without a fault is nobody else's (I8 of modern.md 2.8), and says so where there is a bit for that."""
    if (mapped[writable] != 1).any():
        raise KernelBug("pte", f"page {writable[mapped[writable] != 1][0]} is shared, and somebody may write to it")
    if k.rules.anon_exclusive:
        exclusive = np.flatnonzero(
            k.machine.frames.flags & PG_ANON_EXCLUSIVE
        )  # mapped once, or not any more and not freed yet
        if (mapped[exclusive] > 1).any() or not np.isin(writable, exclusive).all():
            raise KernelBug("PageAnonExclusive", "a shared page has the bit, or one that may be written has it not")


def _check_owners(k: Kernel, unused: Bools) -> None:
    """Every frame is free or somebody's. Of a block of several frames only the first has a count, as in Linux."""
    tails = sum(cache.nr_slabs * ((1 << cache.packing.order) - 1) for cache in k.machine.caches.values())
    tails += len(k.tasks) * ((1 << k.stack_order) - 1)
    owned = int(np.count_nonzero(k.machine.frames.count)) + tails
    if int(unused.sum()) + owned != k.machine.frames.nr:
        raise KernelBug(
            "free_area", f"{k.machine.frames.nr - owned - int(unused.sum())} frames are neither free nor anybody's"
        )


def _is_stack(k: Kernel) -> Bools:
    mask = np.zeros(k.machine.frames.nr, np.bool_)
    for task in k.tasks.values():
        mask[task.stack] = True
    return mask
