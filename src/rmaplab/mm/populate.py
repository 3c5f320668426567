"""Faulting in for a task what it has asked to have: MAP_POPULATE, MAP_LOCKED, mlock, MADV_POPULATE_*.

    may be written       a write to every page that is not there or not its own: COW is broken now, not later
    may be read          a read: the zero page, or what a fork has left
    neither              EFAULT
    VM_LOCKONFAULT       nothing: pages are locked as they come

Up to 2.6.33 MAP_POPULATE was sys_remap_file_pages, at the places where the pages are anyway: of shared files alone, and all of the mapping must
lie within the file. It was given mmap's protection, which it refuses, until 2.6.7: so it worked for PROT_NONE only (mm/rules.py, Populate).

Who asks, and what an error means there:
    mmap, mremap, brk, mlockall    errors are ignored: __mm_populate goes on with the next VMA
    mlock                          EFAULT is told as ENOMEM, no memory as EAGAIN; the VMAs stay locked
    madvise                        what may not be accessed is EINVAL, a guard region EFAULT, a hole or no memory ENOMEM

Source: 6.18 mm/gup.c, __mm_populate, populate_vma_page_range, faultin_page_range; 2.6.2 mm/mmap.c, do_mmap_pgoff, mm/fremap.c,
sys_remap_file_pages, install_page, mm/filemap.c, filemap_populate; files.md B6.
"""

import errno
from contextlib import suppress

from rmaplab.errors import NoMemory, SegmentationFault, SyscallError
from rmaplab.mm.fault import touch
from rmaplab.mm.kernel import Kernel, null_is_fine
from rmaplab.mm.nonlinear import populate
from rmaplab.objects.flags import VM_ACCESS, VM_LOCKED, VM_LOCKONFAULT, VM_READ, VM_SHARED, VM_WRITE
from rmaplab.objects.mm_types import MmStruct, VmArea


def writes(k: Kernel, vma: VmArea) -> bool:
    """Whether what is brought in for a task is written to: what may be written to, since 2.6.38 if it is private."""
    mask = VM_WRITE if k.rules.populate_dirties_shared else VM_WRITE | VM_SHARED
    return vma.flags & mask == VM_WRITE


def mm_populate(k: Kernel, mm: MmStruct, start: int, end: int, nonblock: bool | None = None) -> None:
    """Fault in [start, end) as far as it can be; what cannot is left to the task's own faults.

    With `nonblock` it is asked of remap_file_pages, of shared files; True: what is in the cache will do. What is locked is faulted in first.
    Raises NoMemory that is not `undone`: the call it is asked for has been done, and would wait here.
    """
    try:
        _populate(k, mm, start, end, nonblock)
    except NoMemory as failure:
        failure.undone = False
        raise


def _populate(k: Kernel, mm: MmStruct, start: int, end: int, nonblock: bool | None) -> None:
    for vma in mm.overlapping(start, end) if start < end else ():
        asked = nonblock is None or vma.flags & VM_LOCKED
        if asked and not vma.flags & VM_LOCKONFAULT and vma.flags & VM_ACCESS:
            with null_is_fine(), suppress(SegmentationFault):
                touch(k, mm, None, max(start, vma.start), min(end, vma.end), writes(k, vma))
        if nonblock is not None and vma.file is not None:
            first = max(start, vma.start)
            with null_is_fine(), suppress(SyscallError):
                populate(k, vma, first, min(end, vma.end), vma.index_of(first), nonblock=nonblock)


def populate_locked(k: Kernel, mm: MmStruct, start: int, end: int) -> None:
    """The second half of mlock. Raises SyscallError: ENOMEM (a VMA that may not be accessed), EAGAIN (no memory)."""
    for vma in mm.overlapping(start, end) if start < end else ():
        if vma.flags & VM_LOCKONFAULT:
            continue
        if not vma.flags & VM_ACCESS:
            raise SyscallError(errno.ENOMEM, "mlock", f"{vma} may not be accessed")
        try:
            touch(k, mm, None, max(start, vma.start), min(end, vma.end), writes(k, vma))
        except NoMemory as failure:
            raise failure.or_errno(errno.EAGAIN, "mlock", "no memory for its pages") from None
        except SegmentationFault as fault:
            raise SyscallError(errno.ENOMEM, "mlock", str(fault)) from None


def madvise_populate(k: Kernel, mm: MmStruct, start: int, end: int, write: bool) -> None:
    """MADV_POPULATE_READ and _WRITE. Raises SyscallError: EINVAL (not allowed there), ENOMEM (a hole, or no memory)."""
    for vma, address, stop in mm.stretches(start, end):
        if vma is None:
            raise SyscallError(errno.ENOMEM, "madvise", f"nothing is mapped at {address:#x}")
        if not vma.flags & (VM_WRITE if write else VM_READ):
            raise SyscallError(errno.EINVAL, "madvise", f"{vma} may not be accessed like that")
        try:
            touch(k, mm, None, address, stop, write)
        except NoMemory as failure:
            raise failure.or_errno(errno.ENOMEM, "madvise", "no memory for its pages") from None
        except SegmentationFault as fault:
            raise SyscallError(errno.EFAULT, "madvise", str(fault)) from None
