"""struct page by BPF, against pagemap and against the graph. Needs root."""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import pytest

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.pages import PagePeeker
from rmaplab.host.sample import read_windows, sample_mapcounts, sample_pages
from rmaplab.host.vmas import Dump, VmaDumper
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE

BASE, HUGE_AT, HUGE = 0x2000_0000_0000, 0x3000_0000_0000, 4 << 20
Forks = Callable[..., AbstractContextManager[list[int]]]


@pytest.fixture(scope="module")
def peeker() -> Iterator[PagePeeker]:
    """Both programs and PFNs. Skips, or fails where everything is required, where they are not to be had."""
    try:
        loaded = PagePeeker()
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


def test_the_sample_weighs_every_page_once(peeker: PagePeeker, forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page mapped by k processes is met k times and weighs 1/k each time: the weights sum up to the pages there are."""
    monkeypatch.setattr("rmaplab.host.sample.WINDOWS", 1 << 40)
    with forks(8, 5, 0, write=True) as pids, VmaDumper() as dumper:
        dump = dumper.dump()
        pages = sample_pages(dump, peeker)
        truth = {
            int(pfn)
            for pid, vma in vmas_at(dump, pids, BASE)
            for pfn in read_pfns(pid, int(dump.graph.vmas.start[vma]), int(dump.graph.vmas.end[vma]))
        }
        inside = np.isin(pages.pfn, np.array(sorted(truth)))
        counted = sample_mapcounts(dump.graph)
    assert len(truth) == 8 * 6 + 8  # the first page of each mapping is everybody's own, the second is shared
    assert pages.weight[inside].sum() == pytest.approx(len(truth))
    assert (pages.anon_vma[inside] != NONE).all()
    said = dict(zip(pages.pfn[inside].tolist(), pages.mapcount[inside].tolist(), strict=True))
    also = dict(zip(counted.pfn.tolist(), counted.mapcount.tolist(), strict=True))
    assert all(also[pfn] == mapcount for pfn, mapcount in said.items())


def test_a_sample_of_windows_says_what_chance_they_had(peeker: PagePeeker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer windows than there are, each entry stands for more; all of them are all there is."""
    with VmaDumper() as dumper:
        graph = dumper.dump().graph
    vmas = np.flatnonzero(graph.vmas.anon_vma != NONE)
    monkeypatch.setattr("rmaplab.host.sample.WINDOWS", 1 << 40)
    whole, _, chance = read_windows(graph, vmas)
    assert chance == 1
    monkeypatch.setattr("rmaplab.host.sample.WINDOWS", 10)
    some, mms, chance = read_windows(graph, vmas)
    assert 0 < chance < 1
    assert len(some) == len(mms) <= min(10 * 512, len(whole))


def test_a_large_vma_is_looked_at_where_it_is_populated(peeker: PagePeeker, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 GiB of addresses with three pages in them are three windows, and hide nobody else."""
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
        monkeypatch.setattr("rmaplab.host.sample.WINDOWS", 64)
        mms = graph.processes.mm[graph.processes.pid == os.getpid()]
        pfns, _, chance = read_windows(graph, np.flatnonzero(inside & np.isin(graph.vmas.mm, mms)))
        truth = [int(read_pfns(os.getpid(), address + place, address + place + 4096)[0]) for place in places]
        del view
    assert chance == 1
    assert set(truth) <= set(pfns.tolist())
