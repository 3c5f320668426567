"""The program's stdin, stdout and stderr, which are the host's.

A read of the host's stdin stops the whole simulated machine until there is something: its time is not the host's. What is written goes to the host at once,
up to a limit (`OutputLimit`). A terminal of the host looks like one; what a program sets of it stays in here (`Terminal`).
"""

import errno
import fcntl
import os
import select
import stat
import struct
import termios
from collections.abc import Callable
from typing import TypeVar

from rmaplab.cpu.files.inode import Stat
from rmaplab.cpu.files.open_file import (
    O_APPEND,
    O_DIRECTORY,
    O_NOFOLLOW,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    OpenFile,
)
from rmaplab.cpu.files.pipes import SIGPIPE
from rmaplab.cpu.waiting import Sleeper
from rmaplab.errors import BoundReached, SyscallError

R = TypeVar("R")
MOST_AT_ONCE = 1 << 20
STREAM_DEV = 0x18
TERMIOS_BYTES = 36
"""struct termios of the kernel: four words of flags, the line discipline, 19 characters."""


class OutputLimit:
    """How much programs may still write to the host."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit

    def take(self, nr: int) -> None:
        """`nr` bytes more. Raises BoundReached when it is too much."""
        self.left -= nr
        if self.left < 0:
            raise BoundReached(f"the program has written more than {self.limit} bytes: try --output-limit with more")


class Terminal:
    """What programs know of the host's terminal: its settings as they were, then as they have set them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.group = 0
        """Its foreground process group; 0: nobody has said."""
        self.settings = self._ask(termios.TCGETS, TERMIOS_BYTES)

    def window(self) -> bytes:
        """A struct winsize, as the host has it now."""
        return self._ask(termios.TIOCGWINSZ, struct.calcsize("4H"))

    def _ask(self, request: int, nr: int) -> bytes:
        try:
            return fcntl.ioctl(self._fd, request, bytes(nr + 32))[:nr]
        except OSError:
            return bytes(nr)


class HostStream(OpenFile):
    """A descriptor of the host: stdin, stdout or stderr."""

    def __init__(self, fd: int, flags: int, output: OutputLimit) -> None:
        super().__init__(flags)
        self._fd, self._output = fd, output
        try:
            self.terminal = Terminal(fd) if os.isatty(fd) else None
            self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:  # it was closed before we came
            self.terminal, self._is_file = None, False
        self.label = b"/dev/tty" if self.terminal is not None else b"host:[%d]" % fd

    def read(self, thread: Sleeper, length: int) -> bytes:
        """What the host has; the machine stands still until it has something."""
        if not self._is_file:
            thread.waits_for_host(self._fd)
        return self._of_the_host(os.read, self._fd, min(length, MOST_AT_ONCE))

    def pread(self, thread: Sleeper, length: int, offset: int) -> bytes:
        """Of a file of the host."""
        return self._of_the_host(os.pread, self._fd, min(length, MOST_AT_ONCE), offset)

    def write(self, thread: Sleeper, data: bytes) -> int:
        """All of it. Who nobody listens to gets SIGPIPE."""
        self._output.take(len(data))
        done = 0
        while done < len(data):
            try:
                done += self._of_the_host(os.write, self._fd, data[done : done + MOST_AT_ONCE])
            except SyscallError as failure:
                if failure.errno == errno.EPIPE:
                    thread.send_self(SIGPIPE)
                raise
        return done

    def _of_the_host(self, call: Callable[..., R], *arguments: object) -> R:
        while True:
            try:
                return call(*arguments)
            except BlockingIOError:  # the host's descriptor does not wait: we do
                poller = select.poll()
                poller.register(self._fd, select.POLLIN if call is os.read else select.POLLOUT)
                poller.poll()
            except OSError as failure:
                raise SyscallError(failure.errno or errno.EIO, "read", failure.strerror or "") from None

    def seek(self, offset: int, whence: int) -> int:
        """Of a file of the host that is read: its descriptor is our own."""
        if not self._is_file or not 0 <= whence <= 2 or not -(1 << 63) <= offset < 1 << 63:
            raise SyscallError(errno.ESPIPE if not self._is_file else errno.EINVAL, "lseek")
        return self._of_the_host(os.lseek, self._fd, offset, whence)

    def sync(self, thread: Sleeper) -> None:
        """A file of the host is its own affair."""
        if not self._is_file:
            raise SyscallError(errno.EINVAL, "fsync")

    def stat(self) -> Stat:
        """As the host has it; its numbers are ours."""
        try:
            found = os.fstat(self._fd)
        except OSError:
            raise SyscallError(errno.EBADF, "fstat") from None
        return Stat(
            found.st_mode,
            found.st_size,
            self._fd + 3,
            STREAM_DEV,
            1,
            rdev=found.st_rdev,
            blocks=found.st_blocks,
            blksize=found.st_blksize,
        )

    def available(self) -> int:
        """FIONREAD, as the host has it."""
        try:
            return int(struct.unpack("<i", fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))[0])
        except OSError as failure:
            raise SyscallError(failure.errno or errno.ENOTTY, "ioctl") from None

    def reopen(self, flags: int) -> OpenFile:
        """/dev/stdout: the same stream."""
        return HostStream(self._fd, flags & ~(O_DIRECTORY | O_NOFOLLOW | O_APPEND), self._output)

    def poll(self, wait_ms: int = 0) -> int:
        """As the host has it, within `wait_ms` of its time."""
        wanted = (select.POLLIN if self.readable else 0) | (select.POLLOUT if self.writable else 0)
        try:
            poller = select.poll()
            poller.register(self._fd, wanted)
            return sum(events for _, events in poller.poll(wait_ms)) & (POLLIN | POLLOUT | POLLERR | POLLHUP)
        except OSError:
            return POLLERR
