"""From a page to its page-table entries, by reading all of them: what the kernel has a reverse map for, we do by brute force.

    /proc/PID/pagemap    a word per virtual page:   63 present  62 swap  61 file or shared memory  58 guard
                                                    56 mapped exactly once  55 soft-dirty  0-54 PFN (swap: type, offset)
    PAGEMAP_SCAN         ioctl on it: ranges of populated pages, so that holes cost nothing
    /proc/kpagecount     a word per PFN: how many entries map it
    /proc/kpageflags     a word per PFN: its flags (kpageflags.py)

    pid 7   400000: 0x1a2b   401000: 0x1a2c            join       0x1a2b  ->  7 at 400000, 9 at 700000
    pid 9   700000: 0x1a2b   701000: 0x33f0           ------>     0x1a2c  ->  7 at 401000
                                                                  0x33f0  ->  9 at 701000

`read_present` reads one process, `join` turns many into columns sorted by PFN, `read_per_pfn` reads only those stretches of
kpagecount and kpageflags that hold the PFNs asked for: each word costs the kernel a look at a struct page.

Sources: Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c (pagemap_read, do_pagemap_scan), fs/proc/page.c.
"""

import errno
import fcntl
import functools
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from rmaplab.host import procfs
from rmaplab.host.closing import Closing
from rmaplab.host.kpageflags import KSM
from rmaplab.host.procfs import PAGE_BYTES, Unread
from rmaplab.machine.arrays import I32, I64, U64

LAST_PFN = (1 << 52) - 1
"""Beyond it, an offset into kpagecount would be no file offset any more."""


PM_PRESENT = 1 << 63
PM_SWAP = 1 << 62
PM_FILE = 1 << 61
PM_GUARD_REGION = 1 << 58
PM_MMAP_EXCLUSIVE = 1 << 56
PM_PFN = (1 << 55) - 1

PAGE_IS_PRESENT = 1 << 3
PAGE_IS_SWAPPED = 1 << 4
PAGE_IS_PFNZERO = 1 << 5
PAGE_IS_HUGE = 1 << 6
_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg), include/uapi/linux/fs.h
_SCAN_ARGUMENT = struct.Struct("=12Q")
_WALK_END = 4 * 8
_REGIONS = 4096

_BRIDGE = 64  # a gap of so many pages is cheaper to read through than to start a read after it
_CHUNK_BYTES = 8 << 20


class Pagemap(Closing):
    """One process's page tables. A context manager; raises OSError where the process cannot be read."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = procfs.open_proc(f"{pid}/pagemap")

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def entries(self, start: int, end: int) -> U64:
        """A word per page of [start, end); shorter where the address space or the process ends."""
        return _read_words(self._fd, start // PAGE_BYTES, end // PAGE_BYTES)

    def entry(self, address: int) -> int | None:
        """The word of one page; None if the process is gone."""
        words = self.entries(address & -PAGE_BYTES, (address & -PAGE_BYTES) + PAGE_BYTES)
        return int(words[0]) if len(words) else None

    def words_at(self, addresses: U64) -> U64:
        """The words of pages anywhere, in their order; 0 where the address space or the process ends."""
        return _gather(self._fd, addresses // np.uint64(PAGE_BYTES), 0)

    def regions(self, start: int, end: int, mask: int = PAGE_IS_PRESENT, report: int = 0) -> U64:
        """Ranges of pages that have all categories of `mask`: rows of (start, end, categories among `report`), ascending.

        One ioctl per 4096 ranges. Raises OSError: ENOTTY before Linux 6.7, EFAULT beyond the end of user addresses.
        """
        found, vector = [], np.empty((_REGIONS, 3), np.uint64)
        while start < end:
            argument = bytearray(
                _SCAN_ARGUMENT.pack(96, 0, start, end, 0, vector.ctypes.data, _REGIONS, 0, 0, mask, 0, report | mask)
            )
            n = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, argument, True)
            found.append(vector[:n].copy())
            start = struct.unpack_from("=Q", argument, _WALK_END)[0]
            if n < _REGIONS:
                break
        return np.concatenate(found) if found else vector[:0]


class Join(NamedTuple):
    """Every present entry of some processes, sorted by PFN.

    pfns    [n]      each page once, ascending
    starts  [n + 1]  rows starts[i] to starts[i + 1] are the entries of pfns[i]
    pids, addresses [m]  a row per entry
    unread           processes that could not be read, and why
    """

    pfns: U64
    starts: I64
    pids: I32
    addresses: U64
    unread: dict[int, Unread]

    def mappers(self, pfn: int) -> list[tuple[int, int]]:
        """(pid, address) of every entry that maps a page, ascending. O(log n)."""
        i = int(np.searchsorted(self.pfns, np.uint64(pfn)))
        if i == len(self.pfns) or int(self.pfns[i]) != pfn:
            return []
        rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return sorted(zip(self.pids[rows].tolist(), self.addresses[rows].tolist(), strict=True))

    def counts(self) -> I64:
        """How many entries map each of `pfns`."""
        return np.diff(self.starts)


def can_see_pfns() -> bool:
    """Whether pagemap shows us PFNs: it reads 0 in their place without CAP_SYS_ADMIN. Asked of a page of our own."""
    page = np.ones(1, np.uint64)
    try:
        with Pagemap(procfs.own_pid()) as own:
            entry = own.entry(page.ctypes.data)
    except OSError:
        return False
    return bool(entry and entry & PM_PRESENT and entry & PM_PFN)


def read_present(pid: int, *, swapped: bool = False) -> tuple[U64, U64] | Unread:
    """Addresses and words of all present pages of a process: two columns, ascending by address; or of all that are swapped out."""
    mask, bit = (PAGE_IS_SWAPPED, PM_SWAP) if swapped else (PAGE_IS_PRESENT, PM_PRESENT)
    addresses, words = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    try:
        with Pagemap(pid) as pagemap:
            for start, end in _populated(pagemap, mask):
                read = pagemap.entries(start, end)
                present = np.flatnonzero(read & np.uint64(bit))
                whole = len(present) == len(read)
                words.append(read if whole else read[present])
                addresses.append(present.astype(np.uint64) * np.uint64(PAGE_BYTES) + np.uint64(start))
    except OSError as error:
        return Unread.NO_MEMORY if error.errno == errno.ESRCH else procfs.why_unread(error)
    return np.concatenate(addresses), np.concatenate(words)


def join(pids: Iterable[int]) -> Join:
    """All present entries of these processes, by page. About 0.3 us per entry, 24 bytes each; rows of one page in no order."""
    unread: dict[int, Unread] = {}
    owners, addresses, words = [np.empty(0, np.int32)], [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for pid in pids:
        columns = read_present(pid)
        if isinstance(columns, Unread):
            unread[pid] = columns
            continue
        owners.append(np.full(len(columns[0]), pid, np.int32))
        addresses.append(columns[0])
        words.append(columns[1])
    pfn = np.concatenate(words) & np.uint64(PM_PFN)
    order = np.argsort(pfn)
    pfn = pfn[order]
    first = np.flatnonzero(np.diff(pfn, prepend=~pfn[:1]))
    starts = np.append(first, len(pfn))
    return Join(pfn[first], starts, np.concatenate(owners)[order], np.concatenate(addresses)[order], unread)


def find(pfn: int, pids: Iterable[int], *, swapped: bool = False) -> tuple[list[tuple[int, int]], dict[int, Unread]]:
    """(pid, address) of every entry among these processes that maps one page; and who could not be read.

    With `swapped`: of every entry that names one slot of swap, `pfn` being its type and offset as pagemap has them.
    """
    found, unread = [], {}
    for pid in pids:
        columns = read_present(pid, swapped=swapped)
        if isinstance(columns, Unread):
            unread[pid] = columns
            continue
        hits = np.flatnonzero((columns[1] & np.uint64(PM_PFN)) == np.uint64(pfn))
        found += [(pid, address) for address in columns[0][hits].tolist()]
    return found, unread


def _populated(pagemap: Pagemap, mask: int) -> Iterator[tuple[int, int]]:
    """Stretches worth reading: populated, with gaps too small to be worth a read of their own."""
    try:
        found = pagemap.regions(0, _end_of_user_addresses(), mask)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        yield from _mapped(pagemap.pid)  # Linux before 6.7
        return
    if len(found):
        starts, ends = found[:, 0], found[:, 1]
        cut = np.flatnonzero(starts[1:] - ends[:-1] > np.uint64(_BRIDGE * PAGE_BYTES)) + 1
        first, last = np.append(0, cut), np.append(cut, len(found)) - 1
        yield from zip(starts[first].tolist(), ends[last].tolist(), strict=True)


def _mapped(pid: int) -> Iterator[tuple[int, int]]:
    vmas = procfs.read_maps(pid)
    if not isinstance(vmas, Unread):
        yield from ((vma.start, vma.end) for vma in vmas if vma.name != "[vsyscall]")


def _read_words(fd: int, low: int, high: int) -> U64:
    """U64 low to high of a file that is indexed by page; fewer where it ends."""
    words = np.empty(high - low, np.uint64)
    view, done = words.view(np.uint8).data, 0
    while done < len(view):
        got = os.preadv(fd, [view[done : done + _CHUNK_BYTES]], low * 8 + done)
        if not got:
            break
        done += got
    return words[: done // 8]


def _gather(fd: int, wanted: U64, beyond: int) -> U64:
    """U64 of a file that is indexed by page, wherever they are: a read per stretch; `beyond` past its end."""
    ascending, back = np.unique(wanted, return_inverse=True)
    words = np.full(len(ascending), beyond, np.uint64)
    cut = np.flatnonzero(np.diff(ascending) > np.uint64(_BRIDGE)) + 1
    for rows in np.split(np.arange(len(ascending)), cut) if len(ascending) else ():
        low, high = int(ascending[rows[0]]), min(int(ascending[rows[-1]]), LAST_PFN) + 1
        if low >= high:
            break
        read = _read_words(fd, low, high)
        offsets = (ascending[rows] - np.uint64(low)).astype(np.int64)
        there = offsets < len(read)
        words[rows[there]] = read[offsets[there]]
    return words[back]


@functools.cache
def _end_of_user_addresses() -> int:
    """The largest end that PAGEMAP_SCAN takes: 47, 48, 52 or 56 bits, by architecture and levels. Asked of ourselves."""
    with Pagemap(procfs.own_pid()) as own:
        for bits in (56, 52, 48, 47):
            end = (1 << bits) - PAGE_BYTES
            try:
                own.regions(end - PAGE_BYTES, end)
            except OSError as error:
                if error.errno != errno.EFAULT:
                    raise
            else:
                return end
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


def read_per_pfn(name: str, pfns: U64 | Sequence[int], beyond: int = 0) -> U64 | Unread:
    """The words of /proc/kpagecount or /proc/kpageflags for these PFNs, in their order; `beyond` past the end of memory."""
    try:
        fd = procfs.open_proc(name)
    except OSError as error:
        return procfs.why_unread(error)
    try:
        words = _gather(fd, np.asarray(pfns, np.uint64), beyond)
        return words & ~np.uint64(KSM) if name == "kpageflags" and all_anonymous_are_called_ksm() else words
    except OSError as error:
        return procfs.why_unread(error)
    finally:
        os.close(fd)


@functools.cache
def all_anonymous_are_called_ksm() -> bool:
    """Whether this kernel's kpageflags has KSM on every anonymous page, so that it says nothing.

    Linux 6.12's has: stable_page_flags (fs/proc/page.c) takes one of the two bits of a KSM page's mapping for both. Asked of a page
    of our own that nobody may merge.
    """
    page: U64 = np.ones(1, np.uint64)
    try:
        with Pagemap(procfs.own_pid()) as own:
            entry = own.entry(page.ctypes.data) or 0
        fd = procfs.open_proc("kpageflags")
    except OSError:
        return False
    try:
        (word,) = _gather(fd, np.array([entry & PM_PFN], np.uint64), 0).tolist()
    finally:
        os.close(fd)
    return bool(word & KSM)
