"""Sorts of whole numbers against NumPy's own."""

import numpy as np
import pytest

from rmaplab.machine.arrays import I64, Whereabouts, among, ascending_order, numbered
from rmaplab.objects.graph import NONE, find_rows

RNG = np.random.default_rng(13)
POINTERS = -(1 << 47) + 64 * RNG.integers(0, 300, 1000)
COLUMNS = {
    "none": np.zeros(0, np.int64),
    "one": np.array([-7]),
    "pointers": POINTERS,
    "small": RNG.integers(-3, 4, 1000),
    "in order already": np.sort(POINTERS),
    "too wide for one word with a place": RNG.choice(RNG.integers(-(1 << 62), 1 << 62, 50), 1000),
    "as wide as can be": np.array([(1 << 63) - 1, -(1 << 63), 0, -1, (1 << 63) - 1]),
    "a column of a table": np.stack([POINTERS, -POINTERS], axis=1)[:, 1],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_equal_stays_in_order(name: str) -> None:
    """As a stable sort of NumPy's has it, by one key and by two; and each number once, as unique() has it."""
    numbers: I64 = COLUMNS[name]
    other = RNG.integers(0, 3, len(numbers))
    assert ascending_order(numbers).tolist() == np.argsort(numbers, kind="stable").tolist()
    assert ascending_order(numbers, other).tolist() == np.lexsort((numbers, other)).tolist()
    for ours, theirs in zip(numbered(numbers), np.unique(numbers, return_index=True, return_inverse=True), strict=True):
        assert ours.tolist() == theirs.reshape(-1).tolist()


@pytest.mark.parametrize("name", COLUMNS)
def test_numbers_are_looked_up_in_any_order(name: str) -> None:
    """Names that are there are found where they stand, others nowhere."""
    numbers: I64 = COLUMNS[name]
    names = RNG.permutation(np.unique(numbers)[::2])
    where = {name: row for row, name in enumerate(names.tolist())}
    assert find_rows(numbers, names).tolist() == [where.get(number, NONE) for number in numbers.tolist()]
    assert among(numbers, np.sort(names)).tolist() == np.isin(numbers, names).tolist()


NAMES = COLUMNS | {
    "addresses of objects": -(1 << 47) + 104 * RNG.integers(0, 5000, 1000),
    "far apart": (1 << 30) * RNG.integers(-3, 3, 100) + 64 * RNG.integers(0, 9, 100),
}


@pytest.mark.parametrize("name", NAMES)
def test_where_a_number_stands_first(name: str) -> None:
    """By a table where that can be, by a sort where two numbers have one place in it: the same, and what is not there is nowhere."""
    numbers: I64 = NAMES[name]
    where: dict[int, int] = {}
    for place, number in enumerate(numbers.tolist()):
        where.setdefault(number, place)
    places = Whereabouts(numbers)
    wanted = np.concatenate([numbers, numbers ^ 1, numbers ^ (1 << 6), numbers ^ (1 << 21), numbers ^ (1 << 62)])
    assert places.first.tolist() == [where[number] for number in numbers.tolist()]
    assert places.find(wanted).tolist() == [where.get(number, NONE) for number in wanted.tolist()]


def test_two_keys_are_in_order_if_the_last_is_and_the_first_where_it_is_equal() -> None:
    """Whatever the others do."""
    for first, last in (([5, 9, 1], [0, 0, 1]), ([5, 4, 1], [0, 0, 1]), ([1, 2, 3], [1, 0, 1]), ([], [])):
        keys = np.array(first, np.int64), np.array(last, np.int64)
        assert ascending_order(*keys).tolist() == np.lexsort(keys).tolist()
