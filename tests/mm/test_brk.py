"""brk and RLIMIT_AS: a heap that grows and shrinks, and how much address space there may be at all.

    start_brk                    brk
    |------- heap, rwx -----------|....|   next mapping: at least a page further

Sources: 2.6.2 mm/mmap.c, sys_brk and do_brk; setrlimit(2); eras.md 4.6 for what is charged.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE, VM_DATA_DEFAULT_FLAGS
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1"]
FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


@pytest.fixture(params=KERNELS)
def system(request: pytest.FixtureRequest) -> rmaplab.System:
    return rmaplab.boot(request.param, ram="64M")


def areas(task: rmaplab.Task) -> list[tuple[int, int]]:
    assert task.mm is not None
    return [(v.start, v.end) for v in task.mm.vmas]


def fails(task: rmaplab.Task, address: int) -> None:
    """ENOMEM, and the heap ends where it did."""
    end, before = task.brk(), areas(task)
    with pytest.raises(rmaplab.SyscallError) as error:
        task.brk(address)
    assert (error.value.call, error.value.name) == ("brk", "ENOMEM")
    assert (task.brk(), areas(task)) == (end, before)


@pytest.mark.parametrize("paging", FORMATS)
def test_a_heap(paging: str) -> None:
    """It begins empty, counts in bytes, is mapped in whole pages, zeroed, and can be executed (VM_DATA_DEFAULT_FLAGS)."""
    system = rmaplab.boot("2.6.2", ram="64M", paging=paging)
    task = system.spawn()
    start = task.brk()
    assert areas(task) == []
    first = start & -PAGE_SIZE if start % PAGE_SIZE == 0 else (start | (PAGE_SIZE - 1)) + 1
    assert task.brk(start + 5000) == start + 5000
    end = (start + 5000 + PAGE_SIZE - 1) & -PAGE_SIZE
    assert areas(task) == [(first, end)]
    assert task.mm is not None
    assert task.mm.vmas[0].flags & 0xFF == VM_DATA_DEFAULT_FLAGS & 0xFF
    assert task.read(first, 100) == bytes(100)
    task.write(end - 4, b"last")
    assert task.brk(start + 5001) == start + 5001  # within the page: nothing to do
    assert areas(task) == [(first, end)]
    with pytest.raises(rmaplab.SegmentationFault):
        task.read(end)
    system.check()


def test_up_and_down(system: rmaplab.System) -> None:
    """What is given back is gone: the same pages come back as zeros. Charges follow, in 2.6."""
    task = system.spawn()
    start = task.brk()
    task.brk(start + 8 * PAGE_SIZE)
    for page in range(8):
        task.write(start + page * PAGE_SIZE, b"%d" % page)
    task.brk(start + 3 * PAGE_SIZE)
    assert areas(task) == [(start, start + 3 * PAGE_SIZE)]
    assert system.kernel.committed_pages == (0 if system.spec.name == "2.4.21" else 3)
    with pytest.raises(rmaplab.SegmentationFault):
        task.read(start + 3 * PAGE_SIZE)
    task.brk(start + 5 * PAGE_SIZE)
    assert [task.read(start + page * PAGE_SIZE) for page in range(5)] == [b"0", b"1", b"2", b"\0", b"\0"]
    system.check()
    task.brk(start)
    assert areas(task) == []
    assert system.kernel.committed_pages == 0
    assert task.brk(start - PAGE_SIZE) == start  # below its beginning: no, and no error from the kernel
    system.check()


def test_a_hole_in_the_heap(system: rmaplab.System) -> None:
    """Munmap may take pieces out; brk then shrinks what there is."""
    task = system.spawn()
    start = task.brk()
    task.brk(start + 8 * PAGE_SIZE)
    task.munmap(start + 2 * PAGE_SIZE, 4 * PAGE_SIZE)
    task.brk(start + 4 * PAGE_SIZE)
    assert areas(task) == [(start, start + 2 * PAGE_SIZE)]
    system.check()


def test_a_page_stays_free_behind_it(system: rmaplab.System) -> None:
    """find_vma_intersection(oldbrk, newbrk + PAGE_SIZE): a mapping in the way, or next to it, stops the heap."""
    task = system.spawn()
    start = task.brk()
    wall = start + 8 * PAGE_SIZE
    task.mmap(PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, wall)
    task.brk(wall - PAGE_SIZE)
    fails(task, wall)
    fails(task, wall - PAGE_SIZE + 1)
    fails(task, wall + 100 * PAGE_SIZE)
    task.munmap(wall, PAGE_SIZE)
    assert task.brk(wall) == wall
    fails(task, system.machine.paging.task_size + 1)
    system.check()


def test_overcommit(system: rmaplab.System) -> None:
    """A heap can be written, so it is compared with what is free, in 2.4 too."""
    task = system.spawn()
    start = task.brk()
    task.brk(start + PAGE_SIZE)
    fails(task, start + (64 << 20))
    system.check()


def test_a_child_has_a_heap_of_its_own(system: rmaplab.System) -> None:
    """Inherited with its contents and its end; from then on each moves its own."""
    parent = system.spawn()
    start = parent.brk()
    parent.brk(start + 4 * PAGE_SIZE)
    parent.write(start, b"heap")
    child = parent.fork()
    assert child.brk() == start + 4 * PAGE_SIZE
    child.brk(start + 9 * PAGE_SIZE)
    child.write(start, b"HEAP")
    parent.brk(start + 2 * PAGE_SIZE)
    assert (areas(parent), areas(child)) == ([(start, start + 2 * PAGE_SIZE)], [(start, start + 9 * PAGE_SIZE)])
    assert (parent.read(start, 4), child.read(start, 4)) == (b"heap", b"HEAP")
    system.check()


def test_a_split_that_gets_no_memory(system: rmaplab.System) -> None:
    """Shrinking cuts the heap's VMA, which takes another: without it, brk has not happened, and says where the heap ends."""
    task = system.spawn()
    start = task.brk()
    task.brk(start + 4 * PAGE_SIZE)
    task.write(start + 3 * PAGE_SIZE, b"end")
    system.machine.allocator.fail_after = 0
    assert task.brk(start + PAGE_SIZE) == start + 4 * PAGE_SIZE
    assert task.read(start + 3 * PAGE_SIZE, 3) == b"end"
    system.check()


# -- RLIMIT_AS -------------------------------------------------------------------------------------------------------


def test_rlimit_as(system: rmaplab.System) -> None:
    """Bytes of address space, touched or not: mmap, brk and mremap stop there; what there was stays, and can shrink."""
    task = system.spawn()
    start = task.brk()
    task.brk(start + 4 * PAGE_SIZE)
    task.limit_as(10 * PAGE_SIZE)
    address = task.mmap(5 * PAGE_SIZE, PROT_READ)
    before = areas(task)
    calls: list[Callable[[], int]] = [
        lambda: task.mmap(2 * PAGE_SIZE, PROT_READ),
        lambda: task.brk(start + 6 * PAGE_SIZE),
        lambda: task.mremap(address, 5 * PAGE_SIZE, 7 * PAGE_SIZE),
    ]
    for call in calls:
        with pytest.raises(rmaplab.SyscallError, match="RLIMIT_AS") as error:
            call()
        assert error.value.name == "ENOMEM"
        assert areas(task) == before
    task.brk(start + 5 * PAGE_SIZE)  # exactly the limit
    task.touch(start, 5 * PAGE_SIZE, write=True)
    task.munmap(address, PAGE_SIZE)
    task.mmap(PAGE_SIZE, PROT_READ)
    assert task.mm is not None
    assert task.mm.total_vm == 10
    system.check()


def test_a_limit_below_what_there_is(system: rmaplab.System) -> None:
    """Nothing is taken away; MAP_FIXED replaces, which is checked after the old mapping has gone; children inherit it."""
    task = system.spawn()
    address = task.mmap(8 * PAGE_SIZE)
    task.limit_as(4 * PAGE_SIZE)
    task.touch(address, 8 * PAGE_SIZE, write=True)
    child = task.fork()
    for one in (task, child):
        with pytest.raises(rmaplab.SyscallError, match="RLIMIT_AS"):
            one.mmap(PAGE_SIZE)
    child.munmap(address, 5 * PAGE_SIZE)
    assert child.mmap(PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, address) == address
    with pytest.raises(rmaplab.SyscallError, match="RLIMIT_AS"):
        child.mmap(PAGE_SIZE)
    child.mmap(PAGE_SIZE, RW, ANON | MAP_FIXED, address)  # a page for a page
    system.check()
