"""Page-table formats: what the MMU of an architecture reads.

                    levels   entries a table   entry    one leaf table maps
    i386            2        1024              4 bytes  4 MiB
    i386-pae        3        512 (top: 4)      8 bytes  2 MiB
    x86-64          4        512               8 bytes  2 MiB

A format is two integers, levels and bits (a table has 1 << bits entries and an entry 4096 >> bits bytes), so one set of
kernels walks all three. PAE's top level is four entries of 32 bytes in all, and its three user middle tables come with the
mm: pgd_alloc makes them at once.

An entry is a frame number above bit 12 and the flags below. Source: include/asm-i386/pgtable*.h, asm-x86_64/pgtable.h and
processor.h of 2.6.2 (TASK_SIZE, TASK_UNMAPPED_BASE); x86-64 user space was 511 GiB wide then. The heap begins where that of a
small program would, behind its text and data.
"""

from dataclasses import dataclass

from rmaplab.errors import UsageError

PRESENT = 0x001
RW = 0x002
USER = 0x004
ACCESSED = 0x020
DIRTY = 0x040
PROTNONE = 0x080  # ours to use while PRESENT is clear: a page is mapped here, and nobody may touch it (_PAGE_PROTNONE)
MAPPED = PRESENT | PROTNONE  # what pte_present() means: to the MMU only PRESENT counts
TABLE = PRESENT | RW | USER | ACCESSED | DIRTY  # _PAGE_TABLE: what an entry of an upper table says


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

    @property
    def entry_bytes(self) -> int:
        """Bytes of one page-table entry."""
        return 4096 >> self.bits

    @property
    def leaf_span(self) -> int:
        """Bytes of address space that one leaf table maps."""
        return 4096 << self.bits

    @property
    def top_span(self) -> int:
        """Bytes of address space under one entry of the top table (PGDIR_SIZE)."""
        return 4096 << (self.bits * (self.levels - 1))


_I386_TASK_SIZE = 0xC000_0000
_X86_64_TASK_SIZE = 0x7F_C000_0000

FORMATS = {
    paging.name: paging
    for paging in (
        Paging("i386", 2, 10, 4, 4096, 0, _I386_TASK_SIZE, _I386_TASK_SIZE // 3, 0x0804_A000, 4 << 30),
        # 64 GiB are addressable; beyond 4 GiB needs zones, or a pte_chain's 4-byte pointer would not reach its page table
        Paging("i386-pae", 3, 9, 4, 32, 3, _I386_TASK_SIZE, _I386_TASK_SIZE // 3, 0x0804_A000, 4 << 30),
        Paging("x86-64", 4, 9, 8, 4096, 0, _X86_64_TASK_SIZE, 0x2A_9555_6000, 0x60_1000, 1 << 40),
    )
}


def paging_format(name: str) -> Paging:
    """The format called `name`. Raises UsageError with the names there are."""
    try:
        return FORMATS[name]
    except KeyError:
        raise UsageError(f"no page-table format {name!r}: choose one of {', '.join(FORMATS)}") from None
