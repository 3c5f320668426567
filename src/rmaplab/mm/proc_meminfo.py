"""/proc/meminfo: the names of the day, in its order, as it was printed.

    2.4        a table in bytes above it, and MemShared, which is always 0
    2.6        since 2.5 without both; Dirty, Writeback, Mapped, Slab, Committed_AS and PageTables with it. ReverseMaps had gone before 2.6.2
    6.18       AnonPages apart from Mapped, Shmem, KernelStack; page tables of all levels, not only the leaf tables; no high memory on x86-64

What is in use after boot (the box's boot use, `boot_kernel_bytes` and `boot_user_bytes`) is in MemTotal and not in MemFree, and in no other field: nobody knows what it consists of.

0, because there would be none on such a box: MemShared (2.4 counts no more); Buffers (a disk here has files and nothing else, so no block device is cached); and of
6.18 Zswap, Zswapped, SecPageTables, NFS_Unstable, Bounce, WritebackTmp, and what there is of huge pages by hand (HugePages_, Hugetlb).

Left out, because there would be something, and it is not modelled: Vmalloc* (but for VmallocChunk of 6.18, which is a constant 0); Active and Inactive where there are no lists of pages yet (Rules.lru_lists); and of
6.18 MemAvailable, which is computed from lists, those lists, Unevictable, Mlocked, KReclaimable, SReclaimable, SUnreclaim, Percpu, transparent huge pages, Balloon, DirectMap*. 2.6 prints
HugePages_ only if it is configured for them; i386's defconfig is not.

Source: 2.4.27, 2.6.2, 2.6.7 fs/proc/proc_misc.c, meminfo_read_proc; mm/page_alloc.c, si_meminfo, get_zone_counts; mm/swapfile.c, si_swapinfo; 6.18 fs/proc/meminfo.c, meminfo_proc_show, whose
names and order were compared with a running 6.18.44.
"""

from collections.abc import Callable
from enum import IntEnum

from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_state import PAGE_KIB, PageState


class MeminfoEra(IntEnum):
    """Which names there are."""

    LINUX_2_4 = 0
    LINUX_2_6 = 1
    LINUX_6_18 = 2


_RAM = "MemTotal MemFree"
_ZONES = "HighTotal HighFree LowTotal LowFree"
_NAMES = {
    MeminfoEra.LINUX_2_4: f"{_RAM} MemShared Buffers Cached SwapCached Active Inactive {_ZONES} SwapTotal SwapFree",
    MeminfoEra.LINUX_2_6: f"{_RAM} Buffers Cached SwapCached Active Inactive {_ZONES} SwapTotal SwapFree "
    "Dirty Writeback Mapped Slab Committed_AS PageTables",
    MeminfoEra.LINUX_6_18: f"{_RAM} Buffers Cached SwapCached SwapTotal SwapFree Zswap Zswapped Dirty Writeback AnonPages Mapped Shmem "
    "Slab KernelStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS VmallocChunk "
    "HugePages_Total HugePages_Free HugePages_Rsvd HugePages_Surp Hugepagesize Hugetlb",
}
_NUMBERS = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")
"""What is no size."""
_HUGE_KIB = 2048
_FIELDS: dict[str, Callable[[PageState], int]] = {  # in pages; what is not here is 0
    "MemTotal": lambda s: s.k.machine.allocator.totalram_pages,
    "MemFree": lambda s: s.k.machine.allocator.nr_free,
    "Cached": lambda s: s.nr_pagecache,
    "SwapCached": lambda s: s.nr_swapcache,
    "Active": lambda s: s.nr_active,
    "Inactive": lambda s: s.nr_inactive,
    "HighTotal": lambda s: _high(s.k, total=True),
    "HighFree": lambda s: _high(s.k, total=False),
    "LowTotal": lambda s: s.k.machine.allocator.totalram_pages - _high(s.k, total=True),
    "LowFree": lambda s: s.k.machine.allocator.nr_free - _high(s.k, total=False),
    "SwapTotal": lambda s: s.k.swap.areas.total_swap_pages,
    "SwapFree": lambda s: s.k.swap.nr_free,
    "Dirty": lambda s: s.nr_dirty,
    "Writeback": lambda s: s.nr_writeback,
    "AnonPages": lambda s: s.nr_anon,
    "Mapped": lambda s: s.nr_mapped,
    "Shmem": lambda s: s.nr_shmem,
    "Slab": lambda s: s.nr_slab,
    "KernelStack": lambda s: s.nr_stacks,
    "PageTables": lambda s: s.nr_leaf_tables,
    "CommitLimit": lambda s: s.k.overcommit.limit,
    "Committed_AS": lambda s: s.k.committed_pages,
}
_OF_6_18: dict[str, Callable[[PageState], int]] = {
    "Mapped": lambda s: s.nr_file_mapped,
    "PageTables": lambda s: s.nr_tables,
}


def meminfo(k: Kernel, era: MeminfoEra) -> dict[str, int]:
    """The fields that this kernel has and the model knows, in KiB, but for numbers of huge pages; in the kernel's order. O(frames), O(tables above leaf tables)."""
    state, fields = PageState(k), _FIELDS | (_OF_6_18 if era is MeminfoEra.LINUX_6_18 else {})
    names = _NAMES[era].split()
    if not k.rules.lru_lists:
        names = [name for name in names if name not in ("Active", "Inactive")]
    found = {name: fields[name](state) * PAGE_KIB if name in fields else 0 for name in names}
    if "Hugepagesize" in found:
        found["Hugepagesize"] = _HUGE_KIB
    return found


def meminfo_line(name: str, value: int, era: MeminfoEra) -> str:
    """One line as the kernel prints it: a value of eight digits or fewer ends where all others end."""
    width, unit = 16 if era is MeminfoEra.LINUX_6_18 else 14, "" if name in _NUMBERS else " kB"
    return f"{name}:".ljust(width) + f"{value:{width + 8 - max(width, len(name) + 1)}}{unit}\n"


def meminfo_text(k: Kernel, era: MeminfoEra) -> str:
    """The same as /proc/meminfo prints it."""
    found = meminfo(k, era)
    lines = [meminfo_line(name, value, era) for name, value in found.items()]
    return (_table_in_bytes(k, found) if era is MeminfoEra.LINUX_2_4 else "") + "".join(lines)


def _high(k: Kernel, *, total: bool) -> int:
    """Pages of the zone above low memory that are the page allocator's, or free."""
    zones = [zone for zone in k.machine.allocator.zones if zone.extent.is_high]
    return sum(zone.extent.present if total else zone.nr_free for zone in zones)


def _table_in_bytes(k: Kernel, found: dict[str, int]) -> str:
    """What 2.4 prints first, for tools older than the names. The swap cache counts as cached here."""
    total, free, swap, swap_free = (found[name] << 10 for name in ("MemTotal", "MemFree", "SwapTotal", "SwapFree"))
    cached = (found["Cached"] + found["SwapCached"]) << 10
    memory = (total, total - free, free, found["MemShared"] << 10, found["Buffers"] << 10, cached)
    return (
        "        total:    used:    free:  shared: buffers:  cached:\n"
        f"Mem:  {' '.join(f'{size:8}' for size in memory)}\n"
        f"Swap: {' '.join(f'{size:8}' for size in (swap, swap - swap_free, swap_free))}\n"
    )
