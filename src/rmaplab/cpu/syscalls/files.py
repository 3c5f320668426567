"""Reading and writing, by descriptor. What the kinds of files do is in cpu/files/.

Source: fs/read_write.c, fs/sync.c, fs/open.c of 6.18.
"""

import errno

from rmaplab.cpu.abi import int32
from rmaplab.cpu.files.open_file import MOST_OFFSET, O_APPEND, SEEK_CUR, SEEK_SET, OpenFile
from rmaplab.cpu.files.pipes import PipeEnd
from rmaplab.cpu.files.regular import OpenRegular
from rmaplab.cpu.syscalls.buffers import (
    MAX_RW_COUNT,
    PIECE,
    UserBuffers,
    checked,
    offset_of,
    read_into,
    readable,
    writable,
    write_from,
)
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.waiting import Interrupted
from rmaplab.errors import SyscallError

OFFSET_BYTES = 8


@call("read")
def sys_read(thread: Thread, fd: int, buffer: int, count: int, *_: int) -> int:
    """read(2)."""
    return read_into(thread, readable(thread, int32(fd)), UserBuffers.one(thread, buffer, count))


@call("write")
def sys_write(thread: Thread, fd: int, buffer: int, count: int, *_: int) -> int:
    """write(2)."""
    return write_from(thread, writable(thread, int32(fd)), UserBuffers.one(thread, buffer, count))


@call("readv")
def sys_readv(thread: Thread, fd: int, iov: int, nr: int, *_: int) -> int:
    """readv(2)."""
    return read_into(thread, readable(thread, int32(fd)), UserBuffers.of_iovec(thread, iov, int32(nr)))


@call("writev")
def sys_writev(thread: Thread, fd: int, iov: int, nr: int, *_: int) -> int:
    """writev(2)."""
    return write_from(thread, writable(thread, int32(fd)), UserBuffers.of_iovec(thread, iov, int32(nr)))


@call("pread64", abi=64)
def sys_pread64(thread: Thread, fd: int, buffer: int, count: int, offset: int, *_: int) -> int:
    """pread(2)."""
    return read_into(thread, readable(thread, int32(fd)), UserBuffers.one(thread, buffer, count), checked(offset, 64))


@call("pwrite64", abi=64)
def sys_pwrite64(thread: Thread, fd: int, buffer: int, count: int, offset: int, *_: int) -> int:
    """pwrite(2)."""
    return write_from(thread, writable(thread, int32(fd)), UserBuffers.one(thread, buffer, count), checked(offset, 64))


@call("pread64", abi=32)
def sys_pread64_32(thread: Thread, fd: int, buffer: int, count: int, low: int, high: int, *_: int) -> int:
    """pread(2) of i386: the offset is in two words."""
    return sys_pread64(thread, fd, buffer, count, offset_of(low, high))


@call("pwrite64", abi=32)
def sys_pwrite64_32(thread: Thread, fd: int, buffer: int, count: int, low: int, high: int, *_: int) -> int:
    """pwrite(2) of i386."""
    return sys_pwrite64(thread, fd, buffer, count, offset_of(low, high))


def _place(thread: Thread, low: int, high: int) -> int | None:
    """The offset of preadv2 and pwritev2, None: the file's position (-1)."""
    offset = low if thread.abi.bits == 64 else (high << 32) | low
    return None if offset == (1 << 64) - 1 else checked(offset, 64)


@call("preadv", "preadv2")
def sys_preadv(thread: Thread, fd: int, iov: int, nr: int, low: int, high: int, *_: int) -> int:
    """preadv(2); flags of preadv2 are hints."""
    return read_into(
        thread, readable(thread, int32(fd)), UserBuffers.of_iovec(thread, iov, int32(nr)), _place(thread, low, high)
    )


@call("pwritev", "pwritev2")
def sys_pwritev(thread: Thread, fd: int, iov: int, nr: int, low: int, high: int, *_: int) -> int:
    """pwritev(2), likewise."""
    return write_from(
        thread, writable(thread, int32(fd)), UserBuffers.of_iovec(thread, iov, int32(nr)), _place(thread, low, high)
    )


@call("lseek")
def sys_lseek(thread: Thread, fd: int, offset: int, whence: int, *_: int) -> int:
    """lseek(2). A position that a long cannot tell is EOVERFLOW."""
    position = thread.process.descriptors[int32(fd)].seek(thread.abi.signed(offset), whence & 0xFFFF_FFFF)
    if position >> (thread.abi.bits - 1):
        raise SyscallError(errno.EOVERFLOW, "lseek")
    return position


@call("_llseek", abi=32)
def sys_llseek(thread: Thread, fd: int, high: int, low: int, result: int, whence: int, *_: int) -> int:
    """lseek(2) of i386 with 64 bits."""
    offset = (high << 32) | low
    position = thread.process.descriptors[int32(fd)].seek(offset - ((offset >> 63) << 64), whence & 0xFFFF_FFFF)
    thread.put(result, position.to_bytes(OFFSET_BYTES, "little"))
    return 0


@call("ftruncate", abi=64)
def sys_ftruncate(thread: Thread, fd: int, size: int, *_: int) -> int:
    """ftruncate(2)."""
    file = thread.process.descriptors[int32(fd)]
    file.truncate(thread, checked(size, 64))
    return 0


@call("ftruncate", abi=32)
def sys_ftruncate_32(thread: Thread, fd: int, size: int, *_: int) -> int:
    """ftruncate(2) of i386."""
    return sys_ftruncate(thread, fd, checked(size, 32))


@call("ftruncate64", abi=32)
def sys_ftruncate64(thread: Thread, fd: int, low: int, high: int, *_: int) -> int:
    """ftruncate(2) of i386 with 64 bits."""
    return sys_ftruncate(thread, fd, offset_of(low, high))


@call("fallocate", abi=64)
def sys_fallocate(thread: Thread, fd: int, mode: int, offset: int, length: int, *_: int) -> int:
    """fallocate(2)."""
    file = writable(thread, int32(fd))
    if isinstance(file, PipeEnd):
        raise SyscallError(errno.ESPIPE, "fallocate")
    if not isinstance(file, OpenRegular):
        raise SyscallError(errno.ENODEV, "fallocate")
    if not file.node.mount.on_disk and not thread.kernel.rules.fallocate_known:
        raise SyscallError(errno.ENOSYS, "fallocate")
    file.allocate(thread, mode & 0xFFFF_FFFF, checked(offset, 64), checked(length, 64))
    return 0


@call("fallocate", abi=32)
def sys_fallocate_32(thread: Thread, fd: int, mode: int, low: int, high: int, nr_low: int, nr_high: int) -> int:
    """fallocate(2) of i386."""
    return sys_fallocate(thread, fd, mode, offset_of(low, high), offset_of(nr_low, nr_high))


@call("fsync", "fdatasync", "syncfs")
def sys_fsync(thread: Thread, fd: int, *_: int) -> int:
    """fsync(2)."""
    thread.process.descriptors[int32(fd)].sync(thread)
    return 0


@call("sync")
def sys_sync(thread: Thread, *_: int) -> int:
    """sync(2): what has a name goes to the disk."""
    thread.userland.tree.sync()
    return 0


@call("fadvise64", "fadvise64_64", "readahead", "sync_file_range")
def sys_fadvise(thread: Thread, fd: int, *_: int) -> int:
    """posix_fadvise(2) and the like: hints, which nothing comes of. Raises SyscallError(EBADF)."""
    file = thread.process.descriptors[int32(fd)]
    if isinstance(file, PipeEnd):
        raise SyscallError(errno.ESPIPE, "fadvise64")
    return 0


def _move(thread: Thread, source: OpenFile, sink: OpenFile, count: int, start: int | None, to: int | None) -> int:
    """Bytes that went from one file to another, as long as there are some and they have room. What has not gone is still to be read."""
    if start is None and source.in_pieces:
        position = source.seek(0, SEEK_CUR)
        done = _move(thread, source, sink, count, position, to)
        source.seek(position + done, SEEK_SET)
        return done
    done = 0
    while done < count:
        data, written = b"", 0
        try:
            wanted = min(count - done, PIECE)
            data = source.read(thread, wanted) if start is None else source.pread(thread, wanted, start + done)
            if not data:
                return done
            written = sink.write(thread, data) if to is None else sink.pwrite(thread, data, to + done)
        except (SyscallError, Interrupted):
            if done:
                return done
            raise
        finally:
            if isinstance(source, PipeEnd):
                source.give_back(data[written:])
        done += written
        if written < len(data) or not source.in_pieces:
            return done
    return done


def _read_offset(thread: Thread, place: int, width: int) -> int | None:
    return checked(int.from_bytes(thread.get(place, width), "little"), 8 * width) if place else None


def _sendfile(thread: Thread, out: int, source: int, place: int, count: int, width: int) -> int:
    file, sink = readable(thread, int32(source)), writable(thread, int32(out))
    if not file.in_pieces or sink.flags & O_APPEND:
        raise SyscallError(errno.EINVAL, "sendfile")
    start = _read_offset(thread, place, width)
    done = _move(thread, file, sink, min(count, MAX_RW_COUNT), start, None)
    if start is not None:
        thread.put(place, (start + done).to_bytes(width, "little"))
    return done


@call("sendfile")
def sys_sendfile(thread: Thread, out: int, source: int, place: int, count: int, *_: int) -> int:
    """sendfile(2)."""
    return _sendfile(thread, out, source, place, count, thread.abi.word)


@call("sendfile64", abi=32)
def sys_sendfile64(thread: Thread, out: int, source: int, place: int, count: int, *_: int) -> int:
    """sendfile(2) of i386 with 64 bits."""
    return _sendfile(thread, out, source, place, count, OFFSET_BYTES)


@call("copy_file_range")
def sys_copy_file_range(thread: Thread, source: int, from_: int, sink: int, to: int, count: int, flags: int) -> int:
    """copy_file_range(2), between regular files."""
    one, other = readable(thread, int32(source)), writable(thread, int32(sink))
    if flags or not isinstance(one, OpenRegular) or not isinstance(other, OpenRegular):
        raise SyscallError(errno.EINVAL, "copy_file_range")
    if other.flags & O_APPEND:
        raise SyscallError(errno.EBADF, "copy_file_range")
    start, end = _read_offset(thread, from_, OFFSET_BYTES), _read_offset(thread, to, OFFSET_BYTES)
    first, last = (one.position if start is None else start), (other.position if end is None else end)
    count = min(count, MAX_RW_COUNT, max(one.node.size - first, 0))
    if one.node is other.node and first < last + count and last < first + count:
        raise SyscallError(errno.EINVAL, "copy_file_range")
    done = _move(thread, one, other, count, start, end)
    for place, offset in ((from_, start), (to, end)):
        if offset is not None:
            thread.put(place, (offset + done).to_bytes(OFFSET_BYTES, "little"))
    return done


@call("splice")
def sys_splice(thread: Thread, source: int, from_: int, sink: int, to: int, count: int, *_: int) -> int:
    """splice(2): one of both is a pipe."""
    one, other = readable(thread, int32(source)), writable(thread, int32(sink))
    if not isinstance(one, PipeEnd) and not isinstance(other, PipeEnd):
        raise SyscallError(errno.EINVAL, "splice")
    if (from_ and isinstance(one, PipeEnd)) or (to and isinstance(other, PipeEnd)):
        raise SyscallError(errno.ESPIPE, "splice")
    start, end = _read_offset(thread, from_, OFFSET_BYTES), _read_offset(thread, to, OFFSET_BYTES)
    done = _move(thread, one, other, min(count, PIECE), start, end)
    for place, offset in ((from_, start), (to, end)):
        if offset is not None:
            thread.put(place, min(offset + done, MOST_OFFSET).to_bytes(OFFSET_BYTES, "little"))
    return done
