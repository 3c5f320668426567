"""memfd_create and seals: every row of files.md G10, as 6.18.44 answered; ENOSYS and EINVAL before 3.17."""

import errno

import pytest

import rmaplab
from rmaplab.errors import NotModelled, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.objects.flags import (
    F_SEAL_EXEC,
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    MADV_REMOVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    MFD_EXEC,
    MFD_HUGETLB,
    MFD_NOEXEC_SEAL,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

RW, PUNCH = PROT_READ | PROT_WRITE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class Memfd:
    """A memfd of 8 pages that may be sealed, and a descriptor for reading alone."""

    def __init__(self, flags: int = MFD_ALLOW_SEALING) -> None:
        self.system = rmaplab.boot("6.18", ram="64M")
        self.task = self.system.spawn()
        self.fd = self.task.memfd_create(flags)
        self.task.ftruncate(self.fd, 8 * PAGE_SIZE)
        self.reader = self.task.open(self.task.opened("open", self.fd).mapping)

    def map(self, flags: int = MAP_SHARED, prot: int = RW, fd: int | None = None) -> int:
        return self.task.mmap(8 * PAGE_SIZE, prot, flags, file=self.fd if fd is None else fd)


def refused(call: object, *arguments: object) -> int:
    with pytest.raises(SyscallError) as error:
        call(*arguments)  # type: ignore[operator]
    assert error.value.errno is not None
    return error.value.errno


@pytest.mark.parametrize("kernel", [kernel for kernel in EVERY_KIND if kernel != "6.18"])
def test_who_does_not_know_them(kernel: str) -> None:
    system = rmaplab.boot(kernel, ram="64M")
    task = system.spawn()
    fd = task.open(system.new_file(on_disk=False), writable=True)
    assert refused(task.memfd_create, 0) == errno.ENOSYS
    assert refused(task.get_seals, fd) == refused(task.add_seals, fd, F_SEAL_SEAL) == errno.EINVAL
    assert refused(task.fallocate, fd, 0, 0, 1) == errno.ENOSYS


@pytest.mark.parametrize(
    ("flags", "seals"),
    [(0, F_SEAL_SEAL), (MFD_CLOEXEC | MFD_EXEC, F_SEAL_SEAL), (MFD_ALLOW_SEALING, 0), (MFD_NOEXEC_SEAL, F_SEAL_EXEC), (MFD_NOEXEC_SEAL | MFD_ALLOW_SEALING, F_SEAL_EXEC)],
)  # fmt: skip
def test_what_it_begins_with(flags: int, seals: int) -> None:
    memfd = Memfd(flags)
    assert memfd.task.get_seals(memfd.fd) == seals
    if seals & F_SEAL_SEAL:
        assert refused(memfd.task.add_seals, memfd.fd, F_SEAL_GROW) == errno.EPERM
    memfd.task.exit()
    memfd.system.check()
    assert memfd.system.machine.caches["inode_cache"].nr_objects == 0


def test_what_is_refused() -> None:
    memfd = Memfd()
    task = memfd.task
    for flags in (0x20, MFD_EXEC | MFD_NOEXEC_SEAL):
        assert refused(task.memfd_create, flags) == errno.EINVAL
    with pytest.raises(NotModelled):
        task.memfd_create(MFD_HUGETLB)
    assert refused(task.add_seals, memfd.fd, 0x40) == errno.EINVAL
    assert refused(task.add_seals, memfd.reader, 0x40) == errno.EPERM
    assert refused(task.add_seals, 99, 0) == errno.EBADF
    on_tmpfs, on_disk = (task.open(memfd.system.new_file(on_disk=disk), writable=True) for disk in (False, True))
    assert task.get_seals(on_tmpfs) == F_SEAL_SEAL
    assert refused(task.add_seals, on_tmpfs, 0) == errno.EPERM
    assert refused(task.add_seals, on_disk, 0) == refused(task.get_seals, on_disk) == errno.EINVAL
    task.add_seals(memfd.fd, F_SEAL_SEAL)
    assert refused(task.add_seals, memfd.fd, F_SEAL_GROW) == errno.EPERM


def test_shrink_and_grow() -> None:
    """Each its way; a write that begins within the file and would make it longer is cut where its last whole page within begins."""
    memfd = Memfd()
    task, fd, end = memfd.task, memfd.fd, 8 * PAGE_SIZE
    task.add_seals(fd, F_SEAL_SHRINK)
    assert refused(task.ftruncate, fd, end - 1) == errno.EPERM
    task.ftruncate(fd, end)
    task.ftruncate(fd, end + 1)
    task.add_seals(fd, F_SEAL_GROW)
    assert refused(task.ftruncate, fd, end + 2) == errno.EPERM
    assert refused(task.fallocate, fd, FALLOC_FL_KEEP_SIZE, end, 2) == errno.EPERM
    task.fallocate(fd, 0, 0, end)
    assert refused(task.pwrite, fd, b"xx", end) == errno.EPERM
    assert task.pwrite(fd, b"x" * 2 * PAGE_SIZE, end - PAGE_SIZE - 5) == PAGE_SIZE + 5
    task.fallocate(fd, PUNCH, 0, 1 << 30)
    assert task.file_size(fd) == end + 1
    memfd.system.check()


def test_write_is_for_who_has_no_writers() -> None:
    """EBUSY emerges from the VMAs: shared ones through a descriptor for writing, whatever they may do; forks and parts of them too. Not private ones."""
    memfd = Memfd()
    task, fd = memfd.task, memfd.fd
    memfd.map(MAP_PRIVATE)
    reading = memfd.map(prot=PROT_READ, fd=memfd.reader)
    at = memfd.map(prot=PROT_READ)
    child = task.fork()
    task.munmap(at, 8 * PAGE_SIZE)
    assert refused(task.add_seals, fd, F_SEAL_WRITE) == errno.EBUSY
    child.munmap(at, 7 * PAGE_SIZE)
    assert refused(task.add_seals, fd, F_SEAL_WRITE | F_SEAL_SHRINK) == errno.EBUSY
    assert task.get_seals(fd) == 0
    child.munmap(at + 7 * PAGE_SIZE, PAGE_SIZE)
    task.add_seals(fd, F_SEAL_WRITE)
    memfd.system.check()
    assert refused(task.pwrite, fd, b"x", 0) == errno.EPERM
    assert refused(memfd.map) == errno.EPERM
    assert refused(task.fallocate, fd, PUNCH, 0, PAGE_SIZE) == errno.EPERM
    task.fallocate(fd, 0, 0, PAGE_SIZE)
    at = memfd.map(prot=PROT_READ)
    assert refused(task.mprotect, at, PAGE_SIZE, RW) == errno.EACCES
    assert refused(task.madvise, at, PAGE_SIZE, MADV_REMOVE) == errno.EACCES
    assert refused(task.mprotect, reading, PAGE_SIZE, RW) == errno.EACCES
    private = memfd.map(MAP_PRIVATE)
    task.write(private, b"mine")
    task.ftruncate(fd, 0)
    task.add_seals(fd, F_SEAL_WRITE)  # it is so already: nobody is asked
    memfd.system.check()


def test_future_write_leaves_old_mappings() -> None:
    memfd = Memfd()
    task, fd, at = memfd.task, memfd.fd, memfd.map()
    task.add_seals(fd, F_SEAL_FUTURE_WRITE)
    task.write(at, b"still")
    assert task.pread(fd, 5, 0) == b"still"
    assert refused(memfd.map) == refused(task.pwrite, fd, b"x", 0) == errno.EPERM
    assert refused(task.madvise, at, PAGE_SIZE, MADV_REMOVE) == errno.EPERM
    task.mprotect(at, PAGE_SIZE, PROT_READ)
    task.mprotect(at, PAGE_SIZE, RW)
    new = memfd.map(prot=PROT_READ)
    assert refused(task.mprotect, new, PAGE_SIZE, RW) == errno.EACCES
    assert refused(task.add_seals, fd, F_SEAL_WRITE) == errno.EBUSY
    task.munmap(at, 8 * PAGE_SIZE)
    task.add_seals(fd, F_SEAL_WRITE)  # `new` can never write
    task.ftruncate(fd, PAGE_SIZE)
    memfd.system.check()


def test_exec_of_what_may_be_executed_is_all() -> None:
    memfd = Memfd()
    at = memfd.map()
    assert refused(memfd.task.add_seals, memfd.fd, F_SEAL_EXEC) == errno.EBUSY
    memfd.task.munmap(at, 8 * PAGE_SIZE)
    memfd.task.add_seals(memfd.fd, F_SEAL_EXEC)
    assert memfd.task.get_seals(memfd.fd) == 0x3E
    other = Memfd(MFD_NOEXEC_SEAL)
    other.task.add_seals(other.fd, F_SEAL_EXEC)
    assert other.task.get_seals(other.fd) == F_SEAL_EXEC


def test_every_allocation_fails_in_turn() -> None:
    system = rmaplab.boot("6.18", ram="64M")
    task, names = system.spawn(), list[str]()
    for nth in range(10):
        system.machine.allocator.fail_after = nth
        try:
            task.memfd_create()
        except SyscallError as error:
            names.append(error.name)
            system.check()
            assert not task.files.fd
            continue
        break
    system.machine.allocator.fail_after = None
    assert set(names) == {"ENOSPC", "ENOMEM"}
    task.exit()
    system.check()
