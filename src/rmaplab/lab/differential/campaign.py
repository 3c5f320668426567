"""Many random scripts on both sides, until they differ: then one of them is made small.

    one_by_one.py      here, with the agent that is given
    side_by_side.py    in as many processes as there are `jobs`, each with an agent of its own: what they find comes in the order of the scripts,
                       so that it is the same however many there are

A difference must show again when the script is run again: memory that the host's kernel has moved meanwhile is not one.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from rmaplab.calls.table import CALLS
from rmaplab.host.agent import Agent
from rmaplab.lab.differential.compare import Coverage, Difference, compare
from rmaplab.lab.differential.habits import STEPS
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.one_by_one import OpenGate, Scripts, compared
from rmaplab.lab.differential.shrink import shrink
from rmaplab.lab.differential.side_by_side import Crew
from rmaplab.workloads.script import Script


@dataclass
class Campaign:
    """What came of it. `difference` is the smallest script found that differs, `found_in` the script's number."""

    coverage: Coverage = field(default_factory=Coverage)
    unsteady: int = 0
    difference: Difference | None = None
    found_in: int | None = None


def campaign(
    agent: Agent,
    kernel: str,
    nr: int,
    seed: int,
    done: Callable[[], None] = lambda: None,
    result: Campaign | None = None,
    habit: str = STEPS,
    jobs: int = 1,
) -> Campaign:
    """`nr` scripts of a seed and a habit (habits.py), `jobs` at a time; `done` is called after each. Ends at the first difference that shows twice.

    What came of it so far is in `result`, if one is given: for a caller that is interrupted.

    Raises UsageError: no such kernel, or no such habit; HostTrouble.
    """
    result = Campaign() if result is None else result
    calls = calls_of(agent) | ({"disk"} if agent.has_disk else set())
    scripts = Scripts(kernel, nr, seed, habit, calls)
    scripts.make(0)  # is there such a habit?
    with Crew(agent, scripts, min(jobs, nr)) if jobs > 1 else nullcontext() as crew:
        for outcome in compared(agent, scripts, range(nr), OpenGate()) if crew is None else crew.outcomes():
            result.coverage.update(outcome.coverage)
            done()
            if not outcome.differs:
                continue
            with nullcontext() if crew is None else crew.quiet():
                result.difference = smallest(agent, kernel, scripts.make(outcome.number))
            if result.difference is not None:
                result.found_in = outcome.number
                return result
            result.unsteady += 1
    return result


def calls_of(agent: Agent) -> frozenset[str]:
    """What random scripts may call on this host: what it has; and of an ordinary user no mlockall, for which the agent's own pages count (obey.py)."""
    own = set() if agent.circumstances.privileged else {"mlockall"}
    return frozenset(CALLS) - agent.missing.keys() - own


def smallest(agent: Agent, kernel: str, script: Script) -> Difference | None:
    """The difference that a script shows, in the smallest script that shows one like it; None if it shows none any more."""

    def differs(tried: Script) -> Difference | None:
        return compare(agent.run(tried), obey(tried, kernel, agent.circumstances, graph=not agent.no_graph))

    first = differs(script)
    if first is None:
        return None

    def fails(tried: Script) -> bool:
        found = differs(tried)
        return found is not None and found.sign == first.sign

    return differs(shrink(script, fails)) or first
