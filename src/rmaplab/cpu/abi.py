"""What differs between programs of 32 and of 64 bits: the width of a word, and structs that a system call reads or writes.

Source: include/uapi/asm-generic/stat.h, arch/x86/include/uapi/asm/stat.h, include/uapi/linux/time.h, resource.h of 6.18.
"""

import struct
from dataclasses import dataclass

from rmaplab.cpu.files.inode import Stat

NS = 10**9


@dataclass(frozen=True)
class Abi:
    """How a program of `bits` bits calls the kernel."""

    bits: int
    word: int
    letter: str
    """Of struct: an unsigned word."""
    platform: bytes
    hwcap: int

    def words(self, *values: int) -> bytes:
        """Unsigned words, as many as there are."""
        mask = (1 << self.bits) - 1
        return struct.pack(f"<{len(values)}{self.letter}", *(value & mask for value in values))

    def unpack(self, data: bytes) -> tuple[int, ...]:
        """The same the other way round."""
        return struct.unpack(f"<{len(data) // self.word}{self.letter}", data)

    def signed(self, value: int) -> int:
        """A word as a long."""
        return value - (1 << self.bits) if value >> (self.bits - 1) else value

    def timespec(self, ns: int) -> bytes:
        """A struct timespec, of words."""
        return self.words(ns // NS, ns % NS)

    def timeval(self, ns: int) -> bytes:
        """A struct timeval, of words."""
        return self.words(ns // NS, ns % NS // 1000)

    def stat(self, found: Stat) -> bytes:
        """A struct stat; with 32 bits struct stat64."""
        times = tuple(part for ns in (found.atime_ns, found.mtime_ns, found.ctime_ns) for part in (ns // NS, ns % NS))
        if self.bits == 64:
            return struct.pack(
                "<QQQIIIIQqqq6Q3q",
                found.dev, found.ino, found.nlink, found.mode, found.uid, found.gid, 0, found.rdev, found.size, found.blksize, found.blocks, *times, 0, 0, 0,
            )  # fmt: skip
        low = 0xFFFF_FFFF
        return struct.pack(
            "<QIIIIIIQIqIQ6IQ",
            found.dev, 0, found.ino & low, found.mode, found.nlink, found.uid, found.gid, found.rdev, 0, found.size, found.blksize, found.blocks,
            *(part & low for part in times), found.ino,
        )  # fmt: skip


def int32(value: int) -> int:
    """An argument that is an int: its sign is bit 31."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


HWCAP = 0x0783_FBFF  # CPUID 1, EDX: FPU to SSE2, no SYSENTER
X86_64 = Abi(64, 8, "Q", b"x86_64", HWCAP)
I386 = Abi(32, 4, "I", b"i686", HWCAP)
ABIS = {64: X86_64, 32: I386}
