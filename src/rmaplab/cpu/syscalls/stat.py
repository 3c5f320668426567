"""stat(2) in all its forms.

Source: fs/stat.c, cp_new_stat, cp_statx; include/uapi/linux/stat.h; arch/x86/include/uapi/asm/stat.h of 6.18.
"""

import errno
import struct

from rmaplab.cpu.abi import NS, int32
from rmaplab.cpu.files.inode import Stat, numbers_of
from rmaplab.cpu.syscalls.paths import AT_FDCWD, AT_SYMLINK_NOFOLLOW, inode_at
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError


def stat_at(thread: Thread, fd: int, path: int, flags: int) -> Stat:
    """stat(2) in all its forms."""
    return inode_at(thread, fd, path, flags).stat()


@call("newfstatat", "fstatat64")
def sys_newfstatat(thread: Thread, fd: int, path: int, place: int, flags: int, *_: int) -> int:
    """fstatat(2)."""
    thread.put(place, thread.abi.stat(stat_at(thread, fd, path, flags)))
    return 0


@call("stat", abi=64)
@call("stat64", abi=32)
def sys_stat(thread: Thread, path: int, place: int, *_: int) -> int:
    """stat(2)."""
    return sys_newfstatat(thread, AT_FDCWD, path, place, 0)


@call("lstat", abi=64)
@call("lstat64", abi=32)
def sys_lstat(thread: Thread, path: int, place: int, *_: int) -> int:
    """lstat(2)."""
    return sys_newfstatat(thread, AT_FDCWD, path, place, AT_SYMLINK_NOFOLLOW)


@call("fstat", abi=64)
@call("fstat64", abi=32)
def sys_fstat(thread: Thread, fd: int, place: int, *_: int) -> int:
    """fstat(2)."""
    thread.put(place, thread.abi.stat(thread.process.descriptors[int32(fd)].stat()))
    return 0


def old_stat(found: Stat) -> bytes:
    """A struct stat of i386. Raises SyscallError(EOVERFLOW)."""
    if found.size >> 31 or found.ino >> 32:
        raise SyscallError(errno.EOVERFLOW, "stat")
    times = [part & 0xFFFF_FFFF for ns in (found.atime_ns, found.mtime_ns, found.ctime_ns) for part in divmod(ns, NS)]
    head = struct.pack(
        "<IIHHHHI",
        found.dev,
        found.ino,
        found.mode,
        found.nlink & 0xFFFF,
        found.uid & 0xFFFF,
        found.gid & 0xFFFF,
        found.rdev & 0xFFFF_FFFF,
    )
    return head + struct.pack("<III6III", found.size, found.blksize, found.blocks & 0xFFFF_FFFF, *times, 0, 0)


@call("stat", abi=32)
def sys_old_stat(thread: Thread, path: int, place: int, *_: int) -> int:
    """stat(2) of i386 with 32 bits."""
    thread.put(place, old_stat(stat_at(thread, AT_FDCWD, path, 0)))
    return 0


@call("lstat", abi=32)
def sys_old_lstat(thread: Thread, path: int, place: int, *_: int) -> int:
    """lstat(2), likewise."""
    thread.put(place, old_stat(stat_at(thread, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)))
    return 0


@call("fstat", abi=32)
def sys_old_fstat(thread: Thread, fd: int, place: int, *_: int) -> int:
    """fstat(2), likewise."""
    thread.put(place, old_stat(thread.process.descriptors[int32(fd)].stat()))
    return 0


STATX_BASIC_STATS, STATX_BYTES = 0x7FF, 256


@call("statx")
def sys_statx(thread: Thread, fd: int, path: int, flags: int, _: int, place: int, *__: int) -> int:
    """statx(2): the basic stats, whatever is asked for."""
    found = stat_at(thread, fd, path, flags)
    times = [struct.pack("<qII", ns // NS, ns % NS, 0) for ns in (found.atime_ns, 0, found.ctime_ns, found.mtime_ns)]
    data = struct.pack(
        "<IIQIIIHHQQQQ",
        STATX_BASIC_STATS,
        found.blksize,
        0,
        found.nlink,
        found.uid,
        found.gid,
        found.mode,
        0,
        found.ino,
        found.size,
        found.blocks,
        0,
    )
    numbers = struct.pack("<4I", *numbers_of(found.rdev), *numbers_of(found.dev))
    thread.put(place, (data + b"".join(times) + numbers).ljust(STATX_BYTES, b"\0"))
    return 0
