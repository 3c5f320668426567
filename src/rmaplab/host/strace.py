"""strace runs a program for real and writes down its calls, as the parser of workloads/strace_log.py wants them.

    -f          its children, too
    -X raw      flags are numbers
    -xx         strings are hex: no byte of them is taken for the log's own
    -e raw=...  of what is read, written, sent and received the address and the length, not the bytes: neither does a password get into the log

Behind the calls stands what execve has mapped of each program (workloads/program_image.py), which strace does not tell.

Ctrl-C is for the program: strace and we wait for what it makes of it, and the log is kept.
"""

import gzip
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.host.programs import images_of
from rmaplab.workloads.program_image import to_line

RAW = "read,write,pread64,pwrite64,readv,writev,preadv,pwritev,sendto,recvfrom,sendmsg,recvmsg,sendmmsg,recvmmsg"
OPTIONS = ("-f", "-xx", "-X", "raw", "-s", "80", "-e", f"raw={RAW}")


def find_strace() -> str:
    """The program. Raises UsageError where there is none."""
    strace = shutil.which("strace")
    if strace is None:
        raise UsageError(
            "no strace is installed: install it (on Debian: apt-get install strace), or replay a log that was recorded elsewhere"
        )
    return strace


def check_command(command: Sequence[str]) -> None:
    """Raises UsageError for a program there is not."""
    if shutil.which(command[0]) is None:
        raise UsageError(f"no program {printable(command[0])}: give one that is in $PATH, or its path")


def record(command: Sequence[str], log: Path, *, packed: bool) -> int:
    """Run `command` under strace, with our streams; its calls go to `log`, compressed if `packed`. Its exit status, 128 + n of a signal.

    Raises UsageError: where nothing could be recorded.
    """
    strace = find_strace()
    with _ctrl_c_is_the_programs(), subprocess.Popen([strace, *OPTIONS, "-o", log, "--", *command]) as tracer:  # noqa: S603
        try:
            status = tracer.wait()
        except BaseException:
            tracer.terminate()
            raise
    if not log.stat().st_size:
        raise UsageError(
            f"strace has recorded nothing of {printable(command[0])}: it says above why; may this user trace processes here?"
        )
    with log.open("a", encoding="ascii") as file:
        file.writelines(f"{to_line(path, image)}\n" for path, image in images_of(log).items())
    if packed:
        _pack(log)
    return status if status >= 0 else 128 - status


@contextmanager
def _ctrl_c_is_the_programs() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _nothing)  # not SIG_IGN, which the program would inherit
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _nothing(number: int, frame: object) -> None:
    del number, frame


def _pack(log: Path) -> None:
    """Compress it where it is; the same log is the same file."""
    packed = log.with_name(log.name + ".gz")
    try:
        with log.open("rb") as plain, packed.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
            shutil.copyfileobj(plain, file)
        packed.replace(log)
    finally:
        packed.unlink(missing_ok=True)
