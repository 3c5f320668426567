"""vfork: a child that lives in its parent's address space, while the parent waits.

    parent   mm, 2 users        waits ......................... goes on
    child    the same mm            writes, maps, exits ---------^

Source: vfork(2); 2.6.2 kernel/fork.c (CLONE_VM | CLONE_VFORK: copy_mm, do_fork), eras.md 9 has nothing to take for it.
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.lab.conformance import OF_2004
from rmaplab.units import PAGE_SIZE

KERNELS = [*OF_2004]


@pytest.fixture(params=KERNELS)
def system(request: pytest.FixtureRequest) -> rmaplab.System:
    return rmaplab.boot(request.param, ram="64M", cpus=2)


def test_one_address_space(system: rmaplab.System) -> None:
    """What the child does the parent finds: bytes, mappings, heap. A page is mapped once, by one mm."""
    parent = system.spawn()
    address = parent.mmap("64K")
    parent.write(address, b"before")
    child = parent.vfork()
    assert child.mm is parent.mm
    child.write(address, b"after!")
    other = child.mmap("4K")
    child.write(other, b"mine")
    heap = child.brk(child.brk() + PAGE_SIZE)
    assert [(m.mm, m.address) for m in system.who_maps(child, address)] == [(parent.mm, address)]
    system.check()
    child.exit(3)
    assert parent.read(address, 6) == b"after!"
    assert parent.read(other, 4) == b"mine"
    assert parent.brk() == heap
    assert parent.wait() == (child.pid, 3)
    system.check()


def test_nothing_is_copied(system: rmaplab.System) -> None:
    """No mm, no VMA, no page table, no entry, no charge: a task, its stack and its signal handlers."""
    parent = system.spawn()
    address = parent.mmap("8M")
    parent.touch(address, "8M", write=True)
    counts, kernel, machine = system.machine.ledger.counts, system.kernel, system.machine
    names = ("pte_copy", "vma_copy", "mm_alloc", "table_alloc", "chain_add", "anon_vma_link", "anonmm_alloc")
    before = [counts[name] for name in names], machine.nr_tables, kernel.committed_pages, len(kernel.mms)
    child = parent.vfork()
    assert ([counts[name] for name in names], machine.nr_tables, kernel.committed_pages, len(kernel.mms)) == before
    child.touch(address, "8M", write=True)
    assert (counts["cow_copy"], counts["cow_reuse"]) == (0, 0)
    child.exit()
    system.check()


def test_it_does_not_ask_for_what_a_fork_would(system: rmaplab.System) -> None:
    """Where a fork's charge is refused, vfork goes through: why large programs used it."""
    parent = system.spawn()
    nr_bytes = system.machine.allocator.nr_free * 3 // 4 * PAGE_SIZE
    address = parent.mmap(nr_bytes)
    parent.touch(address, nr_bytes, write=True)
    if system.spec.name != "2.4.21":
        with pytest.raises(rmaplab.SyscallError, match="overcommit"):
            parent.fork()
    parent.vfork().exit()
    parent.wait()
    system.check()


def test_the_parent_waits(system: rmaplab.System) -> None:
    """Driven from outside its calls are refused until the child has gone, and the line says who must."""
    parent = system.spawn()
    address = parent.mmap("4K")
    child = parent.vfork()
    for call in (parent.fork, parent.exit, lambda: parent.read(address), lambda: parent.mmap("4K")):
        with pytest.raises(rmaplab.UsageError, match=str(child.pid)):
            call()
    child.exit()
    parent.write(address, b"free again")
    system.check()


def test_children_of_the_child(system: rmaplab.System) -> None:
    """A fork in between is of the shared mm as it is then; a vfork in a vfork has three in one mm."""
    parent = system.spawn()
    address = parent.mmap("4K")
    child = parent.vfork()
    child.write(address, b"1")
    forked = child.fork()
    child.write(address, b"2")
    inner = child.vfork()
    assert inner.mm is parent.mm
    assert parent.mm is not None
    assert parent.mm.users == 3
    inner.write(address, b"3")
    inner.exit()
    child.exit()
    assert (forked.read(address), parent.read(address)) == (b"1", b"3")
    assert parent.mm.users == 1
    system.check()
    parent.exit()
    forked.exit()
    system.check()
    assert not system.kernel.mms


def test_the_last_one_takes_the_mm_along(system: rmaplab.System) -> None:
    """A child that is killed for lack of memory lets its parent go on, with all the memory there is."""
    parent = system.spawn()
    address = parent.mmap("64K")
    parent.write(address, b"kept")
    child = parent.vfork()
    system.machine.allocator.fail_after = 0
    with pytest.raises(rmaplab.OomKilled):
        child.write(address + PAGE_SIZE, b"x")
    assert parent.read(address, 4) == b"kept"
    assert parent.wait() == (child.pid, -9)
    system.check()


def test_every_allocation_of_a_vfork_fails(system: rmaplab.System) -> None:
    """ENOMEM, and the mm has one user as before."""
    parent = system.spawn()
    address = parent.mmap("4K")
    for granted in range(10):
        system.machine.allocator.fail_after = granted
        try:
            child = parent.vfork()
        except rmaplab.SyscallError:
            assert parent.mm is not None
            assert parent.mm.users == 1
            parent.write(address, b"goes on")
            system.check()
        else:
            break
    system.machine.allocator.fail_after = None
    assert granted >= 2
    child.exit()
    system.check()


def test_in_a_program(system: rmaplab.System) -> None:
    """The parent sleeps until the child has exited, whatever the child does meanwhile; another task runs on."""
    log: list[str] = []

    def child(task: rmaplab.Task) -> int:
        task.touch(address[0], "1M", write=True)
        log.append("child works")
        task.write(address[0], b"child")
        task.touch(address[0], "1M")
        log.append("child exits")
        return 7

    def parent(task: rmaplab.Task) -> None:
        address.append(task.mmap("1M"))
        log.append("vfork")
        born = task.vfork(child)
        log.append("parent goes on")
        assert task.read(address[0], 5) == b"child"
        assert task.wait() == (born.pid, 7)
        assert task.mm is not None
        assert task.mm.users == 1

    address: list[int] = []
    system.spawn(parent)
    system.spawn(lambda task: task.touch(task.mmap("2M"), "2M", write=True))
    system.run()
    assert log == ["vfork", "child works", "child exits", "parent goes on"]
    system.check()
    assert not system.kernel.tasks


def test_a_program_that_dies_in_the_shared_mm(system: rmaplab.System) -> None:
    """SIGSEGV in the child is the child's: the parent goes on in the same mm."""
    codes = []

    def parent(task: rmaplab.Task) -> None:
        address = task.mmap("4K")
        task.write(address, b"kept")
        task.vfork(lambda child: child.write(0x10, b"bad"))
        codes.append(task.wait()[1])
        assert task.read(address, 4) == b"kept"

    system.spawn(parent)
    system.run()
    assert codes == [-11]
    system.check()
