"""madvise as it was in 2004: five kinds of advice, found out VMA by VMA; splits, and never a merge.

Sources: 2.4.27 mm/filemap.c and 2.6.2 mm/madvise.c (sys_madvise, madvise_vma, madvise_behavior); eras.md 6.3. 6.18 is compared with the
running kernel (tests/lab/differential, tests/mm/test_linux_6_18.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

import rmaplab
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.objects.flags import (
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_HUGEPAGE,
    MADV_NORMAL,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    VM_RAND_READ,
    VM_SEQ_READ,
)
from rmaplab.units import PAGE_SIZE as P

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
BASE = 0x5000_0000
HINTS = {0: " ", VM_RAND_READ: "r", VM_SEQ_READ: "s"}


def boot(kernel: str) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M")
    return system, system.spawn()


def area(task: rmaplab.Task, nr: int, address: int = BASE) -> int:
    return task.mmap(nr * P, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, address)


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    """The errno's name, or None."""
    try:
        call(*arguments)
    except rmaplab.SyscallError as error:
        return errno.errorcode[error.errno or 0]
    return None


def drawn(task: rmaplab.Task) -> str:
    """The VMAs, a bar between two: pages with no hint, `r`andom or `s`equential."""
    assert task.mm is not None
    return "|".join(HINTS[vma.flags & (VM_RAND_READ | VM_SEQ_READ)] * vma.nr_pages for vma in task.mm.vmas)


@pytest.mark.parametrize("kernel", KERNELS)
def test_hints_split_and_stay_apart(kernel: str) -> None:
    """madvise_behavior splits at both ends, whether anything changes or not, and joins nothing."""
    system, task = boot(kernel)
    a = area(task, 8)
    task.madvise(a + P, P, MADV_NORMAL)
    assert drawn(task) == " | |      "
    task.madvise(a, 3 * P, MADV_RANDOM)
    assert drawn(task) == "r|r|r|     "
    task.madvise(a, 4 * P, MADV_SEQUENTIAL)
    assert drawn(task) == "s|s|s|s|    "
    task.madvise(a, 8 * P, MADV_NORMAL)
    assert drawn(task) == " | | | |    "
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_dontneed(kernel: str) -> None:
    """Entries go and the VMA stays, one; locked memory refuses it."""
    system, task = boot(kernel)
    a = area(task, 4)
    task.write(a + P, b"something")
    task.madvise(a, 4 * P, MADV_DONTNEED)
    assert (task.read(a + P, 9), drawn(task)) == (bytes(9), "    ")
    task.cap_ipc_lock(granted=True)
    task.mlock(a + 2 * P, P)
    assert refusal(task.madvise, a, 4 * P, MADV_DONTNEED) == "EINVAL"
    system.check()


@pytest.mark.parametrize(
    "advice", [-1, 5, 7, MADV_FREE, MADV_DONTFORK, MADV_HUGEPAGE, MADV_POPULATE_WRITE, 100, MADV_GUARD_INSTALL]
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_unknown_advice_is_found_out_by_a_vma(kernel: str, advice: int) -> None:
    """Up to 2.6.7 EINVAL only where a VMA is met: nothing to do is fine, nothing there is ENOMEM (eras.md 6.3)."""
    system, task = boot(kernel)
    a = area(task, 2)
    assert refusal(task.madvise, a, P, advice) == "EINVAL"
    assert refusal(task.madvise, a, 0, advice) is None
    assert refusal(task.madvise, a + 2 * P, P, advice) == "ENOMEM"
    assert refusal(task.madvise, a - P, 2 * P, advice) == "EINVAL"
    assert drawn(task) == "  "
    system.check()


def test_6_18_looks_at_the_advice_first() -> None:
    """madvise_behavior_valid: EINVAL whatever is there."""
    _, task = boot("6.18")
    a = area(task, 2)
    assert [refusal(task.madvise, at, nr * P, 7) for at, nr in ((a, 1), (a, 0), (a + 2 * P, 1))] == ["EINVAL"] * 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_willneed_is_for_files(kernel: str) -> None:
    """madvise_willneed: EBADF; a hole does not stop it, and an error of a VMA comes before that of a hole."""
    _, task = boot(kernel)
    a = area(task, 2)
    assert refusal(task.madvise, a, P, MADV_WILLNEED) == "EBADF"
    assert refusal(task.madvise, a - P, 2 * P, MADV_WILLNEED) == "EBADF"
    assert refusal(task.madvise, a + 1, P, MADV_RANDOM) == "EINVAL"
    area(task, 2, a + 3 * P)
    assert refusal(task.madvise, a, 5 * P, MADV_RANDOM) == "ENOMEM"
    assert drawn(task) == "rr|rr"


@pytest.mark.parametrize("kernel", [*KERNELS[1:], "6.18"])
def test_no_vma_is_eagain(kernel: str) -> None:
    """No memory for it, or one too many: EAGAIN both. On a running 6.18.44 with 65,530 mappings madvise says so too, and mlock ENOMEM."""
    system, task = boot(kernel)
    a = area(task, 4)
    system.machine.allocator.fail_after = 0
    assert refusal(task.madvise, a + P, P, MADV_RANDOM) == "EAGAIN"
    system.machine.allocator.fail_after = None
    spec = find_kernel(kernel)
    few = replace(spec, figures={**spec.figures, "max_map_count": Figure(1, "this test", Status.BELIEVED)})
    crowded = rmaplab.boot(few, ram="64M").spawn()
    assert refusal(crowded.madvise, area(crowded, 4) + P, P, MADV_RANDOM) == "EAGAIN"
    crowded.cap_ipc_lock(granted=True)
    assert refusal(crowded.mlock, BASE + P, P) == ("ENOMEM" if kernel == "6.18" else "EAGAIN")
