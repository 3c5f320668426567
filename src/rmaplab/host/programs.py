"""What execve maps of a program's file: its program headers, those of its loader, and of a script those of its interpreter.

No more of ELF than that is read, and by struct: cpu/elf.py needs pyelftools, which is there for exec only, and record must do without it.

Source: 6.18 fs/binfmt_elf.c, load_elf_binary; fs/binfmt_script.c, load_script.
"""

import os
import struct
from pathlib import Path

from rmaplab.errors import UsageError
from rmaplab.workloads.program_image import ProgramImage, ProgramSegment
from rmaplab.workloads.strace_log import LoggedCall, read_log
from rmaplab.workloads.strace_words import BadWord, split, text

PT_LOAD, PT_INTERP, PT_GNU_RELRO = 1, 3, 0x6474E552
MOST_SCRIPTS = 4  # interpreters that are scripts themselves
HEADER = 1 << 16


def image_of(path: bytes) -> ProgramImage | None:
    """What execve maps of it; None where that cannot be told: no file that can be read, or none of 64-bit ELF."""
    for _ in range(MOST_SCRIPTS):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                begin = file.read(HEADER)
        except (OSError, ValueError):
            return None
        if not begin.startswith(b"#!"):
            return read_elf(begin)
        words = begin[2:256].split(b"\n")[0].split()
        if not words:
            return None
        path = words[0]
    return None


def read_elf(begin: bytes) -> ProgramImage | None:
    """The same of a file that begins so."""
    if begin[:6] != b"\x7fELF\x02\x01" or len(begin) < 64:
        return None
    (table,) = struct.unpack_from("<Q", begin, 32)
    size, number = struct.unpack_from("<HH", begin, 54)
    loads, relro, interpreter = [], None, None
    for at in range(table, table + size * number, size or 1):
        if at + 56 > len(begin):
            return None
        kind, flags, offset, address, _, filed, memory, _ = struct.unpack_from("<IIQQQQQQ", begin, at)
        if kind == PT_LOAD:
            loads.append(ProgramSegment(address, memory, filed, offset, flags & 7))
        elif kind == PT_GNU_RELRO:
            relro = address, memory
        elif kind == PT_INTERP:
            interpreter = begin[offset : offset + filed].rstrip(b"\0")
    image = ProgramImage(tuple(loads), relro, interpreter)
    return image if image.is_sound() else None


def images_of(log: Path) -> dict[bytes, ProgramImage]:
    """The programs that a log has executed, and their loaders, as far as they are here now."""
    try:
        events = read_log(log, {"execve"}, ()).events
    except UsageError:
        return {}
    found: dict[bytes, ProgramImage] = {}
    paths = [_path(event) for event in events if isinstance(event, LoggedCall) and not event.error]
    for path in dict.fromkeys(filter(None, paths)):
        image = image_of(path)
        if image is not None:
            found[path] = image
            if image.interpreter is not None and (loader := image_of(image.interpreter)) is not None:
                found[image.interpreter] = loader
    return found


def _path(event: LoggedCall) -> bytes:
    try:
        return text(split(event.words)[0])
    except (BadWord, IndexError):
        return b""
