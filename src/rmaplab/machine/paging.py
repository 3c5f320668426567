"""Page-table formats: what the MMU of an architecture reads.

                    levels   entries a table   entry    one leaf table maps
    i386            2        1024              4 bytes  4 MiB
    i386-pae        3        512 (top: 4)      8 bytes  2 MiB
    x86-64          4        512               8 bytes  2 MiB

A format is two integers, levels and bits (a table has 1 << bits entries and an entry 4096 >> bits bytes), so one set of
kernels walks all three. PAE's top level is four entries of 32 bytes in all, and its three user middle tables come with the
mm: pgd_alloc makes them at once.

On i386 user and kernel share 4 GiB of addresses, and the split decides how much RAM the kernel can address directly (lowmem):
3:1 leaves 896 MiB, 2:2 1920 MiB; with 4:4 each side has its own page tables and 3936 MiB are low. What is not low is high
memory.

An entry is a frame number above bit 12 and flags below (entries.py). Source: include/asm-i386/pgtable*.h, asm-x86_64/pgtable.h and
processor.h of 2.6.2 (TASK_SIZE, TASK_UNMAPPED_BASE); x86-64 user space was 511 GiB wide then. The heap begins where that of a
small program would, behind its text and data.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from rmaplab.errors import UsageError
from rmaplab.units import page_align


@dataclass(frozen=True)
class Paging:
    """One format. Sizes in bytes; `tables_at_birth` middle tables are allocated together with the pgd."""

    name: str
    levels: int
    bits: int
    word_bytes: int
    pgd_bytes: int
    tables_at_birth: int
    task_size: int
    unmapped_base: int
    heap_base: int
    max_ram_bytes: int
    lowmem_bytes: int
    split: str = ""
    switches_tables: bool = False
    """User and kernel have page tables of their own: they are switched at every kernel entry and exit."""

    @cached_property
    def entry_bytes(self) -> int:
        """Bytes of one page-table entry."""
        return 4096 >> self.bits

    @cached_property
    def wraps_at(self) -> int:
        """Where sums of addresses wrap to 0: the numbers a word can be."""
        return 1 << (8 * self.word_bytes)

    def is_canonical(self, address: int) -> bool:
        """Whether the MMU translates it; else an access is a general protection fault, which tells no address."""
        return self.word_bytes < 8 or not self.wraps_at >> 17 <= address < self.wraps_at - (self.wraps_at >> 17)

    @cached_property
    def leaf_span(self) -> int:
        """Bytes of address space that one leaf table maps."""
        return 4096 << self.bits

    @cached_property
    def top_span(self) -> int:
        """Bytes of address space under one entry of the top table (PGDIR_SIZE)."""
        return 4096 << (self.bits * (self.levels - 1))


_X86_64_TASK_SIZE = 0x7F_C000_0000
_VMALLOC_RESERVE = 128 << 20


@dataclass(frozen=True)
class Split:
    """How i386 divides its 4 GiB: where user addresses end, and where the kernel's direct mapping begins."""

    task_size: int
    page_offset: int

    @property
    def lowmem_bytes(self) -> int:
        """MAXMEM: what lies above PAGE_OFFSET but for the 128 MiB kept for vmalloc."""
        return (1 << 32) - self.page_offset - _VMALLOC_RESERVE

    @property
    def overlaps(self) -> bool:
        """One address means two things, to the user and to the kernel: no single page table can say both."""
        return self.page_offset < self.task_size


# asm-i386/page.h: 3:1 is mainline; the others as in Martin Bligh's tree of 14 March 2004 (210-config_page_offset, and
# Ingo Molnar's 4G/4G patch in it), LKML. Andrea Arcangeli puts 4:4 at "about 1 GB more" than 2:2 (history.md 2.5).
SPLITS = {
    "3:1": Split(0xC000_0000, 0xC000_0000),
    "2:2": Split(0x8000_0000, 0x8000_0000),
    "4:4": Split(0xFF00_0000, 0x0200_0000),
}
_3_1 = SPLITS["3:1"]

FORMATS = {
    paging.name: paging
    for paging in (
        Paging(
            "i386",
            2,
            10,
            4,
            4096,
            0,
            _3_1.task_size,
            page_align(_3_1.task_size // 3),
            0x0804_A000,
            4 << 30,
            _3_1.lowmem_bytes,
            "3:1",
        ),
        Paging(
            "i386-pae",
            3,
            9,
            4,
            32,
            3,
            _3_1.task_size,
            page_align(_3_1.task_size // 3),
            0x0804_A000,
            64 << 30,
            _3_1.lowmem_bytes,
            "3:1",
        ),
        Paging("x86-64", 4, 9, 8, 4096, 0, _X86_64_TASK_SIZE, 0x2A_9555_6000, 0x60_1000, 1 << 40, 1 << 40),
    )
}


def paging_format(name: str, split: str | None = None) -> Paging:
    """The format called `name`, its addresses split as `split` says (i386 only; 3:1 if not given). Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(f"no page-table format {name!r}: choose one of {', '.join(FORMATS)}")
    paging = FORMATS[name]
    if split is None or split == paging.split:
        return paging
    if not paging.split:
        raise UsageError(f"{name} has no split of its addresses: leave --split away")
    if split not in SPLITS:
        raise UsageError(f"no split {split!r}: choose one of {', '.join(SPLITS)}")
    chosen = SPLITS[split]
    return replace(
        paging,
        split=split,
        task_size=chosen.task_size,
        unmapped_base=page_align(chosen.task_size // 3),
        tables_at_birth=-(-chosen.task_size >> 30) if paging.tables_at_birth else 0,
        lowmem_bytes=chosen.lowmem_bytes,
        switches_tables=chosen.overlaps,
    )
