"""mseal: what is refused, and what had been done until then. What Linux 6.18 says is in tests/data/check/mseal*.script.

|--- 3 pages ---|=== 2 sealed ===|--- 3 pages ---|
"""

import errno
from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MADV_RANDOM,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    VM_SEALED,
)
from rmaplab.units import PAGE_SIZE

P = PAGE_SIZE


@pytest.fixture
def sealed() -> tuple[rmaplab.System, rmaplab.Task, int]:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(8 * P)
    task.touch(at, 8 * P, write=True)
    task.mseal(at + 3 * P, 2 * P)
    return system, task, at


def spans(task: rmaplab.Task, at: int) -> list[tuple[int, int, bool]]:
    """Each VMA: from and to, in pages, and whether it is sealed."""
    assert task.mm is not None
    return [((vma.start - at) // P, (vma.end - at) // P, bool(vma.flags & VM_SEALED)) for vma in task.mm.vmas]


def eperm(call: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(rmaplab.SyscallError) as refused:
        call(*arguments)
    assert refused.value.errno == errno.EPERM


def test_what_is_sealed_stays(sealed: tuple[rmaplab.System, rmaplab.Task, int]) -> None:
    system, task, at = sealed
    seal = at + 3 * P
    whole = [(0, 3, False), (3, 5, True), (5, 8, False)]
    eperm(task.munmap, at, 8 * P)
    eperm(task.munmap, seal, P)
    eperm(task.mprotect, seal, P, PROT_READ | PROT_WRITE)
    eperm(task.mremap, seal, 2 * P, P)
    eperm(task.mremap, seal, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, at + 64 * P)
    eperm(task.mremap, at, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, seal)
    eperm(task.mmap, P, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, seal)
    assert spans(task, at) == whole
    task.madvise(seal, P, MADV_DONTNEED)  # it may be written, so zeros can be had anyway
    task.mlock(seal, 2 * P)
    task.munlock(seal, 2 * P)
    system.check()
    child = task.fork()
    eperm(child.munmap, seal, P)
    child.execve()
    system.check()


def test_what_precedes_it_is_done(sealed: tuple[rmaplab.System, rmaplab.Task, int]) -> None:
    """Munmap has cut what sticks out in front, mprotect has changed it."""
    system, task, at = sealed
    eperm(task.munmap, at + P, 5 * P)
    assert spans(task, at) == [(0, 1, False), (1, 3, False), (3, 5, True), (5, 8, False)]
    eperm(task.mprotect, at + P, 5 * P, PROT_READ)
    with pytest.raises(rmaplab.SegmentationFault):
        task.write(at + P, b"x")
    task.write(at + 6 * P, b"x")
    system.check()


def test_nothing_is_thrown_away_that_may_only_be_read() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(P)
    task.write(at, b"secret")
    task.mprotect(at, P, PROT_READ)
    task.mseal(at, P)
    eperm(task.madvise, at, P, MADV_DONTNEED)
    task.madvise(at, P, MADV_RANDOM)
    assert task.read(at, 6) == b"secret"


def test_a_hole_anywhere_and_nothing_is_sealed() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(4 * P)
    task.munmap(at + 2 * P, P)
    with pytest.raises(rmaplab.SyscallError, match="mseal"):
        task.mseal(at, 4 * P)
    assert [sealed for _, _, sealed in spans(task, at)] == [False, False]


def test_kernels_without_it() -> None:
    task = rmaplab.boot("2.6.2", ram="64M").spawn()
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.mseal(task.mmap(P), P)
    assert refused.value.errno == errno.ENOSYS
