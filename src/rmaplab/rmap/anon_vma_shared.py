"""Neighbours that share an anon_vma so that they may merge one day. Two tries of April and May 2004; the second is Linux's to this day.

    |--- r- ---|--- rw ---|      an anon_vma each, and mprotect can never make one VMA of them: their pages name two objects
         X           X           but one for both, and it can. Pages of one are looked for in the other, in vain: that is the price

    2.6.5-rc3-aa3    when the second is mapped: if a neighbour would fit but for its flags, its anon_vma is shared, written or not
    2.6.7            when the second is first written to: later, so that more is known; only what mprotect changes may differ

Both had the bug that mprotect, when it moves the border between two VMAs, forgot to put the one that grows on the other's anon_vma (d84672c45e, in
2.6.8-rc1; Andrea Arcangeli, 18 June 2004, <20040618015903.GA2797@dualathlon.random>), and 2.6.7 had no lock when it adopted (b6815589d6): here both are repaired.

Sources: <20040403012612.GY21341@dualathlon.random>, is_mergeable_vma, do_mmap_pgoff; 2.6.7 mm/rmap.c, anon_vma_prepare; mm/mmap.c,
find_mergeable_anon_vma; 33252891ef; history.md 4.3, 4.4.
"""

from collections.abc import Iterator
from typing import ClassVar

from rmaplab.objects.flags import VM_EXEC, VM_READ, VM_WRITE
from rmaplab.objects.mm_types import VmArea
from rmaplab.rmap.anon_vma import AnonVmaMap
from rmaplab.rmap.live import Live

ACCESS = VM_READ | VM_WRITE | VM_EXEC


def fitting(vma: VmArea) -> Iterator[VmArea]:
    """The VMA before it and the one behind it, where they touch, show the same open file or none, have the same policy and page offsets continue."""
    before, after = vma.mm.neighbours(vma)
    for low, high in ((before, vma), (vma, after)):
        if low is None or high is None or low.end != high.start or low.vm_file is not high.vm_file:
            continue
        if low.pgoff + low.nr_pages == high.pgoff and low.traits == high.traits:
            yield low if high is vma else high


class SharedAtMmap(AnonVmaMap):
    """anon_vma of 2.6.5-rc3-aa3: a new mapping shares its neighbour's."""

    name: ClassVar[str] = "anon_vma_at_mmap"
    live: ClassVar[Live | None] = None
    borders = AnonVmaMap.borders

    def vma_new(self, vma: VmArea) -> None:
        """do_mmap_pgoff, do_brk: nobody could grow over it; the anon_vma of the one before it, or else behind it."""
        for near in fitting(vma):
            if near.anon_vma is not None:
                self._join(near, vma)
                return


class SharedAtFault(AnonVmaMap):
    """anon_vma of 2.6.7: the first write to a VMA shares its neighbour's."""

    name: ClassVar[str] = "anon_vma_at_fault"
    live: ClassVar[Live | None] = None
    borders = AnonVmaMap.borders

    def vma_prepare(self, vma: VmArea) -> None:
        """anon_vma_prepare: the one behind it is asked first, then the one before it; else an anon_vma of its own."""
        if vma.anon_vma is None:
            for near in reversed([*fitting(vma)]):
                if near.anon_vma is not None and not (near.flags ^ vma.flags) & ~ACCESS:
                    self._join(near, vma)
                    return
        super().vma_prepare(vma)
