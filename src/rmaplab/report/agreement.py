"""Do two results agree, one saved and one new? Value by value; what depends on the hour or on how busy the machine was is left out by name."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAY_DIFFER = {"made_by": "who made it, and when", "wall_s": "our running time"}
"""Keys that are not compared, wherever they stand."""
CLOSE = 1e-9
"""Relative: sums of floating-point numbers may differ in their last digits between libraries."""
MOST = 10  # differences that are told
NOTHING = "nothing"


@dataclass(frozen=True)
class Agreement:
    """`values` were compared; `left_out` says how often each key of MAY_DIFFER was not; `differences` are (path, then, now)."""

    values: int
    left_out: dict[str, int]
    differences: list[tuple[str, Any, Any]]

    def lines(self) -> Iterator[str]:
        """What is to be said of it."""
        nr = len(self.differences)
        yield (
            f"the results differ in {nr:,} of {self.values:,} values"
            if nr
            else f"the results agree: {self.values:,} values"
        )
        for path, then, now in self.differences[:MOST]:
            yield f"  {path}: {then!r} then, {now!r} now"
        if nr > MOST:
            yield f"  and {nr - MOST:,} more"
        for key, times in self.left_out.items():
            yield f"  not compared: {key} ({MAY_DIFFER[key]}), {times:,} times"


def agreement(then: Any, now: Any) -> Agreement:
    """Of two JSON values. O(size)."""
    left_out = Counter[str]()
    one, other = dict(_values("", then, left_out)), dict(_values("", now, Counter()))
    paths = dict.fromkeys([*one, *other])
    found = [(path, one.get(path, NOTHING), other.get(path, NOTHING)) for path in paths]
    return Agreement(len(paths), dict(left_out), [(path, a, b) for path, a, b in found if not _same(a, b)])


def _values(path: str, value: Any, left_out: Counter[str]) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that holds nothing else; an empty list or object is a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner:
        yield path, value
    for key, held in inner:
        if key in MAY_DIFFER:
            left_out[str(key)] += 1
        else:
            yield from _values(f"{path}.{key}" if path else str(key), held, left_out)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or math.isclose(one, other, rel_tol=CLOSE)
    return type(one) is type(other) and bool(one == other)
