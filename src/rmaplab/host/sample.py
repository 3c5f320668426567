"""Pages as they are mapped now, all of them or a sample: how long is a walk for a page that is really there?

    VMAs with an anon_vma, cut into windows of 512 pages --draw--> windows --pagemap--> PFNs --struct page--> anon_vma, index, mapcount

Windows are drawn, if there are more than WINDOWS, with the same chance for each; so an entry met stands for as many as there
are windows per window drawn, and a page mapped k times would be met k times as often: it stands for that divided by k.
The draw is the same in every run. Time: some 10 us a window.
"""

import numpy as np

from rmaplab.host.pagemap import PM_PFN, Pagemap, read_per_pfn
from rmaplab.host.pages import Folios, PagePeeker
from rmaplab.host.procfs import Unread
from rmaplab.host.vmas import Dump
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE, Graph, Pages, find_rows

VM_WRITE, VM_SHARED = 2, 8
WINDOWS = 4096
WINDOW_BYTES = 512 << 12
LARGE_PAGES = 1 << 18  # a VMA of a GiB or more may be mostly holes: only what is populated is cut into windows


def sample_pages(dump: Dump, peeker: PagePeeker) -> Pages:
    """Anonymous pages found through VMAs with an anon_vma. A process that has ended adds nothing."""
    graph = dump.graph
    pfns, mm, chance = read_windows(graph, np.flatnonzero(graph.vmas.anon_vma != NONE))
    folios = peeker.look(pfns)
    kept = (folios.anon_vma != 0) & (folios.mapcount > 0)  # neither a file's, nor unmapped since
    folios, pfns, mm = Folios(*(column[kept] for column in folios)), pfns[kept], mm[kept]
    anon_vma = find_rows(folios.anon_vma, dump.anon_vma_pointers)
    return Pages(pfns, mm, anon_vma, folios.pgoff, folios.mapcount, 1 / (chance * folios.mapcount))


def sample_mapcounts(graph: Graph) -> Pages:
    """Without BPF: pages of private VMAs and how often each is mapped, by /proc/kpagecount; nobody says which anon_vma they name."""
    pfns, mm, chance = read_windows(graph, np.flatnonzero(graph.vmas.flags & (VM_WRITE | VM_SHARED) == VM_WRITE))
    counts = read_per_pfn("kpagecount", pfns.astype(np.uint64))
    mapcount = np.zeros(len(pfns), np.int64) if isinstance(counts, Unread) else counts.astype(np.int64)
    kept = mapcount > 0
    pfns, mm, mapcount = pfns[kept], mm[kept], mapcount[kept]
    none = np.full(len(pfns), NONE)
    return Pages(pfns, mm, none, none, mapcount, 1 / (chance * mapcount))


def read_windows(graph: Graph, vmas: I64) -> tuple[I64, I64, float]:
    """(PFN, mm) of every present entry in the windows drawn from these VMAs, and the chance a window had to be drawn."""
    pid_of = np.zeros(graph.nr_mms, np.int64)
    pid_of[graph.processes.mm[::-1]] = graph.processes.pid[::-1]
    mm, start, end = _stretches(graph, vmas, pid_of)
    nr_windows = -(-(end - start) // WINDOW_BYTES)
    total = int(nr_windows.sum())
    drawn = np.arange(total)
    if total > WINDOWS:
        drawn = np.sort(np.random.default_rng(6).choice(total, WINDOWS, replace=False))
    ends = np.cumsum(nr_windows)
    which = np.searchsorted(ends, drawn, side="right")
    first = start[which] + (drawn - (ends - nr_windows)[which]) * WINDOW_BYTES
    last = np.minimum(first + WINDOW_BYTES, end[which])
    pfns, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for space in np.unique(mm[which]).tolist():
        mine = np.flatnonzero(mm[which] == space)
        pfns.append(_read_pfns(int(pid_of[space]), first[mine].tolist(), last[mine].tolist()))
        owners.append(np.full(len(pfns[-1]), space))
    return np.concatenate(pfns), np.concatenate(owners), len(drawn) / max(total, 1)


def _stretches(graph: Graph, vmas: I64, pid_of: I64) -> tuple[I64, I64, I64]:
    """(mm, start, end) of the VMAs; of large ones, of what is populated in them (PAGEMAP_SCAN, Linux 6.7; before, all of it)."""
    mm, start, end = graph.vmas.mm[vmas], graph.vmas.start[vmas], graph.vmas.end[vmas]
    large = np.flatnonzero(end - start >= LARGE_PAGES << 12)
    parts = [np.stack([np.delete(column, large) for column in (mm, start, end)])]
    for i in large.tolist():
        whole = np.array([[mm[i]], [start[i]], [end[i]]])
        try:
            with Pagemap(int(pid_of[mm[i]])) as pagemap:
                found = pagemap.regions(int(start[i]), int(end[i])).astype(np.int64)
            parts.append(np.stack([np.full(len(found), mm[i]), found[:, 0], found[:, 1]]))
        except OSError:
            parts.append(whole)
    return tuple(np.concatenate(parts, axis=1))


def _read_pfns(pid: int, starts: list[int], ends: list[int]) -> I64:
    """The PFNs of what is present in some ranges; nothing of a process that has ended."""
    try:
        with Pagemap(pid) as pagemap:
            words = np.concatenate([pagemap.entries(*span) for span in zip(starts, ends, strict=True)])
    except OSError:
        return np.zeros(0, np.int64)
    present = words[words >= np.uint64(1 << 63)] & np.uint64(PM_PFN)
    return present.astype(np.int64)
