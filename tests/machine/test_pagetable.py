"""Page tables against a dictionary: {address: (PFN, flags)}, kept page by page by the rules of fault.py and fork.py.

    model   {0x3ff000: (1048571, RW)}                      what a person would write down
    MMU     pgd[0] -> leaf[1023] = 0xffffb067              what the bytes in RAM say, walked as the manual says

An entry that maps no page (a swap entry) has only its bits. Every step is done by the kernels and by the model, and then the whole tree is
read from RAM, by a reader that shares nothing with the kernels. RAM is the largest the format can name (4 GiB, or 64 GiB for x86-64) and frames are taken from its top, so
entries use all their bits. Ranges lie across the ends of leaf tables, middle tables and top entries.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.machine import pagetable, pagetable_edit, pagetable_fault
from rmaplab.machine.arrays import I32, I64
from rmaplab.machine.batch import Batch
from rmaplab.machine.entries import ACCESSED, DIRTY, ENCODINGS, PRESENT, RW, USER, EntryEra, EntryKind
from rmaplab.machine.frames import ZERO_PFN, put_runs
from rmaplab.machine.paging import FORMATS, Paging
from rmaplab.machine.ram import Ram
from rmaplab.units import PAGE_SIZE

Row = tuple[int, int, int]  # PFN, physical address of the entry, virtual address
READ_ONLY = PRESENT | USER
PROTNONE = 0x80  # of 2.6.2
GUARD = -7  # what batches hold where nothing was written
formats = pytest.mark.parametrize("paging", FORMATS.values(), ids=FORMATS)


@dataclass
class Tree:
    """What RAM says under one pgd: entries by address, as (entry, its physical address); tables by (level, first address)."""

    entries: dict[int, tuple[int, int]] = field(default_factory=dict)
    tables: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass
class Space:
    """One address space: its top table, and the model of what it maps."""

    pgd: int
    model: dict[int, tuple[int, int]] = field(default_factory=dict)
    others: dict[int, int] = field(default_factory=dict)
    """Swap entries by address."""

    def all_in(self, start: int, end: int) -> list[int]:
        """Where there is an entry of any kind."""
        return [a for a in sorted(self.model.keys() | self.others.keys()) if start <= a < end]


class Box:
    """RAM, references, frames to take, and address spaces."""

    def __init__(self, paging: Paging) -> None:
        self.paging = paging
        self.encoding = ENCODINGS[EntryEra.LINUX_2_6][paging.name]
        self.mapped = self.encoding.mapped
        self.ram = Ram(1 << (24 if paging.levels == 4 else 20))
        self.count: I32 = np.zeros(self.ram.nr_frames, np.int32)
        self.geometry = (self.ram.words(paging.entry_bytes), paging.levels, paging.bits)
        self.limit = min(1 << (12 + paging.bits * paging.levels), 1 << (32 if paging.levels < 4 else 40))
        self.next_frame = self.ram.nr_frames
        self.tables_ever: set[int] = set()
        self.spaces = [self.new_space()]

    def take(self, nr: int) -> I64:
        """`nr` frames that nobody has, from the top of RAM."""
        self.next_frame -= nr
        return np.arange(self.next_frame, self.next_frame + nr, dtype=np.int64)[::-1]

    def new_space(self) -> Space:
        """An empty one. A PAE pgd is 32 bytes somewhere in a frame."""
        frame = int(self.take(1)[0])
        self.tables_ever.add(frame)
        return Space(frame * PAGE_SIZE + (96 if self.paging.pgd_bytes == 32 else 0))

    def tree(self, space: Space) -> Tree:
        """The MMU by the manual: split the address into indexes, follow the entries, stop at what is not present."""
        found = Tree()
        entry_bytes, levels = self.paging.entry_bytes, self.paging.levels

        def descend(physical: int, nr_bytes: int, level: int, base: int) -> None:
            frame, offset = divmod(physical, PAGE_SIZE)
            entries = self.ram.bytes[frame, offset : offset + nr_bytes].view(f"<u{entry_bytes}")
            span = PAGE_SIZE << (self.paging.bits * level)
            for i in np.flatnonzero(entries).tolist():
                entry, address = int(entries[i]), base + i * span
                assert level == 0 or entry & PRESENT
                if level == 0:
                    found.entries[address] = (entry, physical + i * entry_bytes)
                else:
                    assert entry & (RW | USER) == RW | USER, "upper levels leave the decision to the leaf"
                    found.tables[level - 1, address] = entry >> 12
                    descend(entry >> 12 << 12, PAGE_SIZE, level - 1, address)

        descend(space.pgd, self.paging.pgd_bytes, levels - 1, 0)
        self.tables_ever.update(found.tables.values())
        return found

    def agrees(self, space: Space) -> Tree:
        """RAM says what the model says, no table hangs twice, and the references are those of all models."""
        tree = self.tree(space)
        pages = {a: (e >> 12, e & 0xFFF) for a, (e, _) in tree.entries.items() if e & (PRESENT | PROTNONE)}
        assert pages == space.model
        assert {a: e for a, (e, _) in tree.entries.items() if a not in pages} == space.others
        assert len(set(tree.tables.values())) == len(tree.tables)
        references = Counter(pfn for s in self.spaces for pfn, _ in s.model.values() if pfn != ZERO_PFN)
        taken = self.count[self.next_frame :]
        assert references == {self.next_frame + i: int(taken[i]) for i in np.flatnonzero(taken).tolist()}
        assert self.count[ZERO_PFN] == 0, "the zero page is nobody's"
        return tree

    def rows(self, tree: Tree, addresses: list[int]) -> list[Row]:
        """The batch that tells of these pages, by the tree."""
        return [(tree.entries[a][0] >> 12, tree.entries[a][1], a) for a in addresses]

    def tables_needed(self, addresses: range | list[int]) -> set[tuple[int, int]]:
        """The tables on the way to these pages, as Tree.tables names them."""
        spans = [PAGE_SIZE << (self.paging.bits * level) for level in range(1, self.paging.levels)]
        return {(level, a // span * span) for a in addresses for level, span in enumerate(spans)}


def batch_for(box: Box, nr: int) -> Batch:
    batch = Batch(nr + 1, box.paging.entry_bytes, [])
    batch.columns[:] = batch.others[:] = GUARD
    return batch


def rows_in(batch: Batch, runs: int, nr: int) -> list[Row]:
    """What its runs say, page by page; nothing was written behind them, and no run could have been longer."""
    assert (batch.columns[:, runs:] == GUARD).all()
    assert (batch.columns[3, :runs] > 0).all()
    batch.runs, batch.nr = runs, nr
    return list(zip(batch.pfns.tolist(), batch.ptes.tolist(), batch.addresses.tolist(), strict=True))


def others_in(batch: Batch, nr: int) -> dict[int, int]:
    """What maps no page: entries by address."""
    assert (batch.others[:, nr:] == GUARD).all()
    return dict(zip(batch.others[2, :nr].tolist(), batch.others[4, :nr].tolist(), strict=True))


def pages(start: int, end: int) -> range:
    return range(start, end, PAGE_SIZE)


# -- one step, done by the kernels and by the model ------------------------------------------------------------------


def fault(box: Box, space: Space, start: int, end: int, *, write: bool) -> None:
    """Touch every page, as handle_faults does; the model goes by the table at the top of mm/fault.py."""
    before = box.agrees(space)
    references = {pfn: int(box.count[pfn]) for pfn, _ in space.model.values()}
    mark = ACCESSED | DIRTY if write else ACCESSED
    fresh: list[int] = []
    zeroes: list[int] = []
    copies: list[int] = []
    reuses: list[int] = []
    for address in pages(start, end):
        pfn, flags = space.model.get(address, (None, 0))
        if pfn is None and not write:
            zeroes.append(address)
            space.model[address] = (ZERO_PFN, READ_ONLY | ACCESSED)
        elif pfn is None or (write and pfn == ZERO_PFN):
            fresh.append(address)
        elif write and not flags & RW:
            (reuses if references[pfn] == 1 else copies).append(address)
        else:
            space.model[address] = (pfn, flags | mark)

    geometry, count = box.geometry, box.count
    nr = (end - start) // PAGE_SIZE
    codes, shared = np.full(nr + 1, GUARD, np.int8), np.full(nr + 1, GUARD, np.int64)
    scanned = pagetable_fault.classify(*geometry, space.pgd, start, end, write, codes, shared)
    assert scanned == (len(fresh) + len(zeroes), len(copies) + len(reuses), -1)
    stuck = sorted(copies + reuses)
    assert shared[: len(stuck)].tolist() == [space.model[a][0] for a in stuck]
    missing_tables = box.tables_needed(pages(start, end)) - before.tables.keys()
    leaves = len({a // box.paging.leaf_span for a in pages(start, end)})
    missing, _ = counted = pagetable.count_tables(*geometry, space.pgd, -1, start, end)
    assert counted == (len(missing_tables), leaves)
    again = np.full_like(codes, GUARD)  # and both at once
    assert pagetable_fault.fault_scan(*geometry, space.pgd, start, end, write, again, shared) == (*scanned, missing)
    assert again.tolist() == codes.tolist()

    for wanted, code in (
        (fresh, pagetable_fault.NEW),
        (zeroes, pagetable_fault.ZERO_PAGE),
        (copies, pagetable_fault.COPY),
    ):
        codes[[(a - start) // PAGE_SIZE for a in wanted]] = code
    codes[[(a - start) // PAGE_SIZE for a in reuses]] = pagetable_fault.REUSE
    tables, new = box.take(missing + 1), box.take(len(fresh) + len(copies) + 1)
    count[new[:-1]] = 1
    added, removed, reused = batch_for(box, nr), batch_for(box, nr), batch_for(box, nr)
    lengths = pagetable_fault.install(
        *geometry, space.pgd, start, end, write, codes, tables, new, added.columns, removed.columns, reused.columns
    )
    assert lengths[1::2] == (len(fresh) + len(copies), len(copies), len(reuses))

    old = {a: space.model[a] for a in copies + reuses}
    for address, pfn in zip(sorted(fresh + copies), new.tolist(), strict=False):
        space.model[address] = (pfn, READ_ONLY | RW | mark)
    for address in reuses:
        space.model[address] = (old[address][0], old[address][1] | RW | mark)
    gone = rows_in(removed, *lengths[2:4])
    freed = np.empty(len(gone), np.int64)
    assert not put_runs(count, removed.columns, removed.runs, freed), "somebody shares what is copied"
    after = box.agrees(space)
    assert after.tables.keys() - before.tables.keys() == missing_tables
    assert set(after.tables.values()) - set(before.tables.values()) == set(tables[:missing].tolist())
    assert rows_in(added, *lengths[:2]) == box.rows(after, sorted(fresh + copies))
    assert gone == [(old[a][0], after.entries[a][1], a) for a in copies]
    assert rows_in(reused, *lengths[4:]) == box.rows(after, reuses)


def classify_other(box: Box, space: Space, address: int) -> None:
    """A swap entry stops a touch of either kind, and nothing of it changes."""
    for write in (False, True):
        codes, pfns = np.empty(1, np.int8), np.empty(1, np.int64)
        page = address, address + PAGE_SIZE
        assert pagetable.touch_range(*box.geometry, space.pgd, *page, write) == address
        assert pagetable_fault.fault_scan(*box.geometry, space.pgd, *page, write, codes, pfns) == (0, 0, 0, 0)
        assert codes[0] == pagetable_fault.OTHER
    assert box.encoding.kind(space.others[address]) is EntryKind.SWAP


def touch(box: Box, space: Space, start: int, end: int, *, write: bool) -> None:
    """What the MMU does by itself: mark entries until one does not allow the access."""
    need, mark = (PRESENT | RW, ACCESSED | DIRTY) if write else (PRESENT, ACCESSED)
    stops_at = end
    for address in pages(start, end):
        pfn, flags = space.model.get(address, (None, 0))
        if pfn is None or flags & need != need:
            stops_at = address
            break
        space.model[address] = (pfn, flags | mark)
    assert pagetable.touch_range(*box.geometry, space.pgd, start, end, write) == stops_at
    box.agrees(space)


def fork(box: Box, space: Space, start: int, end: int, *, cow: bool) -> None:
    """Copy a range into a new address space: both sides lose RW if `cow`, else the child's are clean (a shared mapping); they come old."""
    parent = box.agrees(space)
    inside = [a for a in sorted(space.model) if start <= a < end]
    child = box.new_space()
    for address in inside:
        pfn, flags = space.model[address]
        flags &= ~RW if cow else ~0
        kept = ~ACCESSED if cow else ~(ACCESSED | DIRTY)
        space.model[address], child.model[address] = (pfn, flags), (pfn, flags & kept)
    tracked = [a for a in inside if space.model[a][0] != ZERO_PFN]
    child.others = {a: entry for a, entry in space.others.items() if start <= a < end}

    # a table of the parent is copied even where it is empty, at each level: pmd_alloc and pte_alloc come before the loops
    spans = {level: box.paging.leaf_span << (box.paging.bits * level) for level, _ in parent.tables}
    levels = [level for level, base in parent.tables if base < end and base + spans[level] > start]
    counted = pagetable.count_tables(*box.geometry, child.pgd, space.pgd, start, end)
    assert counted == (len(levels), levels.count(0))

    tables, batch = box.take(counted[0] + 1), batch_for(box, len(inside) + len(child.others))
    runs, *copied = pagetable.copy_range(
        *box.geometry, space.pgd, box.mapped, child.pgd, start, end, cow, box.count, tables, batch.columns, batch.others
    )
    assert copied == [len(tracked), len(child.others), len(inside)]
    box.spaces.append(child)
    box.agrees(space)
    tree = box.agrees(child)
    assert set(tree.tables.values()) == set(tables[:-1].tolist())
    assert rows_in(batch, runs, len(tracked)) == box.rows(tree, tracked)
    assert others_in(batch, len(child.others)) == child.others


def look(box: Box, space: Space, start: int, end: int) -> None:
    """Everything that only reads: read_range, lookup, leaf_tables, read_entries."""
    tree = box.agrees(space)
    inside = [a for a in sorted(space.model) if start <= a < end]
    tracked = [a for a in inside if space.model[a][0] != ZERO_PFN]
    everything = space.all_in(start, end)
    batch = batch_for(box, len(everything))
    read = (*box.geometry, space.pgd, box.mapped, start, end, batch.columns, batch.others)
    runs, nr, nr_others = pagetable_edit.read_range(*read)
    assert rows_in(batch, runs, nr) == box.rows(tree, tracked)
    assert batch.entries.tolist() == [tree.entries[a][0] for a in tracked]
    assert others_in(batch, nr_others) == {a: space.others[a] for a in everything if a in space.others}
    if end - start <= 2048 * PAGE_SIZE:
        resident = np.ones((end - start) // PAGE_SIZE, np.bool_)
        pagetable_edit.resident(*box.geometry, space.pgd, box.mapped, start, end, resident)
        assert (np.flatnonzero(resident) * PAGE_SIZE + start).tolist() == inside

    leaf_span = box.paging.leaf_span
    for address in {start, end - PAGE_SIZE, *inside[:3]}:
        leaf = tree.tables.get((0, address // leaf_span * leaf_span))
        nowhere = -1 if leaf is None else leaf * PAGE_SIZE + address % leaf_span // PAGE_SIZE * box.paging.entry_bytes
        assert pagetable.lookup(*box.geometry, space.pgd, address) == tree.entries.get(address, (0, nowhere))

    leaves = sorted((base, frame) for (level, base), frame in tree.tables.items() if level == 0)
    leaves = [(base, frame) for base, frame in leaves if base < end and base + leaf_span > start]
    frames, bases = np.full((2, len(leaves) + 1), GUARD, np.int64)
    assert pagetable_edit.leaf_tables(*box.geometry, space.pgd, start, end, frames, bases) == len(leaves)
    assert list(zip(bases.tolist(), frames.tolist(), strict=True)) == [*leaves, (GUARD, GUARD)]

    if inside:
        run = [a for i, a in enumerate(inside) if a == inside[0] + i * PAGE_SIZE]
        pfns = np.empty(len(run), np.int64)
        there = pagetable_edit.read_entries(*box.geometry, space.pgd, PRESENT, run[0], pfns)
        hidden = [i for i, a in enumerate(run) if not space.model[a][1] & PRESENT]
        assert there == min(hidden, default=len(run))
        assert pfns[:there].tolist() == [space.model[a][0] for a in run[:there]]
    if tracked:  # searched for from `start`, entry by entry, in the leaf tables there are
        wanted = space.model[tracked[-1]][0]
        found = next(a for a in inside if space.model[a][0] == wanted)
        looked_at = sum(
            max(0, min(base + leaf_span, found + PAGE_SIZE) - max(base, start)) // PAGE_SIZE for base, _ in leaves
        )
        assert pagetable_edit.find_pfn(*box.geometry, space.pgd, box.mapped, start, end, wanted) == (found, looked_at)
    assert pagetable_edit.find_pfn(*box.geometry, space.pgd, box.mapped, start, end, 1)[0] == -1
    box.agrees(space)


def protect(box: Box, space: Space, start: int, end: int, present: int) -> None:
    """Take write permission from every entry, or every permission (PROTNONE): page, reference and other marks stay."""
    inside = [a for a in space.model if start <= a < end]
    assert pagetable_edit.protect_range(*box.geometry, space.pgd, box.mapped, start, end, present) == len(inside)
    for address in inside:
        pfn, flags = space.model[address]
        space.model[address] = (pfn, flags & ~(PRESENT | PROTNONE | RW) | present)
    box.agrees(space)


def move(box: Box, space: Space, start: int, end: int, delta: int) -> None:
    """Move all entries of a range, the zero page's too, to a place where nothing is: only their addresses change."""
    before = box.agrees(space)
    inside = space.all_in(start, end)
    tracked = [a for a in inside if space.model.get(a, (ZERO_PFN, 0))[0] != ZERO_PFN]
    missing = pagetable_edit.count_tables_to(*box.geometry, space.pgd, start, end, delta)
    missing_tables = box.tables_needed([a + delta for a in inside]) - before.tables.keys()
    assert missing == len(missing_tables)

    tables, batch, moved = box.take(missing + 1), batch_for(box, len(inside)), batch_for(box, len(inside))
    runs, nr, all_moved = pagetable_edit.move_range(
        *box.geometry, space.pgd, box.mapped, start, end, delta, tables, batch.columns, moved.columns
    )
    assert (nr, all_moved) == (len(tracked), len(inside))
    assert rows_in(batch, runs, nr) == box.rows(before, tracked)
    pages_moved = {a + delta: space.model.pop(a) for a in inside if a in space.model}
    others_moved = {a + delta: space.others.pop(a) for a in inside if a in space.others}
    space.model.update(pages_moved)
    space.others.update(others_moved)
    after = box.agrees(space)
    assert after.tables.keys() - before.tables.keys() == missing_tables
    assert set(after.tables.values()) - set(before.tables.values()) == set(tables[:missing].tolist())
    assert rows_in(moved, runs, nr) == box.rows(after, [a + delta for a in tracked])


def swap_out(box: Box, space: Space, start: int, end: int) -> None:
    """Some pages of a range give way to swap entries, as reclaim would leave them: the slot is the page's number."""
    tree = box.agrees(space)
    for address in [a for a in sorted(space.model) if start <= a < end and space.model[a][0] != ZERO_PFN][::3]:
        pfn, _ = space.model.pop(address)
        box.count[pfn] -= 1
        entry = space.others[address] = box.encoding.swap_entry(1, pfn & 0xFFFFF)
        box.geometry[0][tree.entries[address][1] // box.paging.entry_bytes] = entry
    box.agrees(space)


def zap(box: Box, space: Space, start: int, end: int) -> None:
    """Clear a range; the tables stay. Who drops the last reference to a page learns of it."""
    before = box.agrees(space)
    inside = [a for a in sorted(space.model) if start <= a < end]
    tracked = [a for a in inside if space.model[a][0] != ZERO_PFN]
    others = {a: entry for a, entry in space.others.items() if start <= a < end}
    batch = batch_for(box, len(inside) + len(others))
    runs, *found = pagetable.zap_range(
        *box.geometry, space.pgd, box.mapped, start, end, -1, batch.columns, batch.others
    )
    assert found == [len(tracked), len(others), len(inside)]
    assert rows_in(batch, runs, len(tracked)) == box.rows(before, tracked)
    assert batch.entries.tolist() == [before.entries[a][0] for a in tracked], "dirty and accessed bits are told"
    assert others_in(batch, len(others)) == others
    for address in inside:
        del space.model[address]
    for address in others:
        del space.others[address]
    last = [pfn for pfn in batch.pfns.tolist() if box.count[pfn] == 1]
    freed = np.empty(len(tracked), np.int64)
    assert freed[: put_runs(box.count, batch.columns, runs, freed)].tolist() == last
    assert box.agrees(space).tables == before.tables


def unhook(box: Box, space: Space, first: int, last: int, *, stay: bool) -> None:
    """Unhook what hangs below some entries of the top table: exactly those tables, by level, and none of the others.

    Those right below the top one may `stay`, as PAE's do until the end: then it is one of them after the other.
    """
    before = box.agrees(space)
    top = box.paging.top_span
    below = {key: frame for key, frame in before.tables.items() if first <= key[1] // top < last}
    if stay:
        below = {key: frame for key, frame in below.items() if key[0] < box.paging.levels - 2}
    frames = np.empty(len(below), np.int64)
    assert pagetable.unhook_tables(*box.geometry, space.pgd, first, last, stay, frames) == len(below)
    places = sorted(below, key=lambda key: (key[1] // top if stay else 0, -key[0], key[1]))
    assert frames.tolist() == [below[place] for place in places], "top down, and each level in order"
    assert box.agrees(space).tables == {k: v for k, v in before.tables.items() if k not in below}
    assert not box.ram.bytes[list(below.values())].any()


def end_all(box: Box) -> None:
    """Everything ends: then no frame that ever was a table has a byte in it, and no page a reference."""
    for space in box.spaces:
        zap(box, space, 0, box.limit)
        nr_top = box.paging.pgd_bytes // box.paging.entry_bytes
        unhook(box, space, 0, nr_top // 2, stay=True)
        unhook(box, space, 0, 1, stay=False)
        unhook(box, space, 1, nr_top, stay=False)
        assert not box.tree(space).tables
    assert not box.ram.bytes[sorted(box.tables_ever)].any()
    assert not box.count[box.next_frame :].any()


# -- all of it, in any order -----------------------------------------------------------------------------------------

Verb = Literal["write", "read", "touch", "fork", "share", "look", "zap", "protect", "move", "swap"]
VERBS: tuple[Verb, ...] = (
    *("write", "write", "write", "write", "read", "touch", "touch"),
    *("fork", "fork", "share", "look", "zap", "protect", "move", "swap"),
)


@dataclass(frozen=True)
class Step:
    """What to do, in which address space (counted round), where: pages from one of two places, and how many."""

    verb: Verb
    space: int
    place: int
    offset: int
    nr: int
    wide: bool

    def range_in(self, box: Box, places: tuple[int, int]) -> tuple[int, int]:
        """[start, end), whole pages: near an end of some table, or wide enough for everything near it."""
        start = self._first_page(box, places[self.place], self.offset)
        end = min(start + self.nr * PAGE_SIZE, box.limit)
        return (0, end) if self.wide and self.verb in ("fork", "share", "look", "protect") else (start, end)

    def destination(self, box: Box, places: tuple[int, int]) -> int:
        """Where `move` goes: to the other place."""
        return self._first_page(box, places[1 - self.place], self.offset + 13)

    def _first_page(self, box: Box, place: int, offset: int) -> int:
        spans = [PAGE_SIZE << (box.paging.bits * level) for level in range(1, box.paging.levels)]
        boundaries = [*spans, *(3 * span for span in spans), 0, box.limit]
        return min(max(boundaries[place % len(boundaries)] + offset * PAGE_SIZE, 0), box.limit - PAGE_SIZE)


steps = st.builds(
    Step,
    st.sampled_from(VERBS),
    st.integers(0, 2),
    st.integers(0, 1),
    st.integers(-8, 4),
    st.one_of(st.integers(1, 16), st.integers(1, 16), st.sampled_from((513, 1200))),
    st.booleans(),
)


@formats
@settings(max_examples=100, deadline=None)
@given(
    forked=st.booleans(),
    places=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    todo=st.lists(steps, min_size=1, max_size=20),
)
def test_page_tables_say_what_the_model_says(
    paging: Paging, forked: bool, places: tuple[int, int], todo: list[Step]
) -> None:
    """Faults, touches, forks, reads, protections, moves and zaps in any order: entries, batches, references and tables are the model's."""
    box = Box(paging)
    if forked:
        for place in (0, 1):
            fault(box, box.spaces[0], *Step("write", 0, place, -4, 8, wide=False).range_in(box, places), write=True)
        fork(box, box.spaces[0], 0, box.limit, cow=True)
    for step in todo:
        space = box.spaces[step.space % len(box.spaces)]
        start, end = step.range_in(box, places)
        match step.verb:
            case "write" | "read":
                if any(flags & PROTNONE for a, (_, flags) in space.model.items() if start <= a < end):
                    protect(box, space, start, end, PRESENT)  # no fault gets past a VMA that allows nothing
                if (first := min((a for a in space.others if start <= a < end), default=end)) < end:
                    classify_other(box, space, first)
                    end = first  # up to there the fault gets; what is there is somebody else's work
                    if start == end:
                        continue
                fault(box, space, start, end, write=step.verb == "write")
            case "touch":
                first = min((a for a in space.model if start <= a < end), default=start)
                touch(box, space, first, end, write=step.nr % 2 == 0)
            case "fork" | "share":
                fork(box, space, start, end, cow=step.verb == "fork")
            case "look":
                look(box, space, start, end)
            case "protect":
                protect(box, space, start, end, PROTNONE if step.nr % 2 else PRESENT)
            case "move":
                to = step.destination(box, places)
                size = min(end, box.limit - max(to - start, 0)) - start
                if to >= 0 and abs(to - start) >= size > 0 and not space.all_in(to, to + size):
                    move(box, space, start, start + size, to - start)
            case "swap":
                swap_out(box, space, start, end)
            case "zap":
                zap(box, space, start, end)
    for space in box.spaces:
        look(box, space, 0, box.limit)
    end_all(box)


# -- single truths ----------------------------------------------------------------------------------------------------


@formats
def test_a_format_is_what_the_manual_says(paging: Paging) -> None:
    """i386: 1024 entries of 4 bytes; PAE and x86-64: 512 of 8 bytes, PAE's top table 4 of them (Intel SDM vol. 3, 4.3-4.5)."""
    entries, entry_bytes, levels, top_bytes = {
        "i386": (1024, 4, 2, 4096),
        "i386-pae": (512, 8, 3, 32),
        "x86-64": (512, 8, 4, 4096),
    }[paging.name]
    assert (1 << paging.bits, paging.entry_bytes, paging.levels, paging.pgd_bytes) == (
        entries,
        entry_bytes,
        levels,
        top_bytes,
    )
    assert paging.leaf_span == entries * PAGE_SIZE
    assert paging.top_span == entries ** (levels - 1) * PAGE_SIZE
    assert paging.task_size <= paging.top_span * (top_bytes // entry_bytes)


@formats
def test_cow_both_ways(paging: Paging) -> None:
    """After a fork the first to write gets a copy, the second keeps the page; both end up writable and alone."""
    #   parent  [a: rw]          [a: ro]---+             [a: ro]   1 reference     [a: rw]
    #                    fork              +-- frame a                  write
    #   child                    [a: ro]---+   write ->  [b: rw]                   [b: rw]
    box = Box(paging)
    parent = box.spaces[0]
    fault(box, parent, 0, PAGE_SIZE, write=True)
    a = parent.model[0][0]
    fork(box, parent, 0, PAGE_SIZE, cow=True)
    child = box.spaces[1]
    assert (parent.model[0], child.model[0]) == ((a, READ_ONLY | ACCESSED | DIRTY), (a, READ_ONLY | DIRTY))
    fault(box, child, 0, PAGE_SIZE, write=True)
    b = child.model[0][0]
    assert a != b
    fault(box, parent, 0, PAGE_SIZE, write=True)
    assert (parent.model[0][0], child.model[0][0]) == (a, b)
    end_all(box)


@formats
def test_hook_tables_makes_one_path(paging: Paging) -> None:
    """The tables that count_tables says are missing for one page are the path to it, and then none is missing."""
    box = Box(paging)
    space, address = box.spaces[0], 5 * paging.leaf_span + 3 * PAGE_SIZE
    missing, leaves = pagetable.count_tables(*box.geometry, space.pgd, -1, address, address + PAGE_SIZE)
    assert (missing, leaves) == (paging.levels - 1, 1)
    tables = box.take(missing)
    pagetable_fault.hook_tables(*box.geometry, space.pgd, address, tables)
    tree = box.agrees(space)
    assert list(tree.tables.values()) == tables.tolist()
    assert tree.tables.keys() == box.tables_needed([address])
    assert pagetable.count_tables(*box.geometry, space.pgd, -1, address, address + PAGE_SIZE) == (0, 1)
    end_all(box)


@formats
@pytest.mark.parametrize("write", [False, True])
def test_a_stretch_may_need_everything_at_once(paging: Paging, write: bool) -> None:
    """One stretch across two leaf tables with a page in every state: each page gets what it would get alone."""
    #   page     0        1           2 | 3              4               5
    #   state    nothing  zero page   writable           read-only,      read-only,
    #                                 | = next table     shared          alone
    box = Box(paging)
    parent, base = box.spaces[0], paging.leaf_span - 3 * PAGE_SIZE
    page = [base + i * PAGE_SIZE for i in range(7)]
    fault(box, parent, page[4], page[6], write=True)
    fork(box, parent, page[0], page[6], cow=True)
    fault(box, box.spaces[1], page[5], page[6], write=True)
    fault(box, parent, page[1], page[2], write=False)
    fault(box, parent, page[2], page[4], write=True)
    codes, pfns = np.empty(6, np.int8), np.empty(6, np.int64)
    scanned = pagetable_fault.classify(*box.geometry, parent.pgd, page[0], page[6], write, codes, pfns)
    assert scanned == ((2, 2, -1) if write else (1, 0, -1))
    fault(box, parent, page[0], page[6], write=write)
    end_all(box)


@formats
def test_the_mmu_marks_what_is_accessed(paging: Paging) -> None:
    """A read sets the accessed bit and leaves dirty alone; a write sets both; what does not allow the access is not marked."""
    #   page     0  written, then forked: read-only, old, dirty        1  zero page, forked: read-only, old, clean
    box = Box(paging)
    fault(box, box.spaces[0], 0, PAGE_SIZE, write=True)
    fault(box, box.spaces[0], PAGE_SIZE, 2 * PAGE_SIZE, write=False)
    fork(box, box.spaces[0], 0, 2 * PAGE_SIZE, cow=True)
    child = box.spaces[1]
    assert [child.model[a][1] for a in (0, PAGE_SIZE)] == [READ_ONLY | DIRTY, READ_ONLY]
    touch(box, child, 0, 2 * PAGE_SIZE, write=True)
    assert [child.model[a][1] for a in (0, PAGE_SIZE)] == [READ_ONLY | DIRTY, READ_ONLY]
    touch(box, child, 0, 2 * PAGE_SIZE, write=False)
    assert [child.model[a][1] for a in (0, PAGE_SIZE)] == [READ_ONLY | DIRTY | ACCESSED, READ_ONLY | ACCESSED]
    protect(box, child, 0, PAGE_SIZE, PROTNONE)
    touch(box, child, 0, PAGE_SIZE, write=False)
    end_all(box)
