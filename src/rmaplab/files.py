"""Files that a user names on the command line: this module alone writes them, and nothing that is there comes to harm.

    - or /dev/stdout            standard output
    a device, a pipe, /proc     written to as it is
    a file, or a link to one    a file of a name of its own beside it, which then takes its place: whole, or not at all; the link, the mode
                                and the owner stay, and where the directory is not ours the file is written in place
    nothing                     a new file

    check_writable    before any work: could it be written at all?
    write_whole       have somebody make the file
    write_text        write a text
    open_in_place     a file that is read and written where it lies, such as a swap area

A file that cannot be written is a UsageError, which names the option to change.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from rmaplab.errors import UsageError
from rmaplab.harmless import printable

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def check_writable(path: str | Path | None, option: str = "--output") -> None:
    """Raises UsageError for a file that cannot be written. Opens nothing: a pipe's reader would see it."""
    if path is None or str(path) in STDOUT:
        return
    target = _target(Path(path), option)
    place = target if target.exists() else target.parent
    needed = os.W_OK if target.exists() else os.W_OK | os.X_OK
    if target.is_dir() or not target.parent.is_dir() or not os.access(place, needed):
        raise UsageError(f"cannot write {path}: give {option} a file in a directory that exists and is yours")


def open_in_place(path: Path, what: str) -> int:
    """A descriptor of a file that is there, to read it and write to it. Raises UsageError. What it may be used for its reader must see."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UsageError(
            f"cannot open {printable(str(path))} ({error.strerror}): give {what} a file that is there and yours"
        ) from None


def write_whole(
    path: str | Path, option: str, write: Callable[[Path], object], *, mode: int = 0o666, keep_old: bool = False
) -> None:
    """Have `write` make the file under another name; then it is what `path` says. Raises UsageError.

    A new file gets `mode`, less the umask. With `keep_old` a file that was there stays, as NAME.old.
    """
    try:
        if str(path) in STDOUT:
            sys.stdout.flush()
            sys.stdout.buffer.write(_made_elsewhere(write))
            sys.stdout.flush()
            return
        target = _target(Path(path), option)
        there = target.stat() if target.exists() else None
        if there is not None and (not stat.S_ISREG(there.st_mode) or not os.access(target.parent, os.W_OK)):
            made = _made_elsewhere(write)
            with target.open("wb", buffering=0) as file:
                while made:
                    made = made[file.write(made) :]
        else:
            _write_beside(target, there, write, mode, keep_old=keep_old)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}): try another {option}") from None


def write_text(path: str | Path, option: str, text: str, *, keep_old: bool = False) -> None:
    """Write a text, as UTF-8. Raises UsageError."""
    write_whole(path, option, lambda part: part.write_bytes(text.encode("utf-8", "surrogateescape")), keep_old=keep_old)


def _target(path: Path, option: str) -> Path:
    """What is really written: where links lead, but for /proc and /dev, whose links lead to no path."""
    if path.absolute().parts[1:2] in (("dev",), ("proc",)):
        return path
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        raise UsageError(f"cannot write {path}: its links lead in a circle; try another {option}") from None


def _made_elsewhere(write: Callable[[Path], object]) -> bytes:
    import tempfile  # noqa: PLC0415  (it brings all of shutil and random)

    with tempfile.TemporaryDirectory(prefix="rmaplab-") as directory:
        part = Path(directory, "part")
        write(part)
        return part.read_bytes()


def _write_beside(
    target: Path, there: os.stat_result | None, write: Callable[[Path], object], mode: int, *, keep_old: bool
) -> None:
    import tempfile  # noqa: PLC0415

    handle, name = tempfile.mkstemp(prefix=f".{target.name}."[:200], suffix=".part", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        if there is None:
            os.umask(umask := os.umask(0o77))
            part.chmod(mode & ~umask)
        else:
            with contextlib.suppress(OSError):
                os.chown(part, there.st_uid, there.st_gid)
            part.chmod(stat.S_IMODE(there.st_mode))
            if keep_old:
                target.replace(target.with_name(target.name + ".old"))
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
