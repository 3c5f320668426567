"""mseal: a range whose mappings nobody changes any more, not even who owns them. There is no way back but exec and exit.

    before    |--------- A ----------|
    mseal           |--------|
    after     |--A--|- sealed -|--A--|     split and merged as by other flags; a hole anywhere, and nothing is sealed

What is refused then, with EPERM, and in what order:
    munmap, mmap over it, mremap to it     at the first sealed VMA; what sticks out before it may have been cut already
    mprotect                               at the first sealed VMA; those before it are changed. Even if nothing would change
    mremap of it                           before lengths are looked at
    madvise that throws pages away         where it may not be written, so that nobody gets zeros in this way

mlock, other advice, faults, fork and stacks that grow do not ask.

Source: 6.18 mm/mseal.c, do_mseal, mseal_apply; mm/vma.c, vms_gather_munmap_vmas; mm/madvise.c, can_madvise_modify, is_discard; mm/mprotect.c,
mprotect_fixup; mm/mremap.c, check_prep_vma.
"""

import errno

from rmaplab.errors import NoMemory, SyscallError
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.merge import vma_modify
from rmaplab.objects.flags import (
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_REMOVE,
    MADV_WIPEONFORK,
    VM_SEALED,
    VM_WRITE,
)
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SIZE, page_align

DISCARDS = (
    MADV_FREE, MADV_DONTNEED, MADV_DONTNEED_LOCKED, MADV_REMOVE, MADV_DONTFORK, MADV_WIPEONFORK, MADV_GUARD_INSTALL,
)  # fmt: skip


def do_mseal(k: Kernel, mm: MmStruct, start: int, length: int, flags: int) -> None:
    """Seal a range. Raises SyscallError: EINVAL (flags, alignment, a range that wraps), ENOMEM (a hole: nothing is done; no VMA)."""
    end = start + page_align(length)
    if flags or start % PAGE_SIZE or length < 0 or end >= k.machine.paging.wraps_at:
        raise SyscallError(errno.EINVAL, "mseal")
    if any(vma is None for vma, _, _ in mm.stretches(start, end)):
        raise SyscallError(errno.ENOMEM, "mseal", "a part of the range is not mapped")
    for vma, address, stop in mm.stretches(start, end):
        if vma is None or vma.flags & VM_SEALED:
            continue
        try:
            vma_modify(k, vma, address, stop, vma.flags | VM_SEALED, "mseal")
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, "mseal", "no memory for a VMA") from None


def refuse_sealed(vma: VmArea, call: str) -> None:
    """Raises SyscallError(EPERM) for a sealed VMA."""
    if vma.flags & VM_SEALED:
        raise SyscallError(errno.EPERM, call, f"{vma} is sealed")


def refuse_discard(vma: VmArea, advice: int) -> None:
    """Raises SyscallError(EPERM) where advice would throw away what is sealed and may not be written."""
    if advice in DISCARDS and not vma.flags & VM_WRITE and vma.file is None:
        refuse_sealed(vma, "madvise")
