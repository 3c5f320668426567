"""struct page by BPF, against pagemap and against the graph. Needs root."""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.pages import PagePeeker
from rmaplab.host.sample import sample_pages
from rmaplab.host.vmas import Dump, VmaDumper
from rmaplab.host.windows import cut, read
from rmaplab.lab.census.estimate import Estimator
from rmaplab.machine.arrays import I64, Bools
from rmaplab.objects.covering import candidates_of
from rmaplab.objects.graph import NONE, Graph

BASE, HUGE_AT, HUGE = 0x2000_0000_0000, 0x3000_0000_0000, 4 << 20
Forks = Callable[..., AbstractContextManager[list[int]]]


@pytest.fixture(scope="module")
def peeker() -> Iterator[PagePeeker]:
    """Both programs and PFNs. Skips, or fails where everything is required, where they are not to be had."""
    try:
        with VmaDumper() as dumper:
            loaded = PagePeeker(dumper)
    except BpfUnavailable as error:
        if os.environ.get("RMAPLAB_REQUIRE_ALL"):
            raise
        pytest.skip(str(error))
    with loaded:
        yield loaded


def read_pfns(pid: int, start: int, end: int) -> I64:
    """PFNs of present pages, 0 for others."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:  # noqa: PTH123
        words = np.frombuffer(os.pread(pagemap.fileno(), (end - start) >> 9, start >> 9), np.int64)
    return np.where(words < 0, words & ((1 << 55) - 1), 0)


def vmas_at(dump: Dump, pids: list[int], start: int) -> list[tuple[int, int]]:
    """(pid, VMA) of the mappings of these processes from `start` on, within 2^40."""
    graph = dump.graph
    pid_of = dict(zip(graph.processes.mm.tolist(), graph.processes.pid.tolist(), strict=True))
    inside = np.flatnonzero((graph.vmas.start >= start) & (graph.vmas.start < start + (1 << 40)))
    return [(pid_of[int(graph.vmas.mm[i])], int(i)) for i in inside if pid_of[int(graph.vmas.mm[i])] in pids]


@pytest.mark.parametrize(("start", "huge"), [(BASE, 0), (HUGE_AT, HUGE)])
def test_a_page_names_the_anon_vma_and_the_place_that_find_it(
    peeker: PagePeeker, forks: Forks, start: int, huge: int
) -> None:
    """Mapping is an anon_vma the VMA hangs on, index is the VMA's pgoff and the page's place, mapcount is how many map the PFN."""
    with forks(5, 3, 3, write=True, huge=huge) as pids, VmaDumper() as dumper:
        dump = dumper.dump()
        graph = dump.graph
        found = []
        for pid, vma in vmas_at(dump, pids, start):
            pfns = read_pfns(pid, int(graph.vmas.start[vma]), int(graph.vmas.end[vma]))
            folios = peeker.look(pfns)
            hangs_on = dump.anon_vma_pointers[graph.chains.anon_vma[graph.chains.vma == vma]]
            assert folios.known.all()
            assert np.isin(folios.anon_vma, hangs_on).all()
            assert (folios.pgoff == graph.vmas.pgoff[vma] + np.arange(len(pfns))).all()
            found.append((pfns, folios))
    every = np.concatenate([pfns for pfns, _ in found])
    pfn, times = np.unique(every, return_counts=True)
    for pfns, folios in found:
        assert (folios.mapcount == times[np.searchsorted(pfn, pfns)]).all()
    assert times.max() == 7  # root, three children, three in a line share what nobody wrote
    assert (times.min() == 1) == (huge == 0)


def test_addresses_where_there_is_no_memory_are_said(peeker: PagePeeker) -> None:
    """Nothing is read there, and nothing is made up."""
    words, good = peeker.peek(np.array([8, 16], np.int64))
    assert not good.any()
    assert not words.any()
    folios = peeker.look(np.array([1 << 40], np.int64))
    assert not folios.known.any()
    assert (folios.mapping[0], folios.mapcount[0]) == (0, 0)


def test_more_addresses_than_a_run_takes(peeker: PagePeeker) -> None:
    """Several runs give what one gives."""
    pfns = np.arange(1, 40_000, dtype=np.int64)
    many, again = peeker.look(pfns), peeker.look(pfns[20_000:20_100])
    assert (many.known[20_000:20_100] == again.known).all()
    assert (many.head[20_000:20_100] == again.head).all()


def those(graph: Graph, pids: list[int]) -> Bools:
    """By mm, whether it is of one of these."""
    chosen = np.zeros(graph.nr_mms, np.bool_)
    chosen[graph.processes.mm[np.isin(graph.processes.pid, pids)]] = True
    return chosen


def pids_of(graph: Graph) -> I64:
    pid_of = np.zeros(graph.nr_mms, np.int64)
    pid_of[graph.processes.mm[::-1]] = graph.processes.pid[::-1]
    return pid_of


def test_every_page_weighs_once(peeker: PagePeeker, forks: Forks) -> None:
    """A page mapped by k processes is met k times and weighs 1/k each time: the weights sum up to the pages there are."""
    with forks(8, 5, 0, write=True) as pids, VmaDumper() as dumper:
        dump = dumper.dump()
        chosen = those(dump.graph, pids)
        pages, sample, drawn = sample_pages(dump, peeker, chosen, limit=None, seed=0)
        truth = {
            int(pfn)
            for pid, vma in vmas_at(dump, pids, BASE)
            for pfn in read_pfns(pid, int(dump.graph.vmas.start[vma]), int(dump.graph.vmas.end[vma]))
        }
        inside = np.isin(pages.pfn, np.array(sorted(truth)))
        counted, _, _ = sample_pages(dump, None, chosen, limit=None, seed=0)
    assert len(truth) == 8 * 6 + 8  # the first page of each mapping is everybody's own, the second is shared
    assert pages.weight[inside].sum() == pytest.approx(len(truth))
    assert (pages.anon_vma[inside] != NONE).all()
    assert chosen[pages.mm].all()
    assert (drawn.seed, drawn.windows) == (None, drawn.of)
    assert not sample.left_pages.any()
    said = dict(zip(pages.pfn[inside].tolist(), pages.mapcount[inside].tolist(), strict=True))
    also = dict(zip(counted.pfn.tolist(), counted.mapcount.tolist(), strict=True))
    assert all(also[pfn] == mapcount for pfn, mapcount in said.items())


def test_a_folio_is_walked_once(peeker: PagePeeker, forks: Forks) -> None:
    """Each page of a huge one names the same head and 512 pages; a small one is its own."""
    with forks(1, 1, 0, huge=HUGE) as pids, VmaDumper() as dumper:
        dump = dumper.dump()
        ((pid, vma), *_) = vmas_at(dump, pids, HUGE_AT)
        start = int(dump.graph.vmas.start[vma])
        pfns = read_pfns(pid, start, start + HUGE)
        folios = peeker.look(pfns)
        (own,) = read_pfns(pid, BASE, BASE + 4096)
        small = peeker.look(np.array([own]))
    assert (small.pages[0], small.head[0]) == (1, own)
    if not (folios.pages > 1).any():
        pytest.skip("the kernel gave no huge page")
    large = folios.pages == 512
    assert large.sum() % 512 == 0
    assert len(np.unique(folios.head[large])) == large.sum() // 512


def test_of_a_real_family_the_interval_holds_what_a_full_read_finds(peeker: PagePeeker, forks: Forks) -> None:
    """32 children and a parent, 20 draws of a quarter of their windows: the share in vain and the number of pages, each time but one at most."""
    with forks(4, 32, 0, write=True) as pids, VmaDumper() as dumper:
        dump = dumper.dump()
        graph, chosen = dump.graph, those(dump.graph, pids)

        def look(limit: int | None, seed: int) -> tuple[Estimator, I64]:
            pages, sample, drawn = sample_pages(dump, peeker, chosen, limit=limit, seed=seed)
            everything = np.ones(len(pages.pfn), np.bool_)
            return Estimator(pages, sample, drawn, chosen, everything), candidates_of(pages, graph.stretches)

        full, visits = look(None, 0)
        vain, number = full.in_vain(visits, full.pages.mapcount, full.once), full.total(full.once)
        held, windows = 0, full.drawn.of
        assert vain is not None
        assert vain.value > 0.3  # a parent's own page is looked for in 33 address spaces
        for seed in range(20):
            some, visits = look(windows // 4, seed)
            found, pages = some.in_vain(visits, some.pages.mapcount, some.once), some.total(some.once)
            assert found is not None
            assert not found.exact
            held += found.low <= vain.value <= found.high and pages.low <= number.value <= pages.high
    assert held >= 19


def test_a_large_vma_is_looked_at_where_it_is_populated(peeker: PagePeeker) -> None:
    """64 GiB of addresses with three pages in them are three windows."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    with mmap.mmap(-1, 64 << 30, flags=flags) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.madvise(mmap.MADV_DONTFORK)  # flags of its own: it does not merge with a simulated box beside it
        places = [0, 5 << 30, (64 << 30) - 4096]
        for place in places:
            memory[place] = 1
        view = np.frombuffer(memory, np.uint8)
        address = view.ctypes.data
        with VmaDumper() as dumper:
            graph = dumper.dump().graph
        inside = (graph.vmas.start <= address) & (address < graph.vmas.end) & (graph.vmas.nr_pages >= 1 << 24)
        windows = cut(graph, np.flatnonzero(inside & those(graph, [os.getpid()])[graph.vmas.mm]), pids_of(graph))
        entries = read(windows, pids_of(graph))
        truth = [int(read_pfns(os.getpid(), address + place, address + place + 4096)[0]) for place in places]
        del view
    assert len(windows.mm) == 3
    assert entries.pfn.tolist() == truth
    assert entries.window.tolist() == [0, 1, 2]


def test_windows_are_read_as_pagemap_says(peeker: PagePeeker, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry, in its window, whatever lies between windows and however small the buffer is."""
    with forks(9, 2, 0, write=True) as pids, VmaDumper() as dumper:
        graph = dumper.dump().graph
        where = np.flatnonzero(those(graph, pids)[graph.vmas.mm] & (graph.vmas.anon_vma != NONE))
        pid_of = pids_of(graph)
        windows = cut(graph, where, pid_of)
        whole = read(windows, pid_of)
        monkeypatch.setattr("rmaplab.host.windows._BUFFER", 100)
        piecemeal = read(windows, pid_of)
        for i in range(len(windows.mm)):
            start = int(windows.first[i]) << 12
            pfns = read_pfns(int(pid_of[windows.mm[i]]), start, start + (int(windows.pages[i]) << 12))
            assert whole.pfn[whole.window == i].tolist() == pfns[pfns != 0].tolist()
    assert (piecemeal.pfn == whole.pfn).all()
    assert (piecemeal.window == whole.window).all()
