"""Programs reserve terabytes: a burst over addresses where the top table has nothing goes on to where it has something, and finds every page."""

from __future__ import annotations

from collections import Counter

import pytest

import rmaplab
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
TOP_SPAN = 1 << 39


def live(kernel: str, size: int, places: list[int]) -> tuple[rmaplab.System, list[bool]]:
    """Reserve, write pages, protect, fork, cut out the middle, end; and what was still there behind each of them."""
    system = rmaplab.boot(kernel, ram="64M", paging="x86-64", overcommit=1)
    task, seen = system.spawn(), []
    base = task.mmap(size, 0, RESERVED)
    task.mprotect(base, size, PROT_READ | PROT_WRITE)
    for place in places:
        task.write(base + place, bytes([place % 251 + 1]))
    task.mprotect(base, size, PROT_READ)
    child = task.fork()
    seen += [child.read(base + place) == bytes([place % 251 + 1]) for place in places]
    seen += [len(system.who_maps(task, base + place)) == 2 for place in places] if system.kernel.design.caches() else []
    task.munmap(base + size // 4, size // 2)
    seen += [child.read(base + place) == bytes([place % 251 + 1]) for place in places]
    system.check()
    child.exit()
    task.wait()
    system.check()
    task.exit()
    system.check()
    return system, seen


@pytest.mark.parametrize(("kernel", "size"), [("6.18", 20 << 40), ("2.6.7", 300 << 30)])
def test_pages_in_terabytes_of_nothing_are_found(kernel: str, size: int) -> None:
    places = [0, PAGE_SIZE, size // 3 & -PAGE_SIZE, size // 2 - PAGE_SIZE, size // 2, size - PAGE_SIZE]
    system, seen = live(kernel, size, places)
    assert all(seen)
    assert system.machine.nr_tables == 0


def test_it_is_what_bursts_one_by_one_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last count; over two entries of the top table and parts of two more."""
    size = 2 * TOP_SPAN + (64 << 30)
    places = [5 * PAGE_SIZE, TOP_SPAN - PAGE_SIZE, TOP_SPAN + (9 << 30), size - PAGE_SIZE]
    counts: list[Counter[str]] = []
    for _ in range(2):
        system, seen = live("6.18", size, places)
        assert all(seen)
        counts.append(system.machine.ledger.counts)
        monkeypatch.setattr(Kernel, "burst_over", lambda k, _mm, address, end: k.burst_end(address, end))
    assert counts[0] == counts[1]
