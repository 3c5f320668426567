r"""Tasks: what fork, exit and wait leave of them, and programs that run by themselves.

      1               1               1 waits: (2, 7)
     / \             / \             \
    2   3    ==>    (2)  3     ==>     3          2 has exited with 7 and is a zombie until somebody waits
    |               |
    4               4                  4          nobody's child now

Source: 2.6.2 kernel/fork.c, kernel/exit.c; wait(2), fork(2), _exit(2).
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.errors import KernelBug
from rmaplab.objects.flags import PROT_READ
from rmaplab.units import PAGE_SIZE

KERNELS = ["2.6.2", "2.6.5-rc1-aa1"]


@pytest.fixture(params=KERNELS)
def system(request: pytest.FixtureRequest) -> rmaplab.System:
    return rmaplab.boot(request.param, ram="64M")


def objects(system: rmaplab.System) -> dict[str, int]:
    return {name: cache.nr_objects for name, cache in system.machine.caches.items() if cache.nr_objects}


# -- driven from outside ---------------------------------------------------------------------------------------------


def test_a_zombie_keeps_its_task_struct_and_its_stack(system: rmaplab.System) -> None:
    """An exit gives back the address space and the signal handlers; wait the rest."""
    parent = system.spawn()
    parent.mmap("64K")
    one = objects(system)
    child = parent.fork()
    assert objects(system) == {name: 2 * nr for name, nr in one.items()}
    child.exit(7)
    assert objects(system) == one | {"task_struct": 2}
    system.check()
    assert parent.wait() == (child.pid, 7)
    assert objects(system) == one
    assert list(system.kernel.tasks) == [parent.pid]
    with pytest.raises(rmaplab.SyscallError) as error:
        parent.wait()
    assert (error.value.call, error.value.name) == ("wait", "ECHILD")
    system.check()


def test_wait_takes_whichever_child_has_exited(system: rmaplab.System) -> None:
    """Any child will do, the eldest first, but one that lives is not reported: from outside such a wait would never end, and says so."""
    parent = system.spawn()
    children = [parent.fork() for _ in range(3)]
    children[1].exit(1)
    assert parent.wait() == (children[1].pid, 1)
    with pytest.raises(rmaplab.UsageError, match=str(children[0].pid)):
        parent.wait()
    children[2].exit(2)
    children[0].exit(0)
    assert [parent.wait(), parent.wait()] == [(children[0].pid, 0), (children[2].pid, 2)]


def test_orphans(system: rmaplab.System) -> None:
    """A task outlives its parent; zombies of a parent that exits go at once."""
    grandparent = system.spawn()
    parent = grandparent.fork()
    zombie, orphan = parent.fork(), parent.fork()
    zombie.exit(1)
    parent.exit(2)
    assert set(system.kernel.tasks) == {grandparent.pid, parent.pid, orphan.pid}
    system.check()
    assert grandparent.wait() == (parent.pid, 2)
    orphan.exit()  # nobody waits for it
    assert set(system.kernel.tasks) == {grandparent.pid}
    system.check()


def test_a_task_that_has_exited_is_of_no_more_use(system: rmaplab.System) -> None:
    """Every call says so in one line."""
    parent = system.spawn()
    address = parent.mmap("4K")
    child = parent.fork()
    child.exit()
    for call in (
        child.fork,
        child.exit,
        lambda: child.mmap(1),
        lambda: child.munmap(address, 1),
        lambda: child.read(address),
        lambda: child.write(address, b"x"),
        lambda: child.touch(address, 1),
    ):
        with pytest.raises(rmaplab.UsageError, match=f"task {child.pid} has exited"):
            call()
    assert system.who_maps(child, address) == []
    system.check()


def test_pids_are_used_again_only_when_free(system: rmaplab.System) -> None:
    """Up to 32767, then from 300 (RESERVED_PIDS) past those that are taken: 2.6.2 kernel/pid.c, alloc_pidmap."""
    parent = system.spawn()
    assert [parent.pid, parent.fork().pid] == [1, 2]
    system.kernel.last_pid = 300
    assert parent.fork().pid == 301
    system.kernel.last_pid = 32766
    assert [parent.fork().pid, parent.fork().pid, parent.fork().pid] == [32767, 300, 302]


def test_nr_alive(system: rmaplab.System) -> None:
    """Zombies are dead; the peak remembers."""
    kernel, parent = system.kernel, system.spawn()
    children = [parent.fork() for _ in range(4)]
    for child in children[:3]:
        child.exit()
    parent.fork()
    assert (kernel.nr_processes, kernel.nr_alive, kernel.nr_alive_peak) == (6, 3, 5)


# -- programs --------------------------------------------------------------------------------------------------------


def test_programs_fork_and_wait(system: rmaplab.System) -> None:
    """What a program returns is its exit code; wait sleeps until a child has exited."""
    story: list[object] = []

    def child(task: rmaplab.Task) -> int:
        story.append(task.read(0x4000_0000, 6))
        task.write(0x4000_0000, b"child!")
        return 42

    def first(task: rmaplab.Task) -> None:
        assert task.mmap(PAGE_SIZE) == 0x4000_0000
        task.write(0x4000_0000, b"parent")
        pid = task.fork(child).pid
        story.append(task.wait() == (pid, 42))
        story.append(task.read(0x4000_0000, 6))

    task = system.spawn(first)
    assert story == []
    system.run()
    assert story == [b"parent", True, b"parent"]
    assert task.exit_code == 0
    assert not system.kernel.tasks
    system.check()


def test_exit_ends_a_program(system: rmaplab.System) -> None:
    """exit() does not return."""
    after: list[int] = []

    def program(task: rmaplab.Task) -> int:
        task.exit(5)
        after.append(1)
        return 6

    task = system.spawn(program)
    system.run()
    assert (task.exit_code, after) == (5, [])
    system.check()


def test_a_program_that_segfaults_is_killed(system: rmaplab.System) -> None:
    """SIGSEGV is number 11; its parent learns of it, and all its memory is free."""
    codes: list[tuple[int, int]] = []

    def child(task: rmaplab.Task) -> int:
        task.write(task.mmap(PAGE_SIZE, PROT_READ), b"x")
        return 0

    def first(task: rmaplab.Task) -> None:
        task.mmap("1M")
        pid = task.fork(child).pid
        codes.append(task.wait())
        assert codes == [(pid, -11)]

    system.spawn(first)
    system.run()
    assert codes
    assert not system.kernel.tasks
    assert system.kernel.committed_pages == 0
    system.check()


def test_a_program_that_gets_no_memory_is_killed(system: rmaplab.System) -> None:
    """The out-of-memory kill ends the program, not the run."""
    codes: list[tuple[int, int]] = []

    def child(task: rmaplab.Task) -> int:
        system.machine.allocator.fail_after = 0
        task.write(0x4000_0000, b"x")
        return 0

    def first(task: rmaplab.Task) -> None:
        task.write(task.mmap("1M"), b"y")
        task.fork(child)
        codes.append(task.wait())

    system.spawn(first)
    system.run()
    assert [code for _, code in codes] == [-9]
    system.check()


def test_a_program_must_say_what_its_child_runs(system: rmaplab.System) -> None:
    """fork() with no program inside one: the error names the way out."""
    told: list[str] = []

    def program(task: rmaplab.Task) -> None:
        with pytest.raises(rmaplab.UsageError) as error:
            task.fork()
        told.append(str(error.value))

    system.spawn(program)
    system.run()
    assert "task.fork(child_program)" in told[0]


def test_an_exception_in_a_program_comes_out_of_run(system: rmaplab.System) -> None:
    """A failed system call that the program does not handle is the user's to see."""

    def program(task: rmaplab.Task) -> None:
        task.munmap(1, 1)

    system.spawn(program)
    with pytest.raises(rmaplab.SyscallError, match="munmap"):
        system.run()


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "6.18"])
def test_nproc_counts_all_of_a_users_tasks(kernel: str) -> None:
    """Whoever made them, zombies too; a vfork child and a thread count as well; others, and root, do not."""
    system = rmaplab.boot(kernel, ram="64M")
    first, root = system.spawn(), system.spawn(root=True)
    first.limit_nproc(3)
    second = first.fork()
    child = second.fork()
    child.exit()
    for makes in (first.fork, second.vfork, second.clone_vm):
        with pytest.raises(rmaplab.SyscallError, match="user 1000 has 3 tasks, and RLIMIT_NPROC is 3") as error:
            makes()
        assert error.value.name == "EAGAIN"
    second.wait()
    thread = second.clone_vm()
    root.limit_nproc(1)
    assert root.fork().fork().pid > thread.pid
    first.limit_nproc(4)
    with pytest.raises(rmaplab.SyscallError, match="RLIMIT_NPROC is 3"):
        thread.fork()  # a limit is each task's own
    assert first.fork().limits.nproc == 4
    system.check()
    root.limit_nproc(100)
    root.setuid(1000)
    system.check()
    system.kernel.tasks_of_user[1000] -= 1
    with pytest.raises(KernelBug, match="user_struct"):
        system.check()
