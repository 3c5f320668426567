"""Segments of System V shared memory outlive processes: the agent's never outlive a script, whoever asks and whatever is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from rmaplab.host.agent import Agent
from rmaplab.workloads.script import parse

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
pytestmark = [
    pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64"),
    pytest.mark.skipif(not REQUIRE_ALL and os.geteuid() != 0, reason="root alone can be an ordinary user, too"),
]
NOBODY = 65534
SIZES = {"4173", "4174", "4175"}  # which nobody else would ask for
MAKE = "A: shmget s0 5 1+77b\nA: shmget s1 PRIVATE 1+78b\nA: shmat s0 w+0\nA: fork B\nB: shmget s2 6 1+79b\n"
FOUND = MAKE + "B: shmget s3 5 1 0\nA: shmstat s0"


@pytest.fixture(params=["root", "nobody"])
def begin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Agent]]:
    """Agents of root, who has an IPC namespace of his own, and of an ordinary user, who has not."""
    with tempfile.TemporaryDirectory() as directory:
        for path in (Path(directory), Path(directory) / "rmaplab"):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", directory)
        Agent().close()  # compiled by root
        if request.param == "nobody":
            user = partial(subprocess.Popen, user=NOBODY, group=NOBODY, extra_groups=[])
            monkeypatch.setattr(subprocess, "Popen", user)
        yield Agent


def segments() -> set[str]:
    """Ids of those that are ours, in the IPC namespace of this test."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] in SIZES}


def gone() -> bool:
    """Whether none is there; after some time at most."""
    deadline = time.monotonic() + 10
    while segments() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not segments()


def test_a_script_finds_its_own_and_leaves_none(begin: Callable[[], Agent]) -> None:
    """By key, in any process; the next script finds nothing, whatever keys others have here."""
    with begin() as agent:
        results = agent.run(parse(FOUND)).results
        assert results[5:] == ["s0", "1+77b x2 mode 600 key 5"]
        assert gone()  # results come before all is cleared up
        assert agent.run(parse("A: shmget s0 5 1 0\nA: shmget s1 6 1 0\nA: shmstat s0")).results == [
            "ENOENT",
            "ENOENT",
            "EINVAL",
        ]


def test_none_is_left_when_the_agent_is_closed_in_the_middle(begin: Callable[[], Agent]) -> None:
    """As by Ctrl-C."""
    with begin() as agent:
        agent.submit(parse(MAKE + "A: write w+0\n" * 3000))
        agent._read(1)
    assert gone()


def test_none_is_left_when_the_agent_is_killed(begin: Callable[[], Agent]) -> None:
    """Its workers notice."""
    with begin() as agent:
        agent.submit(parse(MAKE + "A: write w+0\n" * 3000))
        agent._read(1)
        os.kill(agent.pid, signal.SIGKILL)
        assert gone()


def test_two_agents_do_not_share_keys(begin: Callable[[], Agent]) -> None:
    """At the same time."""
    with begin() as one, begin() as other:
        one.submit(parse(MAKE + "A: write w+0\n" * 3000))
        one._read(1)
        assert other.run(parse("A: shmget s0 5 1 0\nA: shmget s1 6 1 0")).results == ["ENOENT", "ENOENT"]
