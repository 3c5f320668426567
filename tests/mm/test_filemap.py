"""The second guest: one page of a file is faulted in by two processes, each by itself; it is found; the file is cut, and it is gone.

    pid 1  [page ro]---+
                       +--> the page of the file: mapping, index, count 3 = two entries and the page cache
    pid 2  [page ro]---+

No calls for files yet: a mapping that nobody has touched is told what it shows. Every kernel, with its own reverse map.
"""

import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.conformance.thief import Thief
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import lookup
from rmaplab.mm.truncate import vmtruncate
from rmaplab.mm.vma import show_file
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE
from rmaplab.objects.mm_types import File, VmArea
from rmaplab.reclaim.page_out import page_out
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = (
    "2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "2.6.5-rc3-aa3", "2.6.7",
    "2.6.5-rc1+anon_vma_chain", "6.18",
)  # fmt: skip
everywhere = pytest.mark.parametrize(
    ("kernel", "paging"), [(kernel, paging) for kernel in KERNELS for paging in find_kernel(kernel).architectures]
)
kernels = pytest.mark.parametrize("kernel", KERNELS)
DATA = b"".join(b"page %d" % i + bytes(PAGE_SIZE - 6) for i in range(4))


class Shown:
    """Two tasks that map the same four pages, from different pages of the file on and at different addresses."""

    def __init__(self, kernel: str, paging: str | None = None) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", swap="1M", paging=paging)
        self.k = self.system.kernel
        self.file = self.k.page_cache.new_file(DATA)
        self.open = File(self.file)
        self.tasks = [self.system.spawn(), self.system.spawn()]
        self.free = self.system.machine.allocator.nr_unused
        self.first = [self.show(task, pgoff) for task, pgoff in zip(self.tasks, (0, 1), strict=True)]

    def show(self, task: rmaplab.Task, pgoff: int) -> int:
        """A mapping of the file from page `pgoff` on: where its page 0 would be."""
        at = task.mmap((4 - pgoff) * PAGE_SIZE, address=0x5000_0000 + (pgoff << 24))
        show_file(self.k, self.vma(task, at), self.open, pgoff)
        return at - pgoff * PAGE_SIZE

    def vma(self, task: rmaplab.Task, at: int) -> VmArea:
        assert task.mm is not None
        vma = task.mm.find_vma(at)
        assert vma is not None
        return vma

    def at(self, which: int, page: int) -> int:
        return self.first[which] + page * PAGE_SIZE

    def pfn(self, which: int, page: int) -> int:
        task = self.tasks[which]
        assert task.mm is not None
        return lookup(*self.system.machine.geometry, task.mm.pgd, self.at(which, page))[0] >> PAGE_SHIFT

    def found(self, page: int) -> set[tuple[int, int]]:
        return {(m.mm.pid, m.address) for m in self.system.who_maps(self.tasks[0], self.at(0, page))}


@everywhere
def test_faulted_by_two_found_truncated(kernel: str, paging: str) -> None:
    shown = Shown(kernel, paging)
    for task, first in zip(shown.tasks, shown.first, strict=True):
        assert task.read(first + 2 * PAGE_SIZE, 6) == b"page 2"
        shown.system.check()
    page = shown.pfn(0, 2)
    assert page == shown.pfn(1, 2) == shown.file.pages[2]
    frames = shown.system.machine.frames
    shown.k.lru_add.drain_all()  # a page that a fault has read alone waits there
    assert (frames.count[page], frames.mapcount[page]) == (3, 2)
    assert not frames.flags[page] & PG_ANON
    assert shown.found(2) == {(shown.tasks[0].pid, shown.at(0, 2)), (shown.tasks[1].pid, shown.at(1, 2))}

    vmtruncate(shown.k, shown.file, 2 * PAGE_SIZE)
    shown.system.check()
    assert frames.count[page] == 0
    assert not [index for index in shown.file.pages if index >= 2]
    for task, first in zip(shown.tasks, shown.first, strict=True):
        with pytest.raises(BusError, match="SIGBUS"):
            task.read(first + 2 * PAGE_SIZE, 1)
        assert task.read(first + PAGE_SIZE, 6) == b"page 1"
    shown.system.check()


@kernels
def test_a_write_to_a_private_mapping_is_a_copy(kernel: str) -> None:
    """Of a page that is there, and of one that is not: the file keeps its own; the copies are anonymous and go with the cut too."""
    shown = Shown(kernel)
    mine, other = shown.tasks
    mine.write(shown.at(0, 2), b"mine")
    mine.read(shown.at(0, 3), 1)
    mine.write(shown.at(0, 3), b"also")
    shown.system.check()
    assert (other.read(shown.at(1, 2), 6), other.read(shown.at(1, 3), 6)) == (b"page 2", b"page 3")
    assert (mine.read(shown.at(0, 2), 6), mine.read(shown.at(0, 3), 6)) == (b"mine 2", b"also 3")
    assert shown.found(2) == {(mine.pid, shown.at(0, 2))}
    shown.system.check()
    vmtruncate(shown.k, shown.file, 3 * PAGE_SIZE)
    assert mine.read(shown.at(0, 2), 6) == b"mine 2"
    with pytest.raises(BusError):
        mine.read(shown.at(0, 3), 1)
    shown.system.check()


@kernels
def test_forked_split_moved_and_unmapped(kernel: str) -> None:
    """Wherever its VMAs go, the file's list has them, and only them; at the end only the cache has pages."""
    shown = Shown(kernel)
    task = shown.tasks[0]
    task.read(shown.at(0, 0), 4 * PAGE_SIZE)
    child = task.fork()
    child.munmap(shown.at(0, 1), PAGE_SIZE)
    shown.system.check()
    to = shown.at(0, 0) + (1 << 25)
    child.mremap(shown.at(0, 2), PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to)
    shown.system.check()
    assert child.read(to, 6) == b"page 2"
    assert (child.pid, to) in shown.found(2)
    task.mprotect(shown.at(0, 1), PAGE_SIZE, 1)
    shown.system.check()
    assert all(vma.file is shown.open for vma in shown.file.i_mmap)
    for each in (child, *shown.tasks):
        each.exit()
    shown.system.check()
    assert list(shown.file.i_mmap) == []
    assert sorted(shown.file.pages) == [0, 1, 2, 3]
    vmtruncate(shown.k, shown.file, 0 * PAGE_SIZE)
    shown.k.lru_add.drain_all()
    shown.system.check()


@kernels
def test_neighbours_that_show_other_things_stay_two(kernel: str) -> None:
    """An anonymous mapping beside one of a file, with the same flags and the page offset that would fit."""
    shown = Shown(kernel)
    task, end = shown.tasks[0], shown.at(0, 4)
    assert task.mmap(PAGE_SIZE, address=end) == end
    assert task.mm is not None
    assert task.mm.map_count == 2
    task.write(end, b"anonymous")
    shown.system.check()


@kernels
def test_a_page_of_a_file_does_not_go_to_swap(kernel: str) -> None:
    shown = Shown(kernel)
    shown.tasks[0].read(shown.at(0, 0), 1)
    assert not page_out(shown.k, shown.pfn(0, 0))
    shown.system.check()


@kernels
def test_a_thief_beside_faults_on_files(kernel: str) -> None:
    """Copies go to swap while others wait for memory; what is in the cache stays."""
    shown = Shown(kernel)
    Thief(shown.system, 3)
    child = shown.tasks[0].fork()
    for page in range(4):
        child.write(shown.at(0, page), b"copy")
        assert shown.tasks[0].read(shown.at(0, page), 6) == b"page %d" % page
        if page:
            shown.tasks[1].write(shown.at(1, page) + 8, b"x")
        shown.system.check()
    assert all(child.read(shown.at(0, page), 6) == b"copy %d" % page for page in range(4))
    shown.system.check()


def test_check_sees_a_page_that_does_not_say_whose_it_is() -> None:
    shown = Shown("6.18")
    shown.tasks[0].read(shown.at(0, 1), 1)
    shown.system.machine.frames.index[shown.file.pages[1]] += 1
    with pytest.raises(KernelBug):
        shown.system.check()


def test_what_has_pages_shows_no_file() -> None:
    shown = Shown("6.18")
    at = shown.tasks[0].mmap(PAGE_SIZE)
    shown.tasks[0].write(at, b"x")
    with pytest.raises(KernelBug, match="has pages already"):
        show_file(shown.k, shown.vma(shown.tasks[0], at), shown.open, 0)


@everywhere
def test_every_private_write_is_a_copy_of_the_files_page(kernel: str, paging: str) -> None:
    """The second and later ones too, when the VMA has an anon_vma already; beyond the file's end there is nothing to copy."""
    shown = Shown(kernel, paging)
    task = shown.tasks[0]
    assert task.mm is not None
    vma = next(vma for vma in task.mm.vmas if vma.file is not None)
    first = vma.pgoff
    for page in range(first, len(DATA) // PAGE_SIZE):
        at = vma.start + (page - first) * PAGE_SIZE
        task.write(at + 5, b"!")
        assert task.read(at, 6) == b"page !"
    if vma.nr_pages > len(DATA) // PAGE_SIZE - first:
        with pytest.raises(BusError):
            task.write(vma.start + (len(DATA) // PAGE_SIZE - first) * PAGE_SIZE, b"x")
    shown.system.check()
