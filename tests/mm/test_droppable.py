"""MAP_DROPPABLE: what may go at any time is not promised, locked or inherited. What Linux 6.18 says is in tests/data/check/droppable.script."""

import errno

import pytest

import rmaplab
from rmaplab.objects.flags import (
    MADV_DODUMP,
    MADV_KEEPONFORK,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MCL_FUTURE,
    PROT_READ,
    PROT_WRITE,
    VM_LOCKED,
)
from rmaplab.units import PAGE_SIZE

P = PAGE_SIZE
RW = PROT_READ | PROT_WRITE
FLAGS = MAP_DROPPABLE | MAP_ANONYMOUS


def test_it_costs_no_promise_and_no_child_has_it() -> None:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn()
    task.cap_ipc_lock(granted=True)
    before = system.kernel.committed_pages
    at = task.mmap(4 * P, RW, FLAGS)
    assert system.kernel.committed_pages == before
    task.write(at, b"secret")
    assert task.fork().read(at, 6) == bytes(6)
    task.mlock(at, 4 * P)
    task.mlockall(MCL_FUTURE)
    task.mmap(4 * P, RW, FLAGS)
    assert task.mm is not None
    assert not any(vma.flags & VM_LOCKED for vma in task.mm.vmas)
    assert task.mm.locked_vm == 0
    assert task.mm.rss == 8  # they have been brought in all the same
    system.check()


@pytest.mark.parametrize("more", [MAP_LOCKED, MAP_GROWSDOWN, 0x2])
def test_it_is_a_type_and_no_flag(more: int) -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.mmap(P, RW, FLAGS | more)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("advice", [MADV_KEEPONFORK, MADV_DODUMP])
def test_it_stays_as_it_is(advice: int) -> None:
    task = rmaplab.boot("6.18", ram="64M").spawn()
    at = task.mmap(P, RW, FLAGS)
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.madvise(at, P, advice)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_in_2004_there_is_no_such_type(kernel: str) -> None:
    task = rmaplab.boot(kernel, ram="64M").spawn()
    with pytest.raises(rmaplab.SyscallError) as refused:
        task.mmap(P, RW, FLAGS)
    assert refused.value.errno == errno.EINVAL
