"""Points: where another task may act because a lock is about to be taken, memory is asked for, or a shared field is used without its lock.

    aa1      page_table_lock ... entry set ... unlock   *here*   page_add_rmap        mapped, and nobody can find it
    COW      trylock of the page: busy                                                copied, though nobody shares it
    reclaim  trylock of the page: busy                                                left alone
    6.18     page->mapping read   *here*   anon_vma locked                            whose it was may be gone

Source: eras.md 2.1, 2.2; reclaim.md D.3, E.3; 6.18 mm/rmap.c, folio_lock_anon_vma_read.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import rmaplab
from rmaplab.machine.locks import MIGHT_SLEEP, LockOwner, Point
from rmaplab.mm.fault import touch
from rmaplab.objects.limits import Limits
from rmaplab.reclaim.page_out import page_out
from rmaplab.rmap.pte_chain import PteChain
from rmaplab.rmap.queries import Outcome, find, referenced, unmap
from rmaplab.units import PAGE_SIZE

from .tools import page_at

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "2.6.5-rc1+anon_vma_chain", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)


def box(kernel: str) -> tuple[rmaplab.System, rmaplab.Task, int]:
    """A task with one page of its own, no longer in a pagevec, and room behind it."""
    system = rmaplab.boot(kernel, ram="64M", swap="4M")
    task = system.spawn()
    at = task.mmap(8 * PAGE_SIZE)
    task.write(at, b"mine")
    system.kernel.lru_add.drain_all()
    referenced(system.kernel.rmap, np.array([page_at(system, task, at)]))  # some kernels spare what is young
    return system, task, at


@kernels
def test_only_aa1_tells_the_reverse_map_after_the_unlock(kernel: str) -> None:
    """Until then the page is in a page table, and neither a walk nor reclaim finds anybody who maps it."""
    system, task, at = box(kernel)
    seen: list[tuple[bool, int, bool, tuple[str, ...]]] = []

    def listener(point: Point) -> None:
        if point.name == "page_add_rmap":
            pfn = page_at(system, task, at + PAGE_SIZE)
            mappings = find(system.kernel.rmap, np.array([pfn]))
            seen.append(
                (system.kernel.rmap.is_mapped(pfn), len(mappings.vma), page_out(system.kernel, pfn), point.held)
            )

    system.watch(listener)
    task.write(at + PAGE_SIZE, b"new")
    system.watch(None)
    assert seen == ([(False, 0, False, ("mmap_sem",))] if kernel == "2.6.5-rc1-aa1" else [])
    assert system.kernel.rmap.is_mapped(page_at(system, task, at + PAGE_SIZE))
    system.check()
    assert task.read(at + PAGE_SIZE, 3) == b"new"


@kernels
@pytest.mark.parametrize("busy", [False, True])
def test_a_page_that_somebody_has_locked_is_copied(kernel: str, busy: bool) -> None:
    """Nobody shares it any more: it would be made writable, but for the lock."""
    system, task, at = box(kernel)
    task.fork().exit()
    task.wait()
    pfn = page_at(system, task, at)
    system.watch(lambda _: None)
    lock = system.machine.locks.bit("PG_locked", pfn)
    lock.writer = LockOwner(None) if busy else None
    task.write(at, b"ours")
    lock.writer = None
    system.watch(None)
    assert (page_at(system, task, at) == pfn) is not busy
    assert system.machine.locks.classes["PG_locked"].trylock_failures == busy
    system.check()
    assert task.read(at, 4) == b"ours"


@kernels
def test_reclaim_leaves_a_page_that_somebody_has_locked(kernel: str) -> None:
    system, task, at = box(kernel)
    pfn = page_at(system, task, at)
    lock = system.machine.locks.bit("PG_locked", pfn)
    lock.writer = LockOwner(None)
    assert not page_out(system.kernel, pfn)
    assert not system.kernel.swap.nr_used
    lock.writer = None
    assert page_out(system.kernel, pfn)
    system.check()


@kernels
def test_the_page_is_locked_while_it_comes_back(kernel: str) -> None:
    """do_swap_page: the locks that are held where page_table_lock is about to be taken."""
    system, task, at = box(kernel)
    assert page_out(system.kernel, page_at(system, task, at))
    held: list[tuple[str, ...]] = []
    system.watch(lambda point: held.append(point.held) if point.name == "page_table_lock" else None)
    assert task.read(at, 4) == b"mine"
    system.watch(None)
    assert ("vma_lock" if kernel == "6.18" else "mmap_sem", "PG_locked") in held
    assert not system.machine.locks.held()
    system.check()


@kernels
def test_whose_a_page_is_may_be_gone_when_its_list_is_locked(kernel: str) -> None:
    """Where a bit lock keeps the owner (2.6.5-rc1-aa1, anonmm) there is no such point."""
    system, task, at = box(kernel)
    pfn, rmap = page_at(system, task, at), system.kernel.rmap
    system.machine.frames.count[pfn] += 1  # the caller's own reference
    seen: list[str] = []

    def listener(point: Point) -> None:
        if point.name == "page->mapping":
            seen.append(point.of)
            task.munmap(at, 8 * PAGE_SIZE)

    system.watch(listener)
    result = unmap(rmap, np.array([pfn]), np.array([0]))
    system.watch(None)
    unlocked = rmap.design.owner_lock.__qualname__ != "ReverseMap.owner_lock" and rmap.design.page_lock is None
    assert seen == ([f"page {pfn}"] if unlocked else [])
    assert result.outcome.tolist() == [Outcome.SUCCESS]
    assert result.replaced.tolist() == [0 if unlocked else 1]
    assert not system.machine.locks.held()
    system.machine.frames.count[pfn] -= 1
    system.machine.allocator.free(np.array([pfn]))
    system.check()


@kernels
@pytest.mark.parametrize("nth", range(6))
def test_two_threads_meet_in_one_fault(kernel: str, nth: int) -> None:
    """At the n-th sleep of the first write to a VMA another thread writes to the same page, from its first fault to its last."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    at, mm = task.mmap(4 * PAGE_SIZE), task.mm
    assert mm is not None
    sleeps: list[str] = []

    def listener(point: Point) -> None:
        if point.name == MIGHT_SLEEP:
            sleeps.append(point.name)
            if len(sleeps) == nth + 1:
                touch(system.kernel, mm, Limits(), at, at + 1, write=True)

    system.watch(listener)
    task.write(at, b"once")
    system.watch(None)
    assert mm.rss == 1
    assert task.read(at, 4) == b"once"
    system.check()


@kernels
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("where", [MIGHT_SLEEP, "PG_locked"])
def test_two_threads_meet_in_one_swap_in(kernel: str, where: str, *, write: bool) -> None:
    """Where the first one waits another thread touches the page: it comes back once, and is counted once."""
    system, task, at = box(kernel)
    assert page_out(system.kernel, page_at(system, task, at))
    mm = task.mm
    assert mm is not None
    met: list[Point] = []

    def listener(point: Point) -> None:
        if point.name == where and not met:
            met.append(point)
            touch(system.kernel, mm, Limits(), at, at + 1, write=write)

    system.watch(listener)
    assert task.read(at, 4) == b"mine"
    system.watch(None)
    assert met
    assert mm.rss == 1
    system.check()


def test_a_chain_fills_up_while_fork_waits_for_a_lock() -> None:
    """2.6.2: the head block has one slot left when fork has reserved what it needs, nothing; then somebody swaps the page in."""
    system = rmaplab.boot("2.6.2", ram="64M", swap="4M", l1_cache_bytes=32)
    design = system.kernel.design
    assert isinstance(design, PteChain)
    parent = system.spawn()
    at = parent.mmap(PAGE_SIZE)
    parent.write(at, b"ours")
    others = [parent.fork() for _ in range(design.nrpte - 1)]
    system.kernel.lru_add.drain_all()
    assert page_out(system.kernel, page_at(system, parent, at))
    for task in (parent, *others[:-1]):
        task.read(at)
    late: list[Point] = []

    def listener(point: Point) -> None:
        if point.name == "page_table_lock" and point.held == ("mmap_sem",) and not late:
            late.append(point)
            assert others[-1].read(at, 4) == b"ours"

    system.watch(listener)
    child = parent.fork()
    system.watch(None)
    assert late
    system.check()
    assert len(system.who_maps(child, at)) == design.nrpte + 1


def test_who_acts_in_the_middle_of_a_fork_may_fork() -> None:
    """2.6.2: blocks that one task has reserved are not another's to give back, or to use."""
    for nth in range(1, 60):
        system = rmaplab.boot("2.6.2", ram="64M")
        task = system.spawn()
        at = task.mmap(16 * PAGE_SIZE)
        for page in range(6):
            task.write(at + page * PAGE_SIZE, b"%d" % page)
        child = task.fork()
        task.write(at, b"0")
        points = itertools.count(1)
        acted: list[Point] = []

        def listener(point: Point, nth: int = nth, points: Iterator[int] = points) -> None:
            if next(points) == nth:
                acted.append(point)  # noqa: B023
                child.fork()  # noqa: B023
                child.mremap(at, 4 * PAGE_SIZE, 4 * PAGE_SIZE, 3, at + (1 << 28))  # noqa: B023

        system.watch(listener)
        task.fork()
        system.watch(None)
        system.check()
        if not acted:
            break
    assert nth > 12


@kernels
def test_a_listener_may_end_itself(kernel: str) -> None:
    """At any point: what was really taken for it is dropped."""
    for name in ("mmap_sem", "vma_lock", "page_table_lock", "PG_chainlock", "PG_maplock", "PG_locked", MIGHT_SLEEP):
        system, task, at = box(kernel)

        def listener(point: Point, system: rmaplab.System = system, name: str = name) -> None:
            if point.name == name:
                system.watch(None)

        system.watch(listener)
        task.write(at + PAGE_SIZE, b"y")
        task.fork()
        system.watch(None)
        task.write(at, b"z")
        task.munmap(at, PAGE_SIZE)
        assert not system.machine.locks.held()
        system.check()
