"""What a page-table entry can be. This is the only place that knows; whoever reads page tables asks here.

    kind      bits                                                 what it is
    NONE      0                                                    nothing
    PAGE      PRESENT, a frame number above bit 12                 a page; the MMU uses it
    HIDDEN    not PRESENT but `hidden`, a frame number             a page that nobody may touch (PROT_NONE): to the kernel it is there
    SWAP      neither; a type and an offset                        a page that lies in a slot of a swap area
    FILE      neither; `file`, a page offset                       a place of a nonlinear file mapping (up to 3.19)
    MARKER    as SWAP, of a type that no area has                  a note to the next fault (since 5.19)

pte_present() is `entry & mapped`: PAGE or HIDDEN. The MMU knows PRESENT only, so what the other bits mean without it is the kernel's to
say, and eras say it differently. i386 up to 2.6.7:

    bit   31 ........ 8   7      6     5 ... 1   0
    swap  offset          0      0     type      0        hidden is bit 7, file bit 6
    file  pgoff, high     0      1     pgoff     0

By 2.6.34 `hidden` is bit 8; on x86-64 the offset of a swap entry is stored inverted, above all frame numbers there can be (L1TF,
4.19). Frame numbers of HIDDEN entries are inverted too since then; that is left out here.

Sources: reclaim.md F.8, files.md B6; include/asm-i386/pgtable.h, pgtable-2level.h, pgtable-3level.h, asm-x86_64/pgtable.h of 2.6.2; arch/x86/
include/asm/pgtable_64.h of 6.18.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np

from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64, Bools

PRESENT = 0x001
RW = 0x002
USER = 0x004
ACCESSED = 0x020
DIRTY = 0x040
TABLE = PRESENT | RW | USER | ACCESSED | DIRTY  # _PAGE_TABLE: what an entry of an upper table says
READABLE = PRESENT | USER | ACCESSED
WRITABLE = READABLE | RW | DIRTY
PFN_MASK = (1 << 40) - 1
PTE_MARKER_GUARD = 4  # include/linux/swapops.h of 6.18


class EntryKind(IntEnum):
    """What an entry is."""

    NONE = 0
    PAGE = 1
    HIDDEN = 2
    SWAP = 3
    FILE = 4
    MARKER = 5


class Field(NamedTuple):
    """Bits of an entry: the lowest, and how many."""

    low: int
    nr: int

    @property
    def mask(self) -> int:
        """Where it lies."""
        return ((1 << self.nr) - 1) << self.low

    def of(self, entry: int) -> int:
        """Its value."""
        return (entry >> self.low) & ((1 << self.nr) - 1)

    def put(self, value: int) -> int:
        """An entry that says `value` there and nothing else. Raises KernelBug if it does not fit."""
        if value >> self.nr:
            raise KernelBug("pte", f"{value:#x} does not fit into {self.nr} bits of an entry")
        return value << self.low


@dataclass(frozen=True)
class Encoding:
    """What the bits of an entry without PRESENT mean to one kernel on one architecture."""

    hidden: int
    """_PAGE_PROTNONE."""
    type: Field
    offset: Field
    file: int = 0
    """_PAGE_FILE; 0 where there are no nonlinear mappings."""
    pgoff: tuple[Field, ...] = ()
    """Where a file entry has its offset, lowest bits first."""
    inverted: bool = False
    """The offset of a swap entry is stored bit by bit the other way round."""
    marker: int = -1
    """The swap type that means a marker, SWP_PTE_MARKER."""

    @cached_property
    def guard(self) -> int:
        """The entry of a guard region, PTE_MARKER_GUARD; -1, which no entry is, where there are no markers."""
        return self.swap_entry(self.marker, PTE_MARKER_GUARD) if self.marker >= 0 else -1

    @property
    def mapped(self) -> int:
        """What pte_present() looks at."""
        return PRESENT | self.hidden

    def kind(self, entry: int) -> EntryKind:
        """What `entry` is. Raises KernelBug if it has bits that nothing there can be has."""
        if not entry:
            return EntryKind.NONE
        if entry & PRESENT:
            return EntryKind.PAGE
        if entry & self.hidden:
            return EntryKind.HIDDEN
        if self.file and entry & self.file:
            kind, bits = EntryKind.FILE, self.file | sum(field.mask for field in self.pgoff)
        else:
            kind, bits = EntryKind.SWAP, self.type.mask | self.offset.mask
            if self.type.of(entry) == self.marker:
                kind = EntryKind.MARKER
        if entry & ~bits & _ALL:
            raise KernelBug("pte", f"an entry {entry & _ALL:#x}, and no kind of entry has these bits")
        return kind

    def is_swap(self, entry: int) -> bool:
        """Whether it names a slot of a swap area. Raises KernelBug as `kind`."""
        return self.kind(entry) is EntryKind.SWAP

    def are_swap(self, entries: I64) -> Bools:
        """The same of many. Raises KernelBug if an entry that would be one has bits that nothing there can be has."""
        swap: Bools = (entries != 0) & (entries & (self.mapped | self.file) == 0)
        if self.marker >= 0:
            swap &= (entries >> self.type.low) & ((1 << self.type.nr) - 1) != self.marker
        bad = swap & (entries & ~_signed(self.type.mask | self.offset.mask) != 0)
        if bad.any():
            self.kind(int(entries[bad][0]))
        return swap

    def swap_entry(self, area: int, offset: int) -> int:
        """The entry of a page that lies in slot `offset` of swap area `area`. Raises KernelBug if there is no room for either."""
        if self.inverted:
            return _signed(self.type.put(area) | (~self.offset.put(offset) & self.offset.mask))
        return _signed(self.type.put(area) | self.offset.put(offset))

    def swap_entries(self, areas: I64 | int, offsets: I64) -> I64:
        """The same of many. An area has room wherever one of its entries has had it."""
        if (offsets >> self.offset.nr).any():
            raise KernelBug("pte", f"{int(offsets.max()):#x} does not fit into {self.offset.nr} bits of an entry")
        shifted = offsets << self.offset.low
        if self.inverted:
            shifted = ~shifted & self.offset.mask
        return (np.asarray(areas, np.int64) << self.type.low) | shifted

    def swap_slot(self, entry: int) -> tuple[int, int]:
        """(Area, slot) of a swap entry; a marker's is its type and its value."""
        offset = self.offset.of(~entry if self.inverted else entry)
        return self.type.of(entry), offset

    def swap_slots(self, entries: I64) -> tuple[I64, I64]:
        """The same of many, as two columns."""
        offsets = ~entries if self.inverted else entries
        types = (entries >> self.type.low) & ((1 << self.type.nr) - 1)
        return types, (offsets >> self.offset.low) & ((1 << self.offset.nr) - 1)

    def swap_bits(self, area: int) -> tuple[int, int]:
        """(Which bits tell, what they are): of an entry that is something and names a slot of `area`."""
        return _signed(PRESENT | self.hidden | self.file | self.type.mask), _signed(self.type.put(area))

    def file_entry(self, pgoff: int) -> int:
        """The entry of a place that shows page `pgoff` of its file. Raises KernelBug if that does not fit, or there is no such entry."""
        entry, left = self.file, pgoff
        for field in self.pgoff:
            entry |= field.put(left & ((1 << field.nr) - 1))
            left >>= field.nr
        if not self.file or left:
            raise KernelBug("pgoff_to_pte", f"page offset {pgoff:#x} has no entry")
        return _signed(entry)

    def file_entries(self, pgoffs: I64) -> I64:
        """The same of many."""
        entries, left = np.full(pgoffs.size, self.file, np.int64), pgoffs
        for field in self.pgoff:
            entries |= (left & ((1 << field.nr) - 1)) << field.low
            left = left >> field.nr
        if pgoffs.size and (not self.file or left.any()):
            raise KernelBug("pgoff_to_pte", f"page offset {int(pgoffs.max()):#x} has no entry")
        return entries

    def file_pgoff(self, entry: int) -> int:
        """The page offset of a file entry."""
        pgoff = shift = 0
        for field in self.pgoff:
            pgoff |= field.of(entry) << shift
            shift += field.nr
        return pgoff


_ALL = (1 << 64) - 1


def _signed(entry: int) -> int:
    """Entries are int64 wherever they are worked on."""
    return entry - (1 << 64) if entry >> 63 else entry


def _low(hidden: int, type_bits: int, offset_low: int, offset_bits: int, pgoff: tuple[Field, ...]) -> Encoding:
    """Type from bit 1, offset above the kernel's own bits."""
    return Encoding(hidden, Field(1, type_bits), Field(offset_low, offset_bits), 0x40 if pgoff else 0, pgoff)


_SPLIT_29 = (Field(1, 5), Field(8, 24))


class EntryEra(IntEnum):
    """Since when entries without PRESENT mean what they mean."""

    LINUX_2_4 = 1
    LINUX_2_6 = 2
    LINUX_2_6_34 = 3
    LINUX_6_18 = 4


ENCODINGS: dict[EntryEra, dict[str, Encoding]] = {
    EntryEra.LINUX_2_4: {  # six bits of type, and no nonlinear mappings
        "i386": _low(0x80, 6, 8, 24, ()),
        "i386-pae": _low(0x80, 6, 8, 24, ()),
        "x86-64": _low(0x80, 6, 8, 56, ()),
    },
    EntryEra.LINUX_2_6: {
        "i386": _low(0x80, 5, 8, 24, _SPLIT_29),
        "i386-pae": _low(0x80, 5, 8, 24, (Field(32, 32),)),
        "x86-64": _low(0x80, 5, 8, 56, (Field(12, 52),)),
    },
    EntryEra.LINUX_2_6_34: {
        "i386": _low(0x100, 5, 9, 23, (Field(1, 5), Field(7, 1), Field(9, 23))),
        "i386-pae": Encoding(0x100, Field(32, 5), Field(37, 27), 0x40, (Field(32, 32),)),
        "x86-64": _low(0x100, 5, 9, 55, (Field(12, 52),)),
    },
    EntryEra.LINUX_6_18: {"x86-64": Encoding(0x100, Field(59, 5), Field(9, 50), inverted=True, marker=27)},
}
"""By era and page-table format."""
