"""mprotect: what may be done with a range changes, what is in it does not, and nobody else notices.

In the drawings one letter is one page. Which pieces become one again is the subject of test_merging.py.

Sources: 2.6.2 mm/mprotect.c (sys_mprotect, mprotect_fixup, change_protection); eras.md 4.6 (charges), 6.3 (errors).
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.lab.conformance import OF_2004
from rmaplab.machine.allocator import Gfp
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_EXEC,
    VM_READ,
    VM_WRITE,
)
from rmaplab.units import PAGE_SIZE

KERNELS = [*OF_2004]
FORMATS = ["i386", "i386-pae", "x86-64"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000


def boot(kernel: str, paging: str = "i386-pae") -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", paging=paging)
    return system, system.spawn()


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def put(task: rmaplab.Task, first: int, last: int, prot: int = RW, *, write: bool = False) -> None:
    task.mmap((last - first) * PAGE_SIZE, prot, ANON | MAP_FIXED, at(first))
    if write:
        for page in range(first, last):
            task.write(at(page), b"page %d" % page)


def protect(task: rmaplab.Task, first: int, last: int, prot: int) -> None:
    task.mprotect(at(first), (last - first) * PAGE_SIZE, prot)


def drawn(task: rmaplab.Task) -> list[tuple[int, int, int]]:
    """(first page, last page, protection) of each VMA."""
    assert task.mm is not None
    return [
        ((v.start - BASE) // PAGE_SIZE, (v.end - BASE) // PAGE_SIZE, v.flags & (VM_READ | VM_WRITE | VM_EXEC))
        for v in task.mm.vmas
    ]


def fails(task: rmaplab.Task, address: int, length: int, prot: int, name: str) -> None:
    with pytest.raises(rmaplab.SyscallError) as error:
        task.mprotect(address, length, prot)
    assert (error.value.call, error.value.name) == ("mprotect", name)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("first", "last", "pieces"),
    [
        (0, 12, [(0, 12, PROT_READ)]),
        (0, 4, [(0, 4, PROT_READ), (4, 12, RW)]),
        (8, 12, [(0, 8, RW), (8, 12, PROT_READ)]),
        (4, 8, [(0, 4, RW), (4, 8, PROT_READ), (8, 12, RW)]),
    ],
)
def test_what_sticks_out_is_split(kernel: str, first: int, last: int, pieces: list[tuple[int, int, int]]) -> None:
    """Exactly the range changes. Writes outside it go through, inside they fault, and all contents stay."""
    system, task = boot(kernel)
    put(task, 0, 12, write=True)
    protect(task, first, last, PROT_READ)
    assert drawn(task) == pieces
    for page in range(12):
        assert task.read(at(page), 8).rstrip(b"\0") == b"page %d" % page
        if first <= page < last:
            with pytest.raises(rmaplab.SegmentationFault) as fault:
                task.write(at(page) + 7, b"x")
            assert fault.value.address == at(page) + 7
        else:
            task.write(at(page) + 7, b"x")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", FORMATS)
def test_prot_none_and_back(kernel: str, paging: str) -> None:
    """No access at all, yet the page stays where it is: mapped, counted and known to the reverse map."""
    system, task = boot(kernel, paging)
    put(task, 0, 4, write=True)
    child = task.fork()
    assert task.mm is not None
    before = task.mm.rss, system.machine.allocator.nr_unused
    protect(task, 0, 4, PROT_NONE)
    assert (task.mm.rss, system.machine.allocator.nr_unused) == before
    assert {(m.mm, m.address) for m in system.who_maps(task, at(2))} == {(task.mm, at(2)), (child.mm, at(2))}
    for write in (False, True):
        with pytest.raises(rmaplab.SegmentationFault) as fault:
            task.touch(at(2), 1, write=write)
        assert fault.value.address == at(2)
    system.check()
    assert child.read(at(2), 6) == b"page 2"
    #   a child of it has the marks too, and what it may not read it can still inherit
    grandchild = task.fork()
    system.check()
    with pytest.raises(rmaplab.SegmentationFault):
        grandchild.read(at(2))
    for reader in (task, grandchild):
        protect(reader, 0, 4, PROT_READ)
        assert [reader.read(at(page), 6) for page in range(4)] == [b"page %d" % page for page in range(4)]
    assert {m.mm for m in system.who_maps(task, at(2))} == {task.mm, child.mm, grandchild.mm}
    system.check()
    #   an area that goes while it cannot be read gives its pages back
    protect(task, 0, 4, PROT_NONE)
    task.munmap(at(0), 4 * PAGE_SIZE)
    assert {m.mm for m in system.who_maps(child, at(2))} == {child.mm, grandchild.mm}
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_writable_again_is_no_way_around_copy_on_write(kernel: str) -> None:
    """Entries become read-only whatever their page's count: the next write asks, and copies what is shared."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    child = task.fork()
    protect(task, 0, 4, PROT_READ)
    protect(task, 0, 4, RW)
    task.write(at(1), b"PARENT")
    assert child.read(at(1), 6) == b"page 1"
    assert task.read(at(1), 6) == b"PARENT"
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_nobody_shares_is_not_copied(kernel: str) -> None:
    """Read-only and writable again: the next write finds it alone on the page."""
    system, task = boot(kernel)
    put(task, 0, 4, write=True)
    system.kernel.lru_add.drain_all()
    counts = system.machine.ledger.counts
    protect(task, 0, 4, PROT_READ)
    protect(task, 0, 4, RW)
    task.touch(at(0), 4 * PAGE_SIZE, write=True)
    assert (counts["cow_reuse"], counts["cow_copy"]) == (4, 0)
    assert counts["pte_protect"] == 8
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_becomes_writable_is_charged_once(kernel: str) -> None:
    """Mprotect to writable charges in 2.6 and not in 2.4 (eras.md 4.6); nothing is given back until it is unmapped."""
    system, task = boot(kernel)
    accounted = kernel != "2.4.21"
    put(task, 0, 12, PROT_READ)
    assert system.kernel.committed_pages == 0
    for prot in (RW, PROT_READ, RW):
        protect(task, 4, 8, prot)
        assert system.kernel.committed_pages == 4 * accounted
    task.munmap(at(0), 12 * PAGE_SIZE)
    assert system.kernel.committed_pages == 0
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_overcommit(kernel: str) -> None:
    """More than is free may be mapped to be read, not to be written; 2.4 does not ask."""
    system, task = boot(kernel)
    put(task, 0, 40 << 8, PROT_READ)
    if kernel == "2.4.21":
        protect(task, 0, 40 << 8, RW)
        assert drawn(task) == [(0, 40 << 8, RW)]
    else:
        fails(task, at(0), 40 << 20, RW, "ENOMEM")
        assert drawn(task) == [(0, 40 << 8, PROT_READ)]
        assert system.kernel.committed_pages == 0
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_hole_in_the_range(kernel: str) -> None:
    """ENOMEM; VMAs before the hole are changed, those behind it are not."""
    system, task = boot(kernel)
    #   aaaa  bbbb
    put(task, 0, 4)
    put(task, 6, 10)
    fails(task, at(2), 8 * PAGE_SIZE, PROT_READ, "ENOMEM")
    assert drawn(task) == [(0, 2, RW), (2, 4, PROT_READ), (6, 10, RW)]
    fails(task, at(4), 2 * PAGE_SIZE, PROT_READ, "ENOMEM")
    fails(task, at(10), PAGE_SIZE, PROT_READ, "ENOMEM")
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_arguments(kernel: str) -> None:
    """Unaligned and unknown bits: EINVAL. Nothing is nothing, wherever. A length counts in whole pages."""
    _, task = boot(kernel)
    put(task, 0, 4)
    fails(task, at(1) + 1, PAGE_SIZE, PROT_READ, "EINVAL")
    fails(task, at(1), PAGE_SIZE, 0x10, "EINVAL")
    task.mprotect(at(1), 0, PROT_READ)
    task.mprotect(at(100), 0, PROT_READ)
    assert drawn(task) == [(0, 4, RW)]
    task.mprotect(at(1), 1, PROT_READ | PROT_EXEC)
    assert drawn(task) == [(0, 1, RW), (1, 2, PROT_READ | PROT_EXEC), (2, 4, RW)]


WRAPS = {"2.4.21", "2.6.5-rc3-aa3", "2.6.7"}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_range_that_wraps(kernel: str) -> None:
    """End < start: 2.4.27 says ENOMEM, 2.6 EINVAL until e4dad6aefe of 20 March 2004, in 2.6.5-rc3 (mm/mprotect.c, sys_mprotect)."""
    _, task = boot(kernel)
    put(task, 0, 4)
    fails(task, at(0), (1 << 32) - PAGE_SIZE, PROT_READ, "ENOMEM" if kernel in WRAPS else "EINVAL")
    fails(task, at(0), 0xA000_0000, PROT_READ, "ENOMEM")  # beyond user space, but no wrap: a hole


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_split_that_gets_no_memory_takes_its_charge_back(kernel: str) -> None:
    """Every allocation of it: ENOMEM, contents and charges as before; the area may be left in pieces."""
    for granted in range(3):
        system, task = boot(kernel)
        put(task, 0, 12, PROT_READ)
        system.machine.allocator.fail_after = granted
        if granted == 2:  # the two splits of an island
            protect(task, 4, 8, RW)
        else:
            fails(task, at(4), 4 * PAGE_SIZE, RW, "ENOMEM")
            assert {prot for _, _, prot in drawn(task)} == {PROT_READ}
            assert system.kernel.committed_pages == 0
        system.machine.allocator.fail_after = None
        system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_split_that_waits_for_memory_for_ever(kernel: str) -> None:
    """All memory is gone, and no VMA is left in the slab: ENOMEM in 2.4, in 2.6 a request that only reclaim could meet."""
    system, task = boot(kernel)
    put(task, 0, 12, PROT_READ)
    used_up(system)
    with pytest.raises((rmaplab.SyscallError, rmaplab.NoMemory)) as error:
        protect(task, 4, 8, RW)
    assert isinstance(error.value, rmaplab.SyscallError) == (kernel == "2.4.21")
    assert drawn(task)[0][2] == PROT_READ
    system.check()


def used_up(system: rmaplab.System) -> None:
    """Take every frame but the reserve, and every VMA that is free in a slab page."""
    hog = system.spawn()
    hog.mmap("48M", RW, ANON | MAP_NORESERVE | MAP_FIXED, 0x6000_0000)
    for offset in range(0, 48 << 20, system.machine.paging.leaf_span):
        hog.touch(0x6000_0000 + offset, PAGE_SIZE, write=True)
    cache = system.machine.caches["vm_area_struct"]
    for i in range(-cache.nr_objects % cache.packing.per_slab):
        hog.mmap(PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, 0x9000_0000 + 2 * i * PAGE_SIZE)
    address = 0x6000_0000
    allocator = system.machine.allocator
    while allocator.obtainable(Gfp.HIGHUSER):
        hog.touch(address, PAGE_SIZE, write=True)
        address += PAGE_SIZE
