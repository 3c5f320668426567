"""Shared memory of all kinds under random calls, on every kernel, alone and beside a thief; and what is broken is seen."""

import pytest

from rmaplab.errors import KernelBug
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.lab.conformance.shared_run import SharedRun
from rmaplab.mm import ipc_attach, ipc_shm
from rmaplab.mm.ipc_shm import ShmAttach
from rmaplab.rmap.pages import Rmap

KERNELS = (*EVERY_KIND, "2.6.5-rc2-aa2", "2.6.5-rc1+00100+anonmm", "6.18+pte_chain")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kernel", KERNELS)
def test_all_is_where_it_must_be(kernel: str, seed: int) -> None:
    """And nothing is left of it when nobody lives."""
    SharedRun(kernel, seed).run(150)


@pytest.mark.parametrize("kernel", KERNELS)
def test_beside_a_thief(kernel: str) -> None:
    SharedRun(kernel, 5, thief=True).run(100)


@pytest.mark.parametrize("index", ["list", "rbtree", "prio_tree_mended", "interval_tree"])
def test_on_every_index(index: str) -> None:
    SharedRun("2.6.5-rc1-aa1", 7, index=index).run(150)


@pytest.mark.parametrize(
    ("kernel", "declared"),
    [
        ("2.6.2", False),
        ("2.6.5-rc1-aa1", True),
        ("2.6.5-rc1+00100", False),
        ("2.6.5-rc2-aa2", False),
        ("2.6.7", False),
        ("6.18", False),
    ],
)
def test_who_declares_nonlinear_pages_unfindable(kernel: str, declared: bool) -> None:
    """SharedRun compares them after each call; here that there were some, where there may be."""
    run, most = SharedRun(kernel, 1), 0
    for _ in range(150):
        run.step()
        most = max(most, len(run.system.kernel.rmap.declared_unfindable()))
    assert bool(most) == declared


def test_a_declaration_that_is_too_long_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or too short."""
    for answer in ({1}, set[int]()):
        monkeypatch.setattr(Rmap, "declared_unfindable", lambda _, answer=answer: answer)
        with pytest.raises((AssertionError, KernelBug), match=r"the design declares|mappings missed"):
            SharedRun("2.6.5-rc1-aa1", 1).run(150)


def test_a_vma_that_is_not_counted_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork or a split that nattch does not hear of."""
    monkeypatch.setattr(ShmAttach, "open", lambda *_: None)
    with pytest.raises(KernelBug, match="shm_nattch"):
        SharedRun("2.6.2", 0).run(300)


def test_a_segment_that_stays_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removed, and nobody shows it any more."""
    monkeypatch.setattr(ipc_shm, "SHM_DEST", 0)
    with pytest.raises(AssertionError):
        SharedRun("6.18", 0).run(300)


def test_a_detach_that_takes_too_little_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """2.4's takes every part."""
    whole = ipc_attach._every_part
    monkeypatch.setattr(ipc_attach, "_every_part", lambda *arguments: list(whole(*arguments))[:1])
    with pytest.raises(AssertionError, match="shmdt at page"):  # noqa: PT012
        for seed in range(8):
            SharedRun("2.4.21", seed).run(300)
