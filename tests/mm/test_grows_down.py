"""MAP_GROWSDOWN on kernels of 2004: what grows, up to which limit, what it is charged, and whom the reverse map knows."""

import pytest

import rmaplab
from rmaplab.errors import SegmentationFault, SyscallError
from rmaplab.lab.conformance import EVERY_KIND, OF_2004
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE as P

RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
AT = 0x5000_0000
every = pytest.mark.parametrize("kernel", EVERY_KIND)
old = pytest.mark.parametrize("kernel", OF_2004)


def box(kernel: str, flags: int = 0, nr: int = 2) -> tuple[rmaplab.System, rmaplab.Task]:
    """A task with `nr` pages at AT that grow down."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    task.mmap(nr * P, RW, ANON | MAP_GROWSDOWN | flags, AT)
    return system, task


@every
def test_an_access_below_makes_it_grow(kernel: str) -> None:
    """At once to the page that is touched. The page is found like any other, also after fork."""
    system, task = box(kernel)
    task.write(AT - 5 * P, b"pushed")
    assert task.mm is not None
    assert [(vma.start, vma.end) for vma in task.mm.vmas] == [(AT - 5 * P, AT + 2 * P)]
    assert task.mm.total_vm == 7
    system.check()
    child = task.fork()
    assert child.read(AT - 5 * P, 6) == b"pushed"
    child.write(AT - 9 * P, b"deeper")
    system.check()
    assert {m.mm.pid for m in system.who_maps(task, AT - 5 * P)} == {task.pid, child.pid}
    assert {m.mm.pid for m in system.who_maps(child, AT - 9 * P)} == {child.pid}
    assert task.mm.total_vm == 7


@old
def test_neighbours_may_touch(kernel: str) -> None:
    """There is no guard gap before 4.12; a mapping in the way is met, and not below it."""
    system, task = box(kernel)
    task.mmap(P, RW, ANON, AT - 3 * P)
    task.write(AT - 2 * P, b"x")
    task.write(AT - 3 * P, b"neighbour")
    assert task.mm is not None
    assert [vma.start for vma in task.mm.vmas] == [AT - 3 * P, AT - 2 * P]
    with pytest.raises(SegmentationFault):
        task.read(AT - 4 * P)
    system.check()


@old
def test_limits(kernel: str) -> None:
    """RLIMIT_STACK and RLIMIT_AS; not RLIMIT_MEMLOCK, though what is locked grows locked."""
    system, task = box(kernel)
    task.limit_stack(6 * P)
    task.write(AT - 4 * P, b"x")
    with pytest.raises(SegmentationFault, match="RLIMIT_STACK"):
        task.write(AT - 5 * P, b"x")
    task.limit_stack("1M")
    task.limit_as(8 * P)
    task.write(AT - 6 * P, b"x")
    with pytest.raises(SegmentationFault, match="RLIMIT_AS"):
        task.write(AT - 7 * P, b"x")
    system.check()
    task.limit_as("1G")
    task.cap_ipc_lock(granted=True)
    task.limit_memlock(8 * P)
    task.mlock(AT - 6 * P, 8 * P)
    task.write(AT - 7 * P, b"x")
    assert task.mm is not None
    assert task.mm.locked_vm == 9
    system.check()


@every
def test_what_is_charged(kernel: str) -> None:
    """Growth of what is accounted, and taken back with it. In 2.6 growth of what is not, too, which nobody takes back."""
    system, task = box(kernel)
    k = system.kernel
    counts = k.rules.commit_is_accounted
    task.write(AT - 4 * P, b"x")
    assert k.committed_pages == (6 if counts else 0)
    task.munmap(AT - 4 * P, 6 * P)
    assert k.committed_pages == 0
    task.mmap(2 * P, RW, ANON | MAP_GROWSDOWN | MAP_NORESERVE, AT)
    task.write(AT - 4 * P, b"x")
    system.check()
    task.munmap(AT - 4 * P, 6 * P)
    assert k.committed_pages == (4 if counts and kernel != "6.18" else 0)
    system.check()


@old
def test_no_memory_is_left_to_promise(kernel: str) -> None:
    """2.6 asks overcommit, 2.4 nobody."""
    system, task = box(kernel)
    task.limit_stack("1G")
    if kernel == "2.4.21":
        task.write(AT - (100 << 20), b"x")
    else:
        with pytest.raises(SegmentationFault, match="overcommit"):
            task.write(AT - (100 << 20), b"x")
    system.check()


@every
def test_who_gets_an_anon_vma_by_growing(kernel: str) -> None:
    """The first -aa did without, 2.6.7 prepares; a read of the zero page shows it."""
    system, task = box(kernel)
    task.read(AT - 3 * P)
    assert task.mm is not None
    prepares = kernel in ("2.6.7", "6.18")
    assert (task.mm.vmas[0].anon_vma is not None) == prepares
    system.check()


@every
def test_a_file_does_not_grow(kernel: str) -> None:
    """files.md B1: EINVAL. Up to 2.6.34 it is found out when what it replaces has gone; nothing stays charged."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    task.mmap(2 * P, RW, ANON, AT)
    committed = system.kernel.committed_pages
    opened = task.open(system.new_file(b"x", 4 * P), writable=True)
    for flags in (MAP_PRIVATE, MAP_SHARED):
        with pytest.raises(SyscallError, match="does not grow") as error:
            task.mmap(2 * P, RW, flags | MAP_FIXED | MAP_GROWSDOWN, AT, file=opened)
        assert error.value.name == "EINVAL"
    assert task.mm is not None
    assert len(task.mm.vmas) == (1 if kernel == "6.18" else 0)
    assert system.kernel.committed_pages == (committed if kernel == "6.18" else 0)
    system.check()


@pytest.mark.parametrize("kernel", OF_2004[1:])
def test_locked_and_populated_anonymous_memory(kernel: str) -> None:
    """files.md B1, B6: MAP_LOCKED brings its pages, and what a lock makes grow is locked page by page."""
    system, task = box(kernel)
    task.cap_ipc_lock(granted=True)
    at = task.mmap(4 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED)
    assert task.mm is not None
    assert (task.mm.locked_vm, task.mm.rss) == (4, 4)
    task.munmap(at, 4 * P)
    task.mmap(2 * P, RW, ANON | MAP_GROWSDOWN | MAP_LOCKED, AT)
    task.write(AT - 2 * P, b"x")
    assert (task.mm.locked_vm, task.mm.rss) == (4, 3)
    system.check()
