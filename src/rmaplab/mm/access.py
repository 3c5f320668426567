"""What a task's instructions do: loads and stores, bytes in and out of its address space, and their own fetches, with the faults that they meet.

    touch a stretch  ->  are all its entries there?  ->  bytes         what somebody took away again meanwhile is touched again

Pages before a bad address are read, written or run, as a program would.

The kernel reads and writes for a task, too (copy_from_user, copy_to_user): its faults are the task's, but for how a bad one ends. Nobody gets a signal; what
comes before is copied.

A fetch is a read to the page tables and to do_page_fault, but for the NX bit of the entry, which is there where vm_flags have no VM_EXEC, if the
format and the kernel know it. So a page that may not be run is faulted in first, as by a read; the fetch that is tried again is refused.

Source: 6.18 lib/usercopy.c, arch/x86/mm/fault.c, kernelmode_fixup_or_oops; 2.6.2 arch/i386/mm/fault.c, do_page_fault (no_context), from memory.
Fetches: for 6.18 the host (tests/host/test_execute.py); for 2.4 and 2.6.2 on x86-64, arch/x86_64/mm/fault.c, do_page_fault, from memory.
"""

import errno
from collections.abc import Iterator

import numpy as np

from rmaplab.errors import NoMemory, SegmentationFault, SyscallError
from rmaplab.machine.arrays import I64
from rmaplab.machine.entries import PRESENT, RW
from rmaplab.machine.pagetable_edit import read_entries
from rmaplab.mm.fault import touch
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_EXEC
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

WINDOW = 1 << 20
"""Bytes that are touched together before they are copied. What is not copied at once may be on its way to swap."""


def read_bytes(k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int) -> bytes:
    """The bytes a task sees at [start, start + length), faulting as it reads."""
    parts: list[bytes] = []
    done, window = 0, WINDOW
    while done < length:
        address = start + done
        stop = _stop(start, done, length, window)
        touch(k, mm, limits, address, start + stop, write=False)
        pfns = _pfns(k, mm, address, stop - done, PRESENT)
        first = address & (PAGE_SIZE - 1)
        part = k.machine.ram.bytes[pfns].reshape(-1)[first : first + stop - done].tobytes()
        parts.append(part)
        done += len(part)
        window = WINDOW if part else window >> 1
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_bytes(k: Kernel, mm: MmStruct, limits: Limits, start: int, data: bytes) -> None:
    """Store `data` at `start`, faulting as it writes."""
    done, window = 0, WINDOW
    while done < len(data):
        stop = _stop(start, done, len(data), window)
        try:
            touch(k, mm, limits, start + done, start + stop, write=True)
        except SegmentationFault as fault:
            _store(k, mm, start + done, data[done : max(done, fault.address - start)])
            raise
        stored = _store(k, mm, start + done, data[done:stop])
        done += stored
        window = WINDOW if stored else window >> 1


def _stop(start: int, done: int, length: int, window: int) -> int:
    """Where a round ends that begins at start + done, counted from `start`. What is touched together may never be there together: who got nowhere tries less, a page at last."""
    page_end = ((start + done) & -PAGE_SIZE) + PAGE_SIZE - start
    return min(length, max(done + window, page_end))


def execute(k: Kernel, mm: MmStruct, limits: Limits, start: int, end: int) -> None:
    """Fetch an instruction from every page of [start, end). Raises SegmentationFault at the first that may not be run; those before it are run."""
    while start < end:
        vma = mm.find_vma(start)
        if vma is None or vma.start > start:
            touch(k, mm, limits, start, start + 1, write=False)  # a fault: the stack grows, or nothing is there
        elif k.rules.knows_nx and not vma.flags & VM_EXEC:
            touch(k, mm, limits, start, start + 1, write=False)
            raise SegmentationFault(start, f"fetch from {vma}, which is not executable", "ACCERR")
        else:
            stop = min(end, vma.end)
            touch(k, mm, limits, start, stop, write=False)
            start = stop


def copy_from_user(k: Kernel, mm: MmStruct, limits: Limits, start: int, length: int) -> bytes:
    """What the kernel reads for a task at [start, start + length), up to the first byte that it may not. Raises SyscallError: EFAULT (nothing)."""
    parts = list[bytes]()
    for address, nr in _user_pages(k, start, length):
        try:
            parts.append(read_bytes(k, mm, limits, address, nr))
        except (SegmentationFault, NoMemory) as failure:
            _stop_copying(failure, address > start)
            break
    return b"".join(parts)


def copy_to_user(k: Kernel, mm: MmStruct, limits: Limits, start: int, data: bytes) -> int:
    """The kernel writes `data` for a task: how many bytes, up to the first that it may not. Raises SyscallError: EFAULT (none)."""
    for address, nr in _user_pages(k, start, len(data)):
        try:
            write_bytes(k, mm, limits, address, data[address - start : address - start + nr])
        except (SegmentationFault, NoMemory) as failure:
            _stop_copying(failure, address > start)
            return address - start
    return len(data)


def check_copy(k: Kernel, start: int, length: int) -> None:
    """access_ok: what is no user memory is not even tried. Raises SyscallError: EFAULT, EINVAL (a length that has no sign on older kernels)."""
    paging = k.machine.paging
    if k.rules.copy_checks_length_first and length >= paging.wraps_at >> 1:
        raise SyscallError(errno.EINVAL, "copy", "a length with a sign")
    if start < 0 or start + length > paging.task_size:
        raise SyscallError(errno.EFAULT, "copy", "no user memory")


def _user_pages(k: Kernel, start: int, length: int) -> Iterator[tuple[int, int]]:
    """(address, bytes) of the part of [start, start + length) in each page. Raises as check_copy."""
    check_copy(k, start, length)
    address, end = start, start + length
    while address < end:
        stop = min(end, (address & -PAGE_SIZE) + PAGE_SIZE)
        yield address, stop - address
        address = stop


def _stop_copying(failure: SegmentationFault | NoMemory, some: bool) -> None:
    """The fault is fixed up: the copy ends there."""
    if isinstance(failure, NoMemory) and failure.waiting_helps:
        raise failure
    if not some:
        raise SyscallError(errno.EFAULT, "copy", str(failure)) from None


def _store(k: Kernel, mm: MmStruct, start: int, data: bytes) -> int:
    """Bytes stored: less than all if an entry that was touched is gone."""
    if not data:
        return 0
    ram = k.machine.ram.bytes
    pfns = _pfns(k, mm, start, len(data), PRESENT | RW)
    first = start & (PAGE_SIZE - 1)
    stored = min(len(data), max(pfns.size * PAGE_SIZE - first, 0))
    pages = ram[pfns]
    pages.reshape(-1)[first : first + stored] = np.frombuffer(data, np.uint8)[:stored]
    ram[pfns] = pages
    k.machine.wrote(pfns)
    return stored


def _pfns(k: Kernel, mm: MmStruct, start: int, length: int, need: int) -> I64:
    """The frames of a stretch that has just been touched, up to the first entry that lacks one of the bits `need`."""
    first, end = start & -PAGE_SIZE, (start + length + PAGE_SIZE - 1) & -PAGE_SIZE
    pfns = np.empty((end - first) >> PAGE_SHIFT, np.int64)
    return pfns[: read_entries(*k.machine.geometry, mm.pgd, need, first, pfns)]
