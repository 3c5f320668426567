"""Pagemap, PAGEMAP_SCAN, kpagecount and kpageflags, against memory whose state we know."""

import errno
import fcntl
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from rmaplab.host import kpageflags, pagemap, procfs
from rmaplab.host.pagemap import PM_MMAP_EXCLUSIVE, PM_PFN, PM_PRESENT, Pagemap
from rmaplab.host.procfs import PAGE_BYTES, Unread
from rmaplab.machine.arrays import U8, U64

NR = 300
Bytes = U8


@pytest.fixture
def memory() -> Bytes:
    """300 pages of ours, of which every third is written; no huge pages. Unmapped when the array goes."""
    mapping = mmap.mmap(-1, NR * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.madvise(mmap.MADV_NOHUGEPAGE)
    array = np.frombuffer(mapping, np.uint8)
    array[:: 3 * PAGE_BYTES] = 1
    return array


def test_written_pages_are_present_and_others_are_not(memory: Bytes) -> None:
    start = memory.ctypes.data
    with Pagemap(os.getpid()) as own:
        words = own.entries(start, start + NR * PAGE_BYTES)
        assert np.flatnonzero(words & np.uint64(PM_PRESENT)).tolist() == list(range(0, NR, 3))
        assert (words[::3] & np.uint64(PM_MMAP_EXCLUSIVE)).all()
        assert own.entry(start + 5) == words[0]
        scattered = np.array([start + 299 * PAGE_BYTES, start, start + 298 * PAGE_BYTES, 0], np.uint64)
        assert own.words_at(scattered).tolist() == [words[299], words[0], words[298], 0]
        assert own.words_at(scattered[:0]).tolist() == []


def test_the_scan_gives_the_ranges_that_are_there(memory: Bytes) -> None:
    memory[100 * PAGE_BYTES : 110 * PAGE_BYTES] = 1
    start = memory.ctypes.data
    with Pagemap(os.getpid()) as own:
        rows = own.regions(start, start + NR * PAGE_BYTES)
    pages = [
        page
        for low, high, _ in ((rows - np.uint64(start)) // np.uint64(PAGE_BYTES)).tolist()
        for page in range(low, high)
    ]
    assert pages == sorted({*range(0, NR, 3), *range(100, 110)})


def test_more_ranges_than_one_call_returns(memory: Bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan goes on where the vector was full."""
    monkeypatch.setattr(pagemap, "_REGIONS", 7)
    start = memory.ctypes.data
    with Pagemap(os.getpid()) as own:
        rows = own.regions(start, start + NR * PAGE_BYTES)
    assert rows[:, 0].tolist() == [start + page * PAGE_BYTES for page in range(0, NR, 3)]


def test_one_process_has_every_present_page_once(memory: Bytes) -> None:
    columns = pagemap.read_present(os.getpid())
    assert not isinstance(columns, Unread)
    addresses, words = columns
    assert (np.diff(addresses.astype(np.int64)) > 0).all()
    assert (words >= np.uint64(PM_PRESENT)).all()
    start = memory.ctypes.data
    here = addresses[(addresses >= start) & (addresses < start + NR * PAGE_BYTES)]
    assert here.tolist() == [start + page * PAGE_BYTES for page in range(0, NR, 3)]


def test_a_kernel_without_the_scan_is_read_by_its_vmas(memory: Bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.7 the ioctl is not there: the same pages, read the long way."""

    def enotty(*_: object) -> None:
        raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))

    start = memory.ctypes.data
    window = [start + page * PAGE_BYTES for page in range(0, NR, 3)]
    monkeypatch.setattr(fcntl, "ioctl", enotty)
    monkeypatch.setattr(pagemap, "_end_of_user_addresses", lambda: 1 << 47)
    columns = pagemap.read_present(os.getpid())
    assert not isinstance(columns, Unread)
    assert [at for at in columns[0].tolist() if start <= at < start + NR * PAGE_BYTES] == window


@pytest.mark.usefixtures("pfns", "memory")
def test_find_and_join_agree(memory: Bytes) -> None:
    """For every page of the window: one entry, ours; the join has each PFN once, ascending."""
    join = pagemap.join([os.getpid()])
    assert (np.diff(join.pfns.astype(np.int64)) > 0).all()
    assert join.counts().sum() == len(join.pids) == len(join.addresses) == join.starts[-1]
    with Pagemap(os.getpid()) as own:
        for page in range(0, NR, 30):
            address = memory.ctypes.data + page * PAGE_BYTES
            pfn = (own.entry(address) or 0) & pagemap.PM_PFN
            assert pagemap.find(pfn, [os.getpid()])[0] == join.mappers(pfn) == [(os.getpid(), address)]


@pytest.mark.usefixtures("pfns")
def test_the_word_of_a_pfn_stays_in_its_place(memory: Bytes) -> None:
    """Asked about PFNs far apart, in any order, and beyond the end of memory."""
    columns = pagemap.read_present(os.getpid())
    assert not isinstance(columns, Unread)
    pfns = columns[1] & np.uint64(pagemap.PM_PFN)
    mixed = np.concatenate([[np.uint64(1 << 60), np.uint64(pagemap.LAST_PFN)], pfns[::-1], pfns])
    words = pagemap.read_per_pfn("kpagecount", mixed, beyond=77)
    assert not isinstance(words, Unread)
    assert words[:2].tolist() == [77, 77]
    assert (words[2 : 2 + len(pfns)][::-1] == words[2 + len(pfns) :]).mean() > 0.9  # others map and unmap libraries
    own = np.isin(columns[0], memory.ctypes.data + np.arange(0, NR, 3) * PAGE_BYTES)
    assert (words[2 + len(pfns) :][own] == 1).all()


def test_nothing_to_join() -> None:
    join = pagemap.join([])
    assert (join.pfns.tolist(), join.starts.tolist(), join.mappers(1), join.counts().tolist()) == ([], [0], [], [])


def test_a_kernel_that_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pagemap at all: PFNs cannot be seen, a process is unread, and no word is made up."""

    def refuse(name: str) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), f"/proc/{name}")

    monkeypatch.setattr(procfs, "open_proc", refuse)
    assert not pagemap.can_see_pfns()
    assert pagemap.join([os.getpid()]).unread == {os.getpid(): Unread.REFUSED}
    assert pagemap.read_per_pfn("kpagecount", [1]) is Unread.REFUSED


@pytest.mark.usefixtures("pfns")
@pytest.mark.parametrize("lies", [False, True])
def test_a_kernel_that_calls_every_anonymous_page_ksm_is_seen_through(
    monkeypatch: pytest.MonkeyPatch, *, lies: bool
) -> None:
    """Linux 6.12: KSM is then no news; where it is told truly, it stays."""
    really = pagemap._gather

    def gather(fd: int, wanted: U64, beyond: int) -> U64:
        words = really(fd, wanted, beyond)
        anonymous = lies and Path(f"/proc/self/fd/{fd}").readlink().name == "kpageflags"
        return (
            words | np.where(words & np.uint64(kpageflags.ANON) != 0, np.uint64(kpageflags.KSM), 0)
            if anonymous
            else words
        )

    monkeypatch.setattr(pagemap, "_gather", gather)
    pagemap.all_anonymous_are_called_ksm.cache_clear()
    page = np.ones(1, np.uint64)
    with Pagemap(os.getpid()) as own:
        entry = own.entry(page.ctypes.data)
    assert entry is not None
    assert pagemap.all_anonymous_are_called_ksm() is lies
    words = pagemap.read_per_pfn("kpageflags", [entry & PM_PFN])
    monkeypatch.undo()
    pagemap.all_anonymous_are_called_ksm.cache_clear()
    assert not isinstance(words, procfs.Unread)
    assert kpageflags.kind_of(int(words[0])) == "anon"
