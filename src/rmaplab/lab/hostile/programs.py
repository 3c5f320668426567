"""Hostile programs, by kind: each is made from a seed, and says what it is.

instructions   random bytes as code, or a mix of instructions that a CPU might run, with system calls in between
calls          every system call with wild arguments, in children that an alarm ends
bombs          forks, threads, memory, loops, output, files, recursion, execve (bombs.py)
escapes        names that lead out of the root (escapes.py)
garbled        ELF files with bits flipped, cut, or with other words in their headers
"""

import random
import struct
from collections.abc import Callable

from rmaplab.lab.hostile.assembler import CODE_AT, DATA_AT, NUMBERS, RESULT, STACK, Assembler, KeptWord
from rmaplab.lab.hostile.bombs import bombs
from rmaplab.lab.hostile.escapes import escapes
from rmaplab.lab.hostile.wild import handler, wild
from rmaplab.units import PAGE_SIZE

NR_NUMBERS = 480
REGISTERS = (0, 3, 1, 2, 6, 7)
BEYOND = (0x200, 0x3FF, 0x4000_0001, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, (1 << 64) - 1)
SNIPPETS = (
    b"\x90", b"\xc3", b"\xcc", b"\xf4", b"\x0f\x0b", b"\xcf", b"\xfa", b"\x0f\x01\xd0", b"\x0f\x31", b"\x0f\xa2", b"\x9c\x9d", b"\x60", b"\x61", b"\x8e\xd8",
    b"\x8e\xe8", b"\x0f\x20\xc0", b"\x0f\x22\xd8", b"\x0f\x30", b"\x0f\x32", b"\xe4\x80", b"\xe6\x80", b"\xcd\x03", b"\xcd\x2e", b"\xf1", b"\xf0\x0f\xb1\x0e", b"\x0f\x34",
    b"\x0f\x05", b"\xcd\x80", b"\xf7\xf1", b"\xf3\xa4", b"\xf3\xab", b"\xff\xd0", b"\xff\xe0", b"\xff\xe4", b"\x50\x58", b"\x0f\xae\x00", b"\x0f\xae\x08", b"\xdb\xe3", b"\xd9\xf7",
    b"\x0f\x09", b"\x0f\x01\x1c\x24", b"\x0f\x00\xd8", b"\x89\x00", b"\x8b\x00", b"\x66\x0f\x6f\x00", b"\x9a\0\0\0\0\x33\0", b"\xea\0\0\0\0\x23\0", b"\xcb", b"\xca\x08\0",
    b"\x64\x8b\x00", b"\x65\x89\x00", b"\x0f\xc7\x08", b"\x17", b"\x1f", b"\xd7", b"\xc8\xff\xff\x1f", b"\xc9", b"\xfd", b"\xfb", b"\x0f\x07", b"\x0f\x01\xf8", b"\xf3\x90",
    b"\x0f\x01\xf9", b"\x0f\xc7\xf0", b"\x0f\x18\x00", b"\xcd\xff", b"\x62\xf1\x7c\x48\x28\x00", b"\xc5\xfc\x28\x00", b"\x0f\x01\xc8", b"\x0f\x01\xca", b"\xd6", b"\x0f\xff",
)  # fmt: skip
"""Instructions that are privileged, rare, gone, or go somewhere."""
WAITS = ("pause", "rt_sigsuspend", "sigsuspend", "exit", "exit_group", "rt_sigreturn", "sigreturn", "reboot")


def instructions(draw: random.Random, bits: int) -> bytes:
    """Children that run random bytes, or random instructions, until they die of it."""
    code = Assembler(bits)
    code.room(2 * PAGE_SIZE)

    def one() -> None:
        code.call("alarm", 1)
        if draw.random() < 0.3:
            handler(code, draw, draw.choice((4, 5, 7, 8, 11)))
        for register in REGISTERS:
            code.set(register, wild(code, draw, []))
        if draw.random() < 0.4:
            code.code += draw.randbytes(draw.choice((64, PAGE_SIZE)))
        else:
            for _ in range(draw.randrange(4, 40)):
                _instruction(code, draw)

    for _ in range(15):
        code.child(one)
        code.call("wait4", -1, 0, 0, 0)
    code.exit(0)
    entry = draw.choice((None,) * 5 + (CODE_AT[bits] + draw.randrange(len(code.code)),))
    return code.elf(entry=entry, bss=draw.choice((0, PAGE_SIZE, 5000)), writable_code=draw.random() < 0.5)


def _instruction(code: Assembler, draw: random.Random) -> None:
    what = draw.random()
    if what < 0.3:
        code.set(draw.choice(REGISTERS), wild(code, draw, []))
    elif what < 0.35:
        code.set(STACK, DATA_AT + draw.randrange(2 * PAGE_SIZE))
    elif what < 0.5:
        code.set(RESULT, draw.randrange(NR_NUMBERS))
        code.trap()
    elif what < 0.6:  # it writes code of its own
        code.set(7, code.here & -PAGE_SIZE)
        code.code += b"\xaa"
    elif what < 0.9:
        code.code += draw.choice(SNIPPETS)
    else:
        code.code += draw.randbytes(draw.randrange(1, 6))


def _materials(code: Assembler) -> list[KeptWord]:
    """Buffers and structs that calls take, and open files."""
    page = code.room(64)
    for text in (
        b"/",
        b"/etc/motd",
        b"/tmp/x",
        b".",
        b"..",
        b"/proc/self/maps",
        b"/dev/zero",
        b"/bin/self",
        b"\xff\xfe\n",
        b"a" * 300,
    ):
        code.place(text + b"\0")
    for words in (
        (page, 64),
        (page, 1 << 40),
        (0, 8),
        (0, 1000),
        (1, 0),
        (1 << 62, 1 << 62),
        (-1, -1),
        (3, 1, 4, 1),
        (0x0005_0001, 0, 0x0004_0003),
    ):
        code.words(*words * 3)
    code.place(struct.pack("<HH", 1, 0x612F) + b"/x\0")
    code.words(page, 16, code.words(page, 64), 1, 0, 0, 0)
    pair = code.room(8)
    code.call("pipe", pair)
    return [
        KeptWord(pair),
        code.call("open", code.place(b"/etc/motd\0"), 0),
        code.call("open", code.place(b"/tmp/new\0"), 0x242, 0o600),
        code.call("open", code.place(b"/\0"), 0x10000),
        code.call("open", code.place(b"/dev/zero\0"), 2),
        code.call("memfd_create", page, 0),
        code.call("epoll_create1", 0),
        code.call("eventfd2", 0, 0x800),
        code.call("mmap2" if code.bits == 32 else "mmap", 0, 3 * PAGE_SIZE, 3, 0x22, -1, 0),
    ]


def calls(draw: random.Random, bits: int) -> bytes:
    """Wild arguments for many calls, a few at a time, each few in a child."""
    code = Assembler(bits)
    kept = _materials(code)
    waits = {NUMBERS[bits].get(name) for name in WAITS}

    def batch() -> None:
        code.call("alarm", 2)
        if draw.random() < 0.3:
            handler(code, draw, draw.choice((10, 11, 13, 14, 17)))
        for _ in range(draw.randrange(2, 9)):
            number = draw.choice(BEYOND) if draw.random() < 0.03 else draw.randrange(NR_NUMBERS)
            if number in waits and draw.random() < 0.9:
                continue
            got = code.call(number, *(wild(code, draw, kept) for _ in range(6)))
            if draw.random() < 0.2:
                kept.append(got)

    for _ in range(12):
        code.child(batch, draw.choice(("fork", "fork", "fork", "clone")), 17, 0)
        if draw.random() < 0.3:
            code.call("kill", draw.choice((-1, 2, 3, 4)), draw.choice((0, 1, 10, 17, 9)))
        code.call("wait4", -1, draw.choice((0, DATA_AT)), draw.choice((0, 0, 1)), 0)
    code.exit(0)
    return code.elf(bss=draw.choice((0, 0, 3 * PAGE_SIZE)))


def garbled(draw: random.Random, bits: int, whole: bytes) -> bytes:
    """A file with bits of its headers, or of anything, flipped; or cut; or with other words in its headers."""
    data = bytearray(whole)
    for _ in range(draw.randrange(1, 5)):
        what = draw.random()
        if what < 0.5:
            data[draw.randrange(min(len(data), 0x200))] ^= 1 << draw.randrange(8)
        elif what < 0.75:
            at = draw.randrange(16, 0x180) & -4
            data[at : at + 8] = struct.pack(
                "<Q",
                draw.choice(
                    (0, 1, 0xFFFF_FFFF, (1 << 64) - 1, 1 << 63, 1 << 47, 0x1000, 0xC000_0000, draw.getrandbits(64))
                ),
            )
        elif what < 0.9:
            for _ in range(50):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            del data[draw.choice((draw.randrange(1, len(data) + 1), draw.randrange(1, min(len(data), 300) + 1))) :]
        if len(data) < 0x200:
            break
    return bytes(data)


KINDS: dict[str, Callable[[random.Random, int], bytes]] = {
    "instructions": instructions,
    "calls": calls,
    "bombs": bombs,
    "escapes": escapes,
}
"""Those that need nothing but a seed."""
