"""What the model's side shows of processes: their VMAs, and of each page what stands in its entry and what is so of its frame."""

from collections.abc import Mapping, Sequence

import numpy as np

from rmaplab.machine.arrays import I64
from rmaplab.machine.frames import PG_ANON_EXCLUSIVE, ZERO_PFN
from rmaplab.machine.machine import Machine
from rmaplab.machine.table_reader import read_page_tables
from rmaplab.objects.flags import VM_DONTEXPAND
from rmaplab.objects.mm_types import MmStruct, VmArea
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.places import Places
from rmaplab.workloads.world import Raw

MOST_PAGES = (1 << 51) - 1


class ModelView:
    """Reads address spaces of one machine, and remembers what it has read."""

    def __init__(self, machine: Machine, places: Places) -> None:
        self._machine, self._places = machine, places
        self._raws: dict[int, Raw] = {}
        self._mapped: I64 = np.zeros(machine.frames.nr, np.int64)
        """By frame, entries: zeros but within raws()."""

    def raws(
        self, mms: Mapping[str, MmStruct], touched: Sequence[str], only: Sequence[str] | None = None
    ) -> dict[str, Raw]:
        """All these, or `only` some; without `touched` O(page tables).

        Of processes that are not `touched`, only what belongs to frames is read again: an operation changes its own process's
        entries. (Who calls reads everything at the end of a script, and check() looks at all of it.)
        """
        known = {mm.address for mm in mms.values()} & self._raws.keys()
        fresh = {mms[name].address for name in touched if name in mms} if touched else known
        others = {at: self._raws[at] if only else self._again(self._raws[at]) for at in known - fresh}
        self._raws = {
            mm.address: others[mm.address] if mm.address in others else self._raw(mm)
            for mm in {mm.address: mm for mm in mms.values()}.values()
        }
        for raw in self._raws.values():
            np.add.at(self._mapped, raw.pages[:, 1], 1)
        looked_at = mms if only is None else {name: mms[name] for name in only if name in mms}
        for address in {mm.address for mm in looked_at.values()}:
            pages = self._raws[address].pages
            pages[:, 3] = np.where(pages[:, 2] != 0, 0, self._mapped[pages[:, 1]])
        for raw in self._raws.values():
            self._mapped[raw.pages[:, 1]] = 0
        return {name: self._raws[mm.address] for name, mm in looked_at.items()}

    def _raw(self, mm: MmStruct) -> Raw:
        vmas: I64 = np.array([_told(vma) for vma in mm.vmas if not vma.flags & VM_DONTEXPAND], np.int64).reshape(-1, 5)
        vmas[:, :2] = self._places.canonical(vmas[:, :2])
        vmas = vmas[np.argsort(vmas[:, 0])]  # here the heap may lie above the window
        present, _ = read_page_tables(self._machine, mm.pgd)
        pages = np.zeros((len(present.pfns), 6), np.int64)
        pages[:, 0] = self._places.canonical(present.addresses)
        pages[:, 1] = present.pfns
        pages[:, 2] = present.pfns == ZERO_PFN
        return self._again(Raw(vmas, pages[np.argsort(pages[:, 0])], mm.nr_tables, mm.locked_vm))

    def _again(self, raw: Raw) -> Raw:
        """What a process has, with what belongs to frames read again."""
        pages = raw.pages.copy()
        pages[:, 4] = self._machine.frames.flags[pages[:, 1]] & PG_ANON_EXCLUSIVE != 0
        pages[:, 5] = self._machine.ram.words8.reshape(-1, PAGE_SIZE // 8)[pages[:, 1], 0]
        return raw._replace(pages=pages)


def _told(vma: VmArea) -> tuple[int, int, int, int, int]:
    """Old kernels show an offset of what lies behind every file."""
    if vma.vm_file is None:
        return vma.start, vma.end, vma.flags, 0, 0
    return vma.start, vma.end, vma.flags, vma.vm_file.mapping.address, (vma.pgoff & MOST_PAGES) << PAGE_SHIFT
