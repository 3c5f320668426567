"""Guard regions: pages that nobody may touch, without a VMA of their own (MADV_GUARD_INSTALL, _REMOVE; Linux 6.13).

    before    |[p][ ][p][ ]|     one VMA
    install      [G][G]          what was there is zapped, every entry becomes a marker: to touch it is SIGSEGV
    remove       [ ][ ]          the markers go; zeros from now on

A marker is an entry that names no page (machine/entries.py). fork copies it, mremap moves it, munmap and exit take it along; MADV_DONTNEED
leaves it where it is. The VMA gets an anon_vma, so that a fork does not pass it over as one without pages (vma_needs_copy).

Source: 6.18 mm/madvise.c, madvise_guard_install, madvise_guard_remove, is_valid_guard_vma; mm/memory.c, handle_pte_marker,
zap_nonpresent_ptes.
"""

import errno

from rmaplab.errors import NoMemory, SegmentationFault, SyscallError
from rmaplab.machine.pagetable import count_tables, lookup
from rmaplab.machine.pagetable_edit import put_entries, take_entries
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmu_gather import MmuGather
from rmaplab.mm.zap import unmap_page_range
from rmaplab.objects.flags import VM_LOCKED, VM_MAYBE_GUARD
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT


def guard_install(k: Kernel, tlb: MmuGather, vma: VmArea, start: int, end: int) -> None:
    """Markers for all of [start, end), in one VMA. Raises SyscallError: EINVAL (a special or locked VMA), ENOMEM; what is done stays."""
    if vma.flags & (k.rules.vm_special | VM_LOCKED):
        raise SyscallError(errno.EINVAL, "madvise", f"not for {vma}")
    try:
        if vma.file is None:
            k.design.vma_prepare(vma)
        vma.flags |= VM_MAYBE_GUARD  # for ever, and fork copies its entries
        k.lru_add.drain(k.this_cpu())
        address = start
        while address < end:
            stop = k.alloc_burst_end(address, end)
            _install_burst(k, tlb, address, stop)
            address = stop
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOMEM, "madvise", "no memory for page tables") from None


def guard_remove(k: Kernel, vma: VmArea, start: int, end: int) -> None:
    """The markers of [start, end), in one VMA, go. Raises SyscallError(EINVAL): a special VMA."""
    if vma.flags & k.rules.vm_special:
        raise SyscallError(errno.EINVAL, "madvise", f"not for {vma}")
    machine, mm = k.machine, vma.mm
    address = start
    while address < end:
        stop = k.burst_end(address, end)
        lock = machine.pte_lock(mm, address)
        machine.locks.take(lock)
        taken = take_entries(*machine.geometry, mm.pgd, address, stop, machine.encoding.guard)
        machine.charge("pte_mark", taken)
        machine.end_burst()
        machine.locks.drop(lock)
        address = stop


def refuse_guard(k: Kernel, mm: MmStruct, address: int) -> None:
    """Raises SegmentationFault where a marker says that nobody may touch the page of `address`."""
    if lookup(*k.machine.geometry, mm.pgd, address)[0] == k.machine.encoding.guard:
        raise SegmentationFault(address, "a guard region")


def _install_burst(k: Kernel, tlb: MmuGather, start: int, end: int) -> None:
    """Tables first; then, under the lock, what is there goes and the markers come."""
    machine, mm = k.machine, tlb.mm
    missing, _ = count_tables(*machine.geometry, mm.pgd, -1, start, end)
    tables = machine.alloc_tables(missing)
    while (needed := count_tables(*machine.geometry, mm.pgd, -1, start, end)[0]) != missing:  # somebody slept
        machine.free_tables(tables)
        missing, tables = needed, machine.alloc_tables(needed)
    k.lock_entries(mm)
    unmap_page_range(k, tlb, start, end, keep=machine.encoding.guard)
    lock = k.lock_burst(mm, start)
    put_entries(*machine.geometry, mm.pgd, start, end, machine.encoding.guard, tables)
    if missing:
        mm.nr_tables += missing
        k.design.tables_added(mm, start, end)
    machine.charge("pte_mark", (end - start) >> PAGE_SHIFT)
    machine.end_burst()
    if lock is not None:
        machine.locks.drop(lock)
    k.unlock_entries(mm)
