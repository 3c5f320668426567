"""Files that a user names on the command line: this module alone writes them.

    check_writable    before any work: could it be written at all?
    write_whole       into FILE.part, which then takes the place of FILE: whole, or not at all
    write_text        the same for a text; or in place, where FILE is opened as it is

A file that cannot be written is a UsageError, which names the option to change.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from rmaplab.errors import UsageError


def check_writable(path: Path | None, option: str = "--output") -> None:
    """Raises UsageError for a file that cannot be written."""
    if path is None:
        return
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(f"cannot write {path}: give {option} a file in a directory that exists and is yours")


def write_whole(path: Path, option: str, write: Callable[[Path], object]) -> None:
    """Have `write(FILE.part)` make the file; it appears whole or not at all. Raises UsageError."""
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UsageError(f"cannot write {path} ({error.strerror}): try another {option}") from None


def write_text(path: str | Path, option: str, text: str, *, in_place: bool = False) -> None:
    """Write a text. `in_place` keeps what FILE is: a device or a pipe stays one. Raises UsageError."""
    if not in_place:
        write_whole(Path(path), option, lambda part: part.write_text(text, encoding="utf-8"))
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): give another path to {option}") from None
