"""fork: copying an address space. dup_mmap and copy_page_range.

    parent   vma ----- entries RW  ==copy==>  child   vma' ----- entries read-only, old
                       become read-only                          the same frames, one reference more each

Per VMA: the overcommit charge, the copy of the VMA, its place in the reverse map, then its entries in bursts. For each burst
the child's tables are allocated, the parent's PFNs are read, the design reserves what it will need, and only then do entries
change. Where an allocation fails for good the half-made child is torn down; the parent's entries stay write-protected.

Source: 2.6.2 kernel/fork.c dup_mmap, mm/memory.c copy_page_range; the failure path is history.md 2.7 and eras.md 0.7, 3.3.
"""

import errno
from functools import partial

import numpy as np

from rmaplab.errors import NoMemory, SyscallError, as_errno
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import ENTRY, Batch
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE
from rmaplab.machine.locks import Lock
from rmaplab.machine.pagetable import copy_range, count_tables
from rmaplab.machine.pagetable_edit import read_range
from rmaplab.mm.driver import fork_device, is_device
from rmaplab.mm.kernel import Kernel, halves
from rmaplab.mm.mm_struct import mm_alloc, mmput
from rmaplab.mm.unowned import copy_until
from rmaplab.mm.vma import link_vma, open_vma, vm_area_dup, vm_area_free
from rmaplab.mm.vma_lock import vma_start_write
from rmaplab.objects.flags import (
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_LOCKED_MASK,
    VM_MAYBE_GUARD,
    VM_MAYWRITE,
    VM_PFNMAP,
    VM_SHARED,
    VM_WIPEONFORK,
)
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SIZE


def dup_mm(k: Kernel, parent: MmStruct, pid: int) -> MmStruct:
    """A copy of `parent` for the new task `pid`. Raises SyscallError(ENOMEM), NoMemory; then nothing of it is left."""
    child = mm_alloc(k, pid, parent)
    child.free_area_cache = parent.free_area_cache
    child.start_brk, child.brk, child.dumpable = parent.start_brk, parent.brk, parent.dumpable
    charged = 0
    try:
        k.design.mm_fork(parent, child)
        for vma in parent.vmas:
            if vma.flags & VM_DONTCOPY:
                continue
            if vma.flags & VM_ACCOUNT and k.rules.fork_charges:
                k.charge_memory(vma.nr_pages, "fork")
                charged += vma.nr_pages
            _dup_vma(k, vma, child)
    except (SyscallError, NoMemory) as failure:
        # dup_mmap takes all its charges back; so does exit_mmap, for the VMAs that were linked, unless the rules know better
        linked = sum(vma.nr_pages for vma in child.vmas if vma.flags & VM_ACCOUNT)
        if k.rules.fork_failure_uncharges_twice:
            k.vm_unacct_memory(charged)
            k.committed_drift += linked
        else:
            k.vm_unacct_memory(charged - linked)
        mmput(k, child)
        raise as_errno(failure, errno.ENOMEM, "fork") from None
    finally:
        k.machine.tlb.flush_mm(parent)  # its entries may have become read-only, however that ended
    return child


def _dup_vma(k: Kernel, vma: VmArea, child: MmStruct) -> None:
    wiped = bool(vma.flags & VM_WIPEONFORK)
    vma_start_write(k, vma)
    new = vm_area_dup(k, vma, child, vma.start, vma.end, vma.pgoff)
    new.flags &= ~VM_LOCKED_MASK
    k.machine.charge("vma_copy")
    try:
        if not wiped:
            k.design.vma_fork(vma, new)
    except NoMemory:
        vm_area_free(k, new)
        raise
    link_vma(k, new, vma)
    child.total_vm += new.nr_pages
    open_vma(new)  # up to 6.18 behind the copies
    if wiped or (k.rules.lazy_fork and not _needs_copy(k, vma)):
        return  # the child's faults will find zeros, as the parent's did
    address = vma.start
    while address < vma.end:
        page_by_page = k.machine.allocator.fail_after is not None
        stop = (k.alloc_burst_end if page_by_page else partial(k.burst_over, vma.mm))(address, vma.end)
        stop = copy_until(k, vma.mm, address, stop)
        _copy_burst(k, vma, new, address, stop)
        if k.rules.fork_cond_resched:
            k.machine.sched.cond_resched()
        address = stop


def _needs_copy(k: Kernel, vma: VmArea) -> bool:
    """vma_needs_copy: faults would not bring the same."""
    return bool(vma.flags & (VM_MAYBE_GUARD | VM_PFNMAP)) or k.design.vma_is_faulted(vma)


def _copy_burst(k: Kernel, vma: VmArea, new: VmArea, start: int, end: int) -> None:
    """copy_page_range for one burst; halved when memory is short, so that all before the failing page is done.

    Memory first, then the page_table_locks, then a look whether that is still enough: whoever slept for it may find other entries.
    """
    machine, geometry = k.machine, k.machine.geometry
    parent, child = vma.mm, new.mm
    tables: I64 = _NOTHING
    held: tuple[Lock, Lock] | None = None
    with k.batch() as batch:
        while True:
            seen = machine.changes
            missing, leaves = count_tables(*geometry, child.pgd, parent.pgd, start, end)
            batch.nr = batch.runs = 0
            if k.design.reserves and leaves:
                batch.runs, batch.nr, batch.nr_others = read_range(
                    *geometry, parent.pgd, machine.mapped, start, end, batch.columns, batch.others
                )
            if held:  # somebody slept, or waited: is it still enough?
                locked = machine.pte_lock(child, start), machine.pte_lock(parent, start)
                if held == locked and missing <= tables.size and k.design.reserved(batch):
                    break
                _unlock(k, held)
                held = None
            try:
                if missing > tables.size:
                    more = machine.alloc_tables(missing - tables.size)
                    tables = np.concatenate((tables, more)) if tables.size else more
                k.design.reserve(batch)
            except NoMemory:
                k.design.unreserve()
                machine.free_tables(tables)
                if end - start <= PAGE_SIZE:
                    raise
                for low, high in halves(start, end):
                    _copy_burst(k, vma, new, low, high)
                return
            if seen == machine.changes:
                held = machine.pte_lock(child, start), machine.pte_lock(parent, start)
                for lock in held:
                    machine.locks.take(lock)
                if seen == machine.changes:
                    break
        if leaves or missing:
            _copy_entries(k, vma, new, start, end, tables, batch)
        machine.end_burst()
        _unlock(k, held)


def _unlock(k: Kernel, held: tuple[Lock, Lock]) -> None:
    for lock in reversed(held):
        k.machine.locks.drop(lock)


def _copy_entries(k: Kernel, vma: VmArea, new: VmArea, start: int, end: int, tables: I64, batch: Batch) -> None:
    """All is there that it takes: this cannot fail."""
    machine, child = k.machine, new.mm
    cow = vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE
    batch.runs, batch.nr, batch.nr_others, copied = copy_range(
        *machine.geometry, vma.mm.pgd, machine.mapped, child.pgd, start, end, cow,
        machine.frames.count, tables, batch.columns, batch.others,
    )  # fmt: skip
    if tables.size:
        child.nr_tables += tables.size
        k.design.tables_added(child, start, end)
    if batch.nr and is_device(vma):
        fork_device(k, vma, new, batch)
    elif batch.nr:
        k.rmap.duplicate(batch, new)
        if k.rules.anon_exclusive:
            machine.frames.flags[batch.pfns] &= ~np.uint32(PG_ANON_EXCLUSIVE)
        child.rss += batch.nr
    if batch.nr_others:
        k.swap.duplicate(batch.others[ENTRY, : batch.nr_others])
    k.design.unreserve()
    machine.charge("pte_copy", copied)


_NOTHING: I64 = np.empty(0, np.int64)
