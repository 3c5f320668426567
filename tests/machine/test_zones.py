"""Zones and the lists of single pages per CPU, against a model that does what the kernel does: one page at a time.

free of the zone   ......................      list of CPU 0   tail [..........] head
                    --- refill: batch when no more than low -->            --- a page leaves at the head
                   <--- drain: batch when there are high ------            <-- a page comes back at the head
"""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.machine.allocator import Gfp, Layout, PageAllocator
from rmaplab.machine.buddy import FreeLists
from rmaplab.machine.frames import Frames
from rmaplab.machine.ram import Ram
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.watermarks import WatermarkRule
from rmaplab.machine.zones import Zone, zone_borders

from .tools import try_alloc

MIB = 256  # frames
RULES = SchedRules(100, 200, 1, 200, one_queue=False, child_first=True)


def zone_of(nr_frames: int, cpus: int = 2) -> Zone:
    return Zone("NORMAL", FreeLists(nr_frames), 0, nr_frames, 0, cpus, pcp=True)


class OneByOne:
    """buffered_rmqueue and free_hot_cold_page, a page a call, over a bare count of what the buddy system has."""

    def __init__(self, zone: Zone) -> None:
        self.free, self.low, self.high, self.batch = zone.nr_free, zone.low, zone.high, zone.batch
        self.lists = [deque[int]() for _ in zone.pcp]  # only lengths matter for what can be had

    def take(self, cpu: int, mark: int) -> bool:
        if self.free < mark + 1:
            return False
        pages = self.lists[cpu]
        if len(pages) <= self.low:
            refill = min(self.batch, self.free)
            self.free -= refill
            pages.extend(range(refill))
        pages.popleft()
        return True

    def give(self, cpu: int) -> None:
        pages = self.lists[cpu]
        if len(pages) >= self.high:
            for _ in range(self.batch):
                pages.pop()
            self.free += self.batch
        pages.appendleft(0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 1), st.integers(0, 700), st.integers(1, 900)),
        st.tuples(st.just("give"), st.integers(0, 1), st.just(0), st.integers(1, 900)),
    ),
    max_size=20,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([300, 1024, 20_000, 70_000]), steps)
def test_in_bulk_as_one_by_one(nr_frames: int, calls: list[tuple[str, int, int, int]]) -> None:
    """However many pages a call takes or gives: what is had, what is free and how long the lists are is as page by page."""
    zone = zone_of(nr_frames)
    model = OneByOne(zone)
    mine: list[int] = []
    for what, cpu, mark, nr in calls:
        if what == "take":
            expected = 0
            while expected < nr and model.take(cpu, mark):
                expected += 1
            assert zone.obtainable(cpu, mark, nr) == expected
            if expected == 1:
                mine.append(zone.take_one(cpu, mark))
            elif expected:
                mine += zone.take(cpu, mark, expected).tolist()
            else:
                assert zone.take_one(cpu, mark) == -1
        else:
            back, mine = mine[:nr], mine[nr:]
            for _ in back:
                model.give(cpu)
            zone.give(cpu, np.array(back, np.int64))
        assert (zone.nr_free, [len(pages) for pages in zone.pcp]) == (model.free, [len(p) for p in model.lists])
        assert len(set(mine)) == len(mine)
        unused = zone.check(np.zeros(nr_frames, np.int32))
        assert int(unused.sum()) == zone.nr_free + zone.nr_listed == nr_frames - len(mine)
        assert not unused[mine].any()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([300, 1024, 20_000, 70_000]), steps)
def test_the_same_pages_in_bulk_as_one_by_one(nr_frames: int, calls: list[tuple[str, int, int, int]]) -> None:
    """Not as many only: the very pages, in the same order, and the lists stand as page by page they would."""
    bulk, single = zone_of(nr_frames), zone_of(nr_frames)
    mine: list[int] = []
    for what, cpu, mark, nr in calls:
        if what == "take":
            taken = bulk.take(cpu, mark, nr).tolist()
            assert taken == [single.take_one(cpu, mark) for _ in taken]
            mine += taken
        else:
            back, mine = mine[:nr], mine[nr:]
            bulk.give(cpu, np.array(back, np.int64))
            for pfn in back:
                single.give(cpu, np.array([pfn], np.int64))
        assert [list(pages) for pages in bulk.pcp] == [list(pages) for pages in single.pcp]
    assert bulk.buddy.alloc(bulk.nr_free).tolist() == single.buddy.alloc(single.nr_free).tolist()


def test_the_page_freed_last_is_taken_first() -> None:
    """The list's head is hot: the page a CPU has just freed is the next it gets; another CPU gets another."""
    zone = zone_of(70_000)
    pages = zone.take(0, 0, 100)
    zone.give(0, pages[:3])
    assert zone.take_one(1, 0) not in pages[:3]
    assert [zone.take_one(0, 0) for _ in range(3)] == pages[:3][::-1].tolist()


@pytest.mark.parametrize(
    ("present", "batch", "low", "high"),
    [
        (
            225_280,
            16,
            32,
            96,
        ),  # "b = min(present/1024, 64)/4 (>=1): NORMAL 896 MB -> 16", low 2b, high 6b (eras.md 4.3)
        (32_768, 8, 16, 48),
        (4096, 1, 2, 6),
    ],
)
def test_batches(present: int, batch: int, low: int, high: int) -> None:
    """free_area_init_core's sums; "up to 96 pages per CPU per zone invisible to free_pages" on hot lists."""
    zone = zone_of(present)
    assert (zone.batch, zone.low, zone.high) == (batch, low, high)


def test_borders() -> None:
    """DMA ends at 16 MiB, low memory where the split says; a zone without frames is none."""
    assert zone_borders(1024 * MIB, 896 << 20) == [
        ("DMA", 0, 16 * MIB),
        ("NORMAL", 16 * MIB, 896 * MIB),
        ("HIGHMEM", 896 * MIB, 1024 * MIB),
    ]
    assert [name for name, _, _ in zone_borders(896 * MIB, 896 << 20)] == ["DMA", "NORMAL"]
    assert zone_borders(MIB, 896 << 20) == [("DMA", 0, MIB)]


def allocator(ram_mib: int, *, lowmem_mib: int = 20, per_cpu: bool = True) -> PageAllocator:
    """DMA of 16 MiB, NORMAL of four, the rest HIGHMEM; 50 frames of image, 20 of mem_map."""
    layout = Layout(lowmem_mib << 20, image=50, mem_map=20, rule=WatermarkRule.SUMMED, per_cpu_lists=per_cpu)
    return PageAllocator(Ram(ram_mib * MIB), Frames(ram_mib * MIB), layout, Scheduler(RULES, 2))


def test_user_pages_go_high_first_and_kernel_pages_never() -> None:
    """HIGHMEM, then NORMAL, then DMA for a user; the kernel's own requests see low memory only."""
    box = allocator(24)
    borders = [zone.start for zone in box.zones]
    pages = box.alloc(box.obtainable(Gfp.HIGHUSER), Gfp.HIGHUSER)
    zones = np.searchsorted(borders, pages, side="right") - 1
    assert zones[0] == 2
    falls = np.flatnonzero(np.diff(zones) > 0)  # down the list with the low marks, then once more with the min marks
    assert falls.size <= 1
    assert zones[-1] == 0
    first_low = int(np.argmax(zones < 2))
    assert first_low >= 4 * MIB - 64 - 12 - 48  # all of HIGHMEM but its low mark and a CPU's list
    assert try_alloc(box, 1, Gfp.HIGHUSER) is None
    box.free(pages)
    low = box.alloc(box.obtainable(Gfp.KERNEL), Gfp.KERNEL)
    assert low.max() < 20 * MIB
    box.check()


@pytest.mark.parametrize("nr", [1, 7, 100])
@pytest.mark.parametrize("gfp", Gfp)
def test_batches_of_any_size_end_at_the_same_page(gfp: Gfp, nr: int) -> None:
    """Asked for in batches until one is refused, then one by one: nothing is left, and it is what obtainable() promised."""
    box = allocator(24)
    promised = box.obtainable(gfp)
    got = 0
    while try_alloc(box, nr, gfp) is not None:
        got += nr
    while try_alloc(box, 1, gfp) is not None:
        got += 1
    assert got == promised if nr == 1 else got <= promised  # a batch that is refused leaves pages on the CPU's list
    assert box.obtainable(gfp) == 0
    box.check()


def test_kswapd_is_woken_below_the_low_marks_and_the_first_time_is_kept() -> None:
    """No wake above them; each page beyond is one; a refusal is one."""
    box = allocator(24, per_cpu=False)
    above = sum(max(zone.nr_free - mark, 0) for zone, mark in box._passes[Gfp.HIGHUSER][0])
    box.alloc(above, Gfp.HIGHUSER)
    assert (box.kswapd_wakes, box.first_wake_ns) == (0, None)
    box._sched.now_ns = 5
    box.alloc(3, Gfp.HIGHUSER)
    box.alloc(1, Gfp.HIGHUSER)
    assert (box.kswapd_wakes, box.first_wake_ns) == (4, 5)
    left = box.obtainable(Gfp.HIGHUSER)
    assert try_alloc(box, left + 1, Gfp.HIGHUSER) is None
    assert box.kswapd_wakes == 5
    assert box.obtainable(Gfp.HIGHUSER) == left
    box.check()


def test_check_names_a_frame_on_two_lists() -> None:
    """A page on a CPU's list that is free as well, and a list that is too long."""
    for twice in (True, False):
        box = allocator(24)
        box.free(box.alloc(4, Gfp.HIGHUSER))
        box.check()
        pages = box.zones[2].pcp[0]
        pages.extend(pages[:1] if twice else range(10_000))
        with pytest.raises(KernelBug, match="per_cpu_pages"):
            box.check()
