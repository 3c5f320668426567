"""The words of /proc/kpageflags, and what kind of page they make.

Bits and names are those of Documentation/admin-guide/mm/pagemap.rst; from 32 on, of include/linux/kernel-page-flags.h, which
the kernel calls hacking assistance and may change. One bit has two meanings: what is MAPPEDTODISK on a page of a file says on
an anonymous page that the one who maps it may write to it without a copy (PG_anon_exclusive); tools/mm/page-types.c tells them
apart in the same way.
"""

_NAMES = """
    LOCKED ERROR REFERENCED UPTODATE DIRTY LRU ACTIVE SLAB WRITEBACK RECLAIM BUDDY MMAP ANON SWAPCACHE
    SWAPBACKED COMPOUND_HEAD COMPOUND_TAIL HUGE UNEVICTABLE HWPOISON NOPAGE KSM THP OFFLINE ZERO_PAGE IDLE
    PGTABLE
"""
_KERNEL_NAMES = """
    RESERVED MLOCKED MAPPEDTODISK PRIVATE PRIVATE_2 OWNER_PRIVATE ARCH UNCACHED SOFTDIRTY ARCH_2 ARCH_3
"""
FLAGS = dict(enumerate(_NAMES.split())) | dict(enumerate(_KERNEL_NAMES.split(), 32))
"""Bit to name."""

_BIT = {name: 1 << bit for bit, name in FLAGS.items()}
NOPAGE = _BIT["NOPAGE"]
ANON, KSM = _BIT["ANON"], _BIT["KSM"]
COMPOUND_HEAD = _BIT["COMPOUND_HEAD"]
COMPOUND_TAIL = _BIT["COMPOUND_TAIL"]
ANON_EXCLUSIVE = _BIT["MAPPEDTODISK"]

_KINDS = (
    ("NOPAGE", "no page"),
    ("ZERO_PAGE", "zero"),
    ("KSM", "ksm"),
    ("ANON", "anon"),
    ("HUGE", "hugetlb"),
    ("SLAB", "slab"),
    ("BUDDY", "free"),
    ("PGTABLE", "page table"),
    ("OFFLINE", "offline"),
    ("RESERVED", "reserved"),
    ("SWAPBACKED", "shmem"),
    ("LRU", "file"),
    ("MMAP", "file"),
)


def flag_names(word: int) -> list[str]:
    """The flags of a page in words, in the order of their bits; a bit without a name is "BIT_n"."""
    names = [FLAGS.get(bit, f"BIT_{bit}") for bit in range(64) if word >> bit & 1]
    if word & ANON and word & ANON_EXCLUSIVE:
        names[names.index("MAPPEDTODISK")] = "ANON_EXCLUSIVE"
    return names


def kind_of(word: int) -> str:
    """anon, ksm, file, shmem, hugetlb, zero; or of no reverse map: free, slab, page table, reserved, kernel ...

    A page of a file that is not mapped and not on an LRU list yet looks like the kernel's own.
    """
    return next((kind for name, kind in _KINDS if word & _BIT[name]), "kernel")
