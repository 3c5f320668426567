"""How an era walks: what page_referenced and try_to_unmap do with what a walk finds. queries.py goes by these rules.

    page p is mapped by   pid 1 (VM_LOCKED)    pid 2 (young)                 pid 3 (page_table_lock is held)
    page_referenced       is that looked at?   1, made old; flushed?         skipped, or waited for?
    try_to_unmap          FAIL, or MLOCK       taken, or spared: FAIL        AGAIN, and on; or waited for

In which order the places come is the design's: newest entry first in a pte chain, newest VMA first on an anon_vma of 2004, by page offset
in an interval tree. Values, with their sources, are in kernels/figures_walks.py (reclaim.md E.1, E.2).
"""

from dataclasses import dataclass
from enum import IntEnum


class LockWay(IntEnum):
    """How a lock is taken on the way: not at all, by a trylock, or whatever it takes."""

    LEFT = 0
    TRIED = 1
    WAITED = 2


class PgReferenced(IntEnum):
    """When page_referenced counts and clears PG_referenced."""

    LEFT = 0
    IF_MAPPED = 1
    ALWAYS = 2


class IfLocked(IntEnum):
    """What page_referenced makes of a VMA with VM_LOCKED: nothing; a reference if it is a file's that is shared; the end of the walk."""

    IGNORED = 0
    FILE_COUNTS = 1
    STOPS = 2


class IfReserved(IntEnum):
    """What try_to_unmap makes of a VMA with VM_RESERVED: nothing; its entry is passed over; it keeps the page; BUG()."""

    IGNORED = 0
    SKIPPED = 1
    FAILS = 2
    IS_A_BUG = 3


class IfYoung(IntEnum):
    """What try_to_unmap makes of a young entry.

    It goes like others; it is made old and keeps the page, and the walk ends; it is made old, and so are those that follow, and none goes any more.
    """

    TAKEN = 0
    FAILS = 1
    SPARED = 2


class Nonlinear(IntEnum):
    """What a walk makes of nonlinear VMAs of a file (mm/nonlinear.py).

    Their linear places are looked at and no others; try_to_unmap takes all that is not young in each, whatever page it is of (rmap/nonlinear.py), and
    page_referenced passes over them; it takes clusters of them in turn.
    """

    AS_LINEAR = 0
    WHOLE = 1
    CLUSTERS = 2


class Unowned(IntEnum):
    """What is made of a file's page that truncate has left mapped, and that is nobody's now.

    Nothing; page_remove_rmap prints a warning, page_add_rmap and page_referenced BUG(); all do.
    """

    IGNORED = 0
    WARNS = 1
    IS_A_BUG = 2


@dataclass(frozen=True)
class WalkRules:
    """One kernel's."""

    walk_stops: bool
    """A walk ends when as many entries have been found as the page has mapcount."""
    referenced_flag: PgReferenced
    referenced_owner: LockWay
    """The lock of the list that the walk goes by. If it was tried in vain, the page is contended and nobody looks at it."""
    referenced_tables: LockWay
    """page_table_lock."""
    referenced_locked: IfLocked
    referenced_flushes: bool
    """A young entry that is made old is flushed from the TLB."""
    referenced_file: LockWay
    """As referenced_owner, of a page that is found through its file's VMAs."""
    referenced_file_tables: LockWay
    referenced_busy: int
    """What such a page counts as whose list is busy; and each of its places whose page_table_lock is."""
    unmap_tables: LockWay
    unmap_file: LockWay
    """Likewise the lock of the file's list: if it is busy, AGAIN."""
    unmap_young: IfYoung
    unmap_counts_holders: bool
    """A page in the swap cache that others than the cache, its entries and the caller refer to stays mapped."""
    unmap_reserved: IfReserved
    unmap_locked_mlocks: bool
    """A VMA with VM_LOCKED sends its page to the unevictable ones, if mmap_sem can be had."""
    unmap_flushes_late: bool
    """TLBs are flushed once, for all pages that go."""
    nonlinear: Nonlinear
    unowned: Unowned
