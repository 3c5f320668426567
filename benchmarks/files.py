"""`make bench-files`: what files cost us, in CPU seconds of this process, as ratios: each is measured in turns with what it is compared with.

    a cached file fault        beside our own anonymous fault, one page at a time, on the same kernel
    1 GiB of cached file       mapped, touched page by page and unmapped, beside the kernel underneath (a memfd, huge pages off)
    20,000 mmaps of one file   one page each, no two of which merge, beside the same calls by ctypes

A shared machine disturbs CPU time less than the wall clock. A bound that is not met is said, and fails nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np

import rmaplab
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED
from rmaplab.report.tables import Table, console, new_table

KERNELS = ("2.6.2", "2.6.5-rc1-aa1", "6.18")
PAGE_BYTES, TABLE_BYTES = 4096, 2 << 20
WINDOW_BYTES = 16 * PAGE_BYTES
"""What one read fault of 6.18 maps."""
FAULTS, NR_MMAPS, FILE_BYTES = 200, 20_000, 1 << 30
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class Compared(NamedTuple):
    """Seconds of each turn: ours, what it is compared with; and how many times as long ours may take."""

    what: str
    kernel: str
    ours: list[float]
    other: list[float]
    bound: float

    def row(self) -> list[str]:
        """For the table: medians, and the ratios of the turns."""
        ratios = sorted(ours / other for ours, other in zip(self.ours, self.other, strict=True))
        middle = statistics.median(ratios)
        seconds = [f"{statistics.median(times) * 1e6:,.1f} us" for times in (self.ours, self.other)]
        shown = [f"{ratio:.2f}" for ratio in (ratios[0], middle, ratios[-1])]
        return [self.what, self.kernel, *seconds, *shown, f"{self.bound}", "ok" if middle <= self.bound else "not met"]


def cpu_seconds(call: Callable[[], object]) -> float:
    """What one call takes of this process's time, its system calls included."""
    began = time.process_time()
    call()
    return time.process_time() - began


def in_turns(nr: int, ours: Callable[[], float], other: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Both, `nr` times; a first turn compiles and warms, and is not counted."""
    turns = [(ours(), other()) for _ in range(nr + 1)][1:]
    return [mine for mine, _ in turns], [theirs for _, theirs in turns]


def fresh(task: rmaplab.Task, start: int, length: int, step: int) -> Iterator[int]:
    """Addresses at which nothing is, each `step` bytes behind the last, but for the first of each table, which is touched here."""
    for table in range(start, start + length, TABLE_BYTES):
        task.touch(table, 1)
    return (at for at in range(start, start + length, step) if at % TABLE_BYTES)


def faults(kernel: str, turns: int = 9) -> Iterator[Compared]:
    """A read of a shared page, of a private one, and a write to a shared one: each beside the first write to anonymous memory."""
    for what, flags, write in (
        ("shared read", MAP_SHARED, False),
        ("private read", MAP_PRIVATE, False),
        ("shared write", MAP_SHARED, True),
    ):
        length = (64 if not write and kernel == "6.18" else 16) << 20
        system = rmaplab.boot(kernel, ram="512M")
        task = system.spawn()
        opened = task.open(system.new_file(size=length, on_disk=False), writable=True)
        cached = task.mmap(length, READ_WRITE, MAP_SHARED, file=opened)
        task.touch(cached, length, write=True)
        task.munmap(cached, length)
        anonymous = task.mmap(length, READ_WRITE)
        for table in range(anonymous, anonymous + length, TABLE_BYTES):
            task.touch(table, 1, write=True)
        step = WINDOW_BYTES if not write and kernel == "6.18" else PAGE_BYTES
        mine = fresh(task, task.mmap(length, READ_WRITE, flags, file=opened), length, step)
        other = (at for at in range(anonymous, anonymous + length, PAGE_BYTES) if at % TABLE_BYTES)
        number = FAULTS if step == PAGE_BYTES else FAULTS * 2 // 5

        def each(pages: Iterator[int], number: int, write: bool, task: rmaplab.Task = task) -> float:
            chosen = list(islice(pages, number))
            assert len(chosen) == number, "too few pages"

            def call() -> None:
                for page in chosen:
                    task.touch(page, 1, write=write)

            return cpu_seconds(call) / number

        both = in_turns(
            turns,
            lambda mine=mine, number=number, write=write: each(mine, number, write),  # type: ignore[misc]
            lambda other=other: each(other, FAULTS, True),  # type: ignore[misc]
        )
        yield Compared(f"a cached fault, {what}", kernel, *both, 1.3)


@contextmanager
def host_file() -> Iterator[int]:
    """A memfd of 1 GiB, all of it there."""
    fd = os.memfd_create("files")
    try:
        for start in range(0, FILE_BYTES, 1 << 20):
            os.pwrite(fd, bytes(1 << 20), start)
        yield fd
    finally:
        os.close(fd)


def host_gigabyte(fd: int, write: bool) -> None:
    """The kernel underneath: NumPy touches, a loop in C."""
    with mmap.mmap(fd, FILE_BYTES, mmap.MAP_SHARED) as memory:
        pages = np.frombuffer(memory, np.uint8)[::PAGE_BYTES]
        if write:
            pages[:] = 1
        else:
            pages.sum()
        del pages


def gigabytes(kernel: str, fd: int, turns: int = 3) -> Iterator[Compared]:
    """1 GiB, written to and read."""
    system = rmaplab.boot(kernel, ram="2600M")
    task = system.spawn()
    opened = task.open(system.new_file(size=FILE_BYTES, on_disk=False), writable=True)

    def ours(write: bool) -> None:
        at = task.mmap(FILE_BYTES, READ_WRITE, MAP_SHARED, file=opened)
        task.touch(at, FILE_BYTES, write=write)
        task.munmap(at, FILE_BYTES)

    for write in (True, False):
        both = in_turns(
            turns,
            lambda write=write: cpu_seconds(lambda: ours(write)),  # type: ignore[misc]
            lambda write=write: cpu_seconds(lambda: host_gigabyte(fd, write)),  # type: ignore[misc]
        )
        yield Compared(f"1 GiB of cached file, {'written to' if write else 'read'}", kernel, *both, 3.0)


def mmaps(kernel: str, fd: int, turns: int = 2) -> Compared:
    """20,000 mappings of every other page. Nothing is touched; what is mapped is unmapped again, and not counted."""
    system = rmaplab.boot(kernel, ram="512M")
    file = system.new_file(size=2 * NR_MMAPS * PAGE_BYTES, on_disk=False)

    def ours() -> float:
        task = system.spawn()
        opened = task.open(file, writable=True)
        try:
            return cpu_seconds(
                lambda: [
                    task.mmap(PAGE_BYTES, READ_WRITE, MAP_SHARED, file=opened, pgoff=2 * i) for i in range(NR_MMAPS)
                ]
            )
        finally:
            task.exit()

    def other() -> float:
        found: list[int] = []

        def call() -> None:
            shared = mmap.MAP_SHARED
            found.extend(LIBC.mmap(None, PAGE_BYTES, 3, shared, fd, 2 * i * PAGE_BYTES) for i in range(NR_MMAPS))

        seconds = cpu_seconds(call)
        for at in found:
            LIBC.munmap(at, PAGE_BYTES)
        return seconds

    both = in_turns(turns, ours, other)
    mine, theirs = ([took / NR_MMAPS for took in side] for side in both)
    return Compared("one mmap of 20,000", kernel, mine, theirs, 15.0)


def table_of(rows: list[Compared]) -> Table:
    """A line for each."""
    title = f"files: {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; CPU time, ratios of turns"
    table = new_table(title, "what|kernel|>ours|>beside it|>least|>median|>most|>may be|")
    for row in rows:
        table.add_row(*row.row())
    return table


def main() -> None:
    """Measure and print."""
    rows: list[Compared] = []
    with host_file() as fd:
        for kernel in KERNELS:
            print(f"measuring: {kernel}", file=sys.stderr, flush=True)
            rows += [*faults(kernel), *gigabytes(kernel, fd), mmaps(kernel, fd)]
    console().print(table_of(rows))


if __name__ == "__main__":
    main()
