"""fork: what the child gets, what it costs, and that a fork that fails has not happened; nor has any other call.

The failure injector makes the n-th allocation return nothing. Each test goes through every n until the call succeeds,
on a fresh box each time, so every point at which Linux could fail is a case.

Source: 2.6.2 kernel/fork.c (dup_mmap), mm/memory.c (copy_page_range); eras.md 0.2, 0.7, 3.2, 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

import rmaplab
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.spec import KernelSpec
from rmaplab.machine.entries import ACCESSED, RW
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.6.2", "2.6.5-rc1-aa1"]
FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
A, B, C = 0x5000_0000, 0x5010_0000, 0x6000_0000  # where the areas of the drawings lie


def free_when_shrunk(system: rmaplab.System) -> int:
    """Free frames once every slab cache has given back what it does not need."""
    for cache in system.machine.caches.values():
        cache.shrink()
    return system.machine.allocator.nr_unused


def three_areas(kernel: str | KernelSpec, paging: str) -> tuple[rmaplab.System, rmaplab.Task]:
    """A parent that has already forked once.

            A          B         C
    parent  [aab...)   [00)      [c.)       A and C rw, C far away; B r-, and only read
             ||
    child   [aa....)   [00)      [..)
    """
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    parent = system.spawn()
    parent.mmap(6 * PAGE_SIZE, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, A)
    parent.mmap(2 * PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, B)
    parent.mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, C)
    parent.write(A, b"one" * 2000)
    parent.read(B, 2 * PAGE_SIZE)
    parent.fork()
    parent.write(A + 2 * PAGE_SIZE, b"three")
    parent.write(C, b"far")
    return system, parent


def contents(task: rmaplab.Task) -> bytes:
    """What a task sees, read off the page tables so that looking changes nothing."""
    assert task.mm is not None
    machine = task.kernel.machine
    present, _ = read_page_tables(machine, task.mm.pgd)
    frames = zip(present.addresses.tolist(), present.pfns.tolist(), strict=True)
    found = {address: machine.ram.bytes[pfn].tobytes() for address, pfn in frames}
    pages = [a for vma in task.mm.vmas for a in range(vma.start, vma.end, PAGE_SIZE)]
    return b"".join(found.get(a, bytes(PAGE_SIZE)) for a in pages)


def vmas(task: rmaplab.Task) -> list[str]:
    assert task.mm is not None
    return [repr(v) for v in task.mm.vmas]


# -- a fork that succeeds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_the_child_is_a_copy(kernel: str, paging: str) -> None:
    """Areas and contents, the same frames, write-protected for both and old for the child; zero pages too (3.2)."""
    system, parent = three_areas(kernel, paging)
    before = system.machine.ledger.counts["pte_copy"]
    child = parent.fork()
    assert vmas(child) == vmas(parent)
    assert contents(child) == contents(parent)
    assert system.machine.ledger.counts["pte_copy"] - before == 3 + 2 + 1
    assert parent.mm is not None
    assert child.mm is not None
    mine, _ = read_page_tables(system.machine, parent.mm.pgd)
    its, _ = read_page_tables(system.machine, child.mm.pgd)
    assert its.addresses.tolist() == mine.addresses.tolist()
    assert its.pfns.tolist() == mine.pfns.tolist()
    assert not ((mine.entries | its.entries) & RW).any()
    assert (mine.entries & ACCESSED).all()
    assert not (its.entries & ACCESSED).any()
    assert (child.mm.rss, child.mm.total_vm) == (4, 10)
    assert system.kernel.committed_pages == 3 * (6 + 2)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_not_there_is_not_copied(kernel: str) -> None:
    """No page table is made for an area that was never touched."""
    system = rmaplab.boot(kernel, ram="64M", paging="i386")
    parent = system.spawn()
    parent.mmap("16M", PROT_READ)
    child = parent.fork()
    assert child.mm is not None
    assert child.mm.nr_tables == 1  # the pgd
    assert system.machine.ledger.counts["pte_copy"] == 0
    assert child.read(0x4000_0000, 9) == bytes(9)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_child_goes_on_searching_where_its_parent_was(kernel: str) -> None:
    """The mm is copied with its free_area_cache: the next mapping lands at the same address in both."""
    system = rmaplab.boot(kernel, ram="64M")
    parent = system.spawn()
    base = parent.mmap(4 * PAGE_SIZE)
    parent.mmap(PAGE_SIZE, PROT_READ)
    parent.munmap(base, PAGE_SIZE)
    parent.mmap(2 * PAGE_SIZE, PROT_READ)
    child = parent.fork()
    assert child.mmap(PAGE_SIZE) == parent.mmap(PAGE_SIZE)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_family_of_generations(kernel: str) -> None:
    """Grandchildren share with everybody; each sees what its ancestors had written when it was born."""
    system = rmaplab.boot(kernel, ram="64M")
    tasks = [system.spawn()]
    address = tasks[0].mmap(8 * PAGE_SIZE)
    for i in range(8):
        tasks[-1].write(address + i * PAGE_SIZE, b"%d" % i)
        tasks.append(tasks[-1].fork())
    for i, task in enumerate(tasks):
        seen = [task.read(address + j * PAGE_SIZE, 1) for j in range(8)]
        assert seen == [b"%d" % j if j <= i else b"\0" for j in range(8)]
    #   page 5 is shared by tasks 5 to 8; the older ones have the zero page there
    assert {m.mm for m in system.who_maps(tasks[8], address + 5 * PAGE_SIZE)} == {task.mm for task in tasks[5:]}
    system.check()


# -- a fork that fails for lack of memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("twice", [True, False])
def test_overcommit_stops_a_fork_halfway(kernel: str, twice: bool) -> None:
    """The first area is copied, the second is more than what is free: ENOMEM, and of the child nothing is left.

    dup_mmap takes all its charges back and exit_mmap those of the linked areas once more: Committed_AS drifts down by
    these (eras.md 0.7), unless a kernel knows better.
    """
    spec = find_kernel(kernel)
    assert spec.rules(4).fork_failure_uncharges_twice
    rule = Figure(int(twice), "this test", Status.BELIEVED)
    system = rmaplab.boot(replace(spec, figures={**spec.figures, "fork_failure_uncharges_twice": rule}), ram="64M")
    parent = system.spawn()
    #   A  [aaa.)     4 pages, 3 written        C  [ccccc...c........)   most of the box, most of that written
    parent.mmap(4 * PAGE_SIZE, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, A)
    parent.write(A, b"small" * 2000)
    big = system.machine.allocator.nr_unused * 9 // 10 * PAGE_SIZE
    parent.mmap(big, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, C)
    parent.touch(C, big * 3 // 4, write=True)
    before, free = contents(parent), free_when_shrunk(system)
    committed, mapped = system.kernel.committed_pages, vmas(parent)
    with pytest.raises(rmaplab.SyscallError, match="overcommit") as error:
        parent.fork()
    assert (error.value.call, error.value.name) == ("fork", "ENOMEM")
    system.check()
    assert list(system.kernel.tasks) == [parent.pid]
    assert not parent.children
    assert list(system.kernel.mms.values()) == [parent.mm]
    assert contents(parent) == before
    assert vmas(parent) == mapped
    assert system.kernel.committed_pages == committed - (4 if twice else 0)
    #   pages that became chains stay chains (3.3): that is all a failed fork leaves behind
    blocks = system.machine.caches.get("pte_chain")
    assert free_when_shrunk(system) == free - (blocks.nr_slabs if blocks else 0)
    assert (blocks.nr_objects if blocks else 3) == 3
    #   the parent's entries stay write-protected, and its next write finds it alone on the page: no copy
    counts = system.machine.ledger.counts
    parent.write(A, b"S")
    assert (counts["cow_reuse"], counts["cow_copy"]) == (1, 0)
    parent.write(C, b"B")  # never got that far
    assert (counts["cow_reuse"], counts["cow_copy"]) == (1, 0)
    #   with memory given back it works
    parent.munmap(C, big)
    assert parent.fork().read(A, 5) == b"Small"
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_fork_charges_what_can_be_written(kernel: str) -> None:
    """Only VM_ACCOUNT areas count: a read-only or unreserved giant forks freely on a small box."""
    system = rmaplab.boot(kernel, ram="64M")
    parent = system.spawn()
    parent.mmap("1G", PROT_READ)
    parent.mmap("512M", PROT_READ | PROT_WRITE, ANON | MAP_NORESERVE)
    parent.mmap("1M")
    parent.fork()
    assert system.kernel.committed_pages == 2 * 256
    system.check()


# -- failures at every point -----------------------------------------------------------------------------------------

Attempt = Callable[[rmaplab.System, rmaplab.Task], object]


def every_failure(
    kernel: str | KernelSpec,
    paging: str,
    attempt: Attempt,
    failed: Callable[[rmaplab.System, rmaplab.Task, Exception], None],
) -> int:
    """Try `attempt` with the n-th allocation failing, for n = 1, 2, ... until it succeeds; `failed` judges failures."""
    for granted in range(1000):
        system, task = three_areas(kernel, paging)
        allocator = system.machine.allocator
        allocator.fail_after = granted
        try:
            attempt(system, task)
        except (rmaplab.SyscallError, rmaplab.OomKilled) as error:
            assert allocator.fail_after is None, "it failed before the injector had its turn"
            failed(system, task, error)
        else:
            assert allocator.fail_after is not None, "an allocation failed and nobody noticed"
            allocator.fail_after = None
            system.check()
            return granted
        finally:
            allocator.fail_after = None
    raise AssertionError("it never succeeds")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
@pytest.mark.parametrize("twice", [True, False])
def test_fork_fails_at_every_allocation(kernel: str, paging: str, twice: bool) -> None:
    """Whatever fork asks for and does not get: ENOMEM, no child, the parent as it was; the next fork is a good one."""
    spec = find_kernel(kernel)
    rule = Figure(int(twice), "this test", Status.BELIEVED)
    spec = replace(spec, figures={**spec.figures, "fork_failure_uncharges_twice": rule})
    _, untouched = three_areas(spec, paging)
    before, areas = contents(untouched), vmas(untouched)
    drifts: list[int] = []

    def failed(system: rmaplab.System, parent: rmaplab.Task, error: Exception) -> None:
        assert isinstance(error, rmaplab.SyscallError)
        assert (error.call, error.name) == ("fork", "ENOMEM")
        system.check()
        assert len(system.kernel.tasks) == len(system.kernel.mms) == 2
        assert len(parent.children) == 1
        assert contents(parent) == before
        assert vmas(parent) == areas
        drifts.append(2 * (6 + 2) - system.kernel.committed_pages)
        child = parent.fork()
        assert contents(child) == before
        child.write(A, b"CHILD")
        assert contents(parent) == before
        system.check()
        for task in list(system.kernel.tasks.values()):
            assert isinstance(task, rmaplab.Task)
            task.exit()
        system.check()
        assert system.machine.nr_tables == 0
        assert all(cache.nr_objects == 0 for cache in system.machine.caches.values())
        fresh = rmaplab.boot(spec, ram="64M", paging=paging)
        assert free_when_shrunk(system) == fresh.machine.allocator.nr_unused

    nr_failures = every_failure(spec, paging, lambda _, parent: parent.fork(), failed)
    #   at least: task, stack, sighand, mm, pgd, three VMAs, a leaf table for A and B, one for C, and what is above
    assert nr_failures >= 11
    #   the drift is what was linked when it failed: nothing, A (B is not charged), A and C
    assert sorted(set(drifts)) == ([0, 6, 8] if twice else [0])
    assert drifts == sorted(drifts)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_mmap_fails_at_every_allocation(kernel: str, paging: str) -> None:
    """ENOMEM, and no promise is kept for it. It needs a VMA, and at times a page to put it in."""
    _, untouched = three_areas(kernel, paging)
    before, areas = contents(untouched), vmas(untouched)

    def failed(system: rmaplab.System, task: rmaplab.Task, error: Exception) -> None:
        assert isinstance(error, rmaplab.SyscallError)
        assert (error.call, error.name) == ("mmap", "ENOMEM")
        system.check()
        assert vmas(task) == areas
        assert contents(task) == before
        assert system.kernel.committed_pages == 16

    assert every_failure(kernel, paging, lambda _, task: task.mmap(PAGE_SIZE), failed) == 1

    def fill_the_page_of_vmas(system: rmaplab.System, task: rmaplab.Task) -> None:
        allocator = system.machine.allocator
        armed, allocator.fail_after = allocator.fail_after, None
        cache = system.machine.caches["vm_area_struct"]
        for i in range(cache.packing.per_slab - cache.nr_objects % cache.packing.per_slab):
            task.mmap(PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, 0x7000_0000 + 2 * i * PAGE_SIZE)
        areas[:] = vmas(task)
        allocator.fail_after = armed
        task.mmap(PAGE_SIZE)

    before += bytes(PAGE_SIZE) * (
        rmaplab.boot(kernel, ram="64M", paging=paging).machine.caches["vm_area_struct"].packing.per_slab - 6
    )
    assert every_failure(kernel, paging, fill_the_page_of_vmas, failed) == 2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_munmap_fails_at_every_allocation(kernel: str, paging: str) -> None:
    """A hole in the middle needs two splits: ENOMEM from either, and all contents are still there."""
    _, untouched = three_areas(kernel, paging)
    before = contents(untouched)

    def failed(system: rmaplab.System, task: rmaplab.Task, error: Exception) -> None:
        assert isinstance(error, rmaplab.SyscallError)
        assert (error.call, error.name) == ("munmap", "ENOMEM")
        system.check()
        assert contents(task) == before
        assert system.kernel.committed_pages == 16
        task.munmap(A + PAGE_SIZE, PAGE_SIZE)
        system.check()

    assert every_failure(kernel, paging, lambda _, task: task.munmap(A + PAGE_SIZE, PAGE_SIZE), failed) == 2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
@pytest.mark.parametrize(
    "access", ["new pages", "copy on write", "zero pages", "a new place", "a read of a new place", "touch"]
)
def test_a_fault_fails_at_every_allocation(kernel: str, paging: str, access: str) -> None:
    """VM_FAULT_OOM: the task is killed and all it had is free; its child, its parent and their pages do not notice."""
    accesses: dict[str, tuple[int, Attempt]] = {
        "new pages": (2, lambda _, task: task.write(A + 3 * PAGE_SIZE, b"x" * 2 * PAGE_SIZE)),
        "copy on write": (2, lambda _, task: task.write(A, b"x" * 2 * PAGE_SIZE)),
        "zero pages": (0, lambda _, task: task.read(A, 6 * PAGE_SIZE)),
        "a new place": (
            2,
            lambda _, task: task.write(task.mmap("1M", 3, ANON | MAP_FIXED, 0x9000_0000), b"x"),
        ),
        "a read of a new place": (
            2,
            lambda _, task: task.read(task.mmap("1M", 1, ANON | MAP_FIXED, 0x9000_0000)),
        ),
        "touch": (3, lambda _, task: task.touch(A, 6 * PAGE_SIZE, write=True)),
    }
    least, attempt = accesses[access]

    def failed(system: rmaplab.System, task: rmaplab.Task, error: Exception) -> None:
        system.check()
        if isinstance(error, rmaplab.SyscallError):
            assert error.call == "mmap"
            return
        assert task.exit_code == -9
        assert task.mm is None
        (child,) = system.kernel.mms.values()
        (survivor,) = (t for t in system.kernel.tasks.values() if t.mm is child)
        assert isinstance(survivor, rmaplab.Task)
        assert survivor.read(A, 2 * PAGE_SIZE) == (b"one" * 2000).ljust(2 * PAGE_SIZE, b"\0")
        survivor.write(A, b"ONE")
        system.check()
        survivor.exit()
        assert system.kernel.committed_pages == 0
        assert all(cache.nr_objects == 0 for cache in system.machine.caches.values())
        fresh = rmaplab.boot(kernel, ram="64M", paging=paging)
        assert free_when_shrunk(system) == fresh.machine.allocator.nr_unused

    assert every_failure(kernel, paging, attempt, failed) >= least


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("granted", range(4))
def test_a_killed_child_is_a_zombie_its_parent_waits_for(kernel: str, granted: int) -> None:
    """The out-of-memory kill is a SIGKILL: wait(2) tells."""
    system, parent = three_areas(kernel, "i386-pae")
    child = parent.fork()
    system.machine.allocator.fail_after = granted
    with pytest.raises(rmaplab.OomKilled):
        child.touch(A, 6 * PAGE_SIZE, write=True)
    assert parent.wait() == (child.pid, -9)
    parent.write(A, b"goes on")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_spawn_fails_at_every_allocation(kernel: str, paging: str) -> None:
    """A first task that cannot be made leaves nothing behind."""
    fresh = rmaplab.boot(kernel, ram="64M", paging=paging)
    for granted in range(100):
        system = rmaplab.boot(kernel, ram="64M", paging=paging)
        system.machine.allocator.fail_after = granted
        with suppress(rmaplab.SyscallError):
            system.spawn()
            break
        system.check()
        assert not system.kernel.tasks
        assert free_when_shrunk(system) == fresh.machine.allocator.nr_unused
    assert granted >= 5  # task, stack, sighand, mm, pgd


def test_the_injector_counts_in_the_kernels_order() -> None:
    """One allocation more is granted each time, so one more page is copied: batches do not blur which one fails."""
    copied: list[int] = []
    for granted in range(1000):
        system = rmaplab.boot("2.6.2", ram="64M", paging="i386")
        parent = system.spawn()
        address = parent.mmap(8 * PAGE_SIZE)
        parent.touch(address, 8 * PAGE_SIZE, write=True)
        system.machine.allocator.fail_after = granted
        try:
            parent.fork()
        except rmaplab.SyscallError:
            copied.append(system.machine.ledger.counts["pte_copy"])
        else:
            break
    assert sorted(set(copied)) == list(range(8))
    assert np.all(np.diff(copied) >= 0)
    assert np.all(np.diff(copied) <= 1)
