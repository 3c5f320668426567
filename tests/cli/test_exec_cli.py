"""`rmaplab exec`: what comes out where, and what is said when it cannot be done."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.terminal import COMMAND, environment
from tests.cpu.programs import compiled, root

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int n, char **words) {
	char line[100];
	if (n > 1 && words[1][0] == 's') raise(11);
	if (n > 1 && words[1][0] == 'p') pause();
	if (n > 1 && words[1][0] == 'u') syscall(451, 0, 0, 0, 0), syscall(451);
	while (fgets(line, sizeof line, stdin)) printf("got %s", line);
	fprintf(stderr, "%s\\n", getenv("COLOUR") ? getenv("COLOUR") : "none");
	return 3;
}
"""


def run(*words: str, stdin: str = "", code: int) -> tuple[str, str]:
    """(stdout, stderr) of the command, which ends with `code`."""
    done = subprocess.run(
        [*COMMAND, "exec", *words], input=stdin, capture_output=True, text=True, env=environment(), check=False, cwd="/"
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def program() -> tuple[str, ...]:
    """It is shown as the only one."""
    return "--root", str(root()), "--", compiled("#include <signal.h>\n" + PROGRAM, name="talks")


def test_streams_and_status_are_its_own(program: tuple[str, ...]) -> None:
    """Nothing of ours is said where all is well."""
    assert run("--env", "COLOUR=red", *program, stdin="a\nb\n", code=3) == ("got a\ngot b\n", "red\n")


def test_stats_are_aside_or_in_a_file(program: tuple[str, ...], tmp_path: Path) -> None:
    """On stderr as a table; with --output there, and nothing aside."""
    out, aside = run("--stats", *program, code=3)
    assert out == ""
    assert "page tables at exit" in aside
    kept = tmp_path / "stats.json"
    run("--format", "json", "--output", str(kept), *program, code=3)
    (row,) = json.loads(kept.read_text())["rows"]
    assert (row["status"], row["outcome"], row["kernel"]) == (3, "ok", "2.6.5-rc1-aa1")
    assert row["ledger"]["syscall"] > 0


def test_several_kernels_are_given_the_same(program: tuple[str, ...]) -> None:
    """All read the same stdin; the first one's output is shown, once."""
    out, aside = run("--compare", "2.4.21,6.18", *program, stdin="x\n", code=3)
    assert out == "got x\n"
    assert aside.count("none\n") == 1
    assert "differs" not in aside


def test_a_timeline_is_chromes(program: tuple[str, ...], tmp_path: Path) -> None:
    """Every event has a phase; tasks, memory and marks are there; pieces of a CPU do not overlap."""
    kept = tmp_path / "t.json"
    run("--timeline", str(kept), *program, code=3)
    events = json.loads(kept.read_text())["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C", "i"}
    ends: dict[int, float] = {}
    for event in (each for each in events if each["ph"] == "X"):
        assert event["ts"] >= ends.get(event["tid"], 0)
        ends[event["tid"]] = event["ts"] + event["dur"]


def test_its_end_is_told(program: tuple[str, ...]) -> None:
    """A signal; a sleep that nobody ends; a call that is not known, once by its name."""
    assert "ended by SIGSEGV" in run(*program, "s", code=139)[1]
    assert "waits for ever: every thread sleeps" in run(*program, "p", code=125)[1]
    assert run(*program, "u", code=3)[1] == "none\nrmaplab: answered with ENOSYS: cachestat (2)\n"


def test_a_limit_ends_it_and_what_was_found_is_kept(program: tuple[str, ...], tmp_path: Path) -> None:
    """A status of its own, a line that says which limit, and the figures up to then."""
    kept = tmp_path / "stats.json"
    _, aside = run("--blocks", "1K", "--format", "json", "--output", str(kept), *program, code=125)
    assert "more than 1,024 basic blocks: try --blocks with more" in aside
    (row,) = json.loads(kept.read_text())["rows"]
    assert (row["status"], row["outcome"]) == (None, "ended")


def test_one_kernel_may_be_compared(program: tuple[str, ...]) -> None:
    """It is a table of one column."""
    assert "page tables at exit" in run("--compare", "6.18", *program, code=3)[1]


def test_without_the_engine_it_is_one_line(program: tuple[str, ...]) -> None:
    """Which says what to install."""
    code = "import sys; sys.modules['unicorn'] = None; from rmaplab.cli import main; main(['exec', '--', 'true'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False, cwd="/"
    )
    assert done.returncode == 2
    assert "pip install '.[exec]'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "/nope"], "/nope: No such file or directory: name a program"),
        (["--processes", "0", "--", "/talks"], "0 is not in the range x>=1"),
        (["--kernel", "2.6.3", "--", "/talks"], "no kernel '2.6.3'"),
        (["--kernel", "6.18", "--compare", "2.6.2", "--", "/talks"], "give one of them"),
        (["--compare", "2.6.2,6.18", "--timeline", "x.json", "--", "/talks"], "--timeline is of one kernel"),
        (["--root", "/nonexistent/x", "--", "/talks"], "name a directory"),
        (["--env", "=x", "--", "/talks"], "give NAME=VALUE"),
        (["--date", "2026-13-01", "--", "/talks"], "--date 2026-13-01: give YYYY-MM-DD, or now"),
        (["--output-limit", "0", "--", "/talks"], "--output-limit 0: give more than 0"),
        ([], "Missing argument 'PROGRAM...'"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str) -> None:
    """With the next thing to try, and exit code 2."""
    _, aside = run(*words, code=2)
    assert said in aside
    assert aside.count("\n") == 1
