"""What mm/ tells the reverse map of pages, and whom it asks: k.rmap. struct page is counted in here and nowhere else.

    mm/        k.rmap.add(batch, vma)           a batch: entries that have been added, copied, removed (machine/batch.py)
                    |
    pages.py        +-- an anonymous page: mapcount, and when it is nobody's yet it names owner(vma): mapping, index, PG_anon
                    |   a file's page (mapping, no PG_anon): mapcount
                    +-- the design hears of the batch

    walk(pfn)       a file's page: the file's VMAs, by page offset (objrmap.py)        any other, or all: the design's walk

An anonymous page forgets its owner when the last entry goes, up to 2.6.7; since then it keeps it, in the swap cache too, until it is freed.
Much hangs on that: a page that comes back from swap finds itself the old owner's, and one that nobody maps still says whose it was.

Which pages of a batch are of which kind is decided page by page, inside the loops that count them: that costs nothing. One call per
batch, run by run.

Sources: 2.6.2 mm/rmap.c, page_add_rmap, page_remove_rmap; 2.6.7 mm/rmap.c, page_add_anon_rmap, page_add_file_rmap, page_dup_rmap, clear_page_anon;
6.18 mm/rmap.c, __folio_set_anon; mm/page_alloc.c, free_pages_prepare; eras.md 1.1, 2.3.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I32, I64, U32, Bools
from rmaplab.machine.batch import ADDRESS, LENGTH, PFN, Batch
from rmaplab.machine.frames import PG_ANON, ZERO_PFN
from rmaplab.machine.jit import kernel
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import VM_NONLINEAR
from rmaplab.objects.mm_types import AddressSpace, MmStruct, VmArea
from rmaplab.rmap.file_index import check_index
from rmaplab.rmap.objrmap import Turn, candidates, passed_over, search, walk_file
from rmaplab.rmap.protocol import Mapping, ReverseMap
from rmaplab.rmap.walk_rules import Nonlinear, WalkRules
from rmaplab.units import PAGE_SHIFT


class Rmap:
    """The pages of one machine, its files, and a design. `walks` are the kernel's rules for queries.py, `owner_dies_at_free` for pages.

    Several may walk a file's VMAs at once where `file_lock_is_shared`.
    """

    def __init__(
        self, design: ReverseMap, walks: WalkRules, *, owner_dies_at_free: bool, file_lock_is_shared: bool
    ) -> None:
        self.design, self.machine, self.frames = design, design.machine, design.frames
        self.walks = walks
        self.owner_dies_at_free, self.file_lock_is_shared = owner_dies_at_free, file_lock_is_shared
        self.files: dict[int, AddressSpace] = {}
        """What pages of files name, by its address."""
        self.unowned = set[int]()
        """Pages of files that truncate has left mapped where it did not look, and that name nobody."""
        self.walk_locks: Counter[str] = Counter()
        """By class: locks taken to look for a page's entries, by page_referenced and try_to_unmap, and by 2.4's swap_out. Nobody else's are among them."""
        self._locks, self._page_lock = self.machine.locks, design.page_lock
        self._unit = PAGE_SHIFT if design.linear else 0
        frames = self.frames
        self._owned = (frames.flags, frames.mapcount, frames.mapping, frames.index)
        self._counted = (frames.flags, frames.mapcount, frames.mapping)
        self._adds = design.covers_files or type(design).add is not ReverseMap.add
        """Whether the design hears of new pages."""
        self._one = Batch(1, self.machine.paging.entry_bytes)
        if design.counts_pages:
            self.machine.allocator.disowned = design.disowned

    # -- entries come and go -----------------------------------------------------------------------------------------

    def add(self, batch: Batch, vma: VmArea, *, exclusive: bool = True) -> None:
        """Anonymous pages are mapped in `vma`: new, or back from swap (not `exclusive` if others name them there). Cannot fail."""
        design = self.design
        self.enter_bits(batch)
        owned = 0
        if design.covers_files:
            map_again(self.frames.mapcount, batch.columns, batch.runs)
        else:
            owner = design.owner(vma, exclusive=exclusive)
            owned = own(*self._owned, batch.columns, batch.runs, owner, self._unit, self._shift(vma))
            if owned < 0:
                raise KernelBug("page_add_rmap", "a page that is nobody's is mapped already")
        design.add(batch, vma)
        if owned and design.counts_pages:
            design.owned(vma, owned)
        self.leave_bits(batch)

    def add_one(self, pfn: int, pte: int, address: int, entry: int, vma: VmArea) -> None:
        """add() of a new page, while nobody watches: the commonest of all, and the same without arrays for a design that asks for none."""
        design, frames = self.design, self.frames
        if self._adds:
            self._one.hold_one(pfn, pte, address, entry)
            self.add(self._one, vma)
            return
        if self._page_lock is not None:
            self._locks.count(self._page_lock, 1)
        if frames.mapping[pfn]:
            raise KernelBug("page_add_rmap", "a new page is somebody's")
        frames.mapcount[pfn] = 1
        frames.flags[pfn] |= PG_ANON
        frames.mapping[pfn] = design.owner(vma, exclusive=True)
        frames.index[pfn] = (address >> self._unit) + self._shift(vma)
        if design.counts_pages:
            design.owned(vma, 1)

    def add_file(self, batch: Batch, vma: VmArea) -> None:
        """Pages of a file are mapped in `vma` (page_add_file_rmap): they have their owner. Cannot fail."""
        self.enter_bits(batch)
        map_again(self.frames.mapcount, batch.columns, batch.runs)
        if self.design.covers_files:
            self.design.add(batch, vma)
        elif self.design.converts and (own := self.frames.flags[batch.pfns] & PG_ANON != 0).any():
            self.design.add(batch.select(own), vma)
        self.leave_bits(batch)

    def adds_at_once(self, pfn: int) -> bool:
        """Whether one page of a file can be mapped without memory being asked for."""
        if not self.design.reserves or not self.frames.mapcount[pfn]:
            return True
        self._one.hold_one(pfn, 0, 0, 0)
        return self.design.reserved(self._one)

    def add_file_one(self, pfn: int, pte: int, address: int, entry: int, vma: VmArea) -> None:
        """add_file() of one page that adds_at_once, while nobody watches."""
        self.count_file(1)
        self.frames.mapcount[pfn] += 1
        if self.design.covers_files or (self.design.converts and self.frames.flags[pfn] & PG_ANON):
            self._one.hold_one(pfn, pte, address, entry)
            self.design.add(self._one, vma)

    def count_file(self, nr: int) -> None:
        """`nr` pages of files are counted as mapped by who has written their entries, while nobody watches and the design does not cover them."""
        if self._page_lock is not None:
            self._locks.count(self._page_lock, nr)

    def duplicate(self, batch: Batch, vma: VmArea) -> None:
        """Mapped pages are mapped once more, in the fork's child `vma` (page_dup_rmap). Cannot fail."""
        self.enter_bits(batch)
        map_again(self.frames.mapcount, batch.columns, batch.runs)
        self.design.duplicate(batch, vma)
        self.leave_bits(batch)

    def remove(self, batch: Batch) -> None:
        """Entries are gone (page_remove_rmap); the pages are still referenced. Cannot fail."""
        self.enter_bits(batch)
        left = self.forget(batch)
        self.leave_bits(batch)
        if left.size:
            self.design.disowned(left)

    def forget(self, batch: Batch) -> I64:
        """The same for who has the pages' bit locks. Returns what pages have named that name nothing now, if the design counts them."""
        keep = self.owner_dies_at_free
        left = np.empty(batch.nr, np.int64) if self.design.counts_pages and not keep else _NOTHING
        nr_left = unmap(*self._counted, batch.columns, batch.runs, keep, left)
        if self.unowned:
            self.unowned = {pfn for pfn in self.unowned if self.frames.mapcount[pfn]}
        if nr_left < 0:
            raise KernelBug("page_remove_rmap", "a page was not mapped")
        self.design.remove(batch)
        return left[:nr_left]

    def leave_file_entries(self, batch: Batch, vma: VmArea) -> None:
        """What stays in `vma` where these entries were, of single pages of its file: a file entry, or nothing at its linear place."""
        machine, index = self.machine, self.frames.index[batch.pfns]
        elsewhere = index != vma.pgoff + ((batch.addresses - vma.start) >> PAGE_SHIFT)
        left = np.zeros(batch.nr, np.int64)
        left[elsewhere] = machine.encoding.file_entries(index[elsewhere])
        machine.words[batch.ptes // machine.paging.entry_bytes] = left.astype(machine.words.dtype)

    def enter_bits(self, batch: Batch) -> None:
        """PG_chainlock, PG_maplock: page by page, or of the one page that there is if somebody watches."""
        if self._page_lock is not None:
            self._locks.enter_bits(self._page_lock, batch.columns, batch.nr)

    def leave_bits(self, batch: Batch) -> None:
        """And they are free again."""
        if self._page_lock is not None and self._locks.bits_held:
            self._locks.leave_bits(self._page_lock, batch.columns, batch.nr)

    def _shift(self, vma: VmArea) -> int:
        """What page->index is more than the address, in its units."""
        return vma.pgoff - (vma.start >> PAGE_SHIFT) if self._unit else 0

    # -- queries -----------------------------------------------------------------------------------------------------

    @property
    def _knows_nonlinear(self) -> bool:
        return self.walks.nonlinear is not Nonlinear.AS_LINEAR

    def is_mapped(self, pfn: int) -> bool:
        """page_mapped()."""
        return bool(self.frames.mapcount[pfn])

    def walked_by_file(self, pfn: int) -> AddressSpace | None:
        """The file by whose VMAs walk(pfn) goes, if it goes by a file's."""
        return None if self.design.covers_files or self.frames.flags[pfn] & PG_ANON else self.file_of(pfn)

    def file_of(self, pfn: int) -> AddressSpace | None:
        """The file that a page names: None if it is anonymous, or nobody's. One that is converted still names it."""
        anon = self.frames.flags[pfn] & PG_ANON and not self.design.converts
        return None if anon else self.files.get(int(self.frames.mapping[pfn]))

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Who maps this page? Every mapping once; visits in vain are counted in the ledger, not answered. Where the era knows of nonlinear VMAs they are searched."""
        found, file = self.walk_with(pfn, passed_over), self.walked_by_file(pfn)
        if file is None or not file.has_nonlinear or not self.frames.mapcount[pfn] or not self._knows_nonlinear:
            return found
        return chain(found, search(self.machine, pfn, file))

    def walk_with(self, pfn: int, nonlinear: Turn) -> Iterator[Mapping]:
        """The same, but for what is done with nonlinear VMAs in their turn."""
        if self.design.covers_files:
            return self.design.walk(pfn)
        if not self.frames.mapcount[pfn]:
            return iter(())
        file = self.walked_by_file(pfn)
        if file is None:
            return self.design.walk(pfn)
        return walk_file(self.machine, pfn, file, nonlinear if self._knows_nonlinear else None)

    def showing(self, file: AddressSpace, first: int, last: int) -> Iterator[VmArea]:
        """The VMAs that may show pages [first, last] of `file`, in the order of its index: who of them does, is the caller's to test."""
        return candidates(self.machine, file.i_mmap, first, last)

    # -- checking ----------------------------------------------------------------------------------------------------

    def declared_unfindable(self) -> set[int]:
        """PFNs that are mapped and that walk() cannot find: those the design declares, and of files what is nowhere that is looked at.

        That is, where linear places alone are: what nonlinear VMAs have elsewhere, and what truncate has left there. O(entries of such VMAs).
        """
        found = set(self.design.declared_unfindable())
        if self.design.covers_files:
            return found
        frames, unowned = self.frames, np.fromiter(self.unowned, np.int64)
        found.update(unowned[frames.flags[unowned] & PG_ANON == 0].tolist())
        if self._knows_nonlinear:
            return found
        files = [file for file in self.files.values() if file.has_nonlinear]
        for vma in (vma for file in files for vma in file.i_mmap if vma.flags & VM_NONLINEAR):
            present, _ = read_page_tables(self.machine, vma.mm.pgd)
            part = slice(*np.searchsorted(present.addresses, (vma.start, vma.end)))
            pfns, linear = present.pfns[part], vma.pgoff + ((present.addresses[part] - vma.start) >> PAGE_SHIFT)
            found.update(pfns[(frames.index[pfns] != linear) & (frames.flags[pfns] & PG_ANON == 0)].tolist())
        return found

    def nobodys(self, devices: Bools) -> set[int]:
        """Of pages that entries of `devices` map (by PFN) those that nobody can find: they name no file, and are on no chain."""
        if self.design.covers_files:
            return set()
        frames = self.frames
        return set(np.flatnonzero(devices & (frames.mapping == 0) & (frames.flags & PG_ANON == 0)).tolist())

    def check(self, mms: list[MmStruct], mapped: I64, devices: Bools | None = None) -> None:
        """Mapcounts are `mapped`, by PFN the entries there are; owners are there and indexes right, files' too; the design checks itself. KernelBug.

        `devices`: what entries of devices map, which need not name anybody.
        """
        frames = self.frames
        wrong = np.flatnonzero(frames.mapcount != mapped)
        if wrong.size:
            raise KernelBug(
                "mapcount", f"page {wrong[0]} says {frames.mapcount[wrong[0]]} entries, there are {mapped[wrong[0]]}"
            )
        if not self.design.covers_files:
            self._check_owners(mms, mapped, np.zeros(frames.nr, np.bool_) if devices is None else devices)
        self.design.check(mms, mapped)
        mapping = {file: set[VmArea]() for file in self.files.values()}
        for vma in (vma for mm in mms for vma in mm.vmas):
            if vma.file is not None:
                mapping[vma.file.mapping].add(vma)
        for file, vmas in mapping.items():
            check_index(file.i_mmap, vmas)

    def _check_owners(self, mms: list[MmStruct], mapped: I64, devices: Bools) -> None:
        """A mapped page has an owner, which every VMA that maps it may have pages of, and lies there where its index says."""
        frames = self.frames
        anon = frames.flags & PG_ANON != 0
        named = (mapped > 0) & ~devices
        named[list(self.unowned)] = False
        owned = anon | named if self.design.names_owners else ~anon & named
        if owned[frames.mapping == 0].any():
            raise KernelBug("page_mapping", "a page is anonymous or mapped, and nobody's")
        if (anon & (frames.count == 0 if self.owner_dies_at_free else mapped == 0)).any():
            raise KernelBug("PageAnon", "a page has an owner longer than it should")
        if not self.design.names_owners:
            return
        for mm in mms:
            present, _ = read_page_tables(self.machine, mm.pgd)
            real = (present.pfns != ZERO_PFN) & anon[present.pfns]
            pfns, addresses = present.pfns[real], present.addresses[real]
            starts = np.array([vma.start for vma in mm.vmas], np.int64)
            row = np.searchsorted(starts, addresses, side="right") - 1
            shift = np.array([self._shift(vma) for vma in mm.vmas], np.int64)
            if (frames.index[pfns] != (addresses >> self._unit) + shift[row]).any():
                raise KernelBug("page_index", f"a page of mm {mm.pid} has an index that lies elsewhere")
            for at, owner in set(zip(row.tolist(), frames.mapping[pfns].tolist(), strict=True)):
                self.design.check_owner(mm.vmas[at], owner)


_NOTHING: I64 = np.empty(0, np.int64)


# -- the loops: pages of a batch, run by run ---------------------------------------------------------------------------


@kernel
def own(
    flags: U32, mapcount: I32, mapping: I64, index: I64, pages: I64, runs: int, owner: int, unit: int, shift: int
) -> int:
    """Pages are mapped. One that is nobody's is anonymous from now on: `owner`'s, at its address in units of 2^unit bytes, plus `shift`.

    Returns how many were nobody's; -1 if one of those was mapped.
    """
    owned = 0
    for run in range(runs):
        first, length = pages[PFN, run], pages[LENGTH, run]
        for i in range(length):
            pfn = np.uint64(first + i)
            if not mapping[pfn] and (owner or not flags[pfn] & PG_ANON):
                if mapcount[pfn]:
                    return -1
                flags[pfn] |= np.uint32(PG_ANON)
                if owner:
                    mapping[pfn] = owner
                    index[pfn] = ((pages[ADDRESS, run] + (i << PAGE_SHIFT)) >> unit) + shift
                owned += 1
            mapcount[pfn] += np.int32(1)
    return owned


@kernel
def map_again(mapcount: I32, pages: I64, runs: int) -> None:
    """Mapcount + 1."""
    for run in range(runs):
        counts = mapcount[pages[PFN, run] : pages[PFN, run] + pages[LENGTH, run]]
        for i in range(counts.size):
            counts[i] += np.int32(1)


@kernel
def unmap(flags: U32, mapcount: I32, mapping: I64, pages: I64, runs: int, keep: bool, left: I64) -> int:
    """Mapcount - 1; at 0 an anonymous page is nobody's, unless they `keep` their owners. -1 if one is not mapped.

    What those have named goes to `left`, if there is room for it: returns how many.
    """
    nr_left = 0
    for run in range(runs):
        first = pages[PFN, run]
        counts = mapcount[first : first + pages[LENGTH, run]]
        last, negative = False, False
        for i in range(counts.size):
            now = counts[i] - np.int32(1)
            counts[i] = now
            last |= now == 0
            negative |= now < 0
        if negative:
            return -1
        if last and not keep:
            for i in range(counts.size):
                if counts[i] == 0 and flags[first + i] & PG_ANON:
                    if left.size:
                        left[nr_left] = mapping[first + i]
                        nr_left += 1
                    mapping[first + i] = 0
                    flags[first + i] &= ~np.uint32(PG_ANON)
    return nr_left
