"""Patterns of reads and faults of one file, and what of it they leave in the cache of the running kernel.

    python tests/mm/readahead_patterns.py DIR > tests/data/readahead-linux-6.18.json

DIR lies on an ext4 of its own without large folios, on a device that reads 128 KiB ahead, made as root with

    truncate -s 64M image; mkfs.ext4 -q image; mount -o loop,data=journal image DIR; echo 128 > /sys/block/LOOP/queue/read_ahead_kb

Without data=journal it has large folios. A pause behind each step lets what is read ahead arrive.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

PAGE = 4096
MADV_RANDOM, MADV_SEQUENTIAL = 1, 2
Step = tuple[str, int, int]
"""("read", from byte, so many), ("load", page, 1), ("store", page, 1)."""
Runs = list[list[int]]
"""[first, behind the last) page of each run in the cache."""


def reads(length: int, *offsets: int) -> list[Step]:
    """pread(2) of so many bytes."""
    return [("read", offset, length) for offset in offsets]


def loads(*pages: int) -> list[Step]:
    return [("load", page, 1) for page in pages]


def stores(*pages: int) -> list[Step]:
    return [("store", page, 1) for page in pages]


PATTERNS: dict[str, tuple[int, int, list[Step]]] = {  # pages of the file, advice, steps
    "a page after the other": (200, 0, reads(PAGE, *range(0, 60 * PAGE, PAGE))),
    "four after the other": (200, 0, reads(4 * PAGE, *range(0, 80 * PAGE, 4 * PAGE))),
    "10,000 bytes after the other": (200, 0, reads(10_000, *range(0, 200_000, 10_000))),
    "100 bytes after the other": (100, 0, reads(100, *range(0, 10_000, 100))),
    "all in one": (300, 0, reads(300 * PAGE, 0)),
    "a large one": (300, 0, reads(200 * PAGE, 10 * PAGE)),
    "from the middle on": (200, 0, reads(PAGE, *range(100 * PAGE, 130 * PAGE, PAGE))),
    "pages here and there": (200, 0, reads(PAGE, *(PAGE * i for i in (77, 13, 150, 42, 5, 120, 121, 122, 123)))),
    "five here and there": (200, 0, reads(5 * PAGE, *(PAGE * i for i in (77, 13, 150, 42, 5, 120)))),
    "every eighth": (200, 0, reads(PAGE, *range(0, 48 * PAGE, 8 * PAGE))),
    "every other": (200, 0, reads(PAGE, *range(0, 40 * PAGE, 2 * PAGE))),
    "two streams": (400, 0, [step for i in range(20) for step in reads(PAGE, i * PAGE, (200 + i) * PAGE)]),
    "backwards": (200, 0, reads(PAGE, *range(150 * PAGE, 142 * PAGE, -PAGE))),
    "the end": (50, 0, reads(PAGE, 45 * PAGE, 46 * PAGE, 49 * PAGE)),
    "loads forward": (200, 0, loads(*range(120))),
    "loads from the middle on": (200, 0, loads(*range(50, 130))),
    "loads here and there": (300, 0, loads(150, 20, 280, 100, 60, 151, 135, 134)),
    "loads backwards": (200, 0, loads(*range(150, 50, -1))),
    "every twentieth loaded": (300, 0, loads(*range(0, 300, 20))),
    "stores here and there": (300, 0, stores(*(37 * i % 300 for i in range(20)))),
    "stores forward": (200, 0, stores(*range(100))),
    "MADV_RANDOM": (200, MADV_RANDOM, loads(100, 101, 20, 150, 0)),
    "MADV_SEQUENTIAL": (300, MADV_SEQUENTIAL, loads(*range(120))),
    "MADV_SEQUENTIAL here and there": (300, MADV_SEQUENTIAL, loads(150, 20, 280, 100, 60)),
    "reads, then loads": (200, 0, reads(PAGE, 0, PAGE) + loads(2, 8, 30, 100)),
    "loads at the end": (40, 0, loads(39, 3)),
}


def runs(cached: list[bool]) -> Runs:
    """Where it is true."""
    found: Runs = []
    for index, there in enumerate(cached):
        if there and found and found[-1][1] == index:
            found[-1][1] = index + 1
        elif there:
            found.append([index, index + 1])
    return found


def changes(seen: list[Runs]) -> list[tuple[int, Runs]]:
    """The steps that have changed anything, and what was in the cache behind them."""
    return [(step, now) for step, now in enumerate(seen) if not step or now != seen[step - 1]]


class Host:
    """One file on the running kernel, written, and out of the cache."""

    def __init__(self, directory: Path, pages: int, advice: int) -> None:
        self.libc, self.path, self.size = ctypes.CDLL(None, use_errno=True), directory / "readahead", pages * PAGE
        self.libc.mmap.restype = ctypes.c_void_p
        self.libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self.path.write_bytes(os.urandom(self.size))
        self.fd = os.open(self.path, os.O_RDWR)
        for _ in range(50):
            os.sync()
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if not self.cached():
                break
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)
        self.at = self.map(3)
        self.libc.madvise(ctypes.c_void_p(self.at), ctypes.c_size_t(self.size), advice)

    def map(self, prot: int) -> int:
        return int(self.libc.mmap(None, self.size, prot, 1, self.fd, 0))

    def cached(self) -> Runs:
        at, seen = self.map(1), (ctypes.c_ubyte * (self.size // PAGE))()
        self.libc.mincore(ctypes.c_void_p(at), ctypes.c_size_t(self.size), seen)
        self.libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(self.size))
        return runs([bool(page & 1) for page in seen])

    def step(self, what: str, where: int, length: int) -> Runs:
        if what == "read":
            os.pread(self.fd, length, where)
        elif what == "load":
            ctypes.string_at(self.at + where * PAGE, 1)
        else:
            ctypes.memset(self.at + where * PAGE, 1, 1)
        time.sleep(0.02)
        return self.cached()

    def close(self) -> None:
        self.libc.munmap(ctypes.c_void_p(self.at), ctypes.c_size_t(self.size))
        os.close(self.fd)
        self.path.unlink()


def on_host(directory: Path, pages: int, advice: int, steps: list[Step]) -> list[tuple[int, Runs]]:
    host = Host(directory, pages, advice)
    seen = [host.step(*step) for step in steps]
    host.close()
    return changes(seen)


if __name__ == "__main__":
    rows = {name: on_host(Path(sys.argv[1]), *pattern) for name, pattern in PATTERNS.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    sys.stdout.write(f"{{\n{lines}\n}}\n")
