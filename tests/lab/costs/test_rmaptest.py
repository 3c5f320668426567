"""rmap-test beyond RAM: lists are gone through, chains and trees are not; every page is compared.

file      |.7.| |.7.| |.7.| ...      more than there is room for
list      v v v v v v v v v v        all of them for a page
"""

import pytest

from rmaplab.calls.task import Task
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.system import boot
from rmaplab.lab.costs.beyond_ram import WRONG
from rmaplab.lab.costs.rmaptest import RmapTestRow, compare_rmap_test, run_rmap_test
from rmaplab.workloads import rmaptest
from rmaplab.workloads.rmaptest import PAGES, RmapTest

BOX = Box(ram="16M", swap="4M", paging="i386", boot_use="12000K")


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """160 VMAs: 4.4 MiB."""
    monkeypatch.setattr(rmaptest, "VMAS", 2560)


def test_lists_are_gone_through() -> None:
    """Each visits what its index makes it, and all bytes are right."""
    found, total = compare_rmap_test(["2.6.2", "2.6.5-rc1-aa1"], ["list", "prio_tree"], BOX)
    rows: dict[str, RmapTestRow] = {row.index: row for row in found}
    assert total == len(rows) == 3
    for row in rows.values():
        assert (row.outcome, row.why, row.vmas) == ("ok", None, 160)
        assert row.verified_bytes == row.written_bytes == row.file_bytes == 160 * PAGES << 12
        assert row.freed > 160
        assert min(row.files.values()) > 0
    per = {index: row.visits_per_freed or 0 for index, row in rows.items()}
    assert per["list"] > 160 > 10 * per["prio_tree"]
    assert rows["pte_chain"].visits["in_vain"] == 0
    assert rows["list"].time_s["sys"] > 2 * rows["prio_tree"].time_s["sys"]
    assert rows["list"].as_json()["visits_per_freed"] == per["list"]


def test_where_there_is_room_nothing_is_visited() -> None:
    """No reclaim, no walk."""
    row = run_rmap_test("2.6.7", None, Box(ram="16M", swap="4M", paging="i386", boot_use="2M"))
    assert (row.index, row.outcome, row.freed, row.visits["all"], row.visits_per_freed) == (
        "prio_tree",
        "ok",
        0,
        0,
        None,
    )


def test_other_bytes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome."""
    monkeypatch.setattr(Task, "read", lambda _, __, length: bytes(length))
    row = run_rmap_test("2.6.7", None, Box(ram="16M", swap="4M", paging="i386", boot_use="2M"))
    assert row.outcome == WRONG


def test_what_each_maps() -> None:
    """So many VMAs as the program had, for that RAM; none merges with its neighbour."""
    system, workload = boot("2.6.2", ram="32M", paging="i386", boot_use="2M"), RmapTest(16 << 20)
    counts: list[int] = []
    fork = Task.fork

    def counted(task: Task, program: object = None) -> Task:
        assert task.mm is not None
        counts.append(task.mm.map_count)
        return fork(task, program)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "fork", counted)
        workload.run(system)
    assert counts == [160]
    system.check()


def test_what_is_refused() -> None:
    """Before the first row."""
    with pytest.raises(UsageError, match="such as on --ram 16M"):
        RmapTest(1 << 20)
    with pytest.raises(UsageError, match="is not here: try 2"):
        compare_rmap_test(["2.6.2", "6.18"], [], Box(ram="64M", paging="x86-64"))
    with pytest.raises(UsageError, match="no index"):
        compare_rmap_test(["2.6.2"], ["heap"], BOX)
