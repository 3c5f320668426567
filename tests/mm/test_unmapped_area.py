"""Where a mapping goes, in every era, beside a walk over all VMAs, each time a kernel looks for a hole in a life of random calls.

    walked    few VMAs: the kernel's own search walks, too
    kept      their holes are kept in order (objects/holes.py), in one block or in many small ones

The walk knows no more than VMAs, in order, and the gap below those that grow down.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

import rmaplab
from rmaplab.errors import NoMemory, NotModelled, SegmentationFault, SyscallError
from rmaplab.mm import unmapped_area
from rmaplab.mm.kernel import Kernel
from rmaplab.mm.unmapped_area import LOW
from rmaplab.objects import holes, vma_tree
from rmaplab.objects.flags import MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, VM_GROWSDOWN
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SIZE, page_align

BOXES = [
    ("2.4.21", "i386-pae"), ("2.6.2", "i386-pae"), ("2.6.5-rc1-aa1", "x86-64"), ("2.6.5-rc3-aa3", "i386"),
    ("2.6.7", "i386-pae"), ("6.18", "x86-64"),
]  # fmt: skip
MODES = {"walked": (10**6, holes.FULL), "kept": (0, holes.FULL), "kept in small blocks": (0, 4)}
PLAIN = MAP_PRIVATE | MAP_ANONYMOUS
Place = tuple[int, int, VmArea | None]


def holes_of(mm: MmStruct, lowest: int) -> list[Place]:
    """(from, to, the VMA above it), in order, from `lowest` on."""
    found: list[Place] = []
    for vma in mm.vmas:
        if vma.start > lowest:
            found.append((lowest, vma.start, vma))
        lowest = max(lowest, vma.end)
    return [*found, (lowest, 1 << 62, None)]


def below(k: Kernel, vma: VmArea | None, end: int) -> int:
    """Where a hole ends for who minds the gap."""
    gap = k.rules.stack_guard_gap_pages * PAGE_SIZE
    return max(end - gap, 0) if vma is not None and vma.flags & VM_GROWSDOWN else end


def next_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    base, most = k.machine.paging.unmapped_base, k.machine.paging.task_size - length
    for first in (mm.free_area_cache if k.rules.mmap_remembers_hole else 0, base):
        found = next(low for low, high, _ in holes_of(mm, first or base) if high - low >= length)
        if found <= most:
            return found
    return None


def lowest_hole(k: Kernel, mm: MmStruct, length: int, address: int, end: int) -> int | None:
    for low, high, vma in holes_of(mm, address):
        room = end if high >= end else below(k, vma, high)
        if low + length <= room:
            return low
    return None


def highest_hole(k: Kernel, mm: MmStruct, length: int) -> int | None:
    top = k.machine.paging.unmapped_base
    for low, high, vma in reversed(holes_of(mm, PAGE_SIZE)):
        if min(high, top) - low >= length:
            top = min(high, top, below(k, vma, high))
            if top - low >= length:
                return top - length
    third = page_align(k.machine.paging.task_size // 3)
    return lowest_hole(k, mm, length, third, k.machine.paging.task_size)


def asked_first(name: str, walk: Callable[..., int | None], found: list[int | None]) -> Callable[..., int | None]:
    """The search of that name, after the walk has said what comes of it."""
    search: Callable[..., int | None] = getattr(unmapped_area, name)

    def both(k: Kernel, mm: MmStruct, *about: int) -> int | None:
        expected = walk(k, mm, *about)
        assert search(k, mm, *about) == expected, (name, *map(hex, about))
        found.append(expected)
        return expected

    return both


class Life:
    """A task that calls at random."""

    def __init__(self, kernel: str, paging: str, seed: int) -> None:
        self.choose = random.Random(seed)
        self.system = rmaplab.boot(kernel, ram="64M", paging=paging)
        self.task = self.system.spawn()
        self.task.limit_stack(1 << 40)

    @property
    def mm(self) -> MmStruct:
        assert self.task.mm is not None
        return self.task.mm

    def size(self) -> int:
        """Pages, or so much that an address space is full soon."""
        size = self.system.kernel.machine.paging.task_size
        return self.choose.choice((1, 1, 1, 2, 3, 5, 8, 300)) * PAGE_SIZE if self.choose.random() < 0.95 else size // 3

    def part(self) -> tuple[int, int]:
        """Of some VMA, or more."""
        vma = self.choose.choice(self.mm.vmas)
        start = vma.start + self.choose.randrange(min(vma.nr_pages, 6)) * PAGE_SIZE
        return start, min(self.choose.choice((1, 2, 4, 12, vma.nr_pages)), vma.nr_pages) * PAGE_SIZE

    def call(self) -> None:
        task, choose = self.task, self.choose
        prot = choose.choice((0, 1, 3))
        match choose.randrange(12) if self.mm.vmas else 0:
            case 0 | 1 | 2 | 3:
                hint = choose.choice((0, 0, 0, self.part()[0] + 16 * PAGE_SIZE if self.mm.vmas else 0))
                task.mmap(self.size(), prot, PLAIN | choose.choice((0, 0, 0, MAP_GROWSDOWN, MAP_32BIT)), hint)
            case 4:
                task.mmap(self.size(), prot, PLAIN | MAP_FIXED, self.part()[0] + choose.randrange(40) * PAGE_SIZE)
            case 5 | 6 | 7:
                task.munmap(*self.part())
            case 8:
                start, length = self.part()
                task.mremap(start, length, self.size())
            case 9:
                task.mprotect(*self.part(), prot)
            case 10:
                task.brk(self.mm.start_brk + choose.randrange(30) * PAGE_SIZE)
            case 11:
                growing = [vma for vma in self.mm.vmas if vma.flags & VM_GROWSDOWN and vma.start > 4 * PAGE_SIZE]
                if growing:
                    task.touch(choose.choice(growing).start - choose.randrange(1, 3) * PAGE_SIZE, 1, write=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("kernel", "paging"), BOXES)
def test_a_hole_is_the_one_that_a_walk_finds(
    kernel: str, paging: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the task and, later, in its child; what is kept is right after every call."""
    few, full = MODES[mode]
    monkeypatch.setattr(vma_tree, "FEW", few)
    monkeypatch.setattr(holes, "FULL", full)
    found: list[int | None] = []
    for name, walk in (("_next_hole", next_hole), ("_lowest_hole", lowest_hole), ("_highest_hole", highest_hole)):
        monkeypatch.setattr(unmapped_area, name, asked_first(name, walk, found))
    life = Life(kernel, paging, 20)
    for step in range(400):
        if step == 250:
            life.task = life.task.fork()
        with suppress(SyscallError, NoMemory, NotModelled, SegmentationFault):
            life.call()
        life.mm.check()
    assert len(set(found)) > 60
    assert None in found


@pytest.mark.parametrize("mode", MODES)
def test_the_gap_below_a_mapping_that_grows_down(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many such mappings, with holes about as long as the gap, and whatever window is asked for: from below, and from above with the top at any place."""
    few, full = MODES[mode]
    monkeypatch.setattr(vma_tree, "FEW", few)
    monkeypatch.setattr(holes, "FULL", full)
    choose = random.Random(4)
    system = rmaplab.boot("6.18", ram="64M")
    k, task = system.kernel, system.spawn()
    at = first = LOW[0]
    for _ in range(40):
        at += choose.choice((0, 1, 2, 250, 256, 260, 300, 520)) * PAGE_SIZE
        length = choose.choice((1, 1, 2, 30)) * PAGE_SIZE
        task.mmap(length, 1, PLAIN | MAP_FIXED | choose.choice((0, MAP_GROWSDOWN)), at)
        at += length
    mm = task.mm
    assert mm is not None
    for _ in range(400):
        address = first + choose.randrange((at - first) // PAGE_SIZE) * PAGE_SIZE
        end = address + choose.randrange(2000) * PAGE_SIZE
        length = choose.choice((1, 2, 4, 5, 200, 256, 260, 300)) * PAGE_SIZE
        expected = lowest_hole(k, mm, length, address, end)
        assert unmapped_area._lowest_hole(k, mm, length, address, end) == expected
        k.machine.paging = replace(k.machine.paging, unmapped_base=end)
        assert unmapped_area._highest_hole(k, mm, length) == highest_hole(k, mm, length)


@pytest.mark.parametrize("few", [0, vma_tree.FEW])
def test_page_0_is_in_no_hole(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the sixteen pages below the first VMA fifteen may be taken; for sixteen the search goes on upwards."""
    monkeypatch.setattr(vma_tree, "FEW", few)
    system = rmaplab.boot("6.18", ram="64M")
    task, paging = system.spawn(), system.kernel.machine.paging
    top = paging.unmapped_base
    task.mmap(top - 16 * PAGE_SIZE, 0, PLAIN | MAP_FIXED, 16 * PAGE_SIZE)
    assert top + 16 * PAGE_SIZE <= paging.task_size
    assert task.mmap(16 * PAGE_SIZE, 1) == top
    assert task.mmap(15 * PAGE_SIZE, 1) == PAGE_SIZE
