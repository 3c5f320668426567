"""Files under random calls, on every kernel and index, alone and beside a thief; and what is broken is seen."""

import pytest

from rmaplab.errors import KernelBug
from rmaplab.lab.conformance.file_run import FileRun
from rmaplab.mm import truncate
from rmaplab.rmap.objrmap import walk_file

KERNELS = (
    "2.4.21",
    "2.6.2",
    "2.6.5-rc1",
    "2.6.5-rc1+00100",
    "2.6.5-rc1+anonmm",
    "2.6.5-rc1-aa1",
    "2.6.5-rc3-aa3",
    "2.6.7",
    "6.18",
    "6.18+pte_chain",
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kernel", KERNELS)
def test_bytes_are_where_they_must_be(kernel: str, seed: int) -> None:
    FileRun(kernel, seed).run(120)


@pytest.mark.parametrize("kernel", KERNELS)
def test_beside_a_thief(kernel: str) -> None:
    """Copies go to swap and come back; pages of files stay."""
    FileRun(kernel, 5, thief=True).run(80)


@pytest.mark.parametrize("index", ["list", "rbtree", "prio_tree_mended", "interval_tree"])
def test_on_every_index(index: str) -> None:
    FileRun("2.6.5-rc1-aa1", 7, index=index).run(120)


def test_a_truncate_that_spares_entries_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are still mapped leave the cache."""
    monkeypatch.setattr(truncate, "unmap_mapping_range", lambda *_, **__: None)
    with pytest.raises(KernelBug, match="is mapped"):
        FileRun("2.6.2", 0).run(300)


def test_a_walk_that_stops_too_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first VMA of a file's index is all that it visits."""
    whole = walk_file
    monkeypatch.setattr("rmaplab.rmap.pages.walk_file", lambda *arguments: list(whole(*arguments))[:1])
    with pytest.raises(KernelBug, match="mappings missed"):
        FileRun("2.6.5-rc1-aa1", 0).run(300)
