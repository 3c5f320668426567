"""The kernel's own reverse-map walk, step by step, on its own structures: page -> mapping -> chains -> VMA -> entry.

    PFN --peek--> folio: mapping, index
                    |
                    +-- anon_vma ----> every VMA with a chain to it ---+-- covers the index? --> candidate: (pid, address)
                    +-- address_space -> every VMA of the file --------+                             |
                                                                                     its pagemap entry: the page? a hit
                                                                                                        else in vain
                    +-- KSM's stable node --> rmap_items, each an anon_vma and an address (ksm.py)

All pages of a question are walked at once, in columns: pairs of a page and a VMA are made by a join on what both hang on, cut
down to those whose interval fits, and the entries are read per process. The kernel's interval trees find the same VMAs sooner.
A large folio is walked page by page here; the kernel visits the VMAs that cover any of its pages.

Sources: mm/rmap.c (rmap_walk_anon, rmap_walk_file), mm/ksm.c (rmap_walk_ksm), mm/internal.h (vma_address), mm/page_vma_mapped.c.
"""

from typing import NamedTuple

import numpy as np

from rmaplab.host.candidates import Visit, miss_of, visits_of
from rmaplab.host.closing import Closing
from rmaplab.host.ksm import RmapItems, read_rmap_items
from rmaplab.host.pagemap import PM_PFN, PM_PRESENT, Pagemap
from rmaplab.host.pages import Folios, PagePeeker
from rmaplab.host.procfs import PAGE_BYTES
from rmaplab.host.vmas import Dump, VmaDumper
from rmaplab.machine.arrays import I64, U64, Bools
from rmaplab.objects.graph import NONE, find_rows

_PAIRS = 1 << 20


class Walked(NamedTuple):
    """Visits of a walk, a row each: which of the pages asked about, by whom, where, what the entry says, whether it is a hit.

    `entries` is 0 also where the process has ended. `folios` and `dump` are what the walk went by.
    """

    page: I64
    pid: I64
    address: I64
    entries: U64
    hits: Bools
    folios: Folios
    dump: Dump
    items: RmapItems

    @property
    def reaches_all(self) -> bool:
        """Whether the dump has what each page hangs on; it has not where all its VMAs are in processes that are hidden."""
        owners = np.concatenate([self.folios.anon_vma, self.items.anon_vma])
        return bool(self.items.whole.all() and np.isin(owners[owners != 0], self.dump.anon_vma_pointers).all())

    def of(self, page: int, prefer: int | None = None) -> list[Visit]:
        """The visits for one page, with names and VMAs, and what was found instead of the page."""
        rows = np.flatnonzero(self.page == page)
        pids, processes = self.pid[rows], self.dump.graph.processes
        if prefer in processes.pid:  # one process stands for all that share its address space
            same = processes.pid[processes.mm == processes.mm[processes.pid == prefer]]
            pids = np.where(np.isin(pids, same), np.int64(prefer or 0), pids)
        found = list(zip(pids.tolist(), self.address[rows].tolist(), strict=True))
        misses = [
            "" if hit else miss_of(int(entry))
            for hit, entry in zip(self.hits[rows].tolist(), self.entries[rows].tolist(), strict=True)
        ]
        return [visit._replace(miss=miss) for visit, miss in zip(visits_of(found), misses, strict=True)]


class KernelWalk(Closing):
    """The two BPF programs, loaded once. A context manager. Raises BpfUnavailable, whose message says what is missing."""

    def __init__(self) -> None:
        self._dumper = VmaDumper()
        try:
            self._peeker = PagePeeker(self._dumper)
        except BaseException:
            self._dumper.__exit__()
            raise

    def close(self) -> None:
        """Let go of the programs."""
        self._peeker.close()
        self._dumper.__exit__()

    def walk(self, pfns: U64) -> Walked:
        """Every visit for each of these pages; those of no reverse map have none. O(VMAs + chains + visits).

        To a VMA to which several rmap_items of KSM lead, the kernel comes several times: it is one visit here.
        """
        dump = self._dumper.dump()
        folios = self._peeker.look(pfns.astype(np.int64))
        graph = dump.graph
        of_file = np.flatnonzero(graph.vmas.file != NONE)
        owner = np.where(folios.anon_vma != 0, find_rows(folios.anon_vma, dump.anon_vma_pointers), NONE)
        vmas = graph.vmas
        by_index = vmas.pgoff, vmas.pgoff + vmas.nr_pages
        anon = _pairs(by_index, folios.pgoff, owner, graph.chains.vma, graph.chains.anon_vma)
        owner = np.where(folios.mapping != 0, find_rows(folios.mapping, dump.mapping_pointers), NONE)
        file = _pairs(by_index, folios.pgoff, owner, of_file, vmas.file[of_file])
        page, vma = (np.concatenate(columns) for columns in zip(anon, file, strict=True))
        address = vmas.start[vma] + (folios.pgoff[page] - vmas.pgoff[vma]) * PAGE_BYTES
        items = read_rmap_items(self._peeker, folios.mapping)
        owner = find_rows(items.anon_vma, dump.anon_vma_pointers)
        item, there = _pairs((vmas.start, vmas.end), items.address, owner, graph.chains.vma, graph.chains.anon_vma)
        merged = np.unique(np.stack([items.page[item], there, items.address[item]]), axis=1)
        page, vma, address = np.concatenate([[page, vma, address], merged], axis=1)
        mms, first = np.unique(graph.processes.mm, return_index=True)
        pid = graph.processes.pid[first[np.searchsorted(mms, graph.vmas.mm[vma])]]
        order = np.lexsort((address, pid, page))
        page, pid, address = page[order], pid[order], address[order]
        entries = _entries(pid, address)
        present = entries & np.uint64(PM_PRESENT) != 0
        hits = present & (entries & np.uint64(PM_PFN) == pfns[page])
        return Walked(page, pid, address, entries, hits, folios, dump, items)


def _pairs(within: tuple[I64, I64], at: I64, owner: I64, linked_vma: I64, link_owner: I64) -> tuple[I64, I64]:
    """(page, VMA) where both hang on the same owner and what is asked for `at` is `within` the VMA. A million pairs are looked at at once."""
    first, end_of = within
    order = np.argsort(link_owner, kind="stable")
    links, owners = linked_vma[order], link_owner[order]
    asked = np.flatnonzero(owner != NONE)
    low, high = np.searchsorted(owners, owner[asked], "left"), np.searchsorted(owners, owner[asked], "right")
    ends = np.cumsum(high - low)
    found: list[tuple[I64, I64]] = []
    begin = 0
    while begin < len(asked):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + _PAIRS, "right")))
        lengths = (high - low)[begin:end]
        page = np.repeat(asked[begin:end], lengths)
        within = np.arange(len(page)) - np.repeat(ends[begin:end] - lengths - before, lengths)
        vma = links[np.repeat(low[begin:end], lengths) + within]
        covers = (first[vma] <= at[page]) & (at[page] < end_of[vma])
        found.append((page[covers], vma[covers]))
        begin = end
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pages, vma_rows = zip(*found, strict=True)
    return np.concatenate(pages), np.concatenate(vma_rows)


def _entries(pid: I64, address: I64) -> U64:
    entries = np.zeros(len(pid), np.uint64)
    for each in np.unique(pid).tolist():
        rows = np.flatnonzero(pid == each)
        try:
            with Pagemap(each) as reader:
                entries[rows] = reader.words_at(address[rows].astype(np.uint64))
        except OSError:  # ended, or not ours: no entry that we can see
            continue
    return entries
