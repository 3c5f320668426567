"""shmem_inode_info: what an inode has more whose pages live in memory and nowhere else: those of tmpfs, of memfds, of shared memory.

The swap vector, up to 3.0: a place for each page, to say where in swap it lies. With 4 places a page instead of 1024 or 512, and 16 in the inode:

    inode     0 to 15
    root -+-> 16 to 19             a page of places
          +-> 20 to 23
          +-> directory -> 24 to 27, 28 to 31, 32 to 35, 36 to 39
          +-> directory -> 40 to 43 ...

Source: 2.4.27, 2.6.2 mm/shmem.c, shmem_swp_entry, shmem_truncate; files.md F1.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.objects.flags import F_SEAL_SEAL

NR_DIRECT = 16
"""Places in the inode."""


class Account(IntEnum):
    """What overcommit has promised for such an object."""

    NOTHING = 0
    SIZE = 1
    """All of it, whether or not it has its pages yet."""
    PAGES = 2
    """The pages that it has."""


class SwapVector:
    """The pages of one inode's vector, by their place: level 0 the root, 1 directories, 2 pages of places. `entries` fit into a page."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.pages: dict[tuple[int, int], int] = {}  # -> PFN

    @property
    def most(self) -> int:
        """The first index that it has no place for."""
        return NR_DIRECT + self.entries * self.entries // 2 * (self.entries + 1)

    def missing(self, indexes: I64) -> list[tuple[int, int]]:
        """Places of pages that these indexes, ascending, need and that are not there, in the order in which shmem_swp_alloc asks for them. O(places)."""
        leaves = np.unique((indexes[indexes >= NR_DIRECT] - NR_DIRECT) // self.entries).tolist()
        wanted = dict.fromkeys([(0, 0)] if leaves else [])
        for leaf in leaves:
            if (directory := self._directory(leaf)) >= 0:
                wanted[1, directory] = None
            wanted[2, leaf] = None
        return [place for place in wanted if place not in self.pages]

    def cut(self, nr_pages: int) -> list[int]:
        """The file has no page from `nr_pages` on: the PFNs of what nobody needs any more, which are not there from now on. O(pages)."""
        first = -(-max(nr_pages - NR_DIRECT, 0) // self.entries)

        def goes(place: tuple[int, int]) -> bool:
            level, number = place
            if level == 1:
                return self.entries // 2 + number * self.entries >= first
            return number >= first if level else nr_pages <= NR_DIRECT

        return [self.pages.pop(place) for place in [*self.pages] if goes(place)]

    def _directory(self, leaf: int) -> int:
        """Which directory a page of places hangs in; -1 if it is the root."""
        return (leaf - self.entries // 2) // self.entries if leaf >= self.entries // 2 else -1


@dataclass(slots=True)
class ShmemInfo:
    """`account`: what it is charged for. `anonymous`: a mapping has made it, and it alone can show it. `executable`: its mode says so.

    `locked`: its pages are not for reclaim (SHM_LOCK). `seals`: what nobody may do with it any more; what it begins with keeps others away.
    `fallocend`: it may have pages up to there, behind its end. `swapped`: how many of its pages lie in swap (AddressSpace.slots says which, and where).
    """

    account: Account = Account.NOTHING
    locked: bool = False
    anonymous: bool = False
    executable: bool = False
    seals: int = F_SEAL_SEAL
    fallocend: int = 0
    swapped: int = 0
    vector: SwapVector | None = None
