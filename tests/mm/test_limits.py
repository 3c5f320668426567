"""RLIMIT_DATA: the heap alone in 2004, all private writable memory today. What Linux 6.18 says is in tests/data/check/data-limit*.script."""

import errno

import pytest

import rmaplab
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

P = PAGE_SIZE
RW = PROT_READ | PROT_WRITE


def refused(call: object, *arguments: object) -> bool:
    assert callable(call)
    try:
        call(*arguments)
    except rmaplab.SyscallError as error:
        assert error.errno == errno.ENOMEM
        return True
    return False


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_in_2004_it_is_the_heap_s(kernel: str) -> None:
    task = rmaplab.boot(kernel, ram="64M").spawn()
    heap = task.brk()
    task.limit_data(4 * P)
    task.mmap(100 * P)
    assert refused(task.brk, heap + 4 * P + 1)
    assert task.brk(heap + 4 * P) == heap + 4 * P
    task.limit_data(P)
    assert task.brk(heap + 2 * P) == heap + 2 * P  # to shrink is always right


def test_today_it_is_everybody_s() -> None:
    """However memory gets to be writable; what grows down, and what may only be read, is no data."""
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    heap = task.brk()
    task.limit_data(4 * P)
    at = task.mmap(4 * P)
    readable = task.mmap(4 * P, PROT_READ)
    task.mmap(9 * P, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN)
    assert refused(task.mmap, P)
    assert refused(task.brk, heap + P)
    assert refused(task.mprotect, readable, P, RW)
    assert refused(task.mremap, at, P, 2 * P)
    task.mprotect(at, P, PROT_READ)
    task.mprotect(readable, P, RW)
    task.limit_data(0)  # none at all, for valgrind's sake
    task.mmap(100 * P)
    assert refused(task.brk, heap + P)
    system.check()


def test_a_break_beyond_the_limit_is_refused_even_downwards() -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    heap = task.brk()
    task.brk(heap + 4 * P)
    task.limit_data(2 * P)
    assert task.brk(heap + 3 * P) == heap + 4 * P
    assert refused(task.brk, heap + 4 * P + 1)
    assert task.brk(heap + 2 * P) == heap + 2 * P
