"""What a task must see, in plain Python: two dictionaries. No VMAs, no page tables, no sharing.

prots    {0x40000: 3, 0x40001: 3, 0x40005: 1}     pages that are mapped: PROT_READ | PROT_WRITE
stamps   {0x40001: <8 bytes>}                     pages that begin with something; all other bytes are zero
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from rmaplab.kernels.system import System
from rmaplab.objects.flags import PROT_READ, PROT_WRITE
from rmaplab.objects.mm import MmStruct
from rmaplab.rmap.brute_force import read_page_tables
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE

WORDS = PAGE_SIZE // 8
Spans = Iterable[tuple[int, int]]  # (first page, number of pages)


@dataclass(frozen=True)
class Stake:
    """What a call that fails may have changed all the same: the mapping of `spans`, to which it was asked to do something.

    Contents stay wherever a page stays; only in `cleared` it may have been unmapped and mapped anew. With `grows` mappings
    may have become larger, anywhere: a failed mremap of 2.6.2 leaves a neighbour grown.
    """

    spans: Spans = ()
    cleared: Spans = ()
    grows: bool = False


@dataclass
class Memory:
    """One address space as its tasks must see it. Pages are numbered."""

    prots: dict[int, int] = field(default_factory=dict)
    stamps: dict[int, int] = field(default_factory=dict)
    heap_pages: int = 0

    def copy(self) -> Memory:
        """What a fork's child sees."""
        return Memory(dict(self.prots), dict(self.stamps), self.heap_pages)

    def is_free(self, first: int, nr: int) -> bool:
        """Whether nothing is mapped there."""
        return not any(page in self.prots for page in range(first, first + nr))

    def map(self, first: int, nr: int, prot: int) -> None:
        """Fresh pages, in place of what was there."""
        self.unmap(first, nr)
        self.prots |= dict.fromkeys(range(first, first + nr), prot)

    def unmap(self, first: int, nr: int) -> None:
        """They go, with what was in them."""
        for page in range(first, first + nr):
            self.prots.pop(page, None)
            self.stamps.pop(page, None)

    def protect(self, first: int, nr: int, prot: int) -> None:
        """All of them are mapped."""
        self.prots |= dict.fromkeys(range(first, first + nr), prot)

    def move(self, old: int, old_nr: int, new: int, new_nr: int) -> None:
        """mremap: `old` lies in one mapping if the length grows or the address changes. In place, or to elsewhere."""
        if new == old:
            if new_nr > old_nr:
                self.map(old + old_nr, new_nr - old_nr, self.prots[old])
            self.unmap(old + new_nr, old_nr - new_nr)
            return
        kept = {
            page - old + new: self.stamps[page] for page in range(old, old + min(old_nr, new_nr)) if page in self.stamps
        }
        self.map(new, new_nr, self.prots[old])
        self.unmap(old, old_nr)
        self.stamps |= kept

    def fault(self, first: int, nr: int, *, write: bool) -> int | None:
        """The first page that may not be accessed."""
        wanted = PROT_WRITE if write else PROT_READ
        return next((page for page in range(first, first + nr) if not self.prots.get(page, 0) & wanted), None)

    # -- beside the kernel's -----------------------------------------------------------------------------------------

    def wrong_layout(self, mm: MmStruct) -> str | None:
        """The first page that is mapped otherwise, in words."""
        real = layout(mm)
        if real == self.prots:
            return None
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
        self.prots = real
        self.stamps = {page: stamp for page, stamp in self.stamps.items() if page in real}
        pages, rows = contents(system, mm)
        there = set(pages[rows[:, 0] != 0].tolist())
        for page in (page for first, nr in stake.cleared for page in range(first, first + nr)):
            if page not in there:
                self.stamps.pop(page, None)
        return None


def layout(mm: MmStruct) -> dict[int, int]:
    """PROT_READ and PROT_WRITE by page, as the VMAs say."""
    prots: dict[int, int] = {}
    for vma in mm.vmas:
        prots |= dict.fromkeys(
            range(vma.start >> PAGE_SHIFT, vma.end >> PAGE_SHIFT), vma.flags & (PROT_READ | PROT_WRITE)
        )
    return prots


def contents(system: System, mm: MmStruct) -> tuple[np.typing.NDArray[np.int64], np.typing.NDArray[np.int64]]:
    """(pages that have an entry, their bytes as rows of words), read past the MMU: nothing faults, nothing changes."""
    present, _ = read_page_tables(system.machine, mm.pgd)
    return present.addresses >> PAGE_SHIFT, system.machine.ram.words8.reshape(-1, WORDS)[present.pfns]
