"""swapload beyond RAM: all bytes come back, and what was done for it adds up.

16 MiB of RAM       |== kernel ==|======= processes =======|
their 20 MiB                     |======= processes =======|= 4, and as much as the kernel has =|
                                                               go out, and come back
"""

from dataclasses import replace

import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import boot
from rmaplab.lab.costs.beyond_ram import WRONG
from rmaplab.lab.costs.swapload import SwaploadRow, compare_swapload, run_swapload
from rmaplab.mm.kernel import BURST_TABLES
from rmaplab.reclaim.shrink import Shrinker

MB = 1 << 20
BOX = Box(ram="16M", swap="64M", paging="i386", boot_use="2M")
LOAD = 4 * MB
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1")


@pytest.fixture(scope="module")
def rows() -> dict[str, SwaploadRow]:
    found, total = compare_swapload(KERNELS, BOX, LOAD, 1, forks=True)
    by_kernel = {row.kernel: row for row in found}
    assert len(by_kernel) == total == len(KERNELS)
    return by_kernel


def test_all_bytes_come_back(rows: dict[str, SwaploadRow]) -> None:
    """What is more than RAM has gone out, and some of it came in again."""
    for row in rows.values():
        assert (row.outcome, row.why, row.oom_killed) == ("ok", None, 0)
        assert row.verified_bytes == row.written_bytes > row.working_set_bytes == 16 * MB + LOAD
        assert row.swap["pages_out"] >= LOAD >> 12
        assert 0 < row.swap["pages_in"] == row.ledger["swap_read"]


def test_visits_add_up(rows: dict[str, SwaploadRow]) -> None:
    """2.4 walks from no page; a chain has no slot in vain; aa1 looks at all VMAs of the family, at an entry of each."""
    for row in rows.values():
        visits = row.visits
        assert visits["useful"] + visits["in_vain"] == visits["all"]
        assert visits["all"] == row.ledger.get("vma_visit", 0) + row.ledger.get("chain_slot_visit", 0)
        assert row.freed > 0
        assert (row.scanned_per_freed or 0) >= 1
    assert rows["2.4.21"].visits["all"] == rows["2.6.2"].visits["in_vain"] == 0
    assert rows["2.6.5-rc1-aa1"].visits["in_vain"] > 0
    assert set(rows["2.4.21"].walk_locks) == {"mmlist_lock", "page_table_lock"}
    assert set(rows["2.6.5-rc1-aa1"].walk_locks) == {"PG_maplock", "anon_vma_lock", "page_table_lock"}
    assert all(0 < (row.kswapd_share or 0) <= 1 for row in rows.values())


def test_walk_locks_are_some_of_all_locks(rows: dict[str, SwaploadRow]) -> None:
    """And 2.4's page_table_lock is taken as often as swap_out goes into an mm, at least."""
    row = rows["2.4.21"]
    assert row.walk_locks["page_table_lock"] >= row.ledger["swap_out_mm"]
    assert rows["2.6.2"].walk_locks["PG_chainlock"] <= rows["2.6.2"].visits["all"] + 2 * rows["2.6.2"].ledger["pgscan"]


def test_the_same_seed_is_the_same_row_and_strangers_share_nothing(rows: dict[str, SwaploadRow]) -> None:
    """Another seed is another; without forks nothing is copied."""
    again = run_swapload("2.6.2", BOX, LOAD, 1, forks=True)
    assert again == rows["2.6.2"]
    assert replace(run_swapload("2.6.2", BOX, LOAD, 2, forks=True), seed=1) != again
    strangers = run_swapload("2.6.2", BOX, LOAD, 1, forks=False)
    assert strangers.verified_bytes == strangers.written_bytes == 16 * MB + LOAD
    assert "cow_copy" not in strangers.ledger


@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1-aa1"])
def test_files_are_a_part(kernel: str) -> None:
    """Their pages come from where they lie, from the disk, beside those of swap; all bytes are right."""
    row = run_swapload(kernel, BOX, LOAD, 1, forks=True, files=True)
    assert (row.outcome, row.why) == ("ok", None)
    assert 0.24 * row.working_set_bytes < row.file_bytes <= 0.25 * row.working_set_bytes
    assert row.verified_bytes == row.written_bytes > row.working_set_bytes
    assert row.files["pages_read"] >= row.file_bytes >> 12
    assert row.swap["pages_out"] > 0


def test_what_is_under_way_is_passed_by_as_batch_by_batch(
    rows: dict[str, SwaploadRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same counts, locks and time, to the last digit, where each batch is looked at."""
    looked: list[int] = []

    def one_by_one(*_: object) -> tuple[int, int]:
        looked.append(1)
        return 0, 0

    monkeypatch.setattr(Shrinker, "_pass_by", one_by_one)
    kernel = "2.6.5-rc1-aa1"
    assert run_swapload(kernel, BOX, LOAD, 1, forks=True) == rows[kernel]
    assert len(looked) > 1000


def test_bursts() -> None:
    """The grain is a kernel's own, 32 tables unless it is told otherwise: a row for each. All bytes are right with any."""
    k = boot("2.4.21", BOX).kernel
    span = k.machine.paging.leaf_span
    assert k.burst_end(0, 1 << 31) == BURST_TABLES * span
    k.set_burst(2)
    assert (k.burst_end(0, 1 << 31), k.burst_start(5 * span)) == (2 * span, 4 * span)
    found, total = compare_swapload(["2.4.21"], BOX, LOAD, 1, [1, BURST_TABLES], forks=True)
    one, many = found
    assert (one.burst_tables, many.burst_tables, total) == (1, BURST_TABLES, 2)
    assert one.verified_bytes == many.verified_bytes == one.written_bytes


def test_no_swap_to_speak_of() -> None:
    """Memory that is out is an outcome."""
    row = run_swapload("2.6.7", replace(BOX, swap="1M"), LOAD, 1, forks=True)
    assert (row.outcome, row.oom_killed > 0) == ("oom-killed", True)
    assert row.verified_bytes < row.working_set_bytes


def test_a_promise_too_many() -> None:
    """An errno, and why."""
    row = run_swapload("2.6.7", replace(BOX, swap="0", overcommit=2), LOAD, 1, forks=True)
    assert row.outcome == "ENOMEM"
    assert "the limit of promises" in (row.why or "")


def test_wrong_bytes_are_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "read", lambda _, __, length: bytes(length))
    row = run_swapload("2.6.2", BOX, LOAD, 1, forks=True)
    assert row.outcome == WRONG
    assert "has other bytes at page" in (row.why or "")


@pytest.mark.parametrize(
    ("kernels", "load", "bursts", "says"),
    [
        (["6.18"], LOAD, [32], "the reclaim of 6.18 is not here: try 2.4.21"),
        (["2.6.2"], 0, [32], "--load 500M"),
        (["2.6.2"], LOAD, [5000], "--bursts 1,8,32"),
    ],
)  # fmt: skip
def test_what_is_refused(kernels: list[str], load: int, bursts: list[int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        compare_swapload(
            kernels, replace(BOX, paging=None if kernels == ["6.18"] else "i386"), load, 1, bursts, forks=True
        )
