"""What overcommit promises of files in memory, by era: their size, the pages that they have, or nothing. files.md B3, F1.

2.4      nothing                         a write, a fault, ftruncate ask nobody
2.6.2    size     |--------------|       ENOMEM of what makes it longer; back when it gets shorter
2.6.7    pages    |xx   xxxx     |       ENOSPC of a write, SIGBUS of a fault; back with each page
"""

from typing import Any

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug, NoMemory, OomKilled, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.machine.frames import PG_RESERVED
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.objects.shmem import Account, SwapVector
from rmaplab.units import PAGE_SIZE

kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
TESTED = [kernel for kernel in EVERY_KIND if kernel != "2.4.21"]
LIMIT = 64
"""Pages that overcommit allows in strict()."""


class OnTmpfs:
    def __init__(self, kernel: str, nr_pages: int = 0, **box: Any) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", **box)
        self.task = self.system.spawn(root=True)
        self.space = self.system.new_file(size=nr_pages * PAGE_SIZE, on_disk=False)
        self.fd = self.task.open(self.space, writable=True)
        self.account = self.system.kernel.rules.tmpfs_account

    def check(self, size: int, pages: int) -> None:
        """The file has so many pages of both kinds; what is promised follows."""
        expected = {Account.NOTHING: 0, Account.SIZE: size, Account.PAGES: pages}[self.account]
        assert (self.space.nr_pages, len(self.space.pages)) == (size, pages)
        assert self.system.kernel.committed_pages == expected
        self.system.check()

    def blocks(self) -> int:
        nr, rest = divmod(self.task.file_blocks(self.fd) * 512, PAGE_SIZE)
        assert not rest
        return nr


def strict(kernel: str) -> OnTmpfs:
    return OnTmpfs(kernel, overcommit=2, overcommit_ratio=0, swap=(LIMIT + 1) * PAGE_SIZE)


@kernels
def test_promises_follow_the_file(kernel: str) -> None:
    file = OnTmpfs(kernel, 10)
    task, fd = file.task, file.fd
    file.check(10, 0)
    at = task.mmap(10 * PAGE_SIZE, 3, MAP_SHARED, file=fd)
    task.read(at + 3 * PAGE_SIZE)
    task.write(at + 4 * PAGE_SIZE, b"x")
    file.check(10, 2)
    private = task.mmap(10 * PAGE_SIZE, 1, MAP_PRIVATE, file=fd)
    task.touch(private, 8 * PAGE_SIZE)
    file.check(10, 8)
    task.pread(fd, PAGE_SIZE, 9 * PAGE_SIZE)
    file.check(10, 8)
    task.pwrite(fd, bytes(PAGE_SIZE + 1), 10 * PAGE_SIZE)
    file.check(12, 10)
    task.ftruncate(fd, 20 * PAGE_SIZE + 1)
    file.check(21, 10)
    task.ftruncate(fd, 4 * PAGE_SIZE + 1)
    file.check(5, 5)
    task.ftruncate(fd, 0)
    file.check(0, 0)


@pytest.mark.parametrize("kernel", TESTED)
def test_what_is_not_promised_is_refused(kernel: str) -> None:
    """By size: of the call that makes the file longer. By page: of the write or the touch that wants one more; a write is cut there."""
    file = strict(kernel)
    task, fd = file.task, file.fd
    if file.account is Account.SIZE:
        task.ftruncate(fd, LIMIT * PAGE_SIZE)
        for call in (
            lambda: task.ftruncate(fd, LIMIT * PAGE_SIZE + 1),
            lambda: task.pwrite(fd, b"x" * PAGE_SIZE, LIMIT * PAGE_SIZE - 1),
        ):
            with pytest.raises(SyscallError) as refused:
                call()
            assert refused.value.name == "ENOMEM"
        file.check(LIMIT, 0)
        at = task.mmap(LIMIT * PAGE_SIZE, 3, MAP_SHARED, file=fd)
        task.touch(at, LIMIT * PAGE_SIZE, write=True)
        file.check(LIMIT, LIMIT)
        return
    task.ftruncate(fd, 10 * LIMIT * PAGE_SIZE)
    at = task.mmap(8 * PAGE_SIZE, 3, MAP_SHARED, file=fd, pgoff=LIMIT - 4)
    assert task.pwrite(fd, bytes(2 * LIMIT * PAGE_SIZE), 0) == LIMIT * PAGE_SIZE
    with pytest.raises(SyscallError) as refused:
        task.pwrite(fd, b"x", LIMIT * PAGE_SIZE)
    assert refused.value.name == "ENOSPC"
    with pytest.raises(BusError):
        task.read(at + 4 * PAGE_SIZE)
    task.touch(at, 4 * PAGE_SIZE)
    file.check(10 * LIMIT, LIMIT)
    task.ftruncate(fd, (LIMIT - 2) * PAGE_SIZE)
    task.ftruncate(fd, 10 * LIMIT * PAGE_SIZE)
    with pytest.raises(BusError):
        task.touch(at, 8 * PAGE_SIZE, write=True)  # but for the last two that may be had
    file.check(10 * LIMIT, LIMIT)


@kernels
def test_a_short_write_gives_back(kernel: str) -> None:
    """Where memory ends behind the first page, the file is as long as what was written, and promised is no more."""
    file = OnTmpfs(kernel)
    file.task.pwrite(file.fd, b"x", PAGE_SIZE)
    file.system.machine.allocator.fail_after = 1
    written = file.task.pwrite(file.fd, bytes(10 * PAGE_SIZE), 2 * PAGE_SIZE)
    assert written == PAGE_SIZE
    nr = written // PAGE_SIZE
    file.check(2 + nr, 1 + nr)


def test_2_4_asks_nobody() -> None:
    """Though shared anonymous memory of the size is refused."""
    file = OnTmpfs("2.4.21", swap=0)
    with pytest.raises(SyscallError):
        file.task.mmap("128M", 3, MAP_SHARED | MAP_ANONYMOUS)
    file.task.ftruncate(file.fd, 128 << 20)
    file.check((128 << 20) // PAGE_SIZE, 0)


@kernels
def test_blocks(kernel: str) -> None:
    """files.md F1: the pages, and up to 3.0 those of the swap vector, which come with the first page of their range; freed by truncate."""
    file = OnTmpfs(kernel, 1 << 20)
    per_page = PAGE_SIZE // file.system.machine.paging.word_bytes
    has = file.system.kernel.rules.swap_vector
    last_of_root = 16 + per_page // 2 * per_page - 1
    expected = 0
    for index, pages_of_vector in (
        (0, 0),
        (15, 0),
        (16, 2),
        (17, 0),
        (16 + per_page, 1),
        (last_of_root, 1),
        (last_of_root + 1, 2),
    ):
        file.task.pwrite(file.fd, b"x", index * PAGE_SIZE)
        expected += 1 + (pages_of_vector if has else 0)
        assert file.blocks() == expected
        file.system.check()
    for index, left in ((last_of_root + 1, 6 + 4 * has), (last_of_root, 5 + 3 * has + has), (17, 3 + 2 * has), (16, 2)):
        file.task.ftruncate(file.fd, index * PAGE_SIZE)
        assert file.blocks() == left
        file.system.check()
    file.task.ftruncate(file.fd, 0)
    assert file.blocks() == 0


def brute_force(entries: int, indexes: list[int]) -> dict[tuple[int, int], int]:
    """The pages that places for these indexes take, and the first index that each is for, by walking the picture from the left."""
    taken, at = dict[tuple[int, int], int](), 16
    for leaf in range(entries // 2 * (entries + 1)):
        directory, within = divmod(leaf - entries // 2, entries)
        if any(at <= index < at + entries for index in indexes):
            taken |= {(0, 0): 16, (2, leaf): at}
            if directory >= 0:
                taken[1, directory] = at - within * entries
        at += entries
    return taken


def test_a_vector_has_a_place_for_every_page() -> None:
    """Against brute force, with four places a page: whatever comes, in whatever order; a cut takes what begins behind it, and no more."""
    random = np.random.default_rng(7)
    for _ in range(300):
        vector, indexes = SwapVector(4), list[int]()
        assert vector.most == 16 + 4 * 4 // 2 * 5
        for _ in range(random.integers(1, 9)):
            more = np.unique(random.integers(0, vector.most, random.integers(1, 4)))
            for place in vector.missing(more):
                vector.pages[place] = len(vector.pages)
            indexes += more.tolist()
            assert vector.pages.keys() == brute_force(4, indexes).keys()
        before, cut = set(vector.pages.values()), int(random.integers(0, vector.most))
        gone = vector.cut(cut)
        assert {place for place, first in brute_force(4, indexes).items() if first < cut} == vector.pages.keys()
        assert sorted([*gone, *vector.pages.values()]) == sorted(before)


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.7"])
def test_where_a_vector_lies(kernel: str) -> None:
    """Low memory in 2.4, high memory in 2.6, where there is any."""
    system = rmaplab.boot(kernel, ram="1G", paging="i386")
    task = system.spawn()
    space = system.new_file(size="64M", on_disk=False)
    task.pwrite(task.open(space, writable=True), b"x", 32 << 20)
    assert space.shmem is not None
    assert space.shmem.vector is not None
    lowmem = system.machine.paging.lowmem_bytes // PAGE_SIZE
    assert [pfn < lowmem for pfn in space.shmem.vector.pages.values()] == [kernel == "2.4.21"] * 2
    assert not (system.machine.frames.flags[[*space.shmem.vector.pages.values()]] & PG_RESERVED).any()
    system.check()
    space.shmem.vector.pages[2, 99] = system.machine.frames.nr - 1
    with pytest.raises(KernelBug):
        system.check()


@kernels
def test_every_allocation_of_a_touch_fails_in_turn(kernel: str) -> None:
    """Of a page far out, so that vector and index grow: the task dies, tries again, or the kernel does (GFP_ATOMIC); promises are as they were."""
    outcomes = set[str]()
    for nth in range(20):
        file = OnTmpfs(kernel, 1 << 20)
        at = file.task.mmap(PAGE_SIZE, 3, MAP_SHARED, file=file.fd, pgoff=(1 << 20) - 1)
        file.system.machine.allocator.fail_after = nth
        try:
            file.task.write(at, b"x")
            outcomes.add("done")
        except (OomKilled, NoMemory) as failure:
            outcomes.add(type(failure).__name__)
        over = file.system.machine.allocator.fail_after is not None
        file.system.machine.allocator.fail_after = None
        done = file.task.mm is not None
        file.check(1 << 20, int(done))
        if over:
            break
    else:
        raise AssertionError("it does not end")
    assert outcomes == ({"done"} if kernel == "6.18" else {"done", "OomKilled"})
    assert nth >= 4


def test_the_file_that_is_made_with_bytes() -> None:
    """They are its pages, though nobody has asked for them yet."""
    system = rmaplab.boot("6.18", ram="64M")
    space: AddressSpace = system.new_file(b"x" * (3 * PAGE_SIZE), 8 * PAGE_SIZE, on_disk=False)
    task = system.spawn()
    fd = task.open(space, writable=True)
    assert (task.file_blocks(fd), system.kernel.committed_pages) == (24, 3)
    assert task.pread(fd, 1, PAGE_SIZE) == b"x"
    task.pwrite(fd, b"y" * PAGE_SIZE, 2 * PAGE_SIZE)
    assert (task.file_blocks(fd), system.kernel.committed_pages) == (24, 3)
    system.check()
    task.ftruncate(fd, PAGE_SIZE)
    assert (task.file_blocks(fd), system.kernel.committed_pages) == (8, 1)
    system.check()
