"""virtual_scan: nothing is kept, so nothing is paid; whoever asks reads everything.

    who maps this page?     mm 1: entry? entry? entry?    mm 2: entry? entry? ...    and on, though the page may be found

Sources: history.md 1.1; 2.4 include/linux/mm.h and mm/vmscan.c.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.machine.paging import paging_format
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.rmap.virtual_scan import VirtualScan
from rmaplab.units import PAGE_SIZE

FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
BASE = 0x5000_0000


def boot(paging: str = "i386-pae", kernel: str = "2.4.21") -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    return system, system.spawn()


def put(task: rmaplab.Task, first: int, last: int, *, write: bool = True) -> None:
    length = (last - first) * PAGE_SIZE
    task.mmap(length, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, BASE + first * PAGE_SIZE)
    if write:
        task.touch(BASE + first * PAGE_SIZE, length, write=True)


def found(system: rmaplab.System, task: rmaplab.Task, page: int) -> set[tuple[int, int]]:
    """(pid, page) of every mapping."""
    answer = [(m.mm.pid, (m.address - BASE) // PAGE_SIZE) for m in system.who_maps(task, BASE + page * PAGE_SIZE)]
    assert len(set(answer)) == len(answer)
    return set(answer)


@pytest.mark.parametrize("paging", FORMATS)
def test_it_keeps_nothing(paging: str) -> None:
    """No bytes in any structure, no objects, no page it knows, no work at fork and exit."""
    system, task = boot(paging)
    design, form = system.kernel.design, paging_format(paging)
    assert isinstance(design, VirtualScan)
    sizes = design.page_bytes(system.machine.hardware), design.vma_bytes(form), design.mm_bytes(form)
    assert (sizes, design.object_bytes(system.machine.hardware), design.caches()) == ((0, 0, 0), {}, [])
    put(task, 0, 64)
    child = task.fork()
    child.touch(BASE, 10 * PAGE_SIZE, write=True)
    child.exit()
    assert design.tracked().size == 0
    assert not [
        name for name in system.machine.ledger.counts if "chain" in name or ("anon" in name and "fault" not in name)
    ]
    assert not {"PG_chainlock", "PG_maplock"} & system.machine.locks.classes.keys()


@pytest.mark.parametrize("paging", FORMATS)
def test_it_finds_everybody(paging: str) -> None:
    """A family, at home and moved, split, without access; and not who shares no more. The judge agrees (check)."""
    system, parent = boot(paging)
    put(parent, 0, 16)
    child = parent.fork()
    grandchild = child.fork()
    assert found(system, parent, 3) == {(1, 3), (2, 3), (3, 3)}
    child.write(BASE + 3 * PAGE_SIZE, b"x")
    assert found(system, parent, 3) == {(1, 3), (3, 3)}
    assert found(system, child, 3) == {(2, 3)}
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    grandchild.mremap(BASE + 2 * PAGE_SIZE, 4 * PAGE_SIZE, 4 * PAGE_SIZE, flags, BASE + 100 * PAGE_SIZE)
    assert found(system, parent, 3) == {(1, 3), (3, 101)}
    parent.mprotect(BASE, 8 * PAGE_SIZE, PROT_NONE)
    assert found(system, parent, 3) == {(1, 3), (3, 101)}
    parent.munmap(BASE + 3 * PAGE_SIZE, PAGE_SIZE)
    assert found(system, grandchild, 101) == {(3, 101)}
    system.check()
    for task in (parent, child):
        task.exit()
    assert found(system, grandchild, 1) == {(3, 1)}
    system.check()


def test_a_search_reads_everything() -> None:
    """Every VMA of every mm, related or not, and every entry of the page tables under them, found or not."""
    system, task = boot("i386")
    counts = system.machine.ledger.counts
    put(task, 0, 100)
    put(task, 200, 230)
    put(task, 5000, 9000, write=False)  # never touched: two of its tables are not there, and an absent table is skipped
    stranger = system.spawn()
    put(stranger, 0, 50)
    before = counts.copy()
    assert found(system, task, 7) == {(task.pid, 7)}
    assert counts["mm_visit"] - before["mm_visit"] == 2
    assert counts["vma_visit"] - before["vma_visit"] == 4
    #   BASE is a table border: all that was touched lies in one table of 1024 entries in each mm
    assert counts["pte_scan"] - before["pte_scan"] == 100 + 30 + 50
    #   with another process that has nothing to do with it, it takes so much longer
    another = system.spawn()
    put(another, 0, 1000)
    before = counts.copy()
    found(system, task, 7)
    assert counts["pte_scan"] - before["pte_scan"] == 180 + 1000


def test_under_another_kernel() -> None:
    """2.6.5-rc1+virtual_scan: all merging is free, as there is nothing to be kept together."""
    system, task = boot("i386-pae", "2.6.5-rc1+virtual_scan")
    put(task, 0, 4)
    put(task, 8, 12)
    put(task, 4, 8)
    assert task.mm is not None
    assert task.mm.map_count == 1
    child = task.fork()
    assert found(system, task, 9) == {(1, 9), (child.pid, 9)}
    system.check()
