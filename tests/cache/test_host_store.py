"""A directory of the host, shown read-only: bytes come when they are read, and no name leads out of it."""

import errno
import os
from pathlib import Path

import pytest

import rmaplab
from rmaplab.errors import BusError, SyscallError, UsageError
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.5-rc1-aa1", "6.18")


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    inside = tmp_path / "shown"
    (inside / "a").mkdir(parents=True)
    (inside / "a" / "a").write_bytes(b"below")
    (inside / "file").write_bytes(b"first".ljust(PAGE_SIZE) + b"second")
    (tmp_path / "secret").write_text("not to be seen")
    (inside / "out").symlink_to("../secret")
    (inside / "in").symlink_to("file")
    (inside / "up").symlink_to("..")
    os.mkfifo(inside / "fifo")
    return inside


@pytest.mark.parametrize("kernel", KERNELS)
def test_bytes_come_lazily_and_nothing_is_written(kernel: str, shown: Path) -> None:
    system = rmaplab.boot(kernel, ram="64M")
    task, directory = system.spawn(), system.mount_host(shown)
    file = directory.file("file")
    assert (file.size, len(file.pages), directory.file("file")) == (PAGE_SIZE + 6, 0, file)
    fd = task.open(file)
    assert task.pread(fd, 100, PAGE_SIZE) == b"second"
    assert list(file.pages) == [1]
    at = task.mmap(3 * PAGE_SIZE, 3, MAP_PRIVATE, file=fd)
    task.write(at, b"F")
    assert (task.read(at, 5), task.pread(fd, 5, 0)) == (b"First", b"first")
    with pytest.raises(BusError):
        task.read(at + 2 * PAGE_SIZE, 1)
    with pytest.raises(SyscallError) as failure:
        task.open(file, writable=True)
    assert failure.value.errno == errno.EROFS
    with pytest.raises(SyscallError):
        task.mmap(PAGE_SIZE, 3, MAP_SHARED, file=fd)
    system.check()
    assert (shown / "file").read_bytes().startswith(b"first")
    assert task.pread(task.open(directory.file("a/a")), 9, 0) == b"below"


def test_a_file_that_is_cut_on_the_host(shown: Path) -> None:
    """What is gone reads as zeros."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    fd = task.open(system.mount_host(shown).file("file"))
    os.truncate(shown / "file", 3)
    assert task.pread(fd, 5, 0) == b"fir\0\0"
    assert task.pread(fd, 6, PAGE_SIZE) == bytes(6)


@pytest.mark.parametrize(
    "name",
    [
        "out", "in", "up/secret", "../secret", "a/../file", "a/../../secret", "/etc/passwd", "a", "a/", "fifo", "", ".", "./file",
        "absent", "file/x", "a//a", "file\0", "n" * 300, "\x1b]0;x",
    ],
)  # fmt: skip
def test_no_name_leads_out(name: str, shown: Path) -> None:
    """One line, no file, and no descriptor is left open."""
    directory = rmaplab.boot("6.18", ram="64M").mount_host(shown)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UsageError) as failure:
        directory.file(name)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # what others have left may be collected now
    assert str(failure.value).isprintable()


def test_no_directory_there(shown: Path) -> None:
    for path in (shown / "file", shown / "absent", "nul\0"):
        with pytest.raises(UsageError):
            rmaplab.boot("6.18", ram="64M").mount_host(path)


def test_a_name_is_a_path_or_no_name_at_all(shown: Path) -> None:
    """What the host cannot even encode is refused, and holds nothing open."""
    directory = rmaplab.boot("6.18", ram="64M").mount_host(shown)
    assert directory.file(Path("a/a")) is directory.file("a/a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UsageError, match="no name that a file can have"):
        directory.file("\ud800")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # what others have left may be collected now
