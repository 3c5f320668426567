"""/dev/zero: shared it is an object, private anonymous memory that remembers the open file. files.md B2, G1."""

import errno

import pytest

import rmaplab
from rmaplab.errors import BusError, SegmentationFault, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_MAYSHARE,
    VM_SHARED,
)
from rmaplab.units import PAGE_SIZE

kernels = pytest.mark.parametrize("kernel", EVERY_KIND)
HERE, RW = 0x5000_0000, PROT_READ | PROT_WRITE


class Zero:
    def __init__(self, kernel: str) -> None:
        self.system = rmaplab.boot(kernel, ram="64M")
        self.task = self.system.spawn()
        self.fd = self.task.open_zero()
        self.rules = self.system.kernel.rules

    def map(self, page: int, nr: int, pgoff: int = 0, flags: int = MAP_PRIVATE, prot: int = RW, fd: int = 0) -> int:
        at = HERE + page * PAGE_SIZE
        return self.task.mmap(nr * PAGE_SIZE, prot, flags | MAP_FIXED, at, file=fd or self.fd, pgoff=pgoff)

    def present(self, task: rmaplab.Task | None = None) -> list[int]:
        """PFNs of entries that map something, in the order of addresses."""
        mm = (task or self.task).mm
        assert mm is not None
        found: list[int] = read_page_tables(self.system.machine, mm.pgd)[0].pfns.tolist()
        return found

    def nr_vmas(self) -> int:
        assert self.task.mm is not None
        return self.task.mm.map_count


@kernels
def test_private_is_anonymous(kernel: str) -> None:
    """Zeros that become the task's own where they are written to; a child has copies. Up to 2.6.33 the zero page is everywhere at once."""
    zero = Zero(kernel)
    at = zero.map(0, 40)
    filled = zero.rules.dev_zero_is_filled
    assert zero.present() == ([ZERO_PFN] * 40 if filled else [])
    zero.task.write(at + 5 * PAGE_SIZE, b"parent")
    child = zero.task.fork()
    child.write(at + 5 * PAGE_SIZE, b"child!")
    child.write(at + 6 * PAGE_SIZE, b"new")
    assert zero.task.read(at + 5 * PAGE_SIZE, 6) == b"parent"
    assert zero.task.read(at + 6 * PAGE_SIZE, 3) == bytes(3)
    assert child.read(at + 5 * PAGE_SIZE, 6) == b"child!"
    zero.system.check()
    zero.task.madvise(at, 40 * PAGE_SIZE, MADV_DONTNEED)
    assert zero.present() == []
    assert zero.task.read(at + 5 * PAGE_SIZE, 6) == bytes(6)
    zero.task.munmap(at + PAGE_SIZE, 3 * PAGE_SIZE)
    for task in (zero.task, child):
        task.exit()
    zero.system.check()
    caches = zero.system.machine.caches
    assert (caches["filp"].nr_objects, caches["inode_cache"].nr_objects) == (0, 1)
    assert zero.system.kernel.committed_pages == 0


@kernels
def test_shared_is_an_object_of_its_own(kernel: str) -> None:
    """As shared anonymous memory, but that the offset counts on every kernel. The open file of /dev/zero is not kept."""
    zero = Zero(kernel)
    at, other = (zero.map(page, 4, flags=MAP_SHARED) for page in (0, 4))
    beyond = zero.map(8, 4, pgoff=2, flags=MAP_SHARED)
    zero.task.close(zero.fd)
    child = zero.task.fork()
    child.write(at, b"child")
    assert zero.task.read(at, 5) == b"child"
    assert zero.task.read(other, 5) == bytes(5)
    zero.task.read(beyond + PAGE_SIZE)
    with pytest.raises(BusError):
        zero.task.read(beyond + 2 * PAGE_SIZE)
    assert zero.nr_vmas() == 3
    zero.system.check()
    assert zero.system.machine.caches["filp"].nr_objects == 3
    zero.task.exit()
    child.exit()
    zero.system.check()


@kernels
@pytest.mark.parametrize(
    ("second", "together"),
    [((4, 4, 4), True), ((4, 4, 0), False)],
    ids=["offsets continue", "offset 0 again"],
)
def test_who_merges(kernel: str, second: tuple[int, int, int], together: bool) -> None:
    """Where files' VMAs merge in mmap: of one open file, and offsets count. Never with anonymous memory, or with another open of the device."""
    zero = Zero(kernel)
    at = zero.map(0, 4)
    zero.map(*second)
    merges = together and kernel != "2.4.21"
    assert zero.nr_vmas() == (1 if merges else 2)
    zero.task.mmap(4 * PAGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, HERE + 8 * PAGE_SIZE)
    zero.map(12, 4, 12, fd=zero.task.open_zero())
    assert zero.nr_vmas() == (3 if merges else 4)
    for i in range(16):
        zero.task.write(at + i * PAGE_SIZE, b"page %02d" % i)
    zero.system.check()
    assert [zero.task.read(at + i * PAGE_SIZE, 7) for i in range(16)] == [b"page %02d" % i for i in range(16)]


@kernels
def test_what_a_read_only_descriptor_gives(kernel: str) -> None:
    """MAP_SHARED of it is not VM_SHARED, so it is private zeros, and can never be written."""
    zero = Zero(kernel)
    fd = zero.task.open_zero(writable=False)
    with pytest.raises(SyscallError) as refused:
        zero.map(0, 4, flags=MAP_SHARED, fd=fd)
    assert refused.value.errno == errno.EACCES
    at = zero.map(0, 4, flags=MAP_SHARED, prot=PROT_READ, fd=fd)
    assert zero.task.mm is not None
    assert zero.task.mm.vmas[0].flags & (VM_SHARED | VM_MAYSHARE) == VM_MAYSHARE
    assert zero.task.read(at) == b"\0"
    with pytest.raises(SyscallError):
        zero.task.mprotect(at, PAGE_SIZE, RW)
    zero.system.check()
    assert zero.task.pread(fd, 5, 1 << 40) == bytes(5)
    assert zero.task.pwrite(zero.fd, b"nothing", 0) == 7
    with pytest.raises(SyscallError) as refused:
        zero.task.ftruncate(zero.fd, 0)
    assert refused.value.errno == errno.EINVAL


@kernels
def test_what_asks_for_the_file_finds_it(kernel: str) -> None:
    """Mincore of old kernels, WILLNEED where anonymous memory has none, WIPEONFORK where a file has none."""
    zero = Zero(kernel)
    at = zero.map(0, 2)
    zero.task.write(at, b"x")
    knows = zero.rules.mincore_knows_anonymous
    assert zero.task.mincore(at, 2 * PAGE_SIZE) == (
        [True, bool(zero.rules.dev_zero_is_filled)] if knows else [False] * 2
    )
    zero.task.madvise(at, PAGE_SIZE, MADV_WILLNEED)
    with pytest.raises(SyscallError):
        zero.task.madvise(at, PAGE_SIZE, MADV_WIPEONFORK)


@kernels
def test_nobody_reads_what_nobody_may(kernel: str) -> None:
    """Entries that are filled in allow no more than their mapping."""
    zero = Zero(kernel)
    at = zero.map(0, 2, prot=PROT_NONE)
    with pytest.raises(SegmentationFault):
        zero.task.read(at)
    zero.system.check()
    zero.task.mprotect(at, PAGE_SIZE, RW)
    zero.task.write(at, b"x")
    assert zero.task.read(at, 2) == b"x\0"
    zero.system.check()


@kernels
@pytest.mark.parametrize("prot", [PROT_NONE, RW])
def test_every_allocation_of_mmap_fails_in_turn(kernel: str, prot: int) -> None:
    """EAGAIN while entries are filled: nothing is mapped then, but page tables stay, as pte_alloc_map leaves them."""
    names = list[str]()
    for nth in range(20):
        zero = Zero(kernel)
        machine, mm, span = zero.system.machine, zero.task.mm, zero.system.machine.paging.leaf_span
        assert mm is not None
        tables = mm.nr_tables
        machine.allocator.fail_after = nth
        try:
            at = zero.task.mmap(3 * span, prot, MAP_PRIVATE | MAP_FIXED, HERE // span * span, file=zero.fd)
        except SyscallError as error:
            names.append(error.name)
            machine.allocator.fail_after = None
            zero.system.check()
            assert (zero.nr_vmas(), zero.present(), zero.system.kernel.committed_pages) == (0, [], 0)
            assert mm.nr_tables - tables == max(names.count("EAGAIN") - 1, 0)
            zero.task.exit()
            zero.system.check()
            continue
        break
    assert mm is not None
    machine.allocator.fail_after = None
    assert names.count("EAGAIN") == (mm.nr_tables - tables if zero.rules.dev_zero_is_filled else 0)
    if prot != PROT_NONE:
        zero.task.touch(at, 3 * span)
    zero.system.check()
