"""Who dies when RAM and swap are full and programs run: the one that has mapped most, wherever it is just then.

RAM 160 pages, swap 64     pid 1  waits for its child       pid 2  wants 400 pages: SIGKILL      pid 3  40 pages, goes on
"""

from dataclasses import replace

import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.box import announced
from rmaplab.kernels.system import System
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.units import PAGE_SIZE
from rmaplab.workloads import forkbench

KERNELS = ("2.6.2", "2.6.5-rc1-aa1", "2.6.7")


def boot(kernel: str, slots: int = 64) -> System:
    return rmaplab.boot(
        kernel, ram=160 * PAGE_SIZE, swap=slots * PAGE_SIZE, boot_use=0, pages_min=4, overcommit=1, paging="i386", cpus=2, reclaim=True,
    )  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_greedy_one_dies_and_the_others_go_on(kernel: str) -> None:
    """Its parent, which sleeps in wait(), hears that it was killed; a third program has its bytes."""
    system = boot(kernel)
    heard = list[tuple[int, int]]()

    def greedy(task: Task) -> int:
        start = task.mmap(400 * PAGE_SIZE)
        for page in range(400):
            task.write(start + page * PAGE_SIZE, b"%d" % page)
        return 0

    def parent(task: Task) -> int:
        task.fork(greedy)
        heard.append(task.wait())
        return 0

    def modest(task: Task) -> int:
        start = task.mmap(40 * PAGE_SIZE)
        for turn in range(20):
            for page in range(40):
                task.write(start + page * PAGE_SIZE, b"%d %d" % (turn, page))
                assert task.read(start + page * PAGE_SIZE, 5).startswith(b"%d %d" % (turn, page))
        return 0

    system.spawn(parent)
    system.spawn(modest)
    system.run()
    assert system.killer is not None
    assert system.killer.killed == [heard[0][0]]
    assert heard == [(heard[0][0], -9)]
    system.check()
    assert system.kernel.nr_alive == 0


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_victim_finishes_on_the_last_pages(kernel: str) -> None:
    """Nothing is free above the min marks when it is chosen; what its call still wants it gets from below them, with a slice of a second, and nobody is told NULL.

    free     ######|     min: others reclaim here            ##|    the victim goes on, its call ends, it dies
    """
    system = boot(kernel)
    allocator, sched = system.machine.allocator, system.machine.sched
    take, had = allocator.take, list[tuple[int, bool, int]]()

    def watched(nr: int, gfp: Gfp, order: int, zeroed: bool) -> I64 | None:
        blocks = take(nr, gfp, order, zeroed)
        if sched.current is not None and sched.current.memdie:
            had.append((allocator.nr_free, blocks is not None, sched.current.slice_ns))
        return blocks

    allocator.take = watched  # type: ignore[method-assign]

    def greedy(task: Task) -> int:
        start = task.mmap(400 * PAGE_SIZE)
        for page in range(400):
            task.write(start + page * PAGE_SIZE, b"%d" % page)
        return 0

    task = system.spawn(greedy)
    system.run()
    assert system.killer is not None
    assert system.killer.killed == [task.pid]
    assert had
    assert all(got for _, got, _ in had)
    assert min(free for free, _, _ in had) < allocator.zones[0].marks.min
    assert 10**9 - 10**7 < had[0][2] <= 10**9
    assert task.exit_code == -9
    system.check()


def test_who_sleeps_in_wait_dies_there() -> None:
    """The parent has mapped most, and never runs again."""
    system = boot("2.6.2")
    ended = list[int]()

    def child(task: Task) -> int:
        start = task.mmap(300 * PAGE_SIZE)
        for page in range(300):
            task.write(start + page * PAGE_SIZE, b"%d" % page)
        ended.append(task.pid)
        return 0

    def parent(task: Task) -> int:
        task.fork(child)
        task.mmap(5000 * PAGE_SIZE)
        task.wait()
        ended.append(task.pid)
        return 0

    root = system.spawn(parent)
    system.run()
    assert system.killer is not None
    assert system.killer.killed[0] == root.pid
    assert root.pid not in ended
    system.check()


def test_forkbench_swaps_where_it_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of 32 MiB, on a box with less to give: without reclaim nothing goes on, with it pages go to swap and all is done."""
    monkeypatch.setattr(forkbench, "SIZE", 32 << 20)
    box = announced(ram="66M", swap="64M")
    assert run_forkbench("2.6.5-rc1-aa1", 1, box).outcome == "RAM is full"
    row = run_forkbench("2.6.5-rc1-aa1", 1, replace(box, reclaim=True))
    assert (row.outcome, row.oom_killed, row.why) == ("ok", 0, None)
    assert row.ledger is not None
    assert row.ledger["pswpout"] > 100


def test_a_kernel_whose_reclaim_is_not_here_says_so() -> None:
    with pytest.raises(UsageError, match=r"the reclaim of 6\.18 is not here"):
        rmaplab.boot("6.18", ram="64M", reclaim=True)
