"""Two questions about a range: what of it is in memory (mincore), and has it been written back (msync).

Source: mm/mincore.c and mm/msync.c of 2.6.2 and 6.18. Up to 2.6.2 mincore knows files only.
"""

import errno

import numpy as np

from rmaplab.errors import SyscallError
from rmaplab.machine.pagetable_edit import resident
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import MS_ASYNC, MS_INVALIDATE, MS_SYNC, VM_LOCKED
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align


def do_mincore(k: Kernel, mm: MmStruct, start: int, length: int) -> list[bool]:
    """For every page of the range whether it has an entry; the zero page counts. Raises SyscallError: EINVAL, ENOMEM (a hole)."""
    if start % PAGE_SIZE:
        raise SyscallError(errno.EINVAL, "mincore")
    end = start + page_align(length)
    if not 0 <= start <= end <= k.machine.paging.task_size:
        raise SyscallError(errno.ENOMEM, "mincore", "beyond the end of the address space")
    answer: list[bool] = []
    address = start
    while address < end:
        vma = mm.find_vma(address)
        if vma is None or vma.start > address or not k.rules.mincore_knows_anonymous:
            raise SyscallError(errno.ENOMEM, "mincore", f"nothing is mapped at {address:#x}, or nothing that it knows")
        stop = k.burst_end(address, min(end, vma.end))
        there = np.empty((stop - address) >> PAGE_SHIFT, np.bool_)
        resident(*k.machine.geometry, mm.pgd, k.machine.mapped, address, stop, there)
        answer += there.tolist()
        address = stop
    return answer


def do_msync(k: Kernel, mm: MmStruct, start: int, length: int, flags: int) -> None:
    """Nothing to write in private anonymous memory. Raises SyscallError: EINVAL, EBUSY (locked and MS_INVALIDATE), ENOMEM (a hole)."""
    both = MS_ASYNC | MS_SYNC
    if flags & ~(both | MS_INVALIDATE) or start % PAGE_SIZE or flags & both == both:
        raise SyscallError(errno.EINVAL, "msync")
    end = start + page_align(length) % k.machine.paging.wraps_at
    if end >= k.machine.paging.wraps_at:
        raise SyscallError(errno.ENOMEM, "msync", "the range wraps")
    hole = False
    for vma, _, _ in mm.stretches(start, end):
        hole |= vma is None
        if vma is not None and flags & MS_INVALIDATE and vma.flags & VM_LOCKED:
            raise SyscallError(errno.EBUSY, "msync", f"{vma} is locked")
    if hole:
        raise SyscallError(errno.ENOMEM, "msync", "a part of the range is not mapped")
