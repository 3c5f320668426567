"""Faults and calls on memory that is shared without a disk: every touch makes a page of the object, and nobody sees a zero page there. files.md C3, G4, G5, G7."""

import pytest

import rmaplab
from rmaplab.errors import BusError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MS_SYNC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

from .tools import page_at

kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
RW, HERE, PAGES = PROT_READ | PROT_WRITE, 0x5000_0000, 24


class Holes:
    """A file of tmpfs that is one hole, mapped shared at HERE and privately behind it."""

    def __init__(self, kernel: str) -> None:
        self.system = rmaplab.boot(kernel, ram="64M")
        self.task = self.system.spawn(root=True)
        self.space = self.system.new_file(size=PAGES * PAGE_SIZE, on_disk=False)
        self.fd = self.task.open(self.space, writable=True)
        flags = (MAP_SHARED, MAP_PRIVATE)
        size = PAGES * PAGE_SIZE
        self.shared, self.private = (
            self.task.mmap(size, RW, flag | MAP_FIXED, HERE + i * size, file=self.fd) for i, flag in enumerate(flags)
        )


@kernels
def test_a_touch_makes_a_page_of_the_file(kernel: str) -> None:
    """A read does, of a private mapping too; a write to that copies the new page. read(2) makes none."""
    holes = Holes(kernel)
    task = holes.task
    assert task.pread(holes.fd, PAGE_SIZE, 0) == bytes(PAGE_SIZE)
    assert not holes.space.pages
    task.read(holes.shared + 3 * PAGE_SIZE)
    task.read(holes.private + 5 * PAGE_SIZE)
    task.write(holes.private + 7 * PAGE_SIZE, b"mine")
    task.write(holes.shared + 9 * PAGE_SIZE, b"ours")
    assert list(holes.space.pages) == [3, 5, 7, 9]
    assert page_at(holes.system, task, holes.private + 5 * PAGE_SIZE) == holes.space.pages[5] != ZERO_PFN
    copy = page_at(holes.system, task, holes.private + 7 * PAGE_SIZE)
    assert copy not in holes.space.pages.values()
    assert task.read(holes.private + 9 * PAGE_SIZE, 4) == b"ours"
    assert task.pread(holes.fd, 4, 7 * PAGE_SIZE) == bytes(4)
    holes.system.check()


@kernels
def test_calls_on_it(kernel: str) -> None:
    """Mincore says which pages the object has; msync has nothing to write; DONTNEED loses nothing; WILLNEED reads nothing; mlock brings all."""
    holes = Holes(kernel)
    task, at, size = holes.task, holes.shared, PAGES * PAGE_SIZE
    task.write(at + 2 * PAGE_SIZE, b"two")
    assert task.mincore(at, 4 * PAGE_SIZE) == [False, False, True, False]
    task.msync(at, size, MS_SYNC)
    task.fsync(holes.fd)
    assert not holes.space.store
    task.madvise(at, size, MADV_DONTNEED)
    task.madvise(at, size, MADV_WILLNEED)
    assert task.read(at + 2 * PAGE_SIZE, 3) == b"two"
    child = task.fork()
    assert child.read(at + 2 * PAGE_SIZE, 3) == b"two"
    assert len(holes.system.who_maps(holes.space, 2)) == 2
    task.mlock(at + 8 * PAGE_SIZE, 4 * PAGE_SIZE)
    assert list(holes.space.pages) == [2, 8, 9, 10, 11]
    holes.system.check()
    child.exit()
    task.munlock(at + 8 * PAGE_SIZE, 4 * PAGE_SIZE)
    task.ftruncate(holes.fd, 9 * PAGE_SIZE + 5)
    with pytest.raises(BusError):
        task.read(at + 10 * PAGE_SIZE)
    with pytest.raises(BusError):
        task.write(holes.private + 10 * PAGE_SIZE, b"x")
    assert task.read(at + 9 * PAGE_SIZE, 8) == bytes(8)
    holes.system.check()


@kernels
def test_many_at_once_are_as_one_by_one(kernel: str) -> None:
    """Entries, pages, promises and counts of a stretch, and of the same touches page by page."""
    ends = []
    for together in (True, False):
        system = rmaplab.boot(kernel, ram="64M")
        task = system.spawn()
        at = task.mmap(1200 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, HERE)
        space = system.new_file(size=1200 * PAGE_SIZE, on_disk=False)
        mapped = task.mmap(1200 * PAGE_SIZE, RW, MAP_SHARED, file=task.open(space, writable=True))
        for start in (at, mapped):
            for page in [0] if together else range(1200):
                task.touch(start + page * PAGE_SIZE, 1200 * PAGE_SIZE if together else 1, write=True)
        system.check()
        machine = system.machine
        kinds = ("radix_tree_node", "inode_cache", "filp", "vm_area_struct")
        objects = [machine.caches[kind].nr_objects for kind in kinds if kind in machine.caches]
        ends.append((space.nr_blocks, system.kernel.committed_pages, objects, machine.allocator.nr_unused, task.mm.rss))  # type: ignore[union-attr]
    assert ends[0] == ends[1]
