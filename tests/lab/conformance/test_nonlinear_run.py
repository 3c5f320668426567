"""Nonlinear mappings under random calls, on every kernel that knows them, alone and beside a thief; and what is broken is seen."""

import pytest

from rmaplab.lab.conformance.nonlinear_run import NonlinearRun
from rmaplab.machine.entries import Encoding

KERNELS = (
    "2.6.2", "2.6.5-rc1+00100", "2.6.5-rc1+anonmm", "2.6.5-rc1-aa1", "2.6.5-rc2-aa2", "2.6.5-rc3-aa3", "2.6.7", "6.18",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kernel", KERNELS)
def test_all_is_where_it_must_be(kernel: str, seed: int) -> None:
    NonlinearRun(kernel, seed).run(200)


@pytest.mark.parametrize("kernel", KERNELS)
def test_beside_a_thief(kernel: str) -> None:
    NonlinearRun(kernel, 5, thief=True).run(100)


@pytest.mark.parametrize("paging", ["i386", "x86-64"])
def test_in_other_formats(paging: str) -> None:
    NonlinearRun("2.6.7", 3, paging=paging).run(200)


def test_a_file_entry_that_names_another_page_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reclaim leaves is what comes back."""
    right = Encoding.file_pgoff
    monkeypatch.setattr(Encoding, "file_pgoff", lambda self, entry: right(self, entry) ^ 1)
    with pytest.raises(AssertionError):  # noqa: PT012
        for seed in range(8):
            NonlinearRun("2.6.5-rc2-aa2", seed).run(300)
