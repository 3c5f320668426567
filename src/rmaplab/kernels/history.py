"""Figures are histories: since which kernel a value has held, and who says so.

    lazy_fork     2.4  ........ 0 ........  2.6.14  ........ 1 ........  6.18  ... 1, seen on a running kernel
                        ^           ^                ^
                        2.4.21      2.6.5-rc1        3.19: each kernel reads off the entry that holds at its version

A history is a row of entries in order of versions. `since` is the release in which a value came, or, where nobody has looked at
those in between, the first one in which it was read; the source says which release that was. An entry that repeats the value before
it says that better is known of it from there on: another file, another status. A status is *validated* (checked against the
running kernel or a published figure) or *believed*.

The histories themselves are tables: figures_mm.py, figures_mapping.py and figures_tlb.py (the rules of mm/), figures_box.py (sizes, the page allocator, the scheduler).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from math import inf


class Status(Enum):
    """How far a figure can be trusted."""

    VALIDATED = "validated"
    BELIEVED = "believed"


class Bits(int):
    """A value that is a set of bits: to be shown in hexadecimal."""


@dataclass(frozen=True)
class Figure:
    """An entry of a history: a value on 32-bit machines, its source and status, its value on 64-bit ones where that differs.

    `since` is a kernel's version, or the name of the patch that set it.
    """

    value: int
    source: str
    status: Status
    value64: int | None = None
    since: str = ""

    def on(self, word_bytes: int) -> int:
        """The value for an architecture."""
        return self.value if word_bytes == 4 or self.value64 is None else self.value64


History = tuple[Figure, ...]


def since(
    version: str, value: int, source: str, status: Status = Status.BELIEVED, *, value64: int | None = None
) -> Figure:
    """An entry, in the order in which it is read aloud: since 2.6.14, yes, says mm/memory.c."""
    return Figure(value, source, status, value64, version)


def order(version: str) -> tuple[tuple[int, ...], float]:
    """What versions are sorted by: 2.6.5-rc1 comes before 2.6.5, that before 2.6.14, and that before 3.19."""
    release, _, candidate = version.partition("-rc")
    return tuple(map(int, release.split("."))), int(candidate) if candidate else inf


def figures_at(histories: Mapping[str, History], version: str) -> dict[str, Figure]:
    """Every figure as it was at `version`; `since` is when its value came. What had not begun by then is left out."""
    now = order(version)
    found = {}
    for name, history in histories.items():
        past = [entry for entry in history if order(entry.since) <= now]
        if past:
            found[name] = replace(past[-1], since=_value_since(past))
    return found


def _value_since(past: list[Figure]) -> str:
    """Back from the last entry, as long as the value is the same."""
    first = last = past[-1]
    for entry in reversed(past):
        if (entry.value, entry.value64) != (last.value, last.value64):
            break
        first = entry
    return first.since
