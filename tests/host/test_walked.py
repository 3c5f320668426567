"""Rows PAGE and MEMORY of a dump, by hand.

mm 0   VMA 0  2 pages here, all     VMA 1  swapped out in part: its pages are here, its process is asked about
mm 1   VMA 2  shared memory         VMA 3  too many pages: those here are left out
mm 2   VMA 4  not read at all
"""

import numpy as np
import pytest

from rmaplab.host import snapshot
from rmaplab.host.vmas import Dump
from rmaplab.host.walked import SHMEM, UNLIKE_MEMORY, UNLIKE_PAGES, WalkedTables, walked
from rmaplab.objects.graph import AnonVmas, Chains, Files, Graph, Processes, Vmas

MM = np.array([0, 0, 1, 1, 2])
SHARE = (4096 << 12) // 3


def some() -> WalkedTables:
    """As drawn above."""
    pages = np.array([(6 | 1 << 32, pfn, 0x1001, pfn + 5, pfn, 1) for pfn in (10, 11, 20, 30)]).T
    memory = [
        (7, 2, 2 * SHARE, 0, 1),
        (7 | UNLIKE_MEMORY << 32, 1, 4096 << 12, 1, 0),
        (7 | SHMEM << 32, 1 << 50, 1 << 60, 3, 0),
        (7 | UNLIKE_PAGES << 32, 4, 4 * 4096 << 12, 4, 0),
    ]
    return walked(pages, np.array([0, 0, 1, 3]), np.array(memory).T, np.array([0, 1, 2, 3]), MM)


def test_pages_are_those_of_vmas_that_were_read_wholly() -> None:
    """What is swapped out is no page that is mapped, so VMA 1 has all there are."""
    pages = some().pages
    assert pages.whole.tolist() == [True, True, True, False, False]
    assert pages.vma.tolist() == [0, 0, 1]
    assert pages.pfn.tolist() == [10, 11, 20]
    assert pages.pgoff.tolist() == [15, 16, 25]
    assert pages.mapcount.tolist() == [1, 1, 1]


def test_memory_is_known_where_all_of_a_process_was_read() -> None:
    """And exact: 2^50 pages and one more are not 2^50; a third of a page and another make 2 KiB, as the kernel rounds once."""
    memory = some().memory
    assert memory.known.tolist() == [False, True, False]
    assert memory.shmem.tolist() == [False, True, False]
    assert memory.rss.tolist() == [3 * 4096, ((1 << 50) + 4) * 4096, 0]
    assert memory.pss[0] == (2 * SHARE + (4096 << 12) >> 22) << 10 == 6 << 10
    assert memory.private.tolist() == [4096, 7 * 4096, 0]
    assert memory.ksm.tolist() == [4096, 0, 0]


@pytest.mark.parametrize("swapped", [False, True])
def test_shared_memory_is_asked_about_where_something_is_swapped_out(
    swapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page tables do not say which of its pages are."""
    monkeypatch.setattr(snapshot, "is_something_swapped_out", lambda: swapped)
    none, three = np.zeros(0, np.int64), np.arange(3)
    people = Processes(three + 7, three, np.array([b"a"] * 3), three, three)
    graph = Graph(people, Vmas(MM, *[none] * 6), AnonVmas(*[none] * 5), Chains(none, none), Files(none, none))
    found = snapshot._memory_of(Dump(graph, none, none, walked=some()))
    assert found is not None
    assert found.known.tolist() == [False, not swapped, False]
    assert snapshot._memory_of(Dump(graph, none, none)) is None
