"""What keeps a fault's VMA still: mmap_sem, taken for reading; since 6.4 the VMA's own lock, and mmap_sem only where that does not do.

    writer   takes mmap_sem for writing    vma_start_write(A): waits for A's faults; A is write-locked until mmap_sem is free
    fault in B                             takes B's lock for reading: goes on beside the writer
    fault in A                             A is write-locked: waits for mmap_sem

So a fault waits for a call that changes its own VMA, not for every call. It falls back on mmap_sem where nothing is mapped (the stack may have to
grow) and at the first write to a VMA, which gives it an anon_vma. There Linux tries mmap_sem and, as a rule, gets it (vmf_anon_prepare): the
same but for who waits for whom.

A stack grows under mmap_sem taken for writing since 6.5.

Source: 6.18 mm/mmap_lock.c, lock_vma_under_rcu, lock_mm_and_find_vma; include/linux/mmap_lock.h, vma_start_write, vma_end_write_all; mm/memory.c, vmf_anon_prepare:
from memory; eras.md 2.1.
"""

from rmaplab.machine.locks import Lock
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_GROWSDOWN, VM_SHARED
from rmaplab.objects.mm_types import MmStruct, VmArea


def take_for_fault(k: Kernel, mm: MmStruct, address: int, *, write: bool) -> Lock:
    """The lock under which a fault at `address` is handled. It is held then; the caller drops it."""
    locks = k.machine.locks
    if k.rules.vma_locks:
        vma = mm.find_vma(address)
        lock = _usable(k, vma, address, write=write)
        if vma is not None and lock is not None and locks.try_take(lock, write=False):
            if vma is mm.find_vma(address) and not is_write_locked(vma):
                return lock
            locks.drop(lock)
    locks.take(mm.mmap_sem, write=False)
    vma = mm.find_vma(address) if k.rules.stack_grows_under_write else None
    if vma is not None and vma.start > address and vma.flags & VM_GROWSDOWN:  # whoever waits for it looks again
        locks.drop(mm.mmap_sem)
        locks.take(mm.mmap_sem)
    return mm.mmap_sem


def _usable(k: Kernel, vma: VmArea | None, address: int, *, write: bool) -> Lock | None:
    if vma is None or vma.start > address or is_write_locked(vma):
        return None
    makes_anon_vma = write and not vma.flags & VM_SHARED and not k.design.vma_is_faulted(vma)
    return None if makes_anon_vma else vma.lock


def is_write_locked(vma: VmArea) -> bool:
    """Whether who holds mmap_sem for writing has said that it changes this VMA."""
    sem = vma.mm.mmap_sem
    return sem.writer is not None and vma.write_seq == sem.grants


def vma_start_write(k: Kernel, vma: VmArea) -> None:
    """The VMA is about to change: its faults are waited for, and new ones go by mmap_sem. Does nothing where VMAs have no locks."""
    if vma.lock is not None and not is_write_locked(vma):
        k.machine.locks.pass_through(vma.lock)
        vma.write_seq = vma.mm.mmap_sem.grants
