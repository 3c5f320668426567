r"""What a program's file says that execve maps of it: of which strace writes no line, so rmaplab record adds one.

    # rmaplab image "\x2f\x62\x69\x6e\x2f\x63\x61\x74" relro=0x9a50+0x5b0 interpreter="\x2f..." load=0x0+0x1668,0x1668,0x0,0x4 load=...

`load`: address + bytes in memory, bytes of the file, offset in the file, flags (1 executable, 2 writable, 4 readable), as a PT_LOAD has them. A script's line is that of its interpreter.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from rmaplab.objects.flags import PROT_EXEC, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE, page_align
from rmaplab.workloads.strace_words import BadWord, text

MARK = "# rmaplab image "
MOST_LOADS = 64
LARGEST = 1 << 32
"""Bytes that a program may span here."""
_LOAD = re.compile(r"load=(0x[0-9a-f]{1,16})\+(0x[0-9a-f]{1,16}),(0x[0-9a-f]{1,16}),(0x[0-9a-f]{1,16}),0x([0-7])")
_RELRO = re.compile(r"relro=(0x[0-9a-f]{1,16})\+(0x[0-9a-f]{1,16})")
_NAME = re.compile(r'("(?:\\x[0-9a-f]{2})*")')


class ProgramSegment(NamedTuple):
    """A PT_LOAD: `memory` bytes at `address`, of which the first `filed` are those of the file from `offset` on. `flags` are ELF's."""

    address: int
    memory: int
    filed: int
    offset: int
    flags: int

    @property
    def start(self) -> int:
        """Its first page."""
        return self.address & -PAGE_SIZE

    @property
    def file_end(self) -> int:
        """Behind the last page of the file's."""
        return page_align(self.address + self.filed) if self.filed else self.start

    @property
    def end(self) -> int:
        """Behind its last page."""
        return page_align(self.address + self.memory)

    @property
    def prot(self) -> int:
        """For mmap."""
        bits = ((4, PROT_READ), (2, PROT_WRITE), (1, PROT_EXEC))
        return sum(prot for bit, prot in bits if self.flags & bit)


@dataclass(frozen=True)
class ProgramImage:
    """What execve maps of a file; `relro` is what its loader makes read-only (address, bytes), `interpreter` the loader's path."""

    loads: tuple[ProgramSegment, ...]
    relro: tuple[int, int] | None = None
    interpreter: bytes | None = None

    @property
    def start(self) -> int:
        """Its first page."""
        return self.loads[0].start

    @property
    def end(self) -> int:
        """Behind its last page."""
        return self.loads[-1].end

    def is_sound(self) -> bool:
        """Whether its segments are in order, apart, of pages that a file can have, and not too many."""
        if not 1 <= len(self.loads) <= MOST_LOADS or self.end - self.start > LARGEST:
            return False
        before = 0
        for load in self.loads:
            if not 0 <= load.filed <= load.memory or load.start < before or load.end <= load.start:
                return False
            if load.end > 1 << 47 or load.offset >= 1 << 47 or (load.address - load.offset) % PAGE_SIZE:
                return False
            before = load.end
        return True

    def relro_pages(self) -> tuple[int, int] | None:
        """(offset from its start, bytes) of what the loader's mprotect is about. Source: glibc elf/dl-reloc.c, _dl_protect_relro."""
        if self.relro is None:
            return None
        first, last = self.relro[0] & -PAGE_SIZE, (self.relro[0] + self.relro[1]) & -PAGE_SIZE
        return (first - self.start, last - first) if first < last else None


def to_line(path: bytes, image: ProgramImage) -> str:
    """The line of a log."""
    words = [_quoted(path)]
    if image.relro is not None:
        words.append(f"relro={image.relro[0]:#x}+{image.relro[1]:#x}")
    if image.interpreter is not None:
        words.append(f"interpreter={_quoted(image.interpreter)}")
    words += [f"load={s.address:#x}+{s.memory:#x},{s.filed:#x},{s.offset:#x},{s.flags & 7:#x}" for s in image.loads]
    return MARK + " ".join(words)


def from_line(line: str) -> tuple[bytes, ProgramImage]:
    """Its path, and what it is. Raises BadWord for a line that says nothing sound."""
    name, *more = line.removeprefix(MARK).split(" ")
    loads, relro, interpreter = [], None, None
    for word in more[: MOST_LOADS + 3]:
        if (load := _LOAD.fullmatch(word)) is not None:
            loads.append(ProgramSegment(*(int(number, 16) for number in load.groups())))
        elif (found := _RELRO.fullmatch(word)) is not None:
            relro = int(found[1], 16), int(found[2], 16)
        elif word.startswith("interpreter="):
            interpreter = text(word.removeprefix("interpreter="))
        else:
            raise BadWord(word)
    image = ProgramImage(tuple(loads), relro, interpreter)
    if not _NAME.fullmatch(name) or not image.is_sound():
        raise BadWord(name)
    return text(name), image


def _quoted(path: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in path) + '"'
