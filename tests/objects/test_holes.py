"""Holes beside a plain set of pages: which are covered, and which stretch without one is long enough.

    pages    0    4    8    12   16   20 ...
             .    [====)    .    [=========)    .        holes: [0, 4), [8, 12), [20, NO_END)

Blocks are small here, so that few holes are many blocks.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.objects import holes as module
from rmaplab.objects.holes import NO_END, Holes

PAGES = 60
Interval = tuple[int, int]
steps = st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(1, 5), st.booleans()), max_size=60)


def free_stretches(covered: set[int]) -> list[Interval]:
    """Of an address space that is free behind PAGES."""
    stretches, start = [], None
    for page in range(PAGES):
        if page in covered:
            if start is not None:
                stretches.append((start, page))
            start = None
        elif start is None:
            start = page
    return [*stretches, (PAGES if start is None else start, NO_END)]


def ranges(covered: set[int]) -> list[Interval]:
    """What is covered, page by page."""
    return [(page, page + 1) for page in sorted(covered)]


def change(holes: Holes, covered: set[int], start: int, nr: int, uncovers: bool) -> None:
    """Of [start, start + nr) as much from its beginning on as can be covered at once, or uncovered."""
    pages = []
    for page in range(start, min(start + nr, PAGES)):
        if (page in covered) != uncovers:
            break
        pages.append(page)
    if not pages:
        return
    (holes.uncover if uncovers else holes.cover)(pages[0], pages[-1] + 1)
    covered.symmetric_difference_update(pages)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four holes make two blocks."""
    monkeypatch.setattr(module, "FULL", 3)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=150, deadline=None)
@given(steps, st.booleans())
def test_holes_are_what_is_not_covered(todo: list[tuple[int, int, bool]], asks: bool) -> None:
    """After each change, in blocks that are as they should be; and whoever asks finds what a look at all of them finds, with numbers that searches have set right or not."""
    covered: set[int] = set()
    holes = Holes([])
    for start, nr, uncovers in todo:
        change(holes, covered, start, nr, uncovers)
        expected = free_stretches(covered)
        assert holes.check() is None
        assert list(holes) == expected == list(Holes(ranges(covered)))
        if not asks:
            continue
        for length in (1, 2, nr, PAGES):
            for at in {0, start, start + nr, PAGES - 1}:
                above = [(max(low, at), high) for low, high in expected if high - max(low, at) >= length]
                assert holes.lowest(length, at) == above[0]
                below = [(low, high) for low, high in expected if min(high, at) - low >= length]
                assert holes.highest(length, at) == (below[-1] if below else None)
    assert list(holes) == free_stretches(covered)


@pytest.mark.usefixtures("small_blocks")
def test_a_search_asks_only_blocks_that_may_have_it() -> None:
    """A block whose longest hole has been covered is looked through once, in vain; then it says so."""
    covered = *range(1, 7, 2), *range(12, PAGES, 2)  # a page between any two, but for [6, 12)
    holes = Holes((page, page + 1) for page in covered)
    assert max(holes._most[:-1]) == 6
    holes.cover(7, 12)
    assert max(holes._most[:-1]) == 6
    assert holes.lowest(2, 0) == (PAGES - 1, NO_END)
    assert max(holes._most[:-1]) == 1
    holes.uncover(7, 12)
    assert holes.lowest(2, 0) == (6, 12) == holes.highest(2, PAGES - 1)


@pytest.mark.usefixtures("small_blocks")
def test_check_finds_what_cannot_be() -> None:
    """A block that is not where it begins, an empty one, one that is too full, and one that promises too little."""

    def some() -> Holes:
        return Holes((page, page + 1) for page in range(1, 12, 2))

    moved, emptied, filled, modest = some(), some(), some(), some()
    moved._blocks[1][0][0] += 1
    emptied._blocks[1] = ([], [])
    for starts, lengths in filled._blocks[:1]:
        starts.extend(range(100, 104))
        lengths.extend([1] * 4)
    modest._most[0] = 0
    for holes in (moved, emptied, filled, modest):
        assert holes.check() is not None
    assert some().check() is None
