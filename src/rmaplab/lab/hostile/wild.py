"""Arguments that no call expects, and handlers that lead nowhere."""

import random
import struct

from rmaplab.lab.hostile.assembler import DATA_AT, Assembler, KeptWord
from rmaplab.units import PAGE_SIZE

KERNELS_OWN = (0xC000_0000, 0xFFFF_E000, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FF60_0000, 1 << 47, (1 << 47) - 1, 1 << 63)


def wild(code: Assembler, draw: random.Random, kept: list[KeptWord]) -> int | KeptWord:
    """An argument."""
    kind = draw.random()
    if kind < 0.3:
        return DATA_AT + draw.randrange(0, max(len(code.data), 1), 8)
    if kind < 0.5:
        return draw.randrange(20)
    if kind < 0.6 and kept:
        return draw.choice(kept)
    if kind < 0.7:
        return draw.choice((0, -1, -2, -4095, -100, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, PAGE_SIZE, 0x1_0000, 4097))
    if kind < 0.8:
        return draw.choice(KERNELS_OWN)
    if kind < 0.9:  # at an edge
        return _end(code) - draw.choice((0, 1, 2, 4, 7, 8, 16, PAGE_SIZE))
    if kind < 0.95:
        return 1 << draw.randrange(code.bits)
    return draw.getrandbits(code.bits)


def _end(code: Assembler) -> int:
    """Where the page of data ends."""
    return (DATA_AT + len(code.data)) // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE


def handler(code: Assembler, draw: random.Random, signal: int) -> None:
    """A handler that returns, or goes nowhere, as `signal`'s; on a stack of its own, or on one that is not there."""
    word = code.word
    restorer = code.here + 5
    code.code += b"\xe9" + struct.pack("<i", 7)
    code.code += (
        b"\xb8" + struct.pack("<I", 15 if code.bits == 64 else 173) + (b"\x0f\x05" if code.bits == 64 else b"\xcd\x80")
    )
    returns = code.here + 5
    code.code += b"\xe9" + struct.pack("<i", 1) + b"\xc3"
    target = draw.choice((returns, returns, returns, 1, 0, restorer, DATA_AT, (1 << 63) + 5))
    action = code.words(
        target,
        0x0400_0004 | draw.choice((0, 0x0800_0000, 0x4000_0000, 0x8000_0000)),
        draw.choice((restorer, restorer, 0, -1)),
        0,
        0,
    )
    if draw.random() < 0.3:
        code.call(
            "sigaltstack",
            code.words(draw.choice((DATA_AT, 0, 1 << (code.bits - 1))), 0, 8192)
            if word == 8
            else code.words(DATA_AT, 0, 8192),
            0,
        )
    code.call("rt_sigaction", signal, action, 0, 8)
