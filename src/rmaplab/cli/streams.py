"""What whoever starts us gives us: streams that may be closed, full, or speak no UTF-8; and signals that tell us to end.

    prepare()          once: every stream can be written, or says why not; what it cannot encode is written in ASCII
    let_go()           at the end: what cannot be written is not
    ended_by_signal()  SIGTERM and SIGHUP end us as Ctrl-C does: children are ended, and what was finished is shown

A closed stdout gets a file of its own that refuses every write: else the next file that is opened would be taken for it.
"""

import codecs
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

TWINS = {"─": "-", "╌": "-", "│": "|", "┊": ":", "├": "|", "└": "`", "…": "..."}
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A signal told us to end: as Ctrl-C, but for the exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Within it a signal raises Ended, unless it is ignored (nohup)."""
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if mine}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)


def prepare() -> None:
    """Stdin that can be asked; stdout and stderr that no letter is an error for, and that say themselves when they fail."""
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest number that is free: this one
    codecs.register_error("rmaplab", _in_ascii)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is sys.__stdout__:  # else a test's
        sys.stdout = _speaking(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _speaking(sys.stderr, 2)


def let_go() -> None:
    """What cannot be written is thrown away, lest Python say so once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _speaking(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream once more."""
    name = "utf-8" if stream is None else codecs.lookup(stream.encoding).name
    made = _Ascii if name == "ascii" else io.TextIOWrapper
    raw = io.BufferedWriter(_Descriptor(descriptor, "w", closefd=False))
    return made(raw, "utf-8" if name == "ascii" else name, "rmaplab", line_buffering=raw.isatty() or descriptor == 2)


class Unwritable(OSError):
    """A standard stream cannot be written: full, closed, broken."""


class _Descriptor(io.FileIO):
    """A standard stream: its errors are told from those of other files."""

    def write(self, data: Any, /) -> int:
        """All errors but that of a reader who has gone."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None


class _Ascii(io.TextIOWrapper):
    """Where somebody wants ASCII. It calls itself UTF-8: click takes a stream that says "ascii" for a mistake, and writes UTF-8 past it."""

    def write(self, text: str) -> int:
        """What stands for it in ASCII."""
        return super().write(text.encode("ascii", "rmaplab").decode("ascii"))


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(TWINS.get(c) or c.encode("unicode_escape").decode("ascii") for c in wrong), error.end
