"""check() notices when two places that know the same thing disagree, says which, and changes nothing by looking.

Each case breaks one thing by hand in a system where all is well.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.entries import PRESENT, RW, USER
from rmaplab.machine.frames import PG_TABLE
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import PROT_READ
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ["2.6.2", "2.6.5-rc1-aa1"]
Sabotage = Callable[[rmaplab.System, MmStruct, int], None]


def healthy(kernel: str) -> tuple[rmaplab.System, MmStruct, int]:
    """Four pages at the address returned: two written, one read, one never touched; a read-only one behind a gap."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    address = task.mmap(4 * PAGE_SIZE)
    task.touch(address, 2 * PAGE_SIZE, write=True)
    task.touch(address + 2 * PAGE_SIZE, 1)
    task.touch(task.mmap(PAGE_SIZE, PROT_READ, address=address + 8 * PAGE_SIZE), 1)
    task.fork()
    system.check()
    assert task.mm is not None
    return system, task.mm, address


def entry(system: rmaplab.System, mm: MmStruct, address: int, change: Callable[[int], int]) -> None:
    """Change one page-table entry behind everybody's back."""
    _, pte = lookup(*system.machine.geometry, mm.pgd, address)
    word = pte // system.machine.paging.entry_bytes
    system.machine.words[word] = change(int(system.machine.words[word]))


def pfn(system: rmaplab.System, mm: MmStruct, address: int) -> int:
    return int(lookup(*system.machine.geometry, mm.pgd, address)[0]) >> PAGE_SHIFT


def add(counter: str, nr: int) -> Sabotage:
    def sabotage(_: rmaplab.System, mm: MmStruct, __: int) -> None:
        setattr(mm, counter, getattr(mm, counter) + nr)

    return sabotage


SABOTAGE: dict[str, tuple[str, Sabotage]] = {
    "rss too high": ("rss", add("rss", 1)),
    "rss too low": ("rss", add("rss", -1)),
    "total_vm": ("validate_mm", add("total_vm", 1)),
    "nr_tables": ("nr_ptes", add("nr_tables", 1)),
    "an area out of order": ("validate_mm", lambda _s, mm, _a: mm.vmas.reverse()),
    "an area that has moved": ("validate_mm", lambda _s, mm, _a: move(mm, PAGE_SIZE)),
    "areas that overlap": ("validate_mm", lambda _s, mm, _a: move(mm, 6 * PAGE_SIZE)),
    "an entry cleared": ("rss", lambda s, mm, a: entry(s, mm, a, lambda _: 0)),
    "a zero page outside all areas": (
        "pte",
        lambda s, mm, a: entry(s, mm, a + 5 * PAGE_SIZE, lambda _: PRESENT | USER),
    ),
    "a writable entry in a read-only area": ("pte", lambda s, mm, a: entry(s, mm, a + 8 * PAGE_SIZE, lambda e: e | RW)),
    "another frame": ("page_count", lambda s, mm, a: entry(s, mm, a, lambda e: e + (1 << PAGE_SHIFT))),
    "an entry that maps the kernel": ("pte", lambda s, mm, a: entry(s, mm, a, lambda e: e & 0xFFF | 1 << PAGE_SHIFT)),
    "an entry that maps a page table": (
        "pte",
        lambda s, mm, a: entry(s, mm, a, lambda e: e & 0xFFF | first_table(s) << PAGE_SHIFT),
    ),
    "a reference too many": ("page_count", lambda s, mm, a: change_count(s, pfn(s, mm, a), 1)),
    "a reference too few": ("page_count", lambda s, mm, a: change_count(s, pfn(s, mm, a), -1)),
    "a frame that nobody has": ("page_count", lambda s, _mm, _a: leak(s)),
    "a page table that is not marked": ("nr_page_table_pages", lambda s, _mm, _a: unmark(s)),
    "charges": ("vm_committed_space", lambda s, _mm, _a: s.kernel.vm_unacct_memory(1)),
    "an area's bytes": ("slabinfo", lambda s, _mm, _a: void(s.machine.caches["vm_area_struct"].alloc())),
    "a task's bytes": ("slabinfo", lambda s, _mm, _a: void(s.machine.caches["task_struct"].alloc())),
    "signal handlers": ("slabinfo", lambda s, _mm, _a: void(s.machine.caches["sighand_cache"].alloc())),
    "an address space's bytes": ("slabinfo", lambda s, _mm, _a: void(s.machine.caches["mm_struct"].alloc())),
}


def move(mm: MmStruct, nr_bytes: int) -> None:
    mm.vmas[0].start += nr_bytes
    mm.vmas[0].end += nr_bytes


def void(_: int) -> None:
    """Nobody keeps it."""


def first_table(system: rmaplab.System) -> int:
    return int(np.flatnonzero(system.machine.frames.flags & PG_TABLE)[0])


def change_count(system: rmaplab.System, frame: int, nr: int) -> None:
    system.machine.frames.count[frame] += nr


def leak(system: rmaplab.System) -> None:
    from rmaplab.machine.allocator import Gfp

    system.machine.allocator.alloc(1, Gfp.HIGHUSER)


def unmark(system: rmaplab.System) -> None:
    system.machine.frames.flags[first_table(system)] = 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("what", SABOTAGE)
def test_sabotage_is_noticed(kernel: str, what: str) -> None:
    """The error names the function or the counter that is wrong."""
    system, mm, address = healthy(kernel)
    name, sabotage = SABOTAGE[what]
    sabotage(system, mm, address)
    with pytest.raises(rmaplab.KernelBug) as bug:
        system.check()
    assert bug.value.where == name


@pytest.mark.parametrize("kernel", KERNELS)
def test_looking_changes_nothing(kernel: str) -> None:
    """The same calls with and without check() in between: the same counts, the same clock, the same memory."""

    def story(*, looking: bool) -> tuple[object, ...]:
        system = rmaplab.boot(kernel, ram="64M")
        look = system.check if looking else lambda: None
        look()
        parent = system.spawn()
        look()
        address = parent.mmap("64K")
        look()
        parent.touch(address, "32K", write=True)
        look()
        child = parent.fork()
        look()
        child.write(address, b"x")
        look()
        child.exit()
        look()
        parent.wait()
        look()
        parent.munmap(address, 4096)
        look()
        machine = system.machine
        return machine.ledger.counts, machine.sched.now_ns, machine.sched.system_ns, machine.allocator.nr_unused

    assert story(looking=True) == story(looking=False)
