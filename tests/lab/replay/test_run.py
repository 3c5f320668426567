"""Two recorded programs on five kernels: a prefork server, and a build with many children."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.run import FULL, OK, ReplayResult, read_plan, replay, replay_on
from rmaplab.workloads.strace_log import parse

LOGS = Path(__file__).parents[2] / "data/logs"
KERNELS = ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "2.6.7", "6.18")
BOX = Box(ram="256M", paging="x86-64")


@cache
def plan(name: str) -> Plan:
    return read_plan(LOGS / f"{name}.log.gz")


@cache
def result(name: str, kernel: str, touch: str = "used") -> ReplayResult:
    return replay_on(kernel, plan(name), BOX, touch, 20)


@pytest.mark.parametrize("name", ["prefork", "build"])
def test_every_line_is_understood(name: str) -> None:
    assert not plan(name).misunderstood


@pytest.mark.parametrize(("name", "kernel"), [*(("prefork", kernel) for kernel in KERNELS), ("build", "2.4.21"), ("build", "2.6.7"), ("build", "6.18")])  # fmt: skip
def test_every_call_comes_to_the_same_as_on_the_host(name: str, kernel: str) -> None:
    """None of them is younger than 2.4; at the end nobody is left, and everything that was counted is what is there."""
    row = result(name, kernel)
    assert (row.outcome, row.differs, row.lost, row.not_modelled) == (OK, [], {}, {})
    assert row.nr_calls == plan(name).nr_calls
    assert (row.vmas, row.over_time[-1].processes, row.over_time[-1].rmap_bytes) == (0, 0, 0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_processes_are_those_of_the_program(kernel: str) -> None:
    """prefork.py: a master, its client, eight workers, and one for each that has gone; each dies of its own or by SIGTERM."""
    row = result("prefork", kernel)
    births = row.calls["fork"]
    assert births == plan("prefork").nr_processes - 1 == row.ledger["exit"] - 1
    assert births > 8 + 1
    assert row.processes_peak in (10, 11)
    assert row.calls["wait"] == births


def test_designs_hold_what_they_hold() -> None:
    """Memory that was inherited hangs on the family's anon_vmas in 2004, on chains of objects per process today, on nothing in 2.4."""
    old, chains, shared, new = (
        result("prefork", kernel, "all") for kernel in ("2.4.21", "2.6.2", "2.6.5-rc1-aa1", "6.18")
    )
    assert (old.rmap_peak_bytes, old.objects_peak) == (0, {})
    assert chains.objects_peak["pte_chain"] > 1000
    assert shared.objects_peak["anon_vma"] < 20 < new.objects_peak["anon_vma"]
    assert new.objects_peak["anon_vma_chain"] > new.objects_peak["anon_vma"]
    assert shared.rmap_peak_bytes < new.rmap_peak_bytes < chains.rmap_peak_bytes


@pytest.mark.parametrize("kernel", ["2.6.2", "6.18"])
def test_more_is_in_memory_the_more_is_touched(kernel: str) -> None:
    rows = [result("prefork", kernel, touch) for touch in ("none", "used", "all")]
    assert rows[0].faults < rows[1].faults < rows[2].faults
    assert len({(row.splits, row.nr_calls) for row in rows}) == 1  # what merges may hang on what is in memory


def test_samples_lie_within_their_peaks_and_go_on() -> None:
    row = result("build", "2.6.7")
    assert 20 <= len(row.over_time) <= 21
    assert [sample.calls for sample in row.over_time] == sorted(sample.calls for sample in row.over_time)
    assert max(sample.vmas for sample in row.over_time) <= row.vmas_peak
    assert max(sample.rmap_bytes for sample in row.over_time) <= row.rmap_peak_bytes
    assert row.over_time[-1].merges == row.merges
    assert row.over_time[-1].calls == row.nr_calls


def test_a_box_that_is_too_small_says_where_it_ended() -> None:
    lines = [
        '7  execve("\\x2f\\x61", ["\\x61"], 0x1) = 0',
        "7  mmap(NULL, 536870912, 0x3, 0x4022, -1, 0) = 0x7f0000000000",
        "7  brk(NULL) = 0x1000",
    ]
    row = replay_on("6.18", plan_of(parse(lines, KNOWN, PASSED)), Box(ram="64M", paging="x86-64", overcommit=1), "all")
    assert (row.outcome, row.line) == (FULL, 2)


def test_what_makes_no_sense_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose from none, used, all"):
        replay(plan("build"), ["6.18"], BOX, "some")
    with pytest.raises(UsageError, match="no kernel"):
        replay(plan("build"), ["2.6.2", "2.6.99"], BOX, "used")
    (tmp_path / "log").write_text("7  getpid() = 7\n")
    with pytest.raises(UsageError, match="record a whole program"):
        read_plan(tmp_path / "log")
