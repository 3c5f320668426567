"""What is shown of a replay: the log's own words are hostile, figures are the result's, and nothing that was counted is left out of the JSON."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path

import pytest

from rmaplab.kernels.box import Box
from rmaplab.lab.replay.passed import PASSED
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.plan_processes import KNOWN, plan_of
from rmaplab.lab.replay.run import ReplayResult, replay_on
from rmaplab.report.emit import as_json
from rmaplab.report.replay import ReplayReport
from rmaplab.report.tables import Room, plain, within
from rmaplab.workloads.strace_log import parse

LINES = (
    '7  execve("\\x2f\\x61", ["\\x61"], 0x1) = 0',
    '7  memfd_create("\\x61", 0) = 3',
    "7  mmap(NULL, 8192, 0x3, 0x1, 3, 0) = 0x7f0000000000",
    "7  munmap(0x7f0000000000, 8192) = 0",
    "7  mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f0000000000",
    "7  getpid() = 7",
    "7  new_call() = 0",
)


@cache
def replayed(*kernels: str) -> tuple[Plan, list[ReplayResult]]:
    plan = plan_of(parse(LINES, KNOWN, PASSED))
    return plan, [replay_on(kernel, plan, Box(ram="64M", paging="x86-64"), "used", 4) for kernel in kernels]


def test_the_table_and_what_differs() -> None:
    """Kernels of which the same is to be said stand in one line."""
    plan, rows = replayed("2.6.2", "2.6.7", "6.18")
    said = plain(ReplayReport(rows, plan, "a\x1b[31m.log").text())
    assert "a\\x1b[31m.log: 5 calls of 1 process, on" in said
    assert "2.6.2, 2.6.7: memfd_create: ok on the host, ENOSYS here (once)" in said
    assert "2.6.2, 2.6.7: munmap: lost, it is about what is not there (once)" in said
    assert "not understood: new_call 1" in said
    assert "passed over, nobody's memory: 1 call (getpid 1)" in said
    (line,) = (line.split() for line in said.splitlines() if line.startswith(" 6.18"))
    assert line[:6] == ["6.18", "anon_vma_chain", "5", "0", "0", "0"]


def test_samples_are_shown_if_they_were_asked_for() -> None:
    plan, rows = replayed("2.6.7", "6.18")
    without, with_them = (plain(ReplayReport(rows, plan, "log", shows_samples=shown).text()) for shown in (False, True))
    assert "over the log's calls" not in without
    assert "over the log's calls" in with_them
    assert with_them.count("\n     5  6.18") == 1


def test_the_json_has_all_of_it() -> None:
    plan, rows = replayed("2.6.7")
    found = json.loads(json.dumps(as_json(ReplayReport(rows, plan, "log"))))
    assert found["log"]["not_understood"] == {"new_call": 1}
    assert found["log"]["passed_over"] == {"getpid": 1}
    (row,) = found["rows"]
    assert {"call": "mmap", "host": "ok", "here": "EBADF", "times": 1} in row["differs"]
    assert row["lost"] == {"munmap": 1}
    assert [sample["calls"] for sample in row["over_time"]] == sorted(sample["calls"] for sample in row["over_time"])


def test_a_narrow_terminal_cuts_no_figure() -> None:
    plan, rows = replayed("2.6.7")
    with within(Room(70)):
        assert all(len(line) <= 70 for line in plain(ReplayReport(rows, plan, "log").text()).splitlines())


def test_the_plot_has_a_line_for_each_kernel_in_each_panel(tmp_path: Path) -> None:
    """The same plot is the same file; a name is no formula."""
    pytest.importorskip("matplotlib")
    from rmaplab.report.replay_plot import PANELS, plot_replay

    _, rows = replayed("2.6.7", "6.18")
    for name in ("one.svg", "other.svg"):
        plot_replay(rows, "$a_{\x1b$.log", tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "other.svg").read_text()
    ET.fromstring(text)
    assert all(text.count(f"<!-- {title} -->") == 1 for title in PANELS)
    assert text.count("<!-- 6.18 -->") == 1
