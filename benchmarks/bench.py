"""`make bench`: the speed and memory figures of the README, measured here and now beside the real kernel.

Each run is a process of its own with its loops compiled before the clock starts; ours and the real kernel's take turns, so
that the ratio holds on a noisy machine. Wall times are medians. Memory is the growth of the peak resident set. What a change to
the code costs, `make bench-against` says (against.py).
"""

from __future__ import annotations

import json
import mmap
import platform
import resource
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rmaplab.errors import UsageError
from rmaplab.host.forkbench import HostForkbench
from rmaplab.kernels.box import announced
from rmaplab.kernels.system import boot
from rmaplab.lab.announcement.experiment import run_forkbench, warm_up
from rmaplab.objects.flags import PROT_READ, PROT_WRITE
from rmaplab.report.tables import DASH, Table, console, new_table
from rmaplab.units import PAGE_SIZE, format_size
from rmaplab.workloads.forkbench import NR_PAGES

BOX = announced(ram="2G", swap="0")
TURNS = 3
ALLOWANCE = 300_000_000


class Case(NamedTuple):
    """A run, what it may take, how many times faster than the real kernel it is to be, and what it may hold per page-table entry alive at its peak."""

    kernel: str
    level: int
    wall_s: float
    host_ratio: float | None
    bytes_per_pte: int


TIMES_SLOWER = {"a single fault": 3.5, "mmap + munmap": 6}  # than the real kernel from Python, at most
STRETCH, STRETCHES = 300, 60
CASES = (Case("2.6.5-rc1-aa1", 9, 1.5, 18.0, 12), Case("2.6.2", 7, 4.0, None, 20))


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


def single_calls() -> dict[str, list[float]]:
    """A single write fault, and mmap + munmap of four untouched pages: (ours, the real kernel's from Python), seconds each.

    The best of many short stretches: what the code takes when nobody disturbs it.
    """
    system = boot("2.6.5-rc1-aa1", ram="1G")
    task = system.spawn()
    address = task.mmap("512M", PROT_READ | PROT_WRITE)
    page = iter(range(address, address + (512 << 20), PAGE_SIZE))
    host = mmap.mmap(-1, 512 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    host.madvise(mmap.MADV_NOHUGEPAGE)
    host_page = iter(range(0, 512 << 20, PAGE_SIZE))

    def fault() -> None:
        task.touch(next(page), 1, write=True)

    def host_fault() -> None:
        host[next(host_page)] = 1

    def map_unmap() -> None:
        task.munmap(task.mmap(4 * PAGE_SIZE, PROT_READ), 4 * PAGE_SIZE)

    def host_map_unmap() -> None:
        mmap.mmap(-1, 4 * PAGE_SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()

    pairs = {"a single fault": (fault, host_fault), "mmap + munmap": (map_unmap, host_map_unmap)}
    return {name: [_best(call) for call in pair] for name, pair in pairs.items()}


def _best(call: Callable[[], None]) -> float:
    return min(timeit.repeat(call, number=STRETCH, repeat=STRETCHES)) / STRETCH


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def _in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def forkbench_table() -> Table:
    """Whole runs, ours and the real kernel's in turns. Raises UsageError without a C compiler, or without memory for the real one."""
    table = new_table(
        f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}; RAM of the box {BOX.ram}; "
        f"medians of {TURNS} turns",
        "forkbench|outcome|>wall|>may take|>the real kernel|>times faster|>at least|>host memory|>may grow|",
    )
    with HostForkbench() as host:
        for case in CASES:
            turns = [(_in_a_process(case.kernel, str(case.level)), host.run(case.level).wall_s) for _ in range(TURNS)]
            wall_s = statistics.median(ours["wall_s"] for ours, _ in turns)
            ratio = statistics.median(theirs / ours["wall_s"] for ours, theirs in turns)
            grown = max(ours["grown_bytes"] for ours, _ in turns)
            allowed = case.bytes_per_pte * turns[0][0]["ptes"] + ALLOWANCE
            good = wall_s <= case.wall_s and (case.host_ratio is None or ratio >= case.host_ratio) and grown <= allowed
            table.add_row(
                f"level {case.level}, {case.kernel}",
                turns[0][0]["outcome"],
                f"{wall_s:.2f} s",
                f"{case.wall_s:.1f} s",
                f"{statistics.median(theirs for _, theirs in turns):.2f} s",
                f"{ratio:.1f}",
                DASH if case.host_ratio is None else f"{case.host_ratio:.0f}",
                format_size(grown),
                format_size(allowed),
                "ok" if good else "not met",
            )
    return table


def calls_table() -> Table:
    """Single calls, ours beside the real kernel's."""
    table = new_table(
        "one call at a time, 2.6.5-rc1-aa1", "call|>ours|>the real kernel, from Python|>times slower|>at most|"
    )
    for name, (ours, theirs) in _in_a_process("calls").items():
        table.add_row(
            name,
            f"{ours * 1e6:.1f} us",
            f"{theirs * 1e6:.1f} us",
            f"{ours / theirs:.1f}",
            f"{TIMES_SLOWER[name]:g}",
            "ok" if ours <= TIMES_SLOWER[name] * theirs else "not met",
        )
    return table


def main() -> None:
    """Measure all cases, print the tables. A bound that is not met is said and fails nothing: the machine may be busy."""
    out = console()
    try:
        out.print(forkbench_table())
    except UsageError as error:
        print(f"forkbench was not measured: {error}")
    out.print(calls_table())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    elif sys.argv[1:] == ["calls"]:
        print(json.dumps(single_calls()))
    else:
        main()
