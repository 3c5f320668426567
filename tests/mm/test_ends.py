"""The ends of the address space, and sums that wrap: what Linux 6.18.44 answered on x86-64 (as root, November 2026).

0 ..... w ........ 2^47 - 4096 | 2^47 ...... not canonical ...... 2^64 - 2^47 | ........ 2^64
        mapped                   SIGSEGV, si_addr 0                             SIGSEGV, si_addr the address
"""

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

import rmaplab
from rmaplab.objects.flags import (
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_MERGEABLE,
    MADV_RANDOM,
    MADV_WIPEONFORK,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from rmaplab.units import PAGE_SIZE

WRAP = 1 << 64
TOP = WRAP - PAGE_SIZE
Call = Callable[[rmaplab.Task, int], object]


def boot() -> tuple[rmaplab.System, rmaplab.Task, int]:
    system = rmaplab.boot("6.18", ram="64M")
    task = system.spawn(root=True)
    return system, task, task.mmap(8 * PAGE_SIZE)


@pytest.mark.parametrize(
    "call",
    [
        lambda task, at: task.mlock(at, WRAP - 1),  # the length wraps to 0 when it is rounded up
        lambda task, at: task.munlock(at, WRAP - 1),
        lambda task, at: task.msync(at, WRAP - 1),
    ],
)
def test_a_length_that_wraps_is_none(call: Call) -> None:
    system, task, at = boot()
    call(task, at)
    assert task.mm is not None
    assert task.mm.locked_vm == 0
    system.check()


@pytest.mark.parametrize(
    ("code", "call", "arguments"),
    [
        (errno.EINVAL, "mlock", (TOP, 1)),  # the end wraps to 0
        (errno.EINVAL, "mlock2", (TOP, PAGE_SIZE)),
        (errno.EINVAL, "munlock", (TOP, PAGE_SIZE)),
        (errno.EINVAL, "madvise", (TOP, PAGE_SIZE, MADV_RANDOM)),
        (errno.ENOMEM, "msync", (TOP, PAGE_SIZE)),
        (errno.EFAULT, "mremap", (PAGE_SIZE, TOP, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, 1 << 30)),
    ],
)
def test_an_end_that_wraps(code: int, call: str, arguments: tuple[int, ...]) -> None:
    system, task, _ = boot()
    with pytest.raises(rmaplab.SyscallError) as error:
        getattr(task, call)(*arguments)
    assert error.value.errno == code
    system.check()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (1 << 47, 0),
        (1 << 62, 0),
        (WRAP - (1 << 47) - 1, 0),
        (1 << 64 - 17, 0),
        (TOP, TOP),
        ((1 << 47) - PAGE_SIZE, (1 << 47) - PAGE_SIZE),
    ],
)
def test_where_a_signal_says_it_was(address: int, told: int) -> None:
    """An address that is none is a general protection fault: it tells no address."""
    _, task, _ = boot()
    for access in (lambda: task.read(address), lambda: task.write(address, b"x"), lambda: task.execute(address)):
        with pytest.raises(rmaplab.SegmentationFault) as fault:
            access()
        assert fault.value.address == told


@pytest.mark.parametrize("advice", [MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_RANDOM, MADV_MERGEABLE])
def test_advice_that_would_split_at_the_limit_is_to_be_tried_again(advice: int) -> None:
    system, task, at = boot()
    system.kernel.rules = replace(system.kernel.rules, max_map_count=1)
    with pytest.raises(rmaplab.SyscallError) as error:
        task.madvise(at + PAGE_SIZE, PAGE_SIZE, advice)
    assert error.value.name == "EAGAIN"
    task.madvise(at, 8 * PAGE_SIZE, advice)  # all of it: no split
    system.check()


def test_root_gets_its_capabilities_again() -> None:
    """At an execve, if it is of uid 0 (security/commoncap.c); nobody else does."""
    system, root, _ = boot()
    other = system.spawn()
    for task, may in ((root, True), (other, False)):
        task.cap_ipc_lock(granted=False)
        task.execve()
        task.limit_memlock(0)
        at = task.mmap(PAGE_SIZE)
        if may:
            task.mlock(at, PAGE_SIZE)
        else:
            with pytest.raises(rmaplab.SyscallError, match="CAP_IPC_LOCK"):
                task.mlock(at, PAGE_SIZE)
