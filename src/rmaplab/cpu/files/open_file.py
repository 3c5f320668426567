"""An open file, and the descriptors that mean it: what every kind of file has in common.

    descriptor 3 --+
    descriptor 4 --+--> OpenFile (references 2) --> an inode of the tree (inode.py), a pipe, a stream of the host ...

A kind of file overrides what it can do; the rest has the errno that Linux has for it. Bytes come from and go to a thread's memory in the system calls
(syscalls/files.py), not here.
"""

import errno
from collections.abc import Mapping
from typing import ClassVar

from rmaplab.cpu.files.inode import Inode, Stat
from rmaplab.cpu.waiting import Sleeper, WaitQueue
from rmaplab.errors import SyscallError
from rmaplab.objects.mm_types import File

O_ACCMODE, O_RDONLY, O_WRONLY, O_RDWR = 3, 0, 1, 2
O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC, O_APPEND, O_NONBLOCK = 0o100, 0o200, 0o400, 0o1000, 0o2000, 0o4000
O_DIRECT, O_LARGEFILE, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC, O_PATH = (
    0o40000,
    0o100000,
    0o200000,
    0o400000,
    0o2000000,
    0o10000000,
)
O_TMPFILE = 0o20000000 | O_DIRECTORY
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL, POLLRDHUP = 1, 2, 4, 8, 16, 32, 0x2000
SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE = 0, 1, 2, 3, 4
MOST_OFFSET = (1 << 63) - 1
NOFILE = 1024


class OpenFile:
    """What a descriptor means. `flags` are those of open(2) that stay: the access mode, O_APPEND, O_NONBLOCK."""

    in_pieces: ClassVar[bool] = False
    """Whether a long read or write may be made of shorter ones: nobody waits in between."""

    def __init__(self, flags: int, inode: Inode | None = None) -> None:
        self.flags = flags
        self.inode = inode
        """What it is an open file of, where the tree knows it."""
        self.place: tuple[Inode, bytes] | None = None
        """The name that it was opened by."""
        self.label = b""
        """What /proc/PID/fd shows, where that is no path of the tree: pipe:[12]."""
        self.references = 0
        self.changed = WaitQueue()
        """Who waits to read, write or poll; woken when what poll() says may have changed."""

    @property
    def readable(self) -> bool:
        """Opened for reading."""
        return self.flags & O_ACCMODE in (O_RDONLY, O_RDWR) and not self.flags & O_PATH

    @property
    def writable(self) -> bool:
        """Opened for writing."""
        return self.flags & O_ACCMODE in (O_WRONLY, O_RDWR) and not self.flags & O_PATH

    @property
    def nonblocking(self) -> bool:
        """O_NONBLOCK."""
        return bool(self.flags & O_NONBLOCK)

    def read(self, thread: Sleeper, length: int) -> bytes:
        """read(2) from where the last one ended. May sleep. Raises SyscallError."""
        raise SyscallError(errno.EINVAL, "read")

    def write(self, thread: Sleeper, data: bytes) -> int:
        """write(2), likewise: how many bytes."""
        raise SyscallError(errno.EINVAL, "write")

    def pread(self, thread: Sleeper, length: int, offset: int) -> bytes:
        """pread(2)."""
        raise SyscallError(errno.ESPIPE, "pread64")

    def pwrite(self, thread: Sleeper, data: bytes, offset: int) -> int:
        """pwrite(2)."""
        raise SyscallError(errno.ESPIPE, "pwrite64")

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2): the new position."""
        raise SyscallError(errno.ESPIPE, "lseek")

    def truncate(self, thread: Sleeper, size: int) -> None:
        """ftruncate(2)."""
        raise SyscallError(errno.EINVAL, "ftruncate")

    def stat(self) -> Stat:
        """fstat(2)."""
        return Stat(0) if self.inode is None else self.inode.stat()

    @property
    def activity(self) -> int:
        """A number that moves with what comes and goes, of files that others wait for."""
        return 0

    def queues(self) -> tuple[WaitQueue, ...]:
        """Those that are woken when what poll() says may have changed."""
        return (self.changed,)

    def poll(self) -> int:
        """POLLIN and the like, as it is now."""
        return POLLIN | POLLOUT

    def sync(self, thread: Sleeper) -> None:
        """fsync(2)."""
        raise SyscallError(errno.EINVAL, "fsync")

    def available(self) -> int:
        """FIONREAD: bytes that can be read at once."""
        raise SyscallError(errno.ENOTTY, "ioctl")

    def reopen(self, flags: int) -> "OpenFile":
        """open(2) of /proc/self/fd/N, of what has no place in the tree."""
        raise SyscallError(errno.ENXIO, "open")

    def mappable(self) -> File:
        """What mmap(2) maps. Raises SyscallError(ENODEV)."""
        raise SyscallError(errno.ENODEV, "mmap")

    def close(self) -> None:
        """The last reference has gone."""


def sought(offset: int, whence: int, bases: Mapping[int, int]) -> int:
    """The position that lseek comes to, `offset` from where each `whence` begins. Raises SyscallError(EINVAL)."""
    base = bases.get(whence)
    if base is None or not 0 <= base + offset <= MOST_OFFSET:
        raise SyscallError(errno.EINVAL, "lseek")
    return base + offset


def get(file: OpenFile) -> OpenFile:
    """One more refers to it."""
    file.references += 1
    return file


def put(file: OpenFile) -> None:
    """One less does; the last one closes it."""
    file.references -= 1
    if not file.references:
        if file.inode is not None and file.inode.locks is not None:
            file.inode.locks.leave(file)
        file.close()


class Descriptors:
    """files_struct: which open file a descriptor means, and which are closed by execve. Threads share one (`users`), a fork's child has a copy."""

    def __init__(self) -> None:
        self.files: dict[int, OpenFile] = {}
        self.cloexec: set[int] = set()
        self.users = 1
        self.limit = NOFILE

    def __getitem__(self, fd: int) -> OpenFile:
        """What `fd` means. Raises SyscallError(EBADF)."""
        file = self.files.get(fd)
        if file is None:
            raise SyscallError(errno.EBADF, "read", f"{fd} is no descriptor")
        return file

    def install(self, file: OpenFile, *, lowest: int = 0, cloexec: bool = False) -> int:
        """The lowest free descriptor from `lowest` on means `file` now. Raises SyscallError(EMFILE); a file that nobody refers to is closed then."""
        fd = lowest
        while fd in self.files:
            fd += 1
        if fd >= self.limit:
            if not file.references:
                file.close()
            raise SyscallError(errno.EMFILE, "open")
        self.files[fd] = get(file)
        if cloexec:
            self.cloexec.add(fd)
        return fd

    def replace(self, fd: int, file: OpenFile, *, cloexec: bool = False) -> int:
        """dup2: `fd` means `file`, whatever it has meant. Raises SyscallError(EBADF)."""
        if not 0 <= fd < self.limit:
            raise SyscallError(errno.EBADF, "dup2")
        before = self.files.get(fd)
        self.files[fd] = get(file)
        self.cloexec.discard(fd)
        if cloexec:
            self.cloexec.add(fd)
        if before is not None:
            self._let_go(before)
        return fd

    def close(self, fd: int) -> None:
        """close(2). Raises SyscallError(EBADF)."""
        file = self[fd]
        del self.files[fd]
        self.cloexec.discard(fd)
        self._let_go(file)

    def _let_go(self, file: OpenFile) -> None:
        """A descriptor less means it; record locks of its inode go, as POSIX wants it."""
        if file.inode is not None and file.inode.locks is not None:
            file.inode.locks.leave(self)
        put(file)

    def copy(self) -> "Descriptors":
        """Of a fork's child: the same open files."""
        other = Descriptors()
        other.files = {fd: get(file) for fd, file in self.files.items()}
        other.cloexec, other.limit = set(self.cloexec), self.limit
        return other

    def close_on_exec(self) -> None:
        """What execve closes."""
        for fd in sorted(self.cloexec):
            self.close(fd)

    def leave(self) -> None:
        """A thread less has them; with the last one they are closed."""
        self.users -= 1
        if not self.users:
            for fd in list(self.files):
                self.close(fd)
