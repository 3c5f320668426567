"""What a task may map at most: RLIMIT_AS, and RLIMIT_DATA.

    RLIMIT_AS      pages of all VMAs
    RLIMIT_DATA    up to 4.6      the heap alone: the break minus where it began
                   since 4.7      ... and pages of all VMAs that are data: private, writable, not growing down

A limit of 0 for data is none: valgrind sets it (the hard limit, which is not here, would count). A program's own data is not here.

Source: 6.18 mm/mmap.c, may_expand_vm, brk; include/linux/mm.h, check_data_rlimit; mm/internal.h, is_data_mapping; 2.4.27, 2.6.34 mm/mmap.c, sys_brk.
"""

import errno

from rmaplab.errors import SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import VM_GROWSDOWN, VM_SHARED, VM_WRITE
from rmaplab.objects.limits import RLIM_INFINITY, Limits
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT


def check_expand_vm(
    k: Kernel, mm: MmStruct, limits: Limits, flags: int, nr_pages: int, call: str, *, lost: int = 0
) -> None:
    """SyscallError(ENOMEM) unless may_expand_vm."""
    if why := _too_much(k, mm, limits, flags, nr_pages, lost):
        raise SyscallError(errno.ENOMEM, call, why)


def may_expand_vm(k: Kernel, mm: MmStruct, limits: Limits, flags: int, nr_pages: int) -> bool:
    """Whether `nr_pages` more with these vm_flags stay within the limits. O(VMAs) under RLIMIT_DATA."""
    return not _too_much(k, mm, limits, flags, nr_pages, 0)


def _too_much(k: Kernel, mm: MmStruct, limits: Limits, flags: int, nr_pages: int, lost: int) -> str:
    """Which limit `nr_pages` more are beyond, where `lost` others go; "" if none."""
    total, most = mm.total_vm - lost + nr_pages, limits.address_space >> PAGE_SHIFT
    if total > most:
        return f"{total:,} pages would be mapped, more than RLIMIT_AS: {most:,}"
    if not k.rules.data_limits_mappings or limits.data in (0, RLIM_INFINITY) or not _is_data(flags):
        return ""
    total, most = (
        sum(vma.nr_pages for vma in mm.vmas if _is_data(vma.flags)) - lost + nr_pages,
        limits.data >> PAGE_SHIFT,
    )
    return f"{total:,} pages of data would be mapped, more than RLIMIT_DATA: {most:,}" if total > most else ""


def break_is_limited(mm: MmStruct, limits: Limits, address: int) -> bool:
    """Whether RLIMIT_DATA forbids a break at `address`. Here 0 is a limit like others."""
    return address - mm.start_brk > limits.data


def _is_data(flags: int) -> bool:
    return flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE


def can_do_mlock(k: Kernel, limits: Limits) -> bool:
    """Whether nobody minds that a task locks memory, RLIMIT_MEMLOCK aside: CAP_IPC_LOCK, or vm.disable_cap_mlock."""
    return limits.may_lock or k.rules.cap_mlock_disabled
