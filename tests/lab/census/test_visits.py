"""Visits per page, and how they are distributed, against the slow and obvious way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.lab.census.visits import Quantiles, quantiles
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, Pages

# of each anon_vma, stretches one after another: (gap before it, its length, VMAs that cover it)
STRETCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 9)), max_size=4), max_size=4
)
PAGES = st.lists(st.tuples(st.integers(NONE, 4), st.integers(0, 30)), max_size=30)


@given(STRETCHES, PAGES)
def test_candidates_are_those_of_the_stretch_a_page_is_in(
    stretches: list[list[tuple[int, int, int]]], pages: list[tuple[int, int]]
) -> None:
    """Every page is looked up in the dictionary that the stretches are; outside of them nobody is visited."""
    rows: list[tuple[int, int, int, int]] = []
    cover_at: dict[tuple[int, int], int] = {}
    for owner, of_owner in enumerate(stretches):
        at = 0
        for gap, length, cover in of_owner:
            rows.append((owner, at + gap, length, cover))
            cover_at |= {(owner, index): cover for index in range(at + gap, at + gap + length)}
            at += gap + length
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    anon_vma, pgoff = np.array(pages, np.int64).reshape(-1, 2).T
    one = np.ones(len(pages), np.int64)
    table = Pages(one, one, anon_vma, pgoff, one, one.astype(np.float64))
    found = candidates_of(table, (columns[0], columns[1], columns[2], columns[3]))
    assert found.tolist() == [cover_at.get(page, 0) for page in pages]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5)), max_size=40))
def test_quantiles_are_those_of_each_value_repeated(rows: list[tuple[int, int, int]]) -> None:
    """A value of weight w counts as w values: p50 is then the value in the middle of the sorted list, p99 the one at 99 %."""
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    found = quantiles(columns[0], columns[1], columns[2].astype(np.float64), 4)
    for group, said in enumerate(found):
        values = sorted(value for of, value, weight in rows if of == group for _ in range(weight))
        if not values:
            assert said is None
            continue
        at = [-(-len(values) * percent // 100) - 1 for percent in (50, 99)]
        assert said == Quantiles(values[at[0]], values[at[1]], values[-1])
