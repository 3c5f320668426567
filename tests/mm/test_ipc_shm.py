"""System V shared memory: limits, ids and errnos of each kernel, nattch, the end of a segment, and what is charged.

6.18 is compared with a running one in tests/host/test_ipc_shm.py. Expected here: files.md F2, G8; ipc/shm.c of each kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

import rmaplab
from rmaplab.errors import KernelBug, NotModelled, OomKilled, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.objects.flags import (
    IPC_CREAT,
    IPC_EXCL,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_STAT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    SHM_DEST,
    SHM_EXEC,
    SHM_HUGETLB,
    SHM_LOCK,
    SHM_LOCKED,
    SHM_NORESERVE,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_UNLOCK,
)
from rmaplab.units import PAGE_SIZE as P

AT, FAR = 0x5000_0000, 0x6000_0000
RW = PROT_READ | PROT_WRITE
MOVES = MREMAP_MAYMOVE | MREMAP_FIXED
OLD = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7")
kernels = pytest.mark.parametrize("kernel", EVERY_KIND)


def a_task(kernel: str, **box: Any) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", **box)
    return system, system.spawn(root=True)


def answer(call: Callable[[], object]) -> object:
    """What it returns, or its errno."""
    try:
        return call()
    except SyscallError as error:
        return error.name


def layout(task: rmaplab.Task, at: int = AT) -> list[tuple[int, int, int]]:
    """(First page from `at` on, pages, page of the segment) of each VMA."""
    assert task.mm is not None
    return [((vma.start - at) // P, vma.nr_pages, vma.pgoff) for vma in task.mm.vmas]


def pages(task: rmaplab.Task) -> dict[int, int]:
    """Address -> page of the segment."""
    assert task.mm is not None
    return {at: vma.index_of(at) for vma in task.mm.vmas for at in range(vma.start, vma.end, P)}


def is_6_18(kernel: str) -> bool:
    return kernel == "6.18"


# -- limits, ids, rights -----------------------------------------------------------------------------------------------


@kernels
def test_sizes(kernel: str) -> None:
    """32 MiB, or what an address can say; and 8 GiB of all, which 2.4 and 2.6 do not quite reach."""
    system, task = a_task(kernel, overcommit=1)
    assert [answer(lambda n=n: task.shmget(IPC_PRIVATE, n)) for n in (0, -1)] == ["EINVAL"] * 2  # type: ignore[misc]
    if is_6_18(kernel):
        assert task.shmget(IPC_PRIVATE, (32 << 20) + 1) == 0
        return
    assert answer(lambda: task.shmget(IPC_PRIVATE, (32 << 20) + 1)) == "EINVAL"
    for _ in range(255):
        task.shmget(IPC_PRIVATE, "32M")
    assert answer(lambda: task.shmget(IPC_PRIVATE, "32M")) == "ENOSPC"
    task.shmget(IPC_PRIVATE, (32 << 20) - P)
    assert answer(lambda: task.shmget(IPC_PRIVATE, 1)) == "ENOSPC"
    system.check()


@pytest.mark.parametrize(("kernel", "most"), [("2.4.21", 4097), ("2.6.2", 4097), ("6.18", 4096)])
def test_so_many_segments(kernel: str, most: int) -> None:
    system, task = a_task(kernel)
    ids = {task.shmget(IPC_PRIVATE, 1) for _ in range(most)}
    assert len(ids) == most
    assert answer(lambda: task.shmget(IPC_PRIVATE, 1)) == "ENOSPC"
    system.check()


def test_ids() -> None:
    """The lowest slot and always another number; or the next slot, and another number when slots begin again."""
    for kernel, expected in (("2.6.2", [0, 32769, 65536, 98306]), ("6.18", [0, 1, 2, 3])):
        _, task = a_task(kernel)
        got = [task.shmget(IPC_PRIVATE, 1), task.shmget(IPC_PRIVATE, 1)]
        task.shmctl(got[0], IPC_RMID)
        got += [task.shmget(IPC_PRIVATE, 1), task.shmget(IPC_PRIVATE, 1)]
        assert got == expected
        assert answer(lambda: task.shmctl(0, IPC_RMID)) == ("EINVAL" if is_6_18(kernel) else "EIDRM")  # noqa: B023
        assert answer(lambda: task.shmat(7, AT)) == "EINVAL"  # noqa: B023
    for turn in range(4, 64):
        assert task.shmget(IPC_PRIVATE, 1) == turn
        task.shmctl(turn, IPC_RMID)
    assert task.shmget(IPC_PRIVATE, 1) == 32768  # 64 slots are gone through, and 0 is free again
    assert task.shmget(IPC_PRIVATE, 1) == 32768 + 4


@kernels
def test_a_key(kernel: str) -> None:
    """Errnos in their order; a removed segment's is nobody's."""
    system, task = a_task(kernel)
    assert answer(lambda: task.shmget(7, P)) == "ENOENT"
    first = task.shmget(7, 5 * P + 100, IPC_CREAT | 0o600)
    cases = [(6 * P, 0), (5 * P + 101, 0), (5 * P + 100, 0), (0, 0), (9 * P, IPC_CREAT | IPC_EXCL), (9 * P, IPC_CREAT)]
    answers = [answer(lambda c=c: task.shmget(7, *c)) for c in cases]  # type: ignore[misc]
    assert answers == ["EINVAL", "EINVAL", first, first, "EEXIST", "EINVAL"]
    task.shmat(first, AT)
    for _ in range(2):
        task.shmctl(first, IPC_RMID)
    assert task.shm_stat(first) == (IPC_PRIVATE, 5 * P + 100, 0o600 | SHM_DEST, 1)
    assert answer(lambda: task.shmget(7, 1)) == "ENOENT"
    assert task.shmget(7, P, IPC_CREAT) != first
    task.shmat(first, FAR)
    for at in (AT, FAR):
        assert task.shm_stat(first).nattch == (2 if at == AT else 1)
        task.shmdt(at)
        system.check()
    assert answer(lambda: task.shm_stat(first)) == "EINVAL"


@kernels
def test_another_user(kernel: str) -> None:
    """Modes are read as for files, root's do not matter; whose it is may remove it."""
    system, root = a_task(kernel)
    mine, open_to_all = root.shmget(1, P, IPC_CREAT | 0o600), root.shmget(2, P, IPC_CREAT | 0o640)
    user = root.fork()
    user.setuid(1000)
    theirs = user.shmget(3, P, IPC_CREAT | 0o600)
    assert answer(lambda: user.shmget(1, P, 0o400)) == "EACCES"
    assert user.shmget(1, P) == mine  # who asks for nothing may know its id
    assert answer(lambda: user.shmat(mine, AT)) == "EACCES"
    assert answer(lambda: user.shmat(open_to_all, AT)) == "EACCES"
    user.shmat(open_to_all, AT, SHM_RDONLY)
    assert answer(lambda: user.shm_stat(mine)) == "EACCES"
    assert user.shm_stat(open_to_all).nattch == 1
    assert answer(lambda: user.shmctl(mine, IPC_RMID)) == "EPERM"
    assert answer(lambda: user.shmat(theirs, FAR, SHM_EXEC)) == ("EACCES" if is_6_18(kernel) else FAR)
    root.shmctl(theirs, IPC_RMID)
    system.check()


@kernels
def test_who_locks(kernel: str) -> None:
    """CAP_IPC_LOCK, in 2004; today the owner, as far as RLIMIT_MEMLOCK. Nothing but the object knows of it."""
    system, root = a_task(kernel)
    user = root.fork()
    user.setuid(1000)
    user.limit_memlock(3 * P)
    two, one = user.shmget(1, 2 * P, IPC_CREAT | 0o600), user.shmget(IPC_PRIVATE, P + 1, 0o600)
    user.shmat(two, AT)
    answers = [answer(lambda n=n: user.shmctl(n, SHM_LOCK)) for n in (two, two, one)]  # type: ignore[misc]
    assert answers == ([None, None, "ENOMEM"] if is_6_18(kernel) else ["EPERM"] * 3)
    root.shmctl(two, SHM_LOCK)
    assert user.shm_stat(two).mode == 0o600 | SHM_LOCKED
    assert user.mm is not None
    assert user.mm.locked_vm == 0
    space = user.mm.vmas[0].file
    assert space is not None
    assert space.mapping.shmem is not None
    assert space.mapping.shmem.locked
    root.shmctl(two, SHM_UNLOCK)
    assert not space.mapping.shmem.locked
    assert user.shm_stat(two).mode == 0o600
    assert answer(lambda: user.shmctl(one, SHM_LOCK)) == (None if is_6_18(kernel) else "EPERM")
    user.limit_memlock(0)
    assert answer(lambda: user.shmctl(two, SHM_LOCK)) == "EPERM"
    assert answer(lambda: user.shmctl(one, SHM_UNLOCK)) == (None if is_6_18(kernel) else "EPERM")
    system.check()


def test_what_is_not_modelled() -> None:
    """Never an errno; on 2.4 the flag means nothing."""
    _, task = a_task("6.18")
    with pytest.raises(NotModelled, match="SHM_HUGETLB"):
        task.shmget(IPC_PRIVATE, P, SHM_HUGETLB)
    with pytest.raises(NotModelled, match="shm_stat"):
        task.shmctl(0, IPC_STAT)
    assert answer(lambda: task.shmctl(0, 77)) == "EINVAL"
    assert a_task("2.4.21")[1].shmget(IPC_PRIVATE, P, SHM_HUGETLB) == 0


# -- attach and detach -------------------------------------------------------------------------------------------------


@kernels
def test_read_only(kernel: str) -> None:
    """The struct file that all attaches share is open for writing: mprotect makes it so. Their own is not. SHM_EXEC came with them."""
    system, task = a_task(kernel)
    segment = task.shmget(IPC_PRIVATE, 2 * P, 0o600)
    task.shmat(segment, AT, SHM_RDONLY | SHM_EXEC)
    assert task.mm is not None
    assert repr(task.mm.vmas[0]).split()[1] == ("r-xs" if is_6_18(kernel) else "r--s")
    assert answer(lambda: task.mprotect(AT, P, RW)) == ("EACCES" if is_6_18(kernel) else None)
    task.shmat(segment, FAR)
    files = {id(vma.file) for vma in task.mm.vmas}
    assert len(files) == (2 if is_6_18(kernel) else 1)
    system.check()


@kernels
def test_places(kernel: str) -> None:
    """A page's address, or one that may be rounded; nothing there, or it is taken away; not just below a stack, in 2004."""
    system, task = a_task(kernel)
    segment = task.shmget(IPC_PRIVATE, 8 * P, 0o600)
    assert answer(lambda: task.shmat(segment, AT + 5)) == "EINVAL"
    assert task.shmat(segment, AT + 5, SHM_RND) == AT
    assert [answer(lambda n=n: task.shmat(segment, AT + n * P)) for n in (0, 7, -7)] == ["EINVAL"] * 3  # type: ignore[misc]
    assert task.shmat(segment, AT + 4 * P, SHM_REMAP) == AT + 4 * P
    assert layout(task) == [(0, 4, 0), (4, 8, 0)]
    assert task.shm_stat(segment).nattch == 2
    assert answer(lambda: task.shmat(segment, 0, SHM_REMAP)) == "EINVAL"
    top = system.machine.paging.task_size
    answers = [answer(lambda n=n: task.shmat(segment, top - n * P)) for n in (7, 8, 12, 13)]  # type: ignore[misc]
    if is_6_18(kernel):
        assert answers == ["ENOMEM", top - 8 * P, "EINVAL", "EINVAL"]
    else:
        assert answers == ["EINVAL"] * 3 + [top - 13 * P]
        assert task.shmat(segment, top - 8 * P, SHM_REMAP) == top - 8 * P
    rounded_to_nil = answer(lambda: task.shmat(segment, 5, SHM_REMAP | SHM_RND))
    assert isinstance(rounded_to_nil, str) == is_6_18(kernel)
    system.check()


def test_detach() -> None:
    """By an equation, by a search, by a search that minds pages and files: what is left of five pages and a bit, without its second page."""
    for kernel, left in (("2.4.21", []), ("2.6.2", [(2, 4, 2)]), ("2.6.7", [(2, 4, 2)]), ("6.18", [])):
        system, task = a_task(kernel)
        segment = task.shmget(IPC_PRIVATE, 5 * P + 100, 0o600)
        task.shmat(segment, AT)
        task.munmap(AT + P, P)
        assert task.shm_stat(segment).nattch == 2
        assert answer(lambda: task.shmdt(AT + P)) == "EINVAL"  # noqa: B023
        task.shmdt(AT)
        assert layout(task) == left
        assert task.shm_stat(segment).nattch == len(left)
        system.check()


@pytest.mark.parametrize(("kernel", "found"), [("2.4.21", False), ("2.6.2", True), ("2.6.7", True), ("6.18", False)])
def test_an_address_that_is_no_pages(kernel: str, found: bool) -> None:
    """2.6.2 divides, and finds the page behind it."""
    _, task = a_task(kernel)
    task.shmat(task.shmget(IPC_PRIVATE, P, 0o600), AT)
    assert answer(lambda: task.shmdt(AT + 1)) == "EINVAL"
    assert answer(lambda: task.shmdt(AT - 1)) == (None if found else "EINVAL")


@pytest.mark.parametrize(("kernel", "left"), [("2.4.21", 0), ("2.6.2", 1), ("6.18", 2)])
def test_what_lies_as_if_it_were_of_it(kernel: str, left: int) -> None:
    """The first three pages, the middle of another segment behind them, and the end of the first one far away: who takes which."""
    system, task = a_task(kernel)
    first, other = (task.shmget(IPC_PRIVATE, 8 * P, 0o600) for _ in range(2))
    task.shmat(first, AT)
    task.munmap(AT + 3 * P, 5 * P)
    task.shmat(other, FAR)
    task.mremap(FAR + 3 * P, 2 * P, 2 * P, MOVES, AT + 3 * P)
    task.munmap(FAR, 8 * P)
    task.mremap(AT, 0, 12 * P, MOVES, FAR)
    task.mremap(FAR + 9 * P, 3 * P, 3 * P, MOVES, AT + 9 * P)  # beyond the size of the segment
    task.munmap(FAR, 9 * P)
    assert layout(task) == [(0, 3, 0), (3, 2, 3), (9, 3, 9)]
    task.shmdt(AT)
    assert len(layout(task)) == left
    system.check()


# -- nattch, and the end -----------------------------------------------------------------------------------------------


@kernels
def test_the_memory_of_one(kernel: str) -> None:
    """Charged once, by its size; neither fork nor detach changes that; contents stay while it does; at the end all is as before."""
    system, task = a_task(kernel)
    k, accounted = system.kernel, kernel != "2.4.21"
    before = k.committed_pages, len(k.page_cache.files), k.shmid_cache.nr_objects
    segment = task.shmget(1, 5 * P + 100, IPC_CREAT | 0o600)
    assert k.committed_pages - before[0] == (6 if accounted else 0)
    task.shmat(segment, AT)
    task.write(AT + 2 * P, b"shared")
    child = task.fork()
    assert child.read(AT + 2 * P, 6) == b"shared"
    child.write(AT, b"child")
    assert task.read(AT, 5) == b"child"
    assert task.shm_stat(segment).nattch == 2
    child.execve()
    assert task.shm_stat(segment).nattch == 1
    task.shmdt(AT)
    assert child.shm_stat(segment).nattch == 0
    task.exit()
    assert k.committed_pages - before[0] == (6 if accounted else 0)
    assert child.read(child.shmat(child.shmget(1, 1)), 5) == b"child"
    child.shmctl(segment, IPC_RMID)
    system.check()
    child.exit()
    system.check()
    assert (k.committed_pages, len(k.page_cache.files), k.shmid_cache.nr_objects) == before


@kernels
def test_more_than_can_be_promised(kernel: str) -> None:
    """ENOMEM, with nothing left behind; without a promise if that is known, and mode 2 does not forbid it."""
    size = "100M" if is_6_18(kernel) else "32M"  # all of RAM; what is free
    for mode, expected in ((0, 0 if is_6_18(kernel) else "ENOMEM"), (2, 0 if kernel == "2.4.21" else "ENOMEM")):
        system, task = a_task(kernel, boot_use="40M", overcommit=mode)
        if mode == 0:
            assert answer(lambda: task.shmget(IPC_PRIVATE, size)) == "ENOMEM"  # noqa: B023
        system.check()
        assert answer(lambda: task.shmget(IPC_PRIVATE, size, SHM_NORESERVE)) == expected  # noqa: B023
        system.check()


@kernels
def test_removed_while_somebody_attaches(kernel: str) -> None:
    """It waits for mmap_sem: nattch counts the call, so that nobody destroys the segment under it. If it fails, the segment goes then."""
    for fails in (False, True):
        system, task = a_task(kernel)
        other = system.spawn(root=True)
        segment = task.shmget(IPC_PRIVATE, P, 0o600)
        seen: list[int] = []

        def listen(point: object, task: rmaplab.Task = other, segment: int = segment, seen: list[int] = seen) -> None:
            del point
            seen.append(task.shm_stat(segment).nattch)
            task.shmctl(segment, IPC_RMID)

        if fails:
            task.mmap(P, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, address=AT)
        system.watch(lambda point: None if seen or point.name != "mmap_sem" else listen(point))  # noqa: B023
        got = answer(lambda: task.shmat(segment, AT))  # noqa: B023
        system.watch(None)
        assert (got, seen) == ("EINVAL" if fails else AT, [1])
        system.check()
        assert answer(lambda: task.shm_stat(segment)) == ("EINVAL" if fails else (0, P, 0o600 | SHM_DEST, 1))  # noqa: B023


@kernels
@pytest.mark.parametrize("seed", range(3))
def test_nattch_is_the_number_of_vmas(kernel: str, seed: int) -> None:
    """Whatever splits, moves, forks and dies: check() recounts after each call, and at the end nothing is left."""
    system, first = a_task(kernel)
    choose, tasks = Random(seed), [first]
    segments = [first.shmget(IPC_PRIVATE, size, 0o600) for size in (5 * P + 100, 8 * P)]

    def step(task: rmaplab.Task) -> None:
        at, to, nr = AT + choose.randrange(20) * P, AT + choose.randrange(20) * P, choose.randrange(1, 5) * P
        flags = choose.choice((0, SHM_RDONLY, SHM_REMAP))
        what: dict[Callable[[], object], int] = {
            lambda: task.shmat(choose.choice(segments), at, flags): 4,
            lambda: task.shmdt(at): 2,
            lambda: task.mprotect(at, nr, choose.choice((RW, PROT_READ))): 4,
            lambda: task.munmap(at, nr): 2,
            lambda: task.mremap(at, nr, nr, MOVES, to): 2,
            lambda: task.mremap(at, 0, nr, MOVES, to): 1,
            lambda: task.mremap(at, nr, nr + P, 0): 1,
            lambda: tasks.append(task.fork()) if len(tasks) < 3 else None: 1,
            lambda: task.execve() if len(tasks) > 1 else None: 1,
            lambda: (tasks.remove(task), task.exit()) if len(tasks) > 1 else None: 1,  # type: ignore[func-returns-value]
        }
        answer(choose.choices(list(what), list(what.values()))[0])
        system.check()

    for _ in range(120):
        step(choose.choice(tasks))
    for segment in segments:
        tasks[0].shmctl(segment, IPC_RMID)
    for task in tasks:
        task.exit()
    system.check()
    left = {name: cache.nr_objects for name, cache in system.machine.caches.items() if cache.nr_objects}
    assert left == {}
    assert system.kernel.committed_pages + system.kernel.committed_drift == 0


def test_check_recounts() -> None:
    """A mutant in each of its lines is seen."""
    mutants: tuple[tuple[Callable[[Any], object], str], ...] = (
        (lambda k: setattr(k.shm.slots[0], "nattch", 2), "shm_nattch"),
        (lambda k: setattr(k.shm, "nr_pages", 0), "shm_tot"),
        (lambda k: k.shm.slots.clear(), "shm_nattch"),
        (lambda k: k.shmid_cache.alloc(), "slabinfo"),
        (lambda k: k.shm_file_data_cache.alloc(), "slabinfo"),
    )
    for wrong, where in mutants:
        system, task = a_task("6.18")
        task.shmat(task.shmget(IPC_PRIVATE, P, 0o600), AT)
        system.check()
        wrong(system.kernel)
        with pytest.raises(KernelBug, match=where):
            system.check()


# -- the n-th allocation -----------------------------------------------------------------------------------------------


class OneLife:
    """Two processes and two segments: every call that there is. A call that fails has not happened."""

    def __init__(self, kernel: str, nth: int) -> None:
        self.system, self.first = a_task(kernel)
        self.allocator = self.system.machine.allocator
        self.failed = ""
        self.allocator.fail_after = nth

    def call(self, task: rmaplab.Task, call: Callable[[], object]) -> object:
        """Its result; None if it failed."""
        if task.mm is None:
            return None
        before = pages(task)
        try:
            return call()
        except (SyscallError, OomKilled) as error:
            assert self.allocator.fail_after is None, error
            assert not isinstance(error, SyscallError) or error.name in ("ENOMEM", "ENFILE", "ENOSPC")
            self.failed = f"{call.__name__} {error}"
            assert task.mm is None or pages(task) == before  # what was split stays so
            self.system.check()
        return None

    def live(self) -> None:
        first = self.first
        ids = [self.call(first, lambda n=n: first.shmget(n, 5 * P + 100, IPC_CREAT | 0o600)) for n in (1, 2)]  # type: ignore[misc]
        for at, shmid in zip((AT, FAR), ids, strict=True):
            if isinstance(shmid, int) and self.call(first, lambda at=at, shmid=shmid: first.shmat(shmid, at)):  # type: ignore[misc]
                self.call(first, lambda at=at: first.write(at, b"x"))  # type: ignore[misc]
                self.call(first, lambda at=at: first.mprotect(at + P, P, PROT_READ))  # type: ignore[misc]
        child = self.call(first, first.fork)
        if isinstance(child, rmaplab.Task):
            self.call(child, lambda: child.read(AT + 2 * P) if layout(child)[:1] == [(0, 1, 0)] else None)
            self.call(child, child.execve)
            if isinstance(ids[0], int):
                self.call(child, lambda: child.shmat(int(str(ids[0])), 0, SHM_RDONLY))
            if child.mm is not None:
                child.exit()
        for at in (AT, FAR):
            if first.mm is not None and first.mm.overlapping(at, at + 6 * P):
                self.call(first, lambda at=at: first.shmdt(at))  # type: ignore[misc]
        last = self.system.spawn(root=True) if first.mm is None else first
        for shmid in ids:
            if isinstance(shmid, int):
                self.call(last, lambda shmid=shmid: last.shmctl(shmid, IPC_RMID))  # type: ignore[misc]
        last.exit()


@kernels
def test_every_allocation_fails_in_turn(kernel: str) -> None:
    """Nothing is left behind, whichever it was."""
    failures: set[str] = set()
    for nth in range(200):
        life = OneLife(kernel, nth)
        life.live()
        over, life.allocator.fail_after = life.allocator.fail_after is not None, None
        life.system.check()
        assert life.system.kernel.shm.slots == {}
        left = {name: cache.nr_objects for name, cache in life.system.machine.caches.items() if cache.nr_objects}
        assert left == {}, life.failed
        assert life.system.kernel.committed_pages + life.system.kernel.committed_drift == 0
        failures.add(life.failed)
        if over:
            break
    else:
        raise AssertionError("it does not end")
    assert nth > 15
    assert any("shmget" in failure for failure in failures), failures
    assert any("shmat" in failure for failure in failures), failures
