"""What each call takes, in which order, on each kernel; and that nothing is held when it is over.

A row of eras.md 9 is a test; what is not modelled there (file locks, the second looks at a page table) is left out. Locks
that are taken page by page are counted: `chain` stands for PG_chainlock of 2.6.2, PG_maplock of aa1 and anonmm, none in 2.4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.machine.locks import Lock, Locks
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1"]
ANONMM, AA1 = KERNELS[3:]
CHAIN = dict(zip(KERNELS, [None, "PG_chainlock", "PG_chainlock", "PG_maplock", "PG_maplock"], strict=True))
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000
AREAS = (0, 100, 200)  # three of four pages each, in one page table
R, W = "mmap_sem R", "mmap_sem W"
PTL, MMLIST, ANON_VMA, ANONMM_LOCK = "page_table_lock", "mmlist_lock", "anon_vma_lock", "anonmm_lock"


class Watch:
    """Writes down what is taken: `order` one by one, `pages` those that are only counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.pages: Counter[str] = Counter()
        take, pass_through, count = Locks.take, Locks.pass_through, Locks.count

        def name(lock: Lock, write: bool) -> str:
            return f"{lock.type.name} {'W' if write else 'R'}" if lock.type.name == "mmap_sem" else lock.type.name

        def taken(locks: Locks, lock: Lock, *, write: bool = True) -> None:
            self.order.append(name(lock, write))
            take(locks, lock, write=write)

        def passed(locks: Locks, lock: Lock, *, write: bool = True) -> None:
            self.order.append(name(lock, write))
            pass_through(locks, lock, write=write)

        def counted(locks: Locks, class_name: str, nr: int, *, write: bool = True) -> None:
            self.pages[class_name] += nr
            count(locks, class_name, nr, write=write)

        monkeypatch.setattr(Locks, "take", taken)
        monkeypatch.setattr(Locks, "pass_through", passed)
        monkeypatch.setattr(Locks, "count", counted)

    def during(self, system: rmaplab.System, call: Callable[[], object]) -> tuple[list[str], dict[str, int]]:
        self.order.clear()
        self.pages.clear()
        call()
        assert system.machine.locks.held() == []
        return list(self.order), {name: nr for name, nr in self.pages.items() if nr}


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def boot(kernel: str, *, write: bool = True) -> tuple[rmaplab.System, rmaplab.Task]:
    """A task with the three areas, each written apart."""
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    for first in AREAS:
        task.mmap(4 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, at(first))
        if write:
            task.touch(at(first), 4 * PAGE_SIZE, write=True)
    return system, task


def chain(kernel: str, nr: int, **others: int) -> dict[str, int]:
    name = CHAIN[kernel]
    return ({name: nr} if name and nr else {}) | others


def only(kernel: str, on: str, *names: str) -> list[str]:
    return list(names) if kernel == on else []


@pytest.mark.parametrize("kernel", KERNELS)
def test_fork(kernel: str, watch: Watch) -> None:
    """Mmap W; mmlist S; per VMA anon_vma S, then dst ptl > src ptl, chainlock or maplock B per entry."""
    system, task = boot(kernel)
    order, pages = watch.during(system, task.fork)
    per_vma = [*only(kernel, AA1, ANON_VMA), PTL, PTL]
    assert order == [W, MMLIST, *only(kernel, ANONMM, ANONMM_LOCK), *per_vma * 3]
    assert pages == chain(kernel, 12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_anonymous_write_fault(kernel: str, watch: Watch) -> None:
    """Mmap R; ptl S; chainlock or maplock B: one page, one of each. A first object needs no lock, as nobody knows it."""
    system, task = boot(kernel, write=False)
    assert watch.during(system, lambda: task.write(at(0), b"x")) == ([R, PTL], chain(kernel, 1))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_read_fault_and_an_access_that_does_not_fault(kernel: str, watch: Watch) -> None:
    """The zero page has no reverse map; what the MMU does alone takes nothing."""
    system, task = boot(kernel, write=False)
    assert watch.during(system, lambda: task.read(at(0))) == ([R, PTL], {})
    assert watch.during(system, lambda: task.read(at(0))) == ([], {})


@pytest.mark.parametrize("kernel", KERNELS)
def test_copy_on_write(kernel: str, watch: Watch) -> None:
    """As a write fault, and a trylock of the page; two chain or map locks for a copy, none for a reuse in 2.6.2."""
    system, task = boot(kernel)
    child = task.fork()
    order, pages = watch.during(system, lambda: child.write(at(0), b"x"))
    assert (order, pages) == ([R, PTL], chain(kernel, 2, PG_locked=1))
    system.kernel.lru_add.drain_all()
    order, pages = watch.during(system, lambda: task.write(at(0), b"x"))
    assert order == [R, PTL]
    assert pages["PG_locked"] == 1
    assert kernel == ANONMM or pages == {"PG_locked": 1}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", ["fresh", "copies", "zero pages"])
def test_in_bulk_or_one_by_one(kernel: str, kind: str) -> None:
    """A stretch of pages takes what its pages take one by one: the kernel has a fault for each of them."""
    counts = []
    for in_bulk in (True, False):
        system, task = boot(kernel, write=kind == "copies")
        if kind == "copies":
            task = task.fork()
        classes = system.machine.locks.classes.values()
        before = {c.name: (c.reads, c.writes) for c in classes}
        if in_bulk:
            task.touch(at(0), 4 * PAGE_SIZE, write=kind != "zero pages")
        else:
            for page in range(4):
                task.touch(at(page), PAGE_SIZE, write=kind != "zero pages")
        counts.append({c.name: (c.reads - before[c.name][0], c.writes - before[c.name][1]) for c in classes})
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmap_and_brk(kernel: str, watch: Watch) -> None:
    """A mapping that is new or grows: mmap W, no page is concerned."""
    system, task = boot(kernel, write=False)
    assert watch.during(system, lambda: task.mmap(PAGE_SIZE)) == ([W], {})
    assert watch.during(system, lambda: task.brk(task.brk() + PAGE_SIZE)) == ([W, W], {})


@pytest.mark.parametrize("kernel", KERNELS)
def test_munmap(kernel: str, watch: Watch) -> None:
    """Mmap W; ptl S for the whole zap, chainlock or maplock per entry; then anon_vma S per VMA."""
    system, task = boot(kernel)
    order, pages = watch.during(system, lambda: task.munmap(at(0), 300 * PAGE_SIZE))
    assert order == [W, PTL, *only(kernel, AA1, ANON_VMA) * 3]
    assert pages == chain(kernel, 12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_munmap_with_splits(kernel: str, watch: Watch) -> None:
    """A hole in one area: both new pieces join the anon_vma, and the middle one leaves it."""
    system, task = boot(kernel)
    order, pages = watch.during(system, lambda: task.munmap(at(1), 2 * PAGE_SIZE))
    assert [name for name in order if name != PTL] == [W, *only(kernel, AA1, ANON_VMA) * 3]
    assert PTL in order
    assert pages == chain(kernel, 2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_exit(kernel: str, watch: Watch) -> None:
    """As munmap, without mmap_sem: nobody else knows the mm. Off the mmlist, and off the family."""
    system, task = boot(kernel)
    child = task.fork()
    order, pages = watch.during(system, child.exit)
    assert order == [PTL, *only(kernel, AA1, ANON_VMA) * 3, MMLIST, *only(kernel, ANONMM, ANONMM_LOCK)]
    assert pages == chain(kernel, 12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mremap(kernel: str, watch: Watch) -> None:
    """Mmap W; ptl per page, with chainlock twice in 2.6.2 and no maplock in aa1; anon_vma S to insert, and to unmap."""
    system, task = boot(kernel)
    length = 4 * PAGE_SIZE
    order, pages = watch.during(
        system, lambda: task.mremap(at(0), length, length, MREMAP_MAYMOVE | MREMAP_FIXED, at(300))
    )
    assert order == [W, *only(kernel, AA1, ANON_VMA), PTL, *only(kernel, AA1, ANON_VMA)]
    assert pages["page_table_lock"] == 4
    if kernel in ("2.6.2", "2.6.5-rc1"):
        assert pages["PG_chainlock"] == 8
    elif kernel != ANONMM:
        assert pages == {"page_table_lock": 4}


@pytest.mark.parametrize("kernel", KERNELS)
def test_mprotect(kernel: str, watch: Watch) -> None:
    """Mmap W, then ptl for the entries (2.6.2 mm/mprotect.c, change_protection): the reverse map is not concerned."""
    system, task = boot(kernel)
    order, pages = watch.during(system, lambda: task.mprotect(at(0), 4 * PAGE_SIZE, PROT_READ))
    assert order[0] == W
    assert set(order[1:]) == {PTL}
    assert pages == {}


@pytest.mark.parametrize("kernel", KERNELS)
def test_vfork(kernel: str, watch: Watch) -> None:
    """CLONE_VM: one user more, and nothing to protect; the child's exit leaves the mm alone."""
    system, task = boot(kernel)
    child: list[rmaplab.Task] = []
    assert watch.during(system, lambda: child.append(task.vfork())) == ([], {})
    assert watch.during(system, child[0].exit) == ([], {})


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_held_after_a_call_that_fails(kernel: str) -> None:
    """Whatever is refused, and wherever memory runs out, the way out drops what was taken."""
    calls: list[Callable[[rmaplab.Task], object]] = [
        lambda task: task.fork(),
        lambda task: task.mremap(at(0), 4 * PAGE_SIZE, 8 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at(3000)),
        lambda task: task.munmap(at(1), PAGE_SIZE),
        lambda task: task.mprotect(at(1), PAGE_SIZE, PROT_READ),
        lambda task: task.mprotect(at(50), PAGE_SIZE, PROT_READ),
        lambda task: task.brk(1 << 31),
        lambda task: task.write(at(1000), b"x"),
        lambda task: task.write(task.mmap("1M"), b"x" * 2 * PAGE_SIZE),
    ]
    for call in calls:
        for granted in range(12):
            system, task = boot(kernel)
            system.machine.allocator.fail_after = granted
            try:
                call(task)
            except (rmaplab.SyscallError, rmaplab.SegmentationFault, rmaplab.OomKilled):
                pass
            finally:
                assert system.machine.locks.held() == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_in_programs(kernel: str) -> None:
    """Tasks that run beside each other hold nothing between their calls, and take in order: no KernelBug."""
    system = rmaplab.boot(kernel, ram="64M", cpus=3)
    locks = system.machine.locks

    def program(task: rmaplab.Task, depth: int = 0) -> None:
        address = task.mmap("256K") if not depth else 0x4000_0000
        for call in (
            lambda: task.touch(address, "256K", write=True),
            lambda: task.mprotect(address + 8 * PAGE_SIZE, 8 * PAGE_SIZE, PROT_READ),
            lambda: task.mremap(address + 40 * PAGE_SIZE, 4 * PAGE_SIZE, 30 * PAGE_SIZE),
            lambda: task.brk(task.brk() + 3 * PAGE_SIZE),
        ):
            if not depth:
                call()
            assert locks.held() == []
        if depth < 3:
            for _ in range(2):
                task.fork(lambda child: program(child, depth + 1))
                assert locks.held() == []
        task.touch(address, 8 * PAGE_SIZE, write=True)
        assert locks.held() == []
        for _ in range(2 if depth < 3 else 0):
            task.wait()
            assert locks.held() == []

    system.spawn(program)
    system.run()
    system.check()
    assert not system.kernel.tasks
