"""Who shares an anon_vma with whom: when the second is mapped (2.6.5-rc3-aa3), or first written (2.6.7). Source: history.md 4.3, 4.4.

before          |--- rw ---|                      the first, written or not
then            |--- rw ---|--- rwx ---|          the second, mapped beside it
"""

import pytest

import rmaplab
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import VmArea
from rmaplab.units import PAGE_SIZE

AA1, AA3, MAINLINE = KERNELS = ("2.6.5-rc1-aa1", "2.6.5-rc3-aa3", "2.6.7")
BASE, NR = 0x5000_0000, 4
RW, RWX = PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC
kernels = pytest.mark.parametrize("kernel", KERNELS)


def at(area: int) -> int:
    return BASE + area * NR * PAGE_SIZE


def put(task: rmaplab.Task, area: int, prot: int, flags: int = 0) -> None:
    task.mmap(NR * PAGE_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | flags, at(area))


def vma(task: rmaplab.Task, area: int) -> VmArea:
    assert task.mm is not None
    found = task.mm.find_vma(at(area))
    assert found is not None
    return found


def share(task: rmaplab.Task, area: int, other: int) -> bool:
    return vma(task, area).anon_vma is vma(task, other).anon_vma is not None


@kernels
@pytest.mark.parametrize("write_first", [False, True])
@pytest.mark.parametrize("second", [0, 2])
def test_the_second_beside_the_first(kernel: str, write_first: bool, second: int) -> None:
    """Before it or behind it. -aa3 asks once, when it is mapped: then the first must have an anon_vma. 2.6.7 asks when it is needed."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    put(task, 1, RW)
    if write_first:
        task.write(at(1), b"first")
    put(task, second, RWX)
    assert (vma(task, second).anon_vma is not None) == (kernel == AA3 and write_first)
    task.write(at(1), b"first")
    task.write(at(second), b"second")
    assert share(task, 1, second) == (kernel == MAINLINE or (kernel == AA3 and write_first))
    system.check()
    #   so that it can be made one; and a page of it is looked for in both before that
    visits = system.machine.ledger.visits
    assert len(system.who_maps(task, at(second))) == 1
    assert system.machine.ledger.visits - visits == 1 + share(task, 1, second)
    shared = share(task, 1, second)
    task.mprotect(at(second), NR * PAGE_SIZE, RW)
    assert task.mm is not None
    assert task.mm.map_count == (1 if shared else 2)
    assert task.read(at(second), 6) == b"second"
    system.check()


@kernels
def test_what_differs_in_more_than_access(kernel: str) -> None:
    """Not charged beside charged: mprotect cannot make them alike. -aa3 does not mind, 2.6.7 does."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    put(task, 0, RW)
    task.write(at(0), b"first")
    put(task, 1, RW, MAP_NORESERVE)
    task.write(at(1), b"second")
    assert share(task, 0, 1) == (kernel == AA3)
    system.check()


@kernels
def test_a_gap_between_them(kernel: str) -> None:
    """They do not touch: an anon_vma each."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    for area, prot in ((0, RW), (2, RWX)):
        put(task, area, prot)
        task.write(at(area), b"x")
    assert not share(task, 0, 2)
    system.check()


@kernels
def test_a_neighbour_that_came_from_elsewhere(kernel: str) -> None:
    """Its pages keep the index of their old place: they could never be one, and do not share."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    put(task, 5, RW)
    task.write(at(5), b"moved")
    task.mremap(at(5), NR * PAGE_SIZE, NR * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(1))
    for area in (0, 2):
        put(task, area, RWX)
        task.write(at(area), b"new")
        assert not share(task, 1, area)
    system.check()


@pytest.mark.parametrize("kernel", [AA3, MAINLINE])
def test_a_moved_border_takes_its_pages_along(kernel: str) -> None:
    """The bug both had (d84672c45e; 18 June 2004), repaired: one never written grows over written pages of the other."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    put(task, 0, RW)
    put(task, 1, RWX)
    task.write(at(1), b"imported")
    assert vma(task, 0).anon_vma is None
    task.mprotect(at(1), PAGE_SIZE, RW)
    assert vma(task, 0).end == at(1) + PAGE_SIZE
    assert [m.address for m in system.who_maps(task, at(1))] == [at(1)]
    task.munmap(at(1) + PAGE_SIZE, (NR - 1) * PAGE_SIZE)
    assert [m.address for m in system.who_maps(task, at(1))] == [at(1)]
    system.check()
