r"""Scripts on both sides, one after the other.

    script n ---> agent, in processes of its own ----------> record --+
            \                                                         +--> compare: they are equal, or they differ
             ---> model, here ------------------------------> record --+

The agent works ahead, while the model is at an earlier script. Where others do the same beside us (side_by_side.py), a gate is between us.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from rmaplab.host.agent import Agent
from rmaplab.lab.differential.compare import Coverage, compare
from rmaplab.lab.differential.habits import find_maker
from rmaplab.lab.differential.obey import obey
from rmaplab.objects.flags import RLIMIT_NPROC, SHM_LOCK
from rmaplab.workloads.script import Script
from rmaplab.workloads.world import Circumstances

AHEAD = 8  # scripts that the agent has been given before their results are asked for
AHEAD_OPS = 900  # ... of so many operations together: they fit into the pipe


class Scripts(NamedTuple):
    """Which scripts a campaign runs: `nr` of a seed and a habit, of these calls; and on which of our kernels."""

    kernel: str
    nr: int
    seed: int
    habit: str
    calls: frozenset[str]

    def make(self, number: int) -> Script:
        """One of them, without the others."""
        return find_maker(self.habit)(self.seed, number, self.calls)


class ScriptOutcome(NamedTuple):
    """What one script came to: what it has covered, and whether the sides differed."""

    number: int
    coverage: Coverage
    differs: bool


class Gate(Protocol):
    """Who may use the host now."""

    @property
    def holds_back(self) -> bool:
        """Whether somebody waits to be alone: who is in should leave."""

    def enter(self, *, alone: bool) -> None:
        """Come in, beside others or alone: sleeps until that can be."""

    def leave(self) -> None:
        """Out again; who is not in stays out."""


class OpenGate:
    """There is nobody else."""

    holds_back = False

    def enter(self, *, alone: bool) -> None:
        """At once."""

    def leave(self) -> None:
        """Likewise."""


def compared(agent: Agent, scripts: Scripts, numbers: range, gate: Gate) -> Iterator[ScriptOutcome]:
    """These scripts on both sides, in order. Between a difference and what is asked for next the agent has nothing to do.

    Raises UsageError: no such kernel; NotModelled, HostTrouble.
    """
    around, graph = agent.circumstances, not agent.no_graph
    waiting: deque[tuple[int, Script]] = deque()
    at, upcoming, alone = 0, None, False
    while at < len(numbers) or waiting:
        while at < len(numbers) and len(waiting) < AHEAD:
            if waiting and alone:  # who stays alone for longer than that script holds all others up
                break
            upcoming = upcoming or scripts.make(numbers[at])
            alone = must_be_alone(upcoming, around)
            if waiting and (
                alone or gate.holds_back or len(upcoming.ops) + sum(len(one.ops) for _, one in waiting) > AHEAD_OPS
            ):
                break
            if not waiting:
                gate.enter(alone=alone)
            agent.submit(upcoming)
            waiting.append((at, upcoming))
            at, upcoming = at + 1, None
        tried, script = waiting.popleft()
        model = obey(script, scripts.kernel, around, graph=graph)
        host = agent.result()
        differs, coverage = compare(host, model) is not None, Coverage()
        if differs:
            for _ in waiting:  # what the agent is still doing
                agent.result()
            waiting.clear()
            at, upcoming = tried + 1, None
        if not waiting:
            gate.leave()
        coverage.add(host)
        yield ScriptOutcome(numbers[tried], coverage, differs)


def must_be_alone(script: Script, around: Circumstances) -> bool:
    """Whether it may meet a bound on what its user has, here and in other scripts: of tasks, or of locked segments."""
    calls = {op.call for op in script.ops}
    if around.privileged and not calls & {"setuid", "drop"}:
        return False
    return any(
        (op.call == "limit" and op["resource"] == RLIMIT_NPROC) or (op.call == "shmctl" and op["command"] == SHM_LOCK)
        for op in script.ops
    )
