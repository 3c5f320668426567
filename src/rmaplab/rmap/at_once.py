"""page_referenced and try_to_unmap of many pages in a few calls: the same answers, changes and counts as page by page (queries.py), where nothing is unusual.

    pfns of one owner    [7  8  9  12  40]
    the design's sites   row 0: entry | row 1: entry | row 2: two entries ...      as its walks would find them, and charged as that
                              |
          no VMA is locked, reserved or nonlinear, no lock is busy, nobody watches   -->   all these entries in one loop
          else: the page is left to queries.py, and nothing has been done to it

Reclaim asks of thousands of pages, nearly all of which are anonymous, in plain VMAs, with free locks. What they take in Linux is counted all the same:
every visit, every lock, every flush. Only how long each lock was held is not: nobody can come in between. And pages go owner by owner, so that an mm which
loses its last page may be empty for other walks of anonmm than page by page.

What a walk may meet on kernels after 2.6.7, locked VMAs that end it and late flushes, is left to queries.py altogether.

Source: as queries.py.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, U32, Bools, Words
from rmaplab.machine.batch import ADDRESS, ENTRY, LENGTH, PFN, PTE, Batch
from rmaplab.machine.entries import ACCESSED, DIRTY
from rmaplab.machine.frames import PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_REFERENCED, PG_SWAPCACHE
from rmaplab.machine.jit import kernel
from rmaplab.machine.locks import Lock
from rmaplab.objects.flags import VM_LOCKED, VM_NONLINEAR, VM_RESERVED
from rmaplab.rmap.pages import Rmap
from rmaplab.rmap.protocol import ReverseMap, Sites
from rmaplab.rmap.walk_rules import IfLocked, IfYoung, LockWay, Nonlinear, PgReferenced

FEW = 2
"""Fewer pages are asked of one by one."""
MOST = 1 << 16
"""Entries at a time: a list of pages, each in hundreds of processes, has tens of millions."""
UNUSUAL = VM_LOCKED | VM_RESERVED | VM_NONLINEAR


class Met(NamedTuple):
    """Pages of one owner: which of those that were asked of, and where they are mapped. `sites.row` counts from the first of them."""

    rows: I64
    sites: Sites
    lock: Lock | None


def referenced(rmap: Rmap, pfns: I64, nr: I64) -> Bools:
    """Which pages were asked of here, and `nr` says how many references each has. Nothing is done to the others. O(entries met)."""
    done = np.zeros(pfns.size, np.bool_)
    rules, machine = rmap.walks, rmap.machine
    locked = IfLocked.FILE_COUNTS if rmap.design.covers_files else IfLocked.STOPS  # from this on VMAs are looked at
    if rules.referenced_locked >= locked or rules.referenced_flushes or not _may(rmap, pfns):
        return done
    idle = _unmapped(rmap, pfns)
    _count_locks(rmap, idle.size)
    done[idle] = True
    for met in _by_owner(rmap, pfns, rules.referenced_owner, rules.referenced_tables, stops=rules.walk_stops):
        young = np.zeros(met.rows.size, np.int64)
        _make_old(machine.words, machine.paging.entry_bytes, met.sites.row, met.sites.pte, young)
        nr[met.rows] = young
        done[met.rows] = True
        _charge(rmap, met, rules.referenced_tables)
        rmap.design.asked_of(pfns[met.rows])
    rows = np.flatnonzero(done)
    if rules.referenced_flag is PgReferenced.IF_MAPPED:
        rows = rows[rmap.frames.mapcount[pfns[rows]] > 0]
    if rules.referenced_flag is not PgReferenced.LEFT:
        flags = rmap.frames.flags
        nr[rows] += flags[pfns[rows]] & PG_REFERENCED != 0
        flags[pfns[rows]] &= ~np.uint32(PG_REFERENCED)
    return done


def unmap(rmap: Rmap, pfns: I64, entries: I64, replacing: Callable[[I64], None] | None, replaced: I64) -> Bools:
    """Which pages were unmapped here, but from whose page_table_lock is busy; `replaced` says how many entries of each. Nothing is done to the others. O(entries met)."""
    done = np.zeros(pfns.size, np.bool_)
    rules, machine, frames = rmap.walks, rmap.machine, rmap.frames
    if rules.unmap_flushes_late or rules.nonlinear is Nonlinear.WHOLE or not _may(rmap, pfns):
        return done
    for some in _by_owner(rmap, pfns, LockWay.WAITED, rules.unmap_tables, stops=True):
        met = _plain_ones(rmap, pfns, some)
        if met is None:
            continue
        sites, mine = met.sites, pfns[met.rows]
        nr = np.bincount(sites.row, minlength=mine.size)
        _charge(rmap, met, rules.unmap_tables)
        if sites.owners[0][1] is None:  # the walk has not come by VMAs
            machine.charge("find_vma", sites.row.size)
        if replacing is not None:
            replacing(entries[met.rows[sites.row]])
        batch = Batch(sites.row.size, machine.paging.entry_bytes)
        batch.runs = batch.nr = sites.row.size
        columns = batch.columns
        columns[PFN], columns[PTE], columns[ADDRESS] = mine[sites.row], sites.pte, sites.address
        columns[LENGTH], columns[ENTRY] = 1, entries[met.rows[sites.row]]
        lost = _replace(machine.words, machine.paging.entry_bytes, columns, frames.flags, frames.count)
        if lost >= 0:
            raise KernelBug("try_to_unmap", f"page {lost} is unmapped, and its caller has no reference of his own")
        for owner, taken in enumerate(np.bincount(sites.owner, minlength=len(sites.owners)).tolist()):
            if taken:
                mm = sites.owners[owner][0]
                machine.tlb.flush_page(mm, taken)
                mm.rss -= taken
        left = rmap.forget(batch)
        machine.charge("pte_unmap", batch.nr)
        if left.size:
            rmap.design.disowned(left)
        replaced[met.rows] = nr
        done[met.rows] = True
    return done


# -- which pages, and where --------------------------------------------------------------------------------------------


def _may(rmap: Rmap, pfns: I64) -> bool:
    """Whether anything can be asked at once: nobody watches, or hears of each visit."""
    locks = rmap.machine.locks
    free = locks.listener is None and not locks.acting and not locks.bits_held and rmap.machine.ledger.told is None
    free &= not rmap.machine.locks_tables
    return pfns.size >= FEW and free and _answers(type(rmap.design))


@cache
def _answers(design: type[ReverseMap]) -> bool:
    """Whether its `sites` speak of the `walk` that it has: a class that changes one and not the other is asked page by page."""
    has = [next(each for each in design.__mro__ if name in vars(each)) for name in ("walk", "sites")]
    return has[1] is not ReverseMap and issubclass(has[1], has[0])


def _unmapped(rmap: Rmap, pfns: I64) -> I64:
    """Rows of pages that nobody maps, and whose file need not be asked either: there is nothing to walk."""
    frames = rmap.frames
    idle = frames.mapcount[pfns] == 0
    if not rmap.design.covers_files:
        idle &= frames.mapping[pfns] == 0
    return np.flatnonzero(idle)


def _by_owner(rmap: Rmap, pfns: I64, way: LockWay, tables: LockWay, *, stops: bool) -> Iterator[Met]:
    """Mapped pages that the design finds, owner by owner. Those whose owner's lock is busy are left out, and where a page_table_lock must be waited for."""
    design, frames = rmap.design, rmap.frames
    rows = np.flatnonzero(frames.mapcount[pfns])
    if not design.covers_files:
        rows = rows[frames.flags[pfns[rows]] & PG_ANON != 0]
    owners = frames.mapping[pfns[rows]] if design.names_owners and not design.covers_files else np.zeros(rows.size)
    while rows.size:
        same = owners == owners[0]
        same &= np.cumsum(np.where(same, frames.mapcount[pfns[rows]], 0)) <= max(MOST, frames.mapcount[pfns[rows[0]]])
        mine, rows, owners = rows[same], rows[~same], owners[~same]
        lock = design.owner_lock(int(pfns[mine[0]])) if way is not LockWay.LEFT else None
        if lock is None or not lock.busy(write=not lock.type.sleeps):
            tries = tables is not LockWay.LEFT
            sites = design.sites(pfns[mine], stops=stops, tries=tries)
            if sites is not None and not (sites.nr_busy and tables is LockWay.WAITED and not design.lock_classes):
                yield Met(mine, sites, lock)


def _plain_ones(rmap: Rmap, pfns: I64, met: Met) -> Met | None:
    """Those pages of which try_to_unmap would take all these entries, with nothing that ends the walk."""
    mine, sites = pfns[met.rows], met.sites
    frames, rules = rmap.frames, rmap.walks
    plain = np.ones(mine.size, np.bool_)
    if rules.unmap_counts_holders:
        plain &= (frames.flags[mine] & PG_SWAPCACHE == 0) | (frames.count[mine] == frames.mapcount[mine] + 2)
    if rules.unmap_young is not IfYoung.TAKEN:
        young = rmap.machine.words[sites.pte // rmap.machine.paging.entry_bytes] & ACCESSED != 0
        plain[sites.row[young]] = False
    for owner in np.unique(sites.owner).tolist():
        if not _is_plain_at(sites, owner):
            plain[sites.row[sites.owner == owner]] = False
    if plain.all():
        return met
    rows = met.rows[plain]
    left = (
        rmap.design.sites(pfns[rows], stops=True, tries=rules.unmap_tables is not LockWay.LEFT) if rows.size else None
    )
    return None if left is None else Met(rows, left, met.lock)


def _is_plain_at(sites: Sites, owner: int) -> bool:
    """Whether there is nothing special about the VMAs in which one of the owners maps pages."""
    mm, vma = sites.owners[owner]
    if vma is not None:
        return not vma.flags & UNUSUAL
    addresses = sites.address[sites.owner == owner]
    while addresses.size:
        vma = mm.find_vma(int(addresses[0]))
        if vma is None or vma.start > addresses[0] or vma.flags & UNUSUAL:
            return False
        addresses = addresses[(addresses < vma.start) | (addresses >= vma.end)]
    return True


# -- what it costs -----------------------------------------------------------------------------------------------------


def _charge(rmap: Rmap, met: Met, tables: LockWay) -> None:
    """The walks, and the locks that are taken for them."""
    _count_locks(rmap, met.rows.size)
    locks, ledger = rmap.machine.locks, rmap.machine.ledger
    for operation, nr in met.sites.visits.items():
        ledger.visit(operation, nr)
    for reason, nr in met.sites.in_vain.items():
        ledger.waste(reason, nr)
    ledger.charge("table_walk", met.sites.table_walks)
    if met.lock is not None:
        locks.count(met.lock.type.name, met.rows.size, write=not met.lock.type.sleeps)
        rmap.walk_locks[met.lock.type.name] += met.rows.size
    if tables is not LockWay.LEFT:
        locks.count("page_table_lock", met.sites.row.size)
        rmap.walk_locks["page_table_lock"] += met.sites.row.size
        locks.classes["page_table_lock"].trylock_failures += met.sites.nr_busy


def _count_locks(rmap: Rmap, nr: int) -> None:
    """The bit lock of each page."""
    if rmap.design.page_lock is not None and nr:
        rmap.machine.locks.count(rmap.design.page_lock, nr)
        rmap.walk_locks[rmap.design.page_lock] += nr


# -- the loops ---------------------------------------------------------------------------------------------------------


@kernel
def _make_old(words: Words, entry_bytes: int, row: I64, pte: I64, young: I64) -> None:
    """ptep_test_and_clear_young of each entry; `young` counts those of each page that were."""
    for i in range(row.size):
        at = pte[i] // entry_bytes
        entry = np.int64(words[at])
        if entry & ACCESSED:
            words[at] = entry & ~np.int64(ACCESSED)
            young[row[i]] += 1


@kernel
def _replace(words: Words, entry_bytes: int, pages: I64, flags: U32, count: I32) -> int:
    """Put the entries of a batch, and make them what was there; dirty bits go to the pages, a reference of each goes. A page whose last one that was, or -1."""
    lost = -1
    for i in range(pages.shape[1]):
        at, pfn = pages[PTE, i] // entry_bytes, np.uint64(pages[PFN, i])
        old = np.int64(words[at])
        words[at] = pages[ENTRY, i]
        pages[ENTRY, i] = old
        if old & DIRTY:
            flags[pfn] |= np.uint32(PG_DIRTY)
        flags[pfn] &= ~np.uint32(PG_ANON_EXCLUSIVE)
        count[pfn] -= 1
        if count[pfn] == 0:
            lost = pages[PFN, i]
    return lost
