"""What must hold of anon_vmas, chains and the pages that name them, on 6.x: recounted, nothing believed. Here: I4 and I5.

    I1  every entry that maps an anonymous page is found by walking from the page          the judge sees to that
    I2  the root of a page's anon_vma is the root of every VMA that maps the page        check_owner
    I3  a page's anon_vma is alive, and on the chain of every VMA that maps the page     check_owner
    I4  VMAs with the same anon_vma have the same chain                                    CVE-2022-42703 broke it
    I5  num_active_vmas, num_children, refcount and the trees are what a recount says
    I7  the page's index says where it is, in every VMA that maps it                     pages.py
    I8  an entry that may be written maps a page that nobody else maps, and that is marked so    mm/validate.py, where kept

I6, at most two anon_vmas per VMA, is what the reuse rule was to guarantee (7a3ef208e662); 6.18 reaches three. Source: modern.md 2.8.
"""

from collections import Counter

from rmaplab.errors import KernelBug
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.chained_anon_vma import AnonVmaObjects, ChainedAnonVma


def check_chains(design: AnonVmaObjects, mms: list[MmStruct]) -> None:
    """I4 and I5: chains, trees and counters agree with each other and with the VMAs there are. Raises KernelBug."""
    chains = design.chains
    faulted = {vma for mm in mms for vma in mm.vmas if vma.anon_vma is not None}
    if faulted != chains.keys():
        raise KernelBug("anon_vma_chain", "a VMA has an anon_vma and no chain, or a chain and no anon_vma")
    active: Counter[ChainedAnonVma] = Counter(vma.anon_vma for vma in faulted)  # type: ignore[misc]
    children = Counter(a.parent for a in design.at.values())
    kin = Counter(a.root for a in design.at.values() if a.root is not a)
    hanging: Counter[ChainedAnonVma] = Counter()
    same: dict[object, tuple[ChainedAnonVma, ...]] = {}
    for vma, chain in chains.items():
        on = tuple(avc.anon_vma for avc in chain)
        hanging.update(on)
        if len(set(on)) != len(on) or vma.anon_vma not in on or on[0] is not on[-1].root:
            raise KernelBug(
                "anon_vma_chain", f"the chain of {vma} has an anon_vma twice, lacks its own, or its root is not oldest"
            )
        if same.setdefault(vma.anon_vma, on) != on:
            raise KernelBug("anon_vma_chain", f"{vma} has the anon_vma of another VMA and not its chain (I4)")
        for avc in chain:
            if avc.vma is not vma or (avc.first, avc.last) != (vma.pgoff, vma.pgoff + vma.nr_pages - 1):
                raise KernelBug("anon_vma_chain", f"an AVC of {vma} is in the tree at [{avc.first:#x}, {avc.last:#x}]")
    for anon_vma in design.at.values():
        wrong = anon_vma.tree.check()
        if wrong or len(anon_vma.tree) != hanging[anon_vma] or not hanging[anon_vma]:
            raise KernelBug("anon_vma", f"the tree of {anon_vma.address:#x}: {wrong or 'not the AVCs that chains say'}")
        counted = (anon_vma.num_active_vmas, anon_vma.num_children, anon_vma.refcount)
        real = (active[anon_vma], children[anon_vma], 1 + kin[anon_vma])
        if counted != real:
            names = "num_active_vmas, num_children, refcount"
            raise KernelBug("anon_vma", f"{anon_vma.address:#x} says {counted} of {names}; a recount {real} (I5)")
    if design.cache.nr_objects != len(design.at) or design.chain_cache.nr_objects != sum(hanging.values()):
        raise KernelBug("anon_vma", "objects in the slabs are not those in use")
