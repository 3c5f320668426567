"""The box that a kernel is booted on: one record from the command line to boot().

    rmaplab compare forkbench --ram 2G --split 4:4 ---+
    boot("2.6.2", ram="2G", split="4:4") -------------+--> Box(ram="2G", split="4:4", ...) --> System: hardware, RAM laid out,
    boot("2.6.2", announced(ram="2G")) ---------------+                                        overcommit, prices

A box is what was said, not what comes of it: a size may be "2G", and what is None the kernel decides. What nobody could build is
refused when a kernel boots on it. Light to import: the command line is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmaplab.kernels.prices import PriceBook
    from rmaplab.kernels.swap_space import SwapWords


@dataclass(frozen=True)
class Box:
    """A box as it is described. Sizes are bytes or "512M"."""

    ram: int | str = "1G"
    swap: SwapWords = "0"
    """A size, or areas such as "32M@5, 64M@5, ./swapfile@3", each with ",crypt=twofish" behind it or without (kernels/swap_space.py, loop_words.py). It counts for overcommit, and is swapped to where something reclaims."""
    reclaim: bool | None = False
    """Whether programs that find no memory make room, as the kernel of the day did; else that is NoMemory. None: where that kernel's reclaim is here. Hundreds of
    processes on a full box take minutes."""
    cpus: int = 4
    paging: str | None = None
    """ "i386", "i386-pae" or "x86-64", by default the kernel's own (that of 2004 is the announcement's "i386-pae")."""
    l1_cache_bytes: int = 128
    """The line of its CPUs, 128 on a Pentium 4."""
    highpte: bool = True
    """Whether page tables may lie in high memory, which makes a pte_chain's slots 8 bytes wide under PAE."""
    split: str | None = None
    """How i386 divides its addresses: "3:1" if not given, "2:2" or "4:4"."""
    boot_use: int | str | None = None
    """What kernel and user land hold after boot besides mem_map; the kernel's own figures if not given."""
    overcommit: int = 0
    """vm.overcommit_memory."""
    overcommit_ratio: int = 50
    """vm.overcommit_ratio: the percentage for mode 2."""
    max_map_count: int | None = None
    """vm.max_map_count, where the kernel has it; else its own."""
    disable_cap_mlock: bool | None = None
    """vm.disable_cap_mlock, where the kernel has it; else its own."""
    shmmax: int | str | None = None
    """kernel.shmmax, the longest segment; else the kernel's own (32 MiB before 2014, which who installs a database raises)."""
    pages_min: int | None = None
    """In place of the watermark rule's own sum, for boxes of a few hundred frames."""
    ht: str = "off"
    """Whether two CPUs each share a core: "off"; "on", known to the scheduler as far as the kernel's is; "aware" and "blind" decide
    that against the kernel."""
    mmap_base: int | None = None
    """Below or above which address mmap begins to look, by default the kernel's own."""
    heap_base: int | None = None
    """Where the heap of a program begins, by default behind a small one."""
    file_index: str | None = None
    """What has the VMAs that map a file (kernels/file_indexes.py), by default the kernel's own."""
    readahead_kib: int = 128
    """How much is read ahead from its disk at most (read_ahead_kb of the device), what the kernels of these times begin with."""
    disk_seek_us: int = 8500
    """An average seek of its disk, which holds all files that are on one; 0: it seeks in no time. A desktop disk of 2004 (Seagate Barracuda
    7200.7, from memory, so believed); the announcement does not say which one it had. Nothing of it depends on a disk."""
    disk_rpm: int = 7200
    """Its turns a minute, half of one to wait for after a seek; 0: none."""
    disk_kib_per_s: int = 56_000
    """What passes under its head, outside; 0: no time."""
    prices: str | PriceBook | None = None
    """A price list of simulated time, or its name (kernels/prices.py)."""

    @property
    def is_the_announcements(self) -> bool:
        """As far as that is known: swap, boot use, overcommit mode, the disk and whether CPUs share cores are not (docs/time.md)."""
        known = announced()
        names = (
            "swap",
            "reclaim",
            "boot_use",
            "overcommit",
            "ht",
            "prices",
            "disk_seek_us",
            "disk_rpm",
            "disk_kib_per_s",
        )
        unknown = {name: getattr(known, name) for name in names}
        return replace(self, **unknown) == known


def announced(**changes: Any) -> Box:
    """The announcement's box, as far as it is known, but for `changes`."""
    return replace(Box(swap="512M", paging="i386-pae"), **changes)
