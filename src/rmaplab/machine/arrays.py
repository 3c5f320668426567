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


def among(numbers: I64, ascending: I64) -> Bools:
    """Of each number, whether it is one of those `ascending`. O(n log n), without a hash table or a sort of its own."""
    if not len(ascending):
        return np.zeros(len(numbers), np.bool_)
    found: Bools = ascending[np.searchsorted(ascending, numbers).clip(max=len(ascending) - 1)] == numbers
    return found
