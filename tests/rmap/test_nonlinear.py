"""Who finds pages that remap_file_pages has put anywhere, era by era: by its chain, nobody, or whoever reads all of a nonlinear VMA.

place    0   1   2   3 ...          a file of 512 pages, its last ones shown in reverse order, by two tasks
page    511 510 509 508 ...
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import Oops, SyscallError
from rmaplab.machine.entries import EntryKind
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MAP_SHARED, PROT_READ, PROT_WRITE, VM_NONLINEAR
from rmaplab.objects.mm_types import VmArea
from rmaplab.reclaim.page_out import page_out
from rmaplab.rmap.brute_force import mappings_of
from rmaplab.rmap.nonlinear import CLUSTER
from rmaplab.rmap.queries import Outcome, find, referenced, unmap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

RW = PROT_READ | PROT_WRITE
PAGES = 512
LOST = "2.6.5-rc1-aa1"
CHAINS = ("2.6.2", "2.6.5-rc1+00100")
WALKS = ("2.6.5-rc2-aa2", "2.6.5-rc3-aa3", "2.6.7")


class Reversed:
    """Two tasks with a window on the last pages of a file, in reverse order."""

    def __init__(self, kernel: str, nr: int = 96, paging: str | None = None) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", paging=paging)
        self.nr = nr
        self.file = self.system.new_file(size=PAGES * PAGE_SIZE, on_disk=False)
        self.first = self.system.spawn()
        self.fd = self.first.open(self.file, writable=True)
        self.at = self.first.mmap(nr * PAGE_SIZE, RW, MAP_SHARED, file=self.fd)
        for place in range(nr):
            self.first.remap_file_pages(self.address(place), PAGE_SIZE, 0, PAGES - 1 - place)
        self.second = self.first.fork()
        self.tasks = (self.first, self.second)
        self.touch()

    def address(self, place: int) -> int:
        """Of a place."""
        return self.at + place * PAGE_SIZE

    def touch(self) -> None:
        """Both read all places."""
        for task in self.tasks:
            task.touch(self.at, self.nr * PAGE_SIZE)

    def entry(self, task: rmaplab.Task, place: int) -> int:
        """What is there."""
        assert task.mm is not None
        return int(lookup(*self.system.machine.geometry, task.mm.pgd, self.address(place))[0])

    def kinds(self, task: rmaplab.Task) -> list[EntryKind]:
        """Of all places."""
        return [self.system.machine.encoding.kind(self.entry(task, place)) for place in range(self.nr)]

    def pages(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The frames at the places of the first task that have one."""
        entries = (self.entry(self.first, place) for place in range(self.nr))
        return np.array([entry >> PAGE_SHIFT for entry in entries if entry & 1], np.int64)

    def vma(self, task: rmaplab.Task) -> VmArea:
        """Its window."""
        assert task.mm is not None
        vma = task.mm.find_vma(self.at)
        assert vma is not None
        return vma

    def age(self) -> None:
        """All entries are old."""
        for task in self.tasks:
            for place in range(self.nr):
                assert task.mm is not None
                entry, pte = lookup(*self.system.machine.geometry, task.mm.pgd, self.address(place))
                if entry & 1:
                    self.system.machine.set_entry(pte, int(entry) & ~0x20)

    def unmap(self, pfn: int) -> Outcome:
        """try_to_unmap, by who has isolated the page."""
        frames = self.system.machine.frames
        frames.count[pfn] += 1
        done = unmap(self.system.kernel.rmap, np.array([pfn]), np.zeros(1, np.int64))
        frames.count[pfn] -= 1
        self.system.check()
        return Outcome(int(done.outcome[0]))


@pytest.mark.parametrize("paging", ["i386", "i386-pae", "x86-64"])
@pytest.mark.parametrize("kernel", [*CHAINS, *WALKS])
def test_all_are_found_and_none_missed(kernel: str, paging: str) -> None:
    """find() and who_maps() answer what page tables say, for every page; nothing is declared."""
    window = Reversed(kernel, paging=paging)
    rmap, mms = window.system.kernel.rmap, list(window.system.kernel.mms.values())
    assert rmap.declared_unfindable() == set()
    for pfn in window.pages()[::7].tolist():
        real = {(m.mm.pid, m.address) for m in mappings_of(window.system.machine, mms, pfn)}
        found = find(rmap, np.array([pfn]))
        places = {(vma.mm.pid, at) for vma, at in zip(found.vma, found.address.tolist(), strict=True) if vma}
        assert len(real) == 2
        assert places == real
        assert {(m.mm.pid, m.address) for m in window.system.who_maps(window.first, window.at)} >= set()
    window.system.check()


def test_aa1_finds_none_and_declares_exactly_these() -> None:
    """history.md 1.5.9: pages at linear places of the same VMA are found, and so is everything elsewhere; the others stay, whatever asks."""
    window = Reversed(LOST)
    rmap = window.system.kernel.rmap
    window.first.remap_file_pages(window.address(5), PAGE_SIZE, 0, 5)  # at its linear place again
    linear = window.entry(window.first, 5) >> PAGE_SHIFT
    assert rmap.declared_unfindable() == set(window.pages().tolist()) - {linear} | {
        window.entry(window.second, 5) >> PAGE_SHIFT
    }
    assert len(list(rmap.walk(linear))) == 1
    lost = window.entry(window.first, 0) >> PAGE_SHIFT
    assert list(rmap.walk(lost)) == []
    window.age()
    assert window.unmap(lost) is Outcome.AGAIN
    assert [referenced(rmap, np.array([lost])).nr.tolist() for _ in range(2)] == [[1], [0]]  # PG_referenced, once
    assert window.unmap(linear) is Outcome.SUCCESS
    assert window.kinds(window.first).count(EntryKind.PAGE) == window.nr - 1
    for task in window.tasks:
        task.munmap(window.at, window.nr * PAGE_SIZE)
    assert rmap.declared_unfindable() == set()
    window.system.check()


@pytest.mark.parametrize("kernel", CHAINS)
def test_chains_take_one_page_and_leave_file_entries(kernel: str) -> None:
    """2.6.2 mm/rmap.c, try_to_unmap_one: each entry of that page and no other; a touch brings it back."""
    window = Reversed(kernel)
    before = window.pages()
    assert window.unmap(int(before[10])) is Outcome.SUCCESS
    for task in window.tasks:
        kinds = window.kinds(task)
        assert kinds[10] is EntryKind.FILE
        assert kinds.count(EntryKind.PAGE) == window.nr - 1
        assert window.system.machine.encoding.file_pgoff(window.entry(task, 10)) == PAGES - 1 - 10
    window.touch()
    assert np.array_equal(window.pages(), before)
    window.system.check()


def test_00100_converts_a_page_when_it_goes_elsewhere_and_for_good() -> None:
    """files.md I: PG_anon while it is in the cache; its entries at linear places come along, and later ones are on its chain too."""
    system = rmaplab.boot("2.6.5-rc1+00100", ram="64M")
    task = system.spawn()
    fd = task.open(system.new_file(size=64 * PAGE_SIZE, on_disk=False), writable=True)
    windows = [task.mmap(8 * PAGE_SIZE, RW, MAP_SHARED, file=fd) for _ in range(20)]
    for at in windows:
        task.touch(at, 8 * PAGE_SIZE)
    assert task.mm is not None
    pfn = int(lookup(*system.machine.geometry, task.mm.pgd, windows[0])[0]) >> PAGE_SHIFT
    assert not system.machine.frames.flags[pfn] & PG_ANON
    task.remap_file_pages(windows[0] + 4 * PAGE_SIZE, PAGE_SIZE, 0, 0)
    assert system.machine.frames.flags[pfn] & PG_ANON
    assert len(system.who_maps(task, windows[0])) == 21
    system.check()
    blocks = system.machine.caches["pte_chain"].nr_objects
    assert blocks == -(-21 // 15)
    for at in windows:
        task.munmap(at, 8 * PAGE_SIZE)
    system.check()
    assert system.machine.frames.flags[pfn] & PG_ANON
    last = task.mmap(8 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
    task.touch(last, 8 * PAGE_SIZE)
    assert len(system.who_maps(task, last)) == 1
    task.fork()
    assert len(system.who_maps(task, last)) == 2
    system.check()
    task.ftruncate(fd, 0)
    assert not system.machine.frames.flags[pfn] & PG_ANON


@pytest.mark.parametrize("kernel", ["2.6.5-rc2-aa2"])
def test_later_aa_takes_all_that_is_old_of_each_vma(kernel: str) -> None:
    """history.md 1.5.10: whatever page it is of; what is young is made old and stays; page_referenced passes over them."""
    window = Reversed(kernel)
    page = int(window.pages()[0])
    rmap = window.system.kernel.rmap
    assert [referenced(rmap, np.array([page])).nr.tolist() for _ in range(2)] == [[1], [0]]  # PG_referenced, once
    assert window.unmap(page) is Outcome.AGAIN
    for task in window.tasks:
        assert set(window.kinds(task)) == {EntryKind.PAGE}  # all were young
    window.second.touch(window.address(3), PAGE_SIZE)
    assert window.unmap(page) is Outcome.SUCCESS
    assert set(window.kinds(window.first)) == {EntryKind.FILE}
    kinds = window.kinds(window.second)
    assert kinds[3] is EntryKind.PAGE
    assert kinds.count(EntryKind.FILE) == window.nr - 1
    window.touch()
    window.system.check()
    window.first.cap_ipc_lock(granted=True)
    window.first.mlock(window.at, PAGE_SIZE * window.nr)
    window.age()
    assert window.unmap(int(window.pages()[0])) is Outcome.FAIL


def test_2_6_7_takes_clusters_in_turn_and_remembers_where() -> None:
    """files.md E2: 32 pages from each, then the next 32, until as many went as the page has entries; then remap_file_pages says EINVAL."""
    window = Reversed("2.6.7")
    last = int(window.pages()[-1])  # in the third cluster
    window.age()
    assert window.unmap(last) is Outcome.AGAIN
    assert [window.vma(task).cursor for task in window.tasks] == [CLUSTER, 0]
    assert window.kinds(window.first).count(EntryKind.FILE) == 32
    assert window.kinds(window.second).count(EntryKind.FILE) == 0
    with pytest.raises(SyscallError) as failure:
        window.first.remap_file_pages(window.at, PAGE_SIZE, 0, 0)
    assert failure.value.name == "EINVAL"
    window.second.remap_file_pages(window.at, PAGE_SIZE, 0, PAGES - 1)
    window.age()
    outcomes = [window.unmap(last) for _ in range(6)]
    assert Outcome.SUCCESS in outcomes
    assert window.unmap(last) is Outcome.SUCCESS
    window.system.check()


def test_2_6_7_spares_what_is_young_and_begins_again() -> None:
    """A round in which nothing goes ends with all cursors at 0; what was young is old then."""
    window = Reversed("2.6.7")
    page = int(window.pages()[0])
    assert window.unmap(page) is Outcome.AGAIN
    assert [window.vma(task).cursor for task in window.tasks] == [0, 0]
    assert set(window.kinds(window.first)) == {EntryKind.PAGE}
    window.first.remap_file_pages(window.address(90), PAGE_SIZE, 0, 0)  # the cursor is 0: it may
    window.system.check()


@pytest.mark.parametrize(("kernel", "apart"), [("2.6.7", True), ("2.6.5-rc3-aa3", False), ("2.6.2", False)])
def test_where_nonlinear_vmas_are_kept(kernel: str, apart: bool) -> None:
    """files.md A7: off the index in 2.6.7, for good; a fork's child right behind its parent; a split's part, and what moves, too."""
    window = Reversed(kernel, 16)
    index = window.file.i_mmap
    assert [vma.mm.pid for vma in index.apart] == ([1, 2] if apart else [])
    window.first.remap_file_pages(window.at, 16 * PAGE_SIZE, 0, 0)
    third = window.first.fork()
    assert [vma.mm.pid for vma in index.apart] == ([1, 3, 2] if apart else [])
    third.munmap(window.address(4), 4 * PAGE_SIZE)
    moved = third.mremap(window.address(8), 8 * PAGE_SIZE, 12 * PAGE_SIZE)
    window.system.check()
    assert third.mm is not None
    assert all(vma.flags & VM_NONLINEAR for vma in third.mm.vmas)
    assert len(index.apart) == (4 if apart else 0)
    assert third.read(moved) is not None
    window.system.check()
    for task in (third, window.second, window.first):
        task.exit()
    window.system.check()
    assert list(index) == []


# -- truncate ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [*CHAINS, LOST, *WALKS])
def test_what_truncate_leaves(kernel: str) -> None:
    """files.md D1: up to 2.6.5 pages at other places stay mapped and are nobody's; 2.6.7 leaves file entries, and after growing they are zeros."""
    window = Reversed(kernel)
    window.first.write(window.at, b"kept")
    window.first.ftruncate(window.fd, (PAGES - 32) * PAGE_SIZE)  # places 0 to 31 show what is cut off
    window.system.check()
    kinds = window.kinds(window.first)
    assert kinds[:32] == [EntryKind.FILE if kernel == "2.6.7" else EntryKind.PAGE] * 32
    assert kinds[32:] == [EntryKind.PAGE] * (window.nr - 32)
    window.first.ftruncate(window.fd, PAGES * PAGE_SIZE)
    assert window.first.read(window.at, 4) == (b"\0\0\0\0" if kernel == "2.6.7" else b"kept")
    assert window.first.pread(window.fd, 4, (PAGES - 1) * PAGE_SIZE) == bytes(4)
    window.system.check()
    if kernel in (*CHAINS, "2.6.7"):
        window.first.fork().exit()
        for task in window.tasks:
            task.munmap(window.at, window.nr * PAGE_SIZE)
        window.system.check()
        assert not window.system.kernel.rmap.unowned


@pytest.mark.parametrize("how", ["munmap", "dontneed", "remap", "exit", "fork", "referenced"])
@pytest.mark.parametrize("kernel", [LOST, "2.6.5-rc2-aa2"])
def test_who_meets_what_truncate_has_left(kernel: str, how: str) -> None:
    """files.md D1: BUG in aa1 wherever it is unmapped, copied or aged; later -aa warns where it is unmapped. What the task held it holds for ever."""
    window = Reversed(kernel)
    k, task = window.system.kernel, window.first
    task.ftruncate(window.fd, (PAGES - 32) * PAGE_SIZE)
    page = int(window.pages()[0])
    calls: dict[str, Callable[[], object]] = {
        "munmap": lambda: task.munmap(window.at, window.nr * PAGE_SIZE),
        "dontneed": lambda: task.madvise(window.at, window.nr * PAGE_SIZE, 4),
        "remap": lambda: task.remap_file_pages(window.at, window.nr * PAGE_SIZE, 0, 0),
        "exit": task.exit,
        "fork": task.fork,
        "referenced": lambda: referenced(k.rmap, np.array([page])),
    }
    if kernel != LOST and how not in ("fork", "referenced"):
        calls[how]()
        window.system.check()
        return
    mm = task.mm
    assert mm is not None
    with pytest.raises(Oops):
        calls[how]()
    window.system.check()
    if how == "referenced":
        return
    assert task.mm is None
    assert mm in k.mms.values()
    assert mm.page_table_lock.busy(write=True)
    window.system.spawn().mmap(PAGE_SIZE)  # others live on
    window.system.check()


def test_2_6_2_takes_it_for_anonymous() -> None:
    """files.md D1: shrink_list swaps out what names nobody; it comes back to where it was."""
    system = rmaplab.boot("2.6.2", ram="64M", swap="8M")
    task = system.spawn()
    fd = task.open(system.new_file(size=64 * PAGE_SIZE, on_disk=False), writable=True)
    at = task.mmap(4 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
    task.remap_file_pages(at, PAGE_SIZE, 0, 40)
    task.write(at, b"nobody's")
    task.ftruncate(fd, 8 * PAGE_SIZE)
    assert task.mm is not None
    pfn = int(lookup(*system.machine.geometry, task.mm.pgd, at)[0]) >> PAGE_SHIFT
    system.kernel.lru_add.drain_all()
    assert page_out(system.kernel, pfn)
    system.check()
    assert task.read(at, 8) == b"nobody's"
    system.check()
    task.exit()
    system.check()
