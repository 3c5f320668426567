"""Inodes: what a name of the tree leads to, and what stat(2) tells of it.

    Inode --+-- DirectoryInode (directory.py)     names, of them some that only the host has told of
            +-- RegularInode (regular.py)         bytes in the page cache
            +-- SymlinkInode, DeviceInode, SocketInode     here
            +-- FifoInode (pipes.py)              a pipe with a name
            +-- files of /proc (proc.py)

An inode lies on a Mount, as on a file system: names on two of them are never links to the same inode (EXDEV).
"""

import os
import stat
from dataclasses import dataclass, replace
from typing import ClassVar

from rmaplab.cpu.files.locks import FileLocks

BLOCK = 512
PERMISSIONS = 0o7777
S_ISVTX = 0o1000
MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4
EVERYBODY_EXECUTES = 0o111


@dataclass(frozen=True)
class Stat:
    """What stat(2) tells. Times in nanoseconds since 1970."""

    mode: int
    size: int = 0
    ino: int = 1
    dev: int = 1
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    blocks: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    blksize: int = 4096


def dev_of(major: int, minor: int) -> int:
    """new_encode_dev: one number of two."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def numbers_of(dev: int) -> tuple[int, int]:
    """new_decode_dev: (major, minor)."""
    return (dev >> 8) & 0xFFF, (dev & 0xFF) | ((dev >> 12) & 0xFFF00)


@dataclass(frozen=True)
class Mount:
    """A file system: its device's number, its name and f_type of statfs(2). What is `on_disk` is read from a disk; the rest lives in memory."""

    dev: int
    kind: bytes
    magic: int
    on_disk: bool = False
    read_only: bool = False


@dataclass(frozen=True)
class Who:
    """Who asks: root may everything."""

    uid: int = 0
    gid: int = 0


ROOT = Who()


class Inode:
    """What a name means. `mode` are its permissions alone, `kind` the rest of st_mode."""

    kind: ClassVar[int] = 0
    is_made_anew: ClassVar[bool] = False
    """Whether each look finds another one, as in /proc."""

    def __init__(self, mount: Mount, ino: int, mode: int, now_ns: int = 0, owner: Who = ROOT) -> None:
        self.mount, self.ino = mount, ino
        self.mode = mode & PERMISSIONS
        self.uid, self.gid = owner.uid, owner.gid
        self.nlink = 1
        self.atime_ns = self.mtime_ns = self.ctime_ns = now_ns
        self.locks: FileLocks | None = None
        """Made when somebody wants one."""
        self.changed = False
        """Whether programs have made it, or changed it in any way."""
        self.names_made = 0
        """Names that programs have given it."""

    @property
    def size(self) -> int:
        """st_size."""
        return 0

    @property
    def blocks(self) -> int:
        """st_blocks, of 512 bytes."""
        return 0

    @property
    def rdev(self) -> int:
        """st_rdev."""
        return 0

    def stat(self) -> Stat:
        """stat(2)."""
        return Stat(
            self.kind | self.mode, self.size, self.ino, self.mount.dev, self.nlink, self.uid, self.gid, self.rdev,
            self.blocks, self.atime_ns, self.mtime_ns, self.ctime_ns,
        )  # fmt: skip

    def is_like(self, found: os.stat_result) -> None:
        """It has the owner and the times that the host tells."""
        self.uid, self.gid = found.st_uid, found.st_gid
        self.nlink = found.st_nlink
        self.atime_ns, self.mtime_ns, self.ctime_ns = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns

    def modified(self, now_ns: int) -> None:
        """Its bytes, or its names, are others now."""
        self.mtime_ns = self.ctime_ns = now_ns
        self.changed = True

    def altered(self, now_ns: int) -> None:
        """What is known of it is other now."""
        self.ctime_ns = now_ns
        self.changed = True

    def allows(self, who: Who, wanted: int) -> bool:
        """generic_permission: whether `who` may do what MAY_ bits say."""
        if who.uid == 0:
            return not wanted & MAY_EXEC or self.kind == stat.S_IFDIR or bool(self.mode & EVERYBODY_EXECUTES)
        shift = 6 if who.uid == self.uid else 3 if who.gid == self.gid else 0
        return wanted & ~(self.mode >> shift) == 0

    def unlinked(self) -> None:
        """A name less: with the last one it goes, when nobody has it open."""
        self.nlink = max(self.nlink - 1, 0)


class SymlinkInode(Inode):
    """A symbolic link. The kernel resolves it within the tree."""

    kind = stat.S_IFLNK

    def __init__(self, mount: Mount, ino: int, target: bytes, now_ns: int = 0, owner: Who = ROOT) -> None:
        super().__init__(mount, ino, 0o777, now_ns, owner)
        self.target = target

    @property
    def size(self) -> int:
        """Bytes of what it says."""
        return len(self.target)


class SocketInode(Inode):
    """A socket that the host shows: nobody listens here."""

    kind = stat.S_IFSOCK


class DeviceInode(Inode):
    """A device node. Which one it is says `device`, (major, minor); what is behind it devices.py; nothing is behind one of the host's."""

    kind = stat.S_IFCHR

    def __init__(self, mount: Mount, ino: int, mode: int, device: tuple[int, int], *, block: bool = False) -> None:
        super().__init__(mount, ino, mode)
        self.device = device
        self.is_block = block

    @property
    def rdev(self) -> int:
        """st_rdev."""
        return dev_of(*self.device)

    def stat(self) -> Stat:
        """stat(2)."""
        told = super().stat()
        return told if not self.is_block else replace(told, mode=stat.S_IFBLK | self.mode)
