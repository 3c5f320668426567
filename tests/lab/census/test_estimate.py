"""Estimates from a sample beside the full value, over 200 seeds, on graphs whose pages are known: also where the pages that matter are rare."""

from typing import NamedTuple

import numpy as np
import pytest

from rmaplab.host.draw import Drawn, Sample, draw, measure
from rmaplab.host.sample import Looked, take
from rmaplab.host.windows import WindowEntries, Windows, cut
from rmaplab.lab.census.estimate import Estimator
from rmaplab.machine.arrays import I64
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, AnonVmas, Chains, Files, Graph, Pages, Processes, Vmas

NR_PAGES, FIRST, SEEDS = 20, 0x100, 200


class World(NamedTuple):
    """A graph, and its pages: by row (mm, place) of an entry, the page it shows; by page, anon_vma, index, mapcount. A Reader."""

    graph: Graph
    mm: I64
    place: I64
    pfn: I64
    anon_vma: I64
    pgoff: I64
    mapcount: I64

    def windows(self, vmas: I64) -> Windows:
        return cut(self.graph, vmas, np.zeros(self.graph.nr_mms, np.int64))

    def entries(self, windows: Windows) -> WindowEntries:
        order = np.argsort(windows.mm, kind="stable")
        at = np.searchsorted(windows.mm[order], self.mm).clip(max=len(order) - 1)
        there = np.flatnonzero(windows.mm[order][at] == self.mm)
        return WindowEntries(order[at[there]], self.pfn[there])

    def look(self, pfns: I64) -> Looked:
        ones = np.ones(len(pfns), np.int64)
        return Looked(self.anon_vma[pfns], self.pgoff[pfns], self.mapcount[pfns], pfns, ones)

    def sample(self, limit: int | None, seed: int) -> tuple[Pages, Sample, Drawn]:
        return take(self.graph, np.arange(len(self.graph.vmas.mm)), self, limit=limit, seed=seed)


def family(children: int, owners: list[tuple[int, int, int, int]]) -> World:
    """A parent (mm 0, anon_vma 0) and its children (i, anon_vma i), a VMA of NR_PAGES each.

    `owners` say (anon_vma, index, first mm, behind the last) of each page: who has it.
    """
    nr = children + 1
    mms, none = np.arange(nr), np.zeros(nr, np.int64)
    vma = np.concatenate([mms, mms[1:]])
    order = np.argsort(vma, kind="stable")
    graph = Graph(
        Processes(mms + 10, none + 10, np.full(nr, b"p", "S16"), none, mms),
        Vmas(mms, none + (FIRST << 12), none + (FIRST + NR_PAGES << 12), none + FIRST, none + 3, mms, none + NONE),
        AnonVmas(none, none, none, none + 1, none),
        Chains(vma[order], np.concatenate([mms, none[1:]])[order]),
        Files(none[:0], none[:0]),
    )
    anon_vma, index, first, behind = np.array(owners, np.int64).T
    many = behind - first
    pfn = np.repeat(np.arange(len(many)), many)
    mm = first[pfn] + np.arange(len(pfn)) - np.repeat(np.cumsum(many) - many, many)
    return World(graph, mm, index[pfn], pfn, anon_vma, FIRST + index, many)


def parent_wrote(children: int, written: int) -> World:
    """Issue 13's: of 20 pages the parent has written some again, after the forks; all children share what it had."""
    kept = [(0, i, 1 if i < written else 0, children + 1) for i in range(NR_PAGES)]
    return family(children, kept + [(0, i, 0, 1) for i in range(written)])


def some_children_kept(children: int, keepers: int) -> World:
    """Every child has written five pages, but for a few: each of these is the last to have five pages of the parent's past."""
    step = children // keepers
    places = range(1, children + 1)
    return family(children, [(0 if m % step == 0 else m, i, m, m + 1) for m in places for i in range(5)])


def mixed(children: int) -> World:
    """Pages of all kinds: shared by few and by many."""
    rng = np.random.default_rng(5)
    owners = []
    for i in range(NR_PAGES):
        at = 0
        while at <= children:
            n = min(int(rng.choice([1, 1, 1, 3, 40, 400])), children + 1 - at)
            owners.append((0 if n > 1 or rng.random() < 0.1 else at, i, at, at + n))
            at += n
    return family(children, owners)


def over(world: World, pages: Pages, sample: Sample, drawn: Drawn) -> tuple[Estimator, I64]:
    everybody, rows = np.ones(world.graph.nr_mms, np.bool_), np.ones(len(pages.pfn), np.bool_)
    return Estimator(pages, sample, drawn, everybody, rows), candidates_of(pages, world.graph.stretches)


WORLDS = {
    "the parent wrote": lambda: parent_wrote(1000, 2),
    "one child kept": lambda: some_children_kept(1000, 1),
    "five children kept": lambda: some_children_kept(1000, 5),
    "fifty children kept": lambda: some_children_kept(1000, 50),
    "mixed": lambda: mixed(1000),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_intervals_hold_the_full_value(name: str) -> None:
    """Of the share of visits in vain, of the number of pages, and of what half and most of the pages cost: in 180 of 200 draws at least."""
    world = WORLDS[name]()
    full, visits = over(world, *world.sample(None, 0))
    assert full.complete
    vain, pages = full.in_vain(visits, full.pages.mapcount, full.once), full.total(full.once)
    spread = full.quantiles(visits, full.once, None)
    assert vain is not None
    assert spread is not None
    assert vain.exact
    assert pages.value == pytest.approx(len(world.mapcount))
    held = {"vain": 0, "pages": 0, "p50": 0, "p99": 0, "max": 0}
    for seed in range(SEEDS):
        some, visits = over(world, *world.sample(200, seed))
        found, number = some.in_vain(visits, some.pages.mapcount, some.once), some.total(some.once)
        assert found is not None
        assert found.low <= found.value <= found.high
        held["vain"] += found.low <= vain.value <= found.high
        held["pages"] += number.low <= pages.value <= number.high
        top = int(some.sample.left_cover.max())
        quantiles = some.quantiles(visits, some.once, top)
        assert quantiles is not None
        assert quantiles.low is not None
        assert quantiles.high is not None
        for i, which in enumerate(("p50", "p99", "max")):
            low, high = quantiles.low[i], quantiles.high[i]
            held[which] += high is not None and low <= getattr(spread, which) <= high
    assert min(held.values()) >= 0.9 * SEEDS, held


def test_what_a_parent_wrote_is_never_missed() -> None:
    """It is one window of a thousand; on it hang all of them: each draw reads it, and the estimate is right each time."""
    world = parent_wrote(1000, 2)
    for seed in range(20):
        some, visits = over(world, *world.sample(100, seed))
        found = some.in_vain(visits, some.pages.mapcount, some.once)
        assert found is not None
        assert found.value == pytest.approx(1 - 20 * 1001 / (20 * 1001 + 2 * 1000), rel=0.02)


def test_zero_seen_has_an_upper_bound() -> None:
    """Nobody who was drawn keeps an old page; the bound leaves room for the few who do."""
    world = some_children_kept(1000, 1)
    for seed in range(20):
        some, visits = over(world, *world.sample(100, seed))
        found = some.in_vain(visits, some.pages.mapcount, some.once)
        assert found is not None
        if found.value == 0:
            assert found.high > 0.2
            return
    pytest.fail("each of 20 draws of a tenth has met the one in a thousand")


def test_more_windows_leave_less_open() -> None:
    """The interval shrinks, to nothing where all is read."""
    world = mixed(500)
    widths = []
    for limit in (50, 200, 450, 501):
        some, visits = over(world, *world.sample(limit, 1))
        found = some.in_vain(visits, some.pages.mapcount, some.once)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == 0 < widths[0]


def test_a_draw_is_unbiased_and_the_same_for_the_same_seed() -> None:
    """Each window stands for as many as there are for one drawn: on average for all; and a family that is large is always met."""
    rng = np.random.default_rng(2)
    pages, families = rng.integers(1, 513, 3000), np.repeat([0, 1, 2], [2900, 60, 40])
    graph = measure(parent_wrote(3, 1).graph, np.zeros(3000, np.int64), pages)
    found = graph._replace(family=families, cover=np.where(families == 1, 500, 1), own_cover=np.ones(3000, np.int64))
    sums = []
    for seed in range(100):
        chosen = draw(found, 300, np.random.default_rng(seed))
        again = draw(found, 300, np.random.default_rng(seed))
        assert (chosen.windows == again.windows).all()
        sums.append((chosen.stands_for * pages[chosen.windows]).sum())
        assert {0, 1} <= set(families[chosen.windows].tolist())
    assert np.mean(sums) == pytest.approx(pages.sum(), rel=0.01)
    assert len(draw(found, 300, np.random.default_rng(1)).windows) <= 300


def test_pages_on_their_way_are_read_again() -> None:
    """A page that seems mapped more often than VMAs cover it is looked at again; if it stays so, it is kept as it is: nothing is clamped."""
    world, looks = parent_wrote(10, 2), []

    class Moving(NamedTuple):
        times: int

        def windows(self, vmas: I64) -> Windows:
            return world.windows(vmas)

        def entries(self, windows: Windows) -> WindowEntries:
            looks.append(len(windows.mm))
            return world.entries(windows)

        def look(self, pfns: I64) -> Looked:
            looked = world.look(pfns)
            if len(looks) <= self.times:
                looked.mapcount[pfns == len(world.mapcount) - 1] = 99
            return looked

    whole, _, _ = take(world.graph, np.arange(11), Moving(1), limit=None, seed=0)
    assert looks == [11, 1]
    assert whole.mapcount.max() == 11
    looks.clear()
    torn, _, _ = take(world.graph, np.arange(11), Moving(99), limit=None, seed=0)
    assert looks == [11, 1, 1, 1]
    assert torn.mapcount.max() == 99
