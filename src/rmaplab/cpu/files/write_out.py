"""What programs have made and changed, written to a directory of the host at the end: --scratch.

    tree   /home/new.txt, changed /etc/conf, mkdir /var/x      scratch/home/new.txt, scratch/etc/conf, scratch/var/x

Everything is made below one open directory, part by part, and no part is a link that is followed: what is in the way there is replaced if it is a file or
a link, and is an error if it is anything else. Symbolic links that would lead out of the directory, special files and what lies in /dev, /proc and /sys
are left out. Modes are kept without set-user-ID bits, times too; owners are not.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.inode import Inode, SymlinkInode
from rmaplab.cpu.files.regular import RegularInode
from rmaplab.errors import DiskError, NoMemory, SyscallError, UsageError
from rmaplab.harmless import printable
from rmaplab.machine.arrays import U8
from rmaplab.machine.frames import PG_NOT_UPTODATE
from rmaplab.mm.file_io import LAST
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.units import PAGE_SIZE

PERMISSIONS = 0o777
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class WrittenOut(NamedTuple):
    """How much was written: files, directories and links; and paths of the tree that were left out."""

    written: int
    left_out: tuple[bytes, ...]


class _Altered(NamedTuple):
    """Something to be written: its path in parts, and what it is."""

    parts: tuple[bytes, ...]
    inode: Inode


def write_out(root: DirectoryInode, directory: str | Path, covered: Collection[DirectoryInode]) -> WrittenOut:
    """Write what has changed below `root` below `directory`, which is made if it is not there. Raises UsageError: it cannot be written."""
    said = printable(str(directory))
    try:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103  (bytes that are no text are fine)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as failure:
        why = failure.strerror if isinstance(failure, OSError) else "no path"
        raise UsageError(f"{said}: {why}: give --scratch a directory that can be written to") from None
    written, left_out = 0, list[bytes]()
    try:
        for change in _changes(root, (), covered):
            if _write(fd, change):
                written += 1
            else:
                left_out.append(b"/" + b"/".join(change.parts))
    except (OSError, DiskError, NoMemory) as failure:
        why = failure.strerror if isinstance(failure, OSError) else str(failure)
        path = printable(os.fsdecode(b"/".join(change.parts)))
        raise UsageError(f"{said}/{path}: {why}: give --scratch an empty directory with room") from None
    finally:
        os.close(fd)
    return WrittenOut(written, tuple(left_out))


def _changes(
    directory: DirectoryInode, parts: tuple[bytes, ...], covered: Collection[DirectoryInode]
) -> Iterator[_Altered]:
    """Depth first, a directory before what is in it. No deeper than names can be made: iterative, since that is no limit."""
    stack = [_Altered(parts, directory)]
    while stack:
        change = stack.pop()
        inode = change.inode
        if inode.changed and change.parts:
            yield change
        if isinstance(inode, DirectoryInode) and inode not in covered:
            stack += [
                _Altered((*change.parts, name), inode.entries[name]) for name in sorted(inode.entries, reverse=True)
            ]


def _write(root: int, change: _Altered) -> bool:
    """One of them: whether it was written. Raises OSError, DiskError."""
    *above, name = change.parts
    inode = change.inode
    if any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in change.parts):
        return False
    if isinstance(inode, SymlinkInode) and not _stays_below(inode.target, len(above)):
        return False
    if not isinstance(inode, (SymlinkInode, RegularInode, DirectoryInode)):
        return False
    fd = _enter(root, above)
    try:
        if isinstance(inode, DirectoryInode):
            _make_directory(fd, name)
            os.chmod(name, inode.mode & PERMISSIONS | stat.S_IRWXU, dir_fd=fd)
        else:
            _make_room(fd, name)
            if isinstance(inode, SymlinkInode):
                os.symlink(inode.target, name, dir_fd=fd)
            else:
                _write_file(fd, name, inode)
        os.utime(name, ns=(max(inode.atime_ns, 0), max(inode.mtime_ns, 0)), dir_fd=fd, follow_symlinks=False)
    finally:
        os.close(fd)
    return True


def _stays_below(target: bytes, depth: int) -> bool:
    """Whether a relative link, in a directory so deep, leads nowhere above the top."""
    if target.startswith(b"/") or b"\0" in target:
        return False
    for part in target.split(b"/"):
        depth += 0 if part in (b"", b".") else -1 if part == b".." else 1
        if depth < 0:
            return False
    return True


def _enter(root: int, parts: list[bytes]) -> int:
    """A descriptor of a directory below, made where it is not there. Raises OSError: something else is there, a link for example."""
    fd = os.dup(root)
    for part in parts:
        try:
            _make_directory(fd, part)
            below = os.open(part, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _make_directory(fd: int, name: bytes) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=fd)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None


def _make_room(fd: int, name: bytes) -> None:
    """A file or a link of that name goes. Raises OSError: a directory, or something else."""
    try:
        there = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(there) and not stat.S_ISLNK(there):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.unlink(name, dir_fd=fd)


def _write_file(above: int, name: bytes, inode: RegularInode) -> None:
    """Its bytes; where it has no page is a hole. O(pages)."""
    out = os.open(name, _NEW, 0o600, dir_fd=above)
    try:
        kernel, mapping = inode.fs.kernel, inode.space()
        indexes = {*mapping.pages.within(0, LAST)[0].tolist(), *mapping.store, *mapping.slots}
        for index in sorted(indexes):
            start = index * PAGE_SIZE
            data = _page(kernel, mapping, index)[: max(inode.size - start, 0)]
            if data.strip(b"\0"):
                _write_all(out, data, start)
        os.ftruncate(out, inode.size)
        os.fchmod(out, inode.mode & PERMISSIONS)
    except SyscallError as failure:
        raise DiskError(failure.strerror or "") from None
    finally:
        os.close(out)


def _page(kernel: Kernel, mapping: AddressSpace, index: int) -> bytes:
    """A page of a file as it lies in RAM, in swap or on its disk: nothing is asked of the kernel, which may have no memory left. Raises DiskError."""
    if (slot := mapping.slots.get(index)) is not None:
        return kernel.swap.bytes_of(slot).tobytes()
    pfn = mapping.pages.get(index, -1)
    if pfn >= 0 and not kernel.machine.frames.flags[pfn] & PG_NOT_UPTODATE:
        page: U8 = kernel.machine.ram.bytes[pfn]
        return page.tobytes()
    return mapping.store.get(index, bytes(PAGE_SIZE))


def _write_all(fd: int, data: bytes, start: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], start + done)
