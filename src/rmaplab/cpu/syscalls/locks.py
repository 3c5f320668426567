"""flock(2) and the record locks of fcntl(2).

Source: fs/locks.c, flock_to_posix_lock, fcntl_setlk, fcntl_getlk of 6.18; include/uapi/asm-generic/fcntl.h.
"""

import errno
import struct

from rmaplab.cpu.abi import int32
from rmaplab.cpu.files.locks import TO_THE_END, FileLocks, RecordLock
from rmaplab.cpu.files.open_file import SEEK_CUR, SEEK_END, SEEK_SET, OpenFile
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
F_GETLK, F_SETLK, F_SETLKW = 5, 6, 7
F_GETLK64, F_SETLK64, F_SETLKW64 = 12, 13, 14
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
OF_RECORDS = (F_GETLK, F_SETLK, F_SETLKW, F_GETLK64, F_SETLK64, F_SETLKW64, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
OFD_PID = -1


def locks_of(file: OpenFile) -> FileLocks:
    """Those of its inode. Raises SyscallError(EBADF): it has none that could be locked."""
    if file.inode is None:
        raise SyscallError(errno.EBADF, "flock")
    if file.inode.locks is None:
        file.inode.locks = FileLocks()
    return file.inode.locks


@call("flock")
def sys_flock(thread: Thread, fd: int, operation: int, *_: int) -> int:
    """flock(2). May sleep."""
    file = thread.process.descriptors[int32(fd)]
    how = operation & 0xFFFF_FFFF & ~LOCK_NB
    if how not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise SyscallError(errno.EINVAL, "flock")
    locks = locks_of(file)
    if locks.whole.pop(file, None) is not None:
        locks.changed.wake()
    if how == LOCK_UN:
        return 0
    exclusive = how == LOCK_EX
    while any(exclusive or other for other in locks.whole.values()):
        if operation & LOCK_NB:
            raise SyscallError(errno.EAGAIN, "flock")
        thread.sleep(locks.changed)
    locks.whole[file] = exclusive
    return 0


def record_lock(thread: Thread, file: OpenFile, command: int, address: int) -> int:
    """fcntl(2) with F_SETLK and the like. May sleep. Raises SyscallError: EINVAL (no such command), EBADF, EAGAIN, EFAULT."""
    if command not in OF_RECORDS:
        raise SyscallError(errno.EINVAL, "fcntl")
    layout = "<hhxxxxqqi" if thread.abi.bits == 64 else "<hhqqi" if command > F_SETLKW else "<hhiii"
    kind, whence, start, length, _ = struct.unpack(layout, thread.get(address, struct.calcsize(layout)))
    locks, of_file = locks_of(file), command >= F_OFD_GETLK
    first, last = _range(file, whence, start, length)
    owner, pid = (file, OFD_PID) if of_file else (thread.process.descriptors, thread.process.pid)
    wanted = RecordLock(owner, pid, first, last, exclusive=kind == F_WRLCK)
    if command in (F_GETLK, F_GETLK64, F_OFD_GETLK):
        found = locks.hindering(wanted)
        if found is None:
            thread.put(address, struct.pack("<h", F_UNLCK))
        else:
            told = 0 if found.end == TO_THE_END else found.end - found.start
            thread.put(
                address,
                struct.pack(layout, F_WRLCK if found.exclusive else F_RDLCK, SEEK_SET, found.start, told, found.pid),
            )
        return 0
    if kind == F_UNLCK:
        locks.release(owner, first, last)
        return 0
    if kind not in (F_RDLCK, F_WRLCK):
        raise SyscallError(errno.EINVAL, "fcntl")
    if not (file.writable if kind == F_WRLCK else file.readable):
        raise SyscallError(errno.EBADF, "fcntl")
    while locks.hindering(wanted) is not None:
        if command not in (F_SETLKW, F_SETLKW64, F_OFD_SETLKW):
            raise SyscallError(errno.EAGAIN, "fcntl")
        thread.sleep(locks.changed)
    locks.take(wanted)
    return 0


def _range(file: OpenFile, whence: int, start: int, length: int) -> tuple[int, int]:
    """[start, end). Raises SyscallError(EINVAL)."""
    if whence not in (SEEK_SET, SEEK_CUR, SEEK_END):
        raise SyscallError(errno.EINVAL, "fcntl")
    base = 0 if whence == SEEK_SET else file.seek(0, SEEK_CUR) if whence == SEEK_CUR else file.stat().size
    first = base + start
    first, last = (first, first + length if length else TO_THE_END) if length >= 0 else (first + length, first)
    if not 0 <= first < last <= TO_THE_END:
        raise SyscallError(errno.EINVAL, "fcntl")
    return first, last
