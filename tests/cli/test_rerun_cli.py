"""JSON says how it was made, and `rmaplab rerun` makes it again; what was mistyped is guessed; scripts from stdin."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.terminal import COMMAND, environment

import rmaplab
from rmaplab.cli import main
from rmaplab.report.agreement import agreement

SMALL = ["sweep", "memory", "--children", "1", "--vmas", "1,2", "--ram", "128M"]
DETERMINISTIC = [
    ["kernels"],
    ["kernels", "2.6.2"],
    ["designs"],
    ["designs", "check", "anonmm", "--examples", "2", "--seed", "5"],
    ["explain", "who", "--ram", "64M"],
    ["explain", "adoption"],
    ["run", "forkbench", "--kernel", "2.6.2", "--level", "1"],
    ["compare", "mallocgroup", "--children", "3", "--pages", "3"],
    SMALL,
]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    code = stop.value.code
    assert isinstance(code, int)
    return code, out, err


@pytest.mark.parametrize("words", DETERMINISTIC, ids=" ".join)
def test_every_verb_says_how_it_was_made_and_can_be_rerun(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Schema version, command, seed if there is one, versions; and the same command gives the same."""
    code, out, _ = call(capsys, *words, "--format", "json")
    assert code == 0
    made = json.loads(out)["made_by"]
    assert made["schema_version"] == 1
    assert made["command"] == ["rmaplab", *words, "--format", "json"]
    assert made.get("seed") == (5 if "--seed" in words else None)
    assert made["versions"] == {
        "rmaplab": rmaplab.__version__,
        "Python": platform.python_version(),
        "kernel": os.uname().release,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["date"])
    saved = tmp_path / "saved.json"
    saved.write_text(out)
    code, out, err = call(capsys, "rerun", str(saved))
    assert (code, out.splitlines()[0][:17]) == (0, "the results agree")
    assert "made_by" in out
    assert " ".join(words[:2]) in err


def test_a_rerun_that_differs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit code 1 and the values, by their paths; running times do not count, and no file that the command wrote is written again."""
    saved = tmp_path / "saved.json"
    assert call(capsys, *SMALL, "--format", "json", "--output", str(saved))[0] == 0
    found = json.loads(saved.read_text())
    found["rows"][1]["children"] += 1
    found["made_by"]["versions"]["Python"] = "2.7"
    saved.write_text(json.dumps(found))
    before = saved.read_text()
    code, out, _ = call(capsys, "rerun", str(saved))
    assert code == 1
    assert "rows.1.children: 2 then, 1 now" in out
    assert "Python 2.7" in out
    assert saved.read_text() == before
    run = tmp_path / "run.json"
    assert (
        call(capsys, "run", "forkbench", "--kernel", "2.6.2", "--level", "1", "--format=json", f"--output={run}")[0]
        == 0
    )
    found = json.loads(run.read_text())
    found["rows"][0]["wall_s"] = 1e9
    run.write_text(json.dumps(found))
    code, out, _ = call(capsys, "rerun", str(run))
    assert code == 0
    assert "not compared: wall_s (our running time), 1 times" in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not json", "no JSON"),
        ("[1]", "does not say which command"),
        ('{"made_by": {"schema_version": 99}}', "schema version 99"),
        ('{"made_by": {"schema_version": 1, "command": ["rm", "-rf", "x"]}}', "does not say which command"),
        ('{"made_by": {"schema_version": 1, "command": null}}', "does not say which command"),
        ('{"made_by": {"schema_version": 1, "command": ["rmaplab", "rerun", "x"]}}', "rerun the file"),
        ('{"made_by": {"schema_version": 1, "command": ["rmaplab", "live"]}}', "--save"),
        ('{"made_by": {"schema_version": 1, "command": ["rmaplab", "check", "-"]}}', "stdin"),
        ('{"made_by": {"schema_version": 1, "command": ["rmaplab", "kernels"]}}', "no JSON"),
        ('{"made_by": {"schema_version": 1, "command": ["rmaplab", "frob"]}}', "frob"),
    ],
)
def test_what_cannot_be_rerun(text: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "x.json"
    saved.write_text(text)
    code, out, err = call(capsys, "rerun", str(saved))
    assert (code, out) == (2, "")
    assert says in err.splitlines()[-1]


def test_agreement() -> None:
    """Missing keys and lengths are differences, types count, the last digits of a float do not; excluded keys at any depth."""
    then: Any = {"a": [1, {"wall_s": 3}], "b": 0.1 + 0.2, "c": True, "e": []}
    now: Any = {"a": [1, {"wall_s": 4}, 9], "b": 0.3, "c": 1, "d": None, "e": []}
    found = agreement(then, now)
    assert {path for path, _, _ in found.differences} == {"a.2", "c", "d"}
    assert found.left_out == {"wall_s": 1}
    assert agreement(then, then).differences == []


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["compre"], "compare"),
        (["sweep", "memroy"], "memory"),
        (["designs", "chek", "anonmm"], "check"),
        (["kernels", "2.6.5-rc1-aa"], "2.6.5-rc1-aa1"),
        (["designs", "check", "anonm"], "anonmm"),
        (["explain", "mremp"], "mremap"),
        (["explain", "Adoptoin"], "adoption"),
        (["run", "frokbench", "--kernel", "2.6.2"], "forkbench"),
        (["compare", "malocgroup"], "mallocgroup"),
    ],
)
def test_did_you_mean(words: list[str], guess: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"(did you mean {guess}?)" in err
    code, _, err = call(capsys, *words[:-1], "qqqq") if len(words) < 3 else (2, "", "")
    assert code == 2
    assert "did you mean" not in err


@pytest.mark.parametrize(
    ("words", "option"),
    [(["compare", "forkbench"], "--levels"), (["run", "forkbench", "--kernel", "2.6.2"], "--level")],
)
def test_what_is_recommended_is_not_refused(words: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, *words, option, "99")
    advice = re.search(r"such as (\d+)", err)
    assert code == 2
    assert advice
    assert "--level" not in err, "one verb has --levels, the other --level"
    assert call(capsys, *words, option, advice[1])[0] == 0


def test_a_script_from_stdin_with_a_mark_before_it(tmp_path: Path) -> None:
    """`check -`, without needing the host: what is wrong with the script is told; a byte order mark is none of it."""
    for mark in (b"", b"\xef\xbb\xbf"):
        done = subprocess.run(
            [*COMMAND, "check", "-"],
            input=mark + b"A: mmap w+0 4 rw\nA: frob\n",
            capture_output=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == 2
        assert done.stderr.startswith(b"rmaplab: stdin:2: ")
    marked = tmp_path / "marked.script"
    marked.write_bytes(b"\xef\xbb\xbfA: mmap w+0 4 rw\n")
    from rmaplab.workloads.script import read_script

    assert str(read_script(marked)).strip() == "A: mmap w+0 4 rw"


def test_nothing_is_left_where_the_user_is(tmp_path: Path) -> None:
    """Hypothesis caches in .hypothesis of the current directory, database or not."""
    words = ["designs", "check", "anonmm", "--examples", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "rmaplab", *words],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env=environment(HYPOTHESIS_STORAGE_DIRECTORY=None),
    )
    assert b": ok, " in done.stdout
    assert list(tmp_path.iterdir()) == []
