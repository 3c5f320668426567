"""`rmaplab live --from FILE --under DESIGN,...`: what it says of trees and designs that fail, and that nothing else is lost."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.lab.census.machines import census_of, two_trees

from rmaplab.calls.task import Task
from rmaplab.cli import main
from rmaplab.errors import KernelBug
from rmaplab.kernels.system import System
from rmaplab.lab.census import rebuild
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.fork_history import History
from rmaplab.lab.census.relive import relive


@pytest.mark.parametrize("fails_everywhere", [False, True])
def test_what_fails_is_said_and_the_rest_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails_everywhere: bool
) -> None:
    """Exit code 0 in every format. A tree has its line, with PID and reason; a design that fails everywhere its own."""
    file = tmp_path / "census"
    _, census = census_of(two_trees, file)
    first, second = census.trees()

    def fails(design: str, history: History, **rest: Any) -> tuple[System, list[Task]]:
        if design == "anonmm" and (fails_everywhere or any(node.mm == 0 for node in history.nodes)):
            raise KernelBug("family", "nobody is at home\nhere")
        return relive(design, history, **rest)

    monkeypatch.setattr(rebuild, "relive", fails)

    def run(form: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(["live", "--from", str(file), "--under", "anonmm,anon_vma", "--top", "0", "--format", form])
        assert exit_.value.code == 0
        out, err = capsys.readouterr()
        assert not err  # the bar is for terminals
        return out

    text = run("table")
    said = json.loads(run("json"))
    told, rows = said["lived_through"], {row["design"]: row for row in said["designs"]}
    lines = list(csv.DictReader(run("csv").splitlines()))
    why = "family: nobody is at home here"
    assert rows["anon_vma"]["pages"] == told["pages_compared"] > 0
    assert f"the same {told['pages_compared']} pages" in text
    assert {line["pages_compared"] for line in lines} == {str(told["pages_compared"])}
    if fails_everywhere:
        assert told["trees"] == 2
        assert (rows["anonmm"]["failed"], rows["anon_vma"]["failed"]) == (why, None)
        assert f"anonmm: lives through none of these trees: {why}" in text
        assert [line["failed"] for line in lines] == ["", why, ""]
        return
    bad = next(row for row in (first, second) if census.families[0] == census.families[_mm_of(census, row.pid)])
    assert told["trees"] == 1
    (tree,) = told["not_lived_through"]
    assert (tree["pid"], tree["processes"], tree["design"], tree["why"]) == (bad.pid, bad.processes, "anonmm", why)
    (line,) = (line for line in text.splitlines() if why in line)
    assert line.split()[0] == str(bad.pid)
    assert "could not be lived through: 1 fork tree" in text
    assert {row["trees_not_lived_through"] for row in lines} == {"1"}
    assert {row["pages"] for row in rows.values()} == {told["pages_compared"]}


def _mm_of(census: Census, pid: int) -> int:
    processes = census.graph.processes
    return int(processes.mm[processes.pid == pid][0])
