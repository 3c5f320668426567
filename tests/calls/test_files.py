"""Descriptors: who has which, and what they mean."""

import pytest

import rmaplab
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import MAP_PRIVATE, PROT_READ
from rmaplab.units import PAGE_SIZE


def test_a_descriptor_is_the_lowest_that_is_free_and_a_tasks_own() -> None:
    """Fork copies the table, a thread shares it, exec keeps it; what is closed is closed for whom it was."""
    system = rmaplab.boot("6.18", ram="64M", paging="x86-64")
    task, space = system.spawn(), system.new_file(b"abc", PAGE_SIZE)
    fds = [task.open(space), task.dup(3), task.open(space, fd=9), task.dup(9, 3)]
    assert fds == [3, 4, 9, 3]
    child, thread = task.fork(), task.thread()
    thread.close(4)
    for who, lacks in ((task, True), (thread, True), (child, False)):
        assert (4 not in who.files.fd) == lacks
    thread.exit()
    child.execve()
    assert child.pread(4, 3, 0) == b"abc"
    assert child.open(space) == 5
    assert task.open(space) == 4


def test_dup_and_fork_share_a_position_and_another_open_does_not() -> None:
    """The open file has it."""
    system = rmaplab.boot("2.6.2", ram="64M")
    task, space = system.spawn(), system.new_file(b"abcdef")
    one, two = task.open(space), task.open(space)
    twin, child = task.dup(one), task.fork()
    assert [task.read_file(one, 2), task.read_file(twin, 1), child.read_file(one, 1), task.read_file(two, 1)] == [
        b"ab", b"c", b"d", b"a",
    ]  # fmt: skip


def test_what_means_nothing_is_refused_and_what_is_mapped_stays() -> None:
    """EBADF of every call; a mapping needs no descriptor."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M")
    task, space = system.spawn(), system.new_file(b"abc", 2 * PAGE_SIZE)
    fd = task.open(space, writable=True)
    at = task.mmap(2 * PAGE_SIZE, PROT_READ, MAP_PRIVATE, file=fd)
    task.close(fd)
    assert task.read(at, 3) == b"abc"
    for call in (
        lambda: task.mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE, file=fd),
        lambda: task.pread(fd, 1, 0),
        lambda: task.pwrite(fd, b"x", 0),
        lambda: task.ftruncate(fd, 0),
        lambda: task.fsync(fd),
        lambda: task.dup(fd),
        lambda: task.close(fd),
        lambda: task.file_size(fd),
    ):
        with pytest.raises(SyscallError, match="is no descriptor") as refused:
            call()
        assert refused.value.name == "EBADF"
    system.check()
