"""Devices: a driver's mmap and nopage, its pages at fault, fork, move, unmap and walk, by kernel; and what dies of the checks of March 2004.

Sources: files.md C6; <20040320133025.GH9009@dualathlon.random>, <20040320174857.GA9009@dualathlon.random>.
"""

import errno
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug, NotModelled, Oops, SyscallError
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.explain.bttv import with_trap
from rmaplab.machine.entries import ACCESSED, DIRTY, PRESENT, RW
from rmaplab.machine.frames import PG_ANON
from rmaplab.machine.pagetable import lookup
from rmaplab.mm import driver as driver_of_mm
from rmaplab.mm.driver_video import Rvmalloc, Videobuf
from rmaplab.mm.file_rules import DriverPages
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    VM_DONTEXPAND,
    VM_IO,
    VM_PFNMAP,
    VM_RESERVED,
)
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.queries import Outcome, referenced, unmap
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

PAGES = 4
LENGTH = PAGES * PAGE_SIZE
RW_PROT = PROT_READ | PROT_WRITE
AT, FAR = 0x5000_0000, 0x6000_0000
KERNELS = (
    "2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1+00100+anonmm", "2.6.5-rc1-aa1", "2.6.5-rc3-aa3", "2.6.7", "6.18",
    "6.18+pte_chain",
)  # fmt: skip
kernels = pytest.mark.parametrize("kernel", KERNELS)
CHAINS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "6.18+pte_chain")
"""Where whoever maps a page is found without its naming anybody."""
UNTOLD = ("2.6.5-rc1-aa1", "2.6.5-rc3-aa3")


D = TypeVar("D", Videobuf, Rvmalloc)


class Card(Generic[D]):
    """A system, a task, and a TV card whose buffers it has mapped."""

    def __init__(self, kernel: str, make: Callable[..., D], **options: bool) -> None:
        self.system = rmaplab.boot(kernel, ram="64M")
        self.k, self.frames = self.system.kernel, self.system.machine.frames
        self.task = self.system.spawn()
        self.driver: D = make(self.k, PAGES, **options)
        self.fd = self.task.open(self.driver.file, writable=True)
        self.task.mmap(LENGTH, RW_PROT, MAP_SHARED | MAP_FIXED, AT, file=self.fd)
        self.system.check()

    @property
    def vma(self) -> VmArea:
        assert self.task.mm is not None
        return self.task.mm.vmas[0]

    def entries(self, task: rmaplab.Task | None = None, at: int = AT) -> list[int]:
        mm = (task or self.task).mm
        assert mm is not None
        return [int(lookup(*self.system.machine.geometry, mm.pgd, at + i * PAGE_SIZE)[0]) for i in range(PAGES)]

    def pages(self) -> list[int]:
        return [entry >> PAGE_SHIFT for entry in self.entries()]

    def found(self, page: int) -> set[tuple[int, int]]:
        return {(mapping.mm.pid, mapping.address) for mapping in self.k.rmap.walk(page)}


@kernels
def test_a_page_at_a_fault(kernel: str) -> None:
    """Each a zeroed page of low memory, with the entry's reference and in rss; whether anybody counts it is the kernel's."""
    card = Card(kernel, Videobuf, reserved=True)
    assert card.entries() == [0] * PAGES
    card.task.touch(AT, LENGTH, write=True)
    card.system.check()
    assert card.task.mm is not None
    assert card.task.mm.rss == PAGES
    assert card.task.read(AT, LENGTH) == bytes(LENGTH)
    for page in card.pages():
        assert (card.frames.count[page], card.frames.mapping[page]) == (1, 0)
        assert card.frames.mapcount[page] == (0 if kernel in UNTOLD else 1)
        assert bool(card.frames.flags[page] & PG_ANON) == (kernel == "2.6.5-rc1+00100")
        assert len(card.found(page)) == (1 if kernel in CHAINS else 0)


@kernels
def test_forked_moved_captured_and_unmapped(kernel: str) -> None:
    """Both map the same pages, also after a move; what the card refers to outlives the entries, until the last VMA is closed."""
    card = Card(kernel, Videobuf, reserved=True)
    card.task.touch(AT, LENGTH, write=True)
    pages = card.pages()
    card.driver.start(card.vma)
    card.system.check()
    child = card.task.fork()
    card.system.check()
    copied = (
        not kernel.startswith("6.18") or kernel == "6.18+pte_chain"
    )  # 6.18 leaves it to faults, which get other pages
    assert [entry >> PAGE_SHIFT for entry in card.entries(child)] == (pages if copied else [0] * PAGES)
    card.driver.capture(b"picture")
    assert card.task.read(AT + PAGE_SIZE, 7) == b"picture"
    if copied:
        assert child.read(AT, 7) == b"picture"
    card.task.mremap(AT, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, FAR)
    card.system.check()
    if kernel in CHAINS:
        assert card.found(pages[0]) == {(card.task.pid, FAR), *([(child.pid, AT)] if copied else [])}
    card.task.munmap(FAR, LENGTH)
    card.system.check()
    assert card.driver.references().tolist() == pages
    assert (card.frames.count[pages] == 1 + copied).all()
    child.exit()
    card.system.check()
    assert card.driver.references().size == 0
    assert (card.frames.count[pages] == 0).all()


@kernels
def test_a_split_and_an_exit_are_told(kernel: str) -> None:
    """vm_ops->open and close: as many as there are VMAs; exit closes them."""
    card = Card(kernel, Videobuf, reserved=True)
    assert card.driver.nr_vmas == 1
    card.task.touch(AT, LENGTH, write=True)
    card.task.munmap(AT + PAGE_SIZE, PAGE_SIZE)
    assert card.driver.nr_vmas == 2
    child = card.task.fork()
    assert card.driver.nr_vmas == 4
    child.exit()
    card.system.check()
    assert card.driver.nr_vmas == 2
    card.task.madvise(AT, PAGE_SIZE, MADV_DONTNEED)
    card.system.check()
    card.task.exit()
    assert card.driver.nr_vmas == 0
    card.system.check()


@kernels
def test_pages_that_are_reserved(kernel: str) -> None:
    """All entries at once, no reference, no rss, nobody counts; fork copies them as they are, dirty bits too; unmap leaves the pages alone."""
    card = Card(kernel, Rvmalloc)
    pages = card.pages()
    assert pages == card.driver.references().tolist()
    card.driver.capture(b"picture")
    assert card.task.read(AT, 7) == b"picture"
    card.task.write(AT, b"x")
    child = card.task.fork()
    card.system.check()
    assert card.entries(child) == card.entries()
    assert card.entries()[0] & (PRESENT | RW | DIRTY | ACCESSED) == PRESENT | RW | DIRTY | ACCESSED
    assert card.task.mm is not None
    assert child.mm is not None
    assert (card.task.mm.rss, child.mm.rss) == (0, 0)
    assert child.read(AT, 7) == b"xicture"
    card.task.mremap(AT, LENGTH, LENGTH, MREMAP_MAYMOVE | MREMAP_FIXED, FAR)
    card.system.check()
    assert card.task.read(FAR, 7) == b"xicture"
    for task, at in ((card.task, FAR), (child, AT)):
        task.munmap(at, LENGTH)
        card.system.check()
    assert (card.frames.count[pages] == 1).all()
    assert not card.frames.mapcount[pages].any()
    card.driver.free()
    card.system.check()
    assert (card.frames.count[pages] == 0).all()


@kernels
def test_remap_page_range_maps_what_is_reserved(kernel: str) -> None:
    """Others stay without entries up to 2.6.7; then they are mapped all the same, which is not modelled. Flags since 2.6.34."""
    card = Card(kernel, Rvmalloc, reserved=False)
    assert card.vma.flags & (VM_IO | VM_PFNMAP) == (VM_IO | VM_PFNMAP if kernel.startswith("6.18") else 0)
    if kernel.startswith("6.18"):
        with pytest.raises(NotModelled, match="not reserved"):
            Card(kernel, Rvmalloc, marks_pages=False)
        return
    bare = Card(kernel, Rvmalloc, marks_pages=False)
    assert bare.entries() == [0] * PAGES
    with pytest.raises(NotModelled, match="without nopage"):
        bare.task.read(AT)
    bare.system.check()


@pytest.mark.parametrize(
    ("prot", "flags", "pages", "name"),
    [
        (PROT_READ, MAP_SHARED, PAGES, "EINVAL"),
        (RW_PROT, MAP_PRIVATE, PAGES, "EINVAL"),
        (RW_PROT, MAP_SHARED, PAGES - 1, "EINVAL"),
        (RW_PROT, MAP_SHARED, PAGES, "EBUSY"),
    ],
)
@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.5-rc1-aa1", "6.18"])
def test_a_driver_refuses(kernel: str, prot: int, flags: int, pages: int, name: str) -> None:
    """A card wants its buffers whole, shared, writable and once. Nothing is left of a mapping that it refuses."""
    card = Card(kernel, Videobuf)
    assert card.vma.flags & (VM_DONTEXPAND | VM_IO) == VM_DONTEXPAND
    with pytest.raises(SyscallError) as error:
        card.task.mmap(pages * PAGE_SIZE, prot, flags, file=card.fd)
    assert error.value.errno == getattr(errno, name)
    card.system.check()
    assert card.task.mm is not None
    assert card.task.mm.map_count == 1
    with pytest.raises(SyscallError) as error:
        card.task.mremap(AT, LENGTH, 2 * LENGTH)
    assert error.value.name == "EFAULT"


@pytest.mark.parametrize(
    ("kernel", "reserved", "outcome", "taken"),
    [
        ("2.4.21", False, Outcome.SUCCESS, 2),
        ("2.4.21", True, Outcome.AGAIN, 0),
        ("2.6.2", True, Outcome.SUCCESS, 2),
        ("2.6.5-rc1+00100", False, Outcome.SUCCESS, 2),
        ("2.6.5-rc1+00100", True, Outcome.FAIL, 0),
        ("2.6.7", True, Outcome.AGAIN, 0),
        ("6.18+pte_chain", True, Outcome.SUCCESS, 2),
    ],
)
def test_what_a_walk_does(kernel: str, reserved: bool, outcome: Outcome, taken: int) -> None:
    """A walk counts whom it finds; unmap minds VM_RESERVED by era; 2.6.7 finds nobody. The card's reference stays."""
    card = Card(kernel, Videobuf, reserved=reserved)
    card.task.touch(AT, LENGTH, write=True)
    card.driver.start(card.vma)
    card.task.fork()
    page = np.array(card.pages()[:1], np.int64)
    before = card.frames.count[page[0]]
    assert referenced(card.k.rmap, page).nr[0] == (0 if kernel == "2.6.7" else 1)  # the child's entry is old
    result = unmap(card.k.rmap, page, np.zeros(1, np.int64))
    assert (Outcome(int(result.outcome[0])), result.replaced[0]) == (outcome, taken)
    assert card.frames.count[page[0]] == before - taken
    card.system.check()


def test_who_sets_vm_reserved() -> None:
    """The card's driver as each kernel has it."""
    for kernel, sets in (
        ("2.6.2", False),
        ("2.6.5-rc1+00100", False),
        ("2.6.5-rc1+00100+00101", True),
        ("2.6.7", True),
    ):
        assert bool(Card(kernel, Videobuf).vma.flags & VM_RESERVED) == sets


# -- the checks of March 2004 ------------------------------------------------------------------------------------------


def test_a_page_without_mapping_in_a_normal_vma_is_a_bug() -> None:
    """The task dies, the page's reference is lost; a week later the kernel goes on."""
    card = Card("2.6.5-rc1-aa1", Videobuf, reserved=False)
    with pytest.raises(Oops, match="has no mapping"):
        card.task.touch(AT, PAGE_SIZE, write=True)
    assert card.task.mm is None
    card.system.check()
    assert card.driver.nr_vmas == 0
    later = Card("2.6.5-rc3-aa3", Videobuf, reserved=False)
    later.task.touch(AT, LENGTH, write=True)
    later.system.check()


@pytest.mark.parametrize(("kernel", "outcome"), [("2.6.2", Outcome.SUCCESS), ("2.6.5-rc1+00100", Outcome.FAIL)])
def test_a_page_of_a_file_in_a_reserved_vma(kernel: str, outcome: Outcome) -> None:
    """A walk that comes to one: 00100 refuses, 00101 BUGs."""
    for name in (kernel, "2.6.5-rc1-aa1"):
        system = rmaplab.boot(name, ram="64M")
        task, space = system.spawn(), system.new_file(b"x")
        at = task.mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, file=task.open(space))
        task.read(at)
        assert task.mm is not None
        task.mm.vmas[0].flags |= VM_RESERVED
        page, entries = np.array([space.pages[0]]), np.zeros(1, np.int64)
        if name == kernel:
            assert unmap(system.kernel.rmap, page, entries).outcome[0] == outcome
        else:
            with pytest.raises(Oops, match="try_to_unmap_one"):
                unmap(system.kernel.rmap, page, entries)
        assert not any(lock.type.name != "mmap_sem" for lock in system.machine.locks.held())
        system.check()


def test_who_shares_the_address_space_waits_for_ever() -> None:
    """mmap_sem is held for reading by nobody who lives: reads go on, an mmap never returns."""
    card = Card("2.6.5-rc1-aa1", Videobuf, reserved=False)
    other = card.task.clone_vm()
    anonymous = card.task.mmap(PAGE_SIZE)
    with pytest.raises(Oops):
        card.task.read(AT)
    other.write(anonymous, b"x")
    with pytest.raises(KernelBug, match="nobody runs who could drop it"):
        other.mmap(PAGE_SIZE)


def test_a_program_dies_of_it() -> None:
    """As of SIGSEGV; its parent hears of it."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M")
    driver = Videobuf(system.kernel, PAGES, reserved=False)
    codes = []

    def child(task: rmaplab.Task) -> None:
        task.touch(task.mmap(LENGTH, RW_PROT, MAP_SHARED, file=task.open(driver.file, writable=True)), LENGTH)

    def parent(task: rmaplab.Task) -> None:
        task.fork(child)
        codes.append(task.wait()[1])

    system.spawn(parent)
    system.run()
    assert codes == [-11]
    system.check()


@pytest.mark.parametrize("call", ["touch", "copy_from_user", "mlock"])
def test_a_sigbus_trips_the_checks(call: str) -> None:
    """Believed of 2.6.5-rc1-aa1: a touch behind a file's end is a BUG, whoever makes it for the task. Without it SIGBUS or EFAULT."""
    for trapped in (False, True):
        spec = find_kernel("2.6.5-rc1-aa1")
        system = rmaplab.boot(with_trap(spec) if trapped else spec, ram="64M")
        task = system.spawn()
        task.cap_ipc_lock(granted=True)
        task.limit_memlock("1M")
        at = task.mmap(2 * PAGE_SIZE, PROT_READ, MAP_SHARED, file=task.open(system.new_file(b"x"))) + PAGE_SIZE
        with pytest.raises(Oops if trapped else (BusError, SyscallError)):
            getattr(task, call)(at, PAGE_SIZE)
        assert (task.mm is None) == trapped
        system.check()


def test_what_nobody_was_told_of_is_seen_where_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork that counts such a page: check() says so; a fork of one that is counted: the kernel's own assertion."""
    card = Card("2.6.5-rc1-aa1", Videobuf)
    card.task.touch(AT, LENGTH, write=True)
    monkeypatch.setattr(driver_of_mm, "_is_told", lambda *_: True)
    card.task.fork()
    with pytest.raises(KernelBug, match="mapcount"):
        card.system.check()
    monkeypatch.undo()
    with pytest.raises(KernelBug, match="nobody was to hear"):
        card.task.fork()


def test_kernels_have_their_rules_of_it() -> None:
    """By figures, not by names."""
    found = {name: rmaplab.boot(name, ram="64M").kernel.rules.driver_pages for name in KERNELS}
    assert set(found.values()) == set(DriverPages)


# -- anything, in any order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Videobuf, Rvmalloc])
@kernels
def test_whatever_becomes_of_the_vmas(kernel: str, make: Any) -> None:
    """check() after each call of sixty, walk equals judge; at last no page is the driver's but its own, and no VMA shows the device."""
    choose = random.Random(f"{kernel} {make.__name__}")
    card = Card(kernel, make, reserved=True)
    tasks, far = [card.task], FAR
    for _ in range(60):
        task = choose.choice(tasks)
        assert task.mm is not None
        vmas = task.mm.vmas
        what = choose.choice(["touch", "write", "fork", "munmap", "mprotect", "mremap", "dontneed", "capture", "unmap"])
        if not vmas:
            continue
        vma = choose.choice(vmas)
        at = vma.start + choose.randrange(vma.nr_pages) * PAGE_SIZE
        length = min(choose.randrange(1, 3) * PAGE_SIZE, vma.end - at)
        with suppress(SyscallError, rmaplab.SegmentationFault, NotModelled):
            if what in ("touch", "write"):
                task.touch(at, length, write=what == "write")
            elif what == "fork" and len(tasks) < 4:
                tasks.append(task.fork())
            elif what == "munmap" and choose.random() < 0.3:
                task.munmap(at, length)
            elif what == "mprotect":
                task.mprotect(at, length, choose.choice([0, PROT_READ, RW_PROT]))
            elif what == "mremap":
                far += 0x10_0000
                task.mremap(at, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, far)
            elif what == "dontneed" and choose.random() < 0.3:
                task.madvise(at, length, MADV_DONTNEED)
            elif what == "capture" and isinstance(card.driver, Videobuf):
                task.touch(vma.start, vma.end - vma.start)
                card.driver.stop()
                card.driver.start(vma)
                card.driver.capture(b"picture")
            elif what == "unmap" and isinstance(card.driver, Videobuf) and card.driver.dma.size:
                unmap(card.k.rmap, card.driver.dma, np.zeros(card.driver.dma.size, np.int64))
        card.system.check()
    for task in tasks:
        task.exit()
        card.system.check()
    assert list(card.driver.file.i_mmap) == []
    assert card.driver.references().size == (PAGES if isinstance(card.driver, Rvmalloc) else 0)


@pytest.mark.parametrize("nth", range(12))
@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "6.18"])
def test_every_allocation_fails_in_turn(kernel: str, nth: int) -> None:
    """Mmap, faults, a fork and a mapping of reserved pages: ENOMEM or a task that dies, nothing leaks."""
    card = Card(kernel, Videobuf, reserved=True)
    remapped = Rvmalloc(card.k, PAGES)
    fd = card.task.open(remapped.file, writable=True)
    card.system.machine.allocator.fail_after = nth
    try:
        card.task.touch(AT, 2 * PAGE_SIZE, write=True)
        card.task.mmap(LENGTH, RW_PROT, MAP_SHARED | MAP_FIXED, FAR + (nth << 28), file=fd)
        card.task.fork()
    except (SyscallError, rmaplab.NoMemory, rmaplab.OomKilled) as failure:
        assert getattr(failure, "name", "ENOMEM") == "ENOMEM"
    card.system.machine.allocator.fail_after = None
    card.system.check()
