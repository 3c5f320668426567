"""The way down, drawn: tasks, their VMAs, entries, frames. And what a frame's count is made of.

    task   VMA
    pid 1  40000000-40004000 rw-p
    pid 2  40000000-40004000 rw-p

    task   address   entry at  flags
    pid 1  40000000  310a000   P-UAD  --+--> frame 12300  "hello"
    pid 2  40000000  3111000   P-U-D  --+    count 3 = 2 entries + 1 pagevec

At most 80 columns with its margin, whatever the format of page tables. Entries are those the judge reads: every page table, whatever the reverse map says.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rmaplab.harmless import printable
from rmaplab.machine.entries import ACCESSED, DIRTY, PRESENT, RW, USER
from rmaplab.machine.frames import ZERO_PFN
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.mm.kernel import Kernel
from rmaplab.rmap.brute_force import mappings_of

FLAGS = ((PRESENT, "P"), (RW, "W"), (USER, "U"), (ACCESSED, "A"), (DIRTY, "D"))
LEGEND = """\
entry flags: P present, W writable, U user, A accessed, D dirty; addresses are hexadecimal
count: page->count; rmap told: what mm/ asked of the design; cost: what was counted, in the design and outside"""


class Entry(NamedTuple):
    """One page-table entry that maps a page: whose, for which address, where it lies, what it says."""

    pid: int
    address: int
    pte: int
    flags: int
    pfn: int


class Page(NamedTuple):
    """A frame: page->count, and what it is made of: entries, and places in an LRU-add pagevec."""

    pfn: int
    references: int
    nr_entries: int
    nr_pagevec: int


def read_all_entries(k: Kernel) -> list[Entry]:
    """Every entry of every address space, in order of birth and address. O(all page tables)."""
    entries = []
    for mm in k.mms.values():
        present, _ = read_page_tables(k.machine, mm.pgd)
        for value, address in zip(present.entries.tolist(), present.addresses.tolist(), strict=True):
            _, pte = lookup(*k.machine.geometry, mm.pgd, address)
            entries.append(Entry(mm.pid, address, int(pte), value & 0xFFF, value >> 12))
    return entries


def read_page(k: Kernel, pfn: int) -> Page:
    """A frame as it stands. O(all page tables)."""
    return _page(k, pfn, sum(entry.pfn == pfn for entry in read_all_entries(k)))


def _page(k: Kernel, pfn: int, nr_entries: int) -> Page:
    return Page(pfn, int(k.machine.frames.count[pfn]), nr_entries, int((k.lru_add.references() == pfn).sum()))


def draw_memory(k: Kernel) -> list[str]:
    """All VMAs, then all mappings there are, frame by frame; frames that only a pagevec still holds. Made for a few dozen."""
    areas = [("task", "VMA")]
    areas += [(f"pid {mm.pid}", repr(vma).rsplit(" ", 1)[0]) for mm in k.mms.values() for vma in mm.vmas]
    return [*(line.rstrip() for line in _columns(areas)), "", *draw_entries(k, read_all_entries(k))]


def draw_page(k: Kernel, pfn: int) -> list[str]:
    """All mappings of one page. O(all page tables)."""
    entries = list[Entry]()
    for mapping in mappings_of(k.machine, k.mms.values(), pfn):
        value, pte = lookup(*k.machine.geometry, mapping.mm.pgd, mapping.address)
        entries.append(Entry(mapping.mm.pid, mapping.address, int(pte), int(value) & 0xFFF, pfn))
    return draw_entries(k, entries, with_pagevecs=False)


def draw_entries(k: Kernel, entries: Sequence[Entry], *, with_pagevecs: bool = True) -> list[str]:
    """Mappings, frame by frame; then frames that only a pagevec still holds."""
    rows = [("task", "address", "entry at", "flags")]
    rights = [""]
    for pfn in dict.fromkeys(entry.pfn for entry in entries):
        group = [entry for entry in entries if entry.pfn == pfn]
        rows += [_cells(entry) for entry in group]
        rights += _arrows(len(group), _frame(k, _page(k, pfn, len(group))))
        rows += [("", "", "", "")] * (len(rights) - len(rows))
    for pfn in dict.fromkeys(k.lru_add.references().tolist()) if with_pagevecs else ():
        if not any(entry.pfn == pfn for entry in entries):
            title, count = _frame(k, _page(k, pfn, 0))
            rows += [("nobody", "", "", ""), ("", "", "", "")]
            rights += [f"       {title}", f"       {count}"]
    return [f"{line}  {right}".rstrip() for line, right in zip(_columns(rows), rights, strict=True)]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cells(entry: Entry) -> tuple[str, str, str, str]:
    flags = "".join(letter if entry.flags & bit else "-" for bit, letter in FLAGS)
    return f"pid {entry.pid}", f"{entry.address:x}", f"{entry.pte:x}", flags


def _arrows(nr: int, frame: list[str]) -> list[str]:
    """What stands right of `nr` entries of one frame: lines that meet, and two lines about the frame."""
    if nr == 1:
        return [f"-----> {frame[0]}", f"       {frame[1]}"]
    right = [f"--+--> {frame[0]}", f"--+    {frame[1]}"]
    return right + ["--+"] * (nr - 2)


def _frame(k: Kernel, page: Page) -> list[str]:
    """Number and contents; the count and where it comes from."""
    if page.pfn == ZERO_PFN:
        return [f"frame {page.pfn}  the zero page", f"count {page.references}: reserved, it stays"]
    text = printable(bytes(k.machine.ram.bytes[page.pfn, :16]).split(b"\0")[0].decode("ascii", "replace"))
    parts = [f"{page.nr_entries} {'entry' if page.nr_entries == 1 else 'entries'}"] if page.nr_entries else []
    parts += [f"{page.nr_pagevec} pagevec"] if page.nr_pagevec else []
    others = page.references - page.nr_entries - page.nr_pagevec
    parts += [f"{others} of caches or who works on it"] if others > 0 else []
    return [f'frame {page.pfn}  "{text}"', f"count {page.references} = {' + '.join(parts)}"]
