"""One page on its way out of memory and back: its flags, its count and its slot after each step, as reclaim.md A.4 has them.

a: [p0 p1 ... ]     one process, 40 pages written, all on the active list of one zone; then they are made inactive and old
"""

from dataclasses import replace

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.kernels.box import Box
from rmaplab.machine.frames import (
    PG_ACTIVE,
    PG_DIRTY,
    PG_LRU,
    PG_RECLAIM,
    PG_REFERENCED,
    PG_SWAPCACHE,
    PG_WRITEBACK,
)
from rmaplab.machine.pagetable import lookup
from rmaplab.reclaim.shrink import Scan, Shrinker
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7")
STATE = PG_LRU | PG_ACTIVE | PG_SWAPCACHE | PG_DIRTY | PG_WRITEBACK | PG_RECLAIM
NR = 40
MANY = NR  # pages to be scanned: all of them


class Stage:
    """A kernel with NR pages of one task, none of which was used lately: the tail of the inactive list is the first of them."""

    def __init__(self, kernel: str, *, slots: int = 1024, disk: bool = True) -> None:
        box = Box(ram="16M", swap=slots * PAGE_SIZE, boot_use=0, overcommit=1, paging="i386")
        if not disk:
            box = replace(box, disk_seek_us=0, disk_rpm=0, disk_kib_per_s=0)
        self.system = rmaplab.boot(kernel, box=box)
        self.k = self.system.kernel
        self.shrinker = Shrinker(self.k, self.system.spec.reclaim_rules(4))
        self.task: Task = self.system.spawn()
        self.start = self.task.mmap(NR * PAGE_SIZE)
        for page in range(NR):
            self.task.write(self.address(page), b"page %d" % page)
        self.k.lru_add.drain_all()
        self.lists = self.k.machine.allocator.lru
        self.frames = self.k.machine.frames
        self.pfns = [self.entry(page) >> PAGE_SHIFT for page in range(NR)]
        self.age()
        taken = self.lists.take(0, NR, active=True)
        assert taken.tolist() == self.pfns
        self.lists.add(taken, active=False)

    def age(self) -> None:
        """Nobody has used anything."""
        referenced(self.k.rmap, np.array(self.pfns))

    def address(self, page: int) -> int:
        return self.start + page * PAGE_SIZE

    def entry(self, page: int) -> int:
        assert self.task.mm is not None
        return int(lookup(*self.k.machine.geometry, self.task.mm.pgd, self.address(page))[0])

    def scan(self, budget: int = MANY) -> Scan:
        """One call of shrink_cache."""
        scan = Scan()
        self.shrinker.shrink_cache(0, budget, budget, scan)
        self.system.check()
        return scan

    def state(self, page: int) -> tuple[int, int, int]:
        """(Flags, count, uses of its slot)."""
        pfn = self.pfns[page]
        slot = int(self.frames.private[pfn])
        return int(self.frames.flags[pfn]) & STATE, int(self.frames.count[pfn]), int(self.k.swap.users[slot])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_goes_in_three_steps_and_comes_back_with_its_bytes(kernel: str) -> None:
    """Under way: unmapped, in the cache, clean; written: at the inactive tail; then free. A touch brings it, and its neighbours with it."""
    stage = Stage(kernel)
    assert stage.scan(16).freed == 0
    assert stage.state(0) == (PG_LRU | PG_SWAPCACHE | PG_WRITEBACK | PG_RECLAIM, 1, 2)
    assert stage.task.mm is not None
    gone = NR - stage.task.mm.rss
    assert gone >= 16
    stage.k.machine.disk.settle()
    assert stage.state(0) == (PG_LRU | PG_SWAPCACHE, 1, 2)
    assert set(stage.lists.pages(0, active=False)[:gone].tolist()) == set(stage.pfns[:gone])
    free = stage.k.machine.allocator.nr_unused
    assert stage.scan(16).freed >= 16
    assert stage.k.machine.allocator.nr_unused > free
    for page in range(NR):
        assert stage.task.read(stage.address(page), 7).rstrip(b"\0") == b"page %d" % page
        stage.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_who_is_used_again_before_the_write_is_over_is_there_at_once(kernel: str) -> None:
    """It is in the cache, and not locked: mapped again, without the disk. When it is written it stays where it is, as somebody has it."""
    stage = Stage(kernel)
    stage.scan(16)
    read = stage.k.machine.ledger.counts["pswpin"]
    assert stage.task.read(stage.address(0), 6) == b"page 0"
    assert stage.k.machine.ledger.counts["pswpin"] == read
    assert stage.entry(0) >> PAGE_SHIFT == stage.pfns[0]
    stage.k.machine.disk.settle()
    stage.system.check()
    stage.scan()
    assert stage.entry(0) & 1, "it was used: active again"


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_was_used_becomes_active(kernel: str) -> None:
    """A young entry; and PG_referenced, of a page that is mapped."""
    stage = Stage(kernel)
    stage.task.read(stage.address(0), 1)
    stage.frames.flags[stage.pfns[1]] |= np.uint32(PG_REFERENCED)
    stage.scan(2)
    assert [stage.state(page)[0] for page in (0, 1)] == [PG_LRU | PG_ACTIVE] * 2
    assert not stage.frames.flags[stage.pfns[1]] & PG_REFERENCED


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_locked_page_gets_a_slot_and_stays(kernel: str) -> None:
    """VM_LOCKED is seen by try_to_unmap, after add_to_swap: dirty, in the cache, active (reclaim.md G)."""
    stage = Stage(kernel)
    stage.task.cap_ipc_lock(granted=True)
    stage.task.mlock(stage.address(0), PAGE_SIZE)
    stage.age()
    stage.scan(1)
    assert stage.entry(0) & 1
    assert stage.state(0) == (PG_LRU | PG_ACTIVE | PG_SWAPCACHE | PG_DIRTY, 2, 1)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_slot_a_page_becomes_active(kernel: str) -> None:
    stage = Stage(kernel, slots=4)
    stage.scan()
    gone = [page for page in range(NR) if not stage.entry(page) & 1]
    assert gone == [0, 1, 2]
    assert stage.state(3)[0] == PG_LRU | PG_ACTIVE


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_page_that_nobody_wants_any_more_is_not_written(kernel: str) -> None:
    """Its entries are zapped while the write is under way: the page stays in the cache, with a slot that only the cache names. The next pass drops it."""
    stage = Stage(kernel)
    stage.scan(1)
    nr = stage.k.machine.ledger.counts["pswpout"]
    stage.task.munmap(stage.start, NR * PAGE_SIZE)
    stage.system.check()
    assert stage.state(0)[1:] == (1, 1)
    stage.k.machine.disk.settle()
    stage.scan()
    assert stage.k.machine.ledger.counts["pswpout"] == nr
    assert not stage.k.swap.nr_used


def test_a_disk_without_a_delay_lets_2_6_7_free_in_the_same_pass() -> None:
    """The page is clean when writepage returns. 2.6.2 keeps it, at the head, and frees it the next time."""
    assert {kernel: Stage(kernel, disk=False).scan(NR).freed for kernel in ("2.6.2", "2.6.7")} == {
        "2.6.2": 0,
        "2.6.7": NR,
    }


def test_mapped_pages_are_taken_when_times_are_hard() -> None:
    """reclaim.md D.4: with everything mapped from priority 5 on; with a quarter of memory mapped at 1 (distress 50, mapped 12, swappiness 60)."""
    stage = Stage("2.6.2")
    stage.frames.mapcount[:] = 1
    stage.shrinker.total_memory = stage.frames.nr
    stage.shrinker.sample_mapped()
    assert [stage.shrinker.reclaims_mapped(priority) for priority in (12, 7, 0)] == [True] * 3
    stage.frames.mapcount[: stage.frames.nr // 4 * 3] = 0
    stage.shrinker.sample_mapped()
    taken = [priority for priority in range(13) if stage.shrinker.reclaims_mapped(priority)]
    assert taken == [0, 1]


@pytest.mark.parametrize(("kernel", "young"), [("2.6.2", 0), ("2.6.5-rc1", NR), ("2.6.5-rc1-aa1", NR), ("2.6.7", NR)])
def test_refill_looks_at_what_it_will_not_take_in_2_6_2_alone(kernel: str, young: int) -> None:
    """Little is mapped and priorities are high: mapped pages stay active. 2.6.2 has cleared their young bits all the same."""
    stage = Stage(kernel)
    pages = stage.lists.take(0, NR, active=False)
    stage.lists.add(pages, active=True)
    stage.task.touch(stage.start, NR * PAGE_SIZE)
    stage.shrinker.refill_inactive_zone(0, NR, 12)
    assert stage.lists.pages(0, active=True).tolist() == stage.pfns
    assert sum(bool(stage.entry(page) & 0x20) for page in range(NR)) == young


@pytest.mark.parametrize("kernel", KERNELS)
def test_refill_takes_old_pages_when_it_must(kernel: str) -> None:
    """Even pages were used since: they stay, the others go, each in order."""
    stage = Stage(kernel)
    stage.lists.add(stage.lists.take(0, NR, active=False), active=True)
    for page in range(0, NR, 2):
        stage.task.read(stage.address(page), 1)
    stage.shrinker.refill_inactive_zone(0, NR, 0)
    assert stage.lists.pages(0, active=True).tolist() == stage.pfns[::2]
    assert stage.lists.pages(0, active=False).tolist() == stage.pfns[1::2]
    stage.system.check()
