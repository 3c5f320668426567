"""The first guest: an anonymous page goes to swap while two processes map it, and comes back to each of them.

    parent  [page ro]---+--> page             [swap 1]                       [swap 1]               [copy rw ]
    child   [page ro]---+         page_out    [swap 1]   a read by the child [page ro]  a write by  [page ro ]
    slot 1        free                        2 uses                         1 + cache  the parent  cache only

No policy: pages are named. Contents, counts, uses of slots and the reverse map must be right at every step, on every kernel and format.
"""

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import KernelBug
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.machine.entries import DIRTY, RW, EntryKind
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE
from rmaplab.reclaim.page_out import drop_unused, page_out
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

everywhere = pytest.mark.parametrize(
    ("kernel", "paging"), [(kernel, paging) for kernel in EVERY_KIND for paging in find_kernel(kernel).architectures]
)
kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
READ_WRITE = PROT_READ | PROT_WRITE


class Stage:
    """A parent with one written page and a child that shares it."""

    def __init__(self, kernel: str, paging: str | None = None, swap: str = "1M") -> None:
        self.system = rmaplab.boot(kernel, ram="64M", swap=swap, paging=paging)
        self.k = self.system.kernel
        self.parent = self.system.spawn()
        self.at = self.parent.mmap(4 * PAGE_SIZE)
        self.parent.write(self.at, b"before")
        self.child = self.parent.fork()
        self.k.lru_add.drain_all()

    def entry(self, task: rmaplab.Task, at: int | None = None) -> int:
        assert task.mm is not None
        return lookup(*self.system.machine.geometry, task.mm.pgd, self.at if at is None else at)[0]

    def kind(self, task: rmaplab.Task) -> EntryKind:
        return self.system.machine.encoding.kind(self.entry(task))

    def pfn(self, task: rmaplab.Task, at: int | None = None) -> int:
        return self.entry(task, at) >> PAGE_SHIFT

    def out(self) -> None:
        while not page_out(
            self.k, self.pfn(self.parent)
        ):  # a young entry is spared the first time, in 2.4 and since 2.6.7
            assert self.pfn(self.parent)
        self.system.check()

    def end(self) -> None:
        """All exit, and neither a slot nor a frame is left."""
        for task in (self.child, self.parent):
            if task.mm is not None:
                task.exit()
        self.k.lru_add.drain_all()
        drop_unused(self.k)
        self.system.check()
        assert not self.k.swap.nr_used
        assert not self.k.swap.cached


@everywhere
def test_out_and_back_by_a_read_and_a_write(kernel: str, paging: str) -> None:
    stage = Stage(kernel, paging)
    frame = stage.pfn(stage.parent)
    stage.out()
    assert stage.kind(stage.parent) is stage.kind(stage.child) is EntryKind.SWAP
    assert stage.entry(stage.parent) == stage.entry(stage.child)
    assert stage.k.swap.users[1] == 2
    assert stage.system.machine.frames.count[frame] == 0
    assert stage.parent.mm is not None
    assert stage.parent.mm.rss == 0

    assert stage.child.read(stage.at, 6) == b"before"
    stage.system.check()
    assert stage.kind(stage.child) is EntryKind.PAGE
    assert not stage.entry(stage.child) & (RW | DIRTY)
    assert stage.k.swap.users[1] == 2, "the parent's entry, and the cache"

    stage.parent.write(stage.at, b"after ")
    stage.system.check()
    assert stage.entry(stage.parent) & RW
    assert stage.pfn(stage.parent) != stage.pfn(stage.child)
    assert (stage.parent.read(stage.at, 6), stage.child.read(stage.at, 6)) == (b"after ", b"before")
    assert stage.k.swap.users[1] == 1
    stage.end()


@kernels
def test_both_read_and_share_one_frame(kernel: str) -> None:
    """Whoever comes second finds the page in the cache; then both are found, where there is a reverse map."""
    stage = Stage(kernel)
    stage.out()
    for task in (stage.parent, stage.child):
        assert task.read(stage.at, 6) == b"before"
        stage.system.check()
    assert stage.pfn(stage.parent) == stage.pfn(stage.child)
    found = {(m.mm.pid, m.address) for m in stage.system.who_maps(stage.child, stage.at)}
    assert found == {(stage.parent.pid, stage.at), (stage.child.pid, stage.at)}
    assert stage.k.swap.users[1] == 1
    stage.end()


@kernels
def test_a_page_whose_sharer_is_still_out_is_copied(kernel: str) -> None:
    """Its count is low enough, but the other's entry names its slot: eras.md 2.2, last line."""
    stage = Stage(kernel)
    stage.out()
    stage.parent.read(stage.at, 1)
    stage.k.lru_add.drain_all()
    shared = stage.pfn(stage.parent)
    stage.parent.write(stage.at, b"mine  ")
    assert stage.pfn(stage.parent) != shared
    assert stage.child.read(stage.at, 6) == b"before"
    stage.system.check()
    stage.end()


@kernels
def test_the_only_one_to_name_it_has_it_back(kernel: str) -> None:
    """No sharer left: the write that follows takes the page as it is, in the cache or not."""
    stage = Stage(kernel)
    stage.child.exit()
    stage.out()
    stage.parent.write(stage.at, b"after ")
    stage.k.lru_add.drain_all()
    stage.system.check()
    frame = stage.pfn(stage.parent)
    stage.parent.write(stage.at, b"again ")
    assert stage.pfn(stage.parent) == frame
    assert stage.parent.read(stage.at, 6) == b"again "
    stage.end()


@kernels
def test_swap_entries_are_forked_protected_moved_and_unmapped(kernel: str) -> None:
    """Each verb that reads page tables takes them along: nothing is dropped, nothing comes back elsewhere (experiment A)."""
    stage = Stage(kernel)
    stage.out()
    third = stage.child.fork()
    stage.system.check()
    assert stage.k.swap.users[1] == 3
    stage.child.mprotect(stage.at, PAGE_SIZE, PROT_NONE)
    stage.child.mprotect(stage.at, PAGE_SIZE, READ_WRITE)
    to = stage.at + (1 << 24)
    assert stage.child.mremap(stage.at, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to
    stage.system.check()
    assert stage.child.read(to, 6) == b"before" == third.read(stage.at, 6)
    stage.system.check()
    stage.parent.munmap(stage.at, PAGE_SIZE)
    third.exit()
    stage.child.munmap(to, PAGE_SIZE)
    stage.system.check()
    stage.end()


@kernels
def test_what_is_locked_stays(kernel: str) -> None:
    """VM_LOCKED anywhere among those who map it: nobody looks further, and what has been done stays done (reclaim.md E.2)."""
    stage = Stage(kernel)
    stage.parent.limits.may_lock = True
    stage.parent.mlock(stage.at, PAGE_SIZE)
    frame = stage.pfn(stage.parent)
    assert not page_out(stage.k, frame)
    stage.system.check()
    assert stage.pfn(stage.parent) == frame
    assert stage.child.read(stage.at, 6) == b"before"
    stage.system.check()
    stage.end()


@kernels
def test_no_slot_no_way_out(kernel: str) -> None:
    stage = Stage(kernel, swap="0")
    assert not page_out(stage.k, stage.pfn(stage.parent))
    stage.system.check()


def test_check_sees_an_entry_of_no_slot_and_one_of_no_kind() -> None:
    """What the house review's experiment A put into tables, and check() said nothing."""
    stage = Stage("6.18")
    machine = stage.system.machine
    assert stage.parent.mm is not None
    _, pte = lookup(*machine.geometry, stage.parent.mm.pgd, stage.at + PAGE_SIZE)
    slot = pte // machine.paging.entry_bytes
    machine.words[slot] = machine.encoding.swap_entry(0, 77)
    with pytest.raises(KernelBug, match="bad swap file entry"):
        stage.system.check()
    machine.words[slot] = np.int64(1 << 7)
    with pytest.raises(KernelBug, match="no kind of entry"):
        stage.system.check()
    machine.words[slot] = 0
    stage.system.check()
