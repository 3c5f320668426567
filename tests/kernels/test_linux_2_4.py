"""2.4.21: no reverse map, no charge at fork, allocations that fail, one queue for all CPUs.

Sources: eras.md 0.6, 3.1, 3.3 (fork), 4.6 (overcommit), 7 (munmap's spare VMA), 8 (scheduler).
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from rmaplab.units import PAGE_SIZE

ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
BASE = 0x5000_0000
MS = 1_000_000


def boot(kernel: str = "2.4.21", **box: str) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M", paging="i386", swap=box.get("swap", "0"))
    return system, system.spawn()


def seen(task: rmaplab.Task) -> dict[int, bytes]:
    assert task.mm is not None
    machine = task.kernel.machine
    present, _ = read_page_tables(machine, task.mm.pgd)
    pairs = zip(present.addresses.tolist(), present.pfns.tolist(), strict=True)
    return {address: machine.ram.bytes[pfn].tobytes() for address, pfn in pairs}


# -- memory ----------------------------------------------------------------------------------------------------------


def test_nothing_is_accounted() -> None:
    """No charge: "fork charges nothing", nor mprotect; mmap, brk and mremap only compare with what is free (4.6)."""
    system, task = boot()
    nr_free = system.machine.allocator.nr_free
    for i in range(3):  # more together than there is: each is compared alone
        task.mmap(nr_free * 3 // 4 * PAGE_SIZE, RW, ANON | MAP_FIXED, 0x4000_0000 + i * (64 << 20))
    assert system.kernel.committed_pages == 0
    with pytest.raises(rmaplab.SyscallError, match="overcommit"):
        task.mmap(nr_free * 5 // 4 * PAGE_SIZE)
    child = task.fork()
    assert system.kernel.committed_pages == 0
    assert child.mm is not None
    assert child.mm.total_vm == 3 * (nr_free * 3 // 4)
    system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2"])
def test_a_fork_that_could_never_be_copied(kernel: str) -> None:
    """A parent that has three quarters of memory: 2.6.2 refuses its fork, 2.4 takes the risk."""
    system, task = boot(kernel)
    length = system.machine.allocator.nr_free * 3 // 4 * PAGE_SIZE
    task.mmap(length, RW, ANON | MAP_FIXED, BASE)
    task.touch(BASE, length, write=True)
    if kernel == "2.6.2":
        with pytest.raises(rmaplab.SyscallError, match="overcommit"):
            task.fork()
        return
    child = task.fork()
    #   the child that does write is killed when memory has run out; its parent has lost nothing
    with pytest.raises(rmaplab.OomKilled):
        child.touch(BASE, length, write=True)
    assert task.wait() == (child.pid, -9)
    system.check()


def sparse(system: rmaplab.System, task: rmaplab.Task) -> int:
    """A page written under each page table, a hundred of them; then others fill memory but for `nr` frames."""
    span = system.machine.paging.leaf_span
    task.mmap(100 * span, RW, ANON | MAP_NORESERVE | MAP_FIXED, BASE)
    for i in range(100):
        task.write(BASE + i * span, b"page %d" % i)
    return span


@pytest.mark.parametrize("tables_left", [5, 50, 99])
def test_fork_fails_when_page_tables_eat_the_memory(tables_left: int) -> None:
    """Without swap nothing can be reclaimed, so a page table that is not there is ENOMEM (0.6); the parent is as before."""
    system, task = boot()
    span = sparse(system, task)
    hog = system.spawn()
    hog.mmap("64M", RW, ANON | MAP_NORESERVE | MAP_FIXED, 0x9000_0000)
    hog.touch(0x9000_0000, "64M")
    allocator = system.machine.allocator
    hog.touch(0x9000_0000, (allocator.obtainable(Gfp.HIGHUSER) - tables_left) * PAGE_SIZE, write=True)
    before, tables, free = seen(task), system.machine.nr_tables, allocator.nr_free
    with pytest.raises(rmaplab.SyscallError) as error:
        task.fork()
    assert (error.value.call, error.value.name) == ("fork", "ENOMEM")
    system.check()
    assert len(system.kernel.tasks) == 2
    assert seen(task) == before
    assert (system.machine.nr_tables, allocator.nr_free) == (tables, free)
    copied = system.machine.ledger.counts["pte_copy"]
    assert 0 < copied < 100 or tables_left == 5  # it had begun
    task.write(BASE, b"PAGE")
    #   with memory given back it works
    hog.exit()
    child = task.fork()
    assert [child.read(BASE + i * span, 7).rstrip(b"\0") for i in (0, 1, 99)] == [b"PAGE 0", b"page 1", b"page 99"]
    system.check()


def test_with_swap_it_would_have_to_swap() -> None:
    """Something could be reclaimed, and nothing here can: the run ends, rather than go on as it could not have."""
    system, task = boot(swap="64M")
    sparse(system, task)
    hog = system.spawn()
    hog.mmap("64M", RW, ANON | MAP_NORESERVE | MAP_FIXED, 0x9000_0000)
    hog.touch(0x9000_0000, "64M")
    allocator = system.machine.allocator
    hog.touch(0x9000_0000, (allocator.obtainable(Gfp.HIGHUSER) - 50) * PAGE_SIZE, write=True)
    before = seen(task)
    with pytest.raises(rmaplab.NoMemory):
        task.fork()
    assert seen(task) == before
    system.check()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2"])
def test_munmap_takes_a_spare_vma(kernel: str) -> None:
    """First of all "alloc 1 spare vma (ENOMEM possible even if none is needed)" (7); 2.6.2 asks only when it splits."""
    system, task = boot(kernel)
    task.mmap("16K", RW, ANON | MAP_FIXED, BASE)
    task.write(BASE, b"kept")
    system.machine.allocator.fail_after = 0
    if kernel == "2.6.2":
        task.munmap(BASE, "16K")
        return
    task.munmap(BASE + (1 << 20), "16K")  # nothing there, nothing asked for
    with pytest.raises(rmaplab.SyscallError) as error:
        task.munmap(BASE, "16K")
    assert (error.value.call, error.value.name) == ("munmap", "ENOMEM")
    assert task.read(BASE, 4) == b"kept"
    system.check()
    task.munmap(BASE, "16K")
    assert system.machine.caches["vm_area_struct"].nr_objects == 0
    system.check()


# -- scheduling ------------------------------------------------------------------------------------------------------


def family(kernel: str, cpus: int) -> list[tuple[int, str, int]]:
    """(when, who, on which CPU) of a parent that forks and works, and its child."""
    system = rmaplab.boot(kernel, ram="64M", cpus=cpus)
    sched = system.machine.sched
    log: list[tuple[int, str, int]] = []

    def note(task: rmaplab.Task, what: str) -> None:
        assert task.cpu is not None
        log.append((sched.now_ns, what, task.cpu.index))

    def child(task: rmaplab.Task) -> None:
        note(task, "child")
        task.touch(task.mmap("4M", PROT_READ), "4M")  # longer than a tick of 2.6

    def parent(task: rmaplab.Task) -> None:
        address = task.mmap("64K", PROT_READ)
        note(task, "fork")
        task.fork(child)
        note(task, "parent")
        task.touch(address, "64K")
        task.wait()

    system.spawn(parent)
    system.run()
    return log


def test_the_parent_goes_on_first() -> None:
    """One CPU: 2.4 wakes the child at the end of do_fork and goes on; 2.6 puts it in front and makes way (8)."""
    assert [what for _, what, _ in family("2.4.21", 1)] == ["fork", "parent", "child"]
    assert [what for _, what, _ in family("2.6.2", 1)] == ["fork", "child", "parent"]


def test_an_idle_cpu_takes_the_child_at_once() -> None:
    """To "any idle CPU, IPI at once": the child runs before its parent is back from fork. In 2.6 the parent waits for a tick of 1 ms."""
    (_, _, home), (started, who, where), (back, _, stayed) = family("2.4.21", 2)
    assert (who, where, stayed) == ("child", 1 - home, home)
    assert back - started <= 1000
    _, (_, who, _), (pulled, _, where) = family("2.6.2", 2)
    assert (who, where) == ("child", 1)
    assert pulled % MS == 0


RULES = SchedRules(
    timeslice_ns=60, max_timeslice_ns=60, tick_ns=10, busy_balance_ns=200, one_queue=True, child_first=False
)


def finished(works: list[int], cpus: int) -> dict[int, int]:
    """When each of several tasks that only compute has done so."""
    sched = Scheduler(RULES, cpus)
    ends: dict[int, int] = {}

    def start(i: int, work: int) -> None:
        def body() -> None:
            sched.spend(work, user=True)
            ends[i] = sched.now_ns

        sched.start(SchedEntity(), body)

    for i, work in enumerate(works):
        start(i, work)
    sched.run()
    return ends


def test_everybody_gets_a_new_slice_when_nobody_has_any() -> None:
    """Three tasks of 150 on one CPU, slices of 60: who ran last has a point more, else who came last goes first (goodness.py)."""
    #   A C B | B C A | A C B
    assert finished([150, 150, 150], 1) == {0: 390, 2: 420, 1: 450}
    #   A C B | C A | A C        one that is done early leaves its time to the others
    assert finished([150, 20, 150], 1) == {1: 140, 0: 290, 2: 320}


@pytest.mark.parametrize("cpus", [1, 2, 3, 4])
def test_no_cpu_is_idle_while_somebody_waits(cpus: int) -> None:
    """One queue for all: as long as there are tasks enough all CPUs work, the last ones then run through. No tick is waited for."""
    works = [310, 250, 90, 400, 10, 130, 270]
    ends = sorted(finished(works, cpus).values())
    too_few = ends[len(works) - cpus]  # from here on there are fewer tasks than CPUs
    assert sum(works) == cpus * too_few + sum(end - too_few for end in ends[len(works) - cpus :])


def test_there_is_one_queue() -> None:
    """All CPUs look at the same one; in 2.6.2 each has its own."""
    for kernel, nr in (("2.4.21", 1), ("2.6.2", 4)):
        sched = rmaplab.boot(kernel, ram="64M", cpus=4).machine.sched
        assert len({id(cpu.queue) for cpu in sched.cpus}) == nr
        assert sched.rules.timeslice_ns == (60 if nr == 1 else 102) * MS
