r"""No reverse map at all: 2.4 searches. Who maps this page? Whoever is found to, once everybody has been looked at.

The idea. Keep nothing, pay nothing at fork, fault and exit. When memory must be found, go through the address spaces
themselves, a bit at a time (swap_out), and take from each what looks old. The question of this project is never asked there;
asked all the same, it costs a reading of every page table there is.

    mmlist --> mm 1 --> VMA --> pgd -> table -> entry?  entry?  entry? ...
          \--> mm 2 --> VMA --> pgd -> table -> entry?  entry?  entry? ...
          \--> mm 3 ...

What each verb costs.
    fork, fault, exit     nothing per page, nothing per VMA; one list insertion per mm
    walk                  every entry of every VMA of every mm: O(pages mapped by everybody)

The search here is its own: mm, VMA, page table, as swap_out_mm, swap_out_vma and swap_out_pmd go. The judge reads page
tables without VMAs and shares no loop with it.

Source: 2.4 mm/vmscan.c, swap_out and below; 2.4 include/linux/mm.h (struct page has nothing for it); history.md 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.pagetable_edit import find_pfn
from rmaplab.objects.mm_types import MmStruct
from rmaplab.rmap.live import SEARCHES, Live
from rmaplab.rmap.protocol import Mapping, ReverseMap

if TYPE_CHECKING:
    from rmaplab.machine.machine import Machine


class VirtualScan(ReverseMap):
    """The kernels before rmap."""

    name: ClassVar[str] = "virtual_scan"
    live: ClassVar[Live | None] = SEARCHES
    looks_everywhere: ClassVar[bool] = True

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._mmlist: dict[int, MmStruct] = {}

    @staticmethod
    def page_bytes(hardware: Hardware) -> int:
        """Nothing."""
        del hardware
        return 0

    def mm_new(self, mm: MmStruct) -> None:
        """On the mmlist."""
        self._mmlist[mm.address] = mm

    def mm_fork(self, parent: MmStruct, child: MmStruct) -> None:
        """The same, behind all others."""
        del parent
        self._mmlist[child.address] = child

    def mm_exit(self, mm: MmStruct) -> None:
        """Off the mmlist."""
        del self._mmlist[mm.address]

    def walk(self, pfn: int) -> Iterator[Mapping]:
        """Look everywhere."""
        machine = self.machine
        for mm in list(self._mmlist.values()):
            machine.ledger.visit("mm_visit")
            for vma in mm.vmas:
                machine.ledger.visit("vma_visit")
                address = vma.start
                while address < vma.end:
                    found, scanned = find_pfn(*machine.geometry, mm.pgd, machine.mapped, address, vma.end, pfn)
                    machine.charge("pte_scan", scanned)
                    if found < 0:
                        break
                    yield Mapping(mm, found, vma, machine.entry_of(mm.pgd, found, pfn))
                    address = found + 4096

    def draw(self, pfn: int) -> list[str]:
        """Nothing hangs on the page; what a search would go through does."""
        lines = [f"struct page {pfn}: nothing leads back from it", "a search reads, in the order of the mmlist:"]
        vmas = [vma for mm in self._mmlist.values() for vma in mm.vmas]
        return lines + [
            f"  +-- {nr}  pid {vma.mm.pid}  VMA {vma.start:x}-{vma.end:x}, {vma.nr_pages} entries"
            for nr, vma in enumerate(vmas, 1)
        ]

    def tracked(self) -> I64:
        """No page is known."""
        return np.empty(0, np.int64)
