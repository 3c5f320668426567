"""Where a call's bytes are in a program's memory: one stretch, or those of an iovec. Long ones are moved in pieces.

read(fd, buffer, 1 GB)      file ---- 64 KiB ---> memory, ---- 64 KiB ---> memory, ... as long as the file has some
"""

import errno
from collections.abc import Callable

from rmaplab.cpu.files.open_file import SEEK_CUR, OpenFile
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.waiting import Interrupted
from rmaplab.errors import SyscallError

MAX_RW_COUNT = 0x7FFF_F000
IOV_MAX = 1024
PIECE = 1 << 16
Stretch = tuple[int, int]
"""Address, length."""


class UserBuffers:
    """Stretches of memory that a call reads from or writes to, one behind the other."""

    def __init__(self, thread: Thread, stretches: list[Stretch]) -> None:
        self._thread, self._stretches = thread, stretches
        self.length = sum(length for _, length in stretches)

    @staticmethod
    def one(thread: Thread, address: int, length: int) -> "UserBuffers":
        """A buffer. No call moves more than MAX_RW_COUNT. Raises SyscallError: EFAULT (it wraps), EINVAL (a length with a sign)."""
        if address + length > 1 << thread.abi.bits:
            raise SyscallError(errno.EFAULT, "read")
        if thread.abi.signed(length) < 0:
            raise SyscallError(errno.EINVAL, "read")
        return UserBuffers(thread, [(address, min(length, MAX_RW_COUNT))])

    @staticmethod
    def of_iovec(thread: Thread, address: int, nr: int) -> "UserBuffers":
        """An array of struct iovec. Raises SyscallError: EINVAL, EFAULT."""
        if not 0 <= nr <= IOV_MAX:
            raise SyscallError(errno.EINVAL, "readv")
        words = thread.words(address, 2 * nr)
        found, left = list[Stretch](), MAX_RW_COUNT
        for base, length in zip(words[::2], words[1::2], strict=True):
            if thread.abi.signed(length) < 0:
                raise SyscallError(errno.EINVAL, "readv")
            found.append((base, min(length, left)))
            left -= found[-1][1]
        return UserBuffers(thread, found)

    def parts(self, start: int, length: int) -> list[Stretch]:
        """Where bytes [start, start + length) are."""
        found = list[Stretch]()
        for address, size in self._stretches:
            if start < size and length:
                found.append((address + start, min(size - start, length)))
                length -= found[-1][1]
            start = max(start - size, 0)
        return found

    def put(self, start: int, data: bytes) -> int:
        """Bytes from `start` on are `data`, up to the first that cannot be: how many. Raises SyscallError(EFAULT): none."""
        done = 0
        for address, length in self.parts(start, len(data)):
            try:
                stored = self._thread.put_some(address, data[done : done + length])
            except SyscallError:
                if not done:
                    raise
                break
            done += stored
            if stored < length:
                break
        return done

    def get(self, start: int, length: int) -> bytes:
        """Bytes [start, start + length), up to the first that cannot be read. Raises SyscallError(EFAULT): none."""
        found = bytearray()
        for address, nr in self.parts(start, length):
            try:
                part = self._thread.get_some(address, nr)
            except SyscallError:
                if not found:
                    raise
                break
            found += part
            if len(part) < nr:
                break
        return bytes(found)


def readable(thread: Thread, fd: int) -> OpenFile:
    """What `fd` means, opened for reading. Raises SyscallError(EBADF)."""
    file = thread.process.descriptors[fd]
    if not file.readable:
        raise SyscallError(errno.EBADF, "read")
    return file


def writable(thread: Thread, fd: int) -> OpenFile:
    """The same for writing."""
    file = thread.process.descriptors[fd]
    if not file.writable:
        raise SyscallError(errno.EBADF, "write")
    return file


def read_into(thread: Thread, file: OpenFile, buffers: UserBuffers, offset: int | None = None) -> int:
    """read(2), or pread(2) at `offset`: how many bytes. Raises SyscallError, Interrupted."""
    done = 0
    while True:
        wanted = min(buffers.length - done, PIECE if file.in_pieces else MAX_RW_COUNT)
        try:
            data = file.read(thread, wanted) if offset is None else file.pread(thread, wanted, offset + done)
        except (SyscallError, Interrupted):
            if done:
                return done
            raise
        stored = 0
        try:
            stored = buffers.put(done, data)
        except SyscallError:
            if not done:
                raise
        finally:
            if stored < len(data) and offset is None and file.in_pieces:
                file.seek(stored - len(data), SEEK_CUR)
        done += stored
        if not file.in_pieces or stored < wanted or done == buffers.length:
            return done


def write_from(thread: Thread, file: OpenFile, buffers: UserBuffers, offset: int | None = None) -> int:
    """write(2), or pwrite(2) at `offset`: how many bytes. Raises SyscallError, Interrupted."""

    def write(data: bytes, done: int) -> int:
        return file.write(thread, data) if offset is None else file.pwrite(thread, data, offset + done)

    return in_pieces(buffers, write, partly=file.in_pieces)


def in_pieces(buffers: UserBuffers, write: Callable[[bytes, int], int], *, partly: bool) -> int:
    """How many bytes `write` (data, how many before) has taken. What cannot be read all is written up to there if it may be `partly`, else it is EFAULT. Raises SyscallError, Interrupted: none has gone."""
    done = 0
    while True:
        wanted = min(buffers.length - done, PIECE)
        try:
            data = buffers.get(done, wanted)
            if len(data) < wanted and not partly:
                raise SyscallError(errno.EFAULT, "write")
            written = write(data, done)
        except (SyscallError, Interrupted):
            if done:
                return done
            raise
        done += written
        if written < wanted or done == buffers.length:
            return done


def offset_of(low: int, high: int) -> int:
    """A loff_t that is in two words. Raises SyscallError(EINVAL): it is negative."""
    return checked((high & 0xFFFF_FFFF) << 32 | (low & 0xFFFF_FFFF), 64)


def checked(offset: int, bits: int) -> int:
    """An offset or a size of `bits` bits. Raises SyscallError(EINVAL): it is negative."""
    if offset >> (bits - 1):
        raise SyscallError(errno.EINVAL, "pread64")
    return offset
