"""An address space against a plain list of intervals.

    pages   0    4    8    12   16   20 ...
            .    [ a  )    .    [b )[ c )  .        model: [(4, 8), (12, 14), (14, 17)]

Every question is asked of the model by looking at all intervals in turn.
"""

from importlib import import_module
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.locks import Locks
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.objects import vma_tree
from rmaplab.objects.flags import VM_EXEC, VM_MAYSHARE, VM_READ, VM_SHARED, VM_WRITE
from rmaplab.objects.holes import NO_END, Holes
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SIZE

LOCKS = Locks(
    (("mmap_sem", True, False), ("page_table_lock", False, True)),
    Scheduler(SchedRules(1, 1, 1, 1, one_queue=False, child_first=True), 1),
    Ledger(PriceList("free", "none", {})),
)
PAGES = 40
Interval = tuple[int, int]
intervals = st.tuples(st.integers(0, PAGES - 1), st.integers(1, 12)).map(lambda i: (i[0], min(i[0] + i[1], PAGES)))
steps = st.lists(
    st.tuples(
        st.sampled_from(("insert", "insert", "insert", "remove", "grow", "shrink", "extend", "cut", "find")), intervals
    ),
    max_size=25,
)


def vma_at(mm: MmStruct, pages: Interval) -> VmArea:
    return VmArea(mm, pages[0] * PAGE_SIZE, pages[1] * PAGE_SIZE, VM_READ, pages[0])


def interval(vma: VmArea | None) -> Interval | None:
    return None if vma is None else (vma.start // PAGE_SIZE, vma.end // PAGE_SIZE)


class Model:
    """The mm, and the intervals it ought to hold."""

    def __init__(self) -> None:
        self.mm = MmStruct(1, 0, 0, LOCKS)
        self.all: list[Interval] = []

    def do(self, verb: str, pages: Interval) -> None:
        match verb:
            case "insert":
                self.insert(pages)
            case "remove" if self.all:
                self.remove(self.chosen(pages))
            case "grow" | "shrink" if self.all:
                self.move_start(self.chosen(pages), "up" if verb == "shrink" else "down")
            case "extend" | "cut" if self.all:
                self.move_end(self.chosen(pages), "up" if verb == "extend" else "down")
            case "find":  # so that later searches meet a filled cache
                self.mm.find_vma(pages[0] * PAGE_SIZE)
        self.all.sort()

    def chosen(self, pages: Interval) -> VmArea:
        return self.mm.vmas[pages[0] % len(self.all)]

    def insert(self, pages: Interval) -> None:
        vma = vma_at(self.mm, pages)
        if any(start < pages[1] and end > pages[0] for start, end in self.all):
            with pytest.raises(KernelBug, match="overlaps"):
                self.mm.insert(vma)
        else:
            self.mm.insert(vma)
            self.mm.total_vm += vma.nr_pages
            self.all.append(pages)

    def remove(self, vma: VmArea) -> None:
        self.mm.remove(vma)
        self.mm.total_vm -= vma.nr_pages
        self.all.remove((vma.start // PAGE_SIZE, vma.end // PAGE_SIZE))

    def move_start(self, vma: VmArea, where: Literal["up", "down"]) -> None:
        """One page up, if a page is left then; one page down, if that is free."""
        start, end = vma.start // PAGE_SIZE, vma.end // PAGE_SIZE
        new = start + 1 if where == "up" else start - 1
        if new in (end, -1) or any(s <= new < e for s, e in self.all if s != start):
            return
        self.mm.move_start(vma, new * PAGE_SIZE, new)
        self.mm.total_vm += start - new
        self.all[self.all.index((start, end))] = (new, end)

    def move_end(self, vma: VmArea, where: Literal["up", "down"]) -> None:
        """One page up, if that is free; one page down, if a page is left then."""
        start, end = vma.start // PAGE_SIZE, vma.end // PAGE_SIZE
        new = end + 1 if where == "up" else end - 1
        if new in (start, PAGES + 1) or any(s < new <= e for s, e in self.all if s != start):
            return
        self.mm.move_end(vma, new * PAGE_SIZE)
        self.mm.total_vm += new - end
        self.all[self.all.index((start, end))] = (start, new)

    def agrees_on_holes(self, start: int, end: int) -> None:
        """The lowest and the highest that is long enough, from `start` on or below `end`."""
        borders = [0, *(page * PAGE_SIZE for pages in self.all for page in pages), NO_END]
        holes = [(low, high) for low, high in zip(borders[::2], borders[1::2], strict=True) if low < high]
        low, top = start * PAGE_SIZE, end * PAGE_SIZE
        for length in (PAGE_SIZE, (end - start) * PAGE_SIZE, PAGES * PAGE_SIZE):
            above = next(hole for hole in holes if hole[1] - max(hole[0], low) >= length)
            assert self.mm.hole_above(length, low) == (max(above[0], low), above[1])
            below = [hole for hole in holes if min(hole[1], top) - hole[0] >= length]
            assert self.mm.hole_below(length, top) == (below[-1] if below else None)

    def agrees(self, start: int, end: int) -> None:
        """All questions about the whole address space and about [start, end)."""
        mm, everything = self.mm, self.all
        mm.check()
        assert [interval(vma) for vma in mm.vmas] == everything
        assert mm.map_count == len(everything)
        for page in range(PAGES + 1):
            for address in (page * PAGE_SIZE, page * PAGE_SIZE + PAGE_SIZE - 1):
                above = [i for i in everything if i[1] > page]
                assert interval(mm.find_vma(address)) == (above[0] if above else None)
        for i, vma in enumerate(list(mm.vmas)):
            previous, following = everything[:i], everything[i + 1 :]
            expected = (previous[-1] if previous else None, following[0] if following else None)
            assert tuple(interval(v) for v in mm.neighbours(vma)) == expected
        overlapping = mm.overlapping(start * PAGE_SIZE, end * PAGE_SIZE)
        assert [interval(vma) for vma in overlapping] == [i for i in everything if i[0] < end and i[1] > start]
        below, above = [i for i in everything if i[1] <= start], [i for i in everything if i[0] >= end]
        around = mm.gap_around(start * PAGE_SIZE, end * PAGE_SIZE)
        assert tuple(interval(vma) for vma in around) == (below[-1] if below else None, above[0] if above else None)


@pytest.mark.parametrize("few", [0, 3, vma_tree.FEW])
@settings(max_examples=60, deadline=None)
@given(todo=steps)
def test_an_address_space_is_a_sorted_list_of_intervals(few: int, todo: list[tuple[str, Interval]]) -> None:
    """find_vma, neighbours, gap_around and overlapping answer what a look at every interval answers; overlaps are refused. Holes are found alike by those who walk and those who keep them."""
    model = Model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vma_tree, "FEW", few)
        for verb, pages in todo:
            model.do(verb, pages)
            model.agrees(*pages)
            model.agrees_on_holes(*pages)


@pytest.mark.parametrize("pages", [(4, 8), (3, 5), (7, 9), (5, 6), (0, 20), (3, 9)])
def test_an_overlap_is_a_bug(pages: Interval) -> None:
    """Two VMAs never share a page, whichever way they would overlap; the refused one leaves no trace."""
    #   0         4         8
    #   .         [=========)         .
    mm = MmStruct(1, 0, 0, LOCKS)
    mm.insert(vma_at(mm, (4, 8)))
    with pytest.raises(KernelBug, match="insert_vm_struct"):
        mm.insert(vma_at(mm, pages))
    assert [interval(vma) for vma in mm.vmas] == [(4, 8)]
    mm.insert(vma_at(mm, (8, 9)))
    mm.insert(vma_at(mm, (3, 4)))
    assert [interval(vma) for vma in mm.vmas] == [(3, 4), (4, 8), (8, 9)]


def test_a_vma_of_another_mm_is_a_bug() -> None:
    """A VMA that is not linked cannot be unlinked, and has no neighbours, even if another lies at the same address."""
    mm, other = MmStruct(1, 0, 0, LOCKS), MmStruct(2, 0, 0, LOCKS)
    mm.insert(vma_at(mm, (4, 8)))
    for stranger in (vma_at(other, (4, 8)), vma_at(mm, (4, 8)), vma_at(mm, (12, 13))):
        with pytest.raises(KernelBug, match="find_vma"):
            mm.remove(stranger)
        with pytest.raises(KernelBug, match="find_vma"):
            mm.neighbours(stranger)


def test_check_finds_what_cannot_be() -> None:
    """VMAs out of order or on each other, a VMA of another mm, and a wrong total_vm are each named."""

    def two() -> MmStruct:
        mm = MmStruct(1, 0, 0, LOCKS)
        for pages in ((4, 8), (10, 12)):
            mm.insert(vma_at(mm, pages))
        mm.total_vm = 6
        mm.check()
        return mm

    overlapping, backwards, foreign, miscounted, forgetful = two(), two(), two(), two(), two()
    overlapping.vmas[0].end = 11 * PAGE_SIZE
    overlapping.total_vm += 3
    backwards.vmas[1].start = 13 * PAGE_SIZE
    foreign.vmas[0].mm = two()
    miscounted.total_vm = 7
    forgetful._holes = Holes([(4 * PAGE_SIZE, 8 * PAGE_SIZE)])
    for mm in (overlapping, backwards, foreign, miscounted, forgetful):
        with pytest.raises(KernelBug, match="validate_mm"):
            mm.check()


def test_a_vma_knows_where_the_page_of_an_index_is() -> None:
    """address_of turns an index of the object into an address: pgoff is the first page's index."""
    #   object     ... 98   99  [100  101  102  103) 104 ...
    #   address                 0x8000 ...     0xb000
    vma = VmArea(MmStruct(1, 0, 0, LOCKS), 0x8000, 0xC000, VM_READ, 100)
    assert vma.nr_pages == 4
    assert [vma.address_of(i) for i in (99, 100, 103, 104)] == [0x7000, 0x8000, 0xB000, 0xC000]


def test_a_vma_reads_like_a_line_of_maps() -> None:
    """Range and permissions are written as in /proc/PID/maps (proc(5))."""
    mm = MmStruct(1, 0, 0, LOCKS)
    assert str(VmArea(mm, 0x804_8000, 0x804_C000, VM_READ | VM_EXEC, 0)) == "08048000-0804c000 r-xp 00000000"
    assert (
        str(VmArea(mm, 0x4000_0000, 0x4000_1000, VM_READ | VM_WRITE | VM_SHARED | VM_MAYSHARE, 0)).split()[1] == "rw-s"
    )


def test_the_offset_in_a_line_of_maps_is_in_bytes() -> None:
    """Proc(5): the third field is the offset into the file; 2.6.2 fs/proc/task_mmu.c show_map prints vm_pgoff << PAGE_SHIFT."""
    vma = VmArea(MmStruct(1, 0, 0, LOCKS), 0x804_8000, 0x804_C000, VM_READ | VM_EXEC, 3)
    assert str(vma).split()[2] == "00003000"


def test_designs_of_protocol_1_find_the_nouns_where_they_were() -> None:
    """A design in a package of its own imports them from modules that are otherwise empty."""
    assert import_module("rmaplab.objects.mm").MmStruct is MmStruct
    assert import_module("rmaplab.objects.vma").VmArea is VmArea
