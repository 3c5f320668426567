r"""Static programs made here, with no compiler: a few instructions of x86, data, and an ELF file around them.

    code = Assembler(64)
    path = code.place(b"/etc/passwd\0")
    fd = code.call("open", path, 0)              what it returns is kept in memory: a KeptWord, an argument of later calls
    code.call("read", fd, code.room(100), 100)
    code.exit(0)
    Path("a.out").write_bytes(code.elf())

Source: Intel SDM volume 2; gABI, "ELF Header", "Program Header".
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from rmaplab.cpu.numbers import NAMES32, NAMES64
from rmaplab.units import PAGE_SIZE, page_align

CODE_AT = {64: 0x40_0000, 32: 0x804_8000}
DATA_AT = 0x1000_0000
NUMBERS = {bits: {name: number for number, name in names.items()} for bits, names in ((64, NAMES64), (32, NAMES32))}
ARGUMENTS = {64: (7, 6, 2, 10, 8, 9), 32: (3, 1, 2, 6, 7, 5)}
"""Registers of a system call's arguments."""
RESULT, STACK = 0, 4
EM_386, EM_X86_64 = 3, 62
PT_LOAD, PT_GNU_STACK = 1, 0x6474E551
EXECUTABLE, WRITABLE, READABLE = 1, 2, 4


class KeptWord(NamedTuple):
    """A word of memory: what a call has returned."""

    address: int


class Assembler:
    """A program of `bits` bits that grows. Addresses are those it will have."""

    def __init__(self, bits: int) -> None:
        self.bits, self.word = bits, bits // 8
        self.code, self.data = bytearray(), bytearray()
        self._numbers, self._registers = NUMBERS[bits], ARGUMENTS[bits]

    @property
    def here(self) -> int:
        """Where the next instruction will be."""
        return CODE_AT[self.bits] + len(self.code)

    def place(self, data: bytes) -> int:
        """Data of its own, at a multiple of 8: where."""
        self.data += bytes(-len(self.data) % 8)
        at = DATA_AT + len(self.data)
        self.data += data
        return at

    def room(self, nr: int) -> int:
        """`nr` bytes of zeros: where."""
        return self.place(bytes(nr))

    def words(self, *values: int) -> int:
        """Words of the program's width: where."""
        mask = (1 << self.bits) - 1
        return self.place(
            struct.pack(f"<{len(values)}{'Q' if self.bits == 64 else 'I'}", *(value & mask for value in values))
        )

    def set(self, register: int, value: int | KeptWord) -> None:
        """mov: a constant, or a word of memory."""
        if isinstance(value, KeptWord):
            if self.bits == 64:
                self.code += bytes((0x48 | register >> 3 << 2, 0x8B, 0x04 | (register & 7) << 3, 0x25))
            else:
                self.code += bytes((0x8B, 0x05 | register << 3))
            self.code += struct.pack("<I", value.address)
        elif self.bits == 64:
            self.code += bytes((0x48 | register >> 3, 0xB8 | register & 7)) + struct.pack("<Q", value & (1 << 64) - 1)
        else:
            self.code += bytes((0xB8 | register,)) + struct.pack("<I", value & 0xFFFF_FFFF)

    def keep(self, kept: KeptWord) -> None:
        """The result register goes there."""
        self.code += (b"\x48\x89\x04\x25" if self.bits == 64 else b"\x89\x05") + struct.pack("<I", kept.address)

    def call(self, what: int | str, *arguments: int | KeptWord) -> KeptWord:
        """A system call, by name or number: where its result is."""
        kept = KeptWord(self.room(8))
        for register, value in zip(self._registers, arguments, strict=False):
            self.set(register, value)
        self.set(RESULT, self._numbers[what] if isinstance(what, str) else what)
        self.trap()
        self.keep(kept)
        return kept

    def trap(self) -> None:
        """Call the kernel with the registers as they are."""
        self.code += b"\x0f\x05" if self.bits == 64 else b"\xcd\x80"

    def exit(self, status: int) -> None:
        """exit_group."""
        self.call("exit_group", status)

    def exit_with(self) -> None:
        """exit_group, with what is in the result register."""
        self.code += b"\x48\x89\xc7" if self.bits == 64 else b"\x89\xc3"  # mov
        self.set(RESULT, self._numbers["exit_group"])
        self.trap()

    def forever(self, body: Callable[[], object]) -> None:
        """An endless loop."""
        start = len(self.code)
        body()
        self.code += b"\xe9" + struct.pack("<i", start - len(self.code) - 5)

    def repeat(self, nr: int, body: Callable[[], object]) -> None:
        """A loop of `nr` rounds."""
        counter = self.place(struct.pack("<Q", nr))
        start = len(self.code)
        body()
        self.code += (b"\xff\x0c\x25" if self.bits == 64 else b"\xff\x0d") + struct.pack("<I", counter)  # dec
        self._branch(0x85, start)

    def if_zero(self, body: Callable[[], object]) -> None:
        """`body`, if the result register is 0."""
        self.code += b"\x48\x85\xc0" if self.bits == 64 else b"\x85\xc0"
        at = len(self.code)
        self._branch(0x85, at)
        body()
        self.code[at + 2 : at + 6] = struct.pack("<i", len(self.code) - at - 6)

    def child(self, body: Callable[[], object], call: str = "fork", *arguments: int | KeptWord) -> KeptWord:
        """A fork whose child runs `body` and exits: its number."""
        number = self.call(call, *arguments)

        def lives() -> None:
            body()
            self.exit(0)

        self.if_zero(lives)
        return number

    def recurse(self, body: Callable[[], object]) -> None:
        """A function that runs `body` and calls itself."""
        start = len(self.code)
        body()
        self.code += b"\xe8" + struct.pack("<i", start - len(self.code) - 5)

    def _branch(self, condition: int, target: int) -> None:
        self.code += bytes((0x0F, condition)) + struct.pack("<i", target - len(self.code) - 6)

    def elf(self, *, entry: int | None = None, bss: int = 0, writable_code: bool = False) -> bytes:
        """The file: code, then data with `bss` bytes of zeros behind it."""
        wide = self.bits == 64
        code, data = bytes(self.code) or b"\xf4", bytes(self.data) or b"\0"
        at_code, at_data = PAGE_SIZE, PAGE_SIZE + page_align(len(code))
        flags = READABLE | EXECUTABLE | (WRITABLE if writable_code else 0)
        segments = (
            (PT_LOAD, flags, at_code, CODE_AT[self.bits], len(code), len(code), PAGE_SIZE),
            (PT_LOAD, READABLE | WRITABLE, at_data, DATA_AT, len(data), len(data) + bss, PAGE_SIZE),
            (PT_GNU_STACK, READABLE | WRITABLE, 0, 0, 0, 0, 16),
        )
        headers = b"".join(_header(wide, *segment) for segment in segments)
        head_size, size = (64, 56) if wide else (52, 32)
        identity = bytes((0x7F, 0x45, 0x4C, 0x46, 2 if wide else 1, 1, 1)).ljust(16, b"\0")
        entry = CODE_AT[self.bits] if entry is None else entry
        layout = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
        machine = EM_X86_64 if wide else EM_386
        head = identity + struct.pack(
            layout, 2, machine, 1, entry, head_size, 0, 0, head_size, size, len(segments), 0, 0, 0
        )
        return (head + headers).ljust(at_code, b"\0") + code.ljust(at_data - at_code, b"\0") + data


def _header(wide: bool, kind: int, flags: int, offset: int, address: int, size: int, memory: int, align: int) -> bytes:
    if wide:
        return struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, memory, align)
    return struct.pack("<IIIIIIII", kind, offset, address, address, size, memory, flags, align)
