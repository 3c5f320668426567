"""remap_file_pages: pages of a file in any order, in one VMA up to 3.19, in many since 4.0.

file     0 1 2 3 4 5 ...
window   |5|2|2| |7|          one VMA, VM_NONLINEAR, entries for any page          2.6
         |5|2|2|4|7|          a VMA for each stretch                                6.18
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, OomKilled, SyscallError
from rmaplab.machine.entries import EntryKind
from rmaplab.machine.locks import Point
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import (
    IPC_PRIVATE,
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_NONBLOCK,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_NONLINEAR,
)
from rmaplab.rmap.queries import referenced, unmap
from rmaplab.units import PAGE_SIZE

RW = PROT_READ | PROT_WRITE
ENTRIES = [
    "2.6.2",
    "2.6.5-rc1+00100",
    "2.6.5-rc1+anonmm",
    "2.6.5-rc1+00100+anonmm",
    "2.6.5-rc1-aa1",
    "2.6.5-rc2-aa2",
    "2.6.5-rc3-aa3",
    "2.6.7",
]
KERNELS = [*ENTRIES, "6.18"]
PAGES = 40


class Window:
    """A task, a file of 40 pages, each of its number's byte, and a shared mapping of its first ones."""

    def __init__(
        self, kernel: str, nr: int = 16, *, on_disk: bool = True, prot: int = RW, paging: str | None = None
    ) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", paging=paging, disk_seek_us=0, disk_rpm=0, disk_kib_per_s=0)
        self.task = self.system.spawn()
        data = b"".join(bytes([page + 1]) * PAGE_SIZE for page in range(PAGES))
        self.file = self.system.new_file(data, on_disk=on_disk)
        self.fd = self.task.open(self.file, writable=True)
        self.nr = nr
        self.at = self.task.mmap(nr * PAGE_SIZE, prot, MAP_SHARED, file=self.fd)

    def address(self, place: int) -> int:
        """Of a page of the window."""
        return self.at + place * PAGE_SIZE

    def remap(self, place: int, nr: int, pgoff: int, flags: int = 0) -> None:
        """Places show pages from `pgoff` on."""
        self.task.remap_file_pages(self.address(place), nr * PAGE_SIZE, 0, pgoff, flags)

    def shows(self, task: rmaplab.Task | None = None) -> list[int]:
        """Which page each place shows, read through it."""
        return [(task or self.task).read(self.address(place))[0] - 1 for place in range(self.nr)]

    def kinds(self, task: rmaplab.Task | None = None) -> str:
        """Of its entries: nothing, a page, a file entry."""
        mm, encoding = (task or self.task).mm, self.system.machine.encoding
        assert mm is not None
        pgd = (*self.system.machine.geometry, mm.pgd)
        found = [encoding.kind(int(lookup(*pgd, self.address(place))[0])) for place in range(self.nr)]
        return "".join({EntryKind.NONE: ".", EntryKind.PAGE: "p", EntryKind.FILE: "f"}[kind] for kind in found)

    @property
    def vmas(self) -> list[rmaplab.objects.mm_types.VmArea]:
        """Of the window."""
        assert self.task.mm is not None
        return self.task.mm.overlapping(self.at, self.address(self.nr))


def refused(name: str, window: Window, address: int, length: int, prot: int = 0, pgoff: int = 0) -> None:
    """The call fails with that errno, and nothing has changed."""
    before = window.kinds()
    with pytest.raises(SyscallError) as failure:
        window.task.remap_file_pages(address, length, prot, pgoff)
    assert (failure.value.name, window.kinds()) == (name, before)
    window.system.check()


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_place_shows_the_page_that_it_was_given_last(kernel: str, on_disk: bool) -> None:
    """At random, with reads, writes and a fork between; bytes go to the file's pages, whoever shows them."""
    choose, window = Random(1), Window(kernel, on_disk=on_disk)
    shown = list(range(window.nr))
    for step in range(60):
        place = choose.randrange(window.nr)
        nr, pgoff = choose.randrange(1, window.nr - place + 1), choose.randrange(PAGES - window.nr)
        window.remap(place, nr, pgoff)
        shown[place : place + nr] = range(pgoff, pgoff + nr)
        window.system.check()
        assert window.shows() == shown
        if step % 10 == 0:
            child = window.task.fork()
            assert window.shows(child) == shown
            window.system.check()
            child.exit()
    window.task.write(window.address(3), b"\xee")
    assert window.task.pread(window.fd, 1, shown[3] * PAGE_SIZE) == b"\xee"
    one = len(window.vmas) == 1 and bool(window.vmas[0].flags & VM_NONLINEAR)
    assert one == (kernel in ENTRIES)
    window.remap(0, window.nr, 0)
    assert len(window.vmas) == 1  # today they merge again
    assert bool(window.vmas[0].flags & VM_NONLINEAR) == (kernel in ENTRIES)  # it is never cleared
    window.task.munmap(window.at, window.nr * PAGE_SIZE)
    window.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_refused(kernel: str) -> None:
    """files.md B6: a protection, nothing, a hole, what is not shared, a range that wraps."""
    window = Window(kernel)
    refused("EINVAL", window, window.at, PAGE_SIZE, PROT_READ)
    refused("EINVAL", window, window.at, PAGE_SIZE - 1)
    refused("EINVAL", window, window.address(15), 2 * PAGE_SIZE)
    refused("EINVAL", window, window.address(16), PAGE_SIZE)
    wraps = window.system.machine.paging.wraps_at
    refused("EINVAL", window, window.at, wraps - PAGE_SIZE)
    refused("EINVAL", window, window.at, PAGE_SIZE, 0, wraps - 1)
    private = window.task.mmap(PAGE_SIZE, RW, MAP_PRIVATE, file=window.fd)
    refused("EINVAL", window, private, PAGE_SIZE)
    reader = window.task.open(window.file)
    refused("EINVAL", window, window.task.mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, file=reader), PAGE_SIZE)
    refused("EINVAL", window, window.task.mmap(PAGE_SIZE), PAGE_SIZE)
    window.task.remap_file_pages(window.at + 5, 2 * PAGE_SIZE - 6, 0, 9)  # address and length are rounded down
    assert window.shows()[:2] == [9, 1]
    window.system.check()


def test_2_4_does_not_know_it() -> None:
    """files.md B6."""
    refused("ENOSYS", Window("2.4.21"), 0, PAGE_SIZE)


@pytest.mark.parametrize("kernel", ENTRIES)
def test_in_2004_the_file_must_reach_so_far_and_one_vma_cover_all_to_the_byte(kernel: str) -> None:
    """files.md B6: the size is tested; the VMA's end against the end that was not rounded."""
    window = Window(kernel)
    refused("EINVAL", window, window.at, 2 * PAGE_SIZE, 0, PAGES - 1)
    refused("EINVAL", window, window.address(15), PAGE_SIZE + 1)
    window.task.mprotect(window.address(8), PAGE_SIZE, PROT_READ)
    refused("EINVAL", window, window.address(7), 2 * PAGE_SIZE)


def test_today_it_is_mmap() -> None:
    """files.md G11: over VMAs of the same file and flags; beyond the end it succeeds, and a touch is SIGBUS."""
    window = Window("6.18")
    window.remap(4, 1, 20)
    assert len(window.vmas) == 3
    window.remap(3, 4, 3)
    assert len(window.vmas) == 1
    window.task.mprotect(window.address(8), PAGE_SIZE, PROT_READ)
    refused("EINVAL", window, window.address(7), 2 * PAGE_SIZE)
    window.remap(0, 2, PAGES - 1)
    assert window.task.read(window.at)[0] == PAGES
    with pytest.raises(BusError):
        window.task.read(window.address(1))
    window.system.check()


@pytest.mark.parametrize(("kernel", "shown"), [("2.6.2", 4), ("2.6.5-rc1-aa1", 4), ("2.6.7", 20)])
def test_dontneed_keeps_file_entries_since_2_6_7(kernel: str, shown: int) -> None:
    """Where a place is linear nothing is kept; elsewhere 2.6.7 has the page come back that was there, and its bytes with it."""
    window = Window(kernel)
    window.remap(4, 2, 20)
    window.task.write(window.address(4) + 1, b"x")
    window.task.madvise(window.at, 16 * PAGE_SIZE, MADV_DONTNEED)
    window.system.check()
    assert window.task.read(window.address(4), 2) == bytes([shown + 1]) + (b"x" if shown == 20 else bytes([shown + 1]))
    assert window.task.read(window.address(9))[0] == 10
    window.system.check()


def test_today_an_object_without_a_name_outlives_its_last_vma() -> None:
    """What is mapped anew over all of it is the same object."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(4 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
    task.write(at + PAGE_SIZE, b"second")
    task.remap_file_pages(at, 3 * PAGE_SIZE, 0, 1)
    task.munmap(at + 3 * PAGE_SIZE, PAGE_SIZE)
    task.remap_file_pages(at, 3 * PAGE_SIZE, 0, 0)
    system.check()
    assert task.read(at + PAGE_SIZE, 6) == b"second"


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_file_that_only_the_window_has_stays(kernel: str) -> None:
    """Shared memory without a file goes with its last mapping: not while all of that is placed anew."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    at = task.mmap(2 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
    task.write(at + PAGE_SIZE, b"x")
    task.remap_file_pages(at, PAGE_SIZE, 0, 1)
    task.munmap(at + PAGE_SIZE, PAGE_SIZE)
    task.remap_file_pages(at, PAGE_SIZE, 0, 1)
    system.check()
    assert task.read(at) == b"x"
    task.munmap(at, PAGE_SIZE)
    system.check()


@pytest.mark.parametrize("kernel", ENTRIES)
@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
def test_with_nonblock_a_page_that_is_not_there_leaves_a_file_entry(kernel: str, paging: str) -> None:
    """files.md B6, C4: none where the place is linear; a touch brings the page; fork copies such entries, and swap is not asked."""
    window = Window(kernel, paging=paging)
    window.task.pread(window.fd, 1, 21 * PAGE_SIZE)
    cached = [page in window.file.pages for page in range(20, 24)]
    window.remap(0, 4, 20, MAP_NONBLOCK)
    assert window.kinds()[:4] == "".join("p" if there else "f" for there in cached)
    assert "f" in window.kinds()
    window.remap(8, 4, 8, MAP_NONBLOCK)
    assert window.kinds()[8:12] == "".join("p" if page in window.file.pages else "." for page in range(8, 12))
    window.system.check()
    child = window.task.fork()
    assert window.kinds(child) == window.kinds()
    window.system.check()
    assert window.shows(child)[:4] == [20, 21, 22, 23]
    window.system.check()
    assert "f" in window.kinds()
    window.task.munmap(window.at, PAGE_SIZE * window.nr)
    window.system.check()
    child.exit()
    window.system.check()


# -- whose memory it may be, and what other calls make of such places ------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_who_has_populate(kernel: str) -> None:
    """files.md B6: files, and shared anonymous memory; SysV segments since 4.0."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    shared = task.mmap(8 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
    segment = task.shmat(task.shmget(IPC_PRIVATE, 8 * PAGE_SIZE, 0o600))
    for at in (shared, segment):
        for page in range(8):
            task.write(at + page * PAGE_SIZE, bytes([page]))
    task.remap_file_pages(shared, PAGE_SIZE, 0, 7)
    assert task.read(shared) == b"\x07"
    if kernel in ENTRIES:
        with pytest.raises(SyscallError) as failure:
            task.remap_file_pages(segment, PAGE_SIZE, 0, 7)
        assert failure.value.name == "EINVAL"
    else:
        task.remap_file_pages(segment, PAGE_SIZE, 0, 7)
        assert task.read(segment) == b"\x07"
    system.check()
    for at in (shared, segment):
        task.munmap(at, 8 * PAGE_SIZE)
    system.check()


@pytest.mark.parametrize("kernel", ENTRIES)
def test_file_entries_under_other_calls(kernel: str) -> None:
    """Mprotect leaves them, mremap takes them along, mlock brings them back, mincore and msync pass them; MADV_DONTNEED makes the place linear, up to 2.6.6."""
    window = Window(kernel)
    kept = window.system.kernel.rules.dontneed_keeps_nonlinear
    window.remap(0, 8, 30, MAP_NONBLOCK)
    assert window.kinds()[:8] == "ffffffff"
    window.task.mprotect(window.at, 16 * PAGE_SIZE, PROT_NONE)
    window.task.mprotect(window.at, 16 * PAGE_SIZE, RW)
    assert window.kinds()[:8] == "ffffffff"
    window.system.check()
    window.task.msync(window.at, 16 * PAGE_SIZE)
    assert len(window.task.mincore(window.at, 16 * PAGE_SIZE)) == 16
    window.at = window.task.mremap(
        window.at, 16 * PAGE_SIZE, 16 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, 0x5000_0000
    )
    assert window.kinds()[:8] == "ffffffff"
    window.system.check()
    window.task.madvise(window.at, 2 * PAGE_SIZE, MADV_DONTNEED)
    assert window.kinds()[:8] == ("ffffffff" if kept else "..ffffff")
    window.task.cap_ipc_lock(granted=True)
    window.task.mlock(window.at, 16 * PAGE_SIZE)
    assert window.kinds() == "p" * 16
    assert window.shows() == [*((30, 31) if kept else (0, 1)), *range(32, 38), *range(8, 16)]
    window.system.check()


@pytest.mark.parametrize("kernel", ENTRIES)
def test_at_random_with_reclaim(kernel: str) -> None:
    """Remapped, written, forked, moved, cut and taken by reclaim at random: every place shows the page it was given, to the byte."""
    choose, window = Random(3), Window(kernel, on_disk=False)
    bytes_of = {page: page + 1 for page in range(PAGES)}
    shown = {window.task: {place: place for place in range(window.nr)}}
    rmap, frames = window.system.kernel.rmap, window.system.machine.frames
    for _ in range(250):
        task = choose.choice(list(shown))
        places, verb = (
            shown[task],
            choose.choice(("remap", "remap", "write", "reclaim", "reclaim", "fork", "cut", "exit")),
        )
        place = choose.choice(list(places))
        if verb == "remap":
            page = choose.randrange(PAGES)
            try:
                task.remap_file_pages(window.address(place), PAGE_SIZE, 0, page)
                places[place] = page
            except SyscallError:  # 2.6.7: a cursor
                assert window.system.kernel.rules.remap_minds_cursor
        elif verb == "write":
            bytes_of[places[place]] = choose.randrange(256)
            task.write(window.address(place), bytes([bytes_of[places[place]]]))
        elif verb == "reclaim" and (pfn := window.file.pages.find(choose.randrange(PAGES))) >= 0:
            referenced(rmap, np.array([pfn]))
            frames.count[pfn] += 1
            unmap(rmap, np.array([pfn]), np.zeros(1, np.int64))
            frames.count[pfn] -= 1
        elif verb == "fork" and len(shown) < 4:
            shown[task.fork()] = dict(places)
        elif verb == "cut" and len(places) > 4:
            task.munmap(window.address(place), PAGE_SIZE)
            del places[place]
        elif verb == "exit" and len(shown) > 1:
            task.exit()
            del shown[task]
        window.system.check()
    for task, places in shown.items():
        assert {place: task.read(window.address(place))[0] for place in places} == {
            place: bytes_of[page] for place, page in places.items()
        }
    window.system.check()


# -- when memory ends ----------------------------------------------------------------------------------------------------


def _live(window: Window) -> list[int]:
    """Far places first, so that tables are missing; over pages that are mapped; a fault of a file entry; a fork. What the window shows then."""
    window.task.pread(window.fd, 1, 30 * PAGE_SIZE)
    window.task.touch(window.at, 4 * PAGE_SIZE)
    other = window.task.mmap(window.nr * PAGE_SIZE, RW, MAP_SHARED, file=window.fd)
    window.task.touch(other, window.nr * PAGE_SIZE)
    for place, nr, pgoff, flags in ((2, 6, 20, 0), (0, 4, 10, 0), (8, 8, 28, MAP_NONBLOCK), (12, 2, 12, 0)):
        window.remap(place, nr, pgoff, flags)
    child = window.task.fork()
    shown = window.shows(child)
    child.exit()
    return shown


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_nth_allocation_fails(kernel: str, on_disk: bool) -> None:
    """Whichever it is: a call that fails says ENOMEM, what precedes the page that could not be had is done, and all adds up; the conversion of 00100 too."""
    whole = _live(Window(kernel, on_disk=on_disk))
    failures = 0
    for nth in range(400):
        window = Window(kernel, on_disk=on_disk)
        allocator = window.system.machine.allocator
        allocator.fail_after = nth
        try:
            shown = _live(window)
        except (SyscallError, OomKilled) as failure:
            assert isinstance(failure, OomKilled) or failure.name == "ENOMEM"
            failures += 1
        else:
            assert shown == whole  # where nothing but readahead was refused
        is_over = allocator.fail_after is not None
        allocator.fail_after = None
        window.system.check()
        if window.task.mm is not None:
            if kernel in ENTRIES:  # a MAP_FIXED that gets no VMA may leave a hole
                assert all(0 <= page < PAGES for page in window.shows())
            window.system.check()
            window.task.exit()
        window.system.check()
        if is_over:
            break
    else:
        pytest.fail("it never ends")
    assert failures > 5


@pytest.mark.parametrize("kernel", KERNELS)
def test_somebody_unmaps_and_maps_meanwhile(kernel: str) -> None:
    """At every sleep and before some locks somebody else touches, remaps or truncates what the window shows: it is looked at again."""
    choose, window = Random(5), Window(kernel, on_disk=False)
    child = window.task.fork()
    assert child.mm is not None

    def act(_: Point) -> None:
        if choose.random() < 0.6 or child.mm is None or child.mm.mmap_sem.busy(write=True):
            return
        if choose.random() < 0.5:
            child.touch(window.address(choose.randrange(window.nr)), PAGE_SIZE)
        else:
            child.remap_file_pages(window.address(choose.randrange(window.nr)), PAGE_SIZE, 0, choose.randrange(PAGES))

    for _ in range(40):
        place = choose.randrange(window.nr)
        nr, pgoff = choose.randrange(1, window.nr - place + 1), choose.randrange(PAGES - window.nr)
        window.system.watch(act)
        window.remap(place, nr, pgoff)
        window.system.watch(None)
        assert window.shows()[place : place + nr] == list(range(pgoff, pgoff + nr))
        window.system.check()


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1", "2.6.7"])
@pytest.mark.parametrize(("paging", "first"), [("i386", 1 << 29), ("i386-pae", (1 << 32) - 1), ("x86-64", 1 << 52)])
def test_what_no_entry_can_name_is_refused_first(kernel: str, paging: str, first: int) -> None:
    """B6: an offset beyond a file entry's bits, or below 0, is EINVAL before the VMA becomes nonlinear."""
    system = rmaplab.boot(kernel, paging=paging, ram="64M")
    task = system.spawn()
    fd = task.open(system.new_file(size=1 << 30, on_disk=False), writable=True)
    at = task.mmap(4 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
    for pgoff in (first, -1):
        with pytest.raises(SyscallError) as refused:
            task.remap_file_pages(at, PAGE_SIZE, 0, pgoff, MAP_NONBLOCK)
        assert refused.value.name == "EINVAL"
    assert task.mm is not None
    vma = task.mm.find_vma(at)
    assert vma is not None
    assert not vma.flags & VM_NONLINEAR
    system.check()
