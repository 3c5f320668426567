"""Array types, by what is in them. One home, so that I64 means the same wherever it is read."""

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int8]
I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = U32 | I64
"""RAM as words: of 4 bytes where page-table entries have 4, else of 8."""


def distinct(numbers: I64) -> I64:
    """Each number once, ascending. O(n log n); np.unique() hashes whole numbers, which takes several times as long for millions."""
    line = np.sort(numbers)
    new = np.ones(len(line), np.bool_)
    np.not_equal(line[1:], line[:-1], out=new[1:])
    return line[new]


def ascending_order(*keys: I64) -> I64:
    """np.lexsort(keys): the last key counts most, what is equal stays in order. O(n log n).

    A number and its place are sorted as one word where they fit into one: NumPy sorts words five times as fast as it finds an order.
    """
    order = _stable_order(np.ascontiguousarray(keys[0]))
    for key in keys[1:]:
        order = order[_stable_order(key[order])]
    return order


def _stable_order(numbers: I64) -> I64:
    nr = len(numbers)
    if (numbers[1:] >= numbers[:-1]).all():
        return np.arange(nr)
    low, place = int(numbers.min(initial=0)), max(nr - 1, 1).bit_length()
    if (int(numbers.max(initial=0)) - low).bit_length() > 63:
        return np.argsort(numbers, kind="stable")
    words = numbers - low
    used = int(np.bitwise_or.reduce(words)) or 1
    spare = (used & -used).bit_length() - 1  # pointers are multiples of 8, or more
    if used.bit_length() - spare + place > 63:
        return np.argsort(numbers, kind="stable")
    words = words >> spare << place | np.arange(nr)
    words.sort()
    words &= (1 << place) - 1
    return words


def numbered(numbers: I64) -> tuple[I64, I64, I64]:
    """np.unique with its indexes and its inverse: each number once, ascending; where it stands first; by place which of them. O(n log n)."""
    numbers = np.ascontiguousarray(numbers)  # a column of a table is not
    order = ascending_order(numbers)
    line = numbers[order]
    new = np.ones(len(line), np.bool_)
    np.not_equal(line[1:], line[:-1], out=new[1:])
    which = np.empty(len(line), np.int64)
    which[order] = np.cumsum(new) - 1
    return line[new], order[new], which


def among(numbers: I64, ascending: I64) -> Bools:
    """Of each number, whether it is one of those `ascending`. O(n log n), without a hash table.

    They are looked up in their own order: millions at random would wait for memory each time.
    """
    found = np.zeros(len(numbers), np.bool_)
    if len(ascending):
        order = ascending_order(numbers)
        line = numbers[order]
        found[order] = ascending[np.searchsorted(ascending, line).clip(max=len(ascending) - 1)] == line
    return found
