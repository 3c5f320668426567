"""fallocate and MADV_REMOVE: a file gets pages before anybody has touched them, or loses some from its middle.

    0, KEEP_SIZE              pages that are not there come into the cache; zeros nobody has asked for are not uptodate until somebody does.
                              KEEP_SIZE: they may lie behind the end, until the file is cut or grows over them
    PUNCH_HOLE | KEEP_SIZE    |..xxxx|xxxxxx|xxxx..|    whole pages are unmapped and go, of those at the ends a part is zeros

What fallocate cannot have it does not leave behind: pages of the range go that nobody has used. Private copies of what is punched out stay; up to 3.0
(MADV_REMOVE by vmtruncate_range) they were lost.

Source: 6.18 fs/open.c, vfs_fallocate; mm/shmem.c, shmem_fallocate, shmem_undo_range; 2.6.34 mm/truncate.c, vmtruncate_range; files.md D2, G10.
"""

import errno
from contextlib import suppress

import numpy as np

from rmaplab.errors import DiskError, NoMemory, NoSpace, NotModelled, SyscallError
from rmaplab.machine.frames import PG_DIRTY, PG_NOT_UPTODATE
from rmaplab.mm.dev_zero import is_dev_zero
from rmaplab.mm.file_io import LAST, max_bytes
from rmaplab.mm.kernel import Kernel, null_is_fine
from rmaplab.mm.page_read import absent, add_new
from rmaplab.mm.shmem_page import uncharge
from rmaplab.mm.shmem_swap import bring_back, free_slots, recalc_inode
from rmaplab.mm.truncate import remove_pages, unmap_mapping_range
from rmaplab.objects.flags import (
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE,
    FALLOC_FL_WRITE_ZEROES,
    FALLOC_FL_ZERO_RANGE,
)
from rmaplab.objects.mm_types import AddressSpace, File
from rmaplab.objects.seals import refuse_growth_to, refuse_writing
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KEEPING = (0, FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE)
"""Modes that go with KEEP_SIZE; punching goes with nothing else."""
SHIFTING = (FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_WRITE_ZEROES)
PIECE = 512
"""Pages that are asked for at once."""


def vfs_fallocate(k: Kernel, opened: File, mode: int, offset: int, length: int) -> None:
    """fallocate(2). Raises SyscallError: EINVAL, EOPNOTSUPP, EBADF, ENODEV, EFBIG, EPERM; NoSpace, and as an allocation; NotModelled: a file on a disk."""
    kind, keep, file = mode & ~FALLOC_FL_KEEP_SIZE, bool(mode & FALLOC_FL_KEEP_SIZE), opened.mapping
    if offset < 0 or length <= 0:
        raise SyscallError(errno.EINVAL, "fallocate")
    if kind not in (SHIFTING if not keep else ()) + KEEPING or (kind == FALLOC_FL_PUNCH_HOLE and not keep):
        raise SyscallError(errno.EOPNOTSUPP, "fallocate", "PUNCH_HOLE needs KEEP_SIZE, other modes do not go together")
    if not opened.writable:
        raise SyscallError(errno.EBADF, "fallocate", "the file was not opened for writing")
    if is_dev_zero(k, opened):
        raise SyscallError(errno.ENODEV, "fallocate")
    if offset + length > max_bytes(k, on_disk=file.on_disk):
        raise SyscallError(errno.EFBIG, "fallocate")
    if file.shmem is None:
        raise NotModelled("fallocate of a file on a disk is not modelled: take one on tmpfs")
    if kind not in (0, FALLOC_FL_PUNCH_HOLE):
        raise SyscallError(errno.EOPNOTSUPP, "fallocate", "not on tmpfs")
    if kind:
        refuse_writing(file, "fallocate")
        punch(k, file, offset, offset + length)
        return
    refuse_growth_to(file, offset + length, "fallocate")
    _allocate(k, file, offset >> PAGE_SHIFT, -(-(offset + length) // PAGE_SIZE))
    if not keep and offset + length > file.size:
        file.size = offset + length
    k.machine.end_burst()


def _allocate(k: Kernel, file: AddressSpace, first: int, last: int) -> None:
    """Pages [first, last). Raises NoSpace, and as an allocation: then those that nobody has used are gone."""
    info, flags = file.shmem, k.machine.frames.flags
    before = info.fallocend if info is not None else 0
    if info is not None:
        info.fallocend = max(before, last)
    size = 1 if k.machine.allocator.fail_after is not None or k.machine.watched else PIECE
    at = first
    try:
        while at < last:
            try:
                at = _piece(k, file, at, min(at + size, last))
            except (NoMemory, NoSpace):
                if size == 1:
                    raise
                size = 1
    except (NoMemory, NoSpace):
        indexes, pfns = file.pages.within(first, at - 1)
        for index in indexes[flags[pfns] & PG_NOT_UPTODATE != 0].tolist():
            if index not in file.store:
                remove_pages(k, file, index, index)
        if info is not None:
            info.fallocend = before
        raise


def _piece(k: Kernel, file: AddressSpace, first: int, last: int) -> int:
    """Those of [first, last) that are not there are, and all are dirty; what an earlier fallocate has brought is zeros from now on. Returns `last`."""
    flags, (indexes, pfns) = k.machine.frames.flags, file.pages.within(first, last - 1)
    unused = flags[pfns] & PG_NOT_UPTODATE != 0
    for index, page in zip(indexes[unused].tolist(), pfns[unused].tolist(), strict=True):
        k.page_cache.read(file, index, page)
    _, new = add_new(k, file, absent(file, first, last), extends=True)
    flags[new] |= np.uint32(PG_NOT_UPTODATE)
    flags[file.pages.within(first, last - 1)[1]] |= np.uint32(PG_DIRTY)
    return last


def punch(k: Kernel, file: AddressSpace, start: int, end: int) -> None:
    """shmem_fallocate with PUNCH_HOLE: the bytes [start, end) are zeros, and whole pages of them are not there any more."""
    first, last = -(-start // PAGE_SIZE), end // PAGE_SIZE
    if first < last:
        unmap_mapping_range(k, file, first, last - 1, copies=k.rules.punch_loses_copies)
        for index in [index for index in file.store if first <= index < last]:
            uncharge(k, file, index not in file.pages)
            del file.store[index]
        remove_pages(k, file, first, last - 1)
        file.dropped += free_slots(k, file, first, last - 1)
        recalc_inode(k, file)
    elif not last:  # what lies within page 0 ends at -1, compared unsigned: whatever is mapped from `first` on goes
        unmap_mapping_range(k, file, first, LAST, copies=False)
    for low, high in ((start, min(end, first * PAGE_SIZE)), (max(start, last * PAGE_SIZE, first * PAGE_SIZE), end)):
        if low < high:
            _zero(k, file, low, high)
    if first < last and k.rules.punch_loses_copies:
        unmap_mapping_range(k, file, first, last - 1, copies=True)
    k.machine.end_burst()


def _zero(k: Kernel, file: AddressSpace, start: int, end: int) -> None:
    """Bytes within one page, if that is there."""
    index, offset = divmod(start, PAGE_SIZE)
    stop = end - index * PAGE_SIZE
    with suppress(DiskError), null_is_fine():
        bring_back(k, file, index)
    if (page := file.pages.get(index)) is not None:
        k.machine.ram.bytes[page, offset:stop] = 0
        k.machine.frames.flags[page] |= np.uint32(PG_DIRTY)
    if index in file.store:
        store = file.store[index]
        file.store[index] = store[:offset] + bytes(stop - offset) + store[stop:]
