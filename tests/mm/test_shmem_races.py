"""A page of shared memory comes back from swap while somebody else acts, in orders of their points with two changes of turn.

    back        a fault; read(2); write(2) of a part, or of all of it
    beside it   a second fault of the page; ftruncate, before it; swapoff; reclaim, which takes it again

All is recounted, and the page's bytes are where they belong, or it is beyond the end.

Source: 2.6.2 mm/shmem.c, shmem_getpage: `repeat`.
"""

from collections.abc import Callable

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import BusError, KernelBug
from rmaplab.lab.conformance.interleave import Together
from rmaplab.machine.frames import PG_REFERENCED
from rmaplab.machine.locks import MIGHT_SLEEP, Point
from rmaplab.mm import shmem_swap
from rmaplab.mm.kernel import Kernel
from rmaplab.objects.flags import MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE
from rmaplab.objects.mm_types import AddressSpace
from rmaplab.reclaim.shrink import Scan, Shrinker
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE

P, AT = PAGE_SIZE, 0x5000_0000
KERNELS = ("2.6.2", "2.6.7")
TURNS = [(first, then) for first in range(5) for then in (0, 2)]
"""How far one goes on, then the other."""


class Pair:
    """Two tasks that have a file of four pages open and map it. Pages 0 and 1 are in swap, 1 in the swap cache too if it is `cached`."""

    def __init__(self, kernel: str, *, cached: bool) -> None:
        self.system = rmaplab.boot(
            kernel, ram="4M", swap="256K", boot_use=0, overcommit=1, paging="i386", cpus=1, disk_seek_us=0, disk_rpm=0
        )
        self.k = self.system.kernel
        self.file = self.system.new_file(b"".join(b"%d" % i * P for i in range(4)), on_disk=False)
        self.tasks = [self.system.spawn(root=True) for _ in range(2)]
        self.fds = [task.open(self.file, writable=True) for task in self.tasks]
        for task, fd in zip(self.tasks, self.fds, strict=True):
            task.mmap(4 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, AT, file=fd)
            task.read(AT + 3 * P)
        self.tasks[0].pread(self.fds[0], 2 * P, 0)
        self.shrinker = Shrinker(self.k, self.system.spec.reclaim_rules(4))
        for _ in range(1 if cached else 3):
            self.scan(0, 1)
        self.seen = b""

    def scan(self, *indexes: int) -> None:
        """Reclaim looks at these pages, which nobody has used."""
        self.k.lru_add.drain_all()
        pages = [self.file.pages.get(i, self.k.swap.cached.get(self.file.slots.get(i, 0), -1)) for i in indexes]
        mine = np.array([pfn for pfn in pages if pfn >= 0], np.int64)
        lists, flags = self.k.machine.allocator.lru, self.k.machine.frames.flags
        lists.remove(mine)
        lists.add(mine, active=False)
        if not self.k.machine.watched:
            referenced(self.k.rmap, mine)
        flags[mine] &= ~np.uint32(PG_REFERENCED)
        self.shrinker.shrink_cache(0, mine.size, 32, Scan())
        self.k.machine.disk.settle()

    # what one does, and the other

    def fault(self, which: int = 0) -> None:
        try:
            self.seen = self.tasks[which].read(AT + P, P)
        except BusError:
            self.seen = b"SIGBUS"

    def again(self) -> None:
        self.fault(1)

    def read(self) -> None:
        self.seen = self.tasks[0].pread(self.fds[0], P, P)

    def write(self) -> None:
        self.tasks[0].pwrite(self.fds[0], b"w" * 9, P + 9)

    def write_all(self) -> None:
        self.tasks[0].pwrite(self.fds[0], b"W" * P, P)

    def cut(self) -> None:
        self.tasks[1].ftruncate(self.fds[1], P)

    def swapoff(self) -> None:
        self.system.swapoff(0)

    def reclaim(self) -> None:
        self.scan(0, 1)


PAIRS = [
    (way, other) for way in ("fault", "read", "write", "write_all") for other in ("again", "cut", "swapoff", "reclaim")
]
PAIRS = [pair for pair in PAIRS if not (pair[0].startswith("write") and pair[1] == "cut")]  # i_sem keeps those apart


@pytest.mark.parametrize(("way", "other"), PAIRS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_lost(kernel: str, way: str, other: str) -> None:
    for cached in (False, True):
        for turns in TURNS:
            pair = Pair(kernel, cached=cached)
            calls: list[Callable[[], None]] = [getattr(pair, way), getattr(pair, other)]
            Together(pair.system, calls, turns).run()
            pair.system.check()
            now = pair.tasks[0].pread(pair.fds[0], P, P)
            written = {"write": b"1" * 9 + b"w" * 9 + b"1" * (P - 18), "write_all": b"W" * P}.get(way, b"1" * P)
            assert now == (b"" if other == "cut" else written), f"{turns}: {now[:30]!r}"
            assert pair.seen in (b"", b"SIGBUS" if other == "cut" else b"", b"1" * P, written)
            assert pair.tasks[0].pread(pair.fds[0], P, 0) == b"0" * P
            pair.system.check()


def test_what_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not look again, under the page's lock, finds a page that somebody else has brought back."""

    def blind(k: Kernel, file: AddressSpace, index: int, _slot: int, pfn: int) -> bool:
        locked = np.array([[pfn]], np.int64)
        k.machine.locks.enter_bits("PG_locked", locked, 1)
        try:
            shmem_swap.move_from_swap_cache(k, file, index, pfn)
        finally:
            k.machine.locks.leave_bits("PG_locked", locked, 1)
        return True

    monkeypatch.setattr(shmem_swap, "_move_back", blind)

    def all_orders() -> None:
        for turns in TURNS:
            pair = Pair("2.6.7", cached=True)
            Together(pair.system, [pair.fault, pair.again], turns).run()
            pair.system.check()

    with pytest.raises((KernelBug, KeyError)):
        all_orders()


@pytest.mark.parametrize("way", ["fault", "write", "write_all"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_that_somebody_has_made_meanwhile_and_that_has_gone_to_swap(kernel: str, way: str) -> None:
    """While memory for a hole is asked for, another one writes there, and reclaim takes that page: shmem_getpage looks at the vector again."""
    pair = Pair(kernel, cached=True)
    pair.tasks[1].ftruncate(pair.fds[1], 8 * P)
    task, fd, acted = pair.tasks[0], pair.fds[0], list[bool]()
    task.mmap(8 * P, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, AT, file=fd)
    task.read(AT)  # its page tables are there

    def act(point: Point) -> None:
        if point.name == MIGHT_SLEEP and not acted:
            acted.append(True)
            pair.tasks[1].pwrite(pair.fds[1], b"another's", 6 * P)
            pair.scan(6)
            assert 6 in pair.file.slots

    pair.system.watch(act)
    if way == "fault":
        task.write(AT + 6 * P + 20, b"mine")
    else:
        task.pwrite(fd, b"mine" if way == "write" else b"mine" * (P // 4), 6 * P + (20 if way == "write" else 0))
    pair.system.watch(None)
    assert acted
    pair.system.check()
    found = pair.tasks[1].pread(pair.fds[1], P, 6 * P)
    assert found == (
        b"mine" * (P // 4) if way == "write_all" else b"another's".ljust(20, b"\0") + b"mine" + bytes(P - 24)
    )
