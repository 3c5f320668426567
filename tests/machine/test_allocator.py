"""alloc_pages: watermarks, reclaim, zeroing, injected failures.

free frames   |---------------------------------|------------------|-------------|
              all                            pages_min        pages_min / 4      0
KERNEL        ================================>|
ATOMIC        ====================================================>|
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug, NoMemory
from rmaplab.machine.allocator import Gfp, Layout, PageAllocator
from rmaplab.machine.frames import PG_ANON, PG_RESERVED, Frames
from rmaplab.machine.ram import Ram
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.watermarks import WatermarkRule, min_free_pages

from .tools import try_alloc

NR_FRAMES = 4096  # 16 MiB, for which history.md 2.6 says min_free_kbytes = 128
RESERVED = 100
MARK = 128 // 4
LAYOUT = Layout(1 << 40, image=RESERVED, mem_map=0, rule=WatermarkRule.SUMMED, per_cpu_lists=False)
RULES = SchedRules(100, 200, 1, 200, one_queue=False, child_first=True)


def box() -> PageAllocator:
    """One zone, no CPU lists."""
    return PageAllocator(Ram(NR_FRAMES), Frames(NR_FRAMES), LAYOUT, Scheduler(RULES, 2))


@pytest.mark.parametrize(
    ("ram_mib", "min_free_kbytes"),
    [
        # the comment above init_per_zone_pages_min, 2.6.2 mm/page_alloc.c (history.md 2.6)
        *[(16, 128), (32, 181), (64, 256), (128, 362), (256, 512), (512, 724), (1024, 1024), (2048, 1448)],
        *[(4096, 2048), (8192, 2896), (16384, 4096)],
        (896, 957),  # lowmem of a 1 GB box: 239 pages (history.md 2.6)
        *[(4, 128), (1 << 20, 16384)],  # clamped to [128, 16384]
    ],
)
def test_the_mark_is_that_of_2_6_2(ram_mib: int, min_free_kbytes: int) -> None:
    """pages_min is min_free_kbytes in whole pages."""
    assert min_free_pages(ram_mib * 256) == min_free_kbytes // 4


def test_who_may_sleep_stops_at_the_mark_and_who_may_not_at_a_quarter() -> None:
    """GFP_KERNEL and GFP_HIGHUSER leave pages_min frames free, GFP_ATOMIC a quarter of them."""
    allocator = box()
    assert allocator.nr_free == NR_FRAMES - RESERVED
    assert try_alloc(allocator, NR_FRAMES - RESERVED - MARK + 1, Gfp.KERNEL) is None
    assert allocator.nr_free == NR_FRAMES - RESERVED
    allocator.alloc(NR_FRAMES - RESERVED - MARK, Gfp.KERNEL)
    assert allocator.nr_free == MARK
    for gfp in (Gfp.KERNEL, Gfp.HIGHUSER):
        assert try_alloc(allocator, 1, gfp) is None
        with pytest.raises(NoMemory):
            allocator.alloc(1, gfp)
    granted = 0
    while try_alloc(allocator, 1, Gfp.ATOMIC) is not None:
        granted += 1
    assert granted == MARK - MARK // 4
    assert allocator.nr_free == MARK // 4
    allocator.check()


@pytest.mark.parametrize("order", range(4))
def test_the_mark_counts_frames_not_blocks(order: int) -> None:
    """A block of 2^k frames is refused when it would take the zone below the mark, however many blocks there are."""
    allocator = box()
    while try_alloc(allocator, 1, Gfp.KERNEL, order=order) is not None:
        pass
    assert MARK <= allocator.nr_free < MARK + (1 << order)


def test_a_request_that_memory_in_pieces_cannot_meet_changes_nothing() -> None:
    """Every other frame is free: much memory, no block of two. try_alloc gives None and back what it had found."""
    allocator = box()
    frames = allocator.alloc(NR_FRAMES - RESERVED - MARK, Gfp.KERNEL)
    allocator.free(frames[frames % 2 == 0])
    free = allocator.nr_free
    assert free > 1900
    assert try_alloc(allocator, 100, Gfp.KERNEL, order=1) is None
    assert allocator.nr_free == free
    with pytest.raises(NoMemory):
        allocator.alloc(100, Gfp.KERNEL, order=1)
    assert allocator.nr_free == free
    allocator.check()


def test_reclaim_is_asked_until_the_request_can_be_met() -> None:
    """Below the mark a request that may sleep calls the hook with its size, as often as it takes; one that may not never does."""
    allocator = box()
    hoard = allocator.alloc(NR_FRAMES - RESERVED - MARK, Gfp.HIGHUSER).tolist()
    asked: list[tuple[int, int]] = []

    def shrink_one_page(nr: int, order: int) -> None:
        asked.append((nr, order))
        allocator.free(np.array([hoard.pop()], np.int64))

    allocator.reclaim = shrink_one_page
    assert try_alloc(allocator, 1, Gfp.KERNEL) is None
    assert not asked
    got = allocator.alloc(3, Gfp.KERNEL)
    assert got.size == 3
    assert asked == [(3, 0)] * 3
    assert allocator.nr_free == MARK
    assert not set(got.tolist()) & set(hoard)
    allocator.check()


def test_reserved_frames_stay_with_the_kernel() -> None:
    """What the kernel took at boot is marked, referenced, and never handed out."""
    allocator = box()
    frames = allocator.frames
    assert (frames.flags[:RESERVED] & PG_RESERVED).all()
    assert (frames.count[:RESERVED] > 0).all()
    assert not frames.flags[RESERVED:].any()
    assert allocator.alloc(NR_FRAMES - RESERVED - MARK, Gfp.KERNEL).min() >= RESERVED


def test_a_frame_is_referenced_once_when_it_comes_and_not_at_all_when_it_has_gone() -> None:
    """page->count of a block's first frame is 1; freeing clears count and flags."""
    allocator = box()
    blocks = allocator.alloc(5, Gfp.KERNEL, order=2)
    assert allocator.frames.count[blocks].tolist() == [1] * 5
    assert allocator.frames.count[RESERVED:].sum() == 5
    allocator.frames.flags[blocks] = PG_ANON
    allocator.frames.count[blocks] = 3
    allocator.free(blocks, order=2)
    assert not allocator.frames.count[RESERVED:].any()
    assert not allocator.frames.flags[RESERVED:].any()
    allocator.check()


@pytest.mark.parametrize("order", [0, 3])
def test_zeroed_clears_what_was_scribbled_and_only_that(order: int) -> None:
    """A zeroed block has no old bytes in it. A frame that nobody marked as written is not even looked at."""
    allocator = box()
    ram, scribbled = allocator.ram.bytes, allocator.frames.scribbled
    ram[RESERVED:, 0] = 0xAA
    scribbled[RESERVED::2] = 1
    blocks = allocator.alloc(64, Gfp.KERNEL, order=order, zeroed=True)
    taken = (blocks[:, None] + np.arange(1 << order)).ravel()
    was_marked = taken % 2 == RESERVED % 2
    assert not ram[taken[was_marked]].any()
    assert not scribbled[taken].any()
    assert (ram[taken[~was_marked], 0] == 0xAA).all()
    others = np.setdiff1d(np.arange(RESERVED, NR_FRAMES), taken)
    assert (ram[others, 0] == 0xAA).all()
    plain = allocator.alloc(8, Gfp.KERNEL, order=order)
    assert (ram[plain, 0] == 0xAA).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(0, 40), st.booleans())
def test_an_injected_failure_hits_the_nth_object_and_no_other(sizes: list[int], nth: int, may_sleep: bool) -> None:
    """With n requests granted, the request that holds the next one fails as a whole, reclaim unasked; all others are met."""
    allocator = box()
    allocator.fail_after = nth
    numbers = np.cumsum([0, *sizes]).tolist()
    holds_it = [first <= nth < last for first, last in pairwise(numbers)]
    for size, fails in zip(sizes, holds_it, strict=True):
        free = allocator.nr_free
        if not may_sleep:
            assert (try_alloc(allocator, size, Gfp.KERNEL) is None) == fails
        elif fails:
            with pytest.raises(NoMemory):
                allocator.alloc(size, Gfp.KERNEL)
        else:
            allocator.alloc(size, Gfp.KERNEL)
        assert allocator.nr_free == free - (0 if fails else size)


def test_check_finds_a_reference_to_a_free_frame() -> None:
    """A free frame with a reference, and a count below zero, are impossible and named."""
    allocator = box()
    allocator.check()
    allocator.frames.count[NR_FRAMES - 1] = 1
    with pytest.raises(KernelBug, match="referenced"):
        allocator.check()
    allocator.frames.count[NR_FRAMES - 1] = 0
    taken = int(allocator.alloc(1, Gfp.KERNEL)[0])
    allocator.frames.count[taken] = -1
    with pytest.raises(KernelBug, match="negative"):
        allocator.check()


def test_one_page_at_once_is_the_page_that_alloc_would_give() -> None:
    """Zeroed, with a reference; and -1, with nothing done, at the mark and where each request is to be seen."""
    one, other = box(), box()
    assert [one.take_at_once(Gfp.HIGHUSER) for _ in range(50)] == [
        int(other.alloc(1, Gfp.HIGHUSER, zeroed=True)[0]) for _ in range(50)
    ]
    pfn = one.take_at_once(Gfp.HIGHUSER)
    assert one.frames.count[pfn] == 1
    one.ram.bytes[pfn], one.frames.scribbled[pfn] = 7, 1
    one.free(np.array([pfn]))
    again = one.take_at_once(Gfp.HIGHUSER)
    assert again == pfn
    assert not one.ram.bytes[again].any()
    one.alloc(one.nr_free - one.marks.zones[0].low, Gfp.HIGHUSER)
    free = one.nr_free
    assert one.take_at_once(Gfp.HIGHUSER) == -1
    for seen in ("fail_after", "might_sleep"):
        allocator = box()
        setattr(allocator, seen, {"fail_after": 99, "might_sleep": lambda: None}[seen])
        assert allocator.take_at_once(Gfp.HIGHUSER) == -1
        assert allocator.nr_free == NR_FRAMES - RESERVED
    assert one.nr_free == free


@settings(max_examples=30, deadline=None)
@given(
    per_cpu=st.booleans(),
    taken=st.integers(0, 40),
    listed=st.integers(0, 20),
    parts=st.lists(st.integers(1, 7), min_size=1, max_size=30),
    flag=st.sampled_from(("memalloc", "memdie")),
    gfp=st.sampled_from(Gfp),
)
def test_who_makes_room_or_dies_for_it_has_every_page_that_is_left(
    per_cpu: bool, taken: int, listed: int, parts: list[int], flag: str, gfp: Gfp
) -> None:
    """PF_MEMALLOC, PF_MEMDIE: no page is left that such a task could not have, those on its CPU's list included; then NULL, and nobody reclaims for it.

    free   |------------------------- min --------|...............|   others end at the mark, it at the end
    """
    layout = Layout(1 << 40, image=RESERVED, mem_map=0, rule=WatermarkRule.SUMMED, per_cpu_lists=per_cpu)
    allocator = PageAllocator(Ram(NR_FRAMES), Frames(NR_FRAMES), layout, sched := Scheduler(RULES, 1))
    given_back = allocator.alloc(NR_FRAMES - RESERVED - MARK - taken, Gfp.KERNEL)[:listed]
    allocator.frames.count[given_back] = 0
    allocator.free(given_back)
    slept: list[int] = []
    allocator.reclaim = lambda nr, _: slept.append(nr)
    left = allocator.nr_unused
    sched.current = SchedEntity()
    setattr(sched.current, flag, True)
    for nr in parts:
        if nr > left:
            with pytest.raises(NoMemory, match="not one below the min marks"):
                allocator.alloc(nr, gfp)
        else:
            assert allocator.alloc(nr, gfp).size == nr
            left -= nr
        assert allocator.nr_unused == left
    for _ in range(left):
        allocator.alloc(1, gfp)
    with pytest.raises(NoMemory):
        allocator.alloc(1, gfp)
    assert (allocator.nr_unused, slept) == (0, [])
    sched.current = None
    allocator.check()
