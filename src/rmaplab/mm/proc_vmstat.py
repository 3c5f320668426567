"""/proc/vmstat: what has happened to pages since boot, and some of what they are now.

    2.4          no such file: lines of /proc/stat, "page in out" in KiB and "swap in out" in pages. The names here are its kstat's
    2.5.40 on    one name a line; by zone since 11 March 2004 (2.6.5-rc1): pgscan becomes pgscan_kswapd_high, pgscan_direct_high, ...
    6.18         some 200 names; those that the model knows, in the kernel's order

Pages, but for pgpgin and pgpgout, which are KiB and have swap in them, and nr_kernel_stack, KiB too. pgfree has what boot gave to the page allocator, so pgfree less
pgalloc is what is free or on a CPU's list. A scan of a list that is as long as the batch counts one too many, as Linux does.

slabs_scanned is what dentries and inodes were asked for, none of which go (reclaim/shrink_slab.py). 0, because nobody does it here: inodes that are dropped (pginodesteal, kswapd_inodesteal), nr_unstable (NFS). kswapd runs
only where programs do and the box makes room; else kswapd_steal, pageoutrun and pgscan_kswapd_* stay 0. pgfault is without faults that ended in a signal. Of 6.18 are left out: zones but DMA and NORMAL (the model's NORMAL has what
lies in DMA32 there), its lists, NUMA, compaction, and whatever else is not modelled.

Source: 2.6.2, 2.6.5, 2.6.7 mm/page_alloc.c, vmstat_text, vmstat_start; HT:927e073cd0, "vm: per-zone vmscan instrumentation"; 2.4.27 fs/proc/proc_misc.c, kstat_read_proc;
6.18 mm/vmstat.c, vmstat_text, whose names and order were compared with a running 6.18.44.
"""

from collections.abc import Callable
from enum import IntEnum

from rmaplab.mm.kernel import Kernel
from rmaplab.mm.page_state import PAGE_KIB, PageState


class VmstatEra(IntEnum):
    """Which names there are."""

    PROC_STAT = 0
    WHOLE = 1
    """Of the whole machine."""
    BY_ZONE = 2
    LINUX_6_18 = 3


_NOW = "nr_dirty nr_writeback nr_unstable nr_page_table_pages nr_mapped nr_slab"
_MOVED = "pgpgin pgpgout pswpin pswpout"
_TAIL = "kswapd_steal kswapd_inodesteal pageoutrun allocstall pgrotated"
_ZONES = ("high", "normal", "dma")


def _by_zone(*events: str) -> str:
    return " ".join(f"{event}_{zone}" for event in events for zone in _ZONES)


_NAMES = {
    VmstatEra.PROC_STAT: _MOVED,
    VmstatEra.WHOLE: f"{_NOW} {_MOVED} pgalloc pgfree pgactivate pgdeactivate pgfault pgmajfault pgscan pgrefill pgsteal pginodesteal {_TAIL}",
    VmstatEra.BY_ZONE: f"{_NOW} {_MOVED} {_by_zone('pgalloc')} pgfree pgactivate pgdeactivate pgfault pgmajfault "
    f"{_by_zone('pgrefill', 'pgsteal', 'pgscan_kswapd', 'pgscan_direct')} pginodesteal slabs_scanned {_TAIL}",
    VmstatEra.LINUX_6_18: f"nr_free_pages nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_shmem nr_kernel_stack nr_page_table_pages "
    f"nr_swapcached {_MOVED} pgalloc_dma pgalloc_normal pgfree pgfault pgmajfault nr_unstable",
}
_NEVER = ["nr_unstable", "pginodesteal", "kswapd_inodesteal"]
_STATES: dict[str, Callable[[PageState], int]] = {
    "nr_dirty": lambda s: s.nr_dirty,
    "nr_writeback": lambda s: s.nr_writeback,
    "nr_page_table_pages": lambda s: s.nr_leaf_tables,
    "nr_mapped": lambda s: s.nr_mapped,
    "nr_slab": lambda s: s.nr_slab,
    "pgpgin": lambda s: s.pgpgin,
    "pgpgout": lambda s: s.pgpgout,
    "pgalloc": lambda s: s.pgalloc,
    "pgfree": lambda s: s.pgfree,
    "pgfault": lambda s: s.pgfault,
    **{name: lambda _: 0 for name in _NEVER},
}
_OF_6_18: dict[str, Callable[[PageState], int]] = {
    "nr_free_pages": lambda s: s.k.machine.allocator.nr_free,
    "nr_anon_pages": lambda s: s.nr_anon,
    "nr_mapped": lambda s: s.nr_file_mapped,
    "nr_file_pages": lambda s: s.nr_pagecache + s.nr_swapcache,
    "nr_shmem": lambda s: s.nr_shmem,
    "nr_kernel_stack": lambda s: s.nr_stacks * PAGE_KIB,
    "nr_page_table_pages": lambda s: s.nr_tables,
    "nr_swapcached": lambda s: s.nr_swapcache,
}


def vmstat(k: Kernel, era: VmstatEra) -> dict[str, int]:
    """By the kernel's names, in its order. O(frames), O(pages cached)."""
    state = PageState(k)
    fields = _STATES | (_OF_6_18 if era is VmstatEra.LINUX_6_18 else {})
    return {name: fields[name](state) if name in fields else _event(state, name) for name in _NAMES[era].split()}


def vmstat_text(k: Kernel, era: VmstatEra) -> str:
    """The same as /proc/vmstat prints it; of 2.4 these two lines of /proc/stat."""
    found = vmstat(k, era)
    if era is VmstatEra.PROC_STAT:
        return f"page {found['pgpgin']} {found['pgpgout']}\nswap {found['pswpin']} {found['pswpout']}\n"
    return "".join(f"{name} {value}\n" for name, value in found.items())


def _event(state: PageState, name: str) -> int:
    """What the ledger counts under its own name, or a zone: pgscan_direct_high is what was scanned in HIGHMEM, and not by kswapd."""
    event, _, zone = name.rpartition("_")
    if zone not in _ZONES:
        return state.event(name)
    if event == "pgscan_direct":
        return state.in_zone("pgscan", zone) - state.in_zone("pgscan_kswapd", zone)
    return state.in_zone(event, zone)
