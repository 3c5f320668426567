"""swap_out of 2.4, entry by entry and turn by turn: reclaim.md C.4 and C.5.

mmlist   init_mm -> a -> a's child -> ...        a: [p0 p1 ... p39]   40 pages written, all old, inactive and not referenced
"""

from __future__ import annotations

import numpy as np
import pytest

import rmaplab
from rmaplab.calls.task import Task
from rmaplab.machine.entries import ACCESSED, DIRTY
from rmaplab.machine.frames import PG_ACTIVE, PG_DIRTY, PG_LOCKED, PG_REFERENCED, PG_SWAPCACHE
from rmaplab.machine.locks import LockOwner
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
    VM_GROWSDOWN,
    VM_RESERVED,
)
from rmaplab.objects.mm_types import MmStruct
from rmaplab.reclaim.swap_out import SwapOut
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

NR, GOAL = 40, 32
RW = PROT_READ | PROT_WRITE
STATE = PG_ACTIVE | PG_SWAPCACHE | PG_DIRTY | PG_REFERENCED
FORMATS = ["i386", "i386-pae", "x86-64"]
NORMAL = 1
SOMEBODY = LockOwner(None)


class Stage:
    """One task with `nr` pages at `start`; more may come."""

    def __init__(self, nr: int = NR, *, slots: int = 256, paging: str = "i386", kernel: str = "2.4.21") -> None:
        self.system = rmaplab.boot(kernel, ram="64M", swap=slots * PAGE_SIZE, boot_use=0, overcommit=1, paging=paging)
        self.k = self.system.kernel
        self.frames, self.swap = self.k.machine.frames, self.k.swap
        self.swapper = SwapOut(self.k)
        self.task = self.system.spawn()
        self.start = self.task.mmap(nr * PAGE_SIZE)
        self.nr = nr
        for page in range(nr):
            self.task.write(self.address(page), b"page %d" % page)
        self.pfns = [self.entry(page) >> PAGE_SHIFT for page in range(nr)]
        self.age()

    def address(self, page: int) -> int:
        return self.start + page * PAGE_SIZE

    def mm(self, task: Task | None = None) -> MmStruct:
        mm = (task or self.task).mm
        assert mm is not None
        return mm

    def entry(self, page: int, task: Task | None = None) -> int:
        return int(lookup(*self.k.machine.geometry, self.mm(task).pgd, self.address(page))[0])

    def put(self, page: int, entry: int) -> None:
        _, pte = lookup(*self.k.machine.geometry, self.mm().pgd, self.address(page))
        self.k.machine.set_entry(pte, entry)

    def age(self) -> None:
        """Nobody has used anything."""
        for page in range(self.nr):
            self.put(page, self.entry(page) & ~ACCESSED)
        self.frames.flags[self.pfns] &= ~np.uint32(PG_REFERENCED)

    def swap_out(self, classzone: int = NORMAL) -> bool:
        found = self.swapper.swap_out(classzone)
        self.system.check()
        return found

    def state(self, page: int) -> int:
        return int(self.frames.flags[self.pfns[page]]) & STATE

    def gone(self, task: Task | None = None) -> list[int]:
        """Pages whose entry maps nothing."""
        return [page for page in range(self.nr) if not self.entry(page, task) & 1]


# -- one entry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["2.4.21", "2.4.21+pte_chain", "2.4.21+anon_vma"])
@pytest.mark.parametrize("paging", FORMATS)
def test_an_old_dirty_page_becomes_a_swap_entry(paging: str, kernel: str) -> None:
    """The page is in the swap cache, dirty and not referenced, with the cache's reference alone; the slot is the entry's and the cache's. Its bytes come back."""
    stage = Stage(3, paging=paging, kernel=kernel)
    stage.frames.flags[stage.pfns] |= np.uint32(PG_REFERENCED)
    assert not stage.swap_out(), "three of 32"
    assert stage.gone() == [0, 1, 2]
    for page in range(3):
        pfn = stage.pfns[page]
        slot = int(stage.frames.private[pfn])
        assert stage.state(page) == PG_SWAPCACHE | PG_DIRTY
        assert (stage.frames.count[pfn], stage.swap.users[slot]) == (1, 2)
        assert stage.entry(page) == stage.swap.entry(slot)
    assert stage.mm().rss == 0
    assert stage.k.machine.ledger.counts["tlb_flush_page"] == 3
    assert [stage.task.read(stage.address(page), 6) for page in range(3)] == [b"page 0", b"page 1", b"page 2"]
    stage.system.check()


def test_a_young_entry_becomes_old_and_its_page_referenced_then_active() -> None:
    """Twice used between visits: the second time the page is active, and old as it is it stays."""
    stage = Stage(1)
    for states in (PG_REFERENCED, PG_ACTIVE, PG_ACTIVE | PG_REFERENCED):
        stage.task.read(stage.start, 1)
        mm, lock = stage.mm(), stage.mm().page_table_lock
        assert lock.writer is None
        stage.k.mmlist.swap_mm, mm.swap_address = mm, 0
        stage.swapper._swap_out_mm(mm, GOAL, NORMAL)
        stage.system.check()
        assert stage.state(0) == states
        assert not stage.entry(0) & ACCESSED
        assert stage.entry(0) & 1
    assert not stage.swap_out()
    assert stage.entry(0) & 1, "active"


def test_a_locked_vma_is_not_even_made_old() -> None:
    stage = Stage(2)
    stage.task.read(stage.start, 1)
    stage.task.cap_ipc_lock(granted=True)
    stage.task.mlock(stage.start, 2 * PAGE_SIZE)
    young = [stage.entry(page) & ACCESSED for page in range(2)]
    assert not stage.swap_out()
    assert [stage.entry(page) & ACCESSED for page in range(2)] == young
    assert stage.state(0) & PG_ACTIVE, "three turns: referenced, active, referenced"


@pytest.mark.parametrize("why", ["active", "class", "locked", "reserved"])
def test_who_stays(why: str) -> None:
    """Its page is active, or of a zone above the class, or the disk has it; or its VMA is VM_RESERVED."""
    stage = Stage(4)
    if why == "active":
        stage.k.machine.allocator.lru.activate(np.array(stage.pfns))
    elif why == "locked":
        stage.frames.flags[stage.pfns] |= np.uint32(PG_LOCKED)
    elif why == "reserved":
        stage.mm().vmas[0].flags |= VM_RESERVED
    assert not stage.swap_out(0 if why == "class" else NORMAL)
    assert stage.gone() == []


def test_swap_is_full() -> None:
    """Three slots for five pages: two stay, old and dirty; they do not count, and nobody else is kept from trying."""
    stage = Stage(5, slots=4)
    assert stage.swap.nr_free == 3
    assert not stage.swap_out()
    assert stage.gone() == [0, 1, 2]
    assert [stage.entry(page) & (ACCESSED | DIRTY) for page in (3, 4)] == [DIRTY, DIRTY]
    assert stage.state(3) == PG_DIRTY
    assert stage.task.read(stage.address(4), 6) == b"page 4"


def test_a_slot_that_is_not_to_be_had_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """get_swap_page says no though something is free, as while an area is emptied: the entry comes back as it was, and was not one of the 32."""
    stage = Stage(40)
    take = stage.swap.get_slots
    monkeypatch.setattr(stage.swap, "get_slots", lambda nr: take(nr - 2))
    stage.k.mmlist.swap_mm = stage.mm()
    assert stage.swapper._swap_out_mm(stage.mm(), GOAL, NORMAL) == (2, True)
    stage.system.check()
    assert stage.gone() == list(range(GOAL - 2))
    assert stage.entry(GOAL - 1) & DIRTY
    assert stage.entry(GOAL - 1) >> PAGE_SHIFT == stage.pfns[GOAL - 1]


def test_what_was_never_written_to_is_dropped() -> None:
    """A clean entry of a clean page that is in no cache: zeros, which can be had again."""
    stage = Stage(2)
    for page in range(2):
        stage.put(page, stage.entry(page) & ~DIRTY)
    assert not stage.frames.flags[stage.pfns[0]] & PG_DIRTY
    assert not stage.swap_out()
    assert [stage.entry(page) for page in range(2)] == [0, 0]
    assert stage.frames.count[stage.pfns].tolist() == [0, 0]
    assert not stage.swap.nr_used


def test_pages_of_files_lose_their_entries_and_stay_in_the_cache() -> None:
    """Private and shared, read and written: dirty entries make the page dirty. The next touch finds them."""
    stage = Stage(1)
    task = stage.task
    space = stage.system.new_file(b"file", PAGE_SIZE * 4)
    file = task.open(space)
    private = task.mmap(4 * PAGE_SIZE, PROT_READ, MAP_PRIVATE, file=file)
    shared = task.mmap(4 * PAGE_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS)
    task.read(private, 1)
    for page in range(4):
        task.write(shared + page * PAGE_SIZE, b"shared %d" % page)
    of_files = np.flatnonzero(stage.frames.mapping)
    stage.frames.flags[of_files] &= ~np.uint32(PG_REFERENCED)  # as filemap_nopage and shmem_nopage have used them
    for _ in range(2):
        stage.swap_out()
    assert stage.mm().rss == 0
    assert stage.k.machine.ledger.counts["add_to_swap"] == 1, "the anonymous page"
    assert task.read(private, 4) == b"file"
    assert [task.read(shared + page * PAGE_SIZE, 8) for page in (0, 3)] == [b"shared 0", b"shared 3"]
    stage.system.check()


# -- many entries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "entries"),
    [("another VMA", 5 * GOAL), ("memory", 5 * GOAL), ("a stack", (1 + 2 + 3 + 4 + 5) * GOAL)],
)
def test_a_stack_that_is_the_last_vma_is_gone_through_from_its_beginning_each_time(last: str, entries: int) -> None:
    """swap_out_mm ends with swap_address = TASK_SIZE behind the last VMA, found or not. Other memory has a stack above it, if not here then in Linux: it goes on where the last turn ended."""
    stage = Stage(5 * GOAL)
    if last == "another VMA":
        stage.task.mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS)
    elif last == "a stack":
        stage.mm().vmas[0].flags |= VM_GROWSDOWN
    for turn in range(5):
        assert stage.swap_out()
        assert stage.gone() == list(range((turn + 1) * GOAL))
    assert stage.k.machine.ledger.counts["pte_scan"] == entries
    assert not stage.swap_out(), "nothing is left"


def test_it_stops_behind_the_32nd_and_goes_on_there() -> None:
    """A VMA behind it, so the cursor is an address; slots are in the order of the addresses."""
    stage = Stage()
    stage.task.mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS)
    assert stage.swap_out()
    assert stage.gone() == list(range(GOAL))
    assert stage.mm().swap_address == stage.address(GOAL)
    slots = stage.frames.private[stage.pfns[:GOAL]]
    assert (np.diff(slots) == 1).all()
    assert not stage.swap_out()
    assert stage.gone() == list(range(NR))


def test_in_the_stack_the_mm_is_done_whatever_was_wanted() -> None:
    stage = Stage()
    stage.mm().vmas[0].flags |= VM_GROWSDOWN
    assert stage.swap_out()
    assert stage.mm().swap_address == stage.k.machine.paging.task_size
    assert len(stage.gone()) == GOAL


@pytest.mark.parametrize("paging", FORMATS)
def test_holes_and_tables_that_are_not_there(paging: str) -> None:
    """A page at each end of a mapping of many page tables."""
    stage = Stage(1, paging=paging)
    length = 40 * stage.k.machine.paging.leaf_span
    at = stage.task.mmap(length)
    for address in (at, at + length - PAGE_SIZE):
        stage.task.write(address, b"far")
    stage.frames.flags &= ~np.uint32(PG_REFERENCED)
    assert not stage.swap_out()
    assert stage.mm().rss == 0, "they were young, and are old in the next turn"
    assert stage.task.read(at + length - PAGE_SIZE, 3) == b"far"
    stage.system.check()


def test_a_shared_page_goes_out_of_one_after_the_other_and_counts_with_the_last() -> None:
    """Parent and child: the parent's first; three references then, so none of them counts. The child's in its turn are two, and do."""
    stage = Stage()
    child = stage.task.fork()
    mm = stage.mm()
    stage.k.mmlist.swap_mm = mm
    assert stage.swapper._swap_out_mm(mm, GOAL, NORMAL) == (GOAL, True)
    assert stage.gone() == list(range(NR))
    assert stage.gone(child) == []
    assert stage.swap.users[stage.frames.private[stage.pfns[0]]] == 2
    assert stage.swap_out()
    assert stage.gone(child) == list(range(GOAL))
    assert stage.swap.users[stage.frames.private[stage.pfns[0]]] == 3
    assert [who.read(stage.address(5), 6) for who in (stage.task, child)] == [b"page 5"] * 2
    stage.system.check()


def test_turns_go_round_the_list() -> None:
    """Three address spaces without anything to be had: twice each and once more, in order; who is done begins anew."""
    stage = Stage(1)
    tasks = [stage.system.spawn(), stage.system.spawn()]
    stage.k.machine.allocator.lru.activate(np.array(stage.pfns))
    assert not stage.swap_out()
    assert stage.k.machine.ledger.counts["swap_out_mm"] == 7
    assert stage.k.mmlist.swap_mm is stage.mm(tasks[1]), "the last to come is the first: 7 turns end there"
    stage.task.exit()
    for task in tasks:
        task.exit()
    assert not stage.swapper.swap_out(NORMAL), "nobody is left"


def test_whose_page_table_lock_is_held_is_passed_over() -> None:
    """Nobody runs who could give it back."""
    stage = Stage()
    lock = stage.mm().page_table_lock
    lock.writer = SOMEBODY
    assert not stage.swapper.swap_out(NORMAL)
    lock.writer = None
    assert stage.gone() == []
    assert stage.swap_out()


def test_if_somebody_watches_a_page_whose_bit_lock_is_held_stays() -> None:
    """The same result entry by entry, with the lock of each page tried."""
    stage = Stage(4)
    bit = stage.k.machine.locks.bit("PG_locked", stage.pfns[2])
    bit.writer = SOMEBODY
    stage.system.watch(lambda _: None)
    assert not stage.swapper.swap_out(NORMAL)
    stage.system.watch(None)
    bit.writer = None
    assert stage.gone() == [0, 1, 3]
    stage.system.check()
