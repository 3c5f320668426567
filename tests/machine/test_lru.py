"""The lists of pages beside plain Python lists: whatever is added, taken, freed or rotated, they have the same pages in the same order.

zone 0: frames 0 to 99     zone 1: frames 100 to 999
"""

import random
from collections import defaultdict

import numpy as np
import pytest

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_ACTIVE, PG_LRU, PG_WRITEBACK, Frames
from rmaplab.machine.lru import LruLists, nr_gone

ENDS = [100, 1000]
NOT_THERE = ~np.uint32(PG_LRU | PG_ACTIVE)


class Plain:
    """The same as lists of PFNs, tail first."""

    def __init__(self, *, joined: bool) -> None:
        self.lists: dict[tuple[int, bool], list[int]] = defaultdict(list)
        self.joined = joined

    def zone(self, pfn: int) -> int:
        return 0 if self.joined else int(pfn >= ENDS[0])

    def add(self, pfns: list[int], *, active: bool) -> None:
        for pfn in pfns:
            self.lists[self.zone(pfn), active].append(pfn)

    def rotate(self, pfns: list[int]) -> None:
        for pfn in pfns:
            self.lists[self.zone(pfn), False].remove(pfn)
            self.lists[self.zone(pfn), False].insert(0, pfn)

    def remove(self, pfns: list[int]) -> None:
        for pfn in pfns:
            for pages in self.lists.values():
                if pfn in pages:
                    pages.remove(pfn)

    def on(self, *, active: bool) -> list[int]:
        return self.lists[0, active] + self.lists[1, active]


def array(pfns: list[int]) -> I64:
    return np.array(pfns, np.int64)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_as_plain_lists_whatever_is_done(seed: int, joined: bool) -> None:
    """Joined, there is one pair of lists for both zones, and a zone's count is of its pages on that."""
    rng, frames, plain = random.Random(seed), Frames(1000), Plain(joined=joined)
    lists = LruLists(frames, ENDS, joined=joined)
    for _ in range(400):
        off = [pfn for pfn in range(1, 1000) if not frames.flags[pfn] & PG_LRU]
        what = rng.choice(("add", "add", "one", "take", "free", "rotate", "activate", "activate one"))
        active = rng.random() < 0.5
        if what == "add":
            some = rng.sample(off, min(len(off), rng.choice((1, 16, 90))))
            lists.add(array(some), active=active)
            plain.add(some, active=active)
        elif what == "one" and off:
            pfn = rng.choice(off)
            lists.add_one(pfn, active=active)
            plain.add([pfn], active=active)
        elif what == "take":
            zone, most = rng.randrange(1 if joined else 2), rng.choice((1, 32, 500))
            taken = lists.take(zone, most, active=active).tolist()
            assert taken == plain.lists[zone, active][:most]
            del plain.lists[zone, active][:most]
        elif what == "free":  # as the allocator does: counted, and then there are no flags any more
            pages = plain.on(active=active)
            some = rng.sample(pages, min(len(pages), 40))
            nr_gone(frames.flags, array(some), lists.ends, lists.nr)
            frames.flags[some] &= NOT_THERE
            plain.remove(some)
        elif what == "rotate":
            some = rng.sample(plain.on(active=False), min(len(plain.on(active=False)), 9))
            lists.rotate(array(some))
            plain.rotate(some)
        elif what == "activate one" and plain.on(active=False):
            pfn = rng.choice(plain.on(active=False))
            lists.activate_one(pfn)
            plain.remove([pfn])
            plain.add([pfn], active=True)
        else:
            some = rng.sample(plain.on(active=active), min(len(plain.on(active=active)), 9))
            lists.activate(array(some))
            if not active:
                plain.remove(some)
                plain.add(some, active=True)
        lists.check()
    for active in (False, True):
        for zone in range(1 if joined else 2):
            assert lists.pages(zone, active=active).tolist() == plain.lists[zone, active]
        low = sum(pfn < ENDS[0] for pfn in plain.on(active=active))
        assert lists.nr[:, int(active)].tolist() == [low, len(plain.on(active=active)) - low]


def test_a_page_that_is_freed_and_comes_again_is_not_met_at_its_old_place() -> None:
    """Tail [5 6] -> 5 is freed, allocated and added again -> tail [6 5]; what it left behind is stale."""
    frames = Frames(100)
    lists = LruLists(frames, [100])
    lists.add(array([5, 6]), active=True)
    nr_gone(frames.flags, array([5]), lists.ends, lists.nr)
    frames.flags[5] = 0
    assert lists.pages(0, active=True).tolist() == [6]
    lists.add(array([5]), active=True)
    assert lists.take(0, 9, active=True).tolist() == [6, 5]


def test_a_run_of_pages_with_a_flag_ends_with_the_first_that_has_none() -> None:
    """Tail [5 7 8 9], and 6 has gone from behind 5: 5, 7 and 8 are under way."""
    frames = Frames(100)
    lists = LruLists(frames, [100])
    lists.add(array([5, 6, 7, 8, 9]), active=False)
    lists.remove(array([6]))
    frames.flags[[5, 7, 8]] |= np.uint32(PG_WRITEBACK)
    assert [lists.run_of(0, PG_WRITEBACK, most, active=False) for most in (0, 2, 9)] == [0, 2, 3]
    assert lists.run_of(0, PG_LRU, 9, active=False) == 4
    assert lists.run_of(0, PG_WRITEBACK, 9, active=True) == 0


def test_check_recounts() -> None:
    """A count that is wrong, a flag without a place, a place on the other list."""
    frames = Frames(100)
    lists = LruLists(frames, [100])
    lists.add(array([5, 6]), active=False)
    lists.nr[0, 0] += 1
    with pytest.raises(KernelBug, match="3 are counted"):
        lists.check()
    lists.nr[0, 0] -= 1
    frames.flags[7] |= np.uint32(PG_LRU)
    with pytest.raises(KernelBug, match="3 pages say that they are on a list, 2 are"):
        lists.check()
    frames.flags[7] = 0
    frames.flags[6] |= np.uint32(PG_ACTIVE)
    with pytest.raises(KernelBug, match="1 wrong"):
        lists.check()
