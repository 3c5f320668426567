"""The compiled loops through 2.4's lists beside the same on plain Python lists, and what becomes of each kind of page.

zone 0: frames 0 to 99     zone 1: frames 100 to 299
active    tail [a b ...] head        inactive  tail [p q ...] head
"""

import random

import numpy as np
import pytest

from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import (
    BH_DIRTY,
    BH_WAIT_IO,
    PG_ACTIVE,
    PG_ANON,
    PG_DIRTY,
    PG_LAUNDER,
    PG_LOCKED,
    PG_LRU,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
    Frames,
)
from rmaplab.machine.lru import LruLists
from rmaplab.reclaim.one_list import WRITES, Budget, OneList, Scanned, Stop

ENDS = [100, 300]
MANY = 10_000


class Stage:
    """Both lists, of frames that have one reference each."""

    def __init__(self, inactive: list[int], active: list[int]) -> None:
        self.frames = Frames(ENDS[-1])
        self.lists = LruLists(self.frames, ENDS, joined=True)
        self.frames.count[:] = 1
        self.lists.add(np.array(inactive, np.int64), active=False)
        self.lists.add(np.array(active, np.int64), active=True)
        self.one = OneList(self.lists, self.frames)

    def flag(self, pfn: int, flags: int) -> None:
        self.frames.flags[pfn] |= np.uint32(flags)

    def on(self, *, active: bool) -> list[int]:
        pages: I64 = self.lists.pages(0, active=active)
        return list(map(int, pages))

    def scan(self, *, max_scan: int = MANY, max_mapped: int = MANY, wanted: int = MANY, classzone: int = 1) -> Scanned:
        scanned = self.one.scan(Budget(max_scan, max_mapped, wanted), classzone)
        self.lists.check()
        return scanned


def plain_refill(stage: Stage, nr: int) -> tuple[list[int], list[int]]:
    """(Inactive, active) after refill_inactive, by lists of Python."""
    inactive, active = stage.on(active=False), stage.on(active=True)
    referenced = {pfn for pfn in active if stage.frames.flags[pfn] & PG_REFERENCED}
    while nr and active:
        pfn = active.pop(0)
        if pfn in referenced:
            referenced.discard(pfn)
            active.append(pfn)
        else:
            inactive.append(pfn)
            nr -= 1
    return inactive, active


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nr", [0, 1, 40, 150, MANY])
def test_refill_as_plain_lists(seed: int, nr: int) -> None:
    """Referenced ones go round once; whoever becomes inactive is referenced. Both zones, whatever the class."""
    rng = random.Random(seed)
    pages = rng.sample(range(1, ENDS[-1]), 280)
    stage = Stage(pages[:90], pages[90:])
    for pfn in rng.sample(pages, 120):
        stage.flag(pfn, PG_REFERENCED)
    inactive, active = plain_refill(stage, nr)
    assert stage.one.refill(nr)[0] == min(nr, 190)
    stage.lists.check()
    assert (stage.on(active=False), stage.on(active=True)) == (inactive, active)
    assert all(stage.frames.flags[pfn] & PG_REFERENCED for pfn in inactive[90:])
    assert not any(stage.frames.flags[pfn] & PG_ACTIVE for pfn in inactive)


def test_rows_run_full_and_are_made_anew() -> None:
    """Each turn of the list uses a place a page: many more than a new row has."""
    stage, places = Stage(list(range(1, 280)), []), 3000
    stage.frames.count[:] = 2
    scanned, why = 0, Stop.PAUSE
    while scanned < places:
        budget = Budget(places - scanned, MANY, 32)
        why = stage.one.scan(budget, 1).why
        scanned = places - budget.max_scan
    assert why in (Stop.END, Stop.PAUSE)
    turned = places % 279
    assert stage.on(active=False) == [*range(1 + turned, 280), *range(1, 1 + turned)]
    stage.lists.check()


def test_each_kind_of_page_has_its_own_end() -> None:
    """From the tail: mapped, alone, being read, dirty, clean, out of class, free, clean. All but the two that are free are at the head, in order."""
    mapped, alone, being_read, dirty, clean, out_of_class, unreferenced, last = 1, 2, 3, 4, 5, 200, 7, 8
    pages = [mapped, alone, being_read, dirty, clean, out_of_class, unreferenced, last]
    stage = Stage(pages, [])
    for pfn in (mapped, being_read, dirty, clean, out_of_class, last):
        stage.flag(pfn, PG_SWAPCACHE)
    stage.frames.count[mapped], stage.frames.count[unreferenced] = 2, 0
    stage.flag(being_read, PG_LOCKED)
    stage.flag(dirty, PG_DIRTY)
    budget = Budget(6, 2, 9)
    scanned = stage.one.scan(budget, 0)
    assert (scanned.why, scanned.writes.tolist(), scanned.frees.tolist()) == (Stop.END, [dirty], [clean, last])
    assert (budget.max_scan, budget.max_mapped, budget.wanted) == (0, 0, 7)
    assert stage.on(active=False) == [pfn for pfn in pages if pfn not in (clean, last)]
    state = PG_LRU | PG_SWAPCACHE | PG_LOCKED | PG_LAUNDER
    assert stage.frames.flags[dirty] == state, "clean, and on its way"
    stage.lists.check()


def test_pages_of_files_and_their_buffers() -> None:
    """From the tail: mapped; anonymous, with an owner; clean; dirty; buffers dirty for the first, for the second time; both dirty; dirty buffers of a mapped page. Then locked buffers, which are waited for."""
    mapped, anon, clean, dirty, once, twice, both, shown, busy = pages = list(range(10, 19))
    stage = Stage(pages, [])
    stage.frames.mapping[pages] = 1 << 12
    stage.flag(anon, PG_ANON)
    stage.frames.count[mapped] = stage.frames.count[shown] = 2
    for pfn, flags in (
        (dirty, PG_DIRTY),
        (once, BH_DIRTY),
        (twice, BH_DIRTY | BH_WAIT_IO),
        (both, BH_DIRTY | PG_DIRTY),
    ):
        stage.flag(pfn, flags)
    stage.flag(shown, BH_DIRTY | BH_WAIT_IO)
    stage.flag(busy, PG_WRITEBACK | BH_WAIT_IO)
    budget = Budget(MANY, MANY, MANY)
    scanned = stage.one.scan(budget, 1)
    assert (scanned.why, scanned.page) == (Stop.BUFFERS, busy)
    assert scanned.writes.tolist() == [dirty, twice, both, shown]
    assert scanned.frees.tolist() == [clean]
    assert budget.max_mapped == MANY - 2
    seen = {pfn: int(stage.frames.flags[pfn]) & ~(PG_LRU | PG_ANON) for pfn in pages}
    under_way, locked = PG_WRITEBACK | BH_WAIT_IO, PG_LOCKED | PG_LAUNDER
    assert seen == {
        mapped: 0, anon: 0, clean: 0, dirty: locked, once: BH_DIRTY | BH_WAIT_IO, twice: under_way,
        both: locked | BH_DIRTY, shown: under_way, busy: under_way,
    }  # fmt: skip
    stage.lists.check()


@pytest.mark.parametrize(
    ("flags", "budget", "why"),
    [
        (PG_SWAPCACHE | PG_LOCKED | PG_LAUNDER, {}, Stop.LAUNDER),
        (0, {"max_mapped": 2}, Stop.MAPPED),
        (PG_SWAPCACHE, {"wanted": 3}, Stop.ENOUGH),
        (PG_SWAPCACHE, {}, Stop.END),
        (0, {"max_scan": 3}, Stop.END),
    ],
)
def test_why_it_stops(flags: int, budget: dict[str, int], why: Stop) -> None:
    """Ten pages alike: at the first that is under way, at the third that is mapped, with the third that is free, when all have gone, when three were looked at."""
    stage = Stage(list(range(10, 20)), [])
    for pfn in range(10, 20):
        stage.flag(pfn, flags)
    scanned = stage.scan(**budget)
    assert scanned.why is why
    assert scanned.page == (10 if why is Stop.LAUNDER else 0)
    looked_at = {Stop.LAUNDER: 1}.get(why, 10 if why is Stop.END and flags else 3)
    left = [] if flags == PG_SWAPCACHE else list(range(10, 10 + looked_at))
    assert stage.on(active=False) == [*range(10 + looked_at, 20), *left]


def test_writes_go_off_in_batches_and_are_not_met_twice() -> None:
    """40 dirty pages: after 32 there is a pause; then the rest; the next that is met is the first, under way."""
    stage = Stage(list(range(10, 50)), [])
    for pfn in range(10, 50):
        stage.flag(pfn, PG_SWAPCACHE | PG_DIRTY)
    first, second = stage.scan(), stage.scan()
    assert (first.why, first.writes.tolist()) == (Stop.PAUSE, list(range(10, 10 + WRITES)))
    assert (second.why, second.page, second.writes.tolist()) == (Stop.LAUNDER, 10, list(range(10 + WRITES, 50)))


def test_a_class_is_its_zones_and_all_below() -> None:
    stage = Stage([1, 2, 150], [3, 160, 170])
    assert [stage.one.nr(classzone) for classzone in (0, 1)] == [(2, 1), (3, 3)]


def test_who_has_left_is_passed_over() -> None:
    stage = Stage([10, 11, 12], [])
    for pfn in (10, 11, 12):
        stage.flag(pfn, PG_SWAPCACHE)
    stage.lists.remove(np.array([11], np.int64))
    assert stage.scan().frees.tolist() == [10, 12]
