"""A disk that fails: each read or write of a page fails in turn. EIO of a call, SIGBUS of a fault, and whoever comes later tries again."""

from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.errors import BusError, DiskError, SyscallError
from rmaplab.objects.flags import MAP_PRIVATE, MAP_SHARED, MS_SYNC
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)
DATA = b"".join(b"page %d" % i + bytes(PAGE_SIZE - 6) for i in range(4))
READS_OF_A_FAULT = {"2.4.21": 3, "6.18": 2}  # else 3, too
READS_OF_READ = {"2.4.21": 1}  # else 2


class Failing(dict[int, bytes]):
    """A store that cannot read, or write, the `nr` times from the `nth` on; if `page` is given, that page: others can be read, and do not count."""

    def __init__(self, store: dict[int, bytes], nth: int, nr: int, page: int | None = None) -> None:
        super().__init__(store)
        self.bad, self.page = range(nth, nth + nr), page
        self.reads = self.writes = 0

    def __getitem__(self, index: int) -> bytes:
        counts = self.page in (None, index)
        self.reads += counts
        if counts and self.reads - 1 in self.bad:
            raise DiskError(f"page {index} cannot be read")
        return super().__getitem__(index)

    def __setitem__(self, index: int, data: bytes) -> None:
        self.writes += 1
        if self.writes - 1 in self.bad:
            raise DiskError(f"page {index} cannot be written")
        super().__setitem__(index, data)


class Mapped:
    """A task with four pages of a file open and mapped, on a disk that fails."""

    def __init__(self, kernel: str, flags: int, nth: int, nr: int, page: int | None = None) -> None:
        self.system = rmaplab.boot(kernel, ram="64M")
        self.task = self.system.spawn()
        self.file = self.system.new_file(DATA)
        self.store = self.file.store = Failing(dict(self.file.store), nth, nr, page)
        self.fd = self.task.open(self.file, writable=True)
        self.at = self.task.mmap(4 * PAGE_SIZE, 3, flags, file=self.fd)

    def ends(self, call: Callable[[], object]) -> str:
        """How a call or a touch ends; everything is counted, and nothing is locked."""
        try:
            call()
            how = "ok"
        except BusError:
            how = "SIGBUS"
        except SyscallError as failure:
            how = failure.name
        self.system.check()
        assert not self.system.machine.locks.held()
        return how


@kernels
@pytest.mark.parametrize("flags", [MAP_SHARED, MAP_PRIVATE])
@pytest.mark.parametrize("write", [False, True])
def test_a_fault_whose_page_cannot_be_read(kernel: str, flags: int, write: bool) -> None:
    """2.6.2 reads ahead, then reads, then once more; only if all fail it is SIGBUS. The page stays in the cache, and the next fault reads it."""
    most = READS_OF_A_FAULT.get(kernel, 3)
    for failing in range(1, most + 1):
        mapped = Mapped(kernel, flags, 0, failing, page=1)
        expected = "SIGBUS" if failing == most else "ok"
        assert mapped.ends(lambda m=mapped: m.task.touch(m.at + PAGE_SIZE, 1, write=write)) == expected  # type: ignore[misc]
        assert 1 in mapped.file.pages
        assert mapped.ends(lambda m=mapped: m.task.touch(m.at + PAGE_SIZE, 1, write=write)) == "ok"  # type: ignore[misc]
        assert mapped.task.read(mapped.at + PAGE_SIZE, 6) == b"page 1"


@kernels
def test_the_second_fault_reads_once_less(kernel: str) -> None:
    """What is in the cache is not read ahead again: after SIGBUS the disk fails on, and that is SIGBUS again, with one read less."""
    mapped = Mapped(kernel, MAP_SHARED, 0, 100, page=0)
    most = READS_OF_A_FAULT.get(kernel, 3)
    for reads in (most, 2 * most - 1):
        assert mapped.ends(lambda: mapped.task.touch(mapped.at, 1)) == "SIGBUS"
        assert mapped.store.reads == reads


@kernels
def test_a_stretch_is_touched_up_to_the_page_that_cannot_be_read(kernel: str) -> None:
    mapped = Mapped(kernel, MAP_SHARED, 0, 100, page=2)
    with pytest.raises(BusError) as fault:
        mapped.task.touch(mapped.at, 4 * PAGE_SIZE)
    assert fault.value.address == mapped.at + 2 * PAGE_SIZE
    mapped.system.check()
    mapped.store.bad = range(0)
    mapped.task.touch(mapped.at, 4 * PAGE_SIZE)
    assert mapped.task.read(mapped.at + 3 * PAGE_SIZE, 6) == b"page 3"


@kernels
def test_read_and_write_of_a_page_that_cannot_be_read(kernel: str) -> None:
    """EIO; less than was asked for, where a page before it could be read. Later it works."""
    most = READS_OF_READ.get(kernel, 2)
    for failing in range(1, most + 1):
        mapped = Mapped(kernel, MAP_SHARED, 0, failing, page=0)
        expected = "EIO" if failing == most else "ok"
        assert mapped.ends(lambda m=mapped: m.task.pread(m.fd, 6, 0)) == expected  # type: ignore[misc]
        assert mapped.task.pread(mapped.fd, 6, 0) == b"page 0"
    short = Mapped(kernel, MAP_SHARED, 0, 100, page=1)
    assert short.task.pread(short.fd, 2 * PAGE_SIZE, 0) == DATA[:PAGE_SIZE]
    wrote = Mapped(kernel, MAP_SHARED, 0, 1, page=0)
    assert wrote.ends(lambda: wrote.task.pwrite(wrote.fd, b"x", 0)) == "EIO"
    assert wrote.task.pwrite(wrote.fd, b"x", 0) == 1
    assert wrote.task.pread(wrote.fd, 6, 0) == b"xage 0"


@kernels
def test_what_cannot_be_written_is_eio_and_the_rest_is_written(kernel: str) -> None:
    """Fsync and msync: the page that failed counts as clean, so that a second fsync says nothing."""
    for call in ("fsync", "msync"):
        mapped = Mapped(kernel, MAP_SHARED, 0, 0)
        for page in range(3):
            mapped.task.pwrite(mapped.fd, b"X", page * PAGE_SIZE)
        mapped.store.bad = range(1, 2)
        sync = {
            "fsync": lambda m=mapped: m.task.fsync(m.fd),
            "msync": lambda m=mapped: m.task.msync(m.at, 4 * PAGE_SIZE, MS_SYNC),
        }[call]
        assert mapped.ends(sync) == "EIO"
        assert [dict.__getitem__(mapped.store, page)[:1] for page in range(3)] == [b"X", b"p", b"X"]
        assert mapped.ends(sync) == "ok"
