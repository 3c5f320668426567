r"""Many random scripts on both sides, until they differ.

    script n ---> agent, in processes of its own ----------> record --+
            \                                                         +--> compare: equal, count it; else shrink it
             ---> model, in a process of its own -----------> record --+

Both work ahead, so that a second CPU has something to do.

A difference must show again when the script is run again: memory that the host's kernel has moved meanwhile is not one.
"""

import ctypes
import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from rmaplab.calls.table import CALLS
from rmaplab.host.agent import Agent
from rmaplab.lab.differential.compare import Coverage, Difference, compare
from rmaplab.lab.differential.habits import STEPS, find_maker
from rmaplab.lab.differential.obey import obey
from rmaplab.lab.differential.shrink import shrink
from rmaplab.workloads.script import Script
from rmaplab.workloads.world import Circumstances, Record

AHEAD = 8  # scripts that the agent has been given before their results are asked for
AHEAD_OPS = 900  # ... of so many operations together: they fit into the pipe
PR_SET_PDEATHSIG = 1


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
    make, calls = find_maker(habit), frozenset(CALLS) - agent.missing.keys() | ({"disk"} if agent.has_disk else set())
    around, graph = agent.circumstances, not agent.no_graph
    waiting: deque[tuple[int, Script, Future[Record | None]]] = deque()
    number = 0
    with _model_side() as model_side:
        while number < nr or waiting:
            while number < nr and len(waiting) < AHEAD:
                made = make(seed, number, calls)
                if waiting and len(made.ops) + sum(len(script.ops) for _, script, _ in waiting) > AHEAD_OPS:
                    break
                waiting.append((number, made, model_side.submit(_obey, made, kernel, around, graph)))
                agent.submit(made)
                number += 1
            found_in, script, working = waiting.popleft()
            host = agent.result()
            model = working.result() or obey(
                script, kernel, around, graph=graph
            )  # None: it raises something, here then
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


@contextmanager
def _model_side() -> Iterator[ProcessPoolExecutor]:
    """A process for the model: a fork, so that it is this very one, with what has been changed in it. It ends with us, whatever we die of."""
    fork = multiprocessing.get_context("fork")
    executor = ProcessPoolExecutor(1, mp_context=fork, initializer=_begin)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _begin() -> None:
    gc.freeze()  # what was there at the fork stays: no collection looks at it, or copies its pages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has begun the campaign
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _obey(script: Script, kernel: str, around: Circumstances, graph: bool) -> Record | None:
    """None: it raises something that may not get through a pipe."""
    try:
        return obey(script, kernel, around, graph=graph)
    except Exception:  # noqa: BLE001  (whatever it is, it comes again where it can be seen)
        return None


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
