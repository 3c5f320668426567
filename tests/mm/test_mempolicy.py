"""mbind: policies decide what merges. What Linux 6.18 says, on a machine of one node, is in tests/data/check/mbind*.script."""

import errno

import pytest

import rmaplab
from rmaplab.errors import NotModelled
from rmaplab.objects.flags import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from rmaplab.units import PAGE_SIZE

P = PAGE_SIZE


def spans(task: rmaplab.Task, at: int) -> list[tuple[int, int]]:
    assert task.mm is not None
    return [((vma.start - at) // P, (vma.end - at) // P) for vma in task.mm.vmas]


def test_what_is_bound_alike_is_one_vma() -> None:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(8 * P)
    task.mbind(at + 2 * P, 2 * P, MPOL_BIND, 1)
    task.mbind(at + 4 * P, 2 * P, MPOL_BIND, 3)  # node 1 is not there
    assert spans(task, at) == [(0, 2), (2, 6), (6, 8)]
    task.mbind(at + 4 * P, 2 * P, MPOL_BIND | MPOL_F_STATIC_NODES, 3)
    assert spans(task, at) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    child = task.fork()
    assert spans(child, at) == spans(task, at)
    child.mbind(at, 8 * P, MPOL_INTERLEAVE, 1)
    assert spans(child, at) == [(0, 8)]
    child.mremap(at, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, at + 8 * P)
    assert spans(child, at) == [(1, 9)]  # it takes its policy along
    task.mbind(at, 8 * P, MPOL_DEFAULT)
    assert spans(task, at) == [(0, 8)]
    system.check()


@pytest.mark.parametrize(
    ("mode", "nodes", "flags", "expected"),
    [
        (MPOL_BIND, 2, 0, errno.EINVAL),
        (MPOL_DEFAULT, 1, 0, errno.EINVAL),
        (MPOL_LOCAL, 1, 0, errno.EINVAL),
        (99, 1, 0, errno.EINVAL),
        (MPOL_BIND, 1, 0x10, errno.EINVAL),
        (MPOL_BIND, 1, MPOL_MF_MOVE_ALL, errno.EPERM),
        (MPOL_LOCAL, 0, MPOL_MF_STRICT, errno.EIO),
    ],
)
def test_what_is_refused_changes_nothing(mode: int, nodes: int, flags: int, expected: int) -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(4 * P)
    task.write(at + P, b"x")
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.mbind(at, 2 * P, mode, nodes, flags)
    assert refused.value.errno == expected
    assert spans(task, at) == [(0, 4)]


def test_a_hole_is_one_for_a_policy_and_none_for_the_default() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(4 * P)
    task.munmap(at + P, P)
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.mbind(at, 4 * P, MPOL_BIND, 1)
    assert refused.value.errno == errno.EFAULT
    task.mbind(at, 4 * P, MPOL_DEFAULT)


def test_pages_do_not_move_here_and_old_kernels_do_not_know() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(4 * P)
    task.write(at, b"x")
    with pytest.raises(NotModelled):
        task.mbind(at, P, MPOL_LOCAL, 0, MPOL_MF_MOVE)
    task.mbind(at, P, MPOL_BIND, 1, MPOL_MF_MOVE)
    old = rmaplab.boot("2.6.2", ram="64M").spawn()
    with pytest.raises(rmaplab.SyscallError) as refused:
        old.mbind(old.mmap(P), P, MPOL_BIND, 1)
    assert refused.value.errno == errno.ENOSYS
