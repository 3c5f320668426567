"""find, referenced, unmap, mkclean: the same questions to every design, with the manners of every era.

    pid 1 --- page 0 ---+          VM_LOCKED?   young?   page_table_lock held?
    pid 2 --- page 0 ---+--> p     what each of these does is a row of reclaim.md E.1 or E.2
    pid 3 --- page 0 ---+

Expected: entries and mapcounts by the judge's reading of the page tables, the eras' outcomes from reclaim.md E.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import rmaplab
from rmaplab.kernels.figures_walks import AA_WALKS, WALKS
from rmaplab.kernels.history import figures_at
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.arrays import I64
from rmaplab.machine.entries import ACCESSED, DIRTY, RW
from rmaplab.machine.frames import PG_DIRTY, PG_REFERENCED
from rmaplab.machine.locks import LockOwner, Point
from rmaplab.machine.pagetable import lookup
from rmaplab.objects.flags import MADV_DONTNEED, VM_LOCKED, VM_SHARED
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.brute_force import mappings_of
from rmaplab.rmap.queries import Outcome, find, mkclean, referenced, unmap
from rmaplab.rmap.walk_rules import WalkRules
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

KERNELS = ["2.4.21", "2.6.2", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "6.18"]
MIXED = ["6.18+pte_chain", "6.18+anonmm", "6.18+anon_vma", "2.6.2+anon_vma_chain", "2.4.21+pte_chain"]
SOMEBODY = LockOwner(None)
ERAS = ["2.4.21", "2.6.2", "aa1", "2.6.7", "2.6.34", "3.19", "6.18"]


def rules_of(era: str) -> WalkRules:
    """What the histories say of a release, whether or not it can be booted."""
    figures = figures_at(WALKS, "2.6.5-rc1" if era == "aa1" else era) | (AA_WALKS if era == "aa1" else {})
    assert {field.name for field in fields(WalkRules)} == figures.keys()
    return WalkRules(**{f.name: f.type(figures[f.name].on(4)) for f in fields(WalkRules)})  # type: ignore[operator]


class Family:
    """Three processes that share `nr` pages; the page cache's habits are those of `era`, if one is given."""

    def __init__(self, kernel: str, nr: int = 1, era: str | None = None) -> None:
        self.system = rmaplab.boot(kernel, ram="64M", swap="4M")
        self.k, self.rmap = self.system.kernel, self.system.kernel.rmap
        if era is not None:
            self.rmap.walks = rules_of(era)
        first = self.system.spawn()
        self.address = first.mmap(nr * PAGE_SIZE)
        first.touch(self.address, nr * PAGE_SIZE, write=True)
        self.k.lru_add.drain_all()
        child = first.fork()
        self.tasks = [first, child, child.fork()]
        self.pfns: I64 = np.array([self.entry(0, page) >> PAGE_SHIFT for page in range(nr)])
        self.system.machine.frames.flags[self.pfns] &= ~np.uint32(PG_REFERENCED)  # of their first touch, up to 2.6.7

    def mm(self, who: int) -> MmStruct:
        mm = self.tasks[who].mm
        assert mm is not None
        return mm

    def vma(self, who: int) -> VmArea:
        vma = self.mm(who).find_vma(self.address)
        assert vma is not None
        return vma

    def pte(self, who: int, page: int = 0) -> int:
        return int(lookup(*self.system.machine.geometry, self.mm(who).pgd, self.address + page * PAGE_SIZE)[1])

    def entry(self, who: int, page: int = 0) -> int:
        return int(lookup(*self.system.machine.geometry, self.mm(who).pgd, self.address + page * PAGE_SIZE)[0])

    def put(self, who: int, entry: int) -> None:
        self.system.machine.words[self.pte(who) // self.system.machine.paging.entry_bytes] = entry

    def make_old(self) -> None:
        """All entries of page 0."""
        for who in range(3):
            self.put(who, self.entry(who) & ~ACCESSED)

    def lock(self, who: int) -> None:
        """As mlock would, without its faults."""
        self.vma(who).flags |= VM_LOCKED
        self.mm(who).locked_vm = self.vma(who).nr_pages

    def swap_entries(self) -> I64:
        """The pages in the swap cache, each with a slot; and one more reference, the caller's."""
        swap = self.k.swap
        for pfn in self.pfns.tolist():
            swap.add(pfn, swap.get_slot())
            self.system.machine.frames.count[pfn] += 1
        return np.array([swap.entry(int(slot)) for slot in self.system.machine.frames.private[self.pfns]])

    def unmap(self) -> tuple[list[Outcome], list[int]]:
        """To swap entries."""
        done = unmap(self.rmap, self.pfns, self.swap_entries(), self.replacing)
        for pfn in self.pfns.tolist():
            self.system.machine.frames.count[pfn] -= 1
        self.system.check()
        return [Outcome(outcome) for outcome in done.outcome.tolist()], done.replaced.tolist()

    def replacing(self, entries: I64) -> None:
        """swap_duplicate."""
        self.k.swap.duplicate(entries)

    def judged(self, page: int = 0) -> set[tuple[int, int]]:
        found = mappings_of(self.system.machine, self.k.mms.values(), int(self.pfns[page]))
        return {(m.mm.pid, m.address) for m in found}


@pytest.mark.parametrize("kernel", KERNELS + MIXED)
def test_find_is_the_walk_with_everything_said(kernel: str) -> None:
    """VMA, address and entry of each mapping, for as many visits; those who do not walk by VMAs look them up, and pay."""
    family = Family(kernel, nr=5)
    ledger = family.system.machine.ledger
    before = ledger.counts.copy()
    walked = [(row, m.mm.pid, m.address) for row, pfn in enumerate(family.pfns.tolist()) for m in family.rmap.walk(pfn)]
    visits = ledger.counts - before
    before = ledger.counts.copy()
    found = find(family.rmap, family.pfns)
    charged = ledger.counts - before
    lookups = charged.pop("find_vma", 0)
    assert charged == visits
    assert lookups == (15 if family.k.design.name in ("pte_chain", "anonmm") else 0)
    rows = zip(found.row.tolist(), found.vma, found.address.tolist(), strict=True)
    assert [(row, vma.mm.pid, address) for row, vma, address in rows if vma is not None] == walked
    for page in range(5):
        assert {(p, a) for row, p, a in walked if row == page} == family.judged(page)
        assert {p for row, p in zip(found.row.tolist(), found.pte.tolist(), strict=True) if row == page} == {
            family.pte(who, page) for who in range(3)
        }


@pytest.mark.parametrize("kernel", KERNELS + MIXED)
def test_referenced_counts_the_young_and_makes_them_old(kernel: str) -> None:
    """The parent has written, the children are born old; one of them reads. Asked again, nobody has."""
    family = Family(kernel, nr=2)
    assert [bool(family.entry(who) & ACCESSED) for who in range(3)] == [True, False, False]
    assert referenced(family.rmap, family.pfns).nr.tolist() == [1, 1]
    family.tasks[2].read(family.address)
    family.tasks[0].read(family.address)
    assert referenced(family.rmap, family.pfns).nr.tolist() == [2, 0]
    assert referenced(family.rmap, family.pfns).nr.tolist() == [0, 0]
    family.system.check()


@pytest.mark.parametrize(
    ("era", "mapped", "unmapped"), [("2.6.2", 1, 1), ("aa1", 1, 0), ("2.6.7", 1, 1), ("2.6.34", 0, 0), ("6.18", 0, 0)]
)
def test_pg_referenced(era: str, mapped: int, unmapped: int) -> None:
    """E.1, first row: counted and cleared, also if unmapped, only if mapped, or left to others."""
    family = Family("2.6.5-rc1-aa1", era=era)
    family.make_old()
    flags = family.system.machine.frames.flags
    free = family.system.machine.allocator.alloc(1, Gfp.HIGHUSER)
    pages = np.concatenate((family.pfns, free))
    flags[pages] |= PG_REFERENCED
    assert referenced(family.rmap, pages).nr.tolist() == [mapped, unmapped]
    assert [not flags[p] & PG_REFERENCED for p in pages] == [bool(mapped), bool(unmapped)]


@pytest.mark.parametrize(
    ("era", "nr", "locked"),
    [
        ("2.6.2", 3, False),
        ("aa1", 3, False),
        ("2.6.7", 3, False),
        ("2.6.34", 2, True),
        ("3.19", 2, True),
        ("6.18", 2, True),
    ],
)
def test_what_referenced_makes_of_mlock(era: str, nr: int, locked: bool) -> None:
    """E.1, VM_LOCKED: no look up to 2.6.7 (a file's counts there), the end of the walk since. The parent's is the last VMA on the list."""
    family = Family("2.6.5-rc1-aa1", era=era)
    for task in family.tasks:
        task.read(family.address)
    family.lock(0)
    found = referenced(family.rmap, family.pfns)
    assert (found.nr.tolist(), found.vm_locked.tolist()) == ([nr], [locked])


@pytest.mark.parametrize(("era", "looks"), [("2.6.2", 3), ("aa1", 3), ("2.6.7", 2), ("2.6.34", 2)])
def test_when_a_walk_stops(era: str, looks: int) -> None:
    """E.1, stop: from 2.6.7 on when mapcount are found. The parent, last on the list, has left the page."""
    family = Family("2.6.5-rc1-aa1", era=era)
    family.tasks[0].write(family.address, b"x")
    counts = family.system.machine.ledger.counts
    before = counts["vma_visit"]
    referenced(family.rmap, family.pfns)
    assert counts["vma_visit"] - before == looks


@pytest.mark.parametrize("kernel", KERNELS + MIXED)
def test_unmap_leaves_swap_entries_everywhere(kernel: str) -> None:
    """Nobody maps the pages any more; dirty bits, mapcounts, rss and references have gone where they belong, and everybody reads what was there."""
    family = Family(kernel, nr=3)
    family.tasks[0].write(family.address + PAGE_SIZE, b"mine")  # a copy: that page is not the family's any more
    for _ in range(2):
        referenced(family.rmap, family.pfns)  # all are old
    frames = family.system.machine.frames
    rss = [family.mm(who).rss for who in range(3)]
    outcomes, replaced = family.unmap()
    assert (outcomes, replaced) == ([Outcome.SUCCESS] * 3, [3, 2, 3])
    assert frames.mapcount[family.pfns].tolist() == [0, 0, 0]
    assert frames.count[family.pfns].tolist() == [1, 1, 1]  # the swap cache's
    assert (frames.flags[family.pfns] & PG_DIRTY).all()
    assert [before - family.mm(who).rss for who, before in enumerate(rss)] == [2, 3, 3]
    assert not find(family.rmap, family.pfns).row.size
    assert family.tasks[1].read(family.address, 1) == b"\0"
    assert family.tasks[0].read(family.address + PAGE_SIZE, 4) == b"mine"
    family.system.check()


@pytest.mark.parametrize("kernel", [*KERNELS[1:4], "6.18+anonmm", "2.6.2+anon_vma_chain"])
def test_whose_table_is_locked_is_left_out(kernel: str) -> None:
    """A trylock fails: AGAIN, and on; what is done stays done (E.2). Once it is free the rest goes."""
    family = Family(kernel)
    referenced(family.rmap, family.pfns)
    lock = family.system.machine.pte_lock(family.mm(1), family.address)
    lock.writer = SOMEBODY
    entries = family.swap_entries()
    done = unmap(family.rmap, family.pfns, entries, family.replacing)
    assert (done.outcome.tolist(), done.replaced.tolist()) == ([Outcome.AGAIN], [2])
    assert lock.type.trylock_failures == 1
    lock.writer = None
    assert family.judged() == {(family.tasks[1].pid, family.address)}
    done = unmap(family.rmap, family.pfns, entries, family.replacing)
    assert (done.outcome.tolist(), done.replaced.tolist()) == ([Outcome.SUCCESS], [1])
    family.system.machine.frames.count[family.pfns] -= 1
    family.system.check()


LOCKED = {"2.6.34": Outcome.MLOCK, "3.19": Outcome.MLOCK}


@pytest.mark.parametrize("era", ERAS[1:])
def test_what_unmap_makes_of_mlock(era: str) -> None:
    """E.2, refuse: the walk ends at the VMA; those before it on the list, here the younger ones, are swap entries already."""
    family = Family("2.6.5-rc1-aa1", era=era)
    family.make_old()
    family.lock(1)
    outcomes, replaced = family.unmap()
    assert (outcomes, replaced) == ([LOCKED.get(era, Outcome.FAIL)], [1])
    assert family.judged() == {(family.tasks[who].pid, family.address) for who in (0, 1)}


@pytest.mark.parametrize("era", ["2.6.34", "3.19"])
def test_mlock_whose_mmap_sem_is_held(era: str) -> None:
    """E.2: mmap_sem cannot be had: AGAIN, and on."""
    family = Family("2.6.5-rc1-aa1", era=era)
    family.make_old()
    family.lock(1)
    family.mm(1).mmap_sem.writer = SOMEBODY
    outcomes, replaced = family.unmap()
    assert (outcomes, replaced) == ([Outcome.AGAIN], [2])


@pytest.mark.parametrize("era", ERAS)
def test_who_is_used_between_referenced_and_unmap(era: str) -> None:
    """E.3, 1: 2.6.2 and aa1 evict it, so does 6.18; 2.6.7 to 3.19 spare it, and make it old."""
    spared = era in ("2.4.21", "2.6.7", "2.6.34", "3.19")
    family = Family("2.6.5-rc1-aa1", era=era)
    referenced(family.rmap, family.pfns)
    family.tasks[2].read(family.address)  # the newest: first on the list
    outcomes, replaced = family.unmap()
    assert (outcomes, replaced) == (([Outcome.FAIL], [0]) if spared else ([Outcome.SUCCESS], [3]))
    if spared:
        assert not family.entry(2) & ACCESSED


@pytest.mark.parametrize(
    ("era", "outcome"), [("2.6.2", Outcome.SUCCESS), ("2.6.7", Outcome.FAIL), ("2.6.34", Outcome.SUCCESS)]
)
def test_somebody_else_has_a_reference(era: str, outcome: Outcome) -> None:
    """E.2: 2.6.7 refuses a swap cache page with count != mapcount + 2."""
    family = Family("2.6.5-rc1-aa1", era=era)
    family.make_old()
    entries = family.swap_entries()
    family.system.machine.frames.count[family.pfns] += 1
    done = unmap(family.rmap, family.pfns, entries, family.replacing)
    assert done.outcome.tolist() == [outcome]


@pytest.mark.parametrize(("kernel", "contended"), [("6.18", True), ("6.18+anon_vma", True)])
def test_a_list_that_is_busy(kernel: str, contended: bool) -> None:
    """E.1: in 6.18 a page whose anon_vma is locked is not looked at."""
    family = Family(kernel)
    lock = family.k.design.owner_lock(int(family.pfns[0]))
    assert lock is not None
    lock.writer = SOMEBODY
    found = referenced(family.rmap, family.pfns)
    lock.writer = None
    assert (found.nr.tolist(), found.contended.tolist()) == ([0], [contended])
    assert referenced(family.rmap, family.pfns).nr.tolist() == [1]


def test_an_entry_is_read_again_once_its_lock_is_held() -> None:
    """Somebody lets go of the page while the walk waits for his page_table_lock: nothing is put where it was."""
    family = Family("6.18")
    referenced(family.rmap, family.pfns)
    other = family.tasks[1]
    entries = family.swap_entries()
    lock = family.system.machine.pte_lock(family.mm(1), family.address)

    def listen(point: Point) -> None:
        if (point.name, point.of) == ("page_table_lock", lock.of) and "anon_vma_rwsem" in point.held:
            other.madvise(family.address, PAGE_SIZE, MADV_DONTNEED)

    family.system.watch(listen)
    done = unmap(family.rmap, family.pfns, entries, family.replacing)
    family.system.watch(None)
    assert (done.outcome.tolist(), done.replaced.tolist()) == ([Outcome.SUCCESS], [2])
    assert [bool(family.entry(who)) for who in range(3)] == [True, False, True]
    family.system.machine.frames.count[family.pfns] -= 1
    family.system.check()


def test_a_chain_of_one_turns_direct_again() -> None:
    """E.1, side effect: in 2.6.2 page_referenced frees the block."""
    family = Family("2.6.2")
    (cache,) = family.k.design.caches()
    for task in family.tasks[1:]:
        task.exit()
    assert cache.nr_objects == 1
    assert referenced(family.rmap, family.pfns).nr.tolist() == [1]
    assert cache.nr_objects == 0
    assert [m.address for m in family.rmap.walk(int(family.pfns[0]))] == [family.address]
    family.system.check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_mapping_of_nothing(kernel: str) -> None:
    """Unmap with 0 discards: the pages are gone, and read as zeros."""
    family = Family(kernel, nr=2)
    for _ in range(2):
        referenced(family.rmap, family.pfns)
    frames = family.system.machine.frames
    frames.count[family.pfns] += 1
    done = unmap(family.rmap, family.pfns, np.zeros(2, np.int64))
    assert done.replaced.tolist() == [3, 3]
    family.system.machine.allocator.free(family.pfns)
    assert family.entry(0) == 0
    family.system.check()


def test_a_caller_without_a_reference() -> None:
    family = Family("2.6.5-rc1-aa1")
    family.make_old()
    with pytest.raises(rmaplab.KernelBug, match="no reference of his own"):
        unmap(family.rmap, family.pfns, np.zeros(1, np.int64))


@pytest.mark.parametrize("kernel", ["2.6.2", "6.18"])
def test_mkclean(kernel: str) -> None:
    """Who shares a file's page may not write to it unnoticed any more; a private mapping is none of its business."""
    family = Family(kernel)
    pfn = int(family.pfns[0])
    frames = family.system.machine.frames
    space = family.system.kernel.page_cache.new_file(b"")
    frames.mapping[pfn], frames.flags[pfn] = space.address, 0
    frames.index[pfn] = family.vma(0).pgoff
    for who in range(3):
        space.i_mmap.link(family.vma(who))
        family.put(who, family.entry(who) | RW | DIRTY)
    family.vma(0).flags |= VM_SHARED
    family.vma(2).flags |= VM_SHARED
    assert mkclean(family.rmap, family.pfns).tolist() == [2]
    assert [bool(family.entry(who) & (RW | DIRTY)) for who in range(3)] == [False, True, False]
    assert mkclean(family.rmap, family.pfns).tolist() == [0]
