"""Calls on descriptors themselves: dup, fcntl, ioctl, pipes, files without a name.

Source: fs/file.c, ksys_dup3, close_range; fs/fcntl.c, do_fcntl; fs/ioctl.c; drivers/tty/tty_ioctl.c; fs/pipe.c, do_pipe2 of 6.18.
"""

import errno
import struct

from rmaplab.cpu.abi import int32
from rmaplab.cpu.files.devices import EventFile
from rmaplab.cpu.files.memory_file import MemoryFile
from rmaplab.cpu.files.open_file import O_APPEND, O_CLOEXEC, O_DIRECT, O_NONBLOCK, O_RDONLY, O_WRONLY, OpenFile
from rmaplab.cpu.files.pipes import MOST_PIPE_BYTES, Pipe, PipeEnd
from rmaplab.cpu.files.streams import TERMIOS_BYTES, HostStream
from rmaplab.cpu.syscalls.locks import record_lock
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import MFD_CLOEXEC
from rmaplab.units import PAGE_SIZE

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_SETOWN, F_GETOWN = 0, 1, 2, 3, 4, 8, 9
F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS = 1030, 1031, 1032, 1033, 1034
FD_CLOEXEC = 1
O_NOATIME = 0o1000000
CAN_BE_SET = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
EFD_SEMAPHORE = 1
TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TCFLSH, TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCGWINSZ, TIOCSWINSZ = (
    0x5401, 0x5402, 0x5403, 0x5404, 0x5409, 0x540B, 0x540E, 0x540F, 0x5410, 0x5413, 0x5414
)  # fmt: skip
FIONREAD, FIONBIO, TIOCNOTTY, TIOCGSID, FIONCLEX, FIOCLEX = 0x541B, 0x5421, 0x5422, 0x5429, 0x5450, 0x5451
TCGETS2, TCSETS2, TCSETSW2, TCSETSF2 = 0x802C_542A, 0x402C_542B, 0x402C_542C, 0x402C_542D
SPEED = 38400


@call("close")
def sys_close(thread: Thread, fd: int, *_: int) -> int:
    """close(2)."""
    thread.process.descriptors.close(int32(fd))
    return 0


@call("close_range")
def sys_close_range(thread: Thread, first: int, last: int, flags: int, *_: int) -> int:
    """close_range(2)."""
    first, last, flags = first & 0xFFFF_FFFF, last & 0xFFFF_FFFF, flags & 0xFFFF_FFFF
    if flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) or first > last:
        raise SyscallError(errno.EINVAL, "close_range")
    process = thread.process
    if flags & CLOSE_RANGE_UNSHARE and process.descriptors.users > 1:
        shared, process.descriptors = process.descriptors, process.descriptors.copy()
        shared.users -= 1
    for fd in [fd for fd in process.descriptors.files if first <= fd <= last]:
        if flags & CLOSE_RANGE_CLOEXEC:
            process.descriptors.cloexec.add(fd)
        else:
            process.descriptors.close(fd)
    return 0


@call("dup")
def sys_dup(thread: Thread, fd: int, *_: int) -> int:
    """dup(2)."""
    descriptors = thread.process.descriptors
    return descriptors.install(descriptors[int32(fd)])


@call("dup2")
def sys_dup2(thread: Thread, fd: int, to: int, *_: int) -> int:
    """dup2(2)."""
    descriptors = thread.process.descriptors
    file = descriptors[int32(fd)]
    return int32(to) if int32(fd) == int32(to) else descriptors.replace(int32(to), file)


@call("dup3")
def sys_dup3(thread: Thread, fd: int, to: int, flags: int, *_: int) -> int:
    """dup3(2)."""
    if int32(fd) == int32(to) or flags & 0xFFFF_FFFF & ~O_CLOEXEC:
        raise SyscallError(errno.EINVAL, "dup3")
    descriptors = thread.process.descriptors
    return descriptors.replace(int32(to), descriptors[int32(fd)], cloexec=bool(flags & O_CLOEXEC))


def install_two(thread: Thread, files: tuple[OpenFile, OpenFile], *, cloexec: bool) -> bytes:
    """Two descriptors, as two ints. Raises SyscallError(EMFILE), with both closed."""
    descriptors = thread.process.descriptors
    try:
        first = descriptors.install(files[0], cloexec=cloexec)
    except SyscallError:
        files[1].close()
        raise
    try:
        second = descriptors.install(files[1], cloexec=cloexec)
    except SyscallError:
        descriptors.close(first)
        raise
    return struct.pack("<ii", first, second)


def put_two(thread: Thread, place: int, both: bytes) -> None:
    """The program learns of them. Raises SyscallError(EFAULT), with both closed."""
    try:
        thread.put(place, both)
    except SyscallError:
        for fd in struct.unpack("<ii", both):
            thread.process.descriptors.close(fd)
        raise


@call("pipe2")
def sys_pipe2(thread: Thread, place: int, flags: int, *_: int) -> int:
    """pipe2(2)."""
    flags &= 0xFFFF_FFFF
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT):
        raise SyscallError(errno.EINVAL, "pipe2")
    pipe = Pipe(thread.userland.next_ino())
    stay = flags & O_NONBLOCK
    ends = PipeEnd(pipe, O_RDONLY | stay), PipeEnd(pipe, O_WRONLY | stay)
    put_two(thread, place, install_two(thread, ends, cloexec=bool(flags & O_CLOEXEC)))
    return 0


@call("pipe")
def sys_pipe(thread: Thread, place: int, *_: int) -> int:
    """pipe(2)."""
    return sys_pipe2(thread, place, 0)


@call("fcntl", "fcntl64")
def sys_fcntl(thread: Thread, fd: int, command: int, argument: int, *_: int) -> int:
    """fcntl(2)."""
    descriptors, fd, command = thread.process.descriptors, int32(fd), command & 0xFFFF_FFFF
    file = descriptors[fd]
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        if not 0 <= int32(argument) < descriptors.limit:
            raise SyscallError(errno.EINVAL, "fcntl")
        return descriptors.install(file, lowest=int32(argument), cloexec=command == F_DUPFD_CLOEXEC)
    if command == F_GETFD:
        return FD_CLOEXEC if fd in descriptors.cloexec else 0
    if command == F_SETFD:
        (descriptors.cloexec.add if argument & FD_CLOEXEC else descriptors.cloexec.discard)(fd)
        return 0
    if command == F_GETFL:
        return file.flags
    if command == F_SETFL:
        file.flags = file.flags & ~CAN_BE_SET | argument & CAN_BE_SET
        return 0
    if command in (F_SETOWN, F_GETOWN):
        return 0
    if command in (F_SETPIPE_SZ, F_GETPIPE_SZ):
        return _pipe_size(file, argument & 0xFFFF_FFFF if command == F_SETPIPE_SZ else None)
    if command in (F_ADD_SEALS, F_GET_SEALS):
        if not isinstance(file, MemoryFile):
            raise SyscallError(errno.EINVAL, "fcntl")
        if command == F_GET_SEALS:
            return file.seals()
        file.add_seals(argument & 0xFFFF_FFFF)
        return 0
    return record_lock(thread, file, command, argument)


def _pipe_size(file: OpenFile, wanted: int | None) -> int:
    if not isinstance(file, PipeEnd):
        raise SyscallError(errno.EBADF, "fcntl")
    if wanted is not None:
        size = max(PAGE_SIZE, 1 << max(wanted - 1, 0).bit_length())
        if size > MOST_PIPE_BYTES:
            raise SyscallError(errno.EPERM, "fcntl")
        if size < len(file.pipe.data):
            raise SyscallError(errno.EBUSY, "fcntl")
        file.pipe.room = size
        file.pipe.changed()
    return file.pipe.room


@call("eventfd2")
def sys_eventfd2(thread: Thread, value: int, flags: int, *_: int) -> int:
    """eventfd2(2)."""
    flags &= 0xFFFF_FFFF
    if flags & ~(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK):
        raise SyscallError(errno.EINVAL, "eventfd2")
    file = EventFile(value & 0xFFFF_FFFF, flags & O_NONBLOCK, semaphore=bool(flags & EFD_SEMAPHORE))
    return thread.process.descriptors.install(file, cloexec=bool(flags & O_CLOEXEC))


@call("eventfd")
def sys_eventfd(thread: Thread, value: int, *_: int) -> int:
    """eventfd(2)."""
    return sys_eventfd2(thread, value, 0)


@call("memfd_create")
def sys_memfd_create(thread: Thread, name: int, flags: int, *_: int) -> int:
    """memfd_create(2)."""
    flags &= 0xFFFF_FFFF
    file = MemoryFile(thread.userland.tree.fs, thread.string(name), flags)
    return thread.process.descriptors.install(file, cloexec=bool(flags & MFD_CLOEXEC))


# -- ioctl ---------------------------------------------------------------------------------------------------------------


@call("ioctl")
def sys_ioctl(thread: Thread, fd: int, request: int, argument: int, *_: int) -> int:
    """ioctl(2)."""
    descriptors, fd, request = thread.process.descriptors, int32(fd), request & 0xFFFF_FFFF
    file = descriptors[fd]
    if request in (FIOCLEX, FIONCLEX):
        (descriptors.cloexec.add if request == FIOCLEX else descriptors.cloexec.discard)(fd)
    elif request == FIONBIO:
        wanted = thread.get(argument, 4) != bytes(4)
        file.flags = file.flags | O_NONBLOCK if wanted else file.flags & ~O_NONBLOCK
    elif request == FIONREAD:
        thread.put(argument, struct.pack("<I", min(file.available(), 0x7FFF_FFFF)))
    elif isinstance(file, HostStream) and file.terminal is not None:
        _terminal(thread, file, request, argument)
    else:
        raise SyscallError(errno.ENOTTY, "ioctl")
    return 0


def _terminal(thread: Thread, file: HostStream, request: int, argument: int) -> None:
    """What a terminal is asked. What it is told stays in the simulated machine."""
    terminal = file.terminal
    assert terminal is not None
    if request in (TCGETS, TCGETS2):
        speeds = struct.pack("<II", SPEED, SPEED) if request == TCGETS2 else b""
        thread.put(argument, terminal.settings + speeds)
    elif request in (TCSETS, TCSETSW, TCSETSF, TCSETS2, TCSETSW2, TCSETSF2):
        terminal.settings = thread.get(argument, TERMIOS_BYTES)
    elif request == TIOCGWINSZ:
        thread.put(argument, terminal.window())
    elif request == TIOCGPGRP:
        thread.put(argument, struct.pack("<i", terminal.group or thread.process.pgid))
    elif request == TIOCSPGRP:
        (terminal.group,) = struct.unpack("<i", thread.get(argument, 4))
    elif request == TIOCGSID:
        thread.put(argument, struct.pack("<i", thread.process.sid))
    elif request not in (TCSBRK, TCFLSH, TIOCSCTTY, TIOCNOTTY, TIOCSWINSZ):
        raise SyscallError(errno.ENOTTY, "ioctl")
