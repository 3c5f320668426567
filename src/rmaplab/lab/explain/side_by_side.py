"""The same calls under several rules or kernels, side by side: what became of each.

A Trial is a row: whose rule it was, and what was found, by column. Its notes say why, in figures that were read when it happened.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rmaplab.calls.task import Task
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

RW = PROT_READ | PROT_WRITE
BASE = 0x1000_0000


@dataclass(frozen=True)
class Trial:
    """One run: on a kernel, under a rule. `found` is what the table shows, by column; a number is shown as a number.

    `part` is the title of its table, where there are several.
    """

    kernel: str
    rule: str
    found: dict[str, int | str]
    notes: Sequence[str] = ()
    part: str = ""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; `found` keeps the names of the columns; `part` is left out where there is one table."""
        return {name: value for name, value in asdict(self).items() if name != "part" or value}


@dataclass(frozen=True)
class SideBySide:
    """`run` makes the trials one by one; `said` draws conclusions from all of them. `title` says what the table shows."""

    name: str
    about: str
    source: str
    calls: Sequence[str]
    title: str
    run: Callable[[], Iterator[Trial]]
    said: Callable[[Sequence[Trial]], list[str]]


def page(nr: int) -> int:
    """The address of a story's page `nr`."""
    return BASE + nr * PAGE_SIZE


def map_pages(task: Task, first: int, last: int, prot: int = RW) -> None:
    """Private anonymous memory at pages first to last - 1. Raises SyscallError."""
    task.mmap((last - first) * PAGE_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, page(first))


def write_pages(task: Task, first: int, last: int) -> None:
    """A write to each of them."""
    task.touch(page(first), (last - first) * PAGE_SIZE, write=True)
