"""Calls that change what is known of a file, list a directory, or tell of a file system.

Source: fs/open.c, chmod_common, chown_common; fs/utimes.c; fs/readdir.c, filldir, filldir64; fs/statfs.c; fs/xattr.c; arch/x86/include/uapi/asm/statfs.h of 6.18.
"""

import errno
import stat
import struct

from rmaplab.cpu.abi import NS, int32
from rmaplab.cpu.files.directory import Name, OpenDirectory
from rmaplab.cpu.files.inode import MAY_WRITE, PERMISSIONS, Inode, Mount, SymlinkInode
from rmaplab.cpu.files.lookup import NAME_MAX
from rmaplab.cpu.files.open_file import OpenFile
from rmaplab.cpu.files.regular import RegularInode
from rmaplab.cpu.syscalls.buffers import checked, offset_of
from rmaplab.cpu.syscalls.paths import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, inode_at, real_inode, view_at
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError
from rmaplab.units import PAGE_SIZE

SAME = 0xFFFF_FFFF
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MOST_BYTES = 1 << 20
ST_VALID = 0x20
"""f_flags says something."""


def _own(thread: Thread, inode: Inode, call_name: str) -> None:
    """Raises SyscallError: EPERM, EROFS."""
    who = view_at(thread, AT_FDCWD).who
    if inode.mount.read_only:
        raise SyscallError(errno.EROFS, call_name)
    if who.uid not in (0, inode.uid):
        raise SyscallError(errno.EPERM, call_name)


# -- permissions and owners ----------------------------------------------------------------------------------------------


def _chmod(thread: Thread, found: Inode | OpenFile, mode: int) -> int:
    inode = real_inode(found)
    if isinstance(inode, SymlinkInode):
        raise SyscallError(errno.EOPNOTSUPP, "chmod")
    _own(thread, inode, "chmod")
    inode.mode = mode & PERMISSIONS
    inode.altered(thread.userland.tree.fs.now_ns)
    return 0


@call("fchmodat2")
def sys_fchmodat2(thread: Thread, fd: int, path: int, mode: int, flags: int, *_: int) -> int:
    """fchmodat2(2)."""
    return _chmod(thread, inode_at(thread, fd, path, flags), mode)


@call("fchmodat")
def sys_fchmodat(thread: Thread, fd: int, path: int, mode: int, *_: int) -> int:
    """fchmodat(2), without flags."""
    return sys_fchmodat2(thread, fd, path, mode, 0)


@call("chmod")
def sys_chmod(thread: Thread, path: int, mode: int, *_: int) -> int:
    """chmod(2)."""
    return sys_fchmodat2(thread, AT_FDCWD, path, mode, 0)


@call("fchmod")
def sys_fchmod(thread: Thread, fd: int, mode: int, *_: int) -> int:
    """fchmod(2)."""
    return _chmod(thread, thread.process.descriptors[int32(fd)], mode)


def _chown(thread: Thread, found: Inode | OpenFile, uid: int, gid: int) -> int:
    inode, who = real_inode(found), view_at(thread, AT_FDCWD).who
    uid, gid = uid & SAME, gid & SAME
    if inode.mount.read_only:
        raise SyscallError(errno.EROFS, "chown")
    if who.uid and ((uid not in (SAME, inode.uid)) or who.uid != inode.uid or gid not in (SAME, inode.gid, who.gid)):
        raise SyscallError(errno.EPERM, "chown")
    inode.uid = inode.uid if uid == SAME else uid
    inode.gid = inode.gid if gid == SAME else gid
    inode.altered(thread.userland.tree.fs.now_ns)
    return 0


@call("fchownat")
def sys_fchownat(thread: Thread, fd: int, path: int, uid: int, gid: int, flags: int, *_: int) -> int:
    """fchownat(2)."""
    return _chown(thread, inode_at(thread, fd, path, flags), uid, gid)


@call("chown", "chown32")
def sys_chown(thread: Thread, path: int, uid: int, gid: int, *_: int) -> int:
    """chown(2)."""
    return _chown(thread, inode_at(thread, AT_FDCWD, path, 0), uid, gid)


@call("lchown", "lchown32")
def sys_lchown(thread: Thread, path: int, uid: int, gid: int, *_: int) -> int:
    """lchown(2)."""
    return _chown(thread, inode_at(thread, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), uid, gid)


@call("fchown", "fchown32")
def sys_fchown(thread: Thread, fd: int, uid: int, gid: int, *_: int) -> int:
    """fchown(2)."""
    return _chown(thread, thread.process.descriptors[int32(fd)], uid, gid)


# -- times and sizes -----------------------------------------------------------------------------------------------------


def _set_times(thread: Thread, inode: Inode, times: tuple[int, int, int, int] | None) -> int:
    """Seconds and ns of atime and of mtime; None: now."""
    now = thread.userland.tree.fs.now_ns
    if times is not None and any(not 0 <= ns < NS and ns not in (UTIME_NOW, UTIME_OMIT) for ns in times[1::2]):
        raise SyscallError(errno.EINVAL, "utimensat")
    who = view_at(thread, AT_FDCWD).who
    if times is not None or not inode.allows(who, MAY_WRITE):
        _own(thread, inode, "utimensat")
    seconds_ns = (0, UTIME_NOW, 0, UTIME_NOW) if times is None else times
    if seconds_ns[1] != UTIME_OMIT:
        inode.atime_ns = now if seconds_ns[1] == UTIME_NOW else seconds_ns[0] * NS + seconds_ns[1]
    if seconds_ns[3] != UTIME_OMIT:
        inode.mtime_ns = now if seconds_ns[3] == UTIME_NOW else seconds_ns[2] * NS + seconds_ns[3]
    inode.altered(now)
    return 0


def _signed_words(thread: Thread, address: int, width: int) -> tuple[int, int, int, int] | None:
    if not address:
        return None
    a, b, c, d = struct.unpack("<4q" if width == 8 else "<4i", thread.get(address, 4 * width))
    return a, b, c, d


def _utimensat(thread: Thread, fd: int, path: int, times: int, flags: int, width: int) -> int:
    wanted = _signed_words(thread, times, width)
    found: Inode | OpenFile = inode_at(thread, fd, path, flags) if path else thread.process.descriptors[int32(fd)]
    return _set_times(thread, real_inode(found), wanted)


@call("utimensat")
def sys_utimensat(thread: Thread, fd: int, path: int, times: int, flags: int, *_: int) -> int:
    """utimensat(2)."""
    return _utimensat(thread, fd, path, times, flags, thread.abi.word)


@call("utimensat_time64", abi=32)
def sys_utimensat_time64(thread: Thread, fd: int, path: int, times: int, flags: int, *_: int) -> int:
    """utimensat(2) of i386 with times of 64 bits."""
    return _utimensat(thread, fd, path, times, flags, 8)


@call("futimesat")
def sys_futimesat(thread: Thread, fd: int, path: int, times: int, *_: int) -> int:
    """futimesat(2): microseconds."""
    wanted = _signed_words(thread, times, thread.abi.word)
    if wanted is not None:
        if any(not 0 <= microseconds < NS // 1000 for microseconds in wanted[1::2]):
            raise SyscallError(errno.EINVAL, "utimes")
        wanted = wanted[0], wanted[1] * 1000, wanted[2], wanted[3] * 1000
    found: Inode | OpenFile = inode_at(thread, fd, path, 0) if path else thread.process.descriptors[int32(fd)]
    return _set_times(thread, real_inode(found), wanted)


@call("utimes")
def sys_utimes(thread: Thread, path: int, times: int, *_: int) -> int:
    """utimes(2)."""
    return sys_futimesat(thread, AT_FDCWD, path, times)


@call("utime")
def sys_utime(thread: Thread, path: int, times: int, *_: int) -> int:
    """utime(2): seconds."""
    inode = real_inode(inode_at(thread, AT_FDCWD, path, 0))
    if not times:
        return _set_times(thread, inode, None)
    accessed, modified = (thread.abi.signed(word) for word in thread.words(times, 2))
    return _set_times(thread, inode, (accessed, 0, modified, 0))


def _truncate(thread: Thread, path: int, size: int) -> int:
    inode = real_inode(inode_at(thread, AT_FDCWD, path, 0))
    if stat.S_ISDIR(inode.kind):
        raise SyscallError(errno.EISDIR, "truncate")
    if not isinstance(inode, RegularInode):
        raise SyscallError(errno.EINVAL, "truncate")
    if not inode.allows(view_at(thread, AT_FDCWD).who, MAY_WRITE):
        raise SyscallError(errno.EACCES, "truncate")
    with inode.writing(thread):
        inode.truncate(size)
    return 0


@call("truncate")
def sys_truncate(thread: Thread, path: int, size: int, *_: int) -> int:
    """truncate(2)."""
    return _truncate(thread, path, checked(size, thread.abi.bits))


@call("truncate64", abi=32)
def sys_truncate64(thread: Thread, path: int, low: int, high: int, *_: int) -> int:
    """truncate(2) of i386 with 64 bits."""
    return _truncate(thread, path, offset_of(low, high))


# -- directories ---------------------------------------------------------------------------------------------------------


def _dirent64(entry: Name, position: int) -> bytes:
    """A struct linux_dirent64."""
    length = (8 + 8 + 2 + 1 + len(entry.name) + 1 + 7) & -8
    return (struct.pack("<QqHB", entry.ino, position, length, entry.kind >> 12) + entry.name).ljust(length, b"\0")


def _dirent(entry: Name, position: int, word: int) -> bytes:
    """A struct linux_dirent: the type is its last byte."""
    if entry.ino >> 8 * word:
        raise SyscallError(errno.EOVERFLOW, "getdents")
    length = (2 * word + 2 + len(entry.name) + 2 + word - 1) & -word
    head = struct.pack("<QQH" if word == 8 else "<IIH", entry.ino, position, length) + entry.name
    return head.ljust(length - 1, b"\0") + bytes([entry.kind >> 12])


def _getdents(thread: Thread, fd: int, buffer: int, count: int, word: int | None) -> int:
    file = thread.process.descriptors[int32(fd)]
    if not isinstance(file, OpenDirectory):
        raise SyscallError(errno.ENOTDIR, "getdents64")
    left = min(count & 0xFFFF_FFFF, MOST_BYTES)
    told, rows, reached = 0, list[bytes](), None
    for position, entry in file.entries():
        row = _dirent64(entry, position) if word is None else _dirent(entry, position, word)
        if len(row) > left - told:
            if not rows:
                raise SyscallError(errno.EINVAL, "getdents64")
            break
        rows.append(row)
        told += len(row)
        reached = position
    thread.put(buffer, b"".join(rows))
    if reached is not None:
        file.told(reached)
    return told


@call("getdents64")
def sys_getdents64(thread: Thread, fd: int, buffer: int, count: int, *_: int) -> int:
    """getdents64(2)."""
    return _getdents(thread, fd, buffer, count, None)


@call("getdents")
def sys_getdents(thread: Thread, fd: int, buffer: int, count: int, *_: int) -> int:
    """getdents(2)."""
    return _getdents(thread, fd, buffer, count, thread.abi.word)


# -- file systems --------------------------------------------------------------------------------------------------------


def _statfs(thread: Thread, mount: Mount) -> tuple[int, ...]:
    """f_type, f_bsize, blocks, free ones, those for users, inodes, free ones."""
    fs = thread.userland.tree.fs
    if mount.on_disk:
        blocks, free = fs.space.nr_pages, fs.space.left
    elif mount.kind == b"tmpfs":
        blocks = thread.machine.allocator.totalram_pages // 2
        free = min(thread.machine.allocator.nr_free, blocks)
    else:
        blocks = free = 0
    return mount.magic, PAGE_SIZE, blocks, free, free, fs.limits.made, max(fs.limits.made - fs.nr_made, 0)


def _statfs_word(thread: Thread, mount: Mount) -> bytes:
    """A struct statfs: words."""
    words = thread.abi.words
    tail = words(NAME_MAX, PAGE_SIZE, ST_VALID, 0, 0, 0, 0)
    return words(*_statfs(thread, mount)) + struct.pack("<ii", mount.dev, 0) + tail


def _statfs64(thread: Thread, mount: Mount) -> bytes:
    """A struct statfs64 of i386."""
    return struct.pack("<II5QiiIII4I", *_statfs(thread, mount), mount.dev, 0, NAME_MAX, PAGE_SIZE, ST_VALID, 0, 0, 0, 0)


@call("statfs")
def sys_statfs(thread: Thread, path: int, place: int, *_: int) -> int:
    """statfs(2)."""
    thread.put(place, _statfs_word(thread, real_inode(inode_at(thread, AT_FDCWD, path, 0)).mount))
    return 0


@call("fstatfs")
def sys_fstatfs(thread: Thread, fd: int, place: int, *_: int) -> int:
    """fstatfs(2)."""
    thread.put(place, _statfs_word(thread, real_inode(thread.process.descriptors[int32(fd)]).mount))
    return 0


@call("statfs64", abi=32)
def sys_statfs64(thread: Thread, path: int, _: int, place: int, *__: int) -> int:
    """statfs(2) of i386 with 64 bits."""
    thread.put(place, _statfs64(thread, real_inode(inode_at(thread, AT_FDCWD, path, 0)).mount))
    return 0


@call("fstatfs64", abi=32)
def sys_fstatfs64(thread: Thread, fd: int, _: int, place: int, *__: int) -> int:
    """fstatfs(2), likewise."""
    thread.put(place, _statfs64(thread, real_inode(thread.process.descriptors[int32(fd)]).mount))
    return 0


# -- extended attributes: nobody has any ---------------------------------------------------------------------------------


@call("getxattr", "lgetxattr", "removexattr", "lremovexattr")
def sys_getxattr(thread: Thread, path: int, *_: int) -> int:
    """getxattr(2)."""
    inode_at(thread, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)
    raise SyscallError(errno.ENODATA, "getxattr")


@call("fgetxattr", "fremovexattr")
def sys_fgetxattr(thread: Thread, fd: int, *_: int) -> int:
    """fgetxattr(2)."""
    inode_at(thread, fd, 0, AT_EMPTY_PATH)
    raise SyscallError(errno.ENODATA, "getxattr")


@call("listxattr", "llistxattr")
def sys_listxattr(thread: Thread, path: int, *_: int) -> int:
    """listxattr(2)."""
    inode_at(thread, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)
    return 0


@call("flistxattr")
def sys_flistxattr(thread: Thread, fd: int, *_: int) -> int:
    """flistxattr(2)."""
    inode_at(thread, fd, 0, AT_EMPTY_PATH)
    return 0


@call("setxattr", "lsetxattr")
def sys_setxattr(thread: Thread, path: int, *_: int) -> int:
    """setxattr(2)."""
    inode_at(thread, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)
    raise SyscallError(errno.EOPNOTSUPP, "setxattr")


@call("fsetxattr")
def sys_fsetxattr(thread: Thread, fd: int, *_: int) -> int:
    """fsetxattr(2)."""
    inode_at(thread, fd, 0, AT_EMPTY_PATH)
    raise SyscallError(errno.EOPNOTSUPP, "setxattr")
