"""fallocate and MADV_REMOVE: pages before anybody asks, and holes. files.md D2, G3, G10; what 6.18.44 did (differential runs of 700 random histories)."""

import errno
from dataclasses import replace

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, NotModelled, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.objects.flags import (
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

KEEP, RW = FALLOC_FL_KEEP_SIZE, PROT_READ | PROT_WRITE
PUNCH = FALLOC_FL_PUNCH_HOLE | KEEP


class Full:
    """A file of 8 pages of x, all there, mapped shared and privately by a task; copies of pages 2 and 5 are its own."""

    def __init__(self, *, loses: bool = False) -> None:
        self.system = rmaplab.boot("6.18", ram="64M")
        self.kernel = self.system.kernel
        self.kernel.rules = replace(self.kernel.rules, punch_loses_copies=loses)
        self.task = self.system.spawn()
        self.fd = self.task.memfd_create()
        self.task.pwrite(self.fd, b"x" * 8 * PAGE_SIZE, 0)
        self.shared = self.task.mmap(8 * PAGE_SIZE, RW, MAP_SHARED, file=self.fd)
        self.private = self.task.mmap(8 * PAGE_SIZE, RW, MAP_PRIVATE, file=self.fd)
        self.task.touch(self.shared, 8 * PAGE_SIZE)
        self.task.touch(self.private, 8 * PAGE_SIZE)
        for page in (2, 5):
            self.task.write(self.private + page * PAGE_SIZE, b"mine")
        self.space = self.task.opened("fstat", self.fd).mapping

    def there(self) -> list[int]:
        return list(self.space.pages)


@pytest.mark.parametrize("loses", [False, True])
def test_a_hole(loses: bool) -> None:
    """Whole pages go, and with them entries; edges are zeros; private copies stay, which 2.6.34 lost."""
    full = Full(loses=loses)
    task, start, end = full.task, PAGE_SIZE + 100, 6 * PAGE_SIZE + 7
    full.task.fallocate(full.fd, PUNCH, start, end - start)
    full.system.check()
    assert full.there() == [0, 1, 6, 7]
    assert (task.file_size(full.fd), task.file_blocks(full.fd)) == (8 * PAGE_SIZE, 32)
    content = b"x" * start + bytes(end - start) + b"x" * (8 * PAGE_SIZE - end)
    assert task.pread(full.fd, 8 * PAGE_SIZE, 0) == content
    assert task.read(full.shared, 8 * PAGE_SIZE) == content
    for page in range(2, 6):
        copy = b"mine" if page in (2, 5) and not loses else bytes(4)
        assert task.read(full.private + page * PAGE_SIZE, 4) == copy
    assert full.there() == list(range(8))  # what was read is there again
    full.system.check()


@pytest.mark.parametrize(
    "at",
    [(0, 1), (100, 200), (PAGE_SIZE - 1, 2), (3 * PAGE_SIZE, PAGE_SIZE), (7 * PAGE_SIZE, 1 << 40), (9 * PAGE_SIZE, 5)],
)
def test_holes_of_all_sizes(at: tuple[int, int]) -> None:
    full = Full()
    start, length = at
    full.task.fallocate(full.fd, PUNCH, start, length)
    expected = bytearray(b"x" * 8 * PAGE_SIZE)
    stop = min(start + length, len(expected))
    expected[start:stop] = bytes(max(stop - start, 0))
    assert full.task.pread(full.fd, 1 << 20, 0) == bytes(expected)
    whole = {page for page in range(8) if start <= page * PAGE_SIZE and (page + 1) * PAGE_SIZE <= start + length}
    assert full.there() == [page for page in range(8) if page not in whole]
    full.system.check()


def test_madv_remove() -> None:
    """Of what is shared and may be written some day; not where it is locked, private, or of nobody."""
    full = Full()
    task = full.task
    task.mprotect(full.shared, 8 * PAGE_SIZE, PROT_READ)
    task.madvise(full.shared + PAGE_SIZE, 3 * PAGE_SIZE, MADV_REMOVE)
    assert full.there() == [0, 4, 5, 6, 7]
    assert task.read(full.private + 2 * PAGE_SIZE, 4) == b"mine"
    anonymous = task.mmap(PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
    task.write(anonymous, b"x")
    task.madvise(anonymous, PAGE_SIZE, MADV_REMOVE)
    assert task.read(anonymous) == b"\0"
    on_disk = task.open(full.system.new_file(b"x"), writable=True)
    with pytest.raises(NotModelled):
        task.madvise(task.mmap(PAGE_SIZE, RW, MAP_SHARED, file=on_disk), PAGE_SIZE, MADV_REMOVE)
    nobodys = task.mmap(PAGE_SIZE)
    read_only = task.mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, file=task.open(full.space))
    task.cap_ipc_lock(granted=True)
    task.mlock(anonymous, PAGE_SIZE)
    for at, code in (
        (full.private, errno.EACCES),
        (read_only, errno.EACCES),
        (nobodys, errno.EINVAL),
        (anonymous, errno.EINVAL),
    ):
        with pytest.raises(SyscallError) as refused:
            task.madvise(at, PAGE_SIZE, MADV_REMOVE)
        assert refused.value.errno == code
    full.system.check()


@pytest.mark.parametrize("kernel", [kernel for kernel in EVERY_KIND if kernel != "6.18"])
def test_old_kernels_know_neither(kernel: str) -> None:
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    at = task.mmap(PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
    with pytest.raises(SyscallError) as refused:
        task.madvise(at, PAGE_SIZE, MADV_REMOVE)
    assert refused.value.errno == errno.EINVAL


def test_what_is_refused() -> None:
    full = Full()
    task, fd = full.task, full.fd
    reader, on_disk = task.open(full.space), task.open(full.system.new_file(b"x"), writable=True)
    for mode, offset, length, code, which in (
        (0, 0, 0, errno.EINVAL, fd),
        (PUNCH, -1, 1, errno.EINVAL, fd),
        (FALLOC_FL_PUNCH_HOLE, 0, 1, errno.EOPNOTSUPP, fd),
        (FALLOC_FL_ZERO_RANGE, 0, 1, errno.EOPNOTSUPP, fd),
        (FALLOC_FL_COLLAPSE_RANGE, 0, PAGE_SIZE, errno.EOPNOTSUPP, fd),
        (FALLOC_FL_INSERT_RANGE | KEEP, 0, PAGE_SIZE, errno.EOPNOTSUPP, fd),
        (0x4000, 0, 1, errno.EOPNOTSUPP, reader),
        (0, 0, 1, errno.EBADF, reader),
        (0, (1 << 63) - 1, 1, errno.EFBIG, fd),
        (0, 0, 1, errno.EBADF, 99),
        (0, 0, 1, errno.ENODEV, task.open_zero()),
    ):
        with pytest.raises(SyscallError) as refused:
            task.fallocate(which, mode, offset, length)
        assert refused.value.errno == code, (mode, offset, length)
    with pytest.raises(NotModelled):
        task.fallocate(on_disk, PUNCH, 0, PAGE_SIZE)
    full.system.check()


def test_pages_before_anybody_asks() -> None:
    """They take memory and promises, and are zeros; not uptodate until somebody asks: neither mincore nor a fault around tells of them."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    fd = task.memfd_create()
    task.fallocate(fd, 0, 100, 20 * PAGE_SIZE)
    assert (task.file_size(fd), task.file_blocks(fd)) == (20 * PAGE_SIZE + 100, 21 * 8)
    assert system.kernel.committed_pages == 21
    at = task.mmap(16 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
    assert task.mincore(at, 16 * PAGE_SIZE) == [False] * 16
    assert task.pread(fd, 10, PAGE_SIZE) == bytes(10)
    assert task.mincore(at, 16 * PAGE_SIZE) == [False] * 16  # read(2) does not ask for it
    task.read(at + 3 * PAGE_SIZE)
    assert task.mincore(at, 16 * PAGE_SIZE) == [page == 3 for page in range(16)]
    task.fallocate(fd, 0, 5 * PAGE_SIZE, PAGE_SIZE)  # once more is asking, too
    task.pwrite(fd, b"x", 7 * PAGE_SIZE + 5)
    assert task.mincore(at, 16 * PAGE_SIZE) == [page in (3, 5, 7) for page in range(16)]
    assert task.read(at + 7 * PAGE_SIZE, 7) == bytes(5) + b"x\0"
    system.check()


def test_pages_behind_the_end() -> None:
    """KEEP_SIZE: nobody can touch them; the file grows over them, or a cut takes them, one to its own size too."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    fd = task.memfd_create()
    task.ftruncate(fd, PAGE_SIZE)
    task.fallocate(fd, KEEP, 0, 4 * PAGE_SIZE)
    at = task.mmap(8 * PAGE_SIZE, RW, MAP_SHARED, file=fd)
    assert (task.file_size(fd), task.file_blocks(fd)) == (PAGE_SIZE, 32)
    with pytest.raises(BusError):
        task.read(at + PAGE_SIZE)
    system.check()
    task.ftruncate(fd, 2 * PAGE_SIZE)
    assert task.read(at + PAGE_SIZE) == b"\0"
    assert task.file_blocks(fd) == 32
    task.ftruncate(fd, 2 * PAGE_SIZE)
    assert task.file_blocks(fd) == 16
    task.fallocate(fd, KEEP, 0, 4 * PAGE_SIZE)
    task.exit()
    system.check()
    assert system.kernel.committed_pages == 0


def test_every_allocation_fails_in_turn() -> None:
    """What fallocate cannot have leaves nothing; but what was used before stays."""
    for nth in range(30):
        system = rmaplab.boot("6.18", ram="64M")
        task = system.spawn()
        fd = task.memfd_create()
        task.pwrite(fd, b"used", 70 * PAGE_SIZE)
        system.machine.allocator.fail_after = nth
        try:
            task.fallocate(fd, 0, 62 * PAGE_SIZE, 12 * PAGE_SIZE)
        except SyscallError as error:
            assert error.name == "ENOMEM"
            assert list(task.opened("", fd).mapping.pages) == [70]
            assert (task.file_size(fd), system.kernel.committed_pages) == (70 * PAGE_SIZE + 4, 1)
            system.check()
            continue
        system.machine.allocator.fail_after = None
        assert task.file_blocks(fd) == 12 * 8
        system.check()
        break
    assert nth >= 11


def test_no_promise_leaves_nothing() -> None:
    system = rmaplab.boot("6.18", ram="64M", overcommit=2, overcommit_ratio=0, swap=100 * PAGE_SIZE)
    task = system.spawn(root=True)
    fd = task.memfd_create()
    with pytest.raises(SyscallError) as refused:
        task.fallocate(fd, 0, 0, 200 * PAGE_SIZE)
    assert refused.value.name == "ENOSPC"
    assert (task.file_blocks(fd), task.file_size(fd), system.kernel.committed_pages) == (0, 0, 0)
    task.fallocate(fd, 0, 0, 90 * PAGE_SIZE)
    system.check()


@pytest.mark.parametrize("seed", range(6))
def test_holes_and_pages_at_random(seed: int) -> None:
    """Against an array of bytes and a set of pages, kept in plain Python."""
    random = np.random.default_rng(seed)
    full = Full()
    content, pages = bytearray(b"x" * 8 * PAGE_SIZE), set(range(8))
    for _ in range(60):
        start, length = int(random.integers(0, 40 * PAGE_SIZE)), int(random.integers(1, 6 * PAGE_SIZE))
        covered = set(range(start // PAGE_SIZE, -(-(start + length) // PAGE_SIZE)))
        match random.integers(0, 4):
            case 0:
                full.task.fallocate(full.fd, 0, start, length)
                content.extend(bytes(max(start + length - len(content), 0)))
                pages |= covered
            case 1:
                full.task.fallocate(full.fd, PUNCH, start, length)
                stop = min(start + length, len(content))
                content[start:stop] = bytes(max(stop - start, 0))
                pages -= {
                    page for page in covered if start <= page * PAGE_SIZE and (page + 1) * PAGE_SIZE <= start + length
                }
            case 2:
                full.task.pwrite(full.fd, b"y" * length, start)
                content.extend(bytes(max(start + length - len(content), 0)))
                content[start : start + length] = b"y" * length
                pages |= covered
            case _:
                full.task.ftruncate(full.fd, start)
                del content[start:]
                content.extend(bytes(max(start - len(content), 0)))
                pages = {page for page in pages if page * PAGE_SIZE < start}
        full.system.check()
        assert full.task.pread(full.fd, 1 << 20, 0) == bytes(content)
        assert set(full.there()) == pages
