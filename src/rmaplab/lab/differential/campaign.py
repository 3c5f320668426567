r"""Many random scripts on both sides, until they differ.

    script n ---> agent (works ahead, on the other CPU) ---> record --+
            \                                                         +--> compare: equal, count it; else shrink it
             ---> model ------------------------------------> record --+

A difference must show again when the script is run again: memory that the host's kernel has moved meanwhile is not one.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rmaplab.calls.table import CALLS
from rmaplab.host.agent import Agent
from rmaplab.lab.differential.compare import Coverage, Difference, compare
from rmaplab.lab.differential.habits import STEPS, find_maker
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.shrink import shrink
from rmaplab.workloads.script import Script

AHEAD = 8  # scripts that the agent has been given before their results are asked for
AHEAD_OPS = 900  # ... of so many operations together: they fit into the pipe


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
) -> Campaign:
    """`nr` scripts of a seed and a habit (habits.py); `done` is called after each. Ends at the first difference that shows twice.

    What came of it so far is in `result`, if one is given: for a caller that is interrupted.

    Raises UsageError: no such kernel, or no such habit; HostTrouble.
    """
    result = Campaign() if result is None else result
    make = find_maker(habit)
    calls = frozenset(CALLS) - agent.missing.keys()
    waiting: deque[tuple[int, Script]] = deque()
    number = 0
    while number < nr or waiting:
        while number < nr and len(waiting) < AHEAD:
            made = make(seed, number, calls)
            if waiting and len(made.ops) + sum(len(script.ops) for _, script in waiting) > AHEAD_OPS:
                break
            waiting.append((number, made))
            agent.submit(made)
            number += 1
        found_in, script = waiting.popleft()
        model = obey(script, kernel, agent.circumstances, graph=not agent.no_graph)
        host = agent.result()
        result.coverage.add(host)
        done()
        if compare(host, model) is None:
            continue
        while waiting:  # what the agent is still doing
            agent.result()
            waiting.popleft()
        result.difference = smallest(agent, kernel, script)
        if result.difference is not None:
            result.found_in = found_in
            return result
        result.unsteady += 1
        number = found_in + 1
    return result


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
