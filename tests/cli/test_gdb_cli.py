"""`--gdb` of run and exec: it says where it listens, gdb comes, and the exit status is what it should be."""

from __future__ import annotations

import re
import subprocess

import pytest
from tests.cli.terminal import COMMAND, environment
from tests.cpu.programs import compiled, root
from tests.gdb.world import Gdb

PATIENCE_S = 60


def run(*words: str, commands: tuple[str, ...], program: str = "") -> tuple[int, str, str, str]:
    """(Exit status, stdout, stderr, what gdb has said.)"""
    gdb = Gdb(*commands, program=program)
    with subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd="/"
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        gdb.tell(line.strip())
        out, error = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, line + error, gdb.said()


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    """Without gdb."""
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=environment(), check=False, cwd="/")


@pytest.mark.parametrize(
    ("commands", "status", "said"),
    [
        (("continue",), 7, "exited with code 07"),
        (("detach",), 7, "detached"),
        (("kill",), 125, "killed"),
    ],
)
def test_exec(commands: tuple[str, ...], status: int, said: str) -> None:
    program = compiled("int main(void) { return 7; }", name="seven")
    found = run(
        "exec", "--gdb", "0", "--root", str(root()), "--kernel", "2.6.7", "--", program, commands=commands, program=str(root() / program[1:])
    )  # fmt: skip
    assert re.match(r"rmaplab: waits for gdb: target remote 127\.0\.0\.1:\d+\n", found[2])
    assert found[0] == status
    assert said in found[3]
    assert ("gdb has killed it" in found[2]) == (status == 125)
    assert "Traceback" not in found[2]


def test_a_program_that_is_ended() -> None:
    """Gdb is told what the shell is told."""
    program = compiled("int main(void) { for (;;); }", name="forever")
    words = "exec", "--gdb", "0", "--root", str(root()), "--blocks", "1000", "--kernel", "2.6.7", "--", program
    found = run(*words, commands=("continue",), program=str(root() / program[1:]))
    assert found[0] == 0o175
    assert "exited with code 0175" in found[3]


def test_run() -> None:
    """The figures are those of a run that nobody has looked at."""
    words = "run", "forkbench", "--kernel", "2.6.5-rc1-aa1", "--level", "2", "--format", "csv"
    status, out, error, said = run(*words, "--gdb", "0", commands=("info threads", "monitor kernel", "continue"))
    assert (status, "exited normally" in said, '"forkbench"' in said) == (0, True, True)
    assert "Linux 2.6.5-rc1-aa1, anon_vma" in said
    alone = typed(*words)
    kept = [[each.split(",") for each in text.splitlines()] for text in (out, alone.stdout)]
    wall = kept[0][0].index("wall_s")
    assert [row[:wall] for row in kept[0]] == [row[:wall] for row in kept[1]]
    assert error.count("\n") == 1


def test_a_run_that_is_killed() -> None:
    status, out, error, _ = run(
        "run", "qsbench", "--kernel", "2.6.7", "--gdb", "0", commands=("monitor break fork", "continue", "kill")
    )
    assert (status, out) == (125, "")
    assert error.endswith("rmaplab: gdb has killed it\n")


@pytest.mark.parametrize("port", ["x", "65536", "1:2:x", "ls", "٣", ""])
def test_no_port(port: str) -> None:
    """Refused before anything runs, with what to give."""
    found = typed("run", "forkbench", "--kernel", "2.6.7", f"--gdb={port}")
    assert found.returncode == 2
    assert re.fullmatch(
        r"rmaplab: --gdb .*: give a port, such as 1234, HOST:PORT, or nothing \(and -- before a program\)\n",
        found.stderr,
    )


def test_one_kernel_alone() -> None:
    found = typed("exec", "--gdb", "--compare", "2.6.2,2.6.7", "--", "ls")
    assert (found.returncode, found.stderr) == (
        2,
        "rmaplab: --gdb is of one kernel: give --kernel in place of --compare\n",
    )
