"""lru_cache_add: a fresh page waits in its CPU's pagevec, with a reference more, until sixteen have come together.

    faults    1  2  3 ... 15   16               17
    waiting   1  2  3 ... 15   0: all have gone  1

The reference is not a mapping, but copy on write counts references: that is the trap of eras.md 1.2.

Sources: eras.md 1.2 (who holds a reference; pagevec trap), 2.2 (reuse iff count 1); 2.6.2 mm/swap.c.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.6.2", "2.6.5-rc1", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1"]
SIZE = 16
BASE = 0x5000_0000


def boot(kernel: str) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", cpus=2)
    task = system.spawn()
    task.mmap("1M", PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, BASE)
    return system, task


def touch(task: rmaplab.Task, first: int, last: int, *, in_bulk: bool = True) -> None:
    """Write to pages [first, last), in one call or in one each."""
    if in_bulk:
        task.touch(BASE + first * PAGE_SIZE, (last - first) * PAGE_SIZE, write=True)
    else:
        for page in range(first, last):
            task.touch(BASE + page * PAGE_SIZE, 1, write=True)


def counts(task: rmaplab.Task) -> list[int]:
    """page->count of each page that is mapped, in address order."""
    assert task.mm is not None
    machine = task.kernel.machine
    present, _ = read_page_tables(machine, task.mm.pgd)
    return [int(machine.frames.count[pfn]) for pfn in present.pfns.tolist()]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("in_bulk", [True, False])
@pytest.mark.parametrize("nr", [1, 15, 16, 17, 31, 32, 47, 100])
def test_sixteen_of_a_cpu_go_together(kernel: str, in_bulk: bool, nr: int) -> None:
    """All but the last n % 16 have one reference, their entry; the others wait with two."""
    system, task = boot(kernel)
    touch(task, 0, nr, in_bulk=in_bulk)
    waiting = nr % SIZE
    assert counts(task) == [1] * (nr - waiting) + [2] * waiting
    system.check()
    #   what there is waits for what comes
    touch(task, nr, nr + SIZE - 1, in_bulk=in_bulk)
    waiting = (nr + SIZE - 1) % SIZE
    assert counts(task) == [1] * (nr + SIZE - 1 - waiting) + [2] * waiting
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_cpu_has_its_own(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen here and fifteen there are not thirty."""
    system, task = boot(kernel)
    touch(task, 0, 15)
    with monkeypatch.context() as other:
        other.setattr(system.kernel, "this_cpu", lambda: 1)
        touch(task, 15, 30)
        assert counts(task) == [2] * 30
        touch(task, 30, 31)
        assert counts(task) == [2] * 15 + [1] * 16
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_munmap_and_exit_drain_the_cpu_they_run_on(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they unmap, all that waits there goes to the LRU; pages of the other CPU's keep a reference and live on."""
    system, task = boot(kernel)
    touch(task, 0, 10)
    other = task.fork()
    other.munmap(BASE + 100 * PAGE_SIZE, PAGE_SIZE)
    assert counts(task) == [2] * 10  # two entries
    touch(task, 100, 105)
    other.exit()
    assert counts(task) == [1] * 15
    touch(task, 110, 115)
    free = system.machine.allocator.nr_unused
    monkeypatch.setattr(system.kernel, "this_cpu", lambda: 1)
    task.munmap(BASE + 110 * PAGE_SIZE, 5 * PAGE_SIZE)
    assert system.machine.allocator.nr_unused == free  # unmapped, and still in CPU 0's pagevec
    system.check()
    system.kernel.lru_add.drain(0)
    assert system.machine.allocator.nr_unused == free + 5
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("in_bulk", [True, False])
@pytest.mark.parametrize("nr", [8, 16, 20, 24, 26, 31])
def test_the_trap(kernel: str, in_bulk: bool, nr: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork, the child exits at once on another CPU, the parent writes: nobody shares, and still pages are copied.

    The n % 16 pages that wait have count 2. Each copy is a fresh page and joins them; with the sixteenth in the pagevec
    all go, and what has not been copied by then is reused.
    """
    system, parent = boot(kernel)
    touch(parent, 0, nr)
    child = parent.fork()
    with monkeypatch.context() as other:
        other.setattr(system.kernel, "this_cpu", lambda: 1)
        child.exit()
    waiting = set(range(nr - nr % SIZE, nr))
    in_pagevec = len(waiting)
    copies = 0
    for page in range(nr):  # what do_wp_page does, page by page
        if page in waiting:
            copies += 1
            in_pagevec += 1
        if in_pagevec == SIZE:
            in_pagevec, waiting = 0, set()
    ledger = system.machine.ledger.counts
    touch(parent, 0, nr, in_bulk=in_bulk)
    assert (ledger["cow_copy"], ledger["cow_reuse"]) == (copies, nr - copies)
    system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_trap_where_the_child_exits_on_the_same_cpu(kernel: str) -> None:
    """exit_mmap has drained the pagevec that the pages were in."""
    system, parent = boot(kernel)
    touch(parent, 0, 24)
    parent.fork().exit()
    touch(parent, 0, 24)
    ledger = system.machine.ledger.counts
    assert (ledger["cow_copy"], ledger["cow_reuse"]) == (0, 24)


def test_2_4_has_none() -> None:
    """So says the table: "2.4 adds directly under pagemap_lru_lock" (eras.md 1.2): count 1 at once, and no trap."""
    system, parent = boot("2.4.21")
    touch(parent, 0, 24)
    assert counts(parent) == [1] * 24
    child = parent.fork()
    assert counts(parent) == [2] * 24
    child.exit()
    touch(parent, 0, 24)
    ledger = system.machine.ledger.counts
    assert (ledger["cow_copy"], ledger["cow_reuse"]) == (0, 24)
    system.check()
