"""Whatever tasks do with files and their mappings: bytes are where they must be, on every kernel, and check() holds after each call.

model     a file is its pages and its size; a task is pages at addresses: (file, page, shared?, may be written?, private copy?)
kernel    page cache, VMAs on indexes, entries, dirty bits, copies
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

import rmaplab
from rmaplab.errors import BusError, SegmentationFault, SyscallError
from rmaplab.objects.flags import (
    MADV_DONTNEED,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_SYNC,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.objects.mm_types import AddressSpace, File
from rmaplab.units import PAGE_SIZE

KERNELS = (
    "2.4.21",
    "2.6.2",
    "2.6.5-rc1",
    "2.6.5-rc1+00100",
    "2.6.5-rc1+anonmm",
    "2.6.5-rc1-aa1",
    "2.6.5-rc3-aa3",
    "2.6.7",
    "6.18",
    "6.18+pte_chain",
)
HERE, ROOM = 0x5000_0000 // PAGE_SIZE, 60  # pages
PAGES = 20


@dataclass
class Bytes:
    """What a file is made of: page -> bytes, those behind the end too as far as a mapping shows them."""

    space: AddressSpace
    pages: dict[int, bytearray]
    size: int

    def page(self, index: int) -> bytearray:
        return self.pages.setdefault(index, bytearray(PAGE_SIZE))

    def resize(self, size: int, *, zeroes_tail: bool) -> None:
        index, offset = divmod(min(size, self.size), PAGE_SIZE)
        if offset and (size < self.size or zeroes_tail):
            self.page(index)[offset:] = bytes(PAGE_SIZE - offset)
        for gone in [each for each in self.pages if each * PAGE_SIZE >= size]:
            del self.pages[gone]
        self.size = size

    def covers(self, index: int) -> bool:
        return index * PAGE_SIZE < self.size


@dataclass
class Shown:
    """A page of an address space."""

    of: Bytes
    index: int
    shared: bool
    writable: bool
    may_write: bool
    copy: bytearray | None = None


@dataclass(eq=False)
class Process:
    """A task and its pages, by number."""

    task: rmaplab.Task
    pages: dict[int, Shown] = field(default_factory=dict)


class Machine:
    """One system, driven at random."""

    def __init__(self, kernel: str, seed: int, index: str | None = None) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", file_index=index)
        self.choose = random.Random(seed)
        self.zeroes_tail = self.system.kernel.rules.extending_zeroes_tail
        self.files = [self.make(on_disk=on_disk) for on_disk in (True, False)]
        first = self.system.spawn()
        self.opened: list[tuple[Bytes, File]] = []
        for each in self.files:
            for writable in (True, True, False):
                self.opened.append((each, first.open(each.space, writable=writable)))
        self.processes = [Process(first)]

    def make(self, *, on_disk: bool) -> Bytes:
        data = bytes(self.choose.randrange(1, 256) for _ in range(64)) * 64 * (PAGES // 2)
        space = self.system.new_file(data, PAGES * PAGE_SIZE, on_disk=on_disk)
        pages = {i: bytearray(data[i * PAGE_SIZE :][:PAGE_SIZE]) for i in range(PAGES // 2)}
        return Bytes(space, pages, PAGES * PAGE_SIZE)

    def step(self) -> None:
        process = self.choose.choice(self.processes)
        weights: dict[Callable[[Process], None], int] = {
            self.mmap: 4, self.load: 5, self.store: 8, self.fork: 2, self.munmap: 2, self.mprotect: 3, self.mremap: 3,
            self.again: 1, self.dontneed: 1, self.truncate: 1, self.pwrite: 2, self.pread: 2, self.sync: 2, self.exit: 1,
        }  # fmt: skip
        self.choose.choices(list(weights), list(weights.values()))[0](process)
        self.system.check()

    def place(self) -> int:
        return HERE + self.choose.randrange(ROOM)

    def mmap(self, process: Process) -> None:
        of, opened = self.choose.choice(self.opened)
        shared, writable = self.choose.random() < 0.5, self.choose.random() < 0.7
        at, nr, pgoff = self.place(), self.choose.randrange(1, 9), self.choose.randrange(PAGES)
        if at - 1 in process.pages and self.choose.random() < 0.5:  # so that they may merge
            pgoff = process.pages[at - 1].index + 1
        prot = PROT_READ | (PROT_WRITE if writable else 0)
        flags = MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE)
        if shared and writable and not opened.writable:
            with pytest.raises(SyscallError) as error:
                process.task.mmap(nr * PAGE_SIZE, prot, flags, at * PAGE_SIZE, file=opened, pgoff=pgoff)
            assert error.value.name == "EACCES"
            return
        process.task.mmap(nr * PAGE_SIZE, prot, flags, at * PAGE_SIZE, file=opened, pgoff=pgoff)
        for i in range(nr):
            process.pages[at + i] = Shown(of, pgoff + i, shared, writable, opened.writable or not shared)

    def load(self, process: Process) -> None:
        self.same(process, self.place())

    def same(self, process: Process, page: int) -> None:
        """What is there is what must be there, to the byte."""
        shown, at = process.pages.get(page), page * PAGE_SIZE
        if shown is None:
            with pytest.raises(SegmentationFault, match="SIGSEGV"):
                process.task.read(at)
        elif not shown.of.covers(shown.index):
            with pytest.raises(BusError):
                process.task.read(at)
        else:
            assert process.task.read(at, PAGE_SIZE) == (shown.copy or shown.of.page(shown.index))

    def store(self, process: Process) -> None:
        page, offset, value = self.place(), self.choose.randrange(PAGE_SIZE), self.choose.randrange(256)
        shown, at = process.pages.get(page), page * PAGE_SIZE
        if shown is None or not shown.writable:
            with pytest.raises(SegmentationFault, match="SIGSEGV"):
                process.task.write(at + offset, bytes([value]))
        elif not shown.of.covers(shown.index):
            with pytest.raises(BusError):
                process.task.write(at + offset, bytes([value]))
        else:
            process.task.write(at + offset, bytes([value]))
            if not shown.shared and shown.copy is None:
                shown.copy = bytearray(shown.of.page(shown.index))
            (shown.of.page(shown.index) if shown.copy is None else shown.copy)[offset] = value

    def fork(self, process: Process) -> None:
        if len(self.processes) < 4:
            pages = {
                at: replace(shown, copy=None if shown.copy is None else bytearray(shown.copy))
                for at, shown in process.pages.items()
            }
            self.processes.append(Process(process.task.fork(), pages))

    def munmap(self, process: Process) -> None:
        at, nr = self.place(), self.choose.randrange(1, 6)
        process.task.munmap(at * PAGE_SIZE, nr * PAGE_SIZE)
        for page in range(at, at + nr):
            process.pages.pop(page, None)

    def run(self, process: Process) -> range:
        """Some pages of one VMA; an empty range if there is nothing where one looks."""
        at = self.place()
        assert process.task.mm is not None
        vma = process.task.mm.find_vma(at * PAGE_SIZE)
        if vma is None or vma.start > at * PAGE_SIZE:
            return range(0)
        return range(at, min(at + self.choose.randrange(1, 6), vma.end // PAGE_SIZE))

    def mprotect(self, process: Process) -> None:
        run, writable = self.run(process), self.choose.random() < 0.5
        if not run:
            return
        prot = PROT_READ | (PROT_WRITE if writable else 0)
        if writable and not process.pages[run[0]].may_write:
            with pytest.raises(SyscallError) as error:
                process.task.mprotect(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, prot)
            assert error.value.name == "EACCES"
            return
        process.task.mprotect(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, prot)
        for page in run:
            process.pages[page].writable = writable

    def mremap(self, process: Process) -> None:
        run = self.run(process)
        to = self.place() + ROOM + 10
        if run:
            old, new = run[0] * PAGE_SIZE, to * PAGE_SIZE
            flags = MREMAP_MAYMOVE | MREMAP_FIXED
            process.task.mremap(old, len(run) * PAGE_SIZE, len(run) * PAGE_SIZE, flags, new)
            for page in run:
                process.pages[to + page - run[0]] = process.pages.pop(page)

    def again(self, process: Process) -> None:
        """An old length of 0: a second mapping of what is shared."""
        run = self.run(process)
        to = self.place() + ROOM + 10
        if run and process.pages[run[0]].shared:
            flags = MREMAP_MAYMOVE | MREMAP_FIXED
            process.task.mremap(run[0] * PAGE_SIZE, 0, len(run) * PAGE_SIZE, flags, to * PAGE_SIZE)
            for page in run:
                process.pages[to + page - run[0]] = replace(process.pages[page])

    def dontneed(self, process: Process) -> None:
        run = self.run(process)
        if run:
            process.task.madvise(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, MADV_DONTNEED)
            for page in run:
                process.pages[page].copy = None

    def truncate(self, process: Process) -> None:
        of, opened = self.choose.choice(self.opened)
        size = self.choose.randrange(PAGES * PAGE_SIZE)
        if not opened.writable:
            with pytest.raises(SyscallError) as error:
                process.task.ftruncate(opened, size)
            assert error.value.name == "EINVAL"
            return
        process.task.ftruncate(opened, size)
        self.resize(of, size)
        for each in self.processes:
            for shown in each.pages.values():
                if shown.of is of and not of.covers(shown.index):
                    shown.copy = None

    def resize(self, of: Bytes, size: int) -> None:
        of.resize(size, zeroes_tail=self.zeroes_tail and of.space.on_disk)

    def pwrite(self, process: Process) -> None:
        of, opened = self.choose.choice(self.opened)
        offset, data = self.choose.randrange(PAGES * PAGE_SIZE), bytes([self.choose.randrange(256)]) * 5000
        if not opened.writable:
            with pytest.raises(SyscallError) as error:
                process.task.pwrite(opened, data, offset)
            assert error.value.name == "EBADF"
            return
        assert process.task.pwrite(opened, data, offset) == len(data)
        if offset + len(data) > of.size:
            self.resize(of, offset + len(data))
        for i, byte in enumerate(data):
            of.page((offset + i) // PAGE_SIZE)[(offset + i) % PAGE_SIZE] = byte

    def pread(self, process: Process) -> None:
        of, opened = self.choose.choice(self.opened)
        offset = self.choose.randrange(PAGES * PAGE_SIZE)
        there = b"".join(of.page(index) for index in range(-(-of.size // PAGE_SIZE)))[: of.size]
        assert process.task.pread(opened, 6000, offset) == there[offset : offset + 6000]

    def sync(self, process: Process) -> None:
        run = self.run(process)
        if self.choose.random() < 0.5:
            process.task.fsync(self.choose.choice(self.opened)[1])
        elif run:
            process.task.msync(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, self.choose.choice((MS_SYNC, MS_ASYNC)))

    def exit(self, process: Process) -> None:
        if len(self.processes) > 1:
            process.task.exit()
            self.processes.remove(process)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kernel", KERNELS)
def test_bytes_are_where_they_must_be(kernel: str, seed: int) -> None:
    machine = Machine(kernel, seed)
    for _ in range(120):
        machine.step()
    for process in machine.processes:
        for page in sorted(process.pages):
            machine.same(process, page)
    machine.system.check()
    for process in machine.processes:
        process.task.exit()
    for each in machine.files:
        assert list(each.space.i_mmap) == []
        process.task.kernel.lru_add.drain_all()
    machine.system.check()


@pytest.mark.parametrize("index", ["list", "rbtree", "prio_tree_mended", "interval_tree"])
def test_on_every_index(index: str) -> None:
    machine = Machine("2.6.5-rc1-aa1", 7, index)
    for _ in range(120):
        machine.step()
