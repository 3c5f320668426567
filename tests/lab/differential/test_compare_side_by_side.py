"""However many compare at once, what comes of a seed is the same; and they end when they are told to, or one of them has died."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rmaplab.errors import KernelBug
from rmaplab.host.agent import Agent
from rmaplab.host.asked import HostTrouble
from rmaplab.lab.differential import one_by_one
from rmaplab.lab.differential.campaign import Campaign, calls_of, campaign
from rmaplab.lab.differential.compare import Coverage, compare
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.one_by_one import OpenGate, Scripts, compared, must_be_alone
from rmaplab.lab.differential.side_by_side import SharedGate
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap
from rmaplab.workloads.script import Script, parse
from rmaplab.workloads.world import Circumstances

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))
here = (
    os.uname().machine == "x86_64" and os.uname().sysname == "Linux" and bool(shutil.which("cc") or shutil.which("gcc"))
)
needs_agent = pytest.mark.skipif(not REQUIRE_ALL and not here, reason="no C compiler, or not Linux on x86-64")
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        if agent.version != (6, 18) and not REQUIRE_ALL:
            pytest.skip(f"this is Linux {agent.release}, not 6.18")
        yield agent


def told(found: Campaign) -> tuple[object, ...]:
    """All that is told of it, in the order in which it is told."""
    covered, difference = found.coverage, found.difference
    counts = list(covered.calls.items()), list(covered.families.items()), covered.scripts, covered.operations
    small = None if difference is None else (str(difference.script), difference.sign, difference.index)
    return counts, found.unsteady, found.found_in, small


def obeying(monkeypatch: pytest.MonkeyPatch, change: Callable[[Script], None]) -> None:
    """From now on `change` is called before the model obeys a script."""

    def changed(script: Script, *arguments: Any, **options: Any) -> Any:
        change(script)
        return obey(script, *arguments, **options)

    monkeypatch.setattr(one_by_one, "obey", changed)


@needs_agent
@pytest.mark.parametrize(("nr", "seed", "habit", "jobs"), [(30, 5, "steps", 2), (9, 8, "all", 3), (2, 1, "steps", 5)])
def test_the_same_comes_of_a_seed(agent: Agent, nr: int, seed: int, habit: str, jobs: int) -> None:
    """To the order of what is counted."""
    alone, together = (campaign(agent, "6.18", nr, seed, habit=habit, jobs=many) for many in (1, jobs))
    assert told(together) == told(alone)
    assert together.coverage.scripts == nr


@needs_agent
def test_the_same_difference_is_found_and_made_small(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many scripts that differ it is the first, whoever is done first; what was covered ends with it."""
    monkeypatch.setattr(AnonVmaChainMap, "vma_can_grow", lambda *_: True)
    alone, together = (campaign(agent, "6.18", 300, 3, jobs=many) for many in (1, 2))
    assert alone.difference is not None
    assert told(together) == told(alone)
    assert together.found_in == alone.coverage.scripts - 1


@needs_agent
def test_what_differs_once_is_counted_by_all_alike(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts that were given to an agent already are run again: each counts once."""

    def moved(host: Any, model: Any) -> Any:
        return host if host.script.name.split()[1] in ("3", "4", "11") else compare(host, model)

    monkeypatch.setattr(one_by_one, "compare", moved)
    found = [campaign(agent, "6.18", 14, 5, jobs=many) for many in (1, 2)]
    assert [one.unsteady for one in found] == [3, 3]
    assert told(found[0]) == told(found[1])


@needs_agent
def test_one_that_dies_is_one_line(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is left."""
    ours = os.getpid()

    def die(_: Script) -> None:
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)

    obeying(monkeypatch, die)
    with pytest.raises(
        HostTrouble, match=r"^one of the 2 processes that compare scripts was killed by SIGKILL: run it"
    ):
        campaign(agent, "6.18", 30, 5, jobs=2)
    assert multiprocessing.active_children() == []


class Odd(Exception):
    """Cannot be told to another process."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


@needs_agent
@pytest.mark.parametrize(
    ("error", "known_as"), [(KernelBug("x", "it is broken"), KernelBug), (Odd(1, 2), RuntimeError)]
)
def test_what_goes_wrong_is_raised_here(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, error: Exception, known_as: type[Exception]
) -> None:
    """After all that came before it; with where it was."""

    def fail(script: Script) -> None:
        if script.name.split()[1] == "7":
            raise error

    obeying(monkeypatch, fail)
    result = Campaign()
    with pytest.raises(known_as, match=r"it is broken|1 and 2") as raised:
        campaign(agent, "6.18", 30, 5, result=result, jobs=2)
    assert result.coverage.scripts == 7
    assert known_as is RuntimeError or "in fail" in raised.value.__notes__[0]
    assert multiprocessing.active_children() == []


@needs_agent
def test_who_is_interrupted_leaves_nobody(agent: Agent) -> None:
    """What was compared by then is kept."""
    result, agents = Campaign(), set[int]()

    def stop() -> None:
        for job in multiprocessing.active_children():
            agents.update(map(int, Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()))
        if result.coverage.scripts == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        campaign(agent, "6.18", 3000, 5, stop, result, jobs=2)
    assert result.coverage.scripts == 3
    assert multiprocessing.active_children() == []
    assert agents
    assert not any(Path(f"/proc/{pid}").exists() for pid in agents)


@needs_agent
def test_agents_that_see_other_things_are_not_taken_for_one(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is compared would hang on who does it."""
    monkeypatch.setattr(agent, "sees", agent.sees - {"tables"})
    with pytest.raises(HostTrouble, match="a second agent on this host sees other things than the first"):
        campaign(agent, "6.18", 30, 5, jobs=2)


# -- who must be alone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "root", "user"),
    [
        ("A: mmap w+0 1 rw", False, False),
        ("A: limit NPROC 2\nA: fork B", False, True),  # root has no bound
        ("A: limit NPROC 2\nA: setuid 1000\nA: fork B", True, True),
        ("A: limit AS 2\nA: setuid 1000\nA: fork B", False, False),
        ("A: shmget s0 7 1 CREAT\nA: shmctl s0 LOCK", False, True),
        ("A: shmget s0 7 1 CREAT\nA: drop IPC_LOCK\nA: shmctl s0 LOCK", True, True),
        ("A: shmget s0 7 1 CREAT\nA: drop IPC_LOCK\nA: shmctl s0 RMID", False, False),
    ],
)
def test_who_meets_a_bound_of_his_user_is_alone(script: str, root: bool, user: bool) -> None:
    """Tasks and locked segments are counted by user, whichever script has them."""
    made = parse(script)
    assert must_be_alone(made, Circumstances(privileged=True)) is root
    assert must_be_alone(made, Circumstances(privileged=False)) is user


def come_and_go(gate: SharedGate, seed: int, inside: Any, wrong: Any) -> None:
    random = Random(seed)
    for _ in range(60):
        alone = not random.randrange(4)
        gate.enter(alone=alone)
        with inside.get_lock():
            inside[0] += 1
            inside[1] += alone
            wrong.value |= inside[1] > 0 and inside[0] > 1
        for _ in range(random.randrange(3)):
            os.sched_yield()
        with inside.get_lock():
            inside[0] -= 1
            inside[1] -= alone
        gate.leave()


def test_nobody_is_beside_who_is_alone() -> None:
    """Four processes come and go, and so do we; each gets in as often as it wants to."""
    gate, inside, wrong = SharedGate(FORK, 4), FORK.Array("i", 2), FORK.Value("i", 0)
    others = [FORK.Process(target=come_and_go, args=(gate, seed, inside, wrong)) for seed in range(4)]
    for one in others:
        one.start()
    for _ in gate.entering(alone=True):
        pass
    wrong.value |= inside[0] > 0
    gate.leave()
    for one in others:
        one.join(20)
    assert [one.exitcode for one in others] == [0] * 4
    assert (wrong.value, inside[0], inside[1]) == (0, 0, 0)


def test_who_is_to_end_waits_for_nobody() -> None:
    """Not for a place that the dead have kept."""
    gate = SharedGate(FORK, 2)
    dead = copy(gate)
    dead.enter(alone=True)
    gate.ending = [signal.SIGTERM]
    with pytest.raises(SystemExit):
        gate.enter(alone=False)


class Heard(OpenGate):
    """Who came in and how, and what he has given to his agent there."""

    def __init__(self) -> None:
        self.visits: list[tuple[bool, list[Script]]] = []
        self.inside = False

    def enter(self, *, alone: bool) -> None:
        assert not self.inside
        self.inside = True
        self.visits.append((alone, []))

    def leave(self) -> None:
        self.inside = False


@needs_agent
@pytest.mark.parametrize("habit", ["steps", "all"])
def test_who_was_alone_lets_the_others_in_after_that_script(
    agent: Agent, habit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts 3, 4 and 8 of twelve need it: no other is given to the agent meanwhile, and those between them go in together."""
    scripts, gate = Scripts("6.18", 12, 5, habit, calls_of(agent)), Heard()
    made = [scripts.make(number) for number in range(12)]
    want = {str(made[number]) for number in (3, 4, 8)}
    monkeypatch.setattr(one_by_one, "must_be_alone", lambda script, _: str(script) in want)
    submit = agent.submit

    def submitting(script: Script) -> None:
        assert gate.inside
        gate.visits[-1][1].append(script)
        submit(script)

    monkeypatch.setattr(agent, "submit", submitting)
    assert [one.number for one in compared(agent, scripts, range(12), gate) if not one.differs] == list(range(12))
    assert not gate.inside
    together = [(alone, [str(script) for script in given]) for alone, given in gate.visits]
    spans = ((False, 0, 3), (True, 3, 4), (True, 4, 5), (False, 5, 8), (True, 8, 9), (False, 9, 12))
    assert together == [(alone, [str(one) for one in made[first:end]]) for alone, first, end in spans]


def test_coverage_adds_up() -> None:
    """In parts or at once."""
    parts = [Coverage(), Coverage()]
    parts[0].scripts, parts[1].scripts, parts[0].operations = 1, 2, 5
    parts[0].calls["mmap", "ok"] = parts[1].calls["mmap", "ok"] = 2
    parts[1].families[1, 1] = 4
    whole = Coverage()
    for part in parts:
        whole.update(part)
    assert whole == Coverage(3, 5, parts[0].calls + parts[1].calls, parts[1].families)
