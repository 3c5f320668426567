"""The kernel reads and writes for a task: as far as the task could itself, COW included, and nobody gets a signal. The host says so of 6.18 (tests/data/check/kernel-*)."""

from __future__ import annotations

import errno

import pytest

import rmaplab
from rmaplab.errors import SyscallError
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, PROT_READ
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "6.18"]
AT = 0x2000_0000


def system(kernel: str) -> rmaplab.System:
    return rmaplab.boot(kernel, ram="64M")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_copy_ends_where_an_access_would_fault(kernel: str) -> None:
    """What comes before is copied, to the byte; where there is nothing it is EFAULT, and the task lives."""
    booted = system(kernel)
    task = booted.spawn()
    at = task.mmap(2 * PAGE_SIZE)
    task.mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, at + 2 * PAGE_SIZE)
    assert task.copy_to_user(at + 100, b"x" * 3 * PAGE_SIZE) == 2 * PAGE_SIZE - 100
    assert task.copy_from_user(at + 99, 4 * PAGE_SIZE) == b"\0" + b"x" * (2 * PAGE_SIZE - 100) + b"\0" * PAGE_SIZE
    with pytest.raises(SyscallError) as caught:
        task.copy_to_user(at + 2 * PAGE_SIZE, b"x")
    assert caught.value.errno == errno.EFAULT
    assert task.read(at + 2 * PAGE_SIZE) == b"\0"
    booted.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_copy_breaks_sharing_as_a_store_does(kernel: str) -> None:
    """copy_to_user to a page of two makes a copy; copy_from_user none."""
    booted = system(kernel)
    parent = booted.spawn()
    at = parent.mmap(PAGE_SIZE)
    parent.write(at, b"parent")
    child = parent.fork()
    assert child.copy_from_user(at, 6) == b"parent"
    assert child.copy_to_user(at, b"child!") == 6
    assert (parent.read(at, 6), child.read(at, 6)) == (b"parent", b"child!")
    booted.check()


def test_a_stack_grows_under_a_copy() -> None:
    """As under an access of the task's own."""
    task = system("6.18").spawn()
    task.mmap(PAGE_SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, address=AT)
    assert task.copy_to_user(AT - PAGE_SIZE, bytes(2 * PAGE_SIZE)) == 2 * PAGE_SIZE
    assert task.mm is not None
    assert [(vma.start, vma.end) for vma in task.mm.vmas] == [(AT - PAGE_SIZE, AT + PAGE_SIZE)]


@pytest.mark.parametrize(("kernel", "error"), [("2.4.21", "EINVAL"), ("2.6.2", "EINVAL"), ("6.18", "EFAULT")])
def test_what_is_no_user_memory_is_not_tried(kernel: str, error: str) -> None:
    """Not even what of it would be: access_ok looks at the whole. A length without a sign is EINVAL first in 2004."""
    task = system(kernel).spawn()
    end, size = task.kernel.machine.paging.task_size, task.kernel.machine.paging.wraps_at
    at = task.mmap(PAGE_SIZE)
    for address, length, expected in (
        (end - PAGE_SIZE, 2 * PAGE_SIZE, "EFAULT"), (end, 1, "EFAULT"), (size - 1, 1, "EFAULT"), (at, size // 2, error), (at, size - 1, error),
    ):  # fmt: skip
        with pytest.raises(SyscallError) as caught:
            task.copy_from_user(address, length)
        assert caught.value.name == expected
    assert task.mm is not None
    assert task.mm.rss == 0
