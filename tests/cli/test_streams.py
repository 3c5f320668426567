"""Streams that are full, closed or speak no UTF-8, terminals that can do little, signals: readable, or one line; nobody stays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.terminal import COMMAND, environment, on_terminal

import rmaplab.cli
from rmaplab.cli import EXIT_CODES, main

VERBS = [
    ["kernels"],
    ["designs", "--format", "json"],
    ["--help"],
    ["run", "--help"],
]
needs_compiler = pytest.mark.skipif(
    not os.environ.get("RMAPLAB_REQUIRE_ALL") and not (shutil.which("cc") or shutil.which("gcc")),
    reason="no C compiler",
)
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Streams as a shell makes them."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120, env=environment()
    )


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
@pytest.mark.parametrize(("redirection", "why"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_stdout_that_takes_nothing(arguments: list[str], redirection: str, why: str) -> None:
    """One line, exit code 2: never a bug of ours, and never 120 from an interpreter that flushes once more."""
    done = shell(redirection, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"rmaplab: cannot write to standard output ({why}")


def test_stderr_that_takes_nothing() -> None:
    """What was asked for is said all the same, and the exit code too."""
    done = shell("2>/dev/full", "kernels")
    assert (done.returncode, "2.6.5-rc1-aa1" in done.stdout) == (0, True)
    assert shell("2>/dev/full", "kernels", "3.1").returncode == 2
    assert shell("<&- >&- 2>&-", "kernels").returncode == 2


def test_a_file_is_not_taken_for_a_closed_stdout(tmp_path: Path) -> None:
    """With stdout closed the next file opened would get its number: what goes to stdout must not end up in it."""
    path = tmp_path / "kernels.json"
    done = shell(">&-", "kernels", "--format", "json", "--output", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text().startswith("{")


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", None])
def test_an_encoding_that_has_no_such_letters(arguments: list[str], encoding: str | None) -> None:
    """Rules and trees are drawn in ASCII; the same lines, as long as before. None: the C locale, and nothing that mends it."""
    bare: dict[str, str | None] = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    changes = bare if encoding is None else {"PYTHONIOENCODING": encoding}
    told, usual = (
        subprocess.run(
            [*COMMAND, *arguments], capture_output=True, check=True, timeout=120, env=environment(**each)
        ).stdout
        for each in (changes, {"PYTHONIOENCODING": "utf-8"})
    )
    assert told.isascii()
    if arguments != ["designs", "--format", "json"]:  # which says when it was made, and by what
        lines, others = told.decode("ascii").splitlines(), usual.decode().splitlines()
        assert [len(line) for line in lines] == [len(line) for line in others]
        assert [line for line in others if line.isascii()] == [
            line for line, other in zip(lines, others, strict=True) if other.isascii()
        ]


def test_a_letter_without_a_twin_is_spelt_out() -> None:
    """A name that the user gives: an error's text is never an error."""
    done = subprocess.run(
        [*COMMAND, "kernels", "\u6f22"],
        capture_output=True,
        check=False,
        timeout=60,
        env=environment(PYTHONIOENCODING="ascii"),
    )
    assert done.returncode == 2
    assert b"\\u6f22" in done.stderr


@pytest.mark.parametrize(
    "changes",
    [{"COLUMNS": "0"}, {"COLUMNS": "many"}, {"TERM": "dumb"}, {"HOME": None, "XDG_CACHE_HOME": None}],
    ids=str,
)
def test_a_terminal_of_80_columns(changes: dict[str, str | None]) -> None:
    """No line is longer, and what is not shown is named; a dumb terminal gets no escape sequences."""
    code, said = on_terminal(80, "designs", **{"COLUMNS": None, **changes})
    lines = ESCAPE.sub("", said).splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert "not shown for width: where: --columns or --all" in lines
    if changes.get("TERM") == "dumb":
        assert "\x1b" not in said


def test_columns_and_all_on_a_terminal() -> None:
    _, every = on_terminal(60, "designs", "--all")
    assert "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap" in every
    assert "not shown" not in every
    _, some = on_terminal(60, "designs", "--columns", "where")
    assert ESCAPE.sub("", some).splitlines()[1].split() == ["design", "where"]


def test_in_a_pipe_the_width_is_nobodys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        main(["designs"])
    out = capsys.readouterr().out
    assert "not shown" not in out
    assert "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap" in out
    assert not [line for line in out.splitlines() if line != line.rstrip()]


def test_a_column_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """What was found is shown, then the error: the work was done."""
    with pytest.raises(SystemExit) as stop:
        main(["designs", "--columns", "wher,packadge"])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert "rmaplab.rmap.anon_vma_chain:AnonVmaChainMap" in out
    assert err.startswith("rmaplab: no column 'packadge' (did you mean package?): there are design, package,")


@pytest.mark.parametrize(
    "arguments",
    [
        *[["compare", name] for name in ("forkbench", "kbuild", "localmalloc", "mallocgroup", "manyvmas")],
        *[["compare", name] for name in ("nonlinear-user", "qsbench", "rmap-test", "sga", "swapload")],
        *[["run", "forkbench", "--kernel", "2.6.2"], ["run", "qsbench", "--kernel", "2.6.2"], ["sweep", "memory"]],
    ],
    ids=" ".join,
)
def test_before_minutes_of_work_such_a_column_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, and nothing is run: the default boxes would take minutes each."""
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--columns", "nope nor this"])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("rmaplab: no column 'nope nor this': there are ")
    assert "| " not in err
    assert ">" not in err


def exit_code_of(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(rmaplab.cli.cli, "invoke", fail)
    with pytest.raises(SystemExit) as stop:
        main(["kernels"])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("oh"), 70),
        (rmaplab.KernelBug("here", "impossible"), 70),
        (rmaplab.SyscallError(12, "mmap"), 70),
        (PermissionError(13, "not thought of"), 70),
        (OSError(28, "No space left on device", "/var/x"), 2),
        (OSError(5, "Input/output error"), 2),
        (MemoryError(), 2),
        (OSError(12, "Cannot allocate memory"), 2),
        (rmaplab.UsageError("no"), 2),
        (BrokenPipeError(), 0),
    ],
    ids=repr,
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """70 is for what we did wrong, a simulated errno that has got out among it; a disk of the user's is none of that."""
    assert exit_code_of(error, monkeypatch) == code
    err = capsys.readouterr().err
    assert err.count("\n") == (code != 0)
    assert ("bug of ours" in err) == (code == 70)
    short_of_memory = isinstance(error, MemoryError) or getattr(error, "errno", 0) == 12
    assert ("out of memory" in err and "ask for less" in err) == (short_of_memory and code == 2)
    assert f"{code} " in EXIT_CODES


def family(session: int) -> list[int]:
    """Pids of processes below or in a session, but for those that have ended: by their parents, for they have sessions of their own."""
    found: dict[int, tuple[int, int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry.name)] = int(stat[1]), int(stat[3]), stat[0]
    members = {pid for pid, (_, sid, _) in found.items() if sid == session}
    while more := {pid for pid, (parent, _, _) in found.items() if parent in members} - members:
        members |= more
    return sorted(pid for pid in members if found[pid][2] not in "ZX")


def wait_for(what: str, condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"{what}: not within {seconds} s")


def alive(pids: list[int]) -> list[int]:
    """Those that have not ended."""
    left = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        left += [pid] if state not in "ZX" else []
    return left


@needs_compiler
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("verb", ["forkbench", "agent"])
def test_a_signal_ends_the_children(number: signal.Signals, code: int, verb: str) -> None:
    """Real processes, in a session of their own each: none is left, and the exit code says why."""
    words = {"forkbench": ["compare", "forkbench", "--levels", "1,5", "--kernels", "2.4.21", "--host"],
             "agent": ["check", "--fuzz", "100000"]}[verb]  # fmt: skip
    program = {"forkbench": "forkbench", "agent": "exe"}[verb]
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )

    def children() -> list[int]:
        return [pid for pid in family(process.pid) if pid != process.pid and _comm(pid).startswith(program)]

    try:
        wait_for("children", lambda: children() or process.poll() is not None)
        seen = family(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code, err
    assert len(seen) > 1
    wait_for("their end", lambda: not alive(seen), 10)
    assert err.splitlines()[-1].startswith(
        "rmaplab: interrupted" if number == signal.SIGINT else f"rmaplab: ended by {number.name}"
    )
    assert "Traceback" not in out + err


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_what_was_finished_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupted in its third run: two rows, then the exit code of an interrupt."""
    from rmaplab.cli.work import compare
    from rmaplab.lab.announcement import experiment

    real = experiment.compare_forkbench

    def interrupted(*arguments: object, **options: object) -> object:
        for nr, result in enumerate(real(*arguments, **options)):  # type: ignore[arg-type]
            if nr == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(compare, "compare_forkbench", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["compare", "forkbench", "--levels", "1,2", "--kernels", "2.6.2,2.6.5-rc1-aa1", "--format", "csv"])
    out, err = capsys.readouterr()
    assert stop.value.code == 130
    assert [line.split(",")[1] for line in out.splitlines()] == ["level", "1", "1"]
    assert err == "rmaplab: interrupted: 2 of 4 are done\nrmaplab: interrupted\n"
