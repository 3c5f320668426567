r"""anon_vma_chain: every generation of a fork has an anon_vma of its own. Rik van Riel, Linux 2.6.34, May 2010; here as of 6.x.

The idea. With one anon_vma for a whole family, a page that a child has copied for itself is looked for in all its relatives: a
thousand children with a thousand pages each are a million pages and a thousand VMAs to visit for every one. So a child's VMA
gets an anon_vma of its own, for the pages it will copy, and stays on those of its ancestors, for the pages it has inherited.
That is a many-to-many relation, and an anon_vma_chain (AVC) is one pair of it.

    struct page             anon_vma                AVC, 64 bytes           vm_area_struct
    +----------------+      +-------------------+
    | mapping ------------> | A   root A        |--- tree --[A,P]---------> parent   anon_vma A   chain: A
    | index          |      |     parent A      |         \
    | mapcount       |      +-------------------+          [A,C]---+
    | PG_anon        |      +-------------------+                  +------> child    anon_vma B   chain: B, A
    +----------------+ ---> | B   root A        |--- tree --[B,C]--+
                            |     parent A      |
                            +-------------------+
                      an inherited page names A: both VMAs are visited. One that the child has copied names B: one is.

What each verb costs.
    first fault of a VMA    an anon_vma of 96 bytes (a slot of 104) and an AVC; a neighbour's anon_vma is shared if that has one AVC
    fork, per VMA           an AVC per AVC of the parent, one more, and an anon_vma: a chain of d generations, d (d + 1) / 2 AVCs
    fork, per page          mapcount + 1                  unmap, per page     mapcount - 1
    split, mremap's copy    an AVC per AVC                unmap, per VMA      a removal per AVC
    COW reuse               the page moves to the VMA's own anon_vma
    walk                    the VMAs of the page's anon_vma that cover its index: an interval tree finds them
    merging                 pgoff must continue; same anon_vma, or one VMA has none and the other is no fork's child

Reuse. A VMA whose ancestors have exited would collect their anon_vmas for ever (Daniel Forrest, 2012). So fork hands the child,
in place of a new one, the first anon_vma on the chain that no VMA calls its own (num_active_vmas) and that has at most one child
(num_children). A root counts itself as a child, and is never reused. Up to 5.19 one counter, `degree`, stood for both, and one
anon_vma could be reused twice: CVE-2022-42703.

The objects and their memory are in chained_anon_vma.py, what must hold of them in anon_vma_chain_check.py.

Sources: commits 5beb49305251 (2010), bf181b9f9d8d (interval tree, 3.7), 7a3ef208e662 (reuse, 3.19), 2555283eb40d (two counters,
6.0); mm/rmap.c of 6.12 and 6.18, anon_vma_prepare, anon_vma_clone, anon_vma_fork, unlink_anon_vmas; modern.md 1.1 to 1.5, 2.8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

from rmaplab.errors import KernelBug, NoMemory
from rmaplab.machine.arrays import I64
from rmaplab.machine.batch import Batch
from rmaplab.objects.flags import VM_EXEC, VM_MAYBE_GUARD, VM_READ, VM_WRITE
from rmaplab.objects.graph import Graph
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.rmap.anon_vma_chain_check import check_chains
from rmaplab.rmap.chained_anon_vma import AnonVmaObjects, ChainedAnonVma
from rmaplab.rmap.file_index import borders_of
from rmaplab.rmap.graph_of import graph_of
from rmaplab.rmap.live import ANON_VMAS, Live
from rmaplab.rmap.objrmap import draw_place, walk_vmas
from rmaplab.rmap.protocol import Mapping

if TYPE_CHECKING:
    from rmaplab.objects.task import TaskStruct

ACCESS = VM_READ | VM_WRITE | VM_EXEC


class AnonVmaChainMap(AnonVmaObjects):
    """The design of Linux 6.x."""

    name: ClassVar[str] = "anon_vma_chain"
    live: ClassVar[Live | None] = ANON_VMAS

    reuse_newest_first: ClassVar[bool] = False
    """From which end of the chain an anon_vma to be reused is looked for: the oldest on 6.12 and 6.18 (seen on 6.18)."""

    # -- VMAs ----------------------------------------------------------------------------------------------------

    def vma_prepare(self, vma: VmArea) -> None:
        """__anon_vma_prepare: a neighbour's anon_vma, or a new one, and an AVC."""
        if vma.anon_vma is not None:
            return
        address = self.chain_cache.alloc()
        found = self.find_mergeable(vma)
        try:
            anon_vma = found or self._new_anon_vma(None)
        except NoMemory:
            self.chain_cache.free(address)
            raise
        self.machine.locks.pass_through(anon_vma.lock)
        if vma.anon_vma is not None:  # another thread has been faster while this one slept
            self.chain_cache.free(address)
            if found is None:
                self._put_anon_vma(anon_vma)
            return
        vma.anon_vma = anon_vma
        anon_vma.num_active_vmas += 1
        self._link(vma, anon_vma, address)

    def find_mergeable(self, vma: VmArea) -> ChainedAnonVma | None:
        """find_mergeable_anon_vma: the next VMA's, else the previous one's, so that an mprotect may make them one again.

        Not a fork child's: whoever shared only the newest of its chain would have the same anon_vma and another chain.
        """
        before, after = vma.mm.neighbours(vma)
        for low, high, neighbour in ((vma, after, after), (before, vma, before)):
            if low is None or high is None or neighbour is None or low.end != high.start:
                continue
            alike = not (low.flags ^ high.flags) & ~(ACCESS | VM_MAYBE_GUARD) and low.pgoff + low.nr_pages == high.pgoff
            alike = alike and low.vm_file is high.vm_file  # anon_vma_compatible: names may differ
            alike = alike and low.traits.policy == high.traits.policy
            if alike and isinstance(neighbour.anon_vma, ChainedAnonVma) and self.may_be_shared(neighbour):
                return neighbour.anon_vma
        return None

    def may_be_shared(self, neighbour: VmArea) -> bool:
        """Whether a VMA beside it may take its anon_vma and nothing else of its chain."""
        return len(self.chains[neighbour]) == 1

    def vma_fork(self, vma: VmArea, child: VmArea) -> None:
        """anon_vma_fork: on all anon_vmas of the parent's VMA, and on one of its own, old or new."""
        own = vma.anon_vma
        if not isinstance(own, ChainedAnonVma):
            return
        self._clone(vma, child, reuse=True)
        if child.anon_vma is not None:
            return
        try:
            anon_vma = self._new_anon_vma(own)
            try:
                address = self.chain_cache.alloc()
            except NoMemory:
                own.num_children -= 1
                self._put_anon_vma(anon_vma)
                raise
        except NoMemory:
            self.vma_unlink(child)
            raise
        self.machine.locks.pass_through(anon_vma.lock)
        child.anon_vma = anon_vma
        anon_vma.num_active_vmas += 1
        self._link(child, anon_vma, address)

    def vma_clone(self, vma: VmArea, new: VmArea) -> None:
        """A split, or mremap's new place: the same anon_vma, the same chain."""
        if isinstance(vma.anon_vma, ChainedAnonVma):
            self._clone(vma, new, reuse=False)

    def _clone(self, vma: VmArea, new: VmArea, *, reuse: bool) -> None:
        """anon_vma_clone: an AVC for each of `vma`'s, oldest first. Raises as an allocation, with nothing changed."""
        chain = self.chains[vma]
        addresses: list[int] = []
        try:
            for _ in chain:
                addresses.append(self.chain_cache.alloc())  # noqa: PERF401  (what came before a failure is given back)
        except NoMemory:
            for address in addresses:
                self.chain_cache.free(address)
            raise
        self.machine.locks.pass_through(chain[0].anon_vma.lock)
        for avc, address in zip(chain, addresses, strict=True):
            self._link(new, avc.anon_vma, address)
        own = self.reusable(vma) if reuse else vma.anon_vma
        if isinstance(own, ChainedAnonVma):
            new.anon_vma = own
            own.num_active_vmas += 1
            self.machine.charge("anon_vma_reuse", int(reuse))

    def reusable(self, vma: VmArea) -> ChainedAnonVma | None:
        """The first anon_vma of the chain that no VMA calls its own any more and that has at most one child; never a root."""
        chain = self.chains[vma]
        candidates = reversed(chain) if self.reuse_newest_first else chain
        return next((avc.anon_vma for avc in candidates if self.may_be_reused(vma, avc.anon_vma)), None)

    def may_be_reused(self, vma: VmArea, anon_vma: ChainedAnonVma) -> bool:
        """Whether a fork of `vma` may give the child this anon_vma of its chain as its own."""
        del vma
        return anon_vma.num_active_vmas == 0 and anon_vma.num_children < 2

    def vma_can_grow(self, vma: VmArea, source: VmArea | None) -> bool:
        """is_mergeable_anon_vma: if only one of them has an anon_vma, that one must not be a fork's child."""
        has = vma.anon_vma is not None
        if source is None or source.anon_vma is None:
            return not has or len(self.chains[vma]) == 1
        return vma.anon_vma is source.anon_vma if has else len(self.chains[source]) == 1

    def vma_adopt(self, vma: VmArea, source: VmArea) -> None:
        """dup_anon_vma: what has none gets all of the other's."""
        if vma.anon_vma is None:
            self.vma_clone(source, vma)

    def vma_merge(self, vma: VmArea, dying: VmArea) -> None:
        """The survivor is on all of the dying one's anon_vmas by now."""
        self.vma_unlink(dying)

    def vma_pre_update(self, vma: VmArea) -> None:
        """anon_vma_interval_tree_pre_update_vma: out of every tree it hangs in, under the root's lock."""
        chain = self.chains.get(vma)
        if chain is not None:
            self.machine.locks.pass_through(chain[0].anon_vma.lock)
            for avc in chain:
                avc.anon_vma.tree.remove(avc)

    def vma_post_update(self, vma: VmArea) -> None:
        """And in again, where it is now."""
        for avc in self.chains.get(vma, ()):
            avc.anon_vma.tree.insert(avc, vma.pgoff, vma.pgoff + vma.nr_pages - 1)

    def vma_unlink(self, vma: VmArea) -> None:
        """unlink_anon_vmas: off every tree, the newest first and the root last; an anon_vma whose tree is empty goes."""
        chain = self.chains.pop(vma, None)
        if chain is None:
            return
        self.machine.locks.pass_through(chain[0].anon_vma.lock)
        empty = []
        for avc in reversed(chain):
            anon_vma = avc.anon_vma
            anon_vma.tree.remove(avc)
            self.chain_cache.free(avc.address)
            if not len(anon_vma.tree):
                anon_vma.parent.num_children -= 1
                empty.append(anon_vma)
        if isinstance(vma.anon_vma, ChainedAnonVma):
            vma.anon_vma.num_active_vmas -= 1
            vma.anon_vma = None
        for anon_vma in empty:
            if anon_vma.num_children or anon_vma.num_active_vmas:
                raise KernelBug("unlink_anon_vmas", f"anon_vma {anon_vma.address:#x} goes, and is still in use")
            self._put_anon_vma(anon_vma)
        self.machine.charge("anon_vma_chain_unlink", len(chain))

    # -- pages ---------------------------------------------------------------------------------------------------

    def owner(self, vma: VmArea, *, exclusive: bool) -> int:
        """__folio_set_anon: the VMA's own anon_vma; of pages that others may share the root, which all are on who may."""
        if not isinstance(vma.anon_vma, ChainedAnonVma):
            raise KernelBug("__folio_set_anon", f"{vma} was not prepared")
        return (vma.anon_vma if exclusive else vma.anon_vma.root).address

    def rehome(self, batch: Batch, vma: VmArea) -> None:
        """folio_move_anon_rmap: who reuses a page takes it to its own anon_vma, so that its walk gets shorter."""
        self.frames.mapping[batch.pfns] = self.owner(vma, exclusive=True)

    # -- queries -------------------------------------------------------------------------------------------------

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """rmap_walk_anon: the VMAs of the page's anon_vma that cover its index, and whether this frame is there."""
        anon_vma, index = self.owner_of(pfn), int(self.frames.index[pfn])
        if anon_vma is not None:
            yield from walk_vmas(self.machine, pfn, (avc.vma for avc in anon_vma.tree.overlapping(index, index)))
            self.machine.charge("interval_search", anon_vma.tree.looked_at)

    def borders(self, owner: int) -> Iterable[int]:
        """Those of the tree, and of the VMAs in it."""
        if owner not in self.at:
            return ()
        tree = self.at[owner].tree
        return [*tree.borders(), *borders_of(avc.vma for avc in tree)]

    def draw_owner(self, owner: ChainedAnonVma, index: int) -> tuple[str, list[str]]:
        """The VMAs that cover the page's index, in the order of the walk; each with its chain."""
        hanging = []
        for nr, avc in enumerate(owner.tree.overlapping(index, index), 1):
            chain = " ".join(f"{other.anon_vma.address:x}" for other in reversed(self.chains[avc.vma]))
            hanging.append(f"{draw_place(nr, avc.vma)}  chain {chain}")
        kin = "a root" if owner.root is owner else f"root {owner.root.address:x}"
        return (
            f"anon_vma {owner.address:x}, {kin}: a tree of {len(owner.tree)}, and who covers index {index:x}",
            hanging,
        )

    def graph(self, tasks: Iterable[TaskStruct]) -> Graph | None:
        """As the live kernel's."""
        return graph_of(self, tasks).graph

    def check_owner(self, vma: VmArea, owner: int) -> None:
        """I2 and I3: a page names an anon_vma that its VMA is on, of the VMA's own root."""
        anon_vma = self.at.get(owner)
        if not any(avc.anon_vma is anon_vma for avc in self.chains.get(vma, ())):
            raise KernelBug("anon_vma", f"a page of {vma} names {owner:#x}, which is not on its chain (I3)")
        if anon_vma.root is not vma.anon_vma.root:  # type: ignore[attr-defined, union-attr]
            raise KernelBug("anon_vma", f"a page of {vma} names {owner:#x}, of another root (I2)")

    def check(self, mms: list[MmStruct], mapped: I64) -> None:
        """The other invariants of 6.x, recounted: anon_vma_chain_check.py."""
        check_chains(self, mms)


class NewestFirst(AnonVmaChainMap):
    """As 7.x, it is believed: the newest anon_vma of a chain is tried first."""

    name: ClassVar[str] = "anon_vma_chain_newest"
    reuse_newest_first: ClassVar[bool] = True
    borders = AnonVmaChainMap.borders
