"""Page tables read by the iterator itself, and where they stand: against pagemap, struct pages and smaps_rollup. Needs root.

forks.c   BASE   p0 own  p1 shared     p0 own  p1 shared   ...      a VMA each: all of it is in the dump
HUGE_AT   a huge page                                               an entry one level above: pagemap's
closed    four pages, then mprotect(PROT_NONE)                      entries that are there and not present: pagemap's too
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rmaplab.host.bpf.errors import BpfUnavailable
from rmaplab.host.footprint import Footprints, read_footprints
from rmaplab.host.page_walk import WalkingIterator
from rmaplab.host.pages import PagePeeker
from rmaplab.host.sample import sample_pages
from rmaplab.host.snapshot import CensusTaker, Rung
from rmaplab.host.vmas import Dump, VmaDumper
from rmaplab.host.windows import Windows, cut, read
from rmaplab.machine.arrays import I64
from rmaplab.objects.graph import NONE

HUGE_AT, HUGE = 0x3000_0000_0000, 2 << 20
Forks = Callable[..., AbstractContextManager[list[int]]]
CLOSED = """
import ctypes, mmap, sys
area = mmap.mmap(-1, 4 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(area), 4096): area[at] = 1
at = ctypes.addressof(ctypes.c_char.from_buffer(area))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(at), len(area), 0) == 0
print(at, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def taker() -> Iterator[CensusTaker]:
    """All of it. Skips, or fails where everything is required, where it is not to be had."""
    with CensusTaker() as found:
        if found.rung == Rung.EVERYTHING:
            found.read_rows()
        if found._walk is None:
            assert not os.environ.get("RMAPLAB_REQUIRE_ALL") or "6.1." in os.uname().release
            pytest.skip("page tables are not read by BPF here")
        yield found


def whole_dump(taker: CensusTaker) -> Dump:
    """One that is not torn, of everybody, with all pages."""
    assert taker._dumper is not None
    for _ in range(20):
        dump = taker._dumper.dump()
        if not dump.broken:
            return dump
    pytest.fail("torn 20 times")


def of_pids(dump: Dump, pids: list[int]) -> tuple[Windows, I64]:
    """The windows of these processes' VMAs with an anon_vma, and PIDs by mm."""
    graph = dump.graph
    pid_of = np.zeros(graph.nr_mms, np.int64)
    pid_of[graph.processes.mm] = graph.processes.pid
    mine = (graph.vmas.anon_vma != NONE) & np.isin(pid_of[graph.vmas.mm], pids)
    return cut(graph, np.flatnonzero(mine), pid_of), pid_of


def test_pages_in_a_dump_are_those_of_pagemap_and_their_struct_pages(taker: CensusTaker, forks: Forks) -> None:
    """PFN, mapping, index, mapcount, folio: of every VMA whose pages are all in the dump, and of small processes all are."""
    assert taker._peeker is not None
    with forks(30, 5, 3, write=True) as pids:
        dump = whole_dump(taker)
        windows, pid_of = of_pids(dump, pids)
        found = read(windows, pid_of)
        folios = taker._peeker.look(found.pfn)
    assert dump.walked is not None
    pages = dump.walked.pages
    assert pages.whole[windows.vma].all()
    anonymous = folios.anon_vma != 0
    columns = (
        windows.vma[found.window],
        found.pfn,
        folios.mapping,
        folios.pgoff,
        folios.mapcount,
        folios.head,
        folios.pages,
    )
    theirs = np.stack([column[anonymous] for column in columns])
    ours = np.stack(pages[:-1])[:, np.isin(pages.vma, windows.vma)]
    assert len(ours[0]) >= 9 * 60
    assert sorted(ours.T.tolist()) == sorted(theirs.T.tolist())


def test_what_processes_have_is_what_smaps_rollup_says(taker: CensusTaker, forks: Forks) -> None:
    """Rss, Pss, private, shared and KSM of processes that stand still, to the byte."""
    with forks(30, 5, 3, write=True) as pids:
        dump = whole_dump(taker)
        people = dump.graph.processes
        meant = np.isin(people.pid, pids)
        told = read_footprints(people.pid.tolist(), meant)
    assert dump.walked is not None
    *sums, known, shmem = (column[people.mm[meant]] for column in dump.walked.memory)
    assert known.all()
    assert not shmem.any()
    for ours, figure in zip(sums, ("rss", "pss", "private", "ksm"), strict=True):
        assert ours.tolist() == getattr(told, figure)[meant].tolist(), figure
    assert told.shared[meant].tolist() == (sums[0] - sums[2]).tolist()


def test_what_is_no_plain_page_is_left_to_the_kernels_own_files(taker: CensusTaker, forks: Forks) -> None:
    """A huge page, and pages that nobody may touch: of neither VMA the dump says that it has all, and its process is asked about."""
    with (
        forks(3, 1, 0, write=True, huge=HUGE) as pids,
        subprocess.Popen([sys.executable, "-c", CLOSED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as closed,
    ):
        assert closed.stdout is not None
        at = int(closed.stdout.readline())
        dump = whole_dump(taker)
        entry = Path(f"/proc/{pids[0]}/smaps_rollup").read_text()
        closed.kill()
    graph = dump.graph
    assert dump.walked is not None
    vma = int(
        np.flatnonzero((graph.vmas.start <= at) & (at < graph.vmas.end) & (graph.vmas.mm == _mm(dump, closed.pid)))[0]
    )
    assert not dump.walked.pages.whole[vma]
    assert not (dump.walked.pages.vma == vma).any()
    assert not dump.walked.memory.known[_mm(dump, closed.pid)]
    if "AnonHugePages:      2048 kB" not in entry:
        pytest.skip("no huge pages here")
    huge = np.flatnonzero((graph.vmas.start == HUGE_AT) & np.isin(graph.vmas.mm, [_mm(dump, pid) for pid in pids]))
    assert len(huge) == len(pids)
    assert not dump.walked.pages.whole[huge].any()
    assert not dump.walked.memory.known[graph.vmas.mm[huge]].any()


def _mm(dump: Dump, pid: int) -> int:
    return int(dump.graph.processes.mm[np.flatnonzero(dump.graph.processes.pid == pid)[0]])


def test_entries_where_they_stand_are_those_of_pagemap(taker: CensusTaker, forks: Forks) -> None:
    """Small windows; those that were not read are named, and nothing of them is there."""
    assert taker._walk is not None
    with forks(40, 5, 3, write=True, huge=HUGE) as pids:
        dump = whole_dump(taker)
        windows, pid_of = of_pids(dump, pids)
        assert dump.mm_pointers is not None
        ours, left = taker._walk.tables.read(windows, dump.mm_pointers)
        theirs = read(windows, pid_of)
    there = ~np.isin(theirs.window, left)
    assert len(left) < len(windows.mm) / 4
    assert (windows.pages[left] == 512).any()
    assert sorted(np.stack(ours).T.tolist()) == sorted(np.stack(theirs)[:, there].T.tolist())


def test_pages_are_the_same_by_whichever_way_they_were_found(taker: CensusTaker, forks: Forks) -> None:
    """The dump's own, those of tables where they stand, and pagemap's: of these processes the same rows."""
    assert taker._peeker is not None
    assert taker._walk is not None
    with forks(40, 8, 0, write=True) as pids:
        dump = whole_dump(taker)
        chosen = np.isin(np.arange(dump.graph.nr_mms), [_mm(dump, pid) for pid in pids])
        ways = ((dump, None), (replace(dump, walked=None), taker._walk.tables), (replace(dump, walked=None), None))
        found = [
            sample_pages(seen, taker._peeker, chosen, limit=None, seed=1, tables=tables)[0] for seen, tables in ways
        ]
    rows = [sorted(np.stack(pages).T.tolist()) for pages in found]
    assert len(rows[0]) >= 9 * 80
    assert rows[0] == rows[1] == rows[2]


def test_a_look_says_the_same_of_memory_with_and_without(taker: CensusTaker, forks: Forks) -> None:
    """Of processes that stand still."""
    with forks(10, 3, 0, write=True) as pids:
        quick = taker.look()
        people = quick.graph.processes
        slow = read_footprints(people.pid.tolist(), np.isin(people.pid, pids), quick.footprints.page_tables)
    meant = np.isin(people.pid, pids)
    for figure in Footprints._fields:
        assert getattr(quick.footprints, figure)[meant].tolist() == getattr(slow, figure)[meant].tolist(), figure


def test_a_machine_whose_tables_are_elsewhere_is_read_through_pagemap(taker: CensusTaker) -> None:
    """Were struct pages not where they are, nothing of ours would be found by a walk: it is not trusted, and looks go on without it."""
    with VmaDumper() as dumper, PagePeeker(dumper) as peeker:
        peeker.vmemmap += 64
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(BpfUnavailable, match="pagemap is read instead"):
            WalkingIterator(peeker)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
