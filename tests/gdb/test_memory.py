"""What is mapped is read and written as the task would see it; nothing comes to be because somebody looks.

0 --- page 0: written --- page 1: never touched --- page 2: the zero page --- page 3: written, shared with a child
"""

import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.gdb import memory
from rmaplab.gdb.stops import MOST_BREAKPOINTS, MOST_WATCHPOINTS, WRITE, Stops
from rmaplab.objects.flags import PROT_EXEC, PROT_READ
from rmaplab.units import PAGE_SIZE

CODE = PROT_READ | PROT_EXEC


@pytest.fixture(params=[("2.6.5-rc1-aa1", "i386"), ("2.6.5-rc1-aa1", "i386-pae"), ("6.18", "x86-64")], ids=str)
def task(request: pytest.FixtureRequest) -> Task:
    """With the four pages, and a child."""
    kernel, paging = request.param
    task = rmaplab.boot(kernel, ram="32M", boot_use="2M", paging=paging).spawn()
    start = task.mmap("16K")
    task.write(start, b"a" * PAGE_SIZE)
    task.touch(start + 2 * PAGE_SIZE, 1)
    task.write(start + 3 * PAGE_SIZE, b"shared")
    task.fork()
    task.write(start, b"mine")
    return task


def test_reading(task: Task) -> None:
    """Up to the first page that is not there; over the border of pages; not a fault, and nothing is counted."""
    k, mm = task.kernel, task.mm
    assert mm is not None
    start = mm.vmas[0].start
    before = (dict(k.machine.ledger.counts), mm.rss, k.machine.allocator.nr_free)
    assert memory.read(k, mm, start, 6) == b"mineaa"
    assert memory.read(k, mm, start + PAGE_SIZE - 2, 100) == b"aa"
    assert memory.read(k, mm, start + PAGE_SIZE, 1) == b""
    assert memory.read(k, mm, start + 3 * PAGE_SIZE - 1, 3) == b"\0sh"
    for address in (0, -1, k.machine.paging.task_size, 1 << 63):
        assert memory.read(k, mm, address, 4) == b""
    assert memory.read(k, None, start, 4) == b""
    assert (dict(k.machine.ledger.counts), mm.rss, k.machine.allocator.nr_free) == before
    frame = memory.find_frame(k, mm, start)
    assert memory.read_physical(k, frame * PAGE_SIZE, 4) == b"mine"
    assert memory.read_physical(k, k.machine.ram.nr_frames * PAGE_SIZE - 1, 4) == b"\0"
    assert memory.read_physical(k, 1 << 70, 4) == memory.read_physical(k, -4, 4) == b""


def test_code_that_nobody_has_run(task: Task) -> None:
    """What a first fetch would find, from the disk or from the page cache; nothing behind its end, nothing to write to, and the page does not come for it."""
    k, mm = task.kernel, task.mm
    assert mm is not None
    data = b"".join(bytes([65 + page]) * PAGE_SIZE for page in range(3))[:-10]
    for is_cached in (False, True):
        file = k.new_file(data)
        start = task.mmap("16K", CODE, file=task.open(file))
        if is_cached:
            task.read(start, 3 * PAGE_SIZE - 10)
            task.munmap(start, "16K")
            start = task.mmap("16K", CODE, file=task.open(file))
        before = (dict(k.machine.ledger.counts), mm.rss, k.machine.allocator.nr_free, len(file.pages))
        assert memory.read(k, mm, start + PAGE_SIZE - 1, 2) == b"AB"
        assert memory.read(k, mm, start + 3 * PAGE_SIZE - 11, 100) == b"C" + bytes(10)
        assert memory.find_frame(k, mm, start) == -1
        with pytest.raises(UsageError):
            memory.write(k, mm, start, b"none")
        assert (dict(k.machine.ledger.counts), mm.rss, k.machine.allocator.nr_free, len(file.pages)) == before
        assert bool(file.pages) == is_cached
        assert memory.read(k, mm, task.mmap("16K", file=task.open(file)), 4) == b""  # data is not code


def test_writing(task: Task) -> None:
    """What is the task's own; not what others have, not the zero page, not what is not there: and then nothing at all."""
    k, mm = task.kernel, task.mm
    assert mm is not None
    start = mm.vmas[0].start
    memory.write(k, mm, start + 1, b"INE")
    assert task.read(start, 4) == b"mINE"
    for address in (start + PAGE_SIZE - 2, start + 2 * PAGE_SIZE, start + 3 * PAGE_SIZE, 0, -8):
        with pytest.raises(UsageError):
            memory.write(k, mm, address, b"none")
    assert task.read(start + PAGE_SIZE - 2, 2) == b"aa"
    assert task.read(start + 3 * PAGE_SIZE, 6) == b"shared"


def test_too_much_is_asked_for() -> None:
    """Breakpoints and watchpoints have bounds."""
    stops = Stops()
    with pytest.raises(UsageError):
        stops.insert(WRITE, 0x1000, 0)
    with pytest.raises(UsageError):
        stops.insert(WRITE, 0x1000, 1 << 40)
    for i in range(MOST_WATCHPOINTS):
        stops.insert(WRITE, 0x1000 * i, 8)
    for i in range(MOST_BREAKPOINTS):
        stops.insert(0, i, 1)
    for kind in (WRITE, 0):
        with pytest.raises(UsageError):
            stops.insert(kind, 1 << 40, 8)
    stops.clear()
    assert not stops
