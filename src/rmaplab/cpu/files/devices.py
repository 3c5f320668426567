"""Devices that every program may expect: null, zero, full, random, urandom, tty; eventfd, which is none but like one.

Source: drivers/char/mem.c, random.c; fs/eventfd.c of 6.18; random(4), full(4), eventfd(2).
"""

import errno
import stat

from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.inode import DeviceInode, Stat
from rmaplab.cpu.files.open_file import O_RDWR, POLLIN, POLLOUT, SEEK_END, OpenFile
from rmaplab.cpu.waiting import Sleeper, WaitQueue
from rmaplab.errors import SyscallError
from rmaplab.mm.dev_zero import dev_zero
from rmaplab.mm.open_file import fput, get_file, open_file
from rmaplab.objects.mm_types import File

NULL, ZERO, FULL, RANDOM, URANDOM, TTY = (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)
DEVICES: dict[bytes, tuple[int, int]] = {
    b"null": NULL,
    b"zero": ZERO,
    b"full": FULL,
    b"random": RANDOM,
    b"urandom": URANDOM,
    b"tty": TTY,
}
MOST_EVENTS = (1 << 64) - 2
EVENT_BYTES = 8


class OpenDevice(OpenFile):
    """An open device of DEVICES, but for tty."""

    in_pieces = True

    def __init__(self, fs: FileSystem, inode: DeviceInode, flags: int) -> None:
        super().__init__(flags, inode)
        self._fs, self._device = fs, inode.device
        self._file: File | None = None

    def read(self, thread: Sleeper, length: int) -> bytes:
        """Nothing, zeros, or numbers that follow from the seed."""
        if self._device == NULL:
            return b""
        if self._device in (ZERO, FULL):
            return bytes(length)
        return self._fs.random.randbytes(length)

    def pread(self, thread: Sleeper, length: int, offset: int) -> bytes:
        """The same everywhere."""
        return self.read(thread, length)

    def write(self, thread: Sleeper, data: bytes) -> int:
        """It is lost; of full there is no room."""
        if self._device == FULL:
            raise SyscallError(errno.ENOSPC, "write")
        return len(data)

    def pwrite(self, thread: Sleeper, data: bytes, offset: int) -> int:
        """The same everywhere."""
        return self.write(thread, data)

    def seek(self, offset: int, whence: int) -> int:
        """Nowhere."""
        if not 0 <= whence <= SEEK_END:
            raise SyscallError(errno.EINVAL, "lseek")
        return 0

    def mappable(self) -> File:
        """Of zero: mapped shared it is shared memory (mm/dev_zero.py)."""
        if self._device != ZERO:
            raise SyscallError(errno.ENODEV, "mmap")
        if self._file is None:
            kernel = self._fs.kernel
            with self._fs.errnos("mmap"):
                self._file = get_file(
                    open_file(kernel, dev_zero(kernel), readable=self.readable, writable=self.writable)
                )
        return self._file

    def close(self) -> None:
        """Its struct file goes, unless somebody maps it."""
        if self._file is not None:
            fput(self._fs.kernel, self._file)


class EventFile(OpenFile):
    """eventfd(2): a number that grows with each write and is 0 after a read; with `semaphore` one less."""

    def __init__(self, value: int, flags: int, *, semaphore: bool) -> None:
        super().__init__(flags | O_RDWR)
        self.label = b"anon_inode:[eventfd]"
        self._value, self._semaphore = value, semaphore
        self._activity = 0

    def read(self, thread: Sleeper, length: int) -> bytes:
        """Eight bytes; sleeps while it is 0."""
        if length < EVENT_BYTES:
            raise SyscallError(errno.EINVAL, "read")
        while not self._value:
            if self.nonblocking:
                raise SyscallError(errno.EAGAIN, "read")
            thread.sleep(self.changed)
        taken = 1 if self._semaphore else self._value
        self._value -= taken
        self._activity += 1
        self.changed.wake()
        return taken.to_bytes(EVENT_BYTES, "little")

    def write(self, thread: Sleeper, data: bytes) -> int:
        """Add; sleeps while there is no room."""
        if len(data) < EVENT_BYTES or (added := int.from_bytes(data[:EVENT_BYTES], "little")) > MOST_EVENTS:
            raise SyscallError(errno.EINVAL, "write")
        while self._value + added > MOST_EVENTS:
            if self.nonblocking:
                raise SyscallError(errno.EAGAIN, "write")
            thread.sleep(self.changed)
        self._value += added
        self._activity += 1
        self.changed.wake()
        return EVENT_BYTES

    @property
    def activity(self) -> int:
        """Reads and writes."""
        return self._activity

    def queues(self) -> tuple[WaitQueue, ...]:
        """One for both."""
        return (self.changed,)

    def stat(self) -> Stat:
        """An inode that all such files share."""
        return Stat(stat.S_IRUSR | stat.S_IWUSR, ino=1, dev=0xF)

    def poll(self) -> int:
        """Whether it is more than 0, and less than most."""
        return (POLLIN if self._value else 0) | (POLLOUT if self._value < MOST_EVENTS else 0)
