"""process_madvise: what may be said of whose memory, by whom, and how far it got. What Linux 6.18 says is in tests/data/check/process-madvise.script."""

import errno
from collections.abc import Sequence

import pytest

import rmaplab
from rmaplab.objects.flags import MADV_COLD, MADV_DONTFORK, MADV_DONTNEED, MADV_POPULATE_WRITE
from rmaplab.units import PAGE_SIZE

P = PAGE_SIZE


def error(task: rmaplab.Task, who: rmaplab.Task, ranges: Sequence[tuple[int, int]], advice: int) -> int | None:
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.process_madvise(who, ranges, advice)
    return refused.value.errno


def test_of_ones_own_memory_anything_as_far_as_it_goes() -> None:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap(4 * P)
    assert task.process_madvise(task, [(at, P), (at + P, 2 * P)], MADV_POPULATE_WRITE) == 3 * P
    assert task.mm is not None
    assert task.mm.rss == 3
    assert task.process_madvise(task, [(at, P), (at + 3 * P, 2 * P), (at + P, P)], MADV_DONTNEED) == P
    assert task.mm.rss == 2
    assert error(task, task, [(at + 3 * P, 2 * P)], MADV_DONTNEED) == errno.ENOMEM
    assert task.process_madvise(task, [(17, 0)], 0x4D) == 0
    assert error(task, task, [(17, 0), (at, P)], MADV_DONTNEED) == errno.EINVAL
    assert task.process_madvise(task, [(at, P), (17, 0)], MADV_DONTNEED) == P
    system.check()


def test_of_others_what_destroys_nothing_and_by_root() -> None:
    system = rmaplab.boot("6.18", ram="64M")
    root = system.spawn(root=True)
    at = root.mmap(4 * P)
    child = root.fork()
    assert root.process_madvise(child, [(at, 4 * P)], MADV_COLD) == 4 * P
    assert error(root, child, [(at, P)], MADV_DONTFORK) == errno.EINVAL
    stranger = system.spawn()
    assert error(stranger, child, [(at, P)], MADV_COLD) == errno.EPERM
    assert error(stranger, child, [(at, P)], MADV_DONTFORK) == errno.EINVAL
    friend = stranger.clone_vm()
    there = stranger.mmap(P)
    assert friend.process_madvise(stranger, [(there, P)], MADV_DONTFORK) == P  # its memory is its own
    child.exit()
    assert error(root, child, [(at, P)], MADV_COLD) == errno.ESRCH


def test_what_no_kernel_takes() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    assert error(task, task, [(1 << 47, P)], MADV_COLD) == errno.EFAULT
    assert error(task, task, [(0, 1 << 63), (0, P)], MADV_COLD) == errno.EINVAL
    old = rmaplab.boot("2.6.2", ram="64M").spawn()
    assert error(old, old, [(0, P)], MADV_COLD) == errno.ENOSYS
