"""`make bench-check`: random scripts on both sides beside the host's side alone, in turns, with strangers asleep beside them.

    turn 1   host alone   both        turn 2   both   host alone        ...      scripts per second: medians; both / alone of each turn

The host's side is the agent's work and what makes a record of it, up to the graph of anon_vmas; both sides are what `check --fuzz` does.
Needs root and Linux 6.18 for all there is to compare.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import signal
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rmaplab.calls.table import CALLS
from rmaplab.errors import RmaplabError, UsageError
from rmaplab.host.agent import Agent
from rmaplab.lab.differential.campaign import campaign
from rmaplab.lab.differential.fuzz import make_script
from rmaplab.lab.differential.one_by_one import AHEAD
from rmaplab.report.tables import console, new_table

KERNEL, SEED, BAR = "6.18", 33, 0.4
PR_SET_PDEATHSIG = 1


@contextmanager
def strangers(nr: int) -> Iterator[None]:
    """`nr` processes asleep, copies of this one: each with hundreds of VMAs."""
    pids = []
    try:
        for _ in range(nr):
            pids.append(os.fork())
            if not pids[-1]:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                signal.pause()
                os._exit(0)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def host_alone(agent: Agent, nr: int) -> float:
    """The host's side of `nr` scripts, as far ahead as the campaign goes; scripts a second."""
    scripts = [make_script(SEED, number, frozenset(CALLS) - agent.missing.keys()) for number in range(nr)]
    began, waiting = time.perf_counter(), deque[None]()
    for script in scripts:
        if len(waiting) == AHEAD:
            waiting.popleft()
            agent.result()
        agent.submit(script)
        waiting.append(None)
    for _ in waiting:
        agent.result()
    return nr / (time.perf_counter() - began)


def both_sides(agent: Agent, nr: int) -> float:
    """The same scripts on both sides; scripts a second. Raises RmaplabError where they differ."""
    began = time.perf_counter()
    found = campaign(agent, KERNEL, nr, SEED)
    if found.difference is not None:
        raise RmaplabError(f"script {found.found_in} of seed {SEED} differs: there is no pace to speak of")
    return nr / (time.perf_counter() - began)


def measure(nr: int, turns: int, beside: int) -> list[tuple[float, float]]:
    """(alone, both) of each turn; what is compiled is compiled before."""
    found = []
    with Agent(graph=True) as agent, strangers(beside):
        if agent.no_graph:
            print(f"without the anon_vma graph: {agent.no_graph}", file=sys.stderr)
        both_sides(agent, min(nr, 20))
        for turn in range(turns):
            sides = (host_alone, both_sides) if turn % 2 == 0 else (both_sides, host_alone)
            rates = {side: side(agent, nr) for side in sides}
            found.append((rates[host_alone], rates[both_sides]))
    return found


def main() -> None:
    """Measure, print; a bar that is not met is said and fails nothing: the machine may be busy."""
    parser = argparse.ArgumentParser(prog="bench-check", description="both sides of check beside the host's side alone")
    parser.add_argument("--scripts", type=int, default=300, help="scripts a turn, 300 if not given")
    parser.add_argument("--turns", type=int, default=5, help="5 if not given")
    parser.add_argument("--strangers", type=int, default=300, help="processes asleep beside, 300 if not given")
    options = parser.parse_args()
    try:
        found = measure(max(options.scripts, 1), max(options.turns, 1), max(options.strangers, 0))
    except UsageError as error:
        print(f"bench-check: {error}", file=sys.stderr)
        sys.exit(2)
    table = new_table(
        f"Linux {platform.release()}, Python {platform.python_version()}; {options.scripts} scripts, {options.turns} turns, "
        f"{options.strangers} strangers",
        ">host alone|>both sides|>both / alone|>least|>most|>bar|",
    )
    ratios = [both / alone for alone, both in found]
    middle = statistics.median(ratios)
    table.add_row(
        f"{statistics.median(alone for alone, _ in found):.0f} scripts/s",
        f"{statistics.median(both for _, both in found):.0f} scripts/s",
        f"{middle:.2f}",
        f"{min(ratios):.2f}",
        f"{max(ratios):.2f}",
        f"{BAR:.2f}",
        "met" if middle >= BAR else "not met",
    )
    console().print(table)


if __name__ == "__main__":
    main()
