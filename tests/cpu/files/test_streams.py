"""stdin, stdout and stderr are the host's: what is written is there at once and no more than was allowed; nothing of the host's terminal is set."""

import errno
import os
import pty
import termios
from pathlib import Path

import pytest
from tests.cpu.files.world import Caller, errno_of

from rmaplab.cpu.files.open_file import O_RDONLY, O_WRONLY, POLLHUP, POLLIN, POLLOUT, SEEK_SET
from rmaplab.cpu.files.pipes import SIGPIPE
from rmaplab.cpu.files.streams import HostStream, OutputLimit
from rmaplab.errors import UsageError

PLENTY = 1 << 20


def test_bytes_go_to_the_host_at_once() -> None:
    """And come from it."""
    there, back = os.pipe()
    caller, out = Caller(), HostStream(back, O_WRONLY, OutputLimit(PLENTY))
    assert out.write(caller, b"hello") == 5
    stdin = HostStream(there, O_RDONLY, OutputLimit(0))
    assert (stdin.poll(), stdin.available(), stdin.read(caller, 100), stdin.poll()) == (POLLIN, 5, b"hello", 0)
    assert out.poll() == POLLOUT
    os.close(back)
    assert (stdin.poll(), stdin.read(caller, 100)) == (POLLHUP, b"")
    os.close(there)


def test_there_is_a_limit() -> None:
    """With a word on what to try; what fits was written."""
    there, back = os.pipe()
    out = HostStream(back, O_WRONLY, OutputLimit(10))
    out.write(Caller(), b"0123456789")
    with pytest.raises(UsageError, match="more than 10 bytes: try --output-limit"):
        out.write(Caller(), b"x")
    os.close(back)
    assert os.read(there, 100) == b"0123456789"
    os.close(there)


def test_nobody_listens() -> None:
    """EPIPE, and SIGPIPE for the program, not for us."""
    there, back = os.pipe()
    os.close(there)
    caller, out = Caller(), HostStream(back, O_WRONLY, OutputLimit(PLENTY))
    assert errno_of(lambda: out.write(caller, b"x")) == errno.EPIPE
    assert caller.signals == [SIGPIPE]
    os.close(back)


def test_a_descriptor_of_the_host_that_does_not_wait() -> None:
    """We wait instead."""
    there, back = os.pipe()
    os.set_blocking(back, False)
    child = os.fork()
    if not child:
        nr = 0
        while nr < 200_000:
            nr += len(os.read(there, 4096))
        os._exit(0)
    assert HostStream(back, O_WRONLY, OutputLimit(PLENTY)).write(Caller(), bytes(200_000)) == 200_000
    os.waitpid(child, 0)
    os.close(there)
    os.close(back)


def test_a_file_of_the_host_can_be_sought(tmp_path: Path) -> None:
    """A pipe cannot."""
    (tmp_path / "file").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    stream = HostStream(fd, O_RDONLY, OutputLimit(0))
    assert (stream.seek(5, SEEK_SET), stream.read(Caller(), 2), stream.pread(Caller(), 2, 1)) == (5, b"56", b"12")
    assert errno_of(lambda: stream.seek(-1, SEEK_SET)) == errno.EINVAL
    os.close(fd)
    there, back = os.pipe()
    assert errno_of(lambda: HostStream(there, O_RDONLY, OutputLimit(0)).seek(0, SEEK_SET)) == errno.ESPIPE
    os.close(there)
    os.close(back)


def test_a_terminal_looks_like_one_and_is_not_set() -> None:
    """What a program sets it finds again."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    stream = HostStream(slave, O_WRONLY, OutputLimit(PLENTY))
    assert stream.terminal is not None
    assert len(stream.terminal.settings) == 36
    assert len(stream.terminal.window()) == 8
    stream.terminal.settings = bytes(36)
    assert termios.tcgetattr(slave) == before
    assert HostStream(os.open("/dev/null", os.O_RDONLY), O_RDONLY, OutputLimit(0)).terminal is None
    os.close(master)
    os.close(slave)


def test_one_that_was_closed_before() -> None:
    """EBADF, no traceback."""
    there, back = os.pipe()
    os.close(there)
    os.close(back)
    stream = HostStream(there, O_RDONLY, OutputLimit(0))
    assert errno_of(lambda: stream.read(Caller(), 1)) == errno.EBADF
    assert errno_of(stream.stat) == errno.EBADF
