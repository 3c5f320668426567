"""Descriptors: who has which, and what they mean."""

from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.calls.files import MAX_RW_COUNT, MOST_FDS
from rmaplab.errors import SyscallError, UsageError
from rmaplab.objects.flags import MAP_PRIVATE, PROT_READ
from rmaplab.objects.task import FIRST_FD
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


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "6.18"])
def test_descriptors_end_somewhere(kernel: str) -> None:
    """dup2 to what can be none is EBADF, and leaves nothing; to open is given a file, or it says so."""
    system = rmaplab.boot(kernel, ram="64M")
    task, space = system.spawn(), system.new_file(b"abc")
    fd = task.open(space)
    for none in (-1, 1024):
        with pytest.raises(SyscallError) as refused:
            task.dup(fd, none)
        assert refused.value.name == "EBADF"
        with pytest.raises(SyscallError) as refused:
            task.open(space, fd=none)
        assert refused.value.name == "EBADF"
    assert task.dup(fd, 1023) == 1023
    with pytest.raises(UsageError, match="give a file that"):
        task.open("/etc/passwd")  # type: ignore[arg-type]
    system.check()


@pytest.mark.parametrize(
    ("kernel", "paging", "on_disk", "longest", "wraps"),
    [
        ("2.6.2", "i386-pae", True, (512 << 32) - 4096, "EFBIG"),
        ("2.6.2", "i386-pae", False, (16 + 512 * 1024 * 1025) * 4096, "EFBIG"),  # files.md F1
        ("2.6.7", "x86-64", False, (16 + 256 * 512 * 513) * 4096, "EFBIG"),
        ("6.18", "x86-64", True, ((1 << 32) - 1) << 12, "EINVAL"),
        ("6.18", "x86-64", False, (1 << 63) - 1, "EINVAL"),
    ],
)
def test_no_file_is_longer_than_its_kernel_counts(
    kernel: str, paging: str, on_disk: bool, longest: int, wraps: str
) -> None:
    """A write is cut there, and behind it EFBIG, as ftruncate; what wraps is EINVAL, of a closed descriptor too."""
    system = rmaplab.boot(kernel, ram="64M", paging=paging, overcommit=1)
    task = system.spawn()
    fd = task.open(system.new_file(on_disk=on_disk), writable=True)
    assert task.pwrite(fd, b"", 1 << 30) == 0
    assert task.file_size(fd) == 0
    ends = longest == (1 << 63) - 1
    assert task.pwrite(fd, b"12345678", longest - 8) == 8
    assert (task.file_size(fd), task.pread(fd, 3, longest - 3)) == (longest, b"678")
    if not ends:
        assert task.pwrite(fd, b"abc", longest - 2) == 2

    def name(call: object, *arguments: object) -> str:
        with pytest.raises(SyscallError) as refused:
            call(*arguments)  # type: ignore[operator]
        return refused.value.name

    assert name(task.pwrite, fd, b"x", longest) == (wraps if ends else "EFBIG")
    if not ends:
        assert name(task.ftruncate, fd, longest + 1) == "EFBIG"
    for closed in (fd, 77):
        assert {name(task.ftruncate, closed, size) for size in (-1, 1 << 63)} == {"EINVAL"}
        assert {name(task.pread, closed, 1, at) for at in (-1, 1 << 63)} == {"EINVAL"}
        assert {name(task.pwrite, closed, b"x", at) for at in (-1, 1 << 63)} == {"EINVAL"}
    if wraps == "EINVAL":
        assert name(task.pread, fd, 2, (1 << 63) - 2) == "EINVAL"
    else:
        assert task.pread(fd, 2, (1 << 63) - 2) == (b"8" if ends else b"")
    task.ftruncate(fd, 0)
    system.check()


def test_a_file_that_cannot_be_leaves_nothing() -> None:
    """No bytes, and sizes that no file has."""
    system = rmaplab.boot("6.18", ram="64M")
    for data, size in (("text", 0), (b"", -1), (b"", 1 << 64)):
        with pytest.raises(UsageError, match="give"):
            system.new_file(data, size)  # type: ignore[arg-type]
    assert not system.kernel.page_cache.files
    system.check()


def test_a_write_without_memory_leaves_the_size() -> None:
    """Behind the end, and not even its first page can be had."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    fd = task.open(system.new_file(b"abc"), writable=True)
    system.machine.allocator.fail_after = 0
    with pytest.raises(SyscallError, match="pwrite"):
        task.pwrite(fd, b"x", 1 << 20)
    system.machine.allocator.fail_after = None
    assert task.file_size(fd) == 3


def test_a_task_has_so_many_descriptors_and_no_more() -> None:
    """RLIMIT_NOFILE as it is: EMFILE of open and dup; what is closed can be had again."""
    system = rmaplab.boot("2.6.5-rc1-aa1", ram="64M")
    task, space = system.spawn(), system.new_file(b"abc")
    fds = [task.open(space) for _ in range(MOST_FDS - FIRST_FD)]
    calls: list[Callable[[], int]] = [lambda: task.open(space), lambda: task.dup(fds[0])]
    for call in calls:
        with pytest.raises(SyscallError) as refused:
            call()
        assert refused.value.name == "EMFILE"
    task.close(500)
    assert task.dup(fds[0]) == 500
    system.check()


def test_what_is_no_number_or_no_bytes_changes_nothing() -> None:
    """One line, and the system is whole."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    fd = task.open(system.new_file(b"x" * 5000), writable=True)
    wrong: list[Callable[[], object]] = [
        lambda: task.ftruncate(fd, 1.5),  # type: ignore[arg-type]
        lambda: task.pwrite(fd, "abc", 0),  # type: ignore[arg-type]
        lambda: task.pread(fd, 1.0, 0),  # type: ignore[arg-type]
        lambda: task.fallocate(fd, 0, 0, None),  # type: ignore[arg-type]
    ]
    for call in wrong:
        with pytest.raises(UsageError):
            call()
    system.check()
    assert task.file_size(fd) == 5000


def test_a_file_of_another_system_is_refused() -> None:
    """And both systems stay whole."""
    here, there = rmaplab.boot("6.18", ram="64M"), rmaplab.boot("6.18", ram="64M")
    file = there.new_file(b"x")
    here.new_file(b"y")
    with pytest.raises(UsageError, match="another system"):
        here.spawn().open(file)
    here.check()
    there.check()


def test_no_read_takes_more_than_max_rw_count() -> None:
    """Of what never ends either."""
    task = rmaplab.boot("6.18", ram="64M").spawn()
    assert len(task.pread(task.open_zero(), 1 << 62, 0)) == MAX_RW_COUNT
