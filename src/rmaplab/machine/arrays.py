"""Array types, by what is in them. One home, so that I64 means the same wherever it is read."""

from collections.abc import Iterator

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


def consecutive(numbers: I64) -> Iterator[tuple[int, int, int]]:
    """(first number, where it stands, where the run ends) of each run of numbers that follow each other. O(n)."""
    borders = np.flatnonzero(np.diff(numbers) != 1) + 1
    for first, end in zip([0, *borders.tolist()], [*borders.tolist(), numbers.size], strict=True):
        if first < end:
            yield int(numbers[first]), first, end


def are_distinct(numbers: I64) -> bool:
    """Whether none is there twice. O(n) where they ascend, as mostly, else O(n log n)."""
    return bool((numbers[1:] > numbers[:-1]).all()) or len(distinct(numbers)) == len(numbers)


def ascending_order(*keys: I64) -> I64:
    """np.lexsort(keys): the last key counts most, what is equal stays in order. O(n log n).

    A number and its place are sorted as one word where they fit into one: NumPy sorts words five times as fast as it finds an order.
    """
    if len(keys) > 1 and _are_ascending(keys):
        return np.arange(len(keys[0]))
    order = _stable_order(np.ascontiguousarray(keys[0]))
    for key in keys[1:]:
        order = order[_stable_order(key[order])]
    return order


def _are_ascending(keys: tuple[I64, ...]) -> bool:
    """By the last of them, where that is equal by the one before, and so on."""
    falls: Bools = np.zeros(max(len(keys[0]) - 1, 0), np.bool_)
    for key in keys:
        falls &= key[1:] == key[:-1]
        falls |= key[1:] < key[:-1]
        if key is keys[-1] and falls.any():
            return False
    return True


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


_CHUNK, _GRAIN = 18, 6
_MOST_CHUNKS, _FEW = 1 << 22, 1 << 12
_SPARSE = 64  # table rows a number: more, and a sort takes less


class Whereabouts:
    """Where each of some numbers stands first: found without a sort where they are addresses of objects of 64 bytes or more.

        address   | chunk of 256 KiB | grain of 64 bytes | ...
                        |                  |
                    which table ------> its row: where the number stands first       a table for each chunk that is in use

    Numbers that are none, two in one grain, few in each chunk or spread over 2^40, are sorted. O(n) and O(n log n).
    """

    def __init__(self, numbers: I64) -> None:
        self.numbers: I64 = np.ascontiguousarray(numbers)
        self.first: I64 = np.zeros(0, np.int64)
        """By place, where the same number stands first."""
        self._nr_chunks = 0
        if len(self.numbers):
            self._low = int(self.numbers.min()) >> _CHUNK << _CHUNK
            nr = (int(self.numbers.max()) - self._low >> _CHUNK) + 1
            if nr > min(_MOST_CHUNKS, _FEW + _SPARSE * len(self.numbers)) or not self._fill(nr):
                self._nr_chunks, self._table = 0, np.zeros(0, np.int32)
                self._names, which, row = numbered(self.numbers)
                self._which, self.first = which, which[row]

    def _fill(self, nr: int) -> bool:
        """Make the tables; False if two numbers have one grain, or tables were too many."""
        chunk = self.numbers - self._low >> _CHUNK
        used = np.zeros(nr, np.bool_)
        used[chunk] = True
        if int(used.sum()) << _CHUNK - _GRAIN > (_FEW + len(self.numbers)) * _SPARSE:
            return False
        self._table_of: I64 = np.where(used, (np.cumsum(used) - 1) << _CHUNK - _GRAIN, -1)
        self._table = np.empty(int(used.sum()) << _CHUNK - _GRAIN, np.int32)  # rows that are not written take no memory
        row = self._row(self.numbers, chunk)
        self._nr_chunks, nth = nr, np.arange(len(row), dtype=np.int32)
        self._table[row[::-1]] = nth[::-1]
        self.first = self._table[row].astype(np.int64)
        return bool((self.numbers[self.first] == self.numbers).all())

    def _row(self, numbers: I64, chunk: I64) -> I64:
        return self._table_of[chunk] + ((numbers - self._low) >> _GRAIN & (1 << _CHUNK - _GRAIN) - 1)

    def find(self, wanted: I64) -> I64:
        """Where each of `wanted` stands first, or -1."""
        if not len(self.numbers):
            return np.full(len(wanted), -1)
        if not self._nr_chunks:
            return self._find_by_order(wanted)
        chunk = wanted - self._low >> _CHUNK
        chunk[(chunk < 0) | (chunk >= self._nr_chunks)] = 0
        at = self._table[self._row(wanted, chunk).clip(0)].clip(0, len(self.numbers) - 1).astype(np.int64)
        return np.where(self.numbers[at] == wanted, at, -1)

    def _find_by_order(self, wanted: I64) -> I64:
        order = ascending_order(np.ascontiguousarray(wanted))
        line = wanted[order]
        at = np.searchsorted(self._names, line).clip(max=len(self._names) - 1)
        found = np.empty(len(wanted), np.int64)
        found[order] = np.where(self._names[at] == line, self._which[at], -1)
        return found


def met(numbers: I64) -> tuple[I64, I64]:
    """Where each number stands that was not there before, ascending; by place which of these numbers stands there."""
    first = Whereabouts(numbers).first
    new = first == np.arange(len(first))
    nth: I64 = np.cumsum(new) - 1
    return np.flatnonzero(new), nth[first]
