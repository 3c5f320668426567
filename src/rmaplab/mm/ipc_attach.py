"""shmat and shmdt: a segment is mapped, and unmapped again, perhaps in parts.

    shmat    its VMA shows the segment's struct file; since 2.6.34 one of its own, opened as it is attached
    shmdt    the VMAs that lie as they would if the segment began there    |0 1|--|3 4 5 6 7|  ^ address     --: unmapped, or moved away

Source: ipc/shm.c, sys_shmat, do_shmat, sys_shmdt, ksys_shmdt of 2.4.27, 2.6.2, 2.6.7, 2.6.34 and 6.18; files.md F2.
"""

import errno
from collections.abc import Iterator

from rmaplab.errors import NoMemory, SyscallError, as_errno
from rmaplab.mm.ipc_shm import ShmAttach, check_permission, detach, find_segment
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.mmap import do_mmap
from rmaplab.mm.munmap import do_munmap
from rmaplab.mm.open_file import fput, get_file, open_file
from rmaplab.objects.flags import (
    MAP_FIXED,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    S_IRUGO,
    S_IWUGO,
    S_IXUGO,
    SHM_EXEC,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
)
from rmaplab.objects.ipc import ShmSegment
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import File, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

STACK_GAP = 5 * PAGE_SIZE


def do_shmat(
    k: Kernel, mm: MmStruct, limits: Limits, shmid: int, address: int, flags: int
) -> tuple[int, tuple[int, ...] | None]:
    """Attach a segment, at `address` if that is not 0: (where it is, what mm_populate is to do next). It takes mmap_sem itself.

    Raises SyscallError: EINVAL, EIDRM, EACCES, ENOMEM, as mmap; NoMemory.
    """
    if shmid < 0:
        raise SyscallError(errno.EINVAL, "shmat")
    anywhere, address = not address, _place(k, address, flags)
    prot, mode = (PROT_READ, S_IRUGO) if flags & SHM_RDONLY else (PROT_READ | PROT_WRITE, S_IRUGO | S_IWUGO)
    if flags & SHM_EXEC and k.rules.shm_exec_known:
        prot, mode = prot | PROT_EXEC, mode | S_IXUGO
    segment = find_segment(k, shmid, "shmat")
    check_permission(segment, limits, mode, "shmat")
    segment.nattch += 1  # so that nobody destroys it
    try:
        file = get_file(_open_attach(k, segment, writable=not flags & SHM_RDONLY))
        k.machine.locks.take(mm.mmap_sem)
        try:
            if not anywhere and not flags & SHM_REMAP:
                _check_place(k, mm, address, segment.size)
            fixed = 0 if anywhere else MAP_FIXED
            return do_mmap(k, mm, limits, address, segment.size, prot, MAP_SHARED | fixed, file)
        finally:
            k.machine.locks.drop(mm.mmap_sem)
            fput(k, file)
    except SyscallError as failure:
        raise SyscallError(failure.errno or 0, "shmat", failure.why) from None
    finally:
        detach(k, segment)


def _place(k: Kernel, address: int, flags: int) -> int:
    """Where it is to be attached; 0: anywhere."""
    address %= k.machine.paging.wraps_at
    rounded = address & -PAGE_SIZE
    if address != rounded and not flags & SHM_RND:
        raise SyscallError(errno.EINVAL, "shmat", "the address is no page's, and SHM_RND is not given")
    if flags & SHM_REMAP and not (address if k.rules.shmat_remaps_nil else rounded):
        raise SyscallError(errno.EINVAL, "shmat", "SHM_REMAP needs an address")
    return rounded


def _check_place(k: Kernel, mm: MmStruct, address: int, size: int) -> None:
    """Raises SyscallError(EINVAL). A program's stack would begin at the end of the address space."""
    wraps = address + size >= k.machine.paging.wraps_at
    if wraps and k.rules.shmat_refuses_wrap:
        raise SyscallError(errno.EINVAL, "shmat", "beyond all addresses")
    if not wraps and mm.overlapping(address, address + size):
        raise SyscallError(errno.EINVAL, "shmat", "something is mapped there, and SHM_REMAP is not given")
    stack = k.machine.paging.task_size
    if k.rules.shmat_minds_stack and stack - size - STACK_GAP < address < stack:
        raise SyscallError(errno.EINVAL, "shmat", "too near to the stack")


def _open_attach(k: Kernel, segment: ShmSegment, *, writable: bool) -> File:
    """The struct file that the VMA is to show. Raises SyscallError(ENOMEM), NoMemory."""
    if k.shm_file_data_cache is None:
        return segment.file
    base = get_file(segment.file)
    try:
        address = k.shm_file_data_cache.alloc()
        try:
            file = open_file(k, base.mapping, readable=True, writable=writable)
        except (NoMemory, SyscallError):
            k.shm_file_data_cache.free(address)
            raise
    except (NoMemory, SyscallError) as failure:
        fput(k, base)
        raise as_errno(failure, errno.ENOMEM, "shmat") from None
    file.ops = ShmAttach(k, segment, base, address)
    return file


def do_shmdt(k: Kernel, mm: MmStruct, address: int) -> None:
    """Detach the segment that was attached at `address`. Raises SyscallError(EINVAL)."""
    address %= k.machine.paging.wraps_at
    if address % PAGE_SIZE and not (k.rules.shmdt_rounds_down or k.rules.shmdt_takes_all):
        raise SyscallError(errno.EINVAL, "shmdt", "the address is no page's")
    parts = _every_part if k.rules.shmdt_takes_all else _parts
    found = False
    for vma in parts(k, mm, address):
        found = True
        try:
            do_munmap(k, mm, vma.start, vma.end - vma.start, "shmdt")
        except SyscallError:  # nobody looks
            continue
    if not found:
        raise SyscallError(errno.EINVAL, "shmdt", f"no segment is attached at {address:#x}")


def _every_part(k: Kernel, mm: MmStruct, address: int) -> Iterator[VmArea]:
    """2.4: VMAs of segments whose page 0 would lie at `address`."""
    wraps_at = k.machine.paging.wraps_at
    for vma in list(mm.vmas):
        if isinstance(vma.ops, ShmAttach) and (vma.start - (vma.pgoff << PAGE_SHIFT)) % wraps_at == address:
            yield vma


def _parts(k: Kernel, mm: MmStruct, address: int) -> Iterator[VmArea]:
    """Since 2.6: the first of those behind `address`, wherever it is, and such of the next as lie within that segment's size."""
    wraps_at, size, file = k.machine.paging.wraps_at, None, None
    for vma in mm.overlapping(address, k.machine.paging.task_size):
        if size is not None and vma.end - address > size:
            return
        lies_so = ((vma.start - address) % wraps_at) >> PAGE_SHIFT == vma.pgoff
        if not isinstance(vma.ops, ShmAttach) or not lies_so:
            continue
        if size is None:
            size, file = vma.ops.segment.size, vma.file
            size = size if k.rules.shmdt_forgets_part_page else page_align(size)
        elif k.rules.shmdt_minds_file and vma.file is not file:
            continue
        yield vma
