"""Faults of cached pages that are done at once come to what do_no_page comes to: entries, counts of pages, what was counted, and when."""

from typing import Any

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.mm import fault
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)
kinds = pytest.mark.parametrize(
    ("flags", "write"), [(MAP_SHARED, False), (MAP_SHARED, True), (MAP_PRIVATE, False), (MAP_PRIVATE, True)]
)
PAGES = 75


CACHED = ((0, 40), (44, 2), (48, PAGES + 3 - 48))
A_FEW = ((30, 1), (60, 2))


def played(
    kernel: str, flags: int, *, write: bool, on_disk: bool, whole: bool, cached: tuple[tuple[int, int], ...] = CACHED
) -> tuple[Any, ...]:
    """Two tasks map 75 pages from page 3 on, of which these are `cached`, and touch them: what has become of the machine."""
    system = rmaplab.boot(kernel, ram="64M")
    file = system.new_file(b"x" * 5000, (PAGES + 3) * PAGE_SIZE, on_disk=on_disk)
    first = system.spawn()
    opened = first.open(file, writable=True)
    for start, nr in cached:
        first.pwrite(opened, b"y" * nr * PAGE_SIZE, start * PAGE_SIZE)
    states: list[Any] = []
    for task in (first, system.spawn()):
        opened = task.open(file, writable=True)
        at = task.mmap(PAGES * PAGE_SIZE, 3, flags, file=opened, pgoff=3)
        for begin, end in ((5, 30), (0, PAGES)):  # not from the border of a window on
            if whole:
                task.touch(at + begin * PAGE_SIZE, (end - begin) * PAGE_SIZE, write=write)
            else:
                for page in range(begin, end):
                    task.touch(at + page * PAGE_SIZE, 1, write=write)
        assert task.mm is not None
        present, _ = read_page_tables(system.machine, task.mm.pgd)
        states += [present.addresses.tolist(), task.mm.rss]
        if flags == MAP_SHARED or not write:
            states.append([list(file.pages).index(index) for index in system.machine.frames.index[present.pfns]])
    system.check()
    frames, machine = system.machine.frames, system.machine
    counted = {name: nr for name, nr in machine.ledger.counts.items() if nr}
    locks = {name: (kind.reads, kind.writes) for name, kind in machine.locks.classes.items()}
    states += [np.sort(frames.count[list(file.pages.values())]).tolist(), sorted(file.pages), counted, locks]
    return (*states, machine.sched.now_ns)


@kernels
@kinds
@pytest.mark.parametrize("on_disk", [False, True])
def test_one_at_once_or_by_do_no_page(
    kernel: str, flags: int, write: bool, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = played(kernel, flags, write=write, on_disk=on_disk, whole=False)
    monkeypatch.setattr(fault, "touch_cached", lambda *_, **__: False)
    assert fast == played(kernel, flags, write=write, on_disk=on_disk, whole=False)


@kernels
@kinds
@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("cached", [CACHED, A_FEW, ()])
def test_a_stretch_or_page_by_page(
    kernel: str, flags: int, write: bool, on_disk: bool, cached: tuple[tuple[int, int], ...]
) -> None:
    many = played(kernel, flags, write=write, on_disk=on_disk, whole=True, cached=cached)
    assert many == played(kernel, flags, write=write, on_disk=on_disk, whole=False, cached=cached)
