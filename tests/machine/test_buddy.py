"""The buddy system against a model that knows only which frames are taken.

    frames   start  [ a a ] . [b] [ c  c  c  c ] . .  end
    model    taken  = {a: order 1, b: order 0, c: order 2}      free = all other frames

Buddies join whenever both are free, so a block of 2^k frames can be had exactly when some aligned window of 2^k frames is
free as a whole: that is all the model needs to know about lists and orders.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import Bools
from rmaplab.machine.buddy import MAX_ORDER, Buddy, FreeLists

zones = st.tuples(st.integers(0, 70), st.integers(1, 3000)).map(lambda z: (z[0], z[0] + z[1]))  # [start, end)
orders = st.one_of(st.integers(0, 3), st.integers(0, MAX_ORDER - 1))
Step = tuple[str, int, int]
allocs = st.tuples(st.just("alloc"), orders, st.integers(0, 60))
frees = st.tuples(st.just("free"), st.integers(0, 1 << 30), st.integers(1, 30))


def free_windows(free: Bools, order: int) -> int:
    """How many aligned windows of 2^order frames are free as a whole: counted one by one."""
    width = 1 << order
    return sum(bool(free[pfn : pfn + width].all()) for pfn in range(0, free.size - width + 1, width))


def frames_of(first: int, order: int) -> range:
    return range(first, first + (1 << order))


class Model:
    """The zone [start, end) and who has taken what of it."""

    def __init__(self, start: int, end: int) -> None:
        self.buddy = Buddy(FreeLists(end + 5), start, end)
        self.free = np.zeros(end + 5, np.bool_)
        self.free[start:end] = True
        self.taken: dict[int, int] = {}

    def alloc(self, order: int, nr: int) -> None:
        blocks = self.buddy.alloc(nr, order).tolist()
        assert len(blocks) <= nr
        for first in blocks:
            assert first % (1 << order) == 0
            assert self.free[frames_of(first, order)].all()
            self.free[frames_of(first, order)] = False
            self.taken[first] = order
        if len(blocks) < nr:
            assert free_windows(self.free, order) == 0

    def give_back(self, choice: int, nr: int) -> None:
        """Up to `nr` blocks of one order, beginning anywhere among those that are taken."""
        if not self.taken:
            return
        firsts = sorted(self.taken)
        order = self.taken[firsts[choice % len(firsts)]]
        same = [first for first in firsts if self.taken[first] == order]
        chosen = np.random.default_rng(choice).permutation(same)[:nr]
        self.buddy.free(chosen.astype(np.int64), order)
        for first in chosen.tolist():
            self.free[frames_of(first, order)] = True
            del self.taken[first]

    def agrees(self) -> None:
        assert self.buddy.nr_free == self.free.sum()
        np.testing.assert_array_equal(self.buddy.free_mask(), self.free)


@settings(max_examples=60, deadline=None)
@given(zones, st.lists(st.one_of(allocs, frees), max_size=30))
def test_a_frame_has_one_owner_and_free_memory_joins(zone: tuple[int, int], steps: list[Step]) -> None:
    """Blocks are aligned and disjoint, requests come up short only when no window is left, and all that is freed joins again."""
    model = Model(*zone)
    for kind, a, b in steps:
        if kind == "alloc":
            model.alloc(a, b)
        else:
            model.give_back(a, b)
        model.agrees()
    while model.taken:
        model.give_back(0, len(model.taken))
    model.agrees()
    for order in reversed(range(MAX_ORDER)):
        maximal = free_windows(model.free, order)
        fresh = model.buddy.alloc(maximal + 1, order)
        assert fresh.size == maximal
        model.buddy.free(fresh, order)


def test_low_frames_go_first_and_warm_ones_are_used_again() -> None:
    """A fresh zone is handed out from its lowest frame; a frame just freed is the next one taken (lists are LIFO)."""
    buddy = Buddy(FreeLists(64), 8, 64)
    assert buddy.alloc(10).tolist() == list(range(8, 18))
    buddy.free(np.array([11], np.int64))
    assert buddy.alloc(1).tolist() == [11]


def test_free_memory_joins_up_to_4_mib_and_no_further() -> None:
    """Frames freed one by one in any order become blocks of 2^10 frames again (MAX_ORDER 11), and those do not join."""
    buddy = Buddy(FreeLists(4096), 1000, 4096)
    frames = buddy.alloc(3096)
    buddy.free(np.random.default_rng(1).permutation(frames))
    assert sorted(buddy.alloc(5, MAX_ORDER - 1).tolist()) == [1024, 2048, 3072]
    assert sorted(buddy.alloc(30).tolist()) == list(range(1000, 1024))


def test_fragmented_memory_serves_small_requests_only() -> None:
    """Half of memory is free, yet no two frames of it are buddies: no block of order 1 can be had."""
    #   0   1   2   3   4   5   6   7
    #   .   x   .   x   .   x   .   x
    buddy = Buddy(FreeLists(8), 0, 8)
    taken = buddy.alloc(8)
    buddy.free(taken[taken % 2 == 0])
    assert buddy.alloc(1, order=1).size == 0
    assert buddy.nr_free == 4
    assert sorted(buddy.alloc(5).tolist()) == [0, 2, 4, 6]
    assert buddy.nr_free == 0


@pytest.mark.parametrize(
    "pfn",
    [
        *[0, 3, 12, 15],
        -1,
    ],
)
def test_a_frame_outside_the_zone_is_not_taken_back(pfn: int) -> None:
    """Frames that were never of this zone [4, 12) cannot be freed into it."""
    buddy = Buddy(FreeLists(16), 4, 12)
    buddy.alloc(8)
    with pytest.raises(KernelBug, match="free_pages"):
        buddy.free(np.array([pfn], np.int64))


def test_a_frame_is_freed_once() -> None:
    """Freeing a free frame is a bug that is noticed, across calls and within one."""
    buddy = Buddy(FreeLists(16), 0, 16)
    buddy.alloc(16)
    buddy.free(np.array([5], np.int64))
    with pytest.raises(KernelBug, match="free_pages"):
        buddy.free(np.array([5], np.int64))
    with pytest.raises(KernelBug, match="free_pages"):
        buddy.free(np.array([9, 9], np.int64))


def test_a_frame_inside_a_free_block_is_free() -> None:
    """Frames 4 and 5 have joined into one block; 5 is still free, and freeing it again is a bug."""
    #   4   5
    #   |   .   |    one free block of order 1, known by its first frame
    buddy = Buddy(FreeLists(16), 0, 16)
    buddy.alloc(16)
    buddy.free(np.array([4, 5], np.int64))
    with pytest.raises(KernelBug, match="free_pages"):
        buddy.free(np.array([5], np.int64))
