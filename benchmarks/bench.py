"""`make bench`: the speed and memory figures of the README, measured here and now beside the real kernel.

Each run is a process of its own with its loops compiled before the clock starts; ours and the real kernel's take turns, so
that the ratio holds on a noisy machine. Wall times are medians. Memory is the growth of the peak resident set.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rmaplab.host.forkbench import HostForkbench
from rmaplab.lab.experiment import Box, run_forkbench, warm_up
from rmaplab.report.tables import console, new_table
from rmaplab.units import format_size
from rmaplab.workloads.forkbench import NR_PAGES

BOX = Box(ram="2G", swap="0")
TURNS = 3
ALLOWANCE = 300_000_000


class Case(NamedTuple):
    """A run, what it may take, and what it may hold per page-table entry alive at its peak."""

    kernel: str
    level: int
    wall_s: float
    host_ratio: float | None
    bytes_per_pte: int


CASES = (Case("2.6.5-rc1-aa1", 9, 1.5, 6.0, 12), Case("2.6.2", 7, 4.0, None, 20))


def measure(kernel: str, level: int) -> dict[str, Any]:
    """One run in this process: wall time, outcome, memory growth in bytes, entries alive at peak."""
    warm_up(kernel, BOX)
    before = _resident()
    result = run_forkbench(kernel, level, BOX)
    return {
        "wall_s": result.wall_s,
        "outcome": result.outcome,
        "grown_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before,
        "ptes": (result.processes_peak or 0) * NR_PAGES,
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _in_a_process(case: Case) -> dict[str, Any]:
    command = [sys.executable, __file__, case.kernel, str(case.level)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def main() -> None:
    """Measure all cases, print the table; exit with 1 if a bound is broken."""
    table = new_table(
        f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; RAM of the box {BOX.ram}; "
        f"medians of {TURNS} turns",
        "forkbench|outcome|>wall|>may take|>the real kernel|>times faster|>host memory|>may grow|",
    )
    broken = False
    with HostForkbench() as host:
        for case in CASES:
            turns = [(_in_a_process(case), host.run(case.level).wall_s) for _ in range(TURNS)]
            wall_s = statistics.median(ours["wall_s"] for ours, _ in turns)
            ratio = statistics.median(theirs / ours["wall_s"] for ours, theirs in turns)
            grown = max(ours["grown_bytes"] for ours, _ in turns)
            allowed = case.bytes_per_pte * turns[0][0]["ptes"] + ALLOWANCE
            good = wall_s <= case.wall_s and (case.host_ratio is None or ratio >= case.host_ratio) and grown <= allowed
            broken = broken or not good
            table.add_row(
                f"level {case.level}, {case.kernel}",
                turns[0][0]["outcome"],
                f"{wall_s:.2f} s",
                f"{case.wall_s:.1f} s",
                f"{statistics.median(theirs for _, theirs in turns):.2f} s",
                f"{ratio:.1f}",
                format_size(grown),
                format_size(allowed),
                "ok" if good else "BROKEN",
            )
    console().print(table)
    sys.exit(broken)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
