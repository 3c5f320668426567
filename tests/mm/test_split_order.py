"""Which part of a VMA that is split is the new one: it shows in the order of a file's list (files.md A4), which walks go by.

mprotect, mlock, madvise    what sticks out is new, below and above; the part that changes is the old VMA. In 2.4 it is new at an end
munmap, up to 2.6.34        what stays is the old VMA; of a hole its lower end, and the upper one is new
munmap, 2.4                 what stays is off the list meanwhile, and comes to its head: the upper end first
munmap, 6.18                what is unmapped is the old VMA
"""

from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.objects.flags import MADV_RANDOM, MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

HERE = 0x5000_0000


class Listed:
    """Eight pages of a file, a VMA that stays as it is mapped behind them, on a list."""

    def __init__(self, kernel: str) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", file_index="list")
        self.task = self.system.spawn()
        self.task.cap_ipc_lock(granted=True)
        self.space = self.system.new_file(b"x", 8 * PAGE_SIZE)
        opened = self.task.open(self.space, writable=True)
        for at in (HERE, HERE + 20 * PAGE_SIZE):
            self.task.mmap(8 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, at, file=opened)
        assert self.task.mm is not None
        self.old = self.task.mm.vmas[0]

    def order(self) -> str:
        """First page and length of each on the list, "other" for the second VMA."""
        return " ".join(
            "other" if vma.start >= HERE + 20 * PAGE_SIZE else f"{(vma.start - HERE) // PAGE_SIZE}+{vma.nr_pages}"
            for vma in self.space.i_mmap
        )


CALLS: dict[str, Callable[[rmaplab.Task, int, int], None]] = {
    "mprotect": lambda task, at, length: task.mprotect(at, length, PROT_READ),
    "mlock": lambda task, at, length: task.mlock(at, length),
    "madvise": lambda task, at, length: task.madvise(at, length, MADV_RANDOM),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("kernel", "middle", "left", "right"),
    [
        ("2.4.21", "5+3 0+3 other 3+2", "0+3 other 3+5", "5+3 other 0+5"),
        ("2.6.2", "3+2 other 0+3 5+3", "0+3 other 3+5", "5+3 other 0+5"),
        ("2.6.5-rc1-aa1", "3+2 other 0+3 5+3", "0+3 other 3+5", "5+3 other 0+5"),
    ],
)
def test_parts_that_change(kernel: str, call: str, middle: str, left: str, right: str) -> None:
    """In the middle it is the old VMA; at an end too, but for 2.4."""
    for (first, end), expected in (((3, 5), middle), ((0, 3), left), ((5, 8), right)):
        listed = Listed(kernel)
        CALLS[call](listed.task, HERE + first * PAGE_SIZE, (end - first) * PAGE_SIZE)
        listed.system.check()
        is_old = (listed.old.start, listed.old.nr_pages) == (HERE + first * PAGE_SIZE, end - first)
        assert is_old == (kernel != "2.4.21" or end - first == 2)
        assert listed.order() == expected


@pytest.mark.parametrize(
    ("kernel", "middle", "left", "right"),
    [
        ("2.4.21", "0+3 5+3 other", "3+5 other", "0+5 other"),
        ("2.6.2", "0+3 other 5+3", "3+5 other", "0+5 other"),
        ("2.6.5-rc1-aa1", "0+3 other 5+3", "3+5 other", "0+5 other"),
        ("6.18", "other 0+3 5+3", "other 3+5", "other 0+5"),
    ],
)
def test_parts_that_go(kernel: str, middle: str, left: str, right: str) -> None:
    """6.18 has no list: with one it would be so."""
    for (first, end), expected in (((3, 5), middle), ((0, 3), left), ((5, 8), right)):
        listed = Listed(kernel)
        listed.task.munmap(HERE + first * PAGE_SIZE, (end - first) * PAGE_SIZE)
        listed.system.check()
        assert listed.order() == expected
