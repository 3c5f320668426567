"""epoll: what is ready is told, again and again, or once for each change."""

import errno
import os

import pytest
from tests.cpu.files.world import Caller, errno_of

from rmaplab.cpu.files.devices import EventFile
from rmaplab.cpu.files.epoll import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLONESHOT, EpollFile
from rmaplab.cpu.files.open_file import O_NONBLOCK, O_RDONLY, O_WRONLY, POLLIN, OpenFile, get, put
from rmaplab.cpu.files.pipes import Pipe, PipeEnd


def test_level_and_edge() -> None:
    """Until it is read; or when something has come since."""
    caller, pipe = Caller(), Pipe(1)
    reader, writer = get(PipeEnd(pipe, O_RDONLY)), PipeEnd(pipe, O_WRONLY)
    level, edge, once = EpollFile(), EpollFile(), EpollFile()
    for epoll, extra in ((level, 0), (edge, EPOLLET), (once, EPOLLONESHOT)):
        epoll.control(EPOLL_CTL_ADD, 3, reader, POLLIN | extra, b"12345678")
        assert epoll.ready(9) == []
    writer.write(caller, b"ab")
    told = [(POLLIN, b"12345678")]
    assert [epoll.ready(9) for epoll in (level, edge, once)] == [told] * 3
    assert [epoll.ready(9) for epoll in (level, edge, once)] == [told, [], []]
    writer.write(caller, b"c")
    assert [epoll.ready(9) for epoll in (level, edge, once)] == [told, told, []]
    reader.read(caller, 9)
    assert [epoll.ready(9) for epoll in (level, edge, once)] == [[], [], []]
    once.control(EPOLL_CTL_MOD, 3, reader, POLLIN, b"87654321")
    writer.write(caller, b"d")
    assert [epoll.ready(9) for epoll in (level, edge, once)] == [told, told, [(POLLIN, b"87654321")]]
    put(reader)
    assert [epoll.ready(9) for epoll in (level, edge, once)] == [[], [], []]


def test_edge_is_as_on_the_host() -> None:
    """The same steps, there and here."""
    import random
    import select

    for seed in range(10):
        rng, caller, pipe = random.Random(seed), Caller(), Pipe(1)
        reader, writer = get(PipeEnd(pipe, O_RDONLY | O_NONBLOCK)), PipeEnd(pipe, O_WRONLY)
        there, back = os.pipe()
        os.set_blocking(there, False)
        epoll, host = EpollFile(), select.epoll()
        epoll.control(EPOLL_CTL_ADD, there, reader, POLLIN | EPOLLET, bytes(8))
        host.register(there, POLLIN | EPOLLET)
        for _ in range(60):
            what = rng.randrange(3)
            if what == 0:
                writer.write(caller, b"xy")
                os.write(back, b"xy")
            elif what == 1:
                wanted = rng.choice([1, 100])
                mine = errno_of(lambda wanted=wanted, reader=reader, caller=caller: reader.read(caller, wanted))  # type: ignore[misc]
                try:
                    os.read(there, wanted)
                    theirs = 0
                except BlockingIOError:
                    theirs = errno.EAGAIN
                assert mine == theirs
            else:
                seen = [events for events, _ in epoll.ready(4)]
                expected = [events for _, events in host.poll(0)]
                assert set(expected) <= set(seen)  # what the host tells we tell; a read may make us tell it once more
        host.close()
        os.close(there)
        os.close(back)


def test_all_get_their_turn() -> None:
    """When more are ready than are asked for."""
    epoll = EpollFile()
    files = [get(EventFile(1, 0, semaphore=False)) for _ in range(5)]
    for fd, file in enumerate(files):
        epoll.control(EPOLL_CTL_ADD, fd, file, POLLIN, bytes([fd]) * 8)
    seen = {data for _ in range(3) for _, data in epoll.ready(2)}
    assert len(seen) == 5


def test_what_is_refused() -> None:
    """Twice the same, what is not there, itself, circles, regular files."""
    epoll, other, file = EpollFile(), EpollFile(), EventFile(0, 0, semaphore=False)
    rows: list[tuple[int, int, OpenFile, int]]
    for each in (epoll, other, file):
        get(each)
    epoll.control(EPOLL_CTL_ADD, 5, file, POLLIN, bytes(8))
    rows = [
        (EPOLL_CTL_ADD, 5, file, errno.EEXIST), (EPOLL_CTL_DEL, 6, file, errno.ENOENT), (EPOLL_CTL_MOD, 6, file, errno.ENOENT),
        (EPOLL_CTL_ADD, 7, epoll, errno.EINVAL), (99, 5, file, errno.EINVAL),
    ]  # fmt: skip
    for operation, fd, what, expected in rows:
        assert errno_of(lambda o=operation, f=fd, w=what: epoll.control(o, f, w, POLLIN, bytes(8))) == expected  # type: ignore[misc]
    other.control(EPOLL_CTL_ADD, 8, epoll, POLLIN, bytes(8))
    assert errno_of(lambda: epoll.control(EPOLL_CTL_ADD, 9, other, POLLIN, bytes(8))) == errno.ELOOP
    assert other.poll() == 0
    file.write(Caller(), (1).to_bytes(8, "little"))
    assert other.poll() == POLLIN


@pytest.mark.parametrize("semaphore", [False, True])
def test_an_eventfd_counts(semaphore: bool) -> None:
    """Reads take all, or one."""
    caller, file = Caller(), EventFile(3, O_NONBLOCK, semaphore=semaphore)
    taken = [int.from_bytes(file.read(caller, 8), "little") for _ in range(3 if semaphore else 1)]
    assert taken == ([1, 1, 1] if semaphore else [3])
    assert errno_of(lambda: file.read(caller, 8)) == errno.EAGAIN
    assert errno_of(lambda: file.write(caller, b"\xff" * 8)) == errno.EINVAL
    file.write(caller, ((1 << 64) - 2).to_bytes(8, "little"))
    assert errno_of(lambda: file.write(caller, (1).to_bytes(8, "little"))) == errno.EAGAIN
    assert file.poll() == POLLIN
