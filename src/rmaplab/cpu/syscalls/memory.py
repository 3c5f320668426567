"""Memory: what the simulated kernel does. Each call is one of Task's, with the numbers of a program; most are rows of the table of calls, and no more is said of them here.

After what changes where code may be fetched from, the engine is told (`find_executable`). TLBs are flushed where the kernel says so (machine/tlb.py).
"""

import errno
from collections.abc import Callable

from rmaplab.calls.table import CALLS, Call, Returns
from rmaplab.calls.words import AddressKind, FlagsKind, LengthKind, NumberKind, ProtKind
from rmaplab.cpu.abi import int32
from rmaplab.cpu.numbers import NAMES64
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, page_align

MOST_BYTES = 1 << 24
PR_SET_VMA, PR_SET_VMA_ANON_NAME = 0x53564D41, 0
NAME_BYTES = 80
SHMAT, SHMDT, SHMGET, SHMCTL, IPC_64 = 21, 22, 23, 24, 0x100
WRITTEN_OUT = ("shmdt", "mbind", "setuid")
"""Rows with a function of their own, here and in system.py."""
LEAVE_CODE = ("mlock", "munlock", "mlockall", "munlockall", "madvise", "msync")
"""Calls after which code is fetched from where it was: who is not named here is asked."""


def _changed(thread: Thread, start: int = 0, length: int | None = None) -> None:
    """VMAs there have changed; all, if no length is given."""
    end = None if length is None else page_align(start + length)
    thread.userland.find_executable(thread.space, start & -PAGE_SIZE, end)


def _mmap(thread: Thread, address: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    thread.spend()
    opened = None
    if not flags & MAP_ANONYMOUS:
        opened = thread.process.descriptors[int32(fd)].mappable()
    try:
        got = thread.task.mmap_opened(length, prot, flags, address, opened, pgoff)
    except BaseException:
        if flags & MAP_FIXED:  # what was there may have gone
            _changed(thread, address, length)
        raise
    _changed(thread, got, length)
    return got


@call("mmap", abi=64)
def sys_mmap(thread: Thread, address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    """mmap(2)."""
    if offset % PAGE_SIZE:
        raise SyscallError(errno.EINVAL, "mmap")
    return _mmap(thread, address, length, prot, flags, fd, offset >> PAGE_SHIFT)


@call("mmap2", abi=32)
def sys_mmap2(thread: Thread, address: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    """mmap(2) of i386, which gives the offset in pages."""
    return _mmap(thread, address, length, prot, flags, fd, pgoff)


@call("mmap", abi=32)
def sys_old_mmap(thread: Thread, arguments: int, *_: int) -> int:
    """The old one of i386, whose arguments are in memory."""
    address, length, prot, flags, fd, offset = thread.words(arguments, 6)
    if offset % PAGE_SIZE:
        raise SyscallError(errno.EINVAL, "mmap")
    return _mmap(thread, address, length, prot, flags, fd, offset >> PAGE_SHIFT)


def _made(row: Call) -> Callable[..., int]:
    """A call that is no more than its row in the table of calls (calls/table.py): its arguments are numbers, in that order."""
    nr = len(row.arguments)
    kinds = [type(argument.kind) for argument in row.arguments[:2]]
    is_of_range = kinds == [AddressKind, LengthKind] and row.returns is Returns.NOTHING

    def sys_call(thread: Thread, *arguments: int) -> int:
        thread.spend()
        try:
            return row.method(thread.task, *arguments[:nr]) or 0
        finally:
            if row.name not in LEAVE_CODE:
                _changed(thread, *(arguments[:2] if is_of_range else ()))

    return sys_call


def _is_plain(row: Call) -> bool:
    """Whether a program's words are what the row's method is given."""
    kinds = (AddressKind, LengthKind, NumberKind, FlagsKind, ProtKind)
    numbers = all(isinstance(argument.kind, kinds) for argument in row.arguments)
    is_call = row.number is not None and NAMES64.get(row.number) == row.name and row.name not in WRITTEN_OUT
    return is_call and numbers and not row.given and row.returns in (Returns.NOTHING, Returns.ADDRESS)


for _row in CALLS.values():
    if _is_plain(_row):
        call(_row.name)(_made(_row))


@call("brk")
def sys_brk(thread: Thread, address: int, *_: int) -> int:
    """brk(2): the break as it is then."""
    thread.spend()
    mm = thread.task.mm
    assert mm is not None
    try:
        return thread.task.brk(address)
    except SyscallError:
        return mm.brk


@call("remap_file_pages")
def sys_remap_file_pages(thread: Thread, address: int, length: int, prot: int, pgoff: int, flags: int, *_: int) -> int:
    """remap_file_pages(2)."""
    thread.task.remap_file_pages(address, length, prot, pgoff, flags)
    return 0


@call("mincore")
def sys_mincore(thread: Thread, address: int, length: int, vector: int, *_: int) -> int:
    """mincore(2)."""
    if length > MOST_BYTES << PAGE_SHIFT:
        raise SyscallError(errno.ENOMEM, "mincore")
    thread.put(vector, bytes(thread.task.mincore(address, length)))
    return 0


@call("mbind")
def sys_mbind(thread: Thread, address: int, length: int, mode: int, nodes: int, most: int, flags: int) -> int:
    """mbind(2)."""
    mask = thread.words(nodes, 1)[0] if nodes and most else 0
    thread.task.mbind(address, length, mode, mask, flags)
    return 0


@call("shmget")
def sys_shmget(thread: Thread, key: int, size: int, flags: int, *_: int) -> int:
    """shmget(2)."""
    return thread.task.shmget(int32(key), size, flags & 0xFFFF_FFFF)


@call("shmat")
def sys_shmat(thread: Thread, segment: int, address: int, flags: int, *_: int) -> int:
    """shmat(2)."""
    try:
        return thread.task.shmat(int32(segment), address, flags & 0xFFFF_FFFF)
    finally:
        _changed(thread)


@call("shmdt")
def sys_shmdt(thread: Thread, address: int, *_: int) -> int:
    """shmdt(2)."""
    thread.task.shmdt(address)
    _changed(thread)
    return 0


@call("shmctl")
def sys_shmctl(thread: Thread, segment: int, command: int, *_: int) -> int:
    """shmctl(2): IPC_RMID, SHM_LOCK, SHM_UNLOCK."""
    thread.task.shmctl(int32(segment), int32(command))
    return 0


@call("ipc", abi=32)
def sys_ipc(thread: Thread, what: int, first: int, second: int, third: int, pointer: int, *_: int) -> int:
    """ipc(2): one call for all that is of System V; of that, segments of memory."""
    wanted = what & 0xFFFF
    if wanted == SHMAT:
        thread.put(third, thread.abi.words(sys_shmat(thread, first, pointer, second)))
        return 0
    if wanted == SHMDT:
        return sys_shmdt(thread, pointer)
    if wanted == SHMGET:
        return sys_shmget(thread, first, second, third)
    if wanted == SHMCTL:
        return sys_shmctl(thread, first, second & ~IPC_64)
    raise SyscallError(errno.ENOSYS, "ipc")


def name_vma(thread: Thread, address: int, length: int, name: int) -> int:
    """prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME)."""
    text = thread.string(name, NAME_BYTES).decode("ascii", "replace") if name else None
    thread.task.set_vma_name(address, length, text)
    return 0
