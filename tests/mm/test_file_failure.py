"""Whichever allocation fails, in whichever call on a file: that call has not happened, or its task is dead, and all else is as before.

One life of two processes that map a file shared (S) and privately (P), and a model that knows what they must see:

    1  S, P mapped                       2  reads: page cache, fault-around      3  writes to S, and to P: copies, early and late
    4  pread, pwrite, beyond the end     5  fork; the child writes to both       6  mprotect in S's middle, mremap of P's end, of S again
    7  ftruncate; writes of the new end  8  fsync, WILLNEED, mlock               9  munmap in the middle

It is lived again and again, each time on a fresh box, with the n-th allocation refused: n = 0, 1, 2, ... until none is. Then with a disk that cannot
read from the n-th read on, as long as one call tries.

Sources: 2.6.2 mm/memory.c, do_no_page (VM_FAULT_OOM); mm/filemap.c, generic_file_aio_write_nolock: what is written is told; files.md C1.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field

import pytest

import rmaplab
from rmaplab.errors import BusError, DiskError, SyscallError
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.objects.flags import (
    MADV_WILLNEED,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from rmaplab.units import PAGE_SIZE

RW = PROT_READ | PROT_WRITE
S, P, FAR = 0x5040_0000 - 3 * PAGE_SIZE, 0x6000_0000, 0x7000_0000  # S lies over a border of page tables
PAGES = 8


@dataclass
class Process:
    """`pages`: address -> the file's page, or what its own copy says."""

    task: rmaplab.Task
    pages: dict[int, int | bytes] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)

    @property
    def alive(self) -> bool:
        return self.task.mm is not None


class Life:
    def __init__(self, kernel: str, *, on_disk: bool, readahead_kib: int = 128) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", readahead_kib=readahead_kib)
        self.allocator = self.system.machine.allocator
        self.file = [b"page %d" % i for i in range(PAGES)]
        data = b"".join(text.ljust(PAGE_SIZE, b"\0") for text in self.file)
        self.space = space = self.system.new_file(data, on_disk=on_disk)
        first = self.system.spawn()
        first.cap_ipc_lock(granted=True)
        self.open = first.open(space, writable=True)
        self.processes = [Process(first)]
        self.failed = ""

    def call(self, who: Process, call: Callable[[], object], then: Callable[[], object] = lambda: None) -> None:
        """One call; if it worked the model follows, if not it must have failed for lack of memory, and say so."""
        if not who.alive:
            return
        armed = self.allocator.fail_after is not None
        try:
            call()
        except (SyscallError, rmaplab.OomKilled) as error:
            assert armed, repr(error)
            assert self.allocator.fail_after is None, repr(error)
            assert not isinstance(error, SyscallError) or error.name in ("ENOMEM", "EAGAIN")
            assert who.alive == isinstance(error, SyscallError)
            self.failed = repr(error)
        else:
            then()
        if armed and self.allocator.fail_after is None:
            self.failed = self.failed or "nobody noticed"
            self.verify()

    def verify(self) -> None:
        """All that each must see, and nothing else is mapped."""
        self.system.check()
        for who in self.processes:
            if who.task.mm is None:
                continue
            inside = {a for vma in who.task.mm.vmas for a in range(vma.start, vma.end, PAGE_SIZE)}
            assert inside == who.pages.keys(), self.failed
            for at, what in who.pages.items():
                if isinstance(what, int) and what >= len(self.file):
                    with pytest.raises(BusError):
                        who.task.read(at)
                    continue
                text = self.file[what] if isinstance(what, int) else what
                assert who.task.read(at, len(text)) == text, self.failed
        self.system.check()

    # -- calls -------------------------------------------------------------------------------------------------------

    def map(self, who: Process, at: int, flags: int) -> None:
        def then() -> None:
            who.pages.update({at + i * PAGE_SIZE: i for i in range(PAGES)})
            who.shared.update(who.pages if flags == MAP_SHARED else ())

        self.call(who, lambda: who.task.mmap(PAGES * PAGE_SIZE, RW, flags | MAP_FIXED, at, file=self.open), then)

    def can_touch(self, who: Process, at: int) -> bool:
        """Whether a page is mapped there, and the file has it."""
        what = who.pages.get(at, PAGES * PAGES)
        return not isinstance(what, int) or what < len(self.file)

    def read(self, who: Process, at: int) -> None:
        if self.can_touch(who, at):
            self.call(who, lambda: who.task.read(at))

    def write(self, who: Process, at: int, text: bytes) -> None:
        if not self.can_touch(who, at):
            return

        def then() -> None:
            what = who.pages[at]
            old = self.file[what] if isinstance(what, int) else what
            new = text + old[len(text) :]
            if at in who.shared and isinstance(what, int):
                self.file[what] = new
            else:
                who.pages[at] = new

        self.call(who, lambda: who.task.write(at, text), then)

    def pwrite(self, who: Process, first: int, texts: list[bytes]) -> None:
        """Whole pages. Short where memory is."""
        done = [0]

        def call() -> None:
            data = b"".join(text.ljust(PAGE_SIZE, b"\0") for text in texts)
            done[0] = who.task.pwrite(self.open, data, first * PAGE_SIZE)

        def then() -> None:
            nr = done[0] // PAGE_SIZE
            self.file += [b""] * (first + nr - len(self.file))
            self.file[first : first + nr] = texts[:nr]

        self.call(who, call, then)

    def fork(self, who: Process) -> None:
        born: list[rmaplab.Task] = []
        self.call(
            who,
            lambda: born.append(who.task.fork()),
            lambda: self.processes.append(Process(born[0], dict(who.pages), set(who.shared))),
        )

    def mremap(self, who: Process, at: int, old: int, new: int, to: int) -> None:
        """`old` 0: what is shared, once more."""
        if at not in who.pages:
            return
        flags = MREMAP_MAYMOVE | MREMAP_FIXED

        def then() -> None:
            pages, shared = [at + i * PAGE_SIZE for i in range(new)], set(who.shared)
            for i, page in enumerate(pages):
                who.pages[to + i * PAGE_SIZE] = who.pages.pop(page) if old else who.pages[page]
                who.shared |= {to + i * PAGE_SIZE} if page in shared else set()
            #   the unmapping of the source is tried and no more: what could not be split stays, and shows the file again
            assert who.task.mm is not None
            if old and who.task.mm.overlapping(at, at + new * PAGE_SIZE):
                assert self.allocator.fail_after is None
                who.pages.update({page: (page - P) // PAGE_SIZE for page in pages})

        self.call(who, lambda: who.task.mremap(at, old * PAGE_SIZE, new * PAGE_SIZE, flags, to), then)

    def truncate(self, who: Process, nr: int) -> None:
        def then() -> None:
            del self.file[nr:]
            for each in self.processes:
                each.pages = {at: self.whole(at, what, nr) for at, what in each.pages.items()}

        self.call(who, lambda: who.task.ftruncate(self.open, nr * PAGE_SIZE), then)

    @staticmethod
    def whole(at: int, what: int | bytes, nr: int) -> int | bytes:
        """Copies behind the cut are lost: it is the file's page again, which is not there."""
        if isinstance(what, int):
            return what
        index = (at - P) // PAGE_SIZE if at < FAR else (at - FAR) // PAGE_SIZE + 4
        return index if index >= nr else what

    def live(self) -> None:
        parent = self.processes[0]
        self.map(parent, S, MAP_SHARED)
        self.map(parent, P, MAP_PRIVATE)
        self.read(parent, S)
        self.write(parent, S + PAGE_SIZE, b"S")
        self.write(parent, P + 2 * PAGE_SIZE, b"early")
        self.read(parent, P + 3 * PAGE_SIZE)
        self.write(parent, P + 3 * PAGE_SIZE, b"late")
        self.write(parent, P + 7 * PAGE_SIZE, b"lost")
        self.call(parent, lambda: parent.task.pread(self.open, 3 * PAGE_SIZE, 4 * PAGE_SIZE))
        self.pwrite(parent, 7, [b"seven", b"eight", b"nine"])
        self.fork(parent)
        for who in self.processes[1:]:
            self.write(who, P + 4 * PAGE_SIZE, b"child")
            self.write(who, S + 5 * PAGE_SIZE, b"child too")
            self.write(who, P + 2 * PAGE_SIZE, b"again")
        if S in parent.pages:
            self.call(parent, lambda: parent.task.mprotect(S + 2 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ))
        for who in self.processes:
            self.mremap(who, P + 4 * PAGE_SIZE, 4, 4, FAR)
        self.mremap(parent, S + 5 * PAGE_SIZE, 0, 2, FAR + (1 << 24))
        self.truncate(parent, 6)
        self.pwrite(parent, 6, [b"six"])
        for who in self.processes:
            self.read(who, S + 6 * PAGE_SIZE)
            self.call(who, lambda who=who: who.task.fsync(self.open))  # type: ignore[misc]
            if P in who.pages:
                self.call(who, lambda who=who: who.task.madvise(P, PAGE_SIZE, MADV_WILLNEED))  # type: ignore[misc]
        if S in parent.pages:
            self.call(parent, lambda: parent.task.mlock(S, 2 * PAGE_SIZE))
            gone = [S + i * PAGE_SIZE for i in (3, 4)]
            self.call(
                parent,
                lambda: parent.task.munmap(gone[0], 2 * PAGE_SIZE),
                lambda: [parent.pages.pop(at) for at in gone],
            )


@pytest.mark.parametrize(
    ("kernel", "on_disk"),
    [
        *((kernel, True) for kernel in EVERY_KIND),
        ("2.4.21", False),
        ("2.6.2", False),
        ("2.6.7", False),
        ("6.18", False),
    ],
)
def test_every_allocation_fails_in_turn(kernel: str, on_disk: bool) -> None:
    failures: set[str] = set()
    for nth in range(400):
        life = Life(kernel, on_disk=on_disk)
        life.allocator.fail_after = nth
        life.live()
        over = life.allocator.fail_after is not None
        life.allocator.fail_after = None
        life.verify()
        failures.add(life.failed[:40])
        for process in life.processes:
            if process.alive:
                process.task.exit()
        life.system.check()
        if over:
            break
    else:
        raise AssertionError("it does not end")
    assert nth > 25
    assert any("mmap" in failure for failure in failures), failures


class Unreadable(dict[int, bytes]):
    """A store that cannot read from the `nth` time on, until somebody repairs it."""

    def __init__(self, store: MutableMapping[int, bytes], nth: int) -> None:
        super().__init__(store)
        self.left, self.broken = nth, False

    def __getitem__(self, index: int) -> bytes:
        self.left -= 1
        self.broken |= self.left == -1
        if self.broken:
            raise DiskError(f"page {index} cannot be read")
        return super().__getitem__(index)


class LifeOnDisk(Life):
    def __init__(self, kernel: str, nth: int, readahead_kib: int) -> None:
        super().__init__(kernel, on_disk=True, readahead_kib=readahead_kib)
        self.store = self.space.store = Unreadable(self.space.store, nth)

    def live(self) -> None:
        """Before anybody maps it, it is read: what a fault brings along no call has to read any more."""
        parent = self.processes[0]
        self.call(parent, lambda: parent.task.pread(self.open, 2 * PAGE_SIZE, 0))
        super().live()

    def call(self, who: Process, call: Callable[[], object], then: Callable[[], object] = lambda: None) -> None:
        """One call: EIO, a signal, or less than was asked for; or nobody minds, as mlock and WILLNEED. The task lives, and may try again."""
        was_whole = not self.store.broken
        try:
            call()
        except (SyscallError, BusError) as error:
            assert was_whole, repr(error)
            assert self.store.broken, repr(error)
            assert isinstance(error, BusError) or error.name == "EIO"
            self.failed = repr(error)
        else:
            then()
        if self.store.broken:
            self.failed = self.failed or "nobody noticed"
            self.store.broken = False
            self.verify()


@pytest.mark.parametrize("readahead_kib", [0, 128])
@pytest.mark.parametrize("kernel", EVERY_KIND)
def test_every_read_of_the_disk_fails_in_turn(kernel: str, readahead_kib: int) -> None:
    failures: set[str] = set()
    for nth in range(100):
        life = LifeOnDisk(kernel, nth, readahead_kib)
        life.live()
        over = life.store.left >= 0
        life.verify()
        failures.add(life.failed[:8])
        for process in life.processes:
            process.task.exit()
        life.system.check()
        if over:
            break
    else:
        raise AssertionError("it does not end")
    assert nth >= PAGES
    seen = (
        {"SyscallE"} if readahead_kib else {"SyscallE", "BusError"}
    )  # where the first read brings the whole file no fault has to
    assert seen <= failures, failures
