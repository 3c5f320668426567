"""A system's programs: as many as it has memory for; when it is closed they end where they are, and none begins."""

import pytest

import rmaplab
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import MADV_DONTNEED
from rmaplab.units import PAGE_SIZE


def test_who_has_not_begun_when_a_system_is_closed_never_does() -> None:
    """Not even while another one, thrown out of a call, does the rest of that on its way."""
    system = rmaplab.boot("2.6.2", ram="64M", cpus=3)
    begun: list[int] = []

    def forks_until_it_fails(task: rmaplab.Task) -> None:
        while True:
            task.mmap(64 * PAGE_SIZE)
            task.munmap(task.mmap(64 * PAGE_SIZE), 64 * PAGE_SIZE)
            at = task.mmap(64 * PAGE_SIZE)
            task.touch(at, 64 * PAGE_SIZE, write=True)
            task.madvise(at, 64 * PAGE_SIZE, MADV_DONTNEED)
            task.fork(lambda _: 0)
            task.wait()

    for _ in range(3):
        system.spawn(forks_until_it_fails)
    system.spawn(lambda task: begun.append(task.pid))
    with pytest.raises(SyscallError):
        system.run()
    before = list(begun)
    system.close()
    assert begun == before


def test_a_long_line_of_descendants() -> None:
    """Each forks the next: none stands on the stack of its parent."""
    system = rmaplab.boot("2.6.2", ram="256M", cpus=2)
    ended: list[int] = []

    def program(task: rmaplab.Task, left: int) -> None:
        if left:
            task.fork(lambda child: program(child, left - 1))
            task.touch(task.mmap(PAGE_SIZE), PAGE_SIZE, write=True)
            task.wait()
        ended.append(left)

    system.spawn(lambda task: program(task, 300))
    system.run()
    assert ended == list(range(301))
    system.check()
