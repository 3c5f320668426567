"""What a task must see, in plain Python: three dictionaries. No VMAs, no page tables, no sharing.

prots    {0x40000: 3, 0x40001: 3, 0x40005: 1}     pages that are mapped: PROT_READ | PROT_WRITE
stamps   {0x40001: <8 bytes>}                     pages that begin with something; all other bytes are zero
marks    {0x40005: VM_LOCKED}                     what madvise and mlock have said about pages
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rmaplab.kernels.system import System
from rmaplab.machine.arrays import I64
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import (
    PROT_READ,
    PROT_WRITE,
    VM_DONTCOPY,
    VM_LOCKED_MASK,
    VM_RAND_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
)
from rmaplab.objects.mm_types import MmStruct
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

WORDS = PAGE_SIZE // 8
MARKS = VM_LOCKED_MASK | VM_DONTCOPY | VM_WIPEONFORK | VM_RAND_READ | VM_SEQ_READ
Spans = Iterable[tuple[int, int]]  # (first page, number of pages)


@dataclass(frozen=True)
class Stake:
    """What a call that fails may have changed all the same: the mapping of `spans`, to which it was asked to do something.

    Contents stay wherever a page stays; only in `cleared` it may have been unmapped and mapped anew. With `grows` mappings
    may have become larger, anywhere: a failed mremap of 2.6.2 leaves a neighbour grown. `moved` says by how many pages what was
    to go to `cleared` was to move: since 6.17 the first VMAs of a run have gone when a later one fails (remap_move).
    """

    spans: Spans = ()
    cleared: Spans = ()
    grows: bool = False
    moved: int = 0


@dataclass
class Memory:
    """One address space as its tasks must see it. Pages are numbered."""

    prots: dict[int, int] = field(default_factory=dict)
    stamps: dict[int, int] = field(default_factory=dict)
    heap_pages: int = 0
    marks: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "Memory":
        """What a fork's child sees: nothing locked, nothing it should not have, zeros where it should not look."""
        kept = {page: prot for page, prot in self.prots.items() if not self.marks.get(page, 0) & VM_DONTCOPY}
        marks = {page: mark & ~VM_LOCKED_MASK for page, mark in self.marks.items() if page in kept}
        stamps = {p: s for p, s in self.stamps.items() if p in kept and not marks.get(p, 0) & VM_WIPEONFORK}
        return Memory(kept, stamps, self.heap_pages, {page: mark for page, mark in marks.items() if mark})

    def is_free(self, first: int, nr: int) -> bool:
        """Whether nothing is mapped there."""
        return not any(page in self.prots for page in range(first, first + nr))

    def has_hole(self, first: int, nr: int) -> bool:
        """Whether one of the pages is not mapped."""
        return any(page not in self.prots for page in range(first, first + nr))

    def map(self, first: int, nr: int, prot: int) -> None:
        """Fresh pages, in place of what was there."""
        self.unmap(first, nr)
        self.prots |= dict.fromkeys(range(first, first + nr), prot)

    def unmap(self, first: int, nr: int) -> None:
        """They go, with what was in them."""
        for page in range(first, first + nr):
            self.prots.pop(page, None)
            self.stamps.pop(page, None)
            self.marks.pop(page, None)

    def mark(self, first: int, nr: int, go: int, come: int) -> None:
        """What madvise and mlock say: marks go and come, where something is mapped."""
        for page in range(first, first + nr):
            if page in self.prots:
                self.marks[page] = self.marks.get(page, 0) & ~go | come
                if not self.marks[page]:
                    del self.marks[page]

    def forget(self, first: int, nr: int) -> None:
        """MADV_DONTNEED: zeros from now on."""
        for page in range(first, first + nr):
            self.stamps.pop(page, None)

    def protect(self, first: int, nr: int, prot: int) -> None:
        """Those that are mapped."""
        self.prots |= {page: prot for page in range(first, first + nr) if page in self.prots}

    def move(self, old: int, old_nr: int, new: int, new_nr: int, *, stays: bool = False) -> None:
        """mremap: `old` lies in one mapping if the length grows or the address changes. In place, or to elsewhere.

        With `stays` (MREMAP_DONTUNMAP) the old place stays, empty and unlocked: all of its VMA, which the caller looks up.
        """
        mark = self.marks.get(old, 0)
        if new == old:
            if new_nr > old_nr:
                self.map(old + old_nr, new_nr - old_nr, self.prots[old])
                self.mark(old + old_nr, new_nr - old_nr, 0, mark)
            self.unmap(old + new_nr, old_nr - new_nr)
            return
        kept = {
            page - old + new: self.stamps[page] for page in range(old, old + min(old_nr, new_nr)) if page in self.stamps
        }
        self.map(new, new_nr, self.prots[old])
        self.mark(new, new_nr, 0, mark)
        if stays:
            self.forget(old, old_nr)
        else:
            self.unmap(old, old_nr)
        self.stamps |= kept

    def alike(self, page: int) -> range:
        """The pages around it that are mapped with its protection: itself, if it is not mapped."""
        first = last = page
        prot = self.prots.get(page)
        while prot is not None and self.prots.get(first - 1) == prot:
            first -= 1
        while prot is not None and self.prots.get(last + 1) == prot:
            last += 1
        return range(first, last + 1)

    def parts(self, first: int, nr: int) -> list[tuple[int, int]]:
        """The stretches of [first, first + nr) that are mapped alike, as (first page, number): no VMA covers two of them."""
        found: list[tuple[int, int]] = []
        for page in range(first, first + nr):
            alike = (self.prots.get(page), self.marks.get(page)) == (self.prots.get(page - 1), self.marks.get(page - 1))
            if page not in self.prots:
                continue
            if found and alike and found[-1][0] + found[-1][1] == page:
                found[-1] = (found[-1][0], found[-1][1] + 1)
            else:
                found.append((page, 1))
        return found

    def fault(self, first: int, nr: int, *, write: bool) -> int | None:
        """The first page that may not be accessed."""
        wanted = PROT_WRITE if write else PROT_READ
        return next((page for page in range(first, first + nr) if not self.prots.get(page, 0) & wanted), None)

    # -- beside the kernel's -----------------------------------------------------------------------------------------

    def wrong_layout(self, mm: MmStruct) -> str | None:
        """The first page that is mapped otherwise, in words."""
        real = layout(mm)
        marks = marked(mm)
        if real == self.prots:
            wrong = min(
                (p for p in marks.keys() | self.marks.keys() if marks.get(p) != self.marks.get(p)), default=None
            )
            if wrong is None:
                return None
            return f"page {wrong:#x} has marks {marks.get(wrong, 0):#x}, and must have {self.marks.get(wrong, 0):#x}"
        page = min(page for page in real.keys() | self.prots.keys() if real.get(page) != self.prots.get(page))
        return f"page {page:#x} is mapped with prot {real.get(page)}, and must be with {self.prots.get(page)}"

    def wrong_contents(self, system: System, mm: MmStruct) -> tuple[int, bytes] | None:
        """The first page with other contents, and what it must begin with. O(pages), in NumPy."""
        pages, rows = contents(system, mm)
        expected = np.array([self.stamps.get(page, 0) for page in pages.tolist()], np.int64)
        wrong = set(pages[(rows[:, 0] != expected) | rows[:, 1:].any(axis=1)].tolist())
        wrong |= self.stamps.keys() - set(pages.tolist())
        return (min(wrong), self.stamps.get(min(wrong), 0).to_bytes(8, "little")) if wrong else None

    def adopt(self, system: System, mm: MmStruct, stake: Stake) -> str | None:
        """After a call that failed: take over what it may have changed; what it may not have, in words."""
        real = layout(mm)
        named = {page for first, nr in stake.spans for page in range(first, first + nr)}
        for page in sorted(real.keys() | self.prots.keys()):
            grown = stake.grows and page not in self.prots
            if real.get(page) != self.prots.get(page) and page not in named and not grown:
                return f"page {page:#x}, which it was not asked to"
        self.prots, self.marks = real, marked(mm)
        pages, rows = contents(system, mm)
        begins = dict(zip(pages.tolist(), rows[:, 0].tolist(), strict=True))
        for page in (page for first, nr in stake.cleared for page in range(first, first + nr)):
            source = page - stake.moved
            if stake.moved and source in self.stamps and source not in begins:  # it has left: it must have arrived
                self.stamps[page] = self.stamps.pop(source)
            elif not begins.get(page):
                self.stamps.pop(page, None)
        self.stamps = {page: stamp for page, stamp in self.stamps.items() if page in real}
        return None


def layout(mm: MmStruct) -> dict[int, int]:
    """PROT_READ and PROT_WRITE by page, as the VMAs say."""
    prots: dict[int, int] = {}
    for vma in mm.vmas:
        prots |= dict.fromkeys(
            range(vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT), vma.flags & (PROT_READ | PROT_WRITE)
        )
    return prots


def marked(mm: MmStruct) -> dict[int, int]:
    """What madvise and mlock have left on VMAs, by page."""
    return {
        page: vma.flags & MARKS
        for vma in mm.vmas
        if vma.flags & MARKS
        for page in range(vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT)
    }


def contents(system: System, mm: MmStruct) -> tuple[I64, I64]:
    """(pages that have an entry, their bytes as rows of words), read past the MMU: nothing faults, nothing changes."""
    present, _ = read_page_tables(system.machine, mm.pgd)
    pages, rows = present.addresses >> PAGE_SHIFT, system.machine.ram.words8.reshape(-1, WORDS)[present.pfns]
    if present.others.size:  # they lie in swap
        swap = system.kernel.swap
        slots = swap.slots_of(present.others).tolist()
        pages = np.concatenate((pages, present.other_addresses >> PAGE_SHIFT))
        rows = np.concatenate((rows, np.stack([swap.bytes_of(slot).view(np.int64) for slot in slots])))
    return pages, rows
