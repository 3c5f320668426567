"""Pages as they are mapped now, all of them or a sample: how long is a walk for a page that is really there?

    VMAs with an anon_vma, cut into windows of 512 pages --draw--> windows --pagemap--> PFNs --struct page--> anon_vma, index, mapcount

Windows are drawn, if there are more than WINDOWS, with the same chance for each; so an entry met stands for as many as there
are windows per window drawn, and a page mapped k times would be met k times as often: it stands for that divided by k.
The draw is the same in every run. Time: some 10 us a window.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from rmaplab.host.pages import Folios, PagePeeker
from rmaplab.host.vmas import Dump
from rmaplab.objects.graph import I64, NONE, Graph, Pages

VM_WRITE, VM_SHARED = 2, 8
WINDOWS = 4096
WINDOW_PAGES = 512
_PRESENT, _PFN = np.int64(-(1 << 63)), np.int64((1 << 55) - 1)


def sample_pages(dump: Dump, peeker: PagePeeker) -> Pages:
    """Anonymous pages found through VMAs with an anon_vma. A process that has ended adds nothing."""
    graph = dump.graph
    pfns, mm, chance = read_windows(graph, np.flatnonzero(graph.vmas.anon_vma != NONE))
    folios = peeker.look(pfns)
    kept = (folios.anon_vma != 0) & (folios.mapcount > 0)  # neither a file's, nor unmapped since
    folios, pfns, mm = Folios(*(column[kept] for column in folios)), pfns[kept], mm[kept]
    order = np.argsort(dump.anon_vma_pointers)
    sorted_pointers = dump.anon_vma_pointers[order]
    at = np.searchsorted(sorted_pointers, folios.anon_vma).clip(max=max(len(order) - 1, 0))
    anon_vma = np.where(sorted_pointers[at] == folios.anon_vma, order[at], NONE) if len(order) else at
    return Pages(pfns, mm, anon_vma, folios.pgoff, folios.mapcount, 1 / (chance * folios.mapcount))


def sample_mapcounts(graph: Graph) -> Pages:
    """Without BPF: pages of private VMAs and how often each is mapped, by /proc/kpagecount; nobody says which anon_vma they name."""
    pfns, mm, chance = read_windows(graph, np.flatnonzero(graph.vmas.flags & (VM_WRITE | VM_SHARED) == VM_WRITE))
    mapcount = _read_kpagecount(pfns)
    kept = mapcount > 0
    pfns, mm, mapcount = pfns[kept], mm[kept], mapcount[kept]
    none = np.full(len(pfns), NONE)
    return Pages(pfns, mm, none, none, mapcount, 1 / (chance * mapcount))


def sees_pfns() -> bool:
    """Whether pagemap shows us page frame numbers: of a page of ours, touched just now."""
    with mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        first = np.frombuffer(page, np.uint8).ctypes.data // mmap.PAGESIZE
        words = _read_pagemap(os.getpid(), [(first, first + 1)])
    return bool(len(words) and words[0] & _PFN)


def _read_kpagecount(pfns: I64) -> I64:
    """0 where it cannot be read. One read per run of neighbouring PFNs: the whole file would be slow."""
    counts = np.zeros(len(pfns), np.int64)
    order = np.argsort(pfns)
    runs = np.split(order, np.flatnonzero(np.diff(pfns[order]) > WINDOW_PAGES) + 1)
    try:
        fd = os.open("/proc/kpagecount", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return counts
    try:
        for run in runs if len(pfns) else []:
            low, high = int(pfns[run[0]]), int(pfns[run[-1]]) + 1
            words = np.frombuffer(os.pread(fd, 8 * (high - low), 8 * low), np.int64)
            inside = run[pfns[run] - low < len(words)]
            counts[inside] = words[pfns[inside] - low]
    finally:
        os.close(fd)
    return counts


def read_windows(graph: Graph, vmas: I64) -> tuple[I64, I64, float]:
    """(PFN, mm) of every present entry in the windows drawn from these VMAs, and the chance a window had to be drawn."""
    nr_windows = -(-graph.vmas.nr_pages[vmas] // WINDOW_PAGES)
    total = int(nr_windows.sum())
    drawn = np.arange(total)
    if total > WINDOWS:
        drawn = np.sort(np.random.default_rng(6).choice(total, WINDOWS, replace=False))
    ends = np.cumsum(nr_windows)
    which = np.searchsorted(ends, drawn, side="right")
    first = (drawn - (ends - nr_windows)[which]) * WINDOW_PAGES + (graph.vmas.start[vmas][which] >> 12)
    last = np.minimum(first + WINDOW_PAGES, graph.vmas.end[vmas][which] >> 12)
    mm = graph.vmas.mm[vmas][which]
    of_mm = np.zeros(graph.nr_mms, np.int64)
    of_mm[graph.processes.mm[::-1]] = graph.processes.pid[::-1]
    entries, owners = [], []
    for space in np.unique(mm):
        mine = np.flatnonzero(mm == space)
        words = _read_pagemap(int(of_mm[space]), list(zip(first[mine].tolist(), last[mine].tolist(), strict=True)))
        present = words[words < 0] & _PFN  # bit 63: present
        entries.append(present)
        owners.append(np.full(len(present), space))
    if not entries:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), 1.0
    return np.concatenate(entries), np.concatenate(owners), len(drawn) / total


def _read_pagemap(pid: int, windows: list[tuple[int, int]]) -> I64:
    try:
        fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return np.zeros(0, np.int64)
    try:
        parts = [os.pread(fd, 8 * (last - first), 8 * first) for first, last in windows]
    except OSError:
        return np.zeros(0, np.int64)
    finally:
        os.close(fd)
    return np.frombuffer(b"".join(parts), np.int64)
