"""What reclaim and write-out ask of the reverse map, for batches of pages: find, referenced, unmap, mkclean. Written once, for every design.

    pfns --> walk(pfn): a place --> its page_table_lock --> the entry, read again --> what is done to it
                 |                        |
                 the design's order       tried or waited for: the era's rules (walk_rules.py);
                                          tried, if the design's own locks are taken under it

What a place costs is charged by the walk. Finding the VMA of one is charged here, as `find_vma`, to every design whose walk does not come
by VMAs. Whoever cannot be found, because the design cannot find him, is not found here either: then a page stays mapped, and says so.

Nothing sleeps or allocates where the era only tries its locks; so unmap() may be called by a reclaim hook, whatever the caller of the
allocator is in the middle of. The bit lock of a page is taken here, once per query; Linux's shrink_list takes it once for both.

In 2.4 nobody asks so: what its swap_out does to the entries it meets is done to those that a search finds.

Sources: 2.6.2 mm/rmap.c; the -aa tree's mm/objrmap.c; mm/rmap.c of 2.6.7, 2.6.34, 3.19 and 6.18: page_referenced, try_to_unmap,
page_mkclean (since 2.6.19); reclaim.md E.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple, Self

import numpy as np

from rmaplab.errors import KernelBug, Oops
from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.batch import Batch
from rmaplab.machine.entries import ACCESSED, DIRTY, RW
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, PG_DIRTY, PG_REFERENCED, PG_SWAPCACHE
from rmaplab.machine.locks import Lock
from rmaplab.objects.flags import VM_LOCKED, VM_NONLINEAR, VM_RESERVED, VM_SHARED
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap import at_once
from rmaplab.rmap.nonlinear import unmap_clusters, unmap_old
from rmaplab.rmap.objrmap import Turn, passed_over
from rmaplab.rmap.pages import Rmap
from rmaplab.rmap.protocol import Mapping
from rmaplab.rmap.walk_rules import IfLocked, IfReserved, IfYoung, LockWay, Nonlinear, PgReferenced, Unowned


class Mappings(NamedTuple):
    """Who maps pages, a row per entry: which of the pages it was, its VMA (None if there is none), address, and entry (physical address)."""

    row: I64
    vma: list[VmArea | None]
    address: I64
    pte: I64


class Referenced(NamedTuple):
    """By page: how many references were found; whether a VMA with VM_LOCKED ended the walk; whether its list was busy, and not walked."""

    nr: I64
    vm_locked: Bools
    contended: Bools


class Outcome(IntEnum):
    """Of try_to_unmap for a page: nobody maps it any more; somebody could not be reached just now; somebody will not let it go; mlocked."""

    SUCCESS = 0
    AGAIN = 1
    FAIL = 2
    MLOCK = 3


class Unmapped(NamedTuple):
    """By page: the outcome, and how many entries were replaced. What is done stays done, whatever the outcome."""

    outcome: I64
    replaced: I64


def find(rmap: Rmap, pfns: I64) -> Mappings:
    """Everybody who maps `pfns`, in the order of the pages and of the walks. Takes no locks."""
    places = [
        (row, mapping, _vma_of(rmap, mapping)) for row, pfn in enumerate(pfns.tolist()) for mapping in rmap.walk(pfn)
    ]
    columns = [(row, mapping.address, _entry_of(rmap, int(pfns[row]), mapping)) for row, mapping, _ in places]
    rows, addresses, ptes = np.array(columns, np.int64).reshape(-1, 3).T
    return Mappings(rows, [vma for _, _, vma in places], addresses, ptes)


def referenced(rmap: Rmap, pfns: I64) -> Referenced:
    """page_referenced: how many have used each page since this was asked last. What was young is old afterwards."""
    nr, vm_locked, contended = np.zeros(pfns.size, np.int64), *np.zeros((2, pfns.size), np.bool_)
    done = at_once.referenced(rmap, pfns, nr)
    for row in np.flatnonzero(~done).tolist():
        pfn = int(pfns[row])
        by_file = rmap.walked_by_file(pfn) is not None
        owner = rmap.walks.referenced_file if by_file else rmap.walks.referenced_owner
        tables = rmap.walks.referenced_file_tables if by_file else rmap.walks.referenced_tables
        if rmap.walks.unowned is not Unowned.IGNORED and pfn in rmap.unowned:
            raise Oops("page_referenced", f"page {pfn} has no mapping")
        with _PageWalk(rmap, pfn, owner, tables) as walk:
            contended[row] = walk.contended
            nr[row], vm_locked[row] = _referenced(rmap, walk)
            if by_file:
                nr[row] += rmap.walks.referenced_busy * (walk.nr_busy + walk.contended)
            rmap.design.asked(pfn)
    return Referenced(nr, vm_locked, contended)


def unmap(rmap: Rmap, pfns: I64, entries: I64, replacing: Callable[[I64], None] | None = None) -> Unmapped:
    """try_to_unmap: put entries[i] (0: nothing) wherever pfns[i] is mapped. Dirty bits go to the pages, references and rss down.

    The caller has locked the pages and refers to each himself. `replacing` is told of entries before they are put, each as often as it is: swap_duplicate.
    """
    outcome, replaced = np.zeros((2, pfns.size), np.int64)
    late: dict[MmStruct, None] = {}
    done = at_once.unmap(rmap, pfns, entries, replacing, replaced)
    outcome[done & (rmap.frames.mapcount[pfns] > 0)] = Outcome.AGAIN
    for row in np.flatnonzero(~done).tolist():
        pfn, entry = int(pfns[row]), int(entries[row])
        by_file = rmap.walked_by_file(pfn) is not None
        with _PageWalk(
            rmap, pfn, rmap.walks.unmap_file if by_file else LockWay.WAITED, rmap.walks.unmap_tables
        ) as walk:
            try:
                stopped = _unmap(rmap, walk, entry, replacing, late)
            except _Locked:
                stopped = Outcome.FAIL
            if stopped is None and rmap.walks.nonlinear is Nonlinear.CLUSTERS:
                walk.clusters()
            replaced[row] = walk.nr
        outcome[row] = (stopped or Outcome.AGAIN) if rmap.is_mapped(pfn) else Outcome.SUCCESS
    for mm in late:
        rmap.machine.tlb.flush_mm(mm)
    return Unmapped(outcome, replaced)


def mkclean(rmap: Rmap, pfns: I64) -> I64:
    """page_mkclean: shared mappings of a file's pages become read-only and clean, so that the next write is noticed. By page: how many were."""
    machine, cleaned = rmap.machine, np.zeros(pfns.size, np.int64)
    for row, pfn in enumerate(pfns.tolist()):
        with _PageWalk(rmap, pfn, LockWay.WAITED, LockWay.WAITED) as walk:
            for place in walk.places():
                entry = walk.entry(place)
                if (vma := _vma_of(rmap, place)) is not None and vma.flags & VM_SHARED and entry & (DIRTY | RW):
                    walk.put(place, entry & ~(DIRTY | RW))
                    machine.tlb.flush_page(place.mm)
                    cleaned[row] += 1
    return cleaned


# -- one page ----------------------------------------------------------------------------------------------------------


class _Locked(Exception):
    """A nonlinear VMA is locked: SWAP_FAIL."""


class _PageWalk:
    """A walk from one page: its bit lock and that of the list are held, and each place is handed out with its page_table_lock as asked."""

    def __init__(self, rmap: Rmap, pfn: int, owner: LockWay, tables: LockWay) -> None:
        self.rmap, self.pfn = rmap, pfn
        self.contended = self._is_gone = False
        self.nr_busy = self.nr = 0
        self.young = False
        self._file = rmap.walked_by_file(pfn)
        tries = self._file is not None and rmap.design.page_lock is not None  # that is taken under the file's lock
        self._owner = LockWay.TRIED if tries else owner
        self._tables = LockWay.TRIED if tables is LockWay.WAITED and rmap.design.lock_classes else tables
        self._lock: Lock | None = None
        self._words, self._bytes = rmap.machine.words, rmap.machine.paging.entry_bytes
        self.one = Batch(1, self._bytes)
        self.one.hold_one(pfn, 0, 0, 0)
        self.disowned: list[I64] = []

    def __enter__(self) -> Self:
        self.rmap.enter_bits(self.one)
        design, locks = self.rmap.design, self.rmap.machine.locks
        if design.page_lock is not None:
            self.rmap.walk_locks[design.page_lock] += 1
        if self._file is not None:
            self.contended = not _take(self.rmap, self._file.lock, self._owner, write=not self.rmap.file_lock_is_shared)
            self._lock = None if self.contended else self._file.lock
            return self
        lock = design.owner_lock(self.pfn)
        if lock is not None and self._owner is not LockWay.LEFT:
            if (
                design.page_lock is None
            ):  # page->mapping is read with no lock: the owner may be another, or none, by the time it is locked
                locks.reach("page->mapping", f"page {self.pfn}")
            self.contended = not _take(self.rmap, lock, self._owner, write=not lock.type.sleeps)
            if not self.contended and design.owner_lock(self.pfn) is not lock:
                locks.drop(lock)
                self._is_gone = True
            elif not self.contended:
                self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self.rmap.machine.locks.drop(self._lock)
        self.rmap.leave_bits(self.one)
        for owners in self.disowned:
            self.rmap.design.disowned(owners)

    def places(self, nonlinear: Turn = passed_over) -> Iterator[Mapping]:
        """Where the page is mapped; whose page_table_lock is busy is left out. Whoever waited for one has read the entry again."""
        if self.contended or self._is_gone:
            return
        rmap, locks = self.rmap, self.rmap.machine.locks
        left = int(rmap.frames.mapcount[self.pfn])
        for mapping in rmap.walk_with(self.pfn, nonlinear):
            lock = rmap.machine.pte_lock(mapping.mm, mapping.address)
            if self._tables is not LockWay.LEFT and not _take(rmap, lock, self._tables):
                self.nr_busy += 1
                continue
            try:
                pte = _entry_of(rmap, self.pfn, mapping)
                if pte >= 0:
                    left -= 1
                    yield mapping._replace(pte=pte)
            finally:
                if self._tables is not LockWay.LEFT:
                    locks.drop(lock)
            if rmap.walks.walk_stops and left <= 0:
                return

    def whole(self, vma: VmArea) -> Iterator[Mapping]:
        """try_to_unmap_nonlinear, unless a young entry has been seen. Nothing is left to be found. Raises _Locked."""
        locks = self.rmap.machine.locks
        if not self.rmap.is_mapped(self.pfn):
            return iter(())
        if vma.flags & VM_LOCKED:
            raise _Locked
        self.rmap.machine.ledger.visit("vma_visit")
        if not self.young and locks.try_take(vma.mm.page_table_lock):
            self._without_bit(lambda: unmap_old(self.rmap, vma, vma.start, vma.end))
            locks.drop(vma.mm.page_table_lock)
        return iter(())

    def _without_bit(self, unmaps: Callable[[], object]) -> None:
        """The page's bit lock is free meanwhile."""
        before = int(self.rmap.frames.mapcount[self.pfn])
        self.rmap.leave_bits(self.one)
        unmaps()
        self.rmap.enter_bits(self.one)
        self.nr += before - int(self.rmap.frames.mapcount[self.pfn])

    def clusters(self) -> None:
        """try_to_unmap_cluster, of the nonlinear VMAs of the page's file."""
        file, goal = self._file, int(self.rmap.frames.mapcount[self.pfn])
        if file is not None and goal and not self.contended:
            self._without_bit(lambda: unmap_clusters(self.rmap, file, goal))

    def entry(self, place: Mapping) -> int:
        """What is there."""
        return int(self._words[place.pte // self._bytes])

    def put(self, place: Mapping, entry: int) -> None:
        """What is to be there."""
        self.rmap.machine.set_entry(place.pte, entry)

    def forget(self, place: Mapping, entry: int) -> None:
        """page_remove_rmap: `entry`, which was there, is gone."""
        self.one.hold_one(self.pfn, place.pte, place.address, entry)
        self.nr += 1
        owners = self.rmap.forget(self.one)
        if owners.size:
            self.disowned.append(owners.copy())


def _take(rmap: Rmap, lock: Lock, way: LockWay, *, write: bool = True) -> bool:
    """Whether it is held now. Who acts at a point of somebody else (Locks.reach) tries in any case."""
    if way is LockWay.TRIED or rmap.machine.locks.acting:
        taken = rmap.machine.locks.try_take(lock, write=write)
        rmap.walk_locks[lock.type.name] += taken
        return taken
    rmap.machine.locks.take(lock, write=write)
    rmap.walk_locks[lock.type.name] += 1
    return True


def _vma_of(rmap: Rmap, mapping: Mapping) -> VmArea | None:
    """The VMA of a place, if the walk has not come by it."""
    if mapping.vma is not None:
        return mapping.vma
    rmap.machine.charge("find_vma")
    vma = mapping.mm.find_vma(mapping.address)
    return vma if vma is not None and vma.start <= mapping.address else None


def _entry_of(rmap: Rmap, pfn: int, mapping: Mapping) -> int:
    """The entry of a place, read again; looked for if the walk has not come by it. -1: it does not map the page any more."""
    if mapping.pte < 0:
        rmap.machine.charge("table_walk")
    return rmap.machine.entry_of(mapping.mm.pgd, mapping.address, pfn)


def _referenced(rmap: Rmap, walk: _PageWalk) -> tuple[int, bool]:
    """(References, whether a VMA with VM_LOCKED ended it)."""
    rules, flags, pfn = rmap.walks, rmap.frames.flags, walk.pfn
    nr = 0
    counts_flag = rules.referenced_flag is PgReferenced.ALWAYS or rmap.is_mapped(pfn)
    if rules.referenced_flag is not PgReferenced.LEFT and counts_flag and flags[pfn] & PG_REFERENCED:
        flags[pfn] &= ~np.uint32(PG_REFERENCED)
        nr = 1
    for place in walk.places():
        if rules.referenced_locked is not IfLocked.IGNORED and (vma := _vma_of(rmap, place)) is not None:
            if vma.flags & VM_LOCKED and rules.referenced_locked is IfLocked.STOPS:
                return nr, True
            if vma.flags & VM_LOCKED and vma.flags & VM_SHARED and rmap.file_of(pfn) is not None:
                return nr + 1, False
        entry = walk.entry(place)
        if entry & ACCESSED:
            walk.put(place, entry & ~ACCESSED)
            nr += 1
            if rules.referenced_flushes:
                rmap.machine.tlb.flush_page(place.mm)
    return nr, False


def _file_entry(rmap: Rmap, place: Mapping, pfn: int) -> int:
    """What stays where a page of a file was that is not at its linear place: its page offset. Else nothing."""
    vma, index = place.vma or place.mm.find_vma(place.address), int(rmap.frames.index[pfn])
    if vma is None or not vma.flags & VM_NONLINEAR or rmap.file_of(pfn) is None or vma.index_of(place.address) == index:
        return 0
    return rmap.machine.encoding.file_entry(index)


def _unmap(
    rmap: Rmap, walk: _PageWalk, entry: int, replacing: Callable[[I64], None] | None, late: dict[MmStruct, None]
) -> Outcome | None:
    """What has ended it. `late` gets whose TLBs are to be flushed at the end. Raises _Locked."""
    rules, machine, frames, pfn = rmap.walks, rmap.machine, rmap.frames, walk.pfn
    in_cache = bool(frames.flags[pfn] & PG_SWAPCACHE)
    for place in walk.places(walk.whole if rules.nonlinear is Nonlinear.WHOLE else passed_over):
        vma, old, mm = _vma_of(rmap, place), walk.entry(place), place.mm
        if vma is not None and vma.flags & VM_RESERVED and rules.unmap_reserved is not IfReserved.IGNORED:
            if rules.unmap_reserved is IfReserved.IS_A_BUG:
                raise Oops("try_to_unmap_one", f"page {pfn} is found in {vma}, which has VM_RESERVED")
            if rules.unmap_reserved is IfReserved.FAILS:
                return Outcome.FAIL
            continue
        if vma is None or vma.flags & VM_LOCKED:
            if vma is None or not rules.unmap_locked_mlocks:
                return Outcome.FAIL
            if machine.locks.try_take(mm.mmap_sem, write=False):
                machine.locks.drop(mm.mmap_sem)
                return Outcome.MLOCK
            continue
        if rules.unmap_young is not IfYoung.TAKEN and old & ACCESSED:
            walk.put(place, old & ~ACCESSED)
            if rules.unmap_young is IfYoung.FAILS:
                machine.tlb.flush_page(mm)
                return Outcome.FAIL
            walk.young = True
        if walk.young:
            continue
        if rules.unmap_counts_holders and in_cache and frames.count[pfn] != frames.mapcount[pfn] + 2:
            return Outcome.FAIL
        if replacing is not None:
            replacing(np.array((entry,), np.int64))
        walk.put(place, entry or _file_entry(rmap, place, pfn))
        if rules.unmap_flushes_late:
            late[mm] = None
        else:
            machine.tlb.flush_page(mm)
        frames.flags[pfn] |= np.uint32(PG_DIRTY if old & DIRTY else 0)
        frames.flags[pfn] &= ~np.uint32(PG_ANON_EXCLUSIVE)
        walk.forget(place, old)
        frames.count[pfn] -= 1
        if not frames.count[pfn]:
            raise KernelBug("try_to_unmap", f"page {pfn} is unmapped, and its caller has no reference of his own")
        mm.rss -= 1
        machine.charge("pte_unmap")
        if not rmap.is_mapped(pfn):  # the rest of a list is left alone
            break
    return None
