"""Whichever allocation fails, in whichever call: that call has not happened, and everything else goes on.

One life of two processes, and a model that knows what they must see:

    1  A [aaaaaaaaaa..]  B [r-, zero pages]       mmap, write, read
    2  fork                                       child, from here on
    3  both write                                 copies
    4  mprotect in the middle of A                two splits
    5  mremap of A's tail: longer, elsewhere      in the child too; anonmm copies what is shared
    6  mremap out of A's middle                   a split when the source goes
    7  munmap in the middle                       in both
    8  brk up, write, down                        a heap
    9  B becomes writable and is written

It is lived again and again, each time on a fresh box, with the n-th allocation refused: n = 0, 1, 2, ... until none is.

Sources: eras.md 3.3 (fork), 6.1 (mremap); a page fault that gets no memory kills its task (2.6.2 arch/i386/mm/fault.c).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

import rmaplab
from rmaplab.errors import SyscallError
from rmaplab.lab.conformance import OF_2004
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

KERNELS = [*OF_2004, "2.6.5-rc1+anon_vma"]
ANON = MAP_PRIVATE | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
A, C = 0x5040_0000 - 4 * PAGE_SIZE, 0x7000_0000  # A lies over a border of page tables
B = A + 12 * PAGE_SIZE
ZEROS = bytes(PAGE_SIZE)


@dataclass
class Process:
    """A task and what it must see: the pages that can be read, with their contents."""

    task: rmaplab.Task
    pages: dict[int, bytes] = field(default_factory=dict)
    alive: bool = True

    def map(self, start: int, nr_pages: int) -> None:
        self.pages.update((start + i * PAGE_SIZE, ZEROS) for i in range(nr_pages))

    def unmap(self, start: int, nr_pages: int) -> None:
        for i in range(nr_pages):
            self.pages.pop(start + i * PAGE_SIZE, None)

    def move(self, start: int, nr_pages: int, to: int) -> None:
        self.pages.update({to + i * PAGE_SIZE: self.pages.pop(start + i * PAGE_SIZE) for i in range(nr_pages)})


class Life:
    """The scenario on one box. A call that fails leaves the model as it was; its later steps meet what there is."""

    def __init__(self, system: rmaplab.System) -> None:
        self.system = system
        self.allocator = system.machine.allocator
        self.processes: list[Process] = []
        self.failed = ""

    def call(self, who: Process | None, call: Callable[[], object], then: Callable[[], object]) -> None:
        """One call; if it worked the model follows, if not it must have failed for lack of memory, and say so."""
        if who is not None and not who.alive:
            return
        armed = self.allocator.fail_after is not None
        try:
            call()
        except (rmaplab.SyscallError, rmaplab.OomKilled) as error:
            self.refused(who, error, armed=armed)
        else:
            then()
            if armed and self.allocator.fail_after is None:
                self.failed = self.failed or "nobody noticed"

    def refused(self, who: Process | None, error: Exception, *, armed: bool) -> None:
        """It was the injector's doing, and the caller was told: ENOMEM, or a kill."""
        assert armed
        assert self.allocator.fail_after is None, repr(error)
        self.failed = repr(error)
        if isinstance(error, rmaplab.SyscallError):
            assert error.name == "ENOMEM"
        else:
            assert who is not None
            who.alive = False
            assert who.task.mm is None
        self.verify()

    def verify(self) -> None:
        self.system.check()
        for process in self.processes:
            if process.alive:
                self.compare(process)

    def compare(self, process: Process) -> None:
        """All that is mapped and all that is not, read off the page tables."""
        mm, machine = process.task.mm, self.system.machine
        assert mm is not None
        present, _ = read_page_tables(machine, mm.pgd)
        pairs = zip(present.addresses.tolist(), present.pfns.tolist(), strict=True)
        found = {a: machine.ram.bytes[pfn].tobytes() for a, pfn in pairs}
        inside = {a for vma in mm.vmas for a in range(vma.start, vma.end, PAGE_SIZE)}
        assert inside == process.pages.keys(), self.failed
        assert {a: found.get(a, ZEROS) for a in inside} == process.pages, self.failed

    # -- calls -------------------------------------------------------------------------------------------------------

    def write(self, who: Process, address: int, text: bytes) -> None:
        page = address & -PAGE_SIZE
        if page not in who.pages:
            return
        content = bytearray(who.pages[page])
        content[address - page : address - page + len(text)] = text
        self.call(who, lambda: who.task.write(address, text), lambda: who.pages.update({page: bytes(content)}))

    def mmap(self, who: Process, start: int, nr_pages: int, prot: int) -> None:
        self.call(
            who,
            lambda: who.task.mmap(nr_pages * PAGE_SIZE, prot, ANON | MAP_FIXED, start),
            lambda: who.map(start, nr_pages),
        )

    def munmap(self, who: Process, start: int, nr_pages: int) -> None:
        self.call(who, lambda: who.task.munmap(start, nr_pages * PAGE_SIZE), lambda: who.unmap(start, nr_pages))

    def mprotect(self, who: Process, start: int, nr_pages: int, prot: int) -> None:
        if start in who.pages:
            self.call(who, lambda: who.task.mprotect(start, nr_pages * PAGE_SIZE, prot), lambda: None)

    def mremap(self, who: Process, start: int, nr_pages: int, new: int, to: int) -> None:
        if start not in who.pages:
            return

        def call() -> None:
            flags = MREMAP_MAYMOVE | MREMAP_FIXED
            assert who.task.mremap(start, nr_pages * PAGE_SIZE, new * PAGE_SIZE, flags, to) == to

        def then() -> None:
            who.move(start, nr_pages, to)
            who.map(to + nr_pages * PAGE_SIZE, new - nr_pages)
            #   the unmapping of the source is tried and no more: what could not be split stays, empty
            assert who.task.mm is not None
            vma = who.task.mm.find_vma(start)
            if vma is not None and vma.start <= start:
                assert self.allocator.fail_after is None
                who.map(start, nr_pages)
                self.failed = "mremap left its source mapped"

        self.call(who, call, then)

    def brk(self, who: Process, up: int) -> None:
        end = who.task.mm.brk if who.task.mm is not None else 0
        heap = end & -PAGE_SIZE

        def move() -> None:
            """Where a heap cannot get smaller, brk says where it still ends, as Linux does, and fails not."""
            if who.task.brk(heap + up * PAGE_SIZE) != heap + up * PAGE_SIZE:
                raise SyscallError(errno.ENOMEM, "brk")

        self.call(
            who,
            move,
            lambda: who.map(heap, up) if up > 0 else who.unmap(heap + up * PAGE_SIZE, -up),
        )

    def fork(self, who: Process) -> None:
        born: list[rmaplab.Task] = []
        self.call(
            who,
            lambda: born.append(who.task.fork()),
            lambda: self.processes.append(Process(born[0], dict(who.pages))),
        )

    # -- the scenario ------------------------------------------------------------------------------------------------

    def live(self) -> None:
        born: list[rmaplab.Task] = []
        self.call(None, lambda: born.append(self.system.spawn()), lambda: self.processes.append(Process(born[0])))
        if not self.processes:
            return
        parent = self.processes[0]
        self.mmap(parent, A, 12, RW)
        self.mmap(parent, B, 4, PROT_READ)
        for i in range(10):
            self.write(parent, A + i * PAGE_SIZE, b"page %d" % i)
        if B in parent.pages:
            self.call(parent, lambda: parent.task.touch(B, 4 * PAGE_SIZE), lambda: None)
        self.fork(parent)
        for number, process in enumerate(self.processes):
            self.write(process, A + number * PAGE_SIZE, b"own %d" % number)
        for number, process in enumerate(self.processes):
            self.mprotect(process, A + (4 + number) * PAGE_SIZE, 2, PROT_READ)
            self.mremap(process, A + 8 * PAGE_SIZE, 4, 6, C + number * 0x80_0000)
            self.mremap(process, A + 2 * PAGE_SIZE, 1, 1, C - 0x100_0000)
            self.munmap(process, A + 5 * PAGE_SIZE, 1)
            self.brk(process, 3)
            heap = process.task.mm.start_brk & -PAGE_SIZE if process.task.mm is not None else 0
            self.write(process, heap, b"heap")
            if heap in process.pages:
                self.brk(process, -1)
        self.mprotect(parent, B, 4, RW)
        if B in parent.pages and parent.alive:
            mm = parent.task.mm
            vma = mm.find_vma(B) if mm is not None else None
            if vma is not None and vma.flags & PROT_WRITE:
                self.write(parent, B + PAGE_SIZE, b"late")
        self.fork(parent)
        self.verify()

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.alive:
                process.task.exit()
        kernel, machine = self.system.kernel, self.system.machine
        kernel.lru_add.drain_all()
        self.system.check()
        assert not kernel.tasks
        assert not kernel.mms
        assert machine.nr_tables == 0
        assert kernel.design.tracked().size == 0
        assert kernel.committed_pages + kernel.committed_drift == 0
        for cache in machine.caches.values():
            assert cache.nr_objects == 0, (cache.name, self.failed)
            cache.shrink()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("paging", ["i386", "i386-pae"])
def test_every_allocation_fails_once(kernel: str, paging: str) -> None:
    """ENOMEM or a killed task, nothing else changed; afterwards the two live on, and when they have gone nothing is left."""
    free_at_boot = rmaplab.boot(kernel, ram="64M", paging=paging).machine.allocator.nr_unused
    failures = []
    for granted in range(500):
        life = Life(rmaplab.boot(kernel, ram="64M", paging=paging))
        life.allocator.fail_after = granted
        life.live()
        fired = life.allocator.fail_after is None
        life.allocator.fail_after = None
        life.end()
        assert life.allocator.nr_unused == free_at_boot, life.failed
        if not fired:
            break
        failures.append(life.failed)
    else:
        pytest.fail("it never runs through")
    #   every kind of call has failed; a refusal nobody noticed can only be the end of a mremap, as above
    for call in ("fork", "mmap", "munmap", "mprotect", "mremap", "brk", "OomKilled"):
        assert any(call in failure for failure in failures), call
    assert failures.count("nobody noticed") <= 12
    assert len(failures) > 60


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_first_task_fails_at_every_allocation(kernel: str) -> None:
    """A spawn that cannot be made leaves nothing: task, stack, sighand, mm, pgd and what the design hangs on an mm."""
    free_at_boot = rmaplab.boot(kernel, ram="64M").machine.allocator.nr_unused
    for granted in range(50):
        system = rmaplab.boot(kernel, ram="64M")
        system.machine.allocator.fail_after = granted
        with suppress(rmaplab.SyscallError):
            system.spawn()
            break
        system.check()
        assert not system.kernel.mms
        for cache in system.machine.caches.values():
            assert cache.nr_objects == 0, cache.name
            cache.shrink()
        assert system.machine.allocator.nr_unused == free_at_boot
    assert granted >= 5
