"""Pages as they are mapped now, all of them or a sample: how long is a walk for a page that is really there?

    VMAs with an anon_vma --windows.py--> windows --draw.py--> some of them --pagemap--> PFNs --struct page--> anon_vma, index, mapcount

Up to WINDOWS windows all are read; so are those of processes that were asked for. Of more, as many are drawn. An entry of a window
drawn stands for `stands_for` entries, and a page mapped k times is met k times: each time it stands for that divided by k.

Source of memory is a Reader: this machine's, or one made for a test.
"""

from typing import NamedTuple, Protocol

import numpy as np

from rmaplab.host.draw import Drawn, Sample, all_of, draw, left_over, measure
from rmaplab.host.page_tables import PageTables
from rmaplab.host.pagemap import read_per_pfn
from rmaplab.host.pages import MAPPING_FLAGS, PagePeeker
from rmaplab.host.procfs import Unread
from rmaplab.host.vmas import Dump
from rmaplab.host.windows import WindowEntries, Windows, cut, read
from rmaplab.machine.arrays import F64, I64, Bools, distinct, numbered
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, Graph, Pages, find_rows

VM_WRITE, VM_SHARED = 2, 8
TRIES = 3
WINDOWS = 1 << 16
"""A sample reads so many: 128 GiB of addresses, some 0.5 s; less has no sample."""
MANY = 256
"""Windows: fewer are read through pagemap before a walk to their tables would end."""


class Looked(NamedTuple):
    """By PFN: the row of its anon_vma, or NONE, its own index there; its mapcount, 0 for what does not count; its folio and the pages of that."""

    anon_vma: I64
    pgoff: I64
    mapcount: I64
    folio: I64
    folio_pages: I64


class Reader(Protocol):
    """Where pages are found."""

    def windows(self, vmas: I64) -> Windows:
        """The windows of these VMAs."""

    def entries(self, windows: Windows) -> WindowEntries:
        """What is present in some windows."""

    def look(self, pfns: I64) -> Looked:
        """What these are."""


class KnownPages(NamedTuple):
    """Pages that were found before, those that count: the VMA, the PFN, what it is. `whole` by VMA: all there are of it are here."""

    vma: I64
    pfn: I64
    looked: Looked
    whole: Bools


class _FoundPages(NamedTuple):
    """A row per page: which of the windows read, its PFN, and what it is."""

    window: I64
    pfn: I64
    looked: Looked

    def at(self, rows: I64) -> "_FoundPages":
        """Some of them."""
        return _FoundPages(self.window[rows], self.pfn[rows], Looked(*(column[rows] for column in self.looked)))


def _together(parts: list[_FoundPages]) -> _FoundPages:
    """All of them, one after another."""
    if len(parts) == 1:
        return parts[0]
    window, pfn, *looked = map(np.concatenate, zip(*((*part[:2], *part[2]) for part in parts), strict=True))
    return _FoundPages(window, pfn, Looked(*looked))


def take(
    graph: Graph, vmas: I64, reader: Reader, *, limit: int | None, seed: int, known: KnownPages | None = None
) -> tuple[Pages, Sample, Drawn]:
    """The pages found through these VMAs: all, or of so many windows as `limit` says (None: all). Those that are `known` are not looked for.

    Windows with pages that the graph does not explain are read again, up to TRIES times: most such pages were on their way.
    """
    windows = reader.windows(vmas)
    sizes = measure(graph, windows.vma, windows.pages)
    nr = len(windows.mm)
    some = limit is not None and limit < nr  # a generator takes a while to import
    chosen = draw(sizes, limit or 0, np.random.default_rng(seed)) if some else all_of(nr)
    read = windows.at(chosen.windows)
    latest = _find(reader, read, np.arange(len(read.mm))) if known is None else _find_others(reader, read, known)
    settled = []
    for _ in range(TRIES):
        pages = _pages(latest, read, chosen.stands_for)
        again = distinct(latest.window[mapped_since(graph, pages, candidates_of(pages, graph.stretches))])
        if not len(again):
            break
        moving = np.zeros(len(read.mm), np.bool_)
        moving[again] = True
        settled.append(latest.at(np.flatnonzero(~moving[latest.window])))
        latest = _find(reader, read, again)
    found = _together([*settled, latest])
    left = left_over(sizes, windows.mm, chosen.windows, graph.nr_mms)
    draws = np.where(chosen.certain[found.window], NONE, found.window)
    sample = Sample(draws, found.looked.folio, found.looked.folio_pages, *left)
    seen = seed if left[0].any() else None
    drawn = Drawn(len(chosen.windows), len(windows.mm), seen, chosen.per_page, chosen.per_visit)
    return _pages(found, read, chosen.stands_for), sample, drawn


def _find(reader: Reader, read: Windows, which: I64) -> _FoundPages:
    """What counts of what is present in some of the windows read."""
    entries = reader.entries(read.at(which))
    pfns, _, rows = numbered(entries.pfn)
    looked = reader.look(pfns)
    kept = np.flatnonzero(looked.mapcount[rows] > 0)
    looked = Looked(*(column[rows[kept]] for column in looked))
    return _FoundPages(which[entries.window[kept]], entries.pfn[kept], looked)


def _find_others(reader: Reader, read: Windows, known: KnownPages) -> _FoundPages:
    """As _find() of all, windows of VMAs that are known wholly taken from there: such a VMA is one window."""
    whole = known.whole[read.vma]
    window = np.full(len(known.whole), NONE)
    window[read.vma[whole]] = np.flatnonzero(whole)
    at = window[known.vma]
    kept = np.flatnonzero(at != NONE)
    here = _FoundPages(at, known.pfn, known.looked)
    found = here if len(kept) == len(at) else here.at(kept)
    return found if whole.all() else _together([found, _find(reader, read, np.flatnonzero(~whole))])


def _pages(found: _FoundPages, read: Windows, stands_for: F64) -> Pages:
    looked = found.looked
    weight: F64 = stands_for[found.window] / looked.mapcount
    return Pages(found.pfn, read.mm[found.window], looked.anon_vma, looked.pgoff, looked.mapcount, weight)


class _ThroughPagemap:
    """This machine, through pagemap."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.pid_of: I64 = np.zeros(graph.nr_mms, np.int64)
        self.pid_of[graph.processes.mm[::-1]] = graph.processes.pid[::-1]

    def windows(self, vmas: I64) -> Windows:
        """The windows of these VMAs."""
        return cut(self.graph, vmas, self.pid_of)

    def entries(self, windows: Windows) -> WindowEntries:
        """What is present in some windows."""
        return read(windows, self.pid_of)


class WithBpf(_ThroughPagemap):
    """Anonymous pages, by struct page."""

    def __init__(self, dump: Dump, peeker: PagePeeker, tables: PageTables | None = None) -> None:
        super().__init__(dump.graph)
        self._pointers, self._peeker = dump.anon_vma_pointers, peeker
        self._tables, self._mms = tables, dump.mm_pointers

    def entries(self, windows: Windows) -> WindowEntries:
        """What is present in some windows: of many small ones where it stands, of the others through pagemap."""
        if self._tables is None or self._mms is None or len(windows.mm) < MANY:
            return super().entries(windows)
        found, left = self._tables.read(windows, self._mms)
        others = super().entries(windows.at(left))
        return WindowEntries(
            np.concatenate([found.window, left[others.window]]), np.concatenate([found.pfn, others.pfn])
        )

    def look(self, pfns: I64) -> Looked:
        """Neither a file's pages nor those that have been unmapped since count."""
        folios = self._peeker.look(pfns)
        mapcount = np.where(folios.anon_vma != 0, folios.mapcount, 0)
        return Looked(find_rows(folios.anon_vma, self._pointers), folios.pgoff, mapcount, folios.head, folios.pages)


class WithoutBpf(_ThroughPagemap):
    """Pages, and how often each is mapped, by /proc/kpagecount; nobody says which anon_vma they name."""

    def look(self, pfns: I64) -> Looked:
        """By kpagecount."""
        counts = read_per_pfn("kpagecount", pfns.astype(np.uint64))
        mapcount = np.zeros(len(pfns), np.int64) if isinstance(counts, Unread) else counts.astype(np.int64)
        none = np.full(len(pfns), NONE)
        return Looked(none, none, mapcount, none, np.zeros(len(pfns), np.int64))


def mapped_since(graph: Graph, pages: Pages, candidates: I64) -> Bools:
    """By page, whether more entries map it than VMAs of the graph could, or its anon_vma is not there. Without a graph, no page is.

    It was mapped, or made, after the graph had been read, unless hidden_ones() explain it. `candidates` are those of the pages.
    """
    if not len(graph.anon_vmas.root):
        return np.zeros(len(pages.pfn), np.bool_)
    found: Bools = (pages.anon_vma == NONE) | (pages.mapcount > candidates)
    return found


def hidden_ones(graph: Graph, pages: Pages) -> Bools:
    """By page, whether processes that nobody shows may map it: its root's anon_vmas count more than there are. A row of no anon_vma: any do."""
    anon_vmas, own = graph.anon_vmas, graph.vmas.anon_vma[graph.vmas.anon_vma != NONE]
    nr = len(anon_vmas.root)
    missing = anon_vmas.num_children > np.bincount(anon_vmas.parent, minlength=nr)
    missing |= anon_vmas.num_active_vmas > np.bincount(own, minlength=nr)
    of_root = np.append(np.isin(anon_vmas.root, anon_vmas.root[missing]), missing.any())  # the last one is that of NONE
    hidden: Bools = of_root[pages.anon_vma]
    return hidden


def sample_pages(
    dump: Dump,
    peeker: PagePeeker | None,
    mms: Bools,
    *,
    limit: int | None,
    seed: int,
    tables: PageTables | None = None,
) -> tuple[Pages, Sample, Drawn]:
    """Of some address spaces: anonymous pages of VMAs with an anon_vma; without BPF, pages of private VMAs that can be written to."""
    vmas = dump.graph.vmas
    if peeker is not None:
        which = np.flatnonzero((vmas.anon_vma != NONE) & mms[vmas.mm])
        return take(dump.graph, which, WithBpf(dump, peeker, tables), limit=limit, seed=seed, known=_known(dump))
    which = np.flatnonzero((vmas.flags & (VM_WRITE | VM_SHARED) == VM_WRITE) & mms[vmas.mm])
    return take(dump.graph, which, WithoutBpf(dump.graph), limit=limit, seed=seed)


def _known(dump: Dump) -> KnownPages | None:
    """What the dump itself has read of page tables."""
    if dump.walked is None:
        return None
    pages = dump.walked.pages
    anon_vma = find_rows(pages.mapping & ~MAPPING_FLAGS, dump.anon_vma_pointers)
    looked = Looked(anon_vma, pages.pgoff, pages.mapcount, pages.folio, pages.folio_pages)
    return KnownPages(pages.vma, pages.pfn, looked, pages.whole)
