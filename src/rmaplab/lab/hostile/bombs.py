"""Programs that take all there is of something, or would for ever."""

import random
import struct
from functools import partial

from rmaplab.lab.hostile.assembler import CODE_AT, DATA_AT, Assembler
from rmaplab.lab.hostile.wild import wild
from rmaplab.units import PAGE_SIZE

CLONES = (
    0,
    0x100,
    0x900,
    0x10F00,
    0x4000,
    0x4111,
    0x8000,
    0x2000,
    0x8100,
    0x400,
    0x200,
    0x100000,
    0x200000,
    0x80000,
    0x1000000,
    0x80000000,
)
STACK_BYTES = 4096


def bombs(draw: random.Random, bits: int) -> bytes:
    """One of the bombs below."""
    code = Assembler(bits)
    draw.choice(BOMBS)(code, draw)
    return code.elf(bss=draw.choice((0, 0, 100 << 20)))


def _forks(code: Assembler, _: random.Random) -> None:
    code.forever(lambda: code.call("fork"))


def _vforks(code: Assembler, draw: random.Random) -> None:
    code.forever(lambda: (code.call("vfork"), code.call(draw.choice(("getpid", "sched_yield", "fork")))))


def _clones(code: Assembler, draw: random.Random) -> None:
    """Clone with all kinds of flags, on a stack of its own, its parent's or none."""

    def one() -> None:
        flags = draw.choice((0, 17, 9, 255))
        for bit in draw.sample(CLONES, draw.randrange(4)):
            flags |= bit
        stack = draw.choice((0, code.room(STACK_BYTES) + STACK_BYTES, 1, -8))
        code.call("clone", flags, stack, *(wild(code, draw, []) for _ in range(3)))

    if draw.random() < 0.5:
        code.forever(one)
    for _ in range(30):
        one()
    code.exit(0)


def _threads(code: Assembler, draw: random.Random) -> None:
    stack = code.room(STACK_BYTES) + STACK_BYTES
    code.forever(lambda: code.call("clone", 0x10F00 | draw.choice((0, 0x200000)), stack, 0, DATA_AT, DATA_AT))


def _eater(code: Assembler, draw: random.Random) -> None:
    """Memory is mapped and written to, page by page, without end; by one or by many."""
    mmap = "mmap2" if code.bits == 32 else "mmap"
    size = draw.choice((PAGE_SIZE, 1 << 20, 16 << 20))
    if draw.random() < 0.5:
        code.call("fork")

    def eat() -> None:
        code.call(mmap, 0, size, 3, 0x22 | draw.choice((0, 0x8000)), -1, 0)
        code.code += b"\x89\xc7" if code.bits == 32 else b"\x48\x89\xc7"  # to edi; then rep stosb
        code.set(1, size)
        code.code += b"\xf3\xaa"

    code.forever(eat)


def _loop(code: Assembler, draw: random.Random) -> None:
    code.forever(draw.choice((lambda: None, lambda: code.call("getppid"), lambda: code.call("sched_yield"))))


def _flood(code: Assembler, draw: random.Random) -> None:
    size = draw.choice((1, 4096, 1 << 24))
    code.forever(
        lambda: (
            code.call("write", draw.choice((1, 2)), CODE_AT[code.bits], min(size, 64)),
            code.call("write", 1, DATA_AT, size),
        )
    )


def _files(code: Assembler, draw: random.Random) -> None:
    """Files with ever new names, or one that grows without end."""
    name = code.place(b"/tmp/aaaaaaaa\0")
    if draw.random() < 0.5:
        made = code.call("open", name, 0x42, 0o600)
        code.forever(lambda: code.call("write", made, DATA_AT, draw.choice((64, PAGE_SIZE))))
        return
    what = draw.choice(("creat", "mkdir", "open"))

    def one() -> None:
        code.call(what, name, 0x42, 0o700)
        code.code += (b"\xff\x04\x25" if code.bits == 64 else b"\xff\x05") + struct.pack(
            "<I", name + 9
        )  # inc of its last letters

    code.forever(one)


def _recursion(code: Assembler, draw: random.Random) -> None:
    code.recurse(
        lambda: code.code.extend(
            draw.choice((b"", b"\x50" * 40, b"\x48\x81\xec\0\0\x10\0" if code.bits == 64 else b"\x81\xec\0\0\x10\0"))
        )
    )


def _again(code: Assembler, draw: random.Random) -> None:
    """The execve of itself, with arguments that grow or are none."""
    path = code.place(b"/prog/self\0")
    arguments = code.words(*([path] * draw.choice((1, 3, 200))), 0)
    if draw.random() < 0.4:
        code.call("fork")
    code.call("execve", path, draw.choice((arguments, arguments, 0)), 0)
    code.exit(3)


def _garbage(code: Assembler, draw: random.Random) -> None:
    """The execve of what is no program."""
    made = code.call("open", code.place(b"/tmp/x\0"), 0x241, 0o755)
    for _ in range(12):
        head = draw.choice(
            (
                b"\x7fELF",
                b"\x7fELF\x02\x01\x01",
                b"\x7fELF\x01\x01\x01",
                b"#!/tmp/x\n",
                b"#!",
                b"#! \n",
                b"",
                b"#!/bin/nothing a b\n",
                b"#!/prog/self x\n",
            )
        )
        body = head + draw.randbytes(draw.choice((0, 40, 100, 300)))
        code.call("ftruncate", made, 0)
        code.call("pwrite64", made, code.place(body), len(body), 0, 0)
        path = code.place(
            draw.choice((b"/tmp/x", b"/tmp", b"", b"/tmp/x/", b"/proc/self/exe", b"/dev/zero", b"/nothing")) + b"\0"
        )
        code.child(partial(code.call, "execve", path, code.words(path, 0), 0))
        code.call("wait4", -1, 0, 0, 0)
    code.exit(0)


def _pipes(code: Assembler, draw: random.Random) -> None:
    """Descriptors without end; a pipe that nobody reads."""
    pair = code.room(8)
    if draw.random() < 0.5:
        code.forever(lambda: code.call(draw.choice(("pipe", "dup", "epoll_create1", "eventfd2")), pair, 0))
    code.call("pipe", pair)
    code.forever(lambda: code.call("write", 4, DATA_AT, 1 << 20))


def _zombies(code: Assembler, draw: random.Random) -> None:
    code.call("rt_sigaction", 17, code.words(draw.choice((0, 1)), 0, 0, 0, 0), 0, 8)
    code.forever(lambda: code.child(lambda: None))


def _maps(code: Assembler, draw: random.Random) -> None:
    """Mappings without end that cannot be merged."""
    mmap = "mmap2" if code.bits == 32 else "mmap"
    code.forever(
        lambda: (
            code.call(mmap, 0, PAGE_SIZE, 1, 0x22, -1, 0),
            code.call(mmap, 0, PAGE_SIZE, draw.choice((3, 7)), 0x21, -1, 0),
        )
    )


BOMBS = (
    _forks, _vforks, _clones, _clones, _threads, _eater, _eater, _loop, _flood, _files, _recursion, _again, _garbage, _pipes, _zombies, _maps,
)  # fmt: skip
