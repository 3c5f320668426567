"""The seam: what a reverse-mapping design is asked, and when. Version 2.dev: it may still change until reclaim has used it.

    mm/ (the verbs)                          a design (rmap/pte_chain.py, rmap/anon_vma.py, yours)
    -----------------------------------      -----------------------------------------------------
    exec, fork, exit of an address space     mm_new, mm_fork, mm_exit
    mmap, first write fault, fork, split,    vma_new, vma_prepare, vma_fork, vma_clone, vma_can_merge, vma_can_grow,
      merge, unmap of a VMA                    vma_adopt, vma_adjust, vma_merge, vma_unlink
    a VMA's borders move                     vma_pre_update, vma_post_update
    page-table page comes and goes           tables_added, tables_removed
    entries are about to be added            reserve(batch)          may fail, nothing has changed yet
    mremap                                   move_verdict (which pages must be copied?), moved
    a page became exclusive (COW reuse)      rehome

    rmap/pages.py (what mm/ tells of pages)
    -----------------------------------
    entries were added, copied, removed      add, duplicate, remove  cannot fail; mapcounts are right by then
    whom do new pages of a VMA name?         owner; owned and disowned, for a design that counts them
    who maps this page?                      walk(pfn) -> Mapping, Mapping ...

There are two kinds of designs. One covers every page and keeps something for each (pte_chain), or searches (virtual_scan). The other
covers anonymous pages only: such a page names an owner in page->mapping, with PG_anon set, and a design finds from there whoever may map
it (objrmap.py). Pages of a file name the file, and are found through that whatever the design.

A design never imports mm/: it answers, and where the answer is "copy this page" mm/ acts. It owns its object sizes (in slab
caches of the simulated RAM), what it keeps beside struct page, and its say in merging. struct page is the kernel's: nobody but
rmap/pages.py counts in it. Work in bulk comes as batches of runs, pages one behind the other (machine/batch.py): one call per batch,
never one per page.

Every verb has a default that does nothing, so that a design's file holds its story and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from rmaplab.machine.arrays import I64, Bools
from rmaplab.machine.batch import Batch
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.paging import Paging
from rmaplab.objects.graph import Graph
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.live import Live

if TYPE_CHECKING:
    from rmaplab.machine.locks import Lock, LockClasses
    from rmaplab.machine.machine import Machine
    from rmaplab.machine.slab import SlabCache
    from rmaplab.objects.task import TaskStruct

VERSION = "2.dev"
_NOTHING: I64 = np.empty(0, np.int64)


class Mapping(NamedTuple):
    """One answer to "who maps this page?": an address space and the virtual address in it.

    `vma` and `pte`, the physical address of the entry, are told by a walk that has come by them: else None and -1.
    """

    mm: MmStruct
    address: int
    vma: VmArea | None = None
    pte: int = -1

    def __repr__(self) -> str:
        return f"Mapping(pid={self.mm.pid}, address={self.address:#x})"


class Sites(NamedTuple):
    """Where several pages are mapped, a row per entry: which of the pages it is, which of `owners` has it, its address, and where the entry is.

    What the walks have visited, by operation, of that in vain, by reason, how many page tables were read, and how many entries were left out because
    their page_table_lock is busy, is for the ledger: who asks charges it.
    """

    row: I64
    owner: I64
    address: I64
    pte: I64
    owners: list[tuple[MmStruct, VmArea | None]]
    visits: dict[str, int]
    in_vain: dict[str, int]
    table_walks: int = 0
    nr_busy: int = 0


class ReverseMap(ABC):
    """A design. One instance serves one booted machine."""

    name: ClassVar[str]
    protocol_version: ClassVar[str | int] = VERSION
    """The protocol it was written for; a design from outside states its own."""
    covers_files: ClassVar[bool] = True
    """Whether it finds every page. Otherwise only anonymous ones, and a file's are found through the file."""
    names_owners: ClassVar[bool] = True
    """Whether anonymous pages name an owner, if it does not cover files: else PG_anon is all that they say."""
    counts_pages: ClassVar[bool] = False
    """Whether it hears of `owned` and `disowned`."""
    reserves: ClassVar[bool] = False
    """Whether duplicate() takes memory: then PFNs are read and reserve() is called before entries are copied."""

    linear: ClassVar[bool] = False
    """Whether a page is found through its VMA's pgoff: then page->index is counted in pages of the object behind the VMA (else it is the
    address), and anonymous neighbours merge only where pgoff continues."""
    converts: ClassVar[bool] = False
    """Whether pages of files become its own (`convert`) before they are mapped at places that are not linear."""
    unshares_moves: ClassVar[bool] = False
    """Whether move_verdict ever asks for copies."""
    looks_everywhere: ClassVar[bool] = False
    """Whether walk() searches whole VMAs, the same for every page. Each class says it for itself (alike.py)."""

    page_slots: int = 1
    """How many entries of a page one of its objects holds: only when these are taken does one more need memory."""

    lock_classes: ClassVar[LockClasses] = ()
    """Its locks, in order, that are taken under page_table_lock. A walk that holds one of them must not wait for that, and tries."""
    outer_lock_classes: ClassVar[LockClasses] = ()
    """Those that are never taken under page_table_lock: a walk may hold them and wait for it."""
    live: ClassVar[Live | None] = None
    """What it would hold on a live machine, if that can be counted."""
    page_lock: ClassVar[str | None] = None
    """The bit lock in page->flags, one of these, under which a page's mappings are counted and its owner is written."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.frames = machine, machine.frames
        self._caches: list[SlabCache] = []
        self._spares: dict[object, I64] = {}

    # -- what it costs -------------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def page_bytes(hardware: Hardware) -> int:
        """Bytes it adds to struct page."""

    @staticmethod
    def vma_bytes(paging: Paging) -> int:
        """Bytes it adds to vm_area_struct."""
        del paging
        return 0

    @staticmethod
    def mm_bytes(paging: Paging) -> int:
        """Bytes it adds to mm_struct."""
        del paging
        return 0

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """Bytes of each kind of object it allocates, by name."""
        del hardware
        return {}

    def make_cache(self, name: str, *, extra_bytes: int = 0, hwcache_align: bool = False) -> SlabCache:
        """A slab cache for its objects of this name, each of object_bytes and `extra_bytes`."""
        size = self.object_bytes(self.machine.hardware)[name] + extra_bytes
        self._caches.append(self.machine.cache(name, size, hwcache_align=hwcache_align))
        return self._caches[-1]

    def caches(self) -> list[SlabCache]:
        """The slab caches it keeps its objects in."""
        return self._caches

    @property
    def spare(self) -> I64:
        """Objects that the running task has reserved and not used: each has his own, as a local variable of his call would hold them."""
        return self._spares.get(self.machine.locks.owner, _NOTHING)

    @spare.setter
    def spare(self, objects: I64) -> None:
        if objects.size:
            self._spares[self.machine.locks.owner] = objects
        else:
            self._spares.pop(self.machine.locks.owner, None)

    def owner_lock(self, pfn: int) -> Lock | None:
        """What keeps the list still that walk(pfn) goes by, if there is one."""
        del pfn
        return None

    def asked(self, pfn: int) -> None:
        """page_referenced has walked."""

    def asked_of(self, pfns: I64) -> None:
        """The same of many."""
        if type(self).asked is not ReverseMap.asked:
            for pfn in pfns.tolist():
                self.asked(pfn)

    def declared_unfindable(self) -> set[int]:
        """PFNs that are mapped and that walk() cannot find, because the design it models cannot."""
        return set()

    # -- address spaces ------------------------------------------------------------------------------------------

    def mm_new(self, mm: MmStruct) -> None:
        """A new, empty address space (exec)."""

    def mm_fork(self, parent: MmStruct, child: MmStruct) -> None:
        """A child's address space, before any VMA is copied."""

    def mm_exit(self, mm: MmStruct) -> None:
        """The address space has no entries and no VMAs left."""

    # -- VMAs ----------------------------------------------------------------------------------------------------

    def vma_prepare(self, vma: VmArea) -> None:
        """Before the first anonymous page goes into `vma`: called at every such fault. May raise as an allocation."""

    def vma_new(self, vma: VmArea) -> None:
        """`vma` has been made by mmap or brk, and linked: no neighbour could grow over it. Cannot fail."""

    def vma_fork(self, vma: VmArea, child: VmArea) -> None:
        """`child` is a fork's copy of `vma`, no entries yet. May raise as an allocation."""

    def vma_can_merge(self, vma: VmArea, other: VmArea) -> bool:
        """The design's say on making neighbours one, where all else agrees."""
        del vma, other
        return True

    def vma_can_grow(self, vma: VmArea, source: VmArea | None) -> bool:
        """The design's say on `vma` growing over a free range that pages of `source` are about to move to; None: a fresh range.

        `source` may also be a neighbour of which `vma` takes over a part, or all.
        """
        return source is None or self.vma_can_merge(vma, source)

    def vma_is_faulted(self, vma: VmArea) -> bool:
        """Whether the design has prepared `vma` for anonymous pages. What it has not, a lazy fork need not copy."""
        del vma
        return True

    def vma_adopt(self, vma: VmArea, source: VmArea) -> None:
        """`vma` is about to grow over pages of `source` (dup_anon_vma): the last chance to allocate. Borders have not moved yet.

        May raise as an allocation, with nothing changed.
        """

    def vma_pre_update(self, vma: VmArea) -> None:
        """The borders or the pgoff of a linked `vma` are about to change: whoever indexes VMAs by them takes it out."""

    def vma_post_update(self, vma: VmArea) -> None:
        """And puts it back in. Neither may fail."""

    def vma_merge(self, vma: VmArea, dying: VmArea) -> None:
        """`vma` has grown over `dying`, its neighbour, which goes away. vma_adopt came before. Cannot fail."""

    def vma_adjust(self, vma: VmArea, other: VmArea) -> None:
        """`vma`, a neighbour that may merge, has taken over pages of `other`: mprotect's moved border, mremap's grown target.

        vma_adopt came before. Cannot fail.
        """

    def vma_clone(self, vma: VmArea, new: VmArea) -> None:
        """`new` covers part of what `vma` covered (a split), or its pages (mremap). May raise as an allocation."""

    def vma_unlink(self, vma: VmArea) -> None:
        """`vma` goes away; its entries are gone."""

    # -- page tables and pages -----------------------------------------------------------------------------------

    def tables_added(self, mm: MmStruct, start: int, end: int) -> None:
        """Leaf tables for [start, end) of `mm` may have been added; no batch in them has been told yet."""

    def tables_removed(self, tables: I64) -> None:
        """These frames are page tables no more."""

    def reserve(self, batch: Batch) -> None:
        """Take at least what duplicate(batch) will need, on top of what is reserved already. May sleep; raises NoMemory."""

    def reserved(self, batch: Batch) -> bool:
        """Whether what is reserved is enough for duplicate(batch) as things are now."""
        return True

    def unreserve(self) -> None:
        """Give back what was reserved and not used."""

    def convert(self, pfns: I64, batch: Batch) -> bool:
        """Pages of files become its own (page_convert_anon); `batch` are the entries that map them now. For one that `converts`.

        False if somebody slept for memory: then nothing is done, and who asks looks again. Raises as an allocation.
        """
        raise NotImplementedError

    def owner(self, vma: VmArea, *, exclusive: bool) -> int:
        """What pages that become mapped in `vma` are to name: the address of an object. Of those that do not cover files.

        Not `exclusive`: somebody else's entries name them in swap, so others may map them too.
        """
        raise NotImplementedError

    def owned(self, vma: VmArea, nr: int) -> None:
        """`nr` pages name owner(vma) from now on."""

    def disowned(self, owners: I64) -> None:
        """Pages name nothing any more, that have named these: one address per page."""

    def add(self, batch: Batch, vma: VmArea) -> None:
        """Pages are mapped in `vma` (page_add_rmap): new ones, a file's, or back from swap. Cannot fail."""

    def duplicate(self, batch: Batch, vma: VmArea) -> None:
        """Mapped pages are mapped once more, in the fork's child `vma`. Cannot fail."""

    def remove(self, batch: Batch) -> None:
        """Entries are gone (page_remove_rmap); the pages are still referenced. Cannot fail."""

    def rehome(self, batch: Batch, vma: VmArea) -> None:
        """COW reuse: the pages belong to `vma` alone from now on."""

    def move_verdict(self, batch: Batch, vma: VmArea) -> Bools | None:
        """Mremap is about to move these entries to `vma`: which of the pages must be copied first. None for none."""
        del batch, vma
        return None

    def moved(self, old: Batch, new: Batch, vma: VmArea) -> None:
        """The entries `old` are at `new` now (entry addresses and virtual ones, pair by pair). Cannot fail."""

    # -- queries -------------------------------------------------------------------------------------------------

    @abstractmethod
    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Who maps this page? Every mapping once; visits in vain are counted in the ledger, not answered. Asked of a mapped page."""

    def sites(self, pfns: I64, *, stops: bool, tries: bool) -> Sites | None:
        """What walk() says of each of `pfns`, which are mapped and name one owner; nothing is charged. None: ask page by page.

        A walk that `stops` ends with the last entry that the page's mapcount promises. One that `tries` leaves out whose page_table_lock is busy.
        """
        del pfns, stops, tries
        return None

    def borders(self, owner: int) -> Iterable[int] | None:
        """Where page->index decides what walk() looks at, of pages that name `owner`: nothing between two of these numbers does. None: unknown.

        Each class says it for its own walk (alike.py). In any order. O(what hangs on the owner).
        """
        del owner
        return None

    def draw(self, pfn: int) -> list[str]:
        """What it keeps for this page, as it stands, in lines of ASCII: for a reader. What walk() visits is numbered, in order."""
        return [f"struct page {pfn}: {self.name} keeps nothing for it"]

    def graph(self, tasks: Iterable[TaskStruct]) -> Graph | None:
        """Its objects and the VMAs of these tasks as the live kernel's are read, if it is of that kind."""
        del tasks
        return None

    def tracked(self) -> I64:
        """The PFNs it knows a mapping of, ascending. For check(). O(frames)."""
        return np.flatnonzero(self.frames.mapcount)

    def check_owner(self, vma: VmArea, owner: int) -> None:
        """Pages that `vma` maps name `owner`: whether they may. Raises KernelBug."""

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """Its own structures agree with each other, with `mms` and with `mapped`: by PFN, the entries that map it.

        Raises KernelBug.
        """


def draw_page(pfn: int, fields: list[str], pointer: str, target: str, hanging: list[str]) -> list[str]:
    """A struct page as a box, the last of its fields pointing to `target`, with lines hanging from that: for draw()."""
    width = max(len(text) for text in (*fields, pointer))
    lines = [f"struct page {pfn}", f"+{'-' * (width + 2)}+", *(f"| {text:<{width}} |" for text in fields)]
    lines.append(f"| {pointer} {'-' * (width - len(pointer) + 4)}> {target}")
    foot = f"+{'-' * (width + 2)}+"
    below = [f"{'':7}+-- {text}" for text in hanging] or [""]
    return [*lines, (foot + below[0]).rstrip(), *(" " * len(foot) + text for text in below[1:])]
