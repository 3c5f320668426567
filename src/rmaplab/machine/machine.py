"""A machine: RAM, frames, allocator, slab pages, page-table format, CPUs and the ledger, put together for one boot."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmaplab.errors import KernelBug, UsageError
from rmaplab.machine.allocator import Gfp, PageAllocator
from rmaplab.machine.frames import PG_TABLE, Frames
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.locks import LockClasses, Locks
from rmaplab.machine.pagetable import Words
from rmaplab.machine.paging import Paging
from rmaplab.machine.ram import Ram
from rmaplab.machine.sched import SchedRules, Scheduler
from rmaplab.machine.slab import SlabCache, SlabPages
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE, format_size

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hardware:
    """The box. `l1_cache_bytes` sets slab packing and the size of a pte_chain; `highpte` the width of its slots under PAE."""

    ram_bytes: int
    swap_bytes: int
    cpus: int
    paging: Paging
    l1_cache_bytes: int
    highpte: bool

    @property
    def arch(self) -> str:
        """The name of the page-table format."""
        return self.paging.name


class Machine:
    """The hardware after the kernel has taken `reserved_bytes` of it for itself."""

    def __init__(
        self, hardware: Hardware, prices: PriceList, sched: SchedRules, reserved_bytes: int, locks: LockClasses = ()
    ) -> None:
        nr_frames = hardware.ram_bytes >> PAGE_SHIFT
        reserved = -(-reserved_bytes // PAGE_SIZE)
        if nr_frames * 3 < reserved * 4:
            raise UsageError(
                f"{format_size(hardware.ram_bytes)} of RAM is too small: this kernel takes {format_size(reserved_bytes)} to boot; "
                f"try --ram {1 << (reserved_bytes * 4 // 3 >> 20).bit_length()}M"
            )
        self.hardware = hardware
        self.paging = hardware.paging
        self.ram = Ram(nr_frames)
        self.frames = Frames(nr_frames)
        self.allocator = PageAllocator(self.ram, self.frames, reserved)
        self.slab_pages = SlabPages(nr_frames)
        self.caches: dict[str, SlabCache] = {}
        self.ledger = Ledger(prices)
        self.charge = self.ledger.charge
        """Count an operation; its time is due at the end of the burst."""
        self.sched = Scheduler(sched, hardware.cpus)
        self.locks = Locks(locks, self.sched, self.ledger)
        self.swap_pages_free = hardware.swap_bytes >> PAGE_SHIFT
        self.nr_tables = self.nr_tables_peak = 0
        self.words: Words = self.ram.words(self.paging.entry_bytes)
        self.geometry = (self.words, self.paging.levels, self.paging.bits)
        """What every kernel of pagetable.py begins with."""

    def cache(self, name: str, object_bytes: int, *, hwcache_align: bool = False) -> SlabCache:
        """kmem_cache_create: a new cache of this machine."""
        if name in self.caches:
            raise KernelBug("kmem_cache_create", f"there is a cache {name} already")
        self.caches[name] = SlabCache(
            name,
            object_bytes,
            self.slab_pages,
            self.allocator,
            line_bytes=self.hardware.l1_cache_bytes,
            word_bytes=self.paging.word_bytes,
            cpus=self.hardware.cpus,
            hwcache_align=hwcache_align,
        )
        return self.caches[name]

    def alloc_tables(self, nr: int) -> I64:
        """Frames for `nr` page tables, all zero. Raises as PageAllocator.alloc."""
        tables = self.allocator.alloc(nr, Gfp.KERNEL, zeroed=True)
        self._count_tables(tables)
        return tables

    def free_tables(self, tables: I64) -> None:
        """Give page tables back; they are zero, as unhook_tables and a zap leave them."""
        self.nr_tables -= tables.size
        self.allocator.free(tables)
        self.ledger.charge("table_free", tables.size)

    def _count_tables(self, tables: I64) -> None:
        self.frames.flags[tables] |= PG_TABLE
        self.nr_tables += tables.size
        self.nr_tables_peak = max(self.nr_tables_peak, self.nr_tables)
        self.ledger.charge("table_alloc", tables.size)

    def end_burst(self, *, user: bool = False) -> None:
        """A burst of work is done: its time passes now, and other CPUs catch up."""
        ledger, sched = self.ledger, self.sched
        ns, ledger.pending_ns = ledger.pending_ns, 0
        if sched.current is not None:
            sched.spend(ns, user=user)
        elif user:  # driven from outside: the clock moves, and that is all
            sched.now_ns += ns
            sched.user_ns += ns
        else:
            sched.now_ns += ns
            sched.system_ns += ns

    def check(self) -> None:
        """Allocator and slab caches are consistent, and every frame is somebody's. O(frames)."""
        self.allocator.check()
        for cache in self.caches.values():
            cache.check()
        if self.nr_tables != int((self.frames.flags & PG_TABLE != 0).sum()):
            raise KernelBug("nr_page_table_pages", f"the counter says {self.nr_tables}, the flags say otherwise")
