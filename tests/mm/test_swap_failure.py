"""Whichever read or write of swap fails, and whichever allocation on the way back from it: only those see it who are told of, and all else is as before.

    P   [a a a a a a a a a a]    written, then forked; 30 frames for both
    C   [c a c a c a c a c a]    then both look at all they have, again and again: reads, copies, a hole, an exit

It is lived again and again, each time on a fresh box, with the n-th access to the area refused: n = 0, 1, 2, ... until none is. Up to 2.6.7 no call
and no task ever hears of it (reclaim.md F.7): what is lost is what Swap.lost says, and whoever has seen it is named there.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest

import rmaplab
from rmaplab.cache.area_store import AreaStore
from rmaplab.errors import BusError, DiskError, NoSpace, OomKilled, SyscallError
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.arrays import U8
from rmaplab.machine.pagetable import lookup
from rmaplab.reclaim.page_out import page_out
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.7")
PAGES = 10
FRAMES = {"2.4.21": 24}  # its tasks take less, 30 is what the others need


class Faulty(AreaStore):
    """Stands before a store. Its `nth` read or write fails, or from there on all do (`ever`)."""

    def __init__(self, store: AreaStore, nth: int, *, reading: bool, ever: bool = False) -> None:
        self.store, self.left, self.reading, self.ever = store, nth, reading, ever
        self.failed = 0

    def _pass(self, *, reading: bool) -> None:
        if reading is not self.reading:
            return
        self.left -= 1
        if self.left == -1 or (self.left < 0 and self.ever):
            self.failed += 1
            raise DiskError("EIO") if reading else NoSpace("ENOSPC")

    def read(self, slot: int) -> U8:
        self._pass(reading=True)
        return self.store.read(slot)

    def write(self, slot: int, page: U8) -> None:
        self._pass(reading=False)
        self.store.write(slot, page)


@dataclass
class Process:
    """`pages`: what each must have. `told`: addresses whose loss its ancestors have seen."""

    task: rmaplab.Task
    pages: dict[int, bytes] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)


class Life:
    def __init__(self, kernel: str) -> None:
        self.system = rmaplab.boot(
            kernel,
            ram=FRAMES.get(kernel, 30) * PAGE_SIZE,
            swap="512K",
            boot_use=0,
            pages_min=2,
            overcommit=1,
            cpus=1,
            paging="i386",
        )
        install(self.system)
        self.swap = self.system.kernel.swap
        self.allocator = self.system.machine.allocator
        task = self.system.spawn()
        self.at = task.mmap(PAGES * PAGE_SIZE)
        self.processes = [Process(task)]
        self.killed = self.wrong = 0

    def place(self, i: int) -> int:
        return self.at + i * PAGE_SIZE

    def write(self, who: Process, i: int, text: bytes) -> None:
        if who.task.mm is not None:
            try:
                who.task.write(self.place(i), text * 1024)
                who.pages[self.place(i)] = text * 1024
            except OomKilled:
                self.killed += 1

    def read(self, who: Process, i: int) -> None:
        """What is not as it should be is told of."""
        at = self.place(i)
        if who.task.mm is not None:
            try:
                text = who.task.read(at, PAGE_SIZE)
            except OomKilled:
                self.killed += 1
                return
            if text != who.pages[at]:
                losses = [str(loss) for loss in self.swap.lost]
                assert at in self.seen(who), f"{at:#x} of {who.task.pid}, and {losses}"
                self.wrong += 1

    def seen(self, who: Process) -> set[int]:
        pid = who.task.pid
        return who.told | {at for loss in self.swap.lost for seer, at in loss.seen if seer == pid}

    def begin(self) -> None:
        parent = self.processes[0]
        for i in range(PAGES):
            self.write(parent, i, b"a%03d" % i)
        child = Process(parent.task.fork(), dict(parent.pages), self.seen(parent))
        self.processes.append(child)

    def go_on(self) -> None:
        parent, child = self.processes
        for i in range(0, PAGES, 2):
            self.write(child, i, b"c%03d" % i)
        for i in range(PAGES):
            self.read(parent, i)
        if child.task.mm is not None:
            with contextlib.suppress(SyscallError):  # ENOMEM: a VMA to split it
                child.task.munmap(self.place(3), PAGE_SIZE)
                child.pages.pop(self.place(3))
        for i in range(0, PAGES, 3):
            self.write(parent, i, b"b%03d" % i)
        for i in range(4, PAGES):
            self.read(child, i)

    def live(self) -> None:
        self.begin()
        self.go_on()

    def verify(self) -> int:
        """How often a page was not what it should be."""
        self.system.check()
        for who in self.processes:
            for at in who.pages:
                self.read(who, (at - self.at) // PAGE_SIZE)
        self.system.check()
        for who in self.processes:
            if who.task.mm is not None:
                who.task.exit()
        self.system.check()
        return self.wrong


@pytest.mark.parametrize("reading", [True, False], ids=["reads", "writes"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_access_to_swap_fails_in_turn(kernel: str, reading: bool) -> None:
    wrong = lost = 0
    for nth in range(200):
        life = Life(kernel)
        store = life.swap.stores[0] = Faulty(life.swap.stores[0], nth, reading=reading)
        life.live()
        store.left = -2
        wrong += life.verify()
        lost += len(life.swap.lost)
        counts = life.system.machine.ledger.counts
        assert counts["swap_read_error" if reading else "swap_write_error"] == store.failed
        assert counts["swap_lost"] == len(life.swap.lost) <= store.failed
        if not store.failed:
            break
    else:
        raise AssertionError("it does not end")
    assert nth > 10
    assert lost, "nothing was ever lost"
    assert wrong, "nobody has ever seen it"


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_file_that_is_full_loses_whatever_goes_out(kernel: str) -> None:
    """ENOSPC for all that is written from the fifth page on. Nobody hears of it; each slot is told of once."""
    life = Life(kernel)
    life.swap.stores[0] = store = Faulty(life.swap.stores[0], 4, reading=False, ever=True)
    life.live()
    store.reading = True
    store.left = 1 << 30
    assert life.verify()
    slots = [(loss.area, loss.slot) for loss in life.swap.lost]
    assert store.failed >= len(slots) > 3
    assert "was not written, and its page was freed (ENOSPC); who has seen it: pid" in str(life.swap.lost[0])


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_allocation_on_the_way_back_fails_in_turn(kernel: str) -> None:
    """A page for it, one for its neighbours, a chain: its task dies of it (VM_FAULT_OOM), or nobody minds; everybody else has all of his."""
    killed = 0
    for nth in range(200):
        life = Life(kernel)
        life.begin()
        life.allocator.fail_after = nth
        life.go_on()
        over = life.allocator.fail_after is not None
        life.allocator.fail_after = None
        assert not life.verify()
        assert not life.swap.lost
        killed += life.killed
        if over:
            break
    else:
        raise AssertionError("it does not end")
    assert nth > 10
    assert killed


class Stage:
    """One task with one page, which goes out through a store that fails when it is told to."""

    def __init__(self, kernel: str, *, reading: bool) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", swap="64K")
        self.k = self.system.kernel
        self.store = self.k.swap.stores[0] = Faulty(self.k.swap.stores[0], 1 << 30, reading=reading, ever=True)
        self.task = self.system.spawn()
        self.at = self.task.mmap(2 * PAGE_SIZE)
        self.task.write(self.at, b"mine")
        self.k.lru_add.drain_all()

    def entry(self) -> int:
        assert self.task.mm is not None
        return lookup(*self.system.machine.geometry, self.task.mm.pgd, self.at)[0]

    def out(self) -> bool:
        for _ in range(3):  # a young entry is spared the first time, in some eras
            if self.entry() & self.system.machine.mapped and page_out(self.k, self.entry() >> PAGE_SHIFT):
                return True
        self.system.check()
        return False


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_that_cannot_be_read_is_mapped_up_to_2_6_7(kernel: str) -> None:
    """With whatever its frame had. It is clean: dropped and read again it is what it was."""
    stage = Stage(kernel, reading=True)
    assert stage.out()
    stage.task.write(stage.at + PAGE_SIZE, b"on the frame it had")
    stage.store.left = 0
    assert stage.task.read(stage.at, 4) != b"mine"
    stage.system.check()
    (loss,) = stage.k.swap.lost
    assert (loss.reading, loss.area, loss.slot, loss.seen) == (True, 0, 1, [(stage.task.pid, stage.at)])
    assert (
        f"slot 1 of area 0 was not read, and its page was mapped (EIO); who has seen it: pid {stage.task.pid}"
        in str(loss)
    )
    stage.store.left = 1 << 30
    stage.k.lru_add.drain_all()
    assert stage.out()
    assert stage.task.read(stage.at, 4) == b"mine"
    stage.system.check()
    assert len(stage.k.swap.lost) == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_that_cannot_be_written_is_freed_up_to_2_6_7(kernel: str) -> None:
    """And what comes back is what the slot had before."""
    stage = Stage(kernel, reading=False)
    stage.store.left = 0
    assert stage.out()
    assert [loss.seen for loss in stage.k.swap.lost] == [[]]
    assert "nobody yet" in str(stage.k.swap.lost[0])
    assert stage.task.read(stage.at, 4) == bytes(4)
    assert [loss.seen for loss in stage.k.swap.lost] == [[(stage.task.pid, stage.at)]]
    stage.system.check()
    stage.store.left = 1 << 30
    stage.task.write(stage.at, b"new ")
    stage.k.lru_add.drain_all()
    assert stage.out()
    assert stage.task.read(stage.at, 4) == b"new "
    stage.task.exit()
    stage.system.check()


def test_today_a_failed_read_is_a_signal_and_a_failed_write_is_tried_again() -> None:
    """6.18: SIGBUS, and as long as the page is in the cache, however the disk is by then; a page that cannot be written stays in memory."""
    stage = Stage("6.18", reading=False)
    stage.store.left = 0
    assert not stage.out()
    assert not stage.entry() & stage.system.machine.mapped, "it is unmapped, and in the cache"
    assert stage.task.read(stage.at, 4) == b"mine"
    stage.store.left = 1 << 30
    assert stage.out()
    stage.store.reading, stage.store.left = True, 0
    for _ in range(2):
        with pytest.raises(BusError, match="its page in swap could not be read"):
            stage.task.read(stage.at, 4)
        stage.system.check()
        stage.store.left = 1 << 30
    assert not stage.k.swap.lost
    stage.task.exit()
    stage.system.check()
