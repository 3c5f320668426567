"""/proc/PID/smaps_rollup of thousands of processes: read one by one, as the kernel has it, and parsed together.

    55f0...-7fff... ---p 00000000 00:00 0      [rollup]       a head of any length, then lines that differ between
    Rss:                1672 kB                               processes in their digits only: what is left when digits and blanks are
    Pss:                 211 kB                               taken for the same is the layout, and texts of one layout are a table

A process whose text is of no layout seen so far begins one, so nothing is taken for granted. Source: fs/proc/task_mmu.c, show_smap.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rmaplab.host import procfs
from rmaplab.machine.arrays import I64, U8, distinct

_ROOM = 2048  # a text has some 700 bytes; the kernel writes it all into one read that has room for it
_AT_ONCE = 512  # texts, that the buffer stays in a CPU's cache
_DIGITS = 19

_LIKE: U8 = np.arange(256, dtype=np.uint8)
_LIKE[np.frombuffer(b" 0123456789", np.uint8)] = 0


class RollupFigures(NamedTuple):
    """What texts of one layout say: which of those asked for they are, and kB by name of the figure."""

    places: I64
    figures: dict[bytes, I64]


def read_rollups(pids: Sequence[int], names: Sequence[bytes]) -> Iterator[RollupFigures]:
    """The figures of these `names`, as far as the kernel tells them, of each process that is there and ours to read."""
    texts: U8 = np.empty((_AT_ONCE, _ROOM), np.uint8)
    rows = [row.data for row in texts]
    for begin in range(0, len(pids), _AT_ONCE):
        lengths = np.array([_read(pid, row) for pid, row in zip(pids[begin : begin + _AT_ONCE], rows, strict=False)])
        for length in distinct(lengths[lengths > 0]).tolist():
            which = np.flatnonzero(lengths == length)
            yield from (
                RollupFigures(which[told.places] + begin, told.figures)
                for told in parse_rollups(texts[which, :length], names)
            )


def _read(pid: int, row: memoryview) -> int:
    """Bytes of its text; 0 if it has ended, or is not ours."""
    try:
        fd = procfs.open_proc(f"{pid}/smaps_rollup")
    except OSError:
        return 0
    try:
        return os.readv(fd, [row])
    except OSError:
        return 0
    finally:
        os.close(fd)


def parse_rollups(texts: U8, names: Sequence[bytes]) -> Iterator[RollupFigures]:
    """Of texts of one length, a row each. O(bytes), and a little for each layout."""
    left: I64 = np.arange(len(texts))
    while len(left):
        first = texts[left[0]].tobytes()
        head = first.find(b"\n") + 1
        like = _LIKE[texts[left, head:]]
        same = (like == like[0]).all(axis=1)
        colons, ends, told = _layout(first, names)
        yield RollupFigures(left[same], dict(zip(told, _numbers(texts[left[same]], colons, ends).T, strict=True)))
        left = left[~same]


def _layout(text: bytes, names: Sequence[bytes]) -> tuple[I64, I64, list[bytes]]:
    """Where the numbers of these figures begin and end, and which of the figures there are: lines "Name:   12 kB"."""
    found = []
    for name in names:
        colon = text.find(b"\n%s:" % name) + len(name) + 1
        end = text.find(b" kB\n", colon)
        if colon > len(name) and text[colon + 1 : end].strip().isdigit():
            found.append((colon, end, name))
    return *np.array([row[:2] for row in found], np.int64).reshape(-1, 2).T, [name for *_, name in found]


def _numbers(texts: U8, colons: I64, ends: I64) -> I64:
    """By row and figure: the number whose last digit stands before `end`, with blanks or the colon before its first."""
    numbers, power = np.zeros((len(texts), len(ends)), np.int64), 1
    for back in range(1, _DIGITS + 1):
        inside = np.flatnonzero(ends - back > colons)
        digits = texts[:, (ends - back)[inside]]
        known = digits > ord(" ")
        if not known.any():
            break
        numbers[:, inside] += np.where(known, digits - ord("0"), 0) * np.int64(power)
        power *= 10
    return numbers
