"""nonlinear-user on boxes that its window does not fit into: whoever finds its pages lives, and aa1 does not.

16 MiB of RAM   |== kernel ==|== bystander ==|= window ....|
the window                                   |=================|
"""

import pytest

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.lab.costs.nonlinear_user import compare_nonlinear_user, run_nonlinear_user
from rmaplab.reclaim import direct
from rmaplab.workloads import nonlinear_user

MB = 1 << 20
BOX = Box(ram="16M", swap="16M", paging="i386", boot_use="11300K")
WINDOW = 5 * MB


@pytest.mark.parametrize("remapped", [False, True])
def test_who_finds_them_lives(remapped: bool) -> None:
    """2.6.7 takes them, in clusters: the file's pages come and go, and all bytes are right."""
    row = run_nonlinear_user("2.6.7", BOX, remapped=remapped, window=WINDOW)
    assert (row.outcome, row.passes, row.oom_killed) == ("ok", 2, 0)
    assert row.verified_bytes == row.written_bytes == 2 * WINDOW + WINDOW // 8
    assert row.most_mapped_bytes <= 5 * MB
    assert row.files["pages_read"] > WINDOW >> 12
    assert row.rounds > 0


def test_nobody_finds_them_on_aa1(monkeypatch: pytest.MonkeyPatch) -> None:
    """All memory is the window, swap is free, and so nobody is killed: the box hangs."""
    monkeypatch.setattr(direct, "HANG_NS", 10**8)
    monkeypatch.setattr(nonlinear_user, "STUCK_S", 1)
    row = run_nonlinear_user("2.6.5-rc1-aa1", BOX, remapped=True, window=WINDOW)
    assert (row.outcome, row.passes, row.oom_killed) == ("hung", 0, 0)
    assert "slots of swap are free, so the OOM killer does nothing" in (row.why or "")
    assert row.most_mapped_bytes > 2 * MB
    assert row.verified_bytes < row.written_bytes


def test_two_rows_a_kernel() -> None:
    """What has no such call says so; what has no reclaim here is refused before."""
    rows, total = compare_nonlinear_user(["2.4.21"], BOX)
    found = [(row.window, row.outcome) for row in rows]
    assert total == 2
    assert found[1] == ("remapped", "ENOSYS")
    with pytest.raises(UsageError, match="is not here: try 2"):
        compare_nonlinear_user(["2.6.7", "6.18"], Box(ram="64M", paging="x86-64"))
