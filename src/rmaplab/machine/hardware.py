"""What a machine is made of, before anything runs on it: figures only, so that who counts objects of a design needs no machine."""

from dataclasses import dataclass

from rmaplab.machine.paging import Paging
from rmaplab.machine.smt import NO_SMT, Smt

MINUTE = 60 * 10**9


@dataclass(frozen=True)
class DiskSpeed:
    """How fast it is: nanoseconds of an average seek, of a whole turn, and of a page that passes under the head. All 0: no time."""

    seek_ns: int = 0
    turn_ns: int = 0
    page_ns: int = 0

    @classmethod
    def of(cls, seek_us: int, rpm: int, kib_per_s: int) -> "DiskSpeed":
        """From a data sheet; 0 for what takes no time."""
        return cls(seek_us * 1000, MINUTE // rpm if rpm else 0, 4 * 10**9 // kib_per_s if kib_per_s else 0)


NO_TIME = DiskSpeed()


@dataclass(frozen=True)
class Hardware:
    """The box. `l1_cache_bytes` sets slab packing and the size of a pte_chain; `highpte` the width of its slots under PAE.

    With `highpte` the leaf page tables may lie in high memory. `readahead_pages` is the most that is read ahead from its disk at once.
    """

    ram_bytes: int
    swap_bytes: int
    cpus: int
    paging: Paging
    l1_cache_bytes: int
    highpte: bool
    smt: Smt = NO_SMT
    disk: DiskSpeed = NO_TIME
    readahead_pages: int = 32

    @property
    def arch(self) -> str:
        """The name of the page-table format."""
        return self.paging.name
