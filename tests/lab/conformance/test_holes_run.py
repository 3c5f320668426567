"""Holes, seals and memfds under random calls, alone and beside a thief, and on kernels that know of none; what is broken is seen."""

import pytest

from rmaplab.lab.conformance.holes_run import HolesRun
from rmaplab.mm import fallocate


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kernel", ["6.18", "6.18+pte_chain"])
def test_all_is_where_it_must_be(kernel: str, seed: int) -> None:
    HolesRun(kernel, seed, thief=seed == 5).run(150)


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.5-rc1-aa1", "2.6.7"])
def test_before_there_were_any(kernel: str) -> None:
    HolesRun(kernel, 0).run(100)


def test_a_hole_that_is_not_empty_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are unmapped, and stay."""
    monkeypatch.setattr(fallocate, "remove_pages", lambda *_, **__: None)
    with pytest.raises(AssertionError, match="bytes"):  # noqa: PT012
        for seed in range(8):
            HolesRun("6.18", seed).run(300)
