"""Sockets, as far as nothing leaves the machine: pairs that are connected with each other. There is no network.

Source: net/socket.c, SYSCALL_DEFINE2(socketcall); net/unix/af_unix.c of 6.18.
"""

import errno
import struct
from collections.abc import Callable

from rmaplab.cpu.abi import int32
from rmaplab.cpu.files.open_file import O_CLOEXEC, O_NONBLOCK, O_RDWR, OpenFile
from rmaplab.cpu.files.pipes import SocketEnd
from rmaplab.cpu.syscalls.buffers import UserBuffers, in_pieces
from rmaplab.cpu.syscalls.descriptors import install_two, put_two
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.cpu.waiting import Interrupted
from rmaplab.errors import SyscallError

AF_UNIX, SOCK_STREAM, SOCK_TYPE = 1, 1, 0xF
MSG_PEEK, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_WAITALL = 2, 0x40, 0x4000, 0x100
SOL_SOCKET, SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_DOMAIN = 1, 3, 4, 7, 8, 39
OPTIONS = {SO_TYPE: SOCK_STREAM, SO_ERROR: 0, SO_SNDBUF: 212_992, SO_RCVBUF: 212_992, SO_DOMAIN: AF_UNIX}


def _socket(thread: Thread, fd: int) -> SocketEnd:
    file: OpenFile = thread.process.descriptors[int32(fd)]
    if not isinstance(file, SocketEnd):
        raise SyscallError(errno.ENOTSOCK, "recvfrom")
    return file


@call("socketpair")
def sys_socketpair(thread: Thread, family: int, kind: int, _: int, place: int, *__: int) -> int:
    """socketpair(2): AF_UNIX, SOCK_STREAM."""
    kind &= 0xFFFF_FFFF
    if int32(family) != AF_UNIX:
        raise SyscallError(errno.EAFNOSUPPORT, "socketpair")
    if kind & SOCK_TYPE != SOCK_STREAM:
        raise SyscallError(errno.ESOCKTNOSUPPORT, "socketpair")
    userland = thread.userland
    both = SocketEnd.pair(userland.next_ino(), userland.next_ino(), O_RDWR | kind & O_NONBLOCK)
    put_two(thread, place, install_two(thread, both, cloexec=bool(kind & O_CLOEXEC)))
    return 0


@call("socket")
def sys_socket(thread: Thread, *_: int) -> int:
    """socket(2): there is nobody to talk to."""
    raise SyscallError(errno.EAFNOSUPPORT, "socket")


@call("shutdown")
def sys_shutdown(thread: Thread, fd: int, how: int, *_: int) -> int:
    """shutdown(2)."""
    _socket(thread, fd).shutdown(int32(how))
    return 0


def _send(thread: Thread, fd: int, buffers: UserBuffers, flags: int) -> int:
    socket = _socket(thread, fd)
    quiet, signals = bool(flags & MSG_DONTWAIT) or socket.nonblocking, not flags & MSG_NOSIGNAL
    return in_pieces(
        buffers, lambda data, _: socket.send(thread, data, nonblocking=quiet, signals=signals), partly=False
    )


def _receive(thread: Thread, fd: int, buffers: UserBuffers, flags: int) -> int:
    socket = _socket(thread, fd)
    quiet = bool(flags & MSG_DONTWAIT) or socket.nonblocking
    done = 0
    while True:
        try:
            data = socket.receive(thread, buffers.length - done, nonblocking=quiet, peek=bool(flags & MSG_PEEK))
            buffers.put(done, data)
        except (SyscallError, Interrupted):
            if done:
                return done
            raise
        done += len(data)
        if not data or done == buffers.length or flags & MSG_PEEK or not flags & MSG_WAITALL:
            return done


@call("sendto")
def sys_sendto(thread: Thread, fd: int, buffer: int, length: int, flags: int, *_: int) -> int:
    """sendto(2), to the other end: an address is EISCONN, and nobody gives one."""
    return _send(thread, fd, UserBuffers.one(thread, buffer, length), flags)


@call("recvfrom")
def sys_recvfrom(thread: Thread, fd: int, buffer: int, length: int, flags: int, address: int, size: int) -> int:
    """recvfrom(2): the other end has no address."""
    done = _receive(thread, fd, UserBuffers.one(thread, buffer, length), flags)
    if address and size:
        thread.put(size, struct.pack("<I", 0))
    return done


def _message(thread: Thread, address: int) -> UserBuffers:
    """The buffers of a struct msghdr. Raises SyscallError(EOPNOTSUPP): it carries descriptors."""
    _, _, iov, nr, control, length, *_ = thread.words(address, 7)
    if control and length and thread.abi.signed(length) > 0:
        raise SyscallError(errno.EOPNOTSUPP, "sendmsg", "control messages are not modelled")
    return UserBuffers.of_iovec(thread, iov, nr)


@call("sendmsg")
def sys_sendmsg(thread: Thread, fd: int, message: int, flags: int, *_: int) -> int:
    """sendmsg(2), without control messages."""
    return _send(thread, fd, _message(thread, message), flags)


@call("recvmsg")
def sys_recvmsg(thread: Thread, fd: int, message: int, flags: int, *_: int) -> int:
    """recvmsg(2): no control message ever comes."""
    words = list(thread.words(message, 7))
    done = _receive(thread, fd, UserBuffers.of_iovec(thread, words[2], words[3]), flags)
    words[1], words[5], words[6] = words[1] & ~0xFFFF_FFFF, 0, words[6] & ~0xFFFF_FFFF
    thread.put(message, thread.abi.words(*words))
    return done


@call("getsockopt")
def sys_getsockopt(thread: Thread, fd: int, level: int, option: int, place: int, length: int, *_: int) -> int:
    """getsockopt(2), of SOL_SOCKET."""
    _socket(thread, fd)
    value = OPTIONS.get(int32(option)) if int32(level) == SOL_SOCKET else None
    if value is None:
        raise SyscallError(errno.ENOPROTOOPT, "getsockopt")
    (room,) = struct.unpack("<i", thread.get(length, 4))
    if room < 0:
        raise SyscallError(errno.EINVAL, "getsockopt")
    thread.put(place, struct.pack("<i", value)[:room])
    thread.put(length, struct.pack("<i", min(room, 4)))
    return 0


@call("setsockopt")
def sys_setsockopt(thread: Thread, fd: int, *_: int) -> int:
    """setsockopt(2): nothing comes of it."""
    _socket(thread, fd)
    return 0


@call("getsockname", "getpeername")
def sys_getsockname(thread: Thread, fd: int, address: int, length: int, *_: int) -> int:
    """getsockname(2): AF_UNIX without a name."""
    _socket(thread, fd)
    (room,) = struct.unpack("<i", thread.get(length, 4))
    if room < 0:
        raise SyscallError(errno.EINVAL, "getsockname")
    thread.put(address, struct.pack("<H", AF_UNIX)[:room])
    thread.put(length, struct.pack("<i", 2))
    return 0


@call("connect", "bind", "listen", "accept", "accept4")
def sys_connect(thread: Thread, fd: int, *_: int) -> int:
    """connect(2) and the like: of a pair's end."""
    _socket(thread, fd)
    raise SyscallError(errno.EINVAL, "connect")


CALLS_OF_I386: dict[int, tuple[Callable[..., int], int]] = {
    1: (sys_socket, 3), 2: (sys_connect, 3), 3: (sys_connect, 3), 4: (sys_connect, 2), 5: (sys_connect, 3), 6: (sys_getsockname, 3),
    7: (sys_getsockname, 3), 8: (sys_socketpair, 4), 9: (sys_sendto, 4), 10: (sys_recvfrom, 4), 11: (sys_sendto, 6), 12: (sys_recvfrom, 6),
    13: (sys_shutdown, 2), 14: (sys_setsockopt, 5), 15: (sys_getsockopt, 5), 16: (sys_sendmsg, 3), 17: (sys_recvmsg, 3), 18: (sys_connect, 4),
}  # fmt: skip
"""By number of socketcall(2): the call, how many arguments it has."""


@call("socketcall", abi=32)
def sys_socketcall(thread: Thread, number: int, arguments: int, *_: int) -> int:
    """socketcall(2) of i386: all of them."""
    row = CALLS_OF_I386.get(int32(number))
    if row is None:
        raise SyscallError(errno.EINVAL, "socketcall")
    function, nr = row
    words = thread.words(arguments, nr)
    return function(thread, *words, *[0] * (6 - nr))
