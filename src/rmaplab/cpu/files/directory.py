"""Directories: names, each of which leads to an inode. What the host has below is looked up when it is asked for.

    DirectoryInode   entries  {b"new": RegularInode, b"bin": DirectoryInode}     made by programs, or looked up already
                     parts    (b"usr",): where the host has it                    the rest is there
                     gone     {b"old"}: names of the host that programs have taken away

A directory has one name: `parent` and `name` are its place, and getcwd(2) goes up from there.
"""

import errno
import os
import stat
from typing import NamedTuple, Protocol

from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.host_root import HostRoot, Parts
from rmaplab.cpu.files.inode import ROOT, DeviceInode, Inode, Mount, SocketInode, SymlinkInode, Who
from rmaplab.cpu.files.open_file import (
    O_ACCMODE,
    O_RDONLY,
    POLLIN,
    POLLOUT,
    SEEK_CUR,
    SEEK_SET,
    OpenFile,
    sought,
)
from rmaplab.cpu.files.pipes import FifoInode
from rmaplab.cpu.files.regular import RegularInode
from rmaplab.cpu.waiting import Sleeper
from rmaplab.errors import SyscallError

DIRECTORY_BYTES = 4096


class Viewer(Protocol):
    """Who looks: a process. /proc/self is its own."""

    @property
    def pid(self) -> int:
        """Its number."""


class Name(NamedTuple):
    """An entry, as getdents64(2) tells of it: `kind` are the type bits of st_mode."""

    name: bytes
    ino: int
    kind: int


class DirectoryInode(Inode):
    """One directory; the root is its own parent."""

    kind = stat.S_IFDIR

    def __init__(self, fs: FileSystem, mount: Mount, ino: int, mode: int, owner: Who = ROOT) -> None:
        super().__init__(mount, ino, mode, fs.now_ns, owner)
        self.fs = fs
        self.parent: DirectoryInode = self
        self.name = b""
        self.nlink = 2
        self.entries: dict[bytes, Inode] = {}
        self.removed = False
        self.gone = set[bytes]()
        self._host: HostRoot | None = None
        self._parts: Parts = ()
        self._listing: dict[bytes, Name] | None = None
        self.frozen = False
        """Whether nobody can make or take away names: /proc, /dev/fd."""

    def shows(self, host: HostRoot, parts: Parts, found: os.stat_result) -> None:
        """It is this one of the host's."""
        self.is_like(found)
        self._host, self._parts = host, parts

    @property
    def parts(self) -> Parts | None:
        """Where the host has it, if it does."""
        return None if self._host is None else self._parts

    @property
    def size(self) -> int:
        """As ext4 has it for a small one."""
        return DIRECTORY_BYTES

    @property
    def blocks(self) -> int:
        """Of 512 bytes."""
        return 8 if self.mount.on_disk else 0

    def find(self, name: bytes, viewer: Viewer) -> Inode | None:
        """What `name` leads to. Raises SyscallError as the host does: EACCES, EIO."""
        inode = self.entries.get(name)
        if inode is not None or self._host is None or name in self.gone:
            return inode
        parts = (*self._parts, name)
        found = self._host.stat(parts)
        if found is None:
            return None
        inode = self._of_host(self._host, parts, found) if self._host.is_shown(found) else self._closed(found)
        self._adopt(name, inode)
        return inode

    def _of_host(self, host: HostRoot, parts: Parts, found: os.stat_result) -> Inode:
        fs, ino, mode = self.fs, self.fs.ino_of(found.st_dev, found.st_ino), found.st_mode & 0o7777
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            known = fs.linked.get(ino)
            if known is not None:
                return known
            regular = RegularInode(fs, self.mount, ino, mode)
            regular.shows(host, parts, found)
            if found.st_nlink > 1:
                fs.linked[ino] = regular
            return regular
        if kind == stat.S_IFDIR:
            directory = DirectoryInode(fs, self.mount, ino, mode)
            directory.shows(host, parts, found)
            return directory
        inode: Inode
        if kind == stat.S_IFLNK:
            inode = SymlinkInode(self.mount, ino, host.link(parts))
        elif kind == stat.S_IFIFO:
            inode = FifoInode(fs, self.mount, ino, mode)
        elif kind == stat.S_IFSOCK:
            inode = SocketInode(self.mount, ino, mode)
        else:
            numbers = os.major(found.st_rdev), os.minor(found.st_rdev)
            inode = DeviceInode(self.mount, ino, mode, numbers, block=kind == stat.S_IFBLK)
        inode.is_like(found)
        return inode

    def _closed(self, found: os.stat_result) -> "DirectoryInode":
        """What is seen where a file system of the host's kernel is mounted: an empty directory."""
        closed = DirectoryInode(self.fs, self.mount, self.fs.ino_of(found.st_dev, found.st_ino), 0o555)
        closed.frozen = True
        return closed

    def names(self, viewer: Viewer) -> list[Name]:
        """All, in order, without . and .. Raises SyscallError as the host does. O(names · log)."""
        told = dict(self._host_names())
        told.update(
            (name, Name(name, inode.ino, stat.S_IFMT(inode.stat().mode))) for name, inode in self.entries.items()
        )
        return [told[name] for name in sorted(told) if name not in self.gone or name in self.entries]

    def _host_names(self) -> dict[bytes, Name]:
        if self._host is None:
            return {}
        if self._listing is None:
            here = self._host.stat(self._parts)
            dev = 0 if here is None else here.st_dev
            self._listing = {
                name: Name(name, self.fs.ino_of(dev, ino), kind) for name, ino, kind in self._host.names(self._parts)
            }
        return self._listing

    def is_empty(self, viewer: Viewer) -> bool:
        """Whether it has no names."""
        return not self.names(viewer)

    def _adopt(self, name: bytes, inode: Inode) -> None:
        self.entries[name] = inode
        if isinstance(inode, DirectoryInode):
            inode.parent, inode.name = self, name

    def mount_at(self, name: bytes, inode: Inode) -> None:
        """`inode` is what everybody finds there, whatever the host has."""
        self._adopt(name, inode)
        self.gone.discard(name)

    def add(self, name: bytes, inode: Inode) -> None:
        """A new name. Raises SyscallError: EROFS, EPERM."""
        self.may_change()
        self._adopt(name, inode)
        if isinstance(inode, DirectoryInode):
            self.nlink += 1
            inode.removed = False
        self.modified(self.fs.now_ns)

    def remove(self, name: bytes) -> None:
        """A name less; what it has led to stays. Raises SyscallError: EROFS."""
        self.may_change()
        inode = self.entries.pop(name)
        if self._host is not None:
            self.gone.add(name)
        if isinstance(inode, DirectoryInode):
            self.nlink -= 1
        self.modified(self.fs.now_ns)

    def may_change(self) -> None:
        """Whether names can come and go. Raises SyscallError: ENOENT (it has been removed), EROFS."""
        if self.removed:
            raise SyscallError(errno.ENOENT, "open")
        if self.frozen or self.mount.read_only:
            raise SyscallError(errno.EROFS, "open")

    def is_below(self, other: "DirectoryInode") -> bool:
        """Whether it is `other`, or lies below it. O(depth)."""
        at = self
        while at is not other:
            if at.parent is at:
                return False
            at = at.parent
        return True


class OpenDirectory(OpenFile):
    """An open directory. Its position counts names; what it lists is what was there when it was read from the start."""

    def __init__(self, inode: DirectoryInode, flags: int, viewer: Viewer) -> None:
        if flags & O_ACCMODE != O_RDONLY:
            raise SyscallError(errno.EISDIR, "open")
        super().__init__(flags, inode)
        self.directory, self._viewer = inode, viewer
        self._position = 0
        self._names: list[Name] | None = None

    def entries(self) -> list[tuple[int, Name]]:
        """(position behind it, entry) of those that follow."""
        if self._names is None or not self._position:
            here = self.directory
            if here.removed:
                return []
            dots = Name(b".", here.ino, stat.S_IFDIR), Name(b"..", here.parent.ino, stat.S_IFDIR)
            self._names = [*dots, *here.names(self._viewer)]
        return list(enumerate(self._names[self._position :], self._position + 1))

    def told(self, position: int) -> None:
        """Entries up to there have been read."""
        self._position = position

    def read(self, thread: Sleeper, length: int) -> bytes:
        """No bytes."""
        raise SyscallError(errno.EISDIR, "read")

    def pread(self, thread: Sleeper, length: int, offset: int) -> bytes:
        """No bytes."""
        raise SyscallError(errno.EISDIR, "pread64")

    def seek(self, offset: int, whence: int) -> int:
        """To a position that getdents has told (d_off)."""
        self._position = sought(offset, whence, {SEEK_SET: 0, SEEK_CUR: self._position})
        return self._position

    def sync(self, thread: Sleeper) -> None:
        """Nothing to do."""

    def poll(self) -> int:
        """Always ready."""
        return POLLIN | POLLOUT
