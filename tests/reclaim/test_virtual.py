"""Reclaim of 2.4 as a whole: how much it looks at and when it gives up, a page on its way out and back, and that nothing is lost.

swap_out takes its entries --> shrink_cache writes it, locked --> whoever wants it sleeps --> written, clean, alone: free
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import rmaplab
from rmaplab.errors import Hung, NoMemory, OomKilled, UsageError
from rmaplab.kernels.catalogue import KERNELS, find_kernel
from rmaplab.kernels.history import Figure, Status
from rmaplab.kernels.spec import KernelSpec
from rmaplab.kernels.system import System
from rmaplab.lab.conformance.pressure_run import PressureRun, install
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import PG_DIRTY, PG_LAUNDER, PG_LOCKED, PG_LRU, PG_REFERENCED, PG_SWAPCACHE
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.mm.swap_in import swapin_readahead
from rmaplab.reclaim import virtual
from rmaplab.reclaim.oom_kill import OomKiller
from rmaplab.reclaim.virtual import Attempt, VirtualReclaim
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

SECOND = 10**9
STATE = PG_LRU | PG_SWAPCACHE | PG_DIRTY | PG_LOCKED | PG_LAUNDER
NR = 40


def with_killer() -> KernelSpec:
    """2.4.21 with CONFIG_OOM_KILLER."""
    spec = find_kernel("2.4.21")
    never = Figure(0, "CONFIG_OOM_KILLER", Status.BELIEVED)
    return replace(spec, figures={**spec.figures, "small_allocations_fail": never})


def small(frames: int = 128, slots: int = 512, kernel: str | KernelSpec = "2.4.21") -> System:
    """A box of so many frames, with swap."""
    return rmaplab.boot(
        kernel, ram=frames * PAGE_SIZE, swap=slots * PAGE_SIZE, boot_use=0, pages_min=4, overcommit=1, paging="i386"
    )


def reclaim_of(system: System) -> VirtualReclaim:
    reclaim = install(system)
    assert isinstance(reclaim, VirtualReclaim)
    return reclaim


class Stage:
    """A task with NR pages, inactive, referenced and young as it has just written them."""

    def __init__(self, slots: int = 512) -> None:
        self.system = small(slots=slots)
        self.k, self.reclaim = self.system.kernel, reclaim_of(self.system)
        self.frames = self.k.machine.frames
        self.task = self.system.spawn()
        self.start = self.task.mmap(NR * PAGE_SIZE)
        for page in range(NR):
            self.task.write(self.start + page * PAGE_SIZE, b"page %d" % page)
        assert self.task.mm is not None
        at = [self.start + page * PAGE_SIZE for page in range(NR)]
        self.pfns = [int(lookup(*self.k.machine.geometry, self.task.mm.pgd, a)[0]) >> PAGE_SHIFT for a in at]
        self.frames.flags[self.pfns] &= ~np.uint32(PG_REFERENCED)

    def shrink_cache(self, wanted: int = 32, classzone: int = 0) -> Attempt:
        attempt = Attempt(classzone, wanted)
        self.reclaim.shrink_cache(attempt)
        self.system.check()
        return attempt

    def state(self, page: int) -> tuple[int, int, int]:
        """(Flags, count, uses of its slot)."""
        pfn = self.pfns[page]
        slot = int(self.frames.private[pfn])
        return int(self.frames.flags[pfn]) & STATE, int(self.frames.count[pfn]), int(self.k.swap.users[slot])

    def sent_off(self) -> None:
        """All are out of the address space; the first six have been looked at, and are under way."""
        for _ in range(2):
            self.reclaim.swap_out(0)
        assert self.task.mm is not None
        assert not self.task.mm.rss
        self.shrink_cache()


def test_a_page_goes_in_three_steps_and_comes_back_with_its_bytes() -> None:
    """In the cache and dirty; under way and locked, clean; written. Pages at the tail go first: a sixth of 40 in a pass."""
    stage = Stage()
    for _ in range(2):
        stage.reclaim.swap_out(0)
    assert [stage.state(page) for page in (0, NR - 1)] == [(PG_LRU | PG_SWAPCACHE | PG_DIRTY, 1, 2)] * 2
    assert stage.shrink_cache().wanted == 32
    under_way = PG_LRU | PG_SWAPCACHE | PG_LOCKED | PG_LAUNDER
    assert [stage.state(page)[0] == under_way for page in range(8)] == [True] * 6 + [False] * 2
    assert stage.k.machine.ledger.counts["pswpout"] == 6
    stage.k.machine.disk.settle()
    assert stage.state(0) == (PG_LRU | PG_SWAPCACHE, 1, 2)
    pages = stage.k.machine.allocator.lru.pages(0, active=False).tolist()
    assert pages == stage.pfns[6:] + stage.pfns[:6], "where they were put when they were looked at"
    attempt = Attempt(0)
    while attempt.wanted:
        stage.reclaim.shrink_cache(attempt)
    assert stage.k.machine.ledger.counts["pgsteal"] == 32
    for page in range(NR):
        assert stage.task.read(stage.start + page * PAGE_SIZE, 7).rstrip(b"\0") == b"page %d" % page
        stage.system.check()


def test_who_wants_a_page_that_is_under_way_sleeps_until_it_is_written() -> None:
    """PG_locked: no byte is read from the disk, and it takes as long as the write. (2.6 maps it at once: test_shrink.py.)"""
    stage = Stage()
    stage.sent_off()
    before, read = stage.k.machine.sched.now_ns, stage.k.machine.ledger.counts["pswpin"]
    assert stage.task.read(stage.start, 6) == b"page 0"
    assert stage.k.machine.sched.now_ns - before > 5_000_000, "a seek, at least"
    assert stage.k.machine.ledger.counts["pswpin"] == read
    assert not stage.frames.flags[stage.pfns[0]] & (PG_LOCKED | PG_LAUNDER)
    assert stage.state(0)[1] == 2
    stage.system.check()


def test_shrink_cache_waits_for_what_it_has_sent_off() -> None:
    """The list has come round: the page at its tail is under way. It is not freed by who has waited, but by the next who comes by."""
    stage = Stage()
    stage.sent_off()
    for _ in range(5):
        stage.shrink_cache()
    assert stage.k.machine.ledger.counts["wait_on_page"] == 0
    assert stage.k.machine.ledger.counts["pswpout"] == 36
    before = stage.k.machine.sched.now_ns
    freed = [32 - stage.shrink_cache().wanted for _ in range(7)]
    assert stage.k.machine.sched.now_ns > before
    assert stage.k.machine.ledger.counts["wait_on_page"] >= 1
    assert sum(freed)


def test_a_page_that_nobody_wants_any_more_is_not_written_and_nobody_counts_it() -> None:
    """Its entry is zapped: dirty, and its slot the cache's alone. swap_writepage drops it. What was under way goes when it is written."""
    stage = Stage()
    stage.sent_off()
    nr = stage.k.machine.ledger.counts["pswpout"]
    stage.task.munmap(stage.start, NR * PAGE_SIZE)
    stage.system.check()
    assert stage.state(0)[1:] == (1, 1)
    assert stage.k.swap.nr_used == 6, "those that the disk has; the others went with their entries"
    stage.k.machine.disk.settle()
    stage.frames.flags[stage.pfns[0]] |= np.uint32(PG_DIRTY)
    assert stage.shrink_cache().wanted == 32
    assert stage.k.swap.nr_used == 5
    assert stage.k.machine.ledger.counts["pswpout"] == nr
    assert stage.shrink_cache().wanted == 32, "a sixth of five pages is none"
    assert stage.k.swap.nr_used == 5
    stage.task.touch(stage.task.mmap(PAGE_SIZE), PAGE_SIZE, write=True)
    assert stage.shrink_cache().wanted == 31
    assert stage.k.swap.nr_used == 4


def test_what_is_being_read_stays() -> None:
    """Read ahead: only the swap cache has it, and it is clean; but the disk has not brought it yet. Nobody waits for that, and it is not mapped either."""
    stage = Stage()
    stage.sent_off()
    stage.k.machine.disk.settle()
    attempt = Attempt(0, wanted=6)
    while attempt.wanted:
        stage.reclaim.shrink_cache(attempt)
    stage.k.machine.disk.settle()
    slot = min(set(range(1, NR)) - stage.k.swap.cached.keys())
    swapin_readahead(stage.k, slot)
    read = {pfn for pfn in stage.k.swap.cached.values() if stage.k.swap.is_locked(pfn)}
    assert read
    lists, before = stage.k.machine.allocator.lru, stage.k.machine.sched.now_ns
    others = set(lists.pages(0, active=False).tolist()) - read
    lists.rotate(np.array([*others, *read]))  # they are the next
    stage.shrink_cache()
    assert read <= set(stage.k.swap.cached.values())
    assert stage.k.machine.sched.now_ns == before
    assert [stage.task.read(stage.start + page * PAGE_SIZE, 6) for page in range(9)] == [
        b"page %d" % page for page in range(9)
    ]


@pytest.mark.parametrize(("inactive", "active", "moved"), [(10, 60, 60), (40, 20, 7), (60, 3, 0)])
def test_how_many_become_inactive(inactive: int, active: int, moved: int) -> None:
    """32 x 60 / 21 = 91, of 60; 32 x 20 / 81 = 7; 32 x 3 / 121 = 0."""
    system = small()
    reclaim = reclaim_of(system)
    lists = system.machine.allocator.lru
    for nr, is_active in ((inactive, False), (active, True)):
        lists.add(system.machine.allocator.alloc(nr, Gfp.HIGHUSER), active=is_active)
    reclaim.refill_inactive(32, 0)
    assert lists.nr[0].tolist() == [inactive + moved, active - moved]


def test_mapped_pages_lead_to_swap_out_from_within(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred for each page wanted; here five in all. Six are looked at in a pass: swap_out takes 32 entries then, and not before."""
    stage = Stage()
    stage.reclaim.swap_out(0)  # now they are old
    for page in range(NR):
        stage.task.read(stage.start + page * PAGE_SIZE, 1)
    monkeypatch.setattr(virtual, "VM_MAPPED_RATIO", 6)
    stage.shrink_cache(wanted=1)
    taken = stage.k.machine.ledger.counts["swap_out_mm"]
    monkeypatch.setattr(virtual, "VM_MAPPED_RATIO", 5)
    stage.shrink_cache(wanted=1)
    assert stage.k.machine.ledger.counts["swap_out_mm"] > taken


def test_passes_in_vain_are_sixty_and_swap_out_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is mlocked. failed_swapout stays."""
    stage = Stage()
    stage.task.cap_ipc_lock(granted=True)
    stage.task.mlock(stage.start, NR * PAGE_SIZE)
    calls = Counter[str]()
    shrink, swap = stage.reclaim._shrink_caches, stage.reclaim.swap_out

    def shrink_caches(attempt: Attempt) -> None:
        calls["pass"] += 1
        shrink(attempt)

    def swap_out(classzone: int) -> bool:
        calls["swap_out"] += 1
        return swap(classzone)

    monkeypatch.setattr(stage.reclaim, "_shrink_caches", shrink_caches)
    monkeypatch.setattr(stage.reclaim, "swap_out", swap_out)
    assert not stage.reclaim.try_to_free_pages_zone(0)
    assert calls == {"pass": 60, "swap_out": 1}


def test_a_task_that_has_just_used_all_it_has_needs_kswapd() -> None:
    """All is young: 60 passes in vain make it old, and active, and inactive again. They are kswapd's, which sleeps then; the next 60 take it."""
    system = small()
    reclaim = reclaim_of(system)
    task = system.spawn()
    start = task.mmap(200 * PAGE_SIZE)
    nr = system.machine.allocator.obtainable(Gfp.HIGHUSER)
    for page in range(nr - 1):
        task.write(start + page * PAGE_SIZE, b"x")
    assert not reclaim.try_to_free_pages_zone(0)
    assert reclaim.try_to_free_pages_zone(0)
    assert system.machine.ledger.counts["pgsteal"] >= 32


@pytest.mark.parametrize("seconds", [1, 6])
def test_kswapd_sleeps_for_five_seconds(seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be freed: 60 passes of kswapd and 60 of the caller's; another request has 60 while it sleeps, and 120 after that."""
    system = small()
    reclaim, asked = reclaim_of(system), list[int]()

    def in_vain(classzone: int, wanted: str) -> bool:
        del wanted
        asked.append(classzone)
        return False

    monkeypatch.setattr(reclaim, "try_to_free_pages_zone", in_vain)
    allocator = system.machine.allocator
    allocator.alloc(allocator.obtainable(Gfp.HIGHUSER), Gfp.HIGHUSER)
    for expected in (2, 1 if seconds < 5 else 2):
        with pytest.raises(NoMemory, match="in 60 passes nothing could be reclaimed"):
            allocator.alloc(1, Gfp.HIGHUSER)
        assert len(asked) == expected
        system.machine.sched.now_ns += seconds * SECOND
        asked.clear()


@pytest.mark.parametrize("seconds", [1, 6])
def test_who_uses_all_he_has_again_while_kswapd_sleeps_gets_no_page_more(seconds: int) -> None:
    """All is in RAM and young, and almost all of swap is free: 60 passes in vain are the task's own, and the fault kills it. Later they are kswapd's."""
    system = small()
    install(system)
    task, counts, allocator = system.spawn(), system.machine.ledger.counts, system.machine.allocator
    assert task.mm is not None
    here = task.mmap(300 * PAGE_SIZE)
    while not counts["pgsteal"]:  # kswapd has come to nothing, then the task has made room
        task.write(here, b"x")
        here += PAGE_SIZE
    system.machine.sched.now_ns += seconds * SECOND
    swap = system.kernel.swap
    out = read_page_tables(system.machine, task.mm.pgd)[0]
    for at, slot in zip(out.other_addresses.tolist(), swap.slots_of(out.others).tolist(), strict=True):
        if slot in swap.cached:
            task.write(at, b"y")
    while allocator.obtainable(Gfp.HIGHUSER):
        task.write(here, b"x")
        here += PAGE_SIZE
    for at in read_page_tables(system.machine, task.mm.pgd)[0].addresses.tolist():
        task.write(at, b"z")
    if seconds < 5:
        with pytest.raises(OomKilled, match="in 60 passes nothing could be reclaimed"):
            task.write(here, b"x")
        assert swap.nr_free > 400
    else:
        task.write(here, b"x")
    system.check()


def test_who_gets_nothing_fails_and_the_others_go_on() -> None:
    """RAM and swap are full. A fault kills its task, fork is ENOMEM; the memory of both is as it was, and when there is room again it goes on."""
    system = small(slots=64)
    install(system)
    task, hog = system.spawn(), system.spawn()
    start = task.mmap(20 * PAGE_SIZE)
    for page in range(20):
        task.write(start + page * PAGE_SIZE, b"mine %d" % page)
    big = hog.mmap(300 * PAGE_SIZE)
    with pytest.raises(OomKilled):
        hog.touch(big, 300 * PAGE_SIZE, write=True)
    system.check()
    assert hog.mm is None
    child = task.fork()
    for who in (task, child):
        assert [who.read(start + page * PAGE_SIZE, 7).rstrip(b"\0") for page in range(20)] == [
            b"mine %d" % page for page in range(20)
        ]
    system.check()


def test_free_above_the_high_mark_is_enough_even_when_nothing_was_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is tried again, once more; below it is refused."""
    system = small()
    reclaim = reclaim_of(system)
    monkeypatch.setattr(reclaim, "try_to_free_pages_zone", lambda *_: False)
    allocator = system.machine.allocator
    high = allocator.zones[0].marks.high
    allocator.alloc(allocator.nr_free - high - 1, Gfp.HIGHUSER)
    reclaim.make_room(1, 0)
    allocator.alloc(1, Gfp.HIGHUSER)
    with pytest.raises(NoMemory) as failure:
        reclaim.make_room(1, 0)
    assert not failure.value.waiting_helps
    assert allocator.nr_free == high


@pytest.mark.parametrize("in_bulk", [True, False])
def test_where_pages_come(in_bulk: bool) -> None:
    """First touched: inactive, referenced; a copy: inactive. One reference each, and in the order in which they came. Back from swap: inactive, and used by who wanted it."""
    system = small()
    reclaim = reclaim_of(system)
    lists, flags = system.machine.allocator.lru, system.machine.frames.flags
    task = system.spawn()
    start = task.mmap(20 * PAGE_SIZE)
    for at in range(start, start + 20 * PAGE_SIZE, PAGE_SIZE) if not in_bulk else [start]:
        task.touch(at, 20 * PAGE_SIZE if in_bulk else PAGE_SIZE, write=True)

    def pfn(page: int, of: rmaplab.Task) -> int:
        assert of.mm is not None
        return int(lookup(*system.machine.geometry, of.mm.pgd, start + page * PAGE_SIZE)[0]) >> PAGE_SHIFT

    assert lists.pages(0, active=False).tolist() == [pfn(page, task) for page in range(20)]
    assert all(flags[pfn(page, task)] & PG_REFERENCED for page in range(20))
    child = task.fork()
    child.write(start, b"copy")
    assert lists.pages(0, active=False).tolist()[20:] == [pfn(0, child)]
    assert not flags[pfn(0, child)] & PG_REFERENCED
    assert system.machine.frames.count[pfn(0, child)] == 1
    child.exit()
    for _ in range(3):
        reclaim.refill_inactive(1000, 0)
        reclaim.swap_out(0)
    for _ in range(200):
        reclaim.shrink_cache(Attempt(0))
    system.machine.disk.settle()
    assert system.machine.ledger.counts["pgsteal"] == 15, "a sixth of five is none"
    task.read(start, 1)
    assert flags[pfn(0, task)] & (PG_LRU | PG_REFERENCED) == PG_LRU | PG_REFERENCED
    system.check()


# -- CONFIG_OOM_KILLER -----------------------------------------------------------------------------------------------------


def test_with_the_killer_what_cannot_be_taken_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of RAM is mlocked, in parts, as half of it is the most that one may; swap is free, so nobody is killed. (A minute is ten seconds here: it is much scanning.)"""
    monkeypatch.setattr(virtual, "HANG_NS", 10 * SECOND)
    system = small(frames=72, kernel=with_killer())
    install(system)

    def lock_all() -> None:
        while True:
            task = system.spawn(root=True)
            start = task.mmap(8 * PAGE_SIZE)
            for page in range(8):
                task.mlock(start + page * PAGE_SIZE, PAGE_SIZE)

    with pytest.raises(Hung, match="for 60 seconds no page could be freed"):
        lock_all()
    assert 10 * SECOND <= system.machine.sched.now_ns < 60 * SECOND


def test_with_the_killer_somebody_dies_when_swap_is_full() -> None:
    """After ten calls and a second: who has mapped most. The other has lost nothing."""
    system = small(frames=72, slots=32, kernel=with_killer())
    killer = OomKiller(system.kernel)
    VirtualReclaim(system.kernel, system.spec.reclaim_rules(4), killer.out_of_memory)
    task, hog = system.spawn(), system.spawn()
    start, big = task.mmap(10 * PAGE_SIZE), hog.mmap(300 * PAGE_SIZE)
    task.write(start, b"hello")

    def fill() -> None:
        for page in range(300):
            hog.write(big + page * PAGE_SIZE, b"x")

    with pytest.raises(NoMemory, match="task 2 is killed for them"):
        fill()
    assert killer.kill_chosen()
    assert SECOND < system.machine.sched.now_ns < 5 * SECOND
    assert task.read(start, 5) == b"hello"
    system.check()


# -- as a whole ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 2, 5, 8, 13])
def test_random_calls_under_pressure(seed: int) -> None:
    """Everything recounted and all contents compared after each; `make pressure` runs many."""
    run = PressureRun("2.4.21", seed, paging=("i386", "i386-pae", "x86-64")[seed % 3])
    run.run(60)
    assert run.nr_calls >= 60
    assert run.outs


def test_and_if_somebody_watches() -> None:
    """Page by page, every lock really taken."""
    run = PressureRun("2.4.21", 0, paging="i386")
    run.system.watch(lambda _: None)
    run.run(40)
    assert run.outs


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_names_its_reclaim(kernel: str) -> None:
    """2.4 its own, 2.6 another, 6.18 none, and says so; whoever has another reverse map keeps it."""
    name = {"2.4.21": "VirtualReclaim", "6.18": None}.get(kernel, "PageReclaim")
    found = find_kernel(kernel).reclaim_class()
    assert (found.__name__ if found else None) == name
    assert find_kernel(f"{kernel}+anon_vma").reclaim_class() is found
    if found is None:
        with pytest.raises(UsageError, match=r"does not reclaim here: try 2\.4\.21, or 2\.6\.2 to 2\.6\.7"):
            install(rmaplab.boot(kernel, ram="64M", swap="64M"))
