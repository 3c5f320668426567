"""What files take out of the slab, and when it goes back: inodes, struct file, nodes of the page index."""

import errno

import pytest

import rmaplab
from rmaplab.errors import BusError, NoMemory, OomKilled, SyscallError
from rmaplab.objects.flags import MAP_SHARED
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7", "6.18")
kernels = pytest.mark.parametrize("kernel", KERNELS)


def booted(kernel: str) -> tuple[rmaplab.System, rmaplab.Task]:
    system = rmaplab.boot(kernel, ram="64M")
    return system, system.spawn()


@pytest.mark.parametrize(
    ("kernel", "inode", "file", "node"),
    [("2.4.21", 308, 104, 0), ("2.6.2", 348, 140, 260), ("2.6.5-rc1-aa1", 348, 140, 260), ("2.6.7", 324, 148, 276), ("6.18", 616, 184, 576)],
)  # fmt: skip
def test_sizes_by_era(kernel: str, inode: int, file: int, node: int) -> None:
    """files.md A1, A2."""
    caches = rmaplab.boot(kernel, ram="64M", l1_cache_bytes=64).machine.caches
    assert (caches["inode_cache"].object_bytes, caches["filp"].object_bytes) == (inode, file)
    assert (caches["radix_tree_node"].object_bytes if node else 0) == node
    if kernel == "6.18":
        assert [caches[name].packing.stride for name in ("inode_cache", "filp")] == [616, 192]


@kernels
def test_an_open_file_lives_as_long_as_somebody_refers_to_it(kernel: str) -> None:
    """Descriptors of two processes, and VMAs that are split, forked and merged again."""
    system, task = booted(kernel)
    file = system.new_file(size=64 * PAGE_SIZE)
    files = system.machine.caches["filp"]
    fd, other = task.open(file, writable=True), task.open(file)
    task.dup(fd, other)  # dup2: what it meant before is closed
    assert files.nr_objects == 1
    task.close(fd)
    at = task.mmap(8 * PAGE_SIZE, 3, MAP_SHARED, file=other)
    child = task.fork()
    task.munmap(at + 2 * PAGE_SIZE, PAGE_SIZE)
    task.mprotect(at, PAGE_SIZE, 1)
    task.mprotect(at, PAGE_SIZE, 3)
    task.close(other)
    system.check()
    assert files.nr_objects == 1
    task.munmap(at, 8 * PAGE_SIZE)
    assert files.nr_objects == 1
    child.munmap(at, 8 * PAGE_SIZE)
    assert files.nr_objects == 1  # the child's descriptor
    child.exit()
    assert files.nr_objects == 0
    system.check()


@kernels
def test_a_thread_shares_the_descriptors_and_closes_none(kernel: str) -> None:
    system, task = booted(kernel)
    fd = task.open(system.new_file(b"bytes"))
    task.clone_vm().exit()
    assert task.pread(fd, 5, 0) == b"bytes"
    task.exit()
    assert system.machine.caches["filp"].nr_objects == 0


@kernels
def test_nodes_come_with_pages_and_go_with_them(kernel: str) -> None:
    """70 pages from 0 on are two nodes and one above; cut to one page, what is left hangs in them, or since 2.6.34 on the root."""
    system, task = booted(kernel)
    cache = system.machine.caches.get("radix_tree_node")
    fd = task.open(system.new_file(size=70 * PAGE_SIZE, on_disk=False), writable=True)
    at = task.mmap(70 * PAGE_SIZE, 3, MAP_SHARED, file=fd)
    task.touch(at, 70 * PAGE_SIZE, write=True)
    system.check()
    if cache is None:
        assert kernel == "2.4.21"
        return
    assert cache.nr_objects == 3
    task.ftruncate(fd, 1)
    assert cache.nr_objects == (0 if system.kernel.rules.radix_tree_shrinks else 2)
    task.ftruncate(fd, 0)
    assert cache.nr_objects == 0
    system.check()


@kernels
def test_each_allocation_of_a_write_fails_in_turn(kernel: str) -> None:
    """write(2) behind the end of a file, where the page's node is missing too: ENOMEM, and all is as before."""
    for nth in range(20):
        system, task = booted(kernel)
        file = system.new_file(size=PAGE_SIZE, on_disk=False)
        fd = task.open(file, writable=True)
        task.pwrite(fd, b"first", 0)
        system.machine.allocator.drain()
        free, objects = system.machine.allocator.nr_unused, _objects(system)
        system.machine.allocator.fail_after = nth
        try:
            assert task.pwrite(fd, b"second", 5000 * PAGE_SIZE) == 6
            failed = False
        except SyscallError as failure:
            assert failure.errno == errno.ENOMEM
            failed = True
        system.machine.allocator.fail_after = None
        system.check()
        assert task.pread(fd, 5, 0) == b"first"
        if not failed:
            return
        assert (_objects(system), list(file.pages)) == (objects, [0])
        system.machine.caches["radix_tree_node"].shrink() if "radix_tree_node" in system.machine.caches else None
        vector = file.shmem.vector if file.shmem is not None else None
        assert system.machine.allocator.nr_unused == free - (len(vector.pages) if vector else 0)  # which stay
    pytest.fail("it never came to work")


@kernels
def test_each_allocation_of_a_fault_fails_in_turn(kernel: str) -> None:
    """The first touch of a shared page: the task dies, or the fault is tried again; pages, nodes and struct files are counted all the same."""
    for nth in range(12):
        system, task = booted(kernel)
        file = system.new_file(size=5001 * PAGE_SIZE, on_disk=False)
        fd = task.open(file, writable=True)
        task.pwrite(fd, b"first", 0)
        at = task.mmap(PAGE_SIZE, 3, MAP_SHARED, file=fd, pgoff=5000)
        system.machine.allocator.fail_after = nth
        try:
            task.write(at, b"x")
            failed = False
        except (NoMemory, OomKilled, BusError):
            failed = True
        system.machine.allocator.fail_after = None
        system.check()
        retried = system.kernel.rules.fault_retries_oom
        assert failed or retried or nth > 0
        if not failed and not retried:
            return
    assert retried


@kernels
def test_no_memory_for_a_struct_file(kernel: str) -> None:
    """Up to 2.6 open said ENFILE whatever was lacking; nothing is open then."""
    system, task = booted(kernel)
    file = system.new_file(b"bytes")
    system.machine.allocator.fail_after = 0
    with pytest.raises(SyscallError) as failure:
        task.open(file)
    assert failure.value.errno == (errno.ENOMEM if kernel == "6.18" else errno.ENFILE)
    system.machine.allocator.fail_after = None
    system.check()
    assert task.open(file) == 3


def _objects(system: rmaplab.System) -> dict[str, int]:
    return {name: cache.nr_objects for name, cache in system.machine.caches.items()}
