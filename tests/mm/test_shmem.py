"""Shared memory without a file: an object of exactly the mapping's length, promised once, gone with the last who shows it. files.md B1, B2, B3.

parent |== pages 0..7 of an object ==|        child, after fork: the same object
|==|        |=================|        after munmap of a part: the promise stays as it was
"""

import errno
from typing import Any

import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug, NotModelled, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.mm.open_file import fput, get_file
from rmaplab.mm.shmem import shmem_file_setup
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_MAYSHARE,
    VM_SHARED,
)
from rmaplab.objects.shmem import Account
from rmaplab.units import PAGE_SIZE

kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
SHARED, HERE, RW = MAP_SHARED | MAP_ANONYMOUS, 0x5000_0000, PROT_READ | PROT_WRITE


def booted(kernel: str, **box: Any) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", **box)
    return system, system.spawn()


def map_at(task: rmaplab.Task, page: int, nr: int, flags: int = SHARED, prot: int = RW, pgoff: int = 0) -> int:
    return task.mmap(nr * PAGE_SIZE, prot, flags | MAP_FIXED, HERE + page * PAGE_SIZE, pgoff=pgoff)


def objects(system: rmaplab.System) -> tuple[int, int, int]:
    """(inodes, open files, nodes of page indexes) that there are."""
    caches = system.machine.caches
    names = ("inode_cache", "filp", "radix_tree_node")
    inodes, filps, nodes = (caches[name].nr_objects if name in caches else 0 for name in names)
    return inodes, filps, nodes


@kernels
def test_everybody_who_has_it_sees_the_same_pages(kernel: str) -> None:
    system, parent = booted(kernel)
    at = map_at(parent, 0, 8)
    parent.write(at, b"before the fork")
    child = parent.fork()
    child.write(at + 5 * PAGE_SIZE, b"after it")
    assert parent.read(at + 5 * PAGE_SIZE, 8) == b"after it"
    assert child.read(at, 15) == b"before the fork"
    assert len(system.who_maps(parent, at)) == 2
    system.check()
    grandchild = child.fork()
    parent.munmap(at, 8 * PAGE_SIZE)
    child.exit()
    assert grandchild.read(at, 15) == b"before the fork"
    system.check()


@kernels
def test_the_object_goes_with_the_last_who_shows_it(kernel: str) -> None:
    """And its pages, and the promise; whatever VMAs have been cut, moved and inherited meanwhile."""
    system, parent = booted(kernel)
    kernel_, free = system.kernel, system.machine.allocator.nr_free
    at = map_at(parent, 0, 100)
    parent.touch(at, 100 * PAGE_SIZE, write=True)
    accounted = 100 if kernel_.rules.commit_is_accounted else 0
    assert kernel_.committed_pages == accounted
    child = parent.fork()
    parent.munmap(at + 10 * PAGE_SIZE, 50 * PAGE_SIZE)
    parent.mprotect(at, 5 * PAGE_SIZE, PROT_READ)
    moved = parent.mremap(at + 60 * PAGE_SIZE, 40 * PAGE_SIZE, 60 * PAGE_SIZE, MREMAP_MAYMOVE)
    system.check()
    assert kernel_.committed_pages == accounted
    with pytest.raises(BusError):
        parent.read(moved + 40 * PAGE_SIZE)  # the object has not grown
    parent.exit()
    assert kernel_.committed_pages == accounted
    assert objects(system)[:2] == (1, 1)
    child.munmap(at, 100 * PAGE_SIZE)
    assert (kernel_.committed_pages, objects(system)) == (0, (0, 0, 0))
    child.exit()
    system.check()
    assert free - system.machine.allocator.nr_free < 50  # slabs; the hundred pages are back


@kernels
def test_two_are_never_one(kernel: str) -> None:
    """Neither VMAs nor pages; a hole that is filled again is another object's."""
    system, task = booted(kernel)
    at = map_at(task, 0, 4)
    map_at(task, 4, 4, pgoff=4)
    assert task.mm is not None
    assert len(task.mm.vmas) == 2
    task.munmap(at + PAGE_SIZE, PAGE_SIZE)
    map_at(task, 1, 1, pgoff=1)
    assert len(task.mm.vmas) == 4
    assert objects(system)[0] == 3
    assert all(vma.flags & VM_SHARED and vma.flags & VM_MAYSHARE for vma in task.mm.vmas)
    system.check()


@kernels
def test_an_offset_counts_up_to_2_6_7(kernel: str) -> None:
    """The VMA begins behind the first page of its object, and ends beyond the last: SIGBUS there."""
    system, task = booted(kernel)
    at = map_at(task, 0, 4, pgoff=3)
    task.write(at, b"page 3 or 0")
    if system.kernel.rules.shared_anon_keeps_pgoff:
        with pytest.raises(BusError):
            task.read(at + PAGE_SIZE)
    else:
        task.read(at + 3 * PAGE_SIZE)
    assert task.mm is not None
    assert task.mm.vmas[0].pgoff == (3 if kernel != "6.18" else 0)
    system.check()


@kernels
def test_promised_is_all_of_it_at_once(kernel: str) -> None:
    """Whatever its protection; not with MAP_NORESERVE, which 2.4 does not ask for, but in mode 2. What is refused leaves nothing."""
    system, task = booted(kernel, overcommit_ratio=0, swap="64M")
    rules = system.kernel.rules
    with pytest.raises(SyscallError) as refused:
        task.mmap(4 << 30 if rules.overcommit_totals else 256 << 20, PROT_NONE, SHARED)
    assert refused.value.name == "ENOMEM"
    assert (system.kernel.committed_pages, objects(system)) == (0, (0, 0, 0))
    if rules.shared_anon_minds_noreserve:
        task.mmap(256 << 20, RW, SHARED | MAP_NORESERVE)
        task.touch(task.mmap(4 * PAGE_SIZE, RW, SHARED | MAP_NORESERVE), 3 * PAGE_SIZE)
        assert system.kernel.committed_pages == (3 if rules.tmpfs_account is Account.PAGES else 0)
    else:
        with pytest.raises(SyscallError):
            task.mmap(256 << 20, RW, SHARED | MAP_NORESERVE)
    system.check()
    if rules.overcommit_strict:
        system, task = booted(kernel, overcommit=2, overcommit_ratio=0, swap="1M")
        with pytest.raises(SyscallError):
            task.mmap(2 << 20, RW, SHARED | MAP_NORESERVE)
        for page, flags in (
            (0, SHARED),
            (1, MAP_PRIVATE | MAP_ANONYMOUS),
            (2, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE),
        ):
            map_at(task, page, 1, flags)
        assert task.mm is not None
        assert task.mm.map_count == 2  # in mode 2 it says nothing at all
        system.check()


@kernels
def test_checks_come_in_their_order(kernel: str) -> None:
    """B1: the address before the lock, both before the type, the type before what MAP_FIXED replaces."""
    system, task = booted(kernel)
    at = map_at(task, 0, 2)
    task.limit_memlock(0)
    for flags, code in ((MAP_SHARED_VALIDATE, errno.EINVAL), (0, errno.EINVAL)):
        with pytest.raises(SyscallError) as refused:
            map_at(task, 0, 1, flags | MAP_ANONYMOUS)
        assert refused.value.errno == code
    locks = bool(system.kernel.rules.mmap_flags & MAP_LOCKED)
    for address, code in ((HERE + 1, errno.EINVAL), (HERE, errno.EPERM if locks else errno.EINVAL)):
        with pytest.raises(SyscallError) as refused:
            task.mmap(PAGE_SIZE, RW, MAP_ANONYMOUS | MAP_FIXED | MAP_LOCKED, address)  # of no type
        assert refused.value.errno == code
    with pytest.raises(SyscallError if kernel == "6.18" else NotModelled):
        map_at(task, 0, 1, SHARED | MAP_GROWSDOWN)
    assert task.read(at + PAGE_SIZE) == b"\0"  # nothing of it has gone
    assert task.mm is not None
    assert len(task.mm.vmas) == 1


@kernels
def test_every_allocation_of_mmap_fails_in_turn(kernel: str) -> None:
    system, task = booted(kernel)
    names, nth = [], 0
    while True:
        system.machine.allocator.fail_after = nth
        try:
            at = task.mmap(64 * PAGE_SIZE, RW, SHARED)
        except SyscallError as error:
            names.append(error.name)
            system.check()
            assert (system.kernel.committed_pages, objects(system)) == (0, (0, 0, 0))
            nth += 1
            continue
        break
    system.machine.allocator.fail_after = None
    late = ["ENOSPC", "ENOMEM"] if kernel == "6.18" else ["ENFILE", "ENOSPC"]
    assert [name for name in names if name != "ENOMEM"] == [name for name in late if name != "ENOMEM"]
    assert len(names) >= 3  # the VMA, and both of the object
    task.touch(at, 64 * PAGE_SIZE, write=True)
    system.check()


@kernels
def test_an_object_that_is_not_mapped(kernel: str) -> None:
    """As a segment of System V is, or a descriptor: what is known of it is checked."""
    system, task = booted(kernel)
    k = system.kernel
    file = get_file(shmem_file_setup(k, 5 * PAGE_SIZE + 100, account=True))
    assert k.committed_pages == (6 if k.rules.commit_is_accounted else 0)
    system.check()
    file.mapping.opens += 1
    with pytest.raises(KernelBug):
        system.check()
    file.mapping.opens -= 1
    if k.rules.commit_is_accounted:
        file.mapping.size += PAGE_SIZE
        with pytest.raises(KernelBug):
            system.check()
        file.mapping.size -= PAGE_SIZE
    fput(k, file)
    assert (k.committed_pages, objects(system)) == (0, (0, 0, 0))
    at = task.mmap(PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS)
    task.write(at, b"x")
    system.check()
