"""How much a lock locks is a rule: page_table_lock of the mm (2.4 to 2.6.14) or of a leaf table; mmap_sem, or the lock of one VMA (6.4).

    mm    |--- A ---|     |--- B ---|        somebody is at A, in the middle of it; what can another thread do at B?
          |-- table 1 --|-- table 2 --|

Somebody acts at a point of somebody else (System.watch): what he would have to wait for is a deadlock there, and is one.
"""

import contextlib
import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import KernelBug
from rmaplab.machine.locks import Point
from rmaplab.mm.access import read_bytes
from rmaplab.mm.fault import touch
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from rmaplab.objects.limits import Limits
from rmaplab.objects.mm_types import MmStruct
from rmaplab.reclaim.page_out import page_out
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE

from .tools import page_at

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "2.6.5-rc1+anon_vma_chain", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)
FAR = 64 << 20


def box(kernel: str) -> tuple[rmaplab.System, rmaplab.Task, int, int]:
    """A task with two VMAs, far apart, each with one page."""
    system = rmaplab.boot(kernel, ram="64M", swap="4M")
    task = system.spawn()
    first = task.mmap(4 * PAGE_SIZE)
    task.mmap(FAR, 0)
    second = task.mmap(4 * PAGE_SIZE, flags=0x22 | 0x10, address=first + FAR)
    for at in (first, second):
        task.write(at, b"here")
    system.kernel.lru_add.drain_all()
    return system, task, first, second


@kernels
def test_entries_of_another_table_can_change_meanwhile(kernel: str) -> None:
    """At a COW fault's trylock of its page, page_table_lock is held: reclaim comes for a page behind another table, and for one behind this."""
    system, task, first, second = box(kernel)
    task.write(first + PAGE_SIZE, b"near")
    task.fork().exit()
    task.wait()
    system.kernel.lru_add.drain_all()
    near, far = page_at(system, task, first + PAGE_SIZE), page_at(system, task, second)
    referenced(system.kernel.rmap, np.array([near, far]))
    seen: list[tuple[bool, bool]] = []

    def listener(point: Point) -> None:
        if point.name == "PG_locked" and "page_table_lock" in point.held:
            seen.append((page_out(system.kernel, near), page_out(system.kernel, far)))

    system.watch(listener)
    task.write(first, b"ours")
    system.watch(None)
    assert seen[:1] == [(False, kernel == "6.18")]
    system.check()
    assert [task.read(at, 4) for at in (first, first + PAGE_SIZE, second)] == [b"ours", b"near", b"here"]


@kernels
@pytest.mark.parametrize("same", [False, True])
def test_a_fault_beside_a_writer(kernel: str, *, same: bool) -> None:
    """An munmap of A holds mmap_sem for writing when it comes to page_table_lock: a fault in B goes on where VMAs have locks, one in A waits."""
    system, task, first, second = box(kernel)
    mm = task.mm
    assert mm is not None
    where = (first if same else second) + PAGE_SIZE
    seen: list[str] = []

    def listener(point: Point) -> None:
        if point.name == "page_table_lock" and not seen:
            try:
                touch(system.kernel, mm, Limits(), where, where + 1, write=True)
                seen.append("done")
            except KernelBug as bug:
                seen.append(str(bug))

    system.watch(listener)
    task.munmap(first, PAGE_SIZE if same else 4 * PAGE_SIZE)
    system.watch(None)
    if kernel == "6.18" and not same:
        assert seen == ["done"]
        assert page_at(system, task, where)
    else:
        assert "mmap_sem" in seen[0]
        assert "deadlock" in seen[0]
    system.check()


def test_a_writer_waits_for_the_faults_of_its_vma() -> None:
    """6.18: at a fault's sleep for memory munmap of the same VMA cannot go on, and one of another VMA can."""
    system, task, first, second = box("6.18")
    seen: list[str] = []

    def listener(point: Point) -> None:
        if point.name == "might_sleep" and not seen:
            assert point.held == ("vma_lock",)
            task.munmap(second, 4 * PAGE_SIZE)
            try:
                task.munmap(first + 2 * PAGE_SIZE, PAGE_SIZE)
            except KernelBug as bug:
                seen.append(str(bug))

    system.watch(listener)
    task.write(first + PAGE_SIZE, b"new")
    system.watch(None)
    assert len(seen) == 1
    assert "vma_lock" in seen[0]


@kernels
def test_what_a_fault_takes(kernel: str) -> None:
    """Counted: mmap_sem for the first write to a VMA, then whatever the kernel has."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    at = task.mmap(64 * PAGE_SIZE)
    classes = system.machine.locks.classes
    for page in range(8):
        task.write(at + page * PAGE_SIZE, b"x")
    task.touch(at, 64 * PAGE_SIZE, write=True)
    assert (classes["mmap_sem"].reads, classes["vma_lock"].reads) == ((1, 63) if kernel == "6.18" else (64, 0))
    assert classes["page_table_lock"].writes == 64
    system.check()


@pytest.mark.parametrize("flags", [MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP])
def test_a_fault_waits_for_the_mremap_of_its_vma(flags: int) -> None:
    """6.18: at every point of the move the source is write-locked; nothing is read of it that was moved away, and no store is lost."""
    for nth in range(1, 40):
        system = rmaplab.boot("6.18", ram="64M")
        task = system.spawn()
        at, mm = task.mmap(8 * PAGE_SIZE), task.mm
        assert mm is not None
        for page in range(8):
            task.write(at + page * PAGE_SIZE, b"%d" % page)
        seen: list[bytes | str] = []
        points = itertools.count(1)

        def listener(point: Point, mm: MmStruct = mm, nth: int = nth, points: Iterator[int] = points) -> None:
            if "mmap_sem" in point.held and next(points) == nth:
                try:
                    seen.append(read_bytes(system.kernel, mm, Limits(), at + 7 * PAGE_SIZE, 1))  # noqa: B023
                except KernelBug as bug:
                    seen.append(str(bug))  # noqa: B023

        system.watch(listener)
        new = task.mremap(at, 8 * PAGE_SIZE, 8 * PAGE_SIZE, flags, at - (1 << 30))
        system.watch(None)
        assert seen in ([], [b"7"]) or "mmap_sem" in str(seen[0])
        assert [task.read(new + page * PAGE_SIZE, 1) for page in range(8)] == [b"%d" % page for page in range(8)]
        system.check()
        if not seen:
            break
    assert nth > 10


def test_a_table_that_a_fault_has_used_again_stays() -> None:
    """6.18, as programs: one thread writes behind a table that another one has just emptied with MADV_DONTNEED (PT_RECLAIM)."""
    system = rmaplab.boot("6.18", ram="256M", cpus=2)
    span = system.machine.paging.leaf_span
    done: list[bool] = []
    base: list[int] = []

    def writer(task: rmaplab.Task) -> None:
        while not done:
            task.write(base[0] + 7 * PAGE_SIZE, b"y")

    def main(task: rmaplab.Task) -> None:
        base.append(-(-task.mmap(20 * span) // span) * span)
        task.clone_vm(writer)
        for _ in range(8):
            for table in range(18):
                task.write(base[0] + table * span, b"x")
            task.madvise(base[0], 18 * span, MADV_DONTNEED)
        done.append(True)
        task.wait()
        system.check()

    system.spawn(main)
    system.run()


def test_two_threads_that_make_one_stack_grow() -> None:
    """6.18: the second waits until the first is done, and finds that it need not."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(4 * PAGE_SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN)
    task.write(at, b"x")
    mm = task.mm
    assert mm is not None
    seen: list[str] = []

    def listener(point: Point) -> None:
        if "mmap_sem" in point.held:
            with contextlib.suppress(KernelBug):
                touch(system.kernel, mm, Limits(), at - 5 * PAGE_SIZE, at - 5 * PAGE_SIZE + 1, write=True)
                seen.append(point.name)

    system.watch(listener)
    task.write(at - 2 * PAGE_SIZE, b"y")
    system.watch(None)
    assert not seen
    system.check()
