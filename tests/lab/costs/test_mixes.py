"""qsbench and kbuild beyond RAM: all bytes come back, and a row says what it took.

16 MiB of RAM       |== kernel ==|======= processes =======|
an array                         |======= array =======|= and as much more ==|   goes out, and comes back, pass after pass
"""

import pytest

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import System
from rmaplab.lab.costs.beyond_ram import WRONG
from rmaplab.lab.costs.mixes import Mix, MixRow, compare_mix, run_mix
from rmaplab.workloads import kbuild
from rmaplab.workloads.kbuild import Kbuild
from rmaplab.workloads.qsbench import Qsbench

MB = 1 << 20
BOX = Box(ram="16M", swap="32M", paging="i386", boot_use="10M")


def sort(ram_bytes: int) -> Mix:
    return Qsbench(ram_bytes * 13 // 32, 1, 1)


def two(ram_bytes: int) -> Mix:
    return Qsbench(ram_bytes // 5, 2, 1)


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.7"])
def test_a_sort_beyond_ram(kernel: str) -> None:
    """What does not fit goes out and comes back; the disk decides the time."""
    row = run_mix(kernel, BOX, 1, sort)
    assert (row.outcome, row.why, row.oom_killed) == ("ok", None, 0)
    assert row.verified_bytes == row.written_bytes == row.asked["array_bytes"] == 13 * MB // 2
    assert row.swap["pages_out"] > MB // 2 >> 12
    assert 0 < row.major_faults <= row.swap["pages_in"]
    assert row.files == {"pages_read": 0, "pages_written": 0}
    assert 0 < row.user_s[0] <= row.time_s["user"] < row.ends_s[0] <= row.time_s["real"]
    assert row.as_json()["swap"] == row.swap


def test_several_are_watched_and_come_again() -> None:
    """The same seed is the same row; who watches sees the system before it runs."""
    seen: list[System] = []
    rows, total = compare_mix(["2.6.2"], BOX, 1, two)
    (row,) = rows
    assert total == 1
    assert run_mix("2.6.2", BOX, 1, two, seen.append) == row
    assert len(seen) == 1
    assert len(row.ends_s) == 2


def test_compilers_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory goes out and comes back, and so do pages of their text and headers, from the files they are of."""
    for name, size in (("LEAST_MEMORY", 384), ("MOST_MEMORY", 640), ("TEXT", 192), ("HEADERS", 192)):
        monkeypatch.setattr(kbuild, name, size)
    row = run_mix("2.6.7", Box(ram="16M", swap="16M", paging="i386", boot_use="11M"), 1, lambda _: Kbuild(3, 6, 1))
    assert (row.outcome, row.why, row.oom_killed) == ("ok", None, 0)
    assert row.verified_bytes == row.written_bytes > 6 << 20
    assert len(row.ends_s) == len(row.user_s) == 6
    assert min(row.swap.values()) > 100
    assert row.files["pages_read"] > 2 * 192
    assert row.ends_s[0] < row.ends_s[-1] / 1.5  # the second half began when others had done


def test_out_of_memory_is_an_outcome() -> None:
    """Who is killed has not come to an end."""
    row = run_mix("2.6.7", Box(ram="16M", swap="0", paging="i386", boot_use="10M", overcommit=1, reclaim=True), 1, sort)
    assert (row.outcome, row.oom_killed, row.ends_s) == ("oom-killed", 1, [])
    assert row.verified_bytes < row.written_bytes


def test_a_fault_that_gets_no_memory_kills() -> None:
    """2.4 without a killer: nobody was chosen, and nobody has come to an end."""
    row = run_mix("2.4.21", Box(ram="16M", swap="0", paging="i386", boot_use="10M", overcommit=1), 1, sort)
    assert (row.outcome, row.oom_killed, row.ends_s) == ("oom-killed", 0, [])
    assert "killed its process: 1 of them" in (row.why or "")


def test_what_is_refused() -> None:
    """Before the first row."""
    with pytest.raises(UsageError, match="is not here: try 2"):
        compare_mix(["2.6.2", "6.18"], Box(ram="64M", swap="16M", paging="x86-64"), 1, sort)
    with pytest.raises(UsageError, match="--array 88M"):
        compare_mix(["2.6.2"], BOX, 1, lambda _: Qsbench(0, 1, 1))


def test_wrong_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are an outcome of their own."""
    monkeypatch.setattr(Qsbench, "compare", lambda self, task, *_: _wrong(self, task.pid))
    row: MixRow = run_mix(
        "2.6.2", Box(ram="32M", swap="16M", paging="i386", boot_use="6M"), 1, lambda _: Qsbench(MB, 1, 1)
    )
    assert (row.outcome, row.why) == (WRONG, "somebody")


def _wrong(workload: Qsbench, _: int) -> bool:
    workload.damage = workload.damage or "somebody"  # type: ignore[assignment]
    return False
