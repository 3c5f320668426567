"""Pipes and connected sockets: bytes come out as they went in, in order, and ends hear of each other."""

import errno
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.cpu.files.world import Caller, World, errno_of

from rmaplab.cpu.files.open_file import (
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    OpenFile,
    get,
    put,
)
from rmaplab.cpu.files.pipes import PIPE_BUF, PIPE_BYTES, SHUT_WR, SIGPIPE, FifoInode, Pipe, PipeEnd, SocketEnd
from rmaplab.cpu.waiting import Interrupted
from rmaplab.errors import SyscallError


def pipe(flags: int = 0) -> tuple[PipeEnd, PipeEnd]:
    made = Pipe(1)
    return PipeEnd(made, O_RDONLY | flags), PipeEnd(made, O_WRONLY | flags)


@pytest.mark.parametrize("seed", range(5))
def test_it_does_what_a_pipe_of_the_host_does(seed: int) -> None:
    """Without waiting: the same bytes, and the same errno, for any sizes."""
    rng, caller = random.Random(seed), Caller()
    reader, writer = pipe(O_NONBLOCK)
    there, back = os.pipe()
    os.set_blocking(there, False)
    os.set_blocking(back, False)
    at = 0
    for _ in range(300):
        length = rng.choice([1, 100, PIPE_BUF, PIPE_BUF + 1, 3 * PIPE_BUF])
        if rng.random() < 0.5:
            # the host keeps pages, not bytes: only what it has room for in whole pages is comparable
            data = bytes((at + i) & 0xFF for i in range(length - length % PIPE_BUF))
            if not data:
                continue
            try:
                expected: int | bytes = os.write(back, data)
            except BlockingIOError:
                expected = -errno.EAGAIN
            got: int | bytes = attempt(partial(writer.write, caller, data))
            at += got if isinstance(got, int) and got > 0 else 0
        else:
            length -= length % PIPE_BUF
            try:
                expected = os.read(there, length)
            except BlockingIOError:
                expected = -errno.EAGAIN
            got = attempt(partial(reader.read, caller, length)) if length else b""
        assert got == expected
    os.close(there)
    os.close(back)


def attempt(act: Callable[[], int | bytes]) -> int | bytes:
    try:
        return act()
    except SyscallError as failure:
        return -(failure.errno or 0)


def test_who_reads_waits_until_somebody_writes() -> None:
    """And goes on with what that was."""
    reader, writer = pipe()
    other = Caller()

    def somebody() -> None:
        writer.write(other, b"now")

    caller = Caller(meanwhile=somebody)
    assert reader.read(caller, 100) == b"now"


def test_a_long_write_waits_for_room_and_is_whole() -> None:
    """Bytes come out in order."""
    reader, writer = pipe()
    data, taken = random.Random(0).randbytes(3 * PIPE_BYTES), bytearray()
    other = Caller()
    caller = Caller(meanwhile=lambda: taken.extend(reader.read(other, 10_000)))
    assert writer.write(caller, data) == len(data)
    taken += reader.read(other, PIPE_BYTES)
    assert bytes(taken) == data


def test_small_writes_are_never_split() -> None:
    """PIPE_BUF bytes wait until there is room for all."""
    reader, writer = pipe(O_NONBLOCK)
    caller = Caller()
    writer.write(caller, bytes(PIPE_BYTES - PIPE_BUF + 1))
    assert errno_of(lambda: writer.write(caller, bytes(PIPE_BUF))) == errno.EAGAIN
    assert writer.write(caller, bytes(PIPE_BUF + 1)) == PIPE_BUF - 1
    reader.read(caller, PIPE_BUF)
    assert writer.write(caller, bytes(PIPE_BUF)) == PIPE_BUF


def test_a_signal_ends_a_write_that_has_begun() -> None:
    """With how many bytes have gone; one that has not is made again."""

    def interrupted() -> None:
        raise Interrupted

    _, writer = pipe()
    assert writer.write(Caller(interrupted), bytes(PIPE_BYTES + 10)) == PIPE_BYTES
    with pytest.raises(Interrupted):
        writer.write(Caller(interrupted), b"x")


def test_ends_that_close() -> None:
    """End of file for who reads, SIGPIPE for who writes."""
    reader, writer = pipe()
    caller = Caller()
    get(reader)
    get(writer)
    assert (reader.poll(), writer.poll()) == (0, POLLOUT)
    writer.write(caller, b"last")
    put(writer)
    assert (reader.poll(), reader.read(caller, 9), reader.read(caller, 9)) == (POLLIN | POLLHUP, b"last", b"")
    again = get(reader.reopen(O_WRONLY))
    put(reader)
    assert again.poll() == POLLOUT | POLLERR
    assert errno_of(lambda: again.write(caller, b"x")) == errno.EPIPE
    assert caller.signals == [SIGPIPE]


def test_a_fifo_opens_with_its_other_end(tmp_path: Path) -> None:
    """Whoever comes first waits; nobody needs to wait who reads and writes."""
    os.mkfifo(tmp_path / "fifo")
    world = World(tmp_path)
    others = list[OpenFile]()

    def comes() -> None:
        caller, world.caller = world.caller, Caller()
        others.append(world.open(b"/fifo", O_WRONLY))
        world.caller = caller

    assert errno_of(lambda: world.open(b"/fifo", O_WRONLY | O_NONBLOCK)) == errno.ENXIO
    world.caller = Caller(meanwhile=comes)
    reader = world.open(b"/fifo", O_RDONLY)
    assert others[0].write(world.caller, b"hello") == 5
    assert reader.read(world.caller, 9) == b"hello"
    inode = reader.inode
    assert isinstance(inode, FifoInode)
    for file in (reader, *others):
        put(file)
    assert (inode.pipe.readers, inode.pipe.writers) == (0, 0)
    put(world.open(b"/fifo", O_RDWR))
    world.close()


def test_a_pair_of_sockets() -> None:
    """Both directions, each of which can end."""
    one, other = SocketEnd.pair(1, 2, O_RDWR)
    caller = Caller()
    get(one)
    get(other)
    one.write(caller, b"there")
    other.write(caller, b"back")
    assert (one.read(caller, 9), other.receive(caller, 2, nonblocking=True, peek=True), other.read(caller, 9)) == (
        b"back",
        b"th",
        b"there",
    )
    one.shutdown(SHUT_WR)
    assert other.read(caller, 9) == b""
    assert errno_of(lambda: one.write(caller, b"x")) == errno.EPIPE
    assert other.write(caller, b"still") == 5
    put(other)
    assert (one.read(caller, 9), one.read(caller, 9)) == (b"still", b"")
    assert one.poll() & POLLHUP
    put(one)
