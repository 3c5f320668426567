"""Random calls on files and their mappings: bytes are where they must be, on any kernel and index, and check() holds after each call.

    model     a file is its pages and its size; a task is pages at addresses (file_model.py)
    kernel    page cache, VMAs on indexes, entries, dirty bits, copies

The same seed makes the same calls. Beside the kit (kit.py), whose scripts have no files.
"""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from rmaplab.calls.task import Task
from rmaplab.errors import BusError, SegmentationFault
from rmaplab.kernels.system import boot
from rmaplab.lab.conformance.file_model import HERE, PAGES, ROOM, Bytes, FileBytes, FileUser, Shown, refused, signalled
from rmaplab.lab.conformance.thief import Thief
from rmaplab.objects.flags import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_PAGEOUT,
    MADV_WILLNEED,
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
from rmaplab.units import PAGE_SIZE

Calls = dict[Callable[[FileUser], None], int]
"""What may be called next, and how often of all times."""


class FileRun:
    """One system, driven at random, with a thief beside it if one is wanted. Raises AssertionError, KernelBug at the first thing that is wrong.

    `box` are fields of its box, where 64 MiB of RAM are not what is wanted.
    """

    def __init__(
        self,
        kernel: str,
        seed: int,
        *,
        index: str | None = None,
        paging: str | None = None,
        thief: bool = False,
        **box: Any,
    ) -> None:
        given = {"ram": "64M", "swap": "64M" if thief else "0", "file_index": index, "paging": paging} | box
        self.system = boot(kernel, **given)
        if thief:
            Thief(self.system, seed)
        self.choose = Random(seed)  # noqa: S311
        self.zeroes_tail = self.system.kernel.rules.extending_zeroes_tail
        self.files = [self.make(on_disk=on_disk) for on_disk in (True, False)]
        first = self.system.spawn()
        self.opened: list[tuple[Bytes, int]] = []
        self.writable = set[int]()
        for each in self.files:
            self.open(first, each, (True, True, False))
        self.processes = [FileUser(first)]

    def make(self, *, on_disk: bool) -> FileBytes:
        """A file, half of it zeros."""
        data = bytes(self.choose.randrange(1, 256) for _ in range(64)) * 64 * (PAGES // 2)
        space = self.system.new_file(data, PAGES * PAGE_SIZE, on_disk=on_disk)
        pages = {i: bytearray(data[i * PAGE_SIZE :][:PAGE_SIZE]) for i in range(PAGES // 2)}
        return FileBytes(pages, PAGES * PAGE_SIZE, space)

    def open(self, task: Task, of: FileBytes, ways: tuple[bool, ...]) -> None:
        """A descriptor for each of `ways`: whether it may be written through it."""
        for writable in ways:
            fd = task.open(of.space, writable=writable)
            self.opened.append((of, fd))
            self.writable |= {fd} if writable else set()

    def run(self, steps: int) -> None:
        """So many calls; then all that is mapped is looked at, and all tasks exit."""
        for _ in range(steps):
            self.step()
        for process in [*self.processes]:
            for page in sorted(process.pages):
                if process in self.processes:
                    self.make_call(partial(self.same, page=page), process)
        self.system.check()
        self.finish()
        for process in self.processes:
            process.task.exit()
        self.system.check()
        if left := [vma for each in self.files for vma in each.space.i_mmap]:
            raise AssertionError(f"{left[0]} is on a file's index, and nobody lives")

    def finish(self) -> None:
        """What must be done while somebody lives, so that nothing is left."""

    def step(self) -> None:
        """One call, and check()."""
        process = self.choose.choice(self.processes)
        weights = self.weights()
        self.make_call(self.choose.choices(list(weights), list(weights.values()))[0], process)
        self.system.check()

    def make_call(self, call: Callable[[FileUser], None], process: FileUser) -> None:
        """And nobody dies of it."""
        call(process)

    def weights(self) -> Calls:
        """Its calls, and how often each is made."""
        return {
            self.mmap: 4, self.load: 5, self.store: 8, self.fork: 2, self.munmap: 2, self.mprotect: 3, self.mremap: 3,
            self.again: 1, self.dontneed: 1, self.advise: 1, self.resize_map: 1, self.truncate: 1, self.pwrite: 2, self.pread: 2, self.sync: 2, self.exit: 1,
        }  # fmt: skip

    def place(self) -> int:
        """A page of the address space."""
        return HERE + self.choose.randrange(ROOM)

    def mmap(self, process: FileUser) -> None:
        """Shared or private; where a mapping ends, perhaps so that it goes on."""
        of, opened = self.choose.choice(self.opened)
        shared, writable = self.choose.random() < 0.5, self.choose.random() < 0.7
        at, nr, pgoff = self.place(), self.choose.randrange(1, 9), self.choose.randrange(PAGES)
        if at - 1 in process.pages and self.choose.random() < 0.5:  # so that they may merge
            pgoff = process.pages[at - 1].index + 1
        prot = PROT_READ | (PROT_WRITE if writable else 0)
        flags = MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE)
        if shared and writable and opened not in self.writable:
            refused(
                "EACCES",
                lambda: process.task.mmap(nr * PAGE_SIZE, prot, flags, at * PAGE_SIZE, file=opened, pgoff=pgoff),
            )
            return
        process.task.mmap(nr * PAGE_SIZE, prot, flags, at * PAGE_SIZE, file=opened, pgoff=pgoff)
        for i in range(nr):
            may_write = opened in self.writable or not shared
            process.pages[at + i] = Shown(of, pgoff + i, shared=shared, writable=writable, may_write=may_write)

    def load(self, process: FileUser) -> None:
        """A page, wherever."""
        self.same(process, self.place())

    def same(self, process: FileUser, page: int) -> None:
        """What is there is what must be there, to the byte."""
        shown, at = process.pages.get(page), page * PAGE_SIZE
        if shown is None:
            signalled(SegmentationFault, lambda: process.task.read(at))
        elif not shown.of.covers(shown.index):
            signalled(BusError, lambda: process.task.read(at))
        elif process.task.read(at, PAGE_SIZE) != (shown.copy or shown.of.page(shown.index)):
            raise AssertionError(f"pid {process.task.pid} sees other bytes at {at:#x} than page {shown.index} has")

    def store(self, process: FileUser) -> None:
        """A byte, wherever."""
        page, offset, value = self.place(), self.choose.randrange(PAGE_SIZE), self.choose.randrange(256)
        shown, at = process.pages.get(page), page * PAGE_SIZE
        if shown is None or not shown.writable:
            signalled(SegmentationFault, lambda: process.task.write(at + offset, bytes([value])))
        elif not shown.of.covers(shown.index):
            signalled(BusError, lambda: process.task.write(at + offset, bytes([value])))
        else:
            process.task.write(at + offset, bytes([value]))
            if not shown.shared and shown.copy is None:
                shown.copy = bytearray(shown.of.page(shown.index))
            (shown.of.page(shown.index) if shown.copy is None else shown.copy)[offset] = value

    def fork(self, process: FileUser) -> None:
        """At most four processes."""
        if len(self.processes) < 4:
            child = process.task.fork()
            self.processes.append(FileUser(child, {at: shown.forked() for at, shown in process.pages.items()}))

    def munmap(self, process: FileUser) -> None:
        """Whatever is there."""
        at, nr = self.place(), self.choose.randrange(1, 6)
        process.task.munmap(at * PAGE_SIZE, nr * PAGE_SIZE)
        for page in range(at, at + nr):
            process.pages.pop(page, None)

    def stretch(self, process: FileUser) -> range:
        """Some pages of one VMA; an empty range if there is nothing where one looks."""
        at = self.place()
        vma = process.task.mm.find_vma(at * PAGE_SIZE) if process.task.mm is not None else None
        if vma is None or vma.start > at * PAGE_SIZE:
            return range(0)
        return range(at, min(at + self.choose.randrange(1, 6), vma.end // PAGE_SIZE))

    def mprotect(self, process: FileUser) -> None:
        """Within one VMA."""
        run, writable = self.stretch(process), self.choose.random() < 0.5
        if not run:
            return
        prot = PROT_READ | (PROT_WRITE if writable else 0)
        if writable and not process.pages[run[0]].may_write:
            refused("EACCES", lambda: process.task.mprotect(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, prot))
            return
        process.task.mprotect(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, prot)
        for page in run:
            process.pages[page].writable = writable

    def mremap(self, process: FileUser) -> None:
        """To a place of its own."""
        run = self.stretch(process)
        to = self.place() + ROOM + 10
        if run:
            old, new = run[0] * PAGE_SIZE, to * PAGE_SIZE
            flags = MREMAP_MAYMOVE | MREMAP_FIXED
            process.task.mremap(old, len(run) * PAGE_SIZE, len(run) * PAGE_SIZE, flags, new)
            for page in run:
                process.pages[to + page - run[0]] = process.pages.pop(page)

    def again(self, process: FileUser) -> None:
        """An old length of 0: a second mapping of what is shared."""
        run = self.stretch(process)
        to = self.place() + ROOM + 10
        if run and process.pages[run[0]].shared:
            flags = MREMAP_MAYMOVE | MREMAP_FIXED
            process.task.mremap(run[0] * PAGE_SIZE, 0, len(run) * PAGE_SIZE, flags, to * PAGE_SIZE)
            for page in run:
                process.pages[to + page - run[0]] = process.pages[page].fresh()

    def dontneed(self, process: FileUser) -> None:
        """Copies are lost."""
        run = self.stretch(process)
        if run:
            process.task.madvise(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, MADV_DONTNEED)
            for page in run:
                self.dropped(process.pages[page])

    def dropped(self, shown: Shown) -> None:
        """DONTNEED was said of it."""
        shown.forget()

    def advise(self, process: FileUser) -> None:
        """Pages of files come into the cache and go from it; nobody sees other bytes."""
        run, advice = self.stretch(process), self.choose.choice((MADV_WILLNEED, MADV_PAGEOUT, MADV_COLD))
        swaps = advice == MADV_PAGEOUT and self.system.machine.swap_pages  # of copies, which is not modelled
        if run and not swaps and self.system.kernel.rules.madvise_advice >> advice & 1:
            process.task.madvise(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, advice)

    def resize_map(self, process: FileUser) -> None:
        """The first pages of what is mapped at one place become fewer, or more elsewhere."""
        run, nr = self.stretch(process), self.choose.randrange(1, 8)
        to = self.place() + ROOM + 10
        if not run:
            return
        old, new, flags = run[0] * PAGE_SIZE, to * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED
        process.task.mremap(old, len(run) * PAGE_SIZE, nr * PAGE_SIZE, flags, new)
        moved = [process.pages.pop(page) for page in run][:nr]
        while len(moved) < nr:
            moved.append(moved[-1].fresh(1))
        for i, shown in enumerate(moved):
            process.pages[to + i] = shown

    def truncate(self, process: FileUser) -> None:
        """Shorter or longer; copies behind the cut are lost."""
        of, opened = self.choose.choice(self.opened)
        size = self.choose.randrange(PAGES * PAGE_SIZE)
        if opened not in self.writable:
            refused("EINVAL", lambda: process.task.ftruncate(opened, size))
            return
        process.task.ftruncate(opened, size)
        self.cut(of, size)

    def cut(self, of: Bytes, size: int) -> None:
        """What that does to all who show it."""
        self.resize(of, size)
        for shown in self.shown():
            if shown.of is of and not of.covers(shown.index):
                shown.copy = None

    def shown(self) -> Iterator[Shown]:
        """All that anybody shows."""
        return (shown for process in self.processes for shown in process.pages.values())

    def resize(self, of: Bytes, size: int) -> None:
        """As this kernel does it."""
        of.resize(size, zeroes_tail=self.zeroes_tail and isinstance(of, FileBytes) and of.space.on_disk)

    def pwrite(self, process: FileUser) -> None:
        """Perhaps behind the end."""
        of, opened = self.choose.choice(self.opened)
        offset, data = self.choose.randrange(PAGES * PAGE_SIZE), bytes([self.choose.randrange(256)]) * 5000
        if opened not in self.writable:
            refused("EBADF", lambda: process.task.pwrite(opened, data, offset))
            return
        process.task.pwrite(opened, data, offset)
        if offset + len(data) > of.size:
            self.resize(of, offset + len(data))
        for i, byte in enumerate(data):
            of.page((offset + i) // PAGE_SIZE)[(offset + i) % PAGE_SIZE] = byte

    def pread(self, process: FileUser) -> None:
        """What is there."""
        of, opened = self.choose.choice(self.opened)
        offset = self.choose.randrange(PAGES * PAGE_SIZE)
        there = b"".join(of.page(index) for index in range(-(-of.size // PAGE_SIZE)))[: of.size]
        if process.task.pread(opened, 6000, offset) != there[offset : offset + 6000]:
            raise AssertionError(f"pread at {offset} by descriptor {opened} returns other bytes than its file has")

    def sync(self, process: FileUser) -> None:
        """msync, or fsync."""
        run = self.stretch(process)
        if self.choose.random() < 0.5:
            process.task.fsync(self.choose.choice(self.opened)[1])
        elif run:
            process.task.msync(run[0] * PAGE_SIZE, len(run) * PAGE_SIZE, self.choose.choice((MS_SYNC, MS_ASYNC)))

    def exit(self, process: FileUser) -> None:
        """But for the last one."""
        if len(self.processes) > 1:
            process.task.exit()
            self.processes.remove(process)
