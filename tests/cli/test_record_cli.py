"""`rmaplab record`: a real program's calls in a log that replay understands; its streams and exit status are its own."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rmaplab
from rmaplab.lab.replay.run import read_plan

RMAPLAB = [sys.executable, "-m", "rmaplab", "record"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(rmaplab.__file__).parents[1])}


def run(*arguments: str, cwd: Path, **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*RMAPLAB, *arguments],
        cwd=cwd,
        env=ENVIRONMENT | more,
        input="from stdin\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_streams_and_status_are_the_programs(strace: str, tmp_path: Path) -> None:
    code, out, err = run("-o", "a.log", "--", "/bin/sh", "-c", "cat; echo oops >&2; exit 7", cwd=tmp_path)
    assert (code, out) == (7, "from stdin\n")
    assert err == "oops\nrmaplab: recorded in a.log; next: rmaplab replay a.log\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
    assert b"from stdin" not in (tmp_path / "a.log").read_bytes()
    assert "".join(f"\\x{byte:02x}" for byte in b"from stdin") not in (tmp_path / "a.log").read_text()


def test_what_was_recorded_is_understood(strace: str, tmp_path: Path) -> None:
    """Processes, threads, vfork, execve and a signal; compressed."""
    program = """
import os, subprocess, threading
threading.Thread(target=lambda: bytearray(1 << 20)).start()
subprocess.run(["/bin/true"])
if not os.fork():
    os.kill(os.getpid(), 9)
os.wait()
"""
    code, _, _ = run("-o", "a.log.gz", "--", sys.executable, "-I", "-S", "-c", program, cwd=tmp_path)
    assert code == 0
    assert gzip.decompress((tmp_path / "a.log.gz").read_bytes()).count(b"# rmaplab image") >= 2
    plan = read_plan(tmp_path / "a.log.gz")
    assert not plan.misunderstood
    births = {step.call for step in plan.steps} & {"fork", "vfork", "clone_vm", "thread"}
    assert "fork" in births
    assert "thread" in births
    assert plan.threads.count(True) >= 1


def test_a_signal_is_an_exit_status(strace: str, tmp_path: Path) -> None:
    code, _, _ = run("-o", "a.log", "--", "/bin/sh", "-c", "kill -9 $$", cwd=tmp_path)
    assert code == 128 + signal.SIGKILL


def test_ctrl_c_is_for_the_program_and_the_log_is_kept(strace: str, tmp_path: Path) -> None:
    with subprocess.Popen([*RMAPLAB, "-o", "a.log", "--", "/bin/sh", "-c", "echo here; sleep 20"], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as recorder:  # fmt: skip
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "here\n"
        time.sleep(0.1)
        os.killpg(recorder.pid, signal.SIGINT)
        assert recorder.wait() == 130
    assert read_plan(tmp_path / "a.log").nr_calls > 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "a.log"), "record what?"),
        (("--", "true"), "Missing option '-o' / '--output'"),
        (("-o", ".", "--", "true"), "give -o a file in a directory that exists and is yours"),
        (("-o", "none/a.log", "--", "true"), "give -o a file in a directory that exists and is yours"),
        (("-o", "-", "--", "true"), "standard output is the command's"),
        (("-o", "a.log", "--", "no-such-program\x1b"), "no program no-such-program\\x1b: give one that is in $PATH"),
        (("-o", "a.log", "--", "/etc"), "no program /etc"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    strace: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = run(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_strace_it_says_what_to_install(tmp_path: Path) -> None:
    code, _, err = run("-o", "a.log", "--", "/bin/true", cwd=tmp_path, PATH=str(tmp_path))
    assert code == 2
    assert "no strace is installed: install it (on Debian: apt-get install strace)" in err
    assert list(tmp_path.iterdir()) == []
