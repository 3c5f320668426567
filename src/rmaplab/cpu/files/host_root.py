"""The directory of the host that a tree shows: it is read, part by part below an open descriptor, and never written.

    host   /srv/root/bin/sh         parts (b"bin", b"sh"):  open(b"bin", O_PATH | O_NOFOLLOW), then b"sh" in it
           /srv/root/link -> /etc   told as a link; nobody follows it on the host

No part is followed elsewhere, so nothing outside is reached, whatever the host's links say or become. What is no directory and no regular file is
never opened. File systems of the host's kernel (proc, sysfs, devtmpfs and the like) are not shown, wherever they are mounted.

Descriptors are few: those of directories and files that were used last stay open, others are opened again when they are asked for.
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import NamedTuple

from rmaplab.cache.host_store import HostStore
from rmaplab.errors import DiskError, NoSpace, SyscallError, UsageError
from rmaplab.harmless import printable
from rmaplab.units import PAGE_SIZE

Parts = tuple[bytes, ...]
Identity = tuple[int, int]
"""St_dev and st_ino on the host."""
MOST_OPEN = 48
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
OF_THE_KERNEL = frozenset(
    "proc sysfs devtmpfs devpts cgroup cgroup2 debugfs tracefs securityfs configfs fusectl pstore bpf efivarfs mqueue hugetlbfs binfmt_misc rpc_pipefs nsfs selinuxfs autofs".split()  # noqa: SIM905
)
"""Types of file systems that are not shown."""


class HostEntry(NamedTuple):
    """A name of a host's directory: its inode's number, and the type bits of st_mode; 0 if the host must be asked."""

    name: bytes
    ino: int
    kind: int


class HostRoot:
    """One directory of the host, held open. Raises UsageError if there is none at `path`."""

    def __init__(self, path: str | Path) -> None:
        self.path = printable(str(path))
        try:
            self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as failure:
            why = failure.strerror if isinstance(failure, OSError) else "no path"
            raise UsageError(f"{self.path}: {why}: name a directory as the root of all files") from None
        self._directories: OrderedDict[Parts, int] = OrderedDict()
        self._files: OrderedDict[tuple[Parts, Identity], HostStore] = OrderedDict()
        self._closed_devices = _devices_of_the_kernel()

    def close(self) -> None:
        """Not to be used after."""
        self._files.clear()
        for fd in self._directories.values():
            os.close(fd)
        self._directories.clear()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def stat(self, parts: Parts) -> os.stat_result | None:
        """What is there, a link itself; None: nothing. Raises SyscallError: EACCES, EIO and the like."""
        try:
            found = (
                os.stat(parts[-1], dir_fd=self._directory(parts[:-1]), follow_symlinks=False)
                if parts
                else os.fstat(self._fd)
            )
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise SyscallError(failure.errno or errno.EIO, "stat") from None
        return found

    def is_shown(self, found: os.stat_result) -> bool:
        """Whether it lies on a file system that is shown."""
        return found.st_dev not in self._closed_devices

    def link(self, parts: Parts) -> bytes:
        """What a symbolic link says. Raises SyscallError."""
        try:
            return os.readlink(parts[-1], dir_fd=self._directory(parts[:-1]))
        except OSError as failure:
            raise SyscallError(failure.errno or errno.EIO, "readlink") from None

    def names(self, parts: Parts) -> list[HostEntry]:
        """What a directory has, by name. Raises SyscallError: EACCES and the like. O(names · log)."""
        try:
            fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory(parts))
            try:
                with os.scandir(fd) as entries:
                    return sorted(HostEntry(os.fsencode(entry.name), entry.inode(), _kind(entry)) for entry in entries)
            finally:
                os.close(fd)
        except OSError as failure:
            raise SyscallError(failure.errno or errno.EIO, "getdents64") from None

    def may_read(self, parts: Parts, identity: Identity) -> None:
        """Whether the host lets us read a file. Raises SyscallError: EACCES and the like; ENXIO, ESTALE: it is none, or another, by now."""
        self._store(parts, identity)

    def page(self, parts: Parts, index: int, identity: Identity) -> bytes:
        """A page of the file that was `identity` when it was found. Raises DiskError."""
        try:
            return self._store(parts, identity)[index]
        except KeyError:
            return bytes(PAGE_SIZE)  # it was cut meanwhile
        except SyscallError as failure:
            raise DiskError(f"page {index} of a file of the host: {failure.strerror}") from None

    def _store(self, parts: Parts, identity: Identity) -> HostStore:
        store = self._files.get((parts, identity))
        if store is not None:
            self._files.move_to_end((parts, identity))
            return store
        try:
            above = self._directory(parts[:-1])
            if not stat.S_ISREG(os.stat(parts[-1], dir_fd=above, follow_symlinks=False).st_mode):
                raise SyscallError(errno.ENXIO, "open")  # before it is opened: opening a device acts
            fd = os.open(parts[-1], _FILE, dir_fd=above)
        except OSError as failure:
            raise SyscallError(failure.errno or errno.EIO, "open") from None
        found = os.fstat(fd)
        store = HostStore(fd, found.st_size)  # which closes it
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != identity:
            raise SyscallError(errno.ESTALE, "open", "it has changed meanwhile")
        self._files[parts, identity] = store
        if len(self._files) > MOST_OPEN:
            self._files.popitem(last=False)
        return store

    def _directory(self, parts: Parts) -> int:
        """A descriptor of a directory below, reached without a link; it stays ours. Raises OSError."""
        nr = len(parts)
        while nr and parts[:nr] not in self._directories:
            nr -= 1
        fd = self._fd
        if nr:
            fd = self._directories[parts[:nr]]
            self._directories.move_to_end(parts[:nr])
        for i in range(nr, len(parts)):
            fd = os.open(parts[i], _DIRECTORY, dir_fd=fd)
            self._directories[parts[: i + 1]] = fd
            if len(self._directories) > MOST_OPEN:
                os.close(self._directories.popitem(last=False)[1])
            if os.fstat(fd).st_dev in self._closed_devices:
                del self._directories[parts[: i + 1]]
                os.close(fd)
                raise OSError(errno.ENOENT, "not shown")
        return fd


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def _devices_of_the_kernel() -> frozenset[int]:
    """st_dev of file systems that are not shown. Source: proc(5), mountinfo."""
    found = set[int]()
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()[:1]
        if len(fields) > 2 and kind and kind[0].split(".")[0] in OF_THE_KERNEL:
            major, _, minor = fields[2].partition(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


class DiskSpace:
    """Pages that programs may still write to the simulated disk."""

    def __init__(self, limit_bytes: int) -> None:
        self.nr_pages = self.left = limit_bytes // PAGE_SIZE

    def take(self, nr: int) -> None:
        """`nr` pages more. Raises NoSpace."""
        if nr > self.left:
            raise NoSpace("the simulated disk is full")
        self.left -= nr

    def give(self, nr: int) -> None:
        """`nr` pages less."""
        self.left += nr


class DiskFile(MutableMapping[int, bytes]):
    """What the simulated disk has of a file: pages that programs have written, before those of the host's file at `parts`, if it is one of the host's.

    A page is promised when it is first written to (`promise`), and is taken of the space from then on.
    """

    def __init__(
        self,
        space: DiskSpace,
        host: HostRoot | None = None,
        parts: Parts = (),
        nr_pages: int = 0,
        identity: Identity = (0, 0),
    ) -> None:
        self._space, self._host, self._parts, self._identity = space, host, parts, identity
        self._of_host = nr_pages
        self._gone = set[int]()
        self._written: dict[int, bytes] = {}
        self._promised = set[int]()

    @property
    def nr_pages(self) -> int:
        """Pages that it takes."""
        return len(self)

    def promise(self, first: int, last: int) -> None:
        """Pages [first, last] are to be written. Raises NoSpace. O(pages)."""
        if last - first >= self._space.nr_pages:
            raise NoSpace("the simulated disk is not so large")
        new = [index for index in range(first, last + 1) if index not in self._written and index not in self._promised]
        self._space.take(len(new))
        self._promised.update(new)

    def __getitem__(self, index: int) -> bytes:
        written = self._written.get(index)
        if written is not None:
            return written
        if self._host is None or not self._has(index):
            raise KeyError(index)
        return self._host.page(self._parts, index, self._identity)

    def _has(self, index: int) -> bool:
        return 0 <= index < self._of_host and index not in self._gone

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and (index in self._written or self._has(index))

    def __iter__(self) -> Iterator[int]:
        yield from self._written
        yield from (index for index in range(self._of_host) if index not in self._gone and index not in self._written)

    def __len__(self) -> int:
        return self._of_host - len(self._gone) + sum(not self._has(index) for index in self._written)

    def __bool__(self) -> bool:
        return bool(self._written) or self._of_host > len(self._gone)

    def __setitem__(self, index: int, data: bytes) -> None:
        if index in self._promised:
            self._promised.discard(index)
        elif index not in self._written:
            self._space.take(1)
        self._written[index] = data

    def __delitem__(self, index: int) -> None:
        if index not in self:
            raise KeyError(index)
        if self._written.pop(index, None) is not None:
            self._space.give(1)
        if index == self._of_host - 1:
            self._of_host = index
            self._gone.discard(index)
        elif self._has(index):
            self._gone.add(index)

    def forget(self, nr_pages: int) -> None:
        """What was promised from page `nr_pages` on will not be written."""
        gone = {index for index in self._promised if index >= nr_pages}
        self._promised -= gone
        self._space.give(len(gone))

    def close(self) -> None:
        """The file has gone, and what it has taken is free."""
        self._space.give(len(self._written) + len(self._promised))
        self._written, self._promised, self._of_host, self._gone = {}, set(), 0, set()
