"""Guard regions: markers in page tables. What becomes of them on the host is in tests/data/check/guard-life.script.

|[p][p][G][G][p][p]|     pages 2 and 3 are guarded
"""

import errno

import pytest

import rmaplab
from rmaplab.machine.entries import EntryKind
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MADV_DONTNEED, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE
from rmaplab.units import PAGE_SIZE

NR = 6


def guarded() -> tuple[rmaplab.System, rmaplab.Task, int]:
    system = rmaplab.boot("6.18", ram="64M", swap="4M")
    task = system.spawn()
    at = task.mmap(NR * PAGE_SIZE)
    task.touch(at, NR * PAGE_SIZE, write=True)
    task.madvise(at + 2 * PAGE_SIZE, 2 * PAGE_SIZE, MADV_GUARD_INSTALL)
    system.check()
    return system, task, at


def markers(task: rmaplab.Task) -> list[int]:
    """The addresses that have one."""
    assert task.mm is not None
    machine = task.kernel.machine
    found, _ = read_page_tables(machine, task.mm.pgd)
    kinds = [machine.encoding.kind(entry) for entry in found.others.tolist()]
    assert set(kinds) <= {EntryKind.MARKER}
    return [int(address) for address in found.other_addresses]


def test_nobody_touches_it_and_all_else_is_as_before() -> None:
    system, task, at = guarded()
    assert task.mm is not None
    assert markers(task) == [at + 2 * PAGE_SIZE, at + 3 * PAGE_SIZE]
    assert (task.mm.rss, task.mm.map_count) == (NR - 2, 1)
    for access in (lambda: task.read(at, NR * PAGE_SIZE), lambda: task.touch(at, NR * PAGE_SIZE, write=True)):
        with pytest.raises(rmaplab.SegmentationFault) as fault:
            access()
        assert fault.value.address == at + 2 * PAGE_SIZE
    with pytest.raises(rmaplab.SegmentationFault) as fault:
        task.write(at + 3 * PAGE_SIZE + 17, b"x")
    assert fault.value.address == at + 3 * PAGE_SIZE + 17
    system.check()


def test_it_outlives_what_takes_pages_away() -> None:
    system, task, at = guarded()
    task.madvise(at, NR * PAGE_SIZE, MADV_DONTNEED)
    assert len(markers(task)) == 2
    child = task.fork()
    assert markers(child) == markers(task)
    task.munmap(at, NR * PAGE_SIZE)
    assert markers(task) == []
    child.madvise(at, NR * PAGE_SIZE, MADV_GUARD_REMOVE)
    assert child.read(at + 2 * PAGE_SIZE, 1) == b"\0"
    system.check()
    child.exit()
    task.exit()
    system.check()


@pytest.mark.parametrize("granted", range(4))
def test_where_memory_runs_out(granted: int) -> None:
    """Page tables are needed even where nothing was: ENOMEM, and what is done stays."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    at = task.mmap("4M")
    system.machine.allocator.fail_after = granted
    try:
        task.madvise(at, 4 << 20, MADV_GUARD_INSTALL)
    except rmaplab.SyscallError as failure:
        assert failure.errno == errno.ENOMEM
    system.machine.allocator.fail_after = None
    system.check()
    task.madvise(at, 4 << 20, MADV_GUARD_INSTALL)
    assert len(markers(task)) == 1024
    system.check()


def test_a_kernel_without_it_does_not_know_the_word() -> None:
    task = rmaplab.boot("2.6.2", ram="64M").spawn()
    at = task.mmap(PAGE_SIZE)
    with pytest.raises(rmaplab.SyscallError, match="madvise"):
        task.madvise(at, PAGE_SIZE, MADV_GUARD_INSTALL)
