"""A family of processes whose memory is known by construction: run as a program, it prints who maps what, and waits.

    A ---- writes everything, forks B, writes on, forks C
    |---- B   copies some pages, moves a VMA (mremap), forks D
    |     `-- D   copies more, unmaps half of what was moved, reads the shared file
    `---- C   gives pages back (MADV_DONTNEED), writes to shared memory

Each process keeps a table of what it maps: address -> label, and a label is a page. Writing to a private page gives its address a
new label; forking copies the table; reading shared memory enters the label that all share. Labels become groups at the end: that
is the truth, and no /proc was read for it. Rules used: a private page is copied by a write unless it is nobody else's (then
its only label changes); fork copies entries of VMAs that have an anon_vma and no others (mm/memory.c, vma_needs_copy).

Usage: fork_tree.py FILE: FILE has NR pages. One line of JSON comes out; the family ends with the program or with its stdin.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Self, TypeVar

PAGE = 4096
NR = 8
BASE = 0x300000000000
PRIVATE, SHARED, FILE_SHARED, FILE_PRIVATE, FILE_LAZY, MOVED, MOVED_TO, EMPTY, ZERO, HUGE = (
    BASE + i * (16 << 20) for i in range(10)
)
NR_HUGE = 512

READ, WRITE = 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0x10, 0x20
MADV_DONTNEED, MADV_HUGEPAGE = 4, 14
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
PR_SET_NAME, PR_SET_PDEATHSIG = 15, 1

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
Table = dict[int, str]
Family = list[list[object]]


def ok(result: int | None) -> None:
    """Raises OSError if a call failed."""
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mmap(address: int, nr_pages: int, flags: int, fd: int = -1) -> None:
    flags |= MAP_FIXED | (MAP_ANONYMOUS if fd == -1 else 0)
    ok(libc.mmap(ctypes.c_void_p(address), ctypes.c_size_t(nr_pages * PAGE), READ | WRITE, flags, fd, ctypes.c_long(0)))


def madvise(address: int, nr_pages: int, advice: int) -> None:
    ok(libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(nr_pages * PAGE), advice))


class Process:
    """What one process does to its memory, and what it maps by now."""

    def __init__(self, name: str, table: Table) -> None:
        self.name, self.table, self.nr_writes = name, dict(table), 0
        libc.prctl(PR_SET_NAME, f"tree {name}".encode(), 0, 0, 0)

    def write(self, region: int, *pages: int) -> None:
        """Write to private memory: the page is this process's own from now on."""
        for page in pages:
            address = region + page * PAGE
            ctypes.memset(address, ord(self.name), 1)
            self.nr_writes += 1
            self.table[address] = f"{self.name} {self.nr_writes}"

    def touch(self, region: int, label: str, *pages: int, write: bool = False) -> None:
        """Touch memory whose pages are shared by name."""
        for page in pages:
            address = region + page * PAGE
            ctypes.memset(address, ord(self.name), 1) if write else ctypes.string_at(address, 1)
            self.table[address] = f"{label} page {page}"

    def forget(self, region: int, *pages: int) -> None:
        for page in pages:
            del self.table[region + page * PAGE]

    def child(self, name: str) -> Self:
        """The process that a fork makes of it, which calls this."""
        return type(self)(name, self.fork_table())

    def report(self) -> list[object]:
        return [self.name, os.getpid(), list(self.table.items())]

    def fork_table(self) -> Table:
        """What a child maps at first: VMAs of shared memory and files have no anon_vma, so their entries are not copied."""
        without = [range(start, start + NR * PAGE) for start in (SHARED, FILE_SHARED, FILE_LAZY)]
        return {address: label for address, label in self.table.items() if not any(address in r for r in without)}


P = TypeVar("P", bound=Process)


def grow(path: str) -> Process:
    """Process A's memory."""
    a, fd = Process("A", {}), os.open(path, os.O_RDWR)
    mmap(PRIVATE, 2 * NR, MAP_PRIVATE)
    mmap(SHARED, NR, MAP_SHARED)
    for region, flags in ((FILE_SHARED, MAP_SHARED), (FILE_PRIVATE, MAP_PRIVATE), (FILE_LAZY, MAP_SHARED)):
        mmap(region, NR, flags, fd)
    for region in (MOVED, EMPTY, ZERO):
        mmap(region, NR, MAP_PRIVATE)
    mmap(HUGE, NR_HUGE, MAP_PRIVATE)
    madvise(HUGE, NR_HUGE, MADV_HUGEPAGE)
    a.write(PRIVATE, *range(2 * NR))
    a.write(MOVED, *range(NR))
    a.write(HUGE, *range(NR_HUGE))
    a.touch(SHARED, "shared memory", *range(NR), write=True)
    a.touch(FILE_SHARED, "file", *range(NR), write=True)
    a.write(FILE_PRIVATE, 4, 5)
    a.touch(FILE_PRIVATE, "file", 0, 1, 2, 3, 6, 7)
    ctypes.string_at(ZERO, 1)  # maps the zero page, which no reverse map tracks
    return a


def as_b(b: Process) -> None:
    b.write(PRIVATE, 0, 1, 2, 3)
    b.touch(SHARED, "shared memory", *range(NR))
    moved = {page: b.table.pop(MOVED + page * PAGE) for page in range(NR)}
    size = ctypes.c_size_t(NR * PAGE)
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    ok(libc.mremap(ctypes.c_void_p(MOVED), size, size, flags, ctypes.c_void_p(MOVED_TO)))
    b.table |= {MOVED_TO + page * PAGE: label for page, label in moved.items()}
    b.write(HUGE, 7)


def as_c(c: Process) -> None:
    madvise(PRIVATE + 10 * PAGE, 2, MADV_DONTNEED)
    c.forget(PRIVATE, 10, 11)
    c.touch(SHARED, "shared memory", 0, write=True)


def as_d(d: Process) -> None:
    d.write(PRIVATE, 2, 3, 4, 5)
    d.touch(FILE_SHARED, "file", *range(NR))
    ok(libc.munmap(ctypes.c_void_p(MOVED_TO + 4 * PAGE), ctypes.c_size_t(4 * PAGE)))
    d.forget(MOVED_TO, 4, 5, 6, 7)


def fork(name: str, parent: P, work: Callable[[P], None], then: Callable[[P], Family]) -> Family:
    """A child that does its work, and what `then` says of its own children; the reports of them all. It never returns there."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading) as said:
            family: Family = json.loads(said.readline())
        return family
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    process = parent.child(name)
    work(process)
    family = [*then(process), process.report()]
    with os.fdopen(writing, "w") as out:
        out.write(json.dumps(family) + "\n")
    while True:
        signal.pause()


def main() -> None:
    a = grow(sys.argv[1])
    family = fork("B", a, as_b, then=lambda b: fork("D", b, as_d, then=lambda _: []))
    a.write(PRIVATE, 8, 9)
    family += fork("C", a, as_c, then=lambda _: [])
    sys.stdout.write(json.dumps([*family, a.report()]) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
