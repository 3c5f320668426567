"""The objects of anon_vma_chain, and their memory. anon_vma_chain.py tells what they are for.

    vma's chain      [AVC] [AVC] [AVC]     oldest first: the first is the root's
                       |     |     |
    anon_vmas        root <- A <- B        each has a parent, and keeps its root alive; a root is its own parent
                     tree  tree  tree      of the AVCs that lead to it

What is here: the objects, and a base class that makes, links and lets go of them, and says what they weigh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rmaplab.machine.hardware import Hardware
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.interval_tree import IntervalTree, Node
from rmaplab.rmap.objrmap import LinearRmap

if TYPE_CHECKING:
    from rmaplab.machine.locks import Lock, LockClasses
    from rmaplab.machine.machine import Machine


class ChainedAnonVma:
    """struct anon_vma. `refcount` is its own 1 and, in a root, one for every other of its tree; the lock is the root's."""

    __slots__ = ("address", "lock", "num_active_vmas", "num_children", "parent", "refcount", "root", "tree")

    def __init__(self, address: int, parent: ChainedAnonVma | None, lock: Lock) -> None:
        self.address = address
        self.parent: ChainedAnonVma = parent or self
        self.root: ChainedAnonVma = parent.root if parent else self
        self.lock = lock
        self.refcount = 1
        self.num_children = 0
        self.num_active_vmas = 0
        self.tree: IntervalTree[AnonVmaChain] = IntervalTree()


class AnonVmaChain(Node):
    """struct anon_vma_chain: this VMA may have pages of this anon_vma. A node of the anon_vma's tree."""

    __slots__ = ("address", "anon_vma", "vma")

    def __init__(self, address: int, vma: VmArea, anon_vma: ChainedAnonVma) -> None:
        super().__init__()
        self.address = address
        self.vma = vma
        self.anon_vma = anon_vma


class AnonVmaObjects(LinearRmap[ChainedAnonVma]):
    """The anon_vmas by address (`at`), and the chains by VMA."""

    outer_lock_classes: ClassVar[LockClasses] = (("anon_vma_rwsem", True, False),)

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        # the slab's link to the next free one lies behind the object: readers may still look at one that is free
        self.cache = self.make_cache("anon_vma", extra_bytes=machine.paging.word_bytes)
        self.chain_cache = self.make_cache("anon_vma_chain")
        self.chains: dict[VmArea, list[AnonVmaChain]] = {}

    # -- what it costs -------------------------------------------------------------------------------------------

    @staticmethod
    def object_bytes(hardware: Hardware) -> dict[str, int]:
        """By the BTF of 6.18 on x86-64; on 32 bits half of that, a rwsem of 20 and three counters of 4."""
        if hardware.paging.word_bytes == 8:
            return {"anon_vma": 96, "anon_vma_chain": 64}
        return {"anon_vma": 52, "anon_vma_chain": 32}

    # -- objects -------------------------------------------------------------------------------------------------

    def _new_anon_vma(self, parent: ChainedAnonVma | None) -> ChainedAnonVma:
        """anon_vma_alloc; a root, or a child of `parent`."""
        address = self.cache.alloc()
        lock = parent.root.lock if parent else self.machine.locks.new("anon_vma_rwsem", f"anon_vma {address:#x}")
        anon_vma = ChainedAnonVma(address, parent, lock)
        anon_vma.parent.num_children += 1
        if parent is not None:
            anon_vma.root.refcount += 1
        self.machine.charge("anon_vma_alloc")
        self.at[address] = anon_vma
        return anon_vma

    def _put_anon_vma(self, anon_vma: ChainedAnonVma) -> None:
        anon_vma.refcount -= 1
        if anon_vma.refcount:
            return
        del self.at[anon_vma.address]
        self.cache.free(anon_vma.address)
        if anon_vma.root is not anon_vma:
            self._put_anon_vma(anon_vma.root)

    def _link(self, vma: VmArea, anon_vma: ChainedAnonVma, address: int) -> None:
        """anon_vma_chain_link: an AVC, the newest of the VMA's chain, into the tree."""
        avc = AnonVmaChain(address, vma, anon_vma)
        self.chains.setdefault(vma, []).append(avc)
        anon_vma.tree.insert(avc, vma.pgoff, vma.pgoff + vma.nr_pages - 1)
        self.machine.charge("anon_vma_chain_link")
