"""The house review's experiments: what broke when somebody else acted in the middle of a call. On every kernel, check() after each.

    A  a swap entry in a table was dropped by fork, overwritten by a read, came back in another table     test_swap_in.py, test_pagetable.py
    B  a page of another process goes while mremap waits for a page table
    C  a page of the batch goes while a pte chain's blocks are allocated
    E  reclaim takes mmlist_lock while fork waits for memory

Who acts is told by allocator.might_sleep, at every request that may sleep.
"""

import itertools
from collections.abc import Callable

import pytest

import rmaplab
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.lab.conformance.kit import conformance
from rmaplab.lab.conformance.thief import Thief
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MREMAP_FIXED, MREMAP_MAYMOVE
from rmaplab.reclaim.page_out import page_out
from rmaplab.rmap.pte_chain import PteChain
from rmaplab.units import PAGE_SIZE

kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
NR = 24


def box(kernel: str) -> tuple[rmaplab.System, rmaplab.Task, int]:
    """A task with NR pages that are its own, numbered, and no longer in a pagevec."""
    system = rmaplab.boot(kernel, ram="64M", swap="4M")
    task = system.spawn()
    at = task.mmap(NR * PAGE_SIZE)
    for i in range(NR):
        task.write(at + i * PAGE_SIZE, b"%04d" % i)
    system.kernel.lru_add.drain_all()
    return system, task, at


def intact(task: rmaplab.Task, at: int) -> bool:
    return all(task.read(at + i * PAGE_SIZE, 4) == b"%04d" % i for i in range(NR))


def at_every_sleep(system: rmaplab.System, act: Callable[[], None]) -> list[list[str]]:
    """`act` whenever memory is asked for; which locks were held then."""
    seen: list[list[str]] = []

    def visit() -> None:
        seen.append([lock.type.name for lock in system.machine.locks.held()])
        act()

    system.machine.allocator.might_sleep = visit
    return seen


def take_one(system: rmaplab.System, victim: rmaplab.Task) -> None:
    assert victim.mm is not None
    pfns = read_page_tables(system.machine, victim.mm.pgd)[0].pfns
    system.kernel.lru_add.drain_all()
    for pfn in pfns[-1:].tolist():
        page_out(system.kernel, pfn)


@kernels
@pytest.mark.parametrize("whose", ["own", "another's"])
def test_b_a_page_goes_while_mremap_waits(kernel: str, whose: str) -> None:
    """Far enough away that tables are missing, so that it does wait."""
    system, task, at = box(kernel)
    victim = task if whose == "own" else task.fork()
    seen = at_every_sleep(system, lambda: take_one(system, victim))
    to = at + (1 << 26)
    assert task.mremap(at, NR * PAGE_SIZE, NR * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to
    system.machine.allocator.might_sleep = None
    assert seen
    assert all(locks == ["mmap_sem"] for locks in seen), seen
    system.check()
    assert intact(task, to)
    system.check()


@kernels
@pytest.mark.parametrize("whose", ["own", "a child's"])
def test_b_and_e_pages_go_while_fork_waits(kernel: str, whose: str) -> None:
    """Reclaim takes mmlist_lock to find its victim: no spinlock is held where memory is asked for."""
    system, task, at = box(kernel)
    child = task.fork()
    victim = task if whose == "own" else child

    def reclaim() -> None:
        system.machine.locks.pass_through(system.kernel.mmlist_lock)
        take_one(system, victim)

    seen = at_every_sleep(system, reclaim)
    others = [task.fork(), child.fork()]
    system.machine.allocator.might_sleep = None
    assert any(locks == ["mmap_sem"] for locks in seen)
    assert {lock for locks in seen for lock in locks} <= {"mmap_sem"}
    system.check()
    assert all(intact(each, at) for each in (task, child, *others))
    system.check()


def test_c_a_page_goes_while_its_chain_waits_for_a_block() -> None:
    """The blocks that were counted are not those that are needed then: some are given back, or more are asked for."""
    system, task, at = box("2.6.2")
    rmap = system.kernel.design
    assert isinstance(rmap, PteChain)
    kids = [task.fork() for _ in range(rmap.nrpte - 1)]  # chains whose head block is full
    system.check()
    taken: list[int] = []
    alloc_bulk = rmap.cache.alloc_bulk

    def waits(nr: int) -> object:
        if not taken:
            system.machine.allocator.sleeps += 1
            assert kids[0].mm is not None
            pfns = read_page_tables(system.machine, kids[0].mm.pgd)[0].pfns[:8].tolist()
            taken.extend(pfn for pfn in pfns if page_out(system.kernel, pfn))
        return alloc_bulk(nr)

    rmap.cache.alloc_bulk = waits  # type: ignore[method-assign, assignment]
    one_more = task.fork()
    assert len(taken) == 8
    system.check()
    assert all(intact(each, at) for each in (task, kids[0], kids[-1], one_more))
    system.check()


@kernels
def test_a_fault_looks_again(kernel: str) -> None:
    """A COW fault waits for its copy, and the page that it was to copy is gone to swap meanwhile."""
    system, task, at = box(kernel)
    child = task.fork()
    visits = itertools.count()
    at_every_sleep(
        system, lambda: None if next(visits) % 3 else take_one(system, child)
    )  # always, and nobody gets anywhere
    for i in reversed(range(NR)):
        child.write(at + i * PAGE_SIZE + 4, b"+")
    child.touch(at, NR * PAGE_SIZE, write=True)
    system.machine.allocator.might_sleep = None
    system.check()
    assert all(child.read(at + i * PAGE_SIZE, 5) == b"%04d+" % i for i in range(NR))
    assert intact(task, at)
    system.check()


@kernels
def test_a_thief_at_every_sleep(kernel: str) -> None:
    """Random calls, and pages of anybody go to swap at every request that may sleep: contents and counts stay right.

    20,000 calls for every kernel and format: `make campaign`.
    """
    report = conformance(kernel, examples=8, steps=50, seed=12, thief=True)
    assert report.counterexample is None, report.counterexample.source
    assert report.calls > 250


def test_the_thief_takes_pages_and_sees_a_spinlock_that_is_held() -> None:
    """So that a test which it runs in cannot pass by doing nothing."""
    system, task, at = box("2.6.5-rc1-aa1")
    thief = Thief(system, 1)
    for _ in range(8):
        task.fork().touch(at, NR * PAGE_SIZE, write=True)
    assert thief.nr_taken > 20
    assert task.mm is not None
    system.machine.locks.take(task.mm.page_table_lock)
    with pytest.raises(rmaplab.KernelBug, match="page_table_lock held"):
        system.machine.allocator.alloc(1, Gfp.KERNEL)
