"""Files and anonymous memory under random calls on a box that is too small for both; and what is broken is seen."""

from itertools import count
from typing import Any

import numpy as np
import pytest

from rmaplab.cache.page_cache import NEWER, PageCache
from rmaplab.calls.task import Task
from rmaplab.errors import KernelBug, OomKilled
from rmaplab.lab.conformance.file_pressure_run import FilePressureRun
from rmaplab.lab.conformance.shared_pressure_run import SharedPressureRun
from rmaplab.mm.pagevec import LruAdd


@pytest.mark.parametrize(
    "kernel", ["2.4.21", "2.4.21+pte_chain", "2.6.2", "2.6.5-rc1", "2.6.5-rc1+00100", "2.6.5-rc1-aa1", "2.6.7"]
)
def test_bytes_are_where_they_must_be(kernel: str) -> None:
    run = FilePressureRun(kernel, 8)
    run.run(150)
    assert run.stolen > 400
    counts = run.system.machine.ledger.counts
    assert counts["file_writepage"]
    assert counts["pswpout"]


def refuse_a_page(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many accesses one gets no page that it needs."""
    access, accesses = Task._access, count(1)

    def meagre(task: Task, *arguments: Any) -> Any:
        allocator = task.kernel.machine.allocator
        allocator.fail_after = None if next(accesses) % every else 0
        try:
            return access(task, *arguments)
        finally:
            allocator.fail_after = None

    monkeypatch.setattr(Task, "_access", meagre)


@pytest.mark.parametrize(("kind", "every"), [(FilePressureRun, 3), (SharedPressureRun, 3), (SharedPressureRun, 7)])
def test_whose_fault_gets_no_memory_is_dead_and_all_else_goes_on(
    kind: type[FilePressureRun], every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files keep their bytes, whoever dies, and when it was the last task another one opens them."""
    refuse_a_page(every, monkeypatch)
    anew, begin = list[Task](), kind.begin_anew

    def begin_anew(run: FilePressureRun) -> Task:
        anew.append(begin(run))
        return anew[-1]

    monkeypatch.setattr(kind, "begin_anew", begin_anew)
    run = kind("2.4.21", 3)
    run.run(150)
    assert run.killed > len(anew) > 0


def test_in_2_6_nobody_may_die_so(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_a_page(7, monkeypatch)
    with pytest.raises(OomKilled):
        FilePressureRun("2.6.7", 3).run(150)


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.7"])
def test_page_by_page_too(kernel: str) -> None:
    """If somebody watches, each page is locked by itself."""
    run = FilePressureRun(kernel, 8)
    run.system.watch(lambda *_: None)
    run.run(60)
    assert run.stolen > 100


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2"])
def test_a_page_that_is_dropped_without_a_write_is_seen(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: PageCache, _file: object, _index: int, pfn: int) -> None:
        self._frames.flags[pfn] &= ~np.uint32(NEWER)

    monkeypatch.setattr(PageCache, "write", forget)
    with pytest.raises(AssertionError):
        FilePressureRun(kernel, 8).run(200)


def test_a_reference_that_a_pagevec_does_not_own_to_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LruAdd, "references", lambda _: np.empty(0, np.int64))
    with pytest.raises(KernelBug, match="page_count"):
        FilePressureRun("2.6.7", 8).run(200)
