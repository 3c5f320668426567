"""remap_file_pages(2): pages of a file in any order, in a window that one VMA maps.

    2.6.2 to 3.19   entries are written, each for any page of the file; the VMA becomes VM_NONLINEAR and stays so (mm/nonlinear.py)
    since 4.0       the range is mapped anew, with MAP_FIXED: VMAs are split, and merge again when it is undone

    window     |[7][2][9][4]|     one VMA, 4 entries            |7 |2 |9 |4 |     four VMAs
               2004                                             today

All say EINVAL to a protection, to what is not shared and to a hole. In 2004 a VMA must cover all of it, to the byte, and show a file whose driver
knows how (->populate), and the file must reach so far; today VMAs of the same file and flags may follow each other, and a touch finds out where it ends.

Left out: that mmap_sem is only held for reading while pages come (downgrade_write).

Source: mm/fremap.c of 2.6.2, 2.6.7 and the -aa tree, sys_remap_file_pages; 6.18 mm/mmap.c, remap_file_pages; files.md B6, G11.
"""

import errno

from rmaplab.errors import KernelBug, NoMemory, SyscallError
from rmaplab.mm.file_rules import RemapPages
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.limits import can_do_mlock
from rmaplab.mm.mmap import do_mmap
from rmaplab.mm.nonlinear import CALL, has_populate, populate
from rmaplab.mm.open_file import fput, get_file
from rmaplab.objects.flags import (
    MAP_FIXED,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_POPULATE,
    MAP_SHARED,
    VM_ACCESS,
    VM_LOCKED,
    VM_NONLINEAR,
    VM_RESERVED,
    VM_SHARED,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct, Range, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE


def do_remap_file_pages(
    k: Kernel, mm: MmStruct, limits: Limits, address: int, length: int, prot: int, pgoff: int, flags: int
) -> tuple[None, tuple[int, ...] | None]:
    """[address, address + length), rounded down to pages, shows its file from page `pgoff` on: (nothing, what is to be faulted in next).

    Raises SyscallError: ENOSYS, EINVAL, ENOMEM; what precedes a page that cannot be had is done. EPERM, EAGAIN as mmap where it is one.
    """
    how, wraps_at = k.rules.remap_pages, k.machine.paging.wraps_at
    if how is RemapPages.UNKNOWN:
        raise SyscallError(errno.ENOSYS, CALL)
    if k.rules.remap_minds_mlock and not can_do_mlock(k, limits):
        raise SyscallError(errno.EPERM, CALL, "it is for those who may lock memory")
    start, size, pgoff = address & -PAGE_SIZE, length & -PAGE_SIZE, pgoff % wraps_at
    if prot or size <= 0 or start + size >= wraps_at or pgoff + (size >> PAGE_SHIFT) >= min(wraps_at, _most(k, how)):
        why = "it takes no protection" if prot else "less than a page" if size <= 0 else "it wraps"
        raise SyscallError(errno.EINVAL, CALL, why)
    vma = mm.find_vma(start)
    if vma is None or vma.start > start or not vma.flags & VM_SHARED:
        raise SyscallError(errno.EINVAL, CALL, f"nothing shared is mapped at {start:#x}")
    if how is RemapPages.MMAP:
        return None, _map_anew(k, mm, limits, vma, start, size, pgoff, flags)
    end = address + length  # not rounded
    if not start < end <= vma.end or not has_populate(vma):
        raise SyscallError(errno.EINVAL, CALL, f"{vma} does not cover it, or is of a device or a segment")
    if k.rules.remap_minds_cursor and vma.cursor and not vma.flags & VM_RESERVED:
        raise SyscallError(errno.EINVAL, CALL, f"reclaim has left a cursor in {vma}, and it is taken for a driver's")
    if pgoff != vma.index_of(start):
        _make_nonlinear(k, vma)
    try:
        populate(k, vma, start, start + size, pgoff, nonblock=bool(flags & MAP_NONBLOCK))
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOMEM, CALL) from None
    return None, None


def _most(k: Kernel, how: RemapPages) -> int:
    """The first page that no file entry can name; those of PAE can name more than a long counts, and nobody asks."""
    return 1 << (sum(field.nr for field in k.machine.encoding.pgoff) if how is not RemapPages.MMAP else 64)


def _make_nonlinear(k: Kernel, vma: VmArea) -> None:
    """VM_NONLINEAR, for good; and off its file's index, where such VMAs are kept apart."""
    if vma.flags & VM_NONLINEAR or vma.file is None:
        return
    mapping = vma.file.mapping
    mapping.has_nonlinear = True
    if not k.rules.nonlinear_apart:
        vma.flags |= VM_NONLINEAR
        return
    k.machine.locks.enter(mapping.lock)
    mapping.i_mmap.unlink(vma)
    vma.flags |= VM_NONLINEAR
    mapping.i_mmap.link(vma)
    k.machine.locks.leave(mapping.lock)


def _map_anew(
    k: Kernel, mm: MmStruct, limits: Limits, vma: VmArea, start: int, size: int, pgoff: int, flags: int
) -> tuple[int, ...] | None:
    """As mmap of the same file with MAP_FIXED, protection and VM_LOCKED of what is there. Raises SyscallError."""
    covered: Range = (vma.start, vma.end)
    for each in mm.overlapping(start, start + size):
        if each is not vma and (each.start != covered[1] or each.file is not vma.file or each.flags != vma.flags):
            raise SyscallError(errno.EINVAL, CALL, f"what {vma} shows does not go on at {covered[1]:#x}")
        covered = (vma.start, each.end)
    if covered[1] < start + size:
        raise SyscallError(errno.EINVAL, CALL, f"nothing is mapped at {covered[1]:#x}")
    flags = flags & MAP_NONBLOCK | MAP_SHARED | MAP_FIXED | MAP_POPULATE
    flags |= MAP_LOCKED if vma.flags & VM_LOCKED else 0
    if vma.file is None:
        raise KernelBug("remap_file_pages", f"{vma} is shared, and shows no file")
    file = get_file(vma.file)  # what is unmapped may be the last that shows it
    try:
        return do_mmap(k, mm, limits, start, size, vma.flags & VM_ACCESS, flags, file, pgoff)[1]
    except SyscallError as failure:
        raise SyscallError(failure.errno or 0, CALL, failure.why) from None
    finally:
        fput(k, file)
