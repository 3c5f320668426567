"""An ELF program: what of a file goes where in memory. Read with pyelftools, and checked here: a file may say anything.

    file                         memory
    +---------------+  offset    +---------------+ address (+ bias of a PIE)
    | text          | ---------> | r-x           |
    +---------------+            +---------------+
    | data          | ---------> | rw-           |
    +---------------+            | bss: zeros    |   memory_size > file_size
                                 +---------------+

Source: 2.6.2 fs/binfmt_elf.c, load_elf_binary; 6.18 the same.
"""

import errno
import io
from dataclasses import dataclass

from rmaplab.errors import SyscallError, UsageError
from rmaplab.units import PAGE_SIZE

try:
    from elftools.common.exceptions import ELFError
    from elftools.common.utils import struct_parse
    from elftools.elf.elffile import ELFFile
except ImportError as _absent:
    raise UsageError(
        "programs need pyelftools, which is not here: pip install '.[exec]' in the clone (pip install unicorn pyelftools)"
    ) from _absent

PF_X, PF_W, PF_R = 1, 2, 4
PATH_MAX = 4096
MOST_SEGMENTS = 128
HEADER_BYTES = 1 << 16
"""Of a file, in which its headers must lie."""
SECTIONS_AT = {64: (40, 8), 32: (32, 4)}
"""e_shoff: where, how wide."""


@dataclass(frozen=True)
class LoadSegment:
    """A PT_LOAD: bytes of the file from `offset` on, at `address`, and zeros behind them."""

    address: int
    offset: int
    file_size: int
    memory_size: int
    flags: int


@dataclass(frozen=True)
class ElfImage:
    """A program or an interpreter. Addresses are as the file has them: a position-independent one's begin near 0."""

    bits: int
    entry: int
    position_independent: bool
    segments: tuple[LoadSegment, ...]
    interpreter: bytes | None
    headers_address: int
    """Where its program headers are in memory."""
    header_size: int
    nr_headers: int
    executable_stack: bool

    @property
    def low(self) -> int:
        """The first page of all."""
        return self.segments[0].address & -PAGE_SIZE

    @property
    def high(self) -> int:
        """Where the last one ends."""
        return max(segment.address + segment.memory_size for segment in self.segments)


def read_elf(data: bytes) -> ElfImage:
    """What the file's headers say. Raises SyscallError(ENOEXEC)."""
    try:
        return _read(ELFFile(io.BytesIO(_without_sections(data))))
    except (
        ELFError,
        ValueError,
        KeyError,
        AssertionError,
        UnicodeDecodeError,
        OverflowError,
        IndexError,
        AttributeError,
        TypeError,
    ):
        raise SyscallError(errno.ENOEXEC, "execve", "no ELF program that can be read") from None


def _without_sections(data: bytes) -> bytes:
    """The same file without its section headers, which lie far behind and which no kernel looks at: the reader would."""
    wide = data[4:5] == b"\2"
    start, end = (SECTIONS_AT[64], 64) if wide else (SECTIONS_AT[32], 52)
    place, width = start
    return data[:place] + bytes(width) + data[place + width : end - 6] + bytes(6) + data[end:]


def _read(elf: ELFFile) -> ElfImage:
    bits, kind, machine = elf.elfclass, elf["e_type"], elf["e_machine"]
    if (
        (bits, machine) not in ((64, "EM_X86_64"), (32, "EM_386"))
        or not elf.little_endian
        or kind not in ("ET_EXEC", "ET_DYN")
    ):
        raise SyscallError(errno.ENOEXEC, "execve", "no x86 program")
    if not 0 < elf.num_segments() <= MOST_SEGMENTS:
        raise SyscallError(errno.ENOEXEC, "execve", "no program headers")
    segments, interpreter, stack_flags, headers = list[LoadSegment](), None, PF_X, 0
    for header in (
        struct_parse(elf.structs.Elf_Phdr, elf.stream, elf["e_phoff"] + i * elf["e_phentsize"])
        for i in range(elf.num_segments())
    ):
        if header["p_type"] == "PT_LOAD":
            segments.append(_segment(header, bits))
            if header["p_offset"] <= elf["e_phoff"] < header["p_offset"] + header["p_filesz"]:
                headers = elf["e_phoff"] - header["p_offset"] + header["p_vaddr"]
        elif header["p_type"] == "PT_INTERP":
            if not 1 < header["p_filesz"] <= PATH_MAX:
                raise SyscallError(errno.ENOEXEC, "execve", "an interpreter without a name")
            elf.stream.seek(header["p_offset"])
            interpreter = elf.stream.read(header["p_filesz"])
            if not interpreter.endswith(b"\0"):
                raise SyscallError(errno.ENOEXEC, "execve", "an interpreter whose name does not end")
        elif header["p_type"] == "PT_GNU_STACK":
            stack_flags = header["p_flags"]
    if not segments or sorted(segments, key=lambda segment: segment.address) != segments:
        raise SyscallError(errno.ENOEXEC, "execve", "nothing to load, or out of order")
    return ElfImage(
        bits=bits,
        entry=elf["e_entry"],
        position_independent=kind == "ET_DYN",
        segments=tuple(segments),
        interpreter=None if interpreter is None else interpreter.split(b"\0")[0],
        headers_address=headers,
        header_size=elf["e_phentsize"],
        nr_headers=elf.num_segments(),
        executable_stack=bool(stack_flags & PF_X),
    )


def _segment(header: dict[str, int], bits: int) -> LoadSegment:
    address, offset = header["p_vaddr"], header["p_offset"]
    file_size, memory_size = header["p_filesz"], header["p_memsz"]
    if (
        file_size > memory_size
        or address + memory_size >= 1 << (bits - 1 if bits == 64 else bits)
        or (address - offset) % PAGE_SIZE
        or offset + file_size >= 1 << 62
    ):
        raise SyscallError(errno.ENOEXEC, "execve", "a segment that cannot be")
    return LoadSegment(address, offset, file_size, memory_size, header["p_flags"])
