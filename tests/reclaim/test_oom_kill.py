"""Out of memory without swap, by era: who dies, what its call comes to, and that the others go on."""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.errors import NoMemory, NotModelled
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.reclaim.oom_kill import OomKiller
from rmaplab.units import PAGE_SIZE

RW, PLAIN = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
Machine = tuple[rmaplab.System, OomKiller, list[rmaplab.Task]]


def machine(kernel: str, pages: list[int], mapped: list[int], *, swap: int = 0) -> Machine:
    """Tasks that have written `pages` of what they have `mapped`, on a box of 64 MiB."""
    system = rmaplab.boot(kernel, ram="64M", swap=swap, boot_use="4M", paging="x86-64", overcommit=1)
    tasks = [system.spawn() for _ in pages]
    for task, written, nr in zip(tasks, pages, mapped, strict=True):
        task.touch(task.mmap(nr * PAGE_SIZE, RW, PLAIN), written * PAGE_SIZE, write=True)
    return system, OomKiller(system.kernel), tasks


def fill(task: rmaplab.Task) -> None:
    """More than there is, page by page."""
    task.touch(task.mmap("64M", RW, PLAIN), "64M", write=True)


@pytest.mark.parametrize(("kernel", "dies"), [("6.18", 0), ("2.6.2", 1)])
def test_whose_memory_counts(kernel: str, dies: int) -> None:
    """The first has most in memory, the second has mapped most; the third asks for more than is free, and gets it."""
    system, _, tasks = machine(kernel, [7000, 3000, 10], [7000, 30_000, 10])
    more = (system.machine.allocator.nr_free + 500) * PAGE_SIZE
    tasks[2].touch(tasks[2].mmap(more, RW, PLAIN), more, write=True)
    assert [task.mm is None for task in tasks] == [index == dies for index in range(3)]
    system.check()


@pytest.mark.parametrize(("kernel", "dies"), [("6.18", 1), ("2.6.2", 0)])
def test_of_two_alike_one_dies(kernel: str, dies: int) -> None:
    """Today the youngest of those that are alike, then the oldest."""
    system, _, tasks = machine(kernel, [5000, 5000, 10], [20_000, 20_000, 10])
    more = (system.machine.allocator.nr_free + 500) * PAGE_SIZE
    tasks[2].touch(tasks[2].mmap(more, RW, PLAIN), more, write=True)
    assert [task.mm is None for task in tasks] == [index == dies for index in range(2)] + [False]
    system.check()


@pytest.mark.parametrize("kernel", ["6.18", "2.6.2"])
def test_the_caller_may_be_the_one(kernel: str) -> None:
    """Its call is undone, it dies, and with it whoever shares its memory; the other lives."""
    system, killer, tasks = machine(kernel, [10, 10], [10, 10])
    thread = tasks[0].clone_vm()
    with pytest.raises(NoMemory):
        fill(tasks[0])
    assert killer.kill_chosen()
    assert (tasks[0].mm, thread.mm) == (None, None)
    assert tasks[1].mm is not None
    assert not killer.kill_chosen()
    system.check()


def test_a_vfork_child_is_spared_today() -> None:
    """in_vfork: it is its parent that is chosen, and both die."""
    system, killer, tasks = machine("6.18", [10], [10])
    child = tasks[0].vfork()
    with pytest.raises(NoMemory):
        fill(child)
    assert killer.chosen is child
    killer.kill_chosen()
    assert (tasks[0].mm, child.mm) == (None, None)
    system.check()


def test_with_swap_a_kernel_would_make_room() -> None:
    """Nobody chooses the pages here, and that is said."""
    _, _, tasks = machine("2.6.2", [10], [10], swap=64 << 20)
    with pytest.raises(NotModelled, match="this kernel's reclaim is not here yet"):
        fill(tasks[0])
