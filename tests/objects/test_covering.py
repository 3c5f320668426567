"""Which stretch covers an index, beside asking each of them."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.machine.arrays import I64
from rmaplab.objects.covering import covering
from rmaplab.objects.graph import NONE

SMALL, LARGE = (
    st.integers(0, 30),
    st.integers((1 << 62) - 3, (1 << 62) + 30),
)  # indexes of pages on their way may be anything
STRETCHES = st.lists(st.tuples(st.integers(0, 4), SMALL | LARGE, st.integers(1, 9)), max_size=12)
ASKED = st.lists(st.tuples(st.integers(NONE, 6), st.integers(-9, 40) | LARGE), max_size=12)


def column(rows: Sequence[tuple[int, ...]], nth: int) -> I64:
    return np.array([row[nth] for row in rows], np.int64)


@given(STRETCHES, ASKED)
def test_the_last_stretch_to_begin_is_asked(
    stretches: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    """Of one owner or another, with owner and index in one word or not."""
    stretches.sort(key=lambda stretch: stretch[:2])
    found = covering(column(asked, 0), column(asked, 1), *(column(stretches, nth) for nth in range(3)))
    for (owner, index), row in zip(asked, found.tolist(), strict=True):
        begun = [i for i, (its, first, _) in enumerate(stretches) if its == owner and first <= index]
        covers = begun and index < sum(stretches[begun[-1]][1:])
        assert row == (begun[-1] if covers else NONE)
