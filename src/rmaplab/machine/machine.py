"""A machine: RAM, frames, allocator, slab pages, page-table format, CPUs and the ledger, put together for one boot."""

from typing import Protocol

import numpy as np

from rmaplab.errors import KernelBug, OomKilled
from rmaplab.machine.allocator import Gfp, Layout, PageAllocator
from rmaplab.machine.arrays import I64, Bools, Words
from rmaplab.machine.disk import Disk
from rmaplab.machine.entries import PFN_MASK, Encoding
from rmaplab.machine.frames import PG_TABLE, Frames
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.locks import MIGHT_SLEEP, Listener, Lock, LockClasses, Locks
from rmaplab.machine.pagetable import lookup
from rmaplab.machine.ram import Ram
from rmaplab.machine.runqueue import SchedEntity
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.slab import SlabCache, SlabPages
from rmaplab.machine.tlb import Tlb, TlbRules
from rmaplab.units import PAGE_SHIFT


class HasTables(Protocol):
    """An address space, as far as its page tables go."""

    pgd: int
    page_table_lock: Lock


class Machine:
    """The hardware, and its RAM as a kernel has laid it out."""

    def __init__(
        self,
        hardware: Hardware,
        prices: PriceList,
        sched: SchedRules,
        layout: Layout,
        encoding: Encoding,
        locks: LockClasses = (),
        *,
        slub: bool = False,
        tlb: TlbRules | None = None,
    ) -> None:
        nr_frames = hardware.ram_bytes >> PAGE_SHIFT
        self.hardware = hardware
        self.paging = hardware.paging
        self.ram = Ram(nr_frames)
        self.frames = Frames(nr_frames)
        self.sched = Scheduler(sched, hardware.cpus, hardware.smt)
        self.allocator = PageAllocator(self.ram, self.frames, layout, self.sched)
        self.slab_pages = SlabPages(nr_frames)
        self._slub = slub
        self.caches: dict[str, SlabCache] = {}
        self.ledger = Ledger(prices)
        self.charge = self.ledger.charge
        """Count an operation; its time is due at the end of the burst."""
        self.disk = Disk(hardware.disk, self.sched, self.ledger)
        self.locks = Locks(locks, self.sched, self.ledger)
        self.tlb = Tlb(tlb or TlbRules(), self.sched, self.charge)
        self.swap_pages = hardware.swap_bytes >> PAGE_SHIFT
        self.progress_ns = 0
        """When a program was in user mode last."""
        self.nr_tables = self.nr_tables_peak = 0
        self._table_gfp = Gfp.HIGHUSER if hardware.highpte else Gfp.KERNEL
        self.words: Words = self.ram.words(self.paging.entry_bytes)
        self.geometry = (self.words, self.paging.levels, self.paging.bits)
        """What every kernel of pagetable.py begins with."""
        self.code: I64 | None = None
        """By frame what is not 0 where an engine keeps something that it has made of the frame's bytes (cpu/)."""
        self.locks_tables = False
        """Every leaf table has a lock of its own for its entries, beside the mm's for the tables."""
        self._table_locks: dict[int, Lock] = {}
        self.encoding = encoding
        self.mapped = encoding.mapped
        """What an entry must have one bit of to map a page: pte_present()."""

    @property
    def changes(self) -> int:
        """A number that moves when others may have changed what was read before: somebody slept for memory, or another task ran."""
        return self.allocator.sleeps + self.sched.switches + self.locks.visits

    @property
    def watched(self) -> bool:
        """Whether a listener is told of every point: then work goes page by page."""
        return self.locks.listener is not None

    def watch(self, listener: Listener | None) -> None:
        """Tell `listener` of every point from now on (locks.py); None ends it."""
        self.locks.listener = listener
        self.allocator.might_sleep = None if listener is None else self._might_sleep

    def _might_sleep(self) -> None:
        for lock in self.locks.held():
            if not lock.type.sleeps:
                raise KernelBug("might_sleep", f"memory is asked for with {lock.type.name} held")
        self.locks.reach(MIGHT_SLEEP)

    def wrote(self, pfns: I64 | int) -> None:
        """The kernel has written to frames. O(frames)."""
        self.frames.scribbled[pfns] = 1
        if self.code is not None and np.any(self.code[pfns]):
            self.tlb.tell()

    def entry_of(self, pgd: int, address: int, pfn: int) -> int:
        """One walk of a page table: the physical address of the entry for `address` if it maps frame `pfn`, else -1."""
        entry, pte = lookup(*self.geometry, pgd, address)
        return pte if entry & self.mapped and (entry >> PAGE_SHIFT) & PFN_MASK == pfn else -1

    def set_entry(self, pte: int, entry: int) -> None:
        """set_pte: the entry at physical address `pte`."""
        self.words[pte // self.paging.entry_bytes] = entry

    def pte_lock(self, mm: HasTables, address: int) -> Lock:
        """What the entry at `address` is changed under: page_table_lock, of the mm or of the leaf table; of the mm where there is no table yet."""
        if not self.locks_tables:
            return mm.page_table_lock
        _, pte = lookup(*self.geometry, mm.pgd, address)
        return mm.page_table_lock if pte < 0 else self.table_lock(pte >> PAGE_SHIFT)

    def table_lock(self, table: int) -> Lock:
        """The lock of the leaf table in frame `table`."""
        lock = self._table_locks.get(table)
        if lock is None:
            lock = self._table_locks[table] = self.locks.new("page_table_lock", f"page table {table}")
        return lock

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
            slub=self._slub,
        )
        return self.caches[name]

    def alloc_tables(self, nr: int, *, upper: bool = False) -> I64:
        """Frames for `nr` page tables, all zero. Upper tables lie low; leaf tables need not, with HIGHPTE.

        Raises as PageAllocator.alloc.
        """
        gfp = Gfp.KERNEL if upper else self._table_gfp
        tables = self.allocator.alloc(nr, gfp, zeroed=True, what="a page table")
        self.ram.expect(tables)
        self._count_tables(tables)
        return tables

    def free_tables(self, tables: I64) -> None:
        """Give page tables back; they are zero, as unhook_tables and a zap leave them."""
        self.nr_tables -= tables.size
        self.allocator.free(tables)
        self.ledger.charge("table_free", tables.size)

    def _count_tables(self, tables: I64) -> None:
        self.frames.flags[tables] = PG_TABLE  # a free frame has none
        self.nr_tables += tables.size
        self.nr_tables_peak = max(self.nr_tables_peak, self.nr_tables)
        self.ledger.charge("table_alloc", tables.size)

    def end_burst(self, *, user: bool = False) -> None:
        """A burst of work is done: its time passes now, and other CPUs catch up."""
        ledger, sched = self.ledger, self.sched
        ns, ledger.pending_ns = ledger.pending_ns, 0
        if sched.current is not None:
            ns += self.locks.wait_for_sweeps(ns)
            if sched.observer is not None:
                sched.observer.burst(sched.current, ns)
            sched.spend(ns, user=user)
            if user:
                self._to_user_mode(sched.current)
        elif user:  # driven from outside: the clock moves, and that is all
            sched.now_ns += ns
            sched.user_ns += ns
        else:
            sched.now_ns += ns
            sched.system_ns += ns

    def end_call(self) -> None:
        """Back to user mode: the system call has taken its time, and others may be due."""
        self.charge("syscall")
        self.end_burst()
        if self.sched.current is not None:
            self.sched.cond_resched()
            self._to_user_mode(self.sched.current)
        elif self.disk.busy:
            self.disk.reap()

    def _to_user_mode(self, running: SchedEntity) -> None:
        """It gets on; or a fatal signal has waited for that. Raises OomKilled."""
        self.progress_ns = self.sched.now_ns
        if running.fatal:
            raise OomKilled("SIGKILL")

    def check(self) -> Bools:
        """Allocator and slab caches are consistent; which frames nobody has. O(frames)."""
        unused = self.allocator.check()
        for cache in self.caches.values():
            cache.check()
        if self.nr_tables != int((self.frames.flags & PG_TABLE != 0).sum()):
            raise KernelBug("nr_page_table_pages", f"the counter says {self.nr_tables}, the flags say otherwise")
        return unused
