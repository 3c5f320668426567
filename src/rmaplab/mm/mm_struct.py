"""Making and unmaking address spaces: mm_alloc, new_mm, mmput, pgd_alloc.

Source: 2.6.2 kernel/fork.c (mm_alloc, mmput), arch/i386/mm/pgtable.c (pgd_alloc, with PAE the pgd and three middle tables).
"""

import numpy as np

from rmaplab.errors import NoMemory
from rmaplab.machine.entries import PRESENT
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.zap import exit_mmap, free_pgd
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT


def mm_alloc(k: Kernel, pid: int, parent: MmStruct | None = None) -> MmStruct:
    """An empty address space for task `pid`, on the mmlist behind its `parent`. Raises NoMemory with nothing left behind."""
    address = k.mm_cache.alloc()
    try:
        pgd, nr_tables = _pgd_alloc(k)
    except NoMemory:
        k.mm_cache.free(address)
        raise
    mm = MmStruct(pid, address, pgd, k.machine.locks)
    mm.nr_tables = nr_tables
    mm.start_brk = mm.brk = k.machine.paging.heap_base
    k.machine.locks.enter(k.mmlist_lock)
    k.mms[address] = mm
    k.mmlist.add(mm, parent)
    k.machine.locks.leave(k.mmlist_lock)
    k.machine.charge("mm_alloc")
    return mm


def new_mm(k: Kernel, pid: int) -> MmStruct:
    """What execve gives a task. Raises NoMemory with nothing left behind."""
    mm = mm_alloc(k, pid)
    try:
        k.design.mm_new(mm)
    except NoMemory:
        mmput(k, mm)
        raise
    return mm


def mmput(k: Kernel, mm: MmStruct) -> None:
    """A user of an address space has gone; with the last one it goes too."""
    mm.users -= 1
    if mm.users:
        return
    k.mmlist.remove(mm)
    exit_mmap(k, mm)
    k.machine.locks.pass_through(k.mmlist_lock)
    k.design.mm_exit(mm)
    free_pgd(k, mm)
    del k.mms[mm.address]
    k.mm_cache.free(mm.address)
    k.machine.charge("mm_free")
    k.machine.end_burst()


def _pgd_alloc(k: Kernel) -> tuple[int, int]:
    """(physical address of a new top table, page-table frames it took)."""
    machine, paging = k.machine, k.machine.paging
    if k.pgd_cache is None:
        return int(machine.alloc_tables(1, upper=True)[0]) << PAGE_SHIFT, 1
    pgd = k.pgd_cache.alloc()
    try:
        born = machine.alloc_tables(paging.tables_at_birth, upper=True)
    except NoMemory:
        k.pgd_cache.free(pgd)
        raise
    first = pgd // paging.entry_bytes
    machine.words[first : first + born.size] = (
        born << PAGE_SHIFT
    ) | PRESENT  # no other bits may be set in PAE's top entries
    return pgd, np.size(born)
