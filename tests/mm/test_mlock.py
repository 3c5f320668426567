"""mlock as it was in 2004: who may, within which limit, when pages come, and what the errors are.

The kernels of 2004 against their sources: 2.4.27 and 2.6.2 mm/mlock.c, 2.6.2 mm/memory.c (make_pages_present, get_user_pages),
mm/mremap.c. 6.18 is compared with the running kernel (tests/lab/differential, tests/mm/test_linux_6_18.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.objects.flags import (
    IPC_PRIVATE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_LOCKED,
    MAP_PRIVATE,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    SHM_LOCK,
    VM_LOCKED,
)
from rmaplab.units import PAGE_SIZE as P

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1"]
OF_2_6 = KERNELS[1:]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000


def boot(kernel: str, *, capable: bool = True, ram: str = "64M") -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram=ram)
    task = system.spawn()
    task.cap_ipc_lock(granted=capable)
    return system, task


def area(task: rmaplab.Task, nr: int, prot: int = RW, address: int = BASE) -> int:
    return task.mmap(nr * P, prot, ANON | MAP_FIXED, address)


def refusal(call: Callable[..., object], *arguments: object) -> str | None:
    """The errno's name, or None."""
    try:
        call(*arguments)
    except rmaplab.SyscallError as error:
        return errno.errorcode[error.errno or 0]
    return None


def locked(task: rmaplab.Task) -> list[tuple[int, int, bool]]:
    """Every VMA as (first page, page behind the last, locked?), counted from BASE."""
    assert task.mm is not None
    return [((vma.start - BASE) // P, (vma.end - BASE) // P, bool(vma.flags & VM_LOCKED)) for vma in task.mm.vmas]


def locked_pages(task: rmaplab.Task) -> int:
    assert task.mm is not None
    return task.mm.locked_vm


def rss(task: rmaplab.Task) -> int:
    assert task.mm is not None
    return task.mm.rss


# -- who may -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_nobody_without_the_capability(kernel: str) -> None:
    """do_mlock and do_mlockall ask for it, and munlockall goes through do_mlockall; munlock does not ask. The limit is asked first."""
    system, task = boot(kernel, capable=False)
    a = area(task, 4)
    assert [refusal(task.mlock, a, P), refusal(task.mlockall, MCL_FUTURE), refusal(task.munlockall)] == ["EPERM"] * 3
    assert refusal(task.munlock, a, P) is None
    task.limit_memlock(3 * P)
    assert [refusal(task.mlock, a, 4 * P), refusal(task.mlockall, MCL_CURRENT)] == ["ENOMEM"] * 2
    assert [refusal(task.mlock, a, 3 * P), refusal(task.mlockall, 0)] == ["EPERM", "EINVAL"]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_limit_holds_for_all(kernel: str) -> None:
    """RLIMIT_MEMLOCK, though the capability is there; pages that are locked already count again (sys_mlock)."""
    system, task = boot(kernel)
    a = area(task, 8)
    task.limit_memlock(4 * P)
    assert [refusal(task.mlock, a, 5 * P), refusal(task.mlock, a, 3 * P)] == ["ENOMEM", None]
    assert [refusal(task.mlock, a, 2 * P), refusal(task.mlock, a, P)] == ["ENOMEM", None]
    assert [refusal(task.mlockall, which) for which in (MCL_CURRENT, MCL_FUTURE)] == ["ENOMEM"] * 2  # total_vm is 8
    task.limit_memlock(9 * P)
    task.mlockall(MCL_FUTURE)
    task.mlock(a, 8 * P)
    assert refusal(task.mmap, 2 * P) == "EAGAIN"  # do_mmap_pgoff: no capable() there
    assert refusal(task.mremap, a + 3 * P, 5 * P, 7 * P, 0) == "EAGAIN"
    assert refusal(task.mmap, P) is None
    system.check()


def test_2_4_locks_no_more_than_half_of_memory() -> None:
    """The comment says "at most half of physical memory": 2.4.27 sys_mlock and sys_mlockall; gone in 2.5.66 (944a871e88)."""
    for kernel, answer in (("2.4.21", "ENOMEM"), ("2.6.2", None)):
        system, task = boot(kernel)
        half = system.machine.frames.nr // 2
        big = area(task, half + 1, PROT_READ)
        assert refusal(task.mlock, big, (half + 1) * P) == answer
        assert refusal(task.mlockall, MCL_CURRENT) == answer
        assert refusal(task.mlock, big, P) is None
        system.check()


# -- what it does ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_splits_and_never_merges(kernel: str) -> None:
    """mlock_fixup: split_vma, no vma_merge. Pages come; munlock leaves them, and the pieces apart."""
    system, task = boot(kernel)
    a = area(task, 6)
    task.mlock(a + 2 * P + 1, P)  # bytes of two pages
    assert locked(task) == [(0, 2, False), (2, 4, True), (4, 6, False)]
    assert (locked_pages(task), rss(task)) == (2, 2)
    task.munlock(a, 6 * P)
    assert locked(task) == [(0, 2, False), (2, 4, False), (4, 6, False)]
    assert (locked_pages(task), rss(task)) == (0, 2)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_hole_ends_it(kernel: str) -> None:
    """What precedes the hole is locked, and its pages have come already."""
    system, task = boot(kernel)
    area(task, 2)
    area(task, 2, address=BASE + 3 * P)
    assert refusal(task.mlock, BASE, 5 * P) == "ENOMEM"
    assert locked(task) == [(0, 2, True), (3, 5, False)]
    assert (locked_pages(task), rss(task)) == (2, 2)
    assert refusal(task.munlock, BASE, 5 * P) == "ENOMEM"
    assert [refusal(task.mlock, BASE + 2 * P, n * P) for n in (1, 0)] == ["ENOMEM", None]
    system.check()


@pytest.mark.parametrize("prot", [PROT_NONE, PROT_EXEC])
@pytest.mark.parametrize("kernel", OF_2_6)
def test_pages_that_may_not_be_read_are_efault(kernel: str, prot: int) -> None:
    """get_user_pages wants VM_READ or VM_WRITE: its EFAULT comes back as it is and ends the call; the VMA is locked all the same.

    Asked again it says yes: the flags are there, so nothing is done.
    """
    system, task = boot(kernel)
    area(task, 2)
    area(task, 2, prot, BASE + 2 * P)
    area(task, 2, address=BASE + 4 * P)
    assert refusal(task.mlock, BASE, 6 * P) == "EFAULT"
    assert locked(task) == [(0, 2, True), (2, 4, True), (4, 6, False)]
    assert (locked_pages(task), rss(task)) == (4, 2)
    assert refusal(task.mlock, BASE, 6 * P) is None
    assert (locked_pages(task), rss(task)) == (6, 4)
    system.check()


def test_2_4_does_not_look_whether_pages_came() -> None:
    """2.4.27 mlock_fixup ignores make_pages_present."""
    system, task = boot("2.4.21")
    area(task, 2, PROT_NONE)
    area(task, 2, address=BASE + 2 * P)
    assert refusal(task.mlock, BASE, 4 * P) is None
    assert (locked_pages(task), rss(task)) == (4, 2)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_mlockall(kernel: str) -> None:
    """All there is, errors untold (9b68bd58c4); MCL_FUTURE alone unlocks what is there (until b1f90fbaab); MCL_ONFAULT is of 4.4."""
    system, task = boot(kernel)
    area(task, 2)
    area(task, 2, PROT_NONE, BASE + 2 * P)
    assert refusal(task.mlockall, MCL_CURRENT | MCL_ONFAULT) == "EINVAL"
    task.mlockall(MCL_CURRENT)
    assert locked(task) == [(0, 2, True), (2, 4, True)]
    assert (locked_pages(task), rss(task)) == (4, 2)
    task.mlockall(MCL_FUTURE)
    assert locked(task) == [(0, 2, False), (2, 4, False)]
    area(task, 3, address=BASE + 8 * P)
    assert locked(task)[-1] == (8, 11, True)
    assert (locked_pages(task), rss(task)) == (3, 5)
    task.munlockall()
    assert locked_pages(task) == 0
    assert refusal(task.mlock2, BASE, P) == "ENOSYS"
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_vma_too_many_is_eagain(kernel: str) -> None:
    """mlock_fixup makes EAGAIN of whatever a split says: no memory here."""
    system, task = boot(kernel)
    a = area(task, 4)
    system.machine.allocator.fail_after = 0
    assert [refusal(task.mlock, a + P, P), refusal(task.munlock, a + P, P)] == ["EAGAIN", None]
    system.machine.allocator.fail_after = None
    assert locked(task) == [(0, 4, False)]
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_pages_that_get_no_memory(kernel: str) -> None:
    """2.6.2 tells ENOMEM, with the VMA locked; 2.4 says nothing."""
    system, task = boot(kernel)
    area(task, 1)
    task.write(BASE, b"x")  # the page tables are there
    area(task, 1, PROT_WRITE, BASE + P)
    system.machine.allocator.fail_after = 0
    assert refusal(task.mlock, BASE + P, P) == (None if kernel == "2.4.21" else "ENOMEM")
    system.machine.allocator.fail_after = None
    assert locked(task)[-1] == (1, 2, True)
    assert (locked_pages(task), rss(task)) == (1, 1)
    system.check()


# -- other calls on locked memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_mremap_takes_the_lock_along(kernel: str) -> None:
    """do_mremap: what grows in place comes at once; move_vma counts the new place, and what has grown comes too."""
    system, task = boot(kernel)
    a = area(task, 2)
    task.mlock(a, 2 * P)
    assert task.mremap(a, 2 * P, 4 * P, 0) == a
    assert (locked_pages(task), rss(task)) == (4, 4)
    b = task.mremap(a, 4 * P, 5 * P, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 64 * P)
    assert (locked(task), locked_pages(task), rss(task)) == ([(64, 69, True)], 5, 5)
    task.mremap(b, 5 * P, P)
    assert (locked_pages(task), rss(task)) == (1, 1)
    system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1"])
def test_a_locked_neighbour_that_has_grown_for_nothing(kernel: str) -> None:
    """Those that merge grow the neighbour first, and do not undo it when entries cannot move; nobody has counted what it locks then."""
    system, task = boot(kernel)
    border = 1 << 30  # the page table of what lies above it is not there
    for address in (border - P, BASE):
        task.mlock(area(task, 1, address=address), P)
    system.machine.allocator.fail_after = 0
    assert refusal(task.mremap, BASE, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, border) == "ENOMEM"
    system.machine.allocator.fail_after = None
    assert [(first, last) for first, last, _ in locked(task)] == [
        ((border - BASE) // P - 1, (border - BASE) // P + 1),
        (0, 1),
    ]
    assert locked_pages(task) == 2
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_mprotect_does_not_break_cow_of_locked_pages(kernel: str) -> None:
    """That came later: a locked zero page stays where it is until it is written to."""
    system, task = boot(kernel)
    area(task, 2, PROT_READ)
    task.mlock(BASE, 2 * P)
    task.mprotect(BASE, 2 * P, RW)
    assert rss(task) == 0
    task.write(BASE, b"x")
    assert rss(task) == 1
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_child_has_nothing_locked(kernel: str) -> None:
    """dup_mmap clears VM_LOCKED and locked_vm, mm_init def_flags."""
    system, task = boot(kernel)
    area(task, 2)
    task.mlockall(MCL_CURRENT | MCL_FUTURE)
    child = task.fork()
    assert (locked(child), locked_pages(child)) == ([(0, 2, False)], 0)
    area(child, 2, address=BASE + 8 * P)
    assert locked_pages(child) == 0
    system.check()


@pytest.mark.parametrize("sysctl", [False, True])
@pytest.mark.parametrize("kernel", ["2.6.5-rc3-aa3", "2.6.5-rc3+disable-cap-mlock"])
def test_disable_cap_mlock(kernel: str, sysctl: bool) -> None:
    """history.md 1.5.11: can_do_mlock is the sysctl or CAP_IPC_LOCK, for mlock, mlockall, munlockall and MAP_LOCKED; RLIMIT_MEMLOCK holds for all."""
    system = rmaplab.boot(kernel, ram="64M", disable_cap_mlock=sysctl)
    for capable in (False, True):
        task = system.spawn()
        task.cap_ipc_lock(granted=capable)
        task.limit_memlock(8 * P)
        at, may = area(task, 4), sysctl or capable
        refused = None if may else "EPERM"
        assert refusal(task.mlock, at, 4 * P) == refused
        assert refusal(task.mlockall, MCL_CURRENT) == refused
        assert refusal(task.munlockall) == refused
        assert refusal(task.mmap, 4 * P, RW, ANON | MAP_LOCKED) == refused
        segment = task.shmget(IPC_PRIVATE, 4 * P, 0o600)
        assert refusal(task.shmctl, segment, SHM_LOCK) == refused
        area(task, 16, address=BASE + 100 * P)
        assert refusal(task.mlock, BASE + 100 * P, 16 * P) == "ENOMEM"
        assert refusal(task.mmap, 16 * P, RW, ANON | MAP_LOCKED) == ("EAGAIN" if may else "EPERM")
        system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.5-rc2-aa2", "2.6.7", "6.18"])
def test_kernels_without_the_sysctl_say_where_it_is(kernel: str) -> None:
    """One line, and what to try next."""
    with pytest.raises(rmaplab.UsageError, match=r"no vm\.disable_cap_mlock: leave .* out, or try 2\.6\.5-rc3-aa3"):
        rmaplab.boot(kernel, ram="64M", disable_cap_mlock=True)
