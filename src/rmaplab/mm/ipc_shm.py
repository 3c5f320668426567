"""System V shared memory: a segment is an object of mm/shmem.py with an id, and perhaps a key; a program attaches it (ipc_attach.py).

    shmget   key ---+
                    +--> segment --> struct file --> inode: its pages, charged by its size
    shmat    id ----+       nattch: VMAs that show it      up to 2.6.7 all of them through that file; later each attach has one of its own
    shmdt, munmap, exit     nattch - 1 for each VMA that goes, + 1 for each part of one, fork's child, old length of 0
    IPC_RMID                nobody is attached: it is gone. Else SHM_DEST: no key any more, still attached by id, gone with the last

vm_ops->open and close count; so no VMA of a segment that merges may go (mm/merge.py). A struct file that all attaches share is open for writing, whatever
they have asked for: mprotect makes an SHM_RDONLY attach writable.

Left out: groups; IPC_SET; times and pids; huge pages; the memory of the table of ids; kernel.shmall and shmmni (the box has the defaults).

Source: 2.4.27, 2.6.2, 2.6.7, 2.6.34 and 6.18 ipc/shm.c, newseg, sys_shmget, sys_shmctl, shm_open, shm_close, shm_destroy;
ipc/util.c, ipcperms; files.md F2.
"""

import errno
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from rmaplab.errors import KernelBug, NoMemory, NotModelled, SyscallError, as_errno
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.limits import can_do_mlock
from rmaplab.mm.open_file import fput, get_file
from rmaplab.mm.shmem import shmem_file_setup
from rmaplab.objects.flags import (
    IPC_CREAT,
    IPC_EXCL,
    IPC_INFO,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    S_IRUGO,
    S_IRWXUGO,
    SHM_DEST,
    SHM_HUGETLB,
    SHM_INFO,
    SHM_LOCK,
    SHM_LOCKED,
    SHM_NORESERVE,
    SHM_STAT,
    SHM_STAT_ANY,
    SHM_UNLOCK,
)
from rmaplab.objects.ipc import ShmSegment
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import File, MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, page_align


class ShmStat(NamedTuple):
    """What IPC_STAT says: `size` in bytes, `mode` with SHM_DEST and SHM_LOCKED, `nattch` VMAs."""

    key: int
    size: int
    mode: int
    nattch: int


class ShmAttach:
    """What a struct file of a segment does: shm_file_operations, and shm_vm_ops for the VMAs that show it.

    `base` is the segment's own struct file where this is another (struct shm_file_data, at `address`).
    """

    chooses_addresses: ClassVar[bool] = True

    def __init__(self, k: Kernel, segment: ShmSegment, base: File | None = None, address: int = 0) -> None:
        self._k, self.segment = k, segment
        self.base, self.address = base, address

    def mmap(self, vma: VmArea) -> None:
        """shm_mmap. Raises SyscallError: EINVAL, of a segment that has gone."""
        if not self._k.shm.has(self.segment):
            raise SyscallError(errno.EINVAL, "mmap", "the segment has been removed")
        vma.ops = self
        self.open(vma)

    def open(self, vma: VmArea) -> None:
        """shm_open."""
        del vma
        self.segment.nattch += 1

    def close(self, vma: VmArea) -> None:
        """shm_close."""
        del vma
        detach(self._k, self.segment)

    def release(self) -> None:
        """shm_release."""
        if self.base is not None and self._k.shm_file_data_cache is not None:
            fput(self._k, self.base)
            self._k.shm_file_data_cache.free(self.address)


# -- shmget ------------------------------------------------------------------------------------------------------------


def do_shmget(k: Kernel, limits: Limits, key: int, size: int, flags: int) -> int:
    """The id of the segment with that key, or of a new one of `size` bytes.

    Raises SyscallError: EINVAL, EEXIST, ENOENT, EACCES, ENOSPC, ENOMEM, ENFILE; NoMemory.
    """
    size %= k.machine.paging.wraps_at
    if flags & SHM_HUGETLB and k.rules.commit_is_accounted:
        raise NotModelled("shmget with SHM_HUGETLB: huge pages are not modelled, leave it out")
    k.machine.locks.take(k.shm.lock)
    try:
        segment = None if key == IPC_PRIVATE else k.shm.with_key(key)
        if segment is None:
            if key != IPC_PRIVATE and not flags & IPC_CREAT:
                raise SyscallError(errno.ENOENT, "shmget", "no segment has that key")
            return _new_segment(k, limits, key, size, flags).id
        if flags & IPC_CREAT and flags & IPC_EXCL:
            raise SyscallError(errno.EEXIST, "shmget")
        if segment.size < size:
            raise SyscallError(errno.EINVAL, "shmget", f"the segment has {segment.size:,} bytes")
        check_permission(segment, limits, flags, "shmget")
        return segment.id
    finally:
        k.machine.locks.drop(k.shm.lock)


def _new_segment(k: Kernel, limits: Limits, key: int, size: int, flags: int) -> ShmSegment:
    """What newseg does."""
    rules = k.rules
    if not 1 <= size <= rules.shm_max_bytes:
        raise SyscallError(errno.EINVAL, "shmget", f"a segment has 1 to {rules.shm_max_bytes:,} bytes (SHMMAX)")
    pages = k.shm.nr_pages + (page_align(size) >> PAGE_SHIFT)
    if pages > rules.shm_max_pages or (pages == rules.shm_max_pages and not rules.shm_reaches_max_pages):
        raise SyscallError(errno.ENOSPC, "shmget", f"all segments may have {rules.shm_max_pages:,} pages (SHMALL)")
    try:
        address = k.shmid_cache.alloc()
    except NoMemory as failure:
        raise failure.or_errno(errno.ENOMEM, "shmget") from None
    free_of_charge = flags & SHM_NORESERVE and rules.shm_noreserve_known and not k.overcommit.counts_noreserve
    try:
        file = get_file(shmem_file_setup(k, size, account=not free_of_charge, call="shmget"))
    except (NoMemory, SyscallError) as failure:
        k.shmid_cache.free(address)
        raise as_errno(failure, errno.ENOMEM, "shmget") from None
    segment = ShmSegment(address, key, flags & S_IRWXUGO, limits.uid, size, file)
    if not k.shm.add(segment, rules.shm_max_ids):
        fput(k, file)
        k.shmid_cache.free(address)
        raise SyscallError(errno.ENOSPC, "shmget", f"there are {rules.shm_max_ids:,} segments (SHMMNI)")
    if not rules.shm_file_data_bytes:
        file.ops = ShmAttach(k, segment)
    return segment


def find_segment(k: Kernel, shmid: int, call: str) -> ShmSegment:
    """shm_lock, shm_checkid. Raises SyscallError: EINVAL, EIDRM."""
    segment = k.shm.at(shmid) if shmid >= 0 else None
    if segment is None or segment.id != shmid:
        removed = segment is not None and k.rules.ipc_removed_is_eidrm
        raise SyscallError(errno.EIDRM if removed else errno.EINVAL, call, f"{shmid} is no segment")
    return segment


def check_permission(segment: ShmSegment, limits: Limits, flags: int, call: str) -> None:
    """As ipcperms; all tasks are of one group, as setuid changes none. Raises SyscallError(EACCES)."""
    wanted = flags >> 6 | flags >> 3 | flags
    granted = segment.mode >> (6 if limits.uid == segment.uid else 3)
    if wanted & ~granted & 0o7 and limits.uid:
        raise SyscallError(errno.EACCES, call, f"the segment's mode is {segment.mode & S_IRWXUGO:03o}")


# -- shmctl ------------------------------------------------------------------------------------------------------------


def do_shmctl(k: Kernel, limits: Limits, shmid: int, command: int) -> None:
    """IPC_RMID, SHM_LOCK or SHM_UNLOCK. Raises SyscallError: EINVAL, EIDRM, EPERM, ENOMEM."""
    if command < 0 or shmid < 0:
        raise SyscallError(errno.EINVAL, "shmctl")
    if command == IPC_RMID:
        _remove(k, limits, shmid)
    elif command in (SHM_LOCK, SHM_UNLOCK):
        _lock(k, limits, shmid, locks=command == SHM_LOCK)
    elif command in (IPC_SET, IPC_STAT, IPC_INFO, SHM_STAT, SHM_INFO, SHM_STAT_ANY):
        raise NotModelled("shmctl is for IPC_RMID, SHM_LOCK and SHM_UNLOCK here: use shm_stat() for IPC_STAT")
    else:
        raise SyscallError(errno.EINVAL, "shmctl", f"{command} is no command")


def do_shm_stat(k: Kernel, limits: Limits, shmid: int) -> ShmStat:
    """IPC_STAT. Raises SyscallError: EINVAL, EIDRM, EACCES."""
    segment = find_segment(k, shmid, "shmctl")
    check_permission(segment, limits, S_IRUGO, "shmctl")
    return ShmStat(segment.key, segment.size, segment.mode, segment.nattch)


def _remove(k: Kernel, limits: Limits, shmid: int) -> None:
    k.machine.locks.take(k.shm.lock)
    try:
        segment = find_segment(k, shmid, "shmctl")
        if limits.uid not in (0, segment.uid):
            raise SyscallError(errno.EPERM, "shmctl", "the segment is somebody else's")
        if segment.nattch:
            segment.mode |= SHM_DEST
            segment.key = IPC_PRIVATE
        else:
            _destroy(k, segment)
    finally:
        k.machine.locks.drop(k.shm.lock)


def _lock(k: Kernel, limits: Limits, shmid: int, *, locks: bool) -> None:
    """It touches no VMA, and no count of a task's: reclaim looks at the object (shmem_lock)."""
    privileged = can_do_mlock(k, limits)
    if k.rules.shm_lock_needs_capability and not privileged:
        raise SyscallError(errno.EPERM, "shmctl", "CAP_IPC_LOCK is not there")
    segment = find_segment(k, shmid, "shmctl")
    if not privileged and (limits.uid != segment.uid or (locks and not limits.memlock)):
        raise SyscallError(errno.EPERM, "shmctl", "the segment is somebody else's, or RLIMIT_MEMLOCK is 0")
    if locks and not segment.mode & SHM_LOCKED:
        _check_user_limit(k, limits, segment)
        _set_lock(segment, limits.uid)
    elif not locks:
        _set_lock(segment, None)


def _set_lock(segment: ShmSegment, locker: int | None) -> None:
    """As shmem_lock."""
    segment.locker = locker
    segment.mode = segment.mode & ~SHM_LOCKED | (0 if locker is None else SHM_LOCKED)
    if segment.file.mapping.shmem is not None:
        segment.file.mapping.shmem.locked = locker is not None


def _check_user_limit(k: Kernel, limits: Limits, segment: ShmSegment) -> None:
    """user_shm_lock: what a user has locked in segments, whoever of his has. Raises SyscallError(ENOMEM)."""
    mine = sum(each.nr_pages for each in k.shm.slots.values() if each.locker == limits.uid)
    if not can_do_mlock(k, limits) and mine + segment.nr_pages > limits.memlock >> PAGE_SHIFT:
        raise SyscallError(errno.ENOMEM, "shmctl", "more than RLIMIT_MEMLOCK would be locked")


# -- the end of one, and check() ---------------------------------------------------------------------------------------


def detach(k: Kernel, segment: ShmSegment) -> None:
    """One VMA less, or a call that has held it; the last one ends a segment that was removed."""
    k.machine.locks.take(k.shm.lock)
    segment.nattch -= 1
    if not segment.nattch and segment.mode & SHM_DEST:
        _destroy(k, segment)
    k.machine.locks.drop(k.shm.lock)


def _destroy(k: Kernel, segment: ShmSegment) -> None:
    """shm_destroy: its memory goes with the last struct file of it."""
    k.shm.remove(segment)
    _set_lock(segment, None)
    fput(k, segment.file)
    k.shmid_cache.free(segment.address)


def check_segments(k: Kernel, mms: Iterable[MmStruct]) -> None:
    """A segment's nattch is the number of its VMAs, pages are all segments' together, their records are in slabs. Raises KernelBug. O(VMAs)."""
    attached = Counter(vma.ops.segment for mm in mms for vma in mm.vmas if isinstance(vma.ops, ShmAttach))
    segments = k.shm.slots.values()
    for segment in (*segments, *attached):
        if not k.shm.has(segment) or segment.nattch != attached[segment]:
            raise KernelBug("shm_nattch", f"segment {segment.id} has {segment.nattch}, and {attached[segment]} VMAs")
        if segment.mode & SHM_DEST and not segment.nattch:
            raise KernelBug("shm_destroy", f"segment {segment.id} was removed, and is there")
    if k.shm.nr_pages != sum(segment.nr_pages for segment in segments):
        raise KernelBug("shm_tot", f"{k.shm.nr_pages} pages, segments have others")
    attaches = sum(isinstance(file.ops, ShmAttach) and file.ops.base is not None for file in k.open_files.values())
    data = 0 if k.shm_file_data_cache is None else k.shm_file_data_cache.nr_objects
    if (k.shmid_cache.nr_objects, data) != (len(segments), attaches):
        raise KernelBug("slabinfo", f"{k.shmid_cache.nr_objects} segments and {data} attaches in slabs")
