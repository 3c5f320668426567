"""Tasks that share an address space: each call goes by the limits of who makes it, also if others act while it sleeps.

first      mmap ...... sleeps on mmap_sem ....... goes on        may map what it likes
forks           fork, mmap_sem held |==========|
modest                 touches, all the time                     RLIMIT_AS 1M
"""

import pytest

import rmaplab

P = 4096


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.5-rc1-aa1"])
def test_limits_stay_with_their_task_while_it_sleeps(kernel: str) -> None:
    """An mmap that waited for mmap_sem is refused by nobody else's RLIMIT_AS."""
    system = rmaplab.boot(kernel, ram="256M", cpus=4)
    mapped = []

    def leaves(task: rmaplab.Task) -> None:
        """Exit at once."""

    def forks(task: rmaplab.Task) -> None:
        for _ in range(10):
            task.fork(leaves)
            task.wait()

    def first(task: rmaplab.Task) -> None:
        area = task.mmap("32M")
        task.touch(area, "32M", write=True)

        def modest(other: rmaplab.Task) -> None:
            other.limit_as("1M")
            for _ in range(3000):
                other.touch(area, P)

        task.clone_vm(modest)
        task.clone_vm(forks)
        for _ in range(400):
            task.munmap(task.mmap("1M"), 1 << 20)
            mapped.append(True)
        task.wait()
        task.wait()

    system.spawn(first)
    system.run()
    assert len(mapped) == 400
    assert system.machine.locks.as_json()["mmap_sem"]["waits"]
    system.check()
