"""Files and anonymous memory under random calls on a box that is too small for both; and what is broken is seen."""

import numpy as np
import pytest

from rmaplab.cache.page_cache import NEWER, PageCache
from rmaplab.errors import KernelBug
from rmaplab.lab.conformance.file_pressure_run import FilePressureRun
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
