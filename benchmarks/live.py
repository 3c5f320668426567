"""`make bench`, second part: the census of real processes, beside what it costs only to read their /proc/PID/maps.

forks.c makes the processes. Each measurement is a process of its own, so that its peak resident set is its own; times are medians
of some turns. Needs root and a C compiler, and says so where it has them not.
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rmaplab.errors import UsageError
from rmaplab.host.footprint import Footprints
from rmaplab.host.procfs import Unread, read_fields, read_proc
from rmaplab.host.snapshot import CensusTaker, Rung
from rmaplab.host.vmas import VmaDumper
from rmaplab.lab.census.census import Census
from rmaplab.objects.graph import UNKNOWN
from rmaplab.report.tables import console, new_table
from rmaplab.units import format_size

TURNS = 15


class Case(NamedTuple):
    """forks.c's arguments, what is measured, and what it may take."""

    name: str
    vmas: int
    children: int
    depth: int
    wall_s: float
    bytes: int | None
    write: bool = False


CASES = (
    Case("10,000 VMAs, flat: dump and summary", 900, 11, 0, 0.060, None),
    Case("a tree with 1 M chains: dump and summary", 5000, 0, 19, 2.5, 600_000_000),
)


@contextmanager
def processes(case: Case) -> Iterator[list[int]]:
    """forks.c, running; its pids."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise UsageError("needs a C compiler: install gcc")
    with tempfile.TemporaryDirectory(prefix="rmaplab-") as directory:
        program = Path(directory) / "forks"
        source = Path(__file__).parent.parent / "tests" / "forks.c"
        subprocess.run([compiler, "-O1", "-static", "-o", program, source], check=True)
        arguments = [str(program), str(case.vmas), str(case.children), str(case.depth)]
        arguments += [str(int(case.write)), "0"]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as root:
            assert root.stdout is not None
            try:
                yield [int(pid) for pid in root.stdout.readline().split()]
            finally:
                root.kill()


def measure(pids: list[int]) -> dict[str, Any]:
    """In this process: the graph dumped, checked and summed up by process and by tree; a whole census; maps alone."""
    with CensusTaker() as observer:
        if observer.rung > Rung.GRAPH:
            return {"missing": "; ".join(observer.missing)}
        snapshot = observer.look(pages=False)
        with VmaDumper() as dumper:

            def dump_and_sum_up() -> None:
                graph = dumper.dump().graph
                unknown = Footprints(*[np.full(len(graph.processes.pid), UNKNOWN)] * len(Footprints._fields))
                census = Census(replace(snapshot, graph=graph, footprints=unknown))
                census.processes()
                census.trees()
                census.totals()
                census.walk()

            graph_s = _median(dump_and_sum_up)
        peak = int(read_fields("self/status")["VmHWM"].split()[0]) * 1024
        whole_s = _median(lambda: Census(observer.look()).processes(), turns=3)
    found = {"vmas": len(snapshot.graph.vmas.mm), "chains": len(snapshot.graph.chains.vma), "peak_bytes": peak}
    return found | {"graph_s": graph_s, "whole_s": whole_s, "maps_s": _median(lambda: _read_maps(pids))}


def _median(call: Callable[[], object], turns: int = TURNS) -> float:
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _read_maps(pids: list[int]) -> int:
    texts = [read_proc(f"{pid}/maps") for pid in pids]
    return sum(len(text) for text in texts if not isinstance(text, Unread))


def main() -> None:
    """Measure all cases, print the table. A bound that is not met is said and fails nothing."""
    table = new_table(
        f"Linux {platform.release()}, Python {platform.python_version()}; medians of {TURNS} turns",
        "rmaplab live|>VMAs|>chains|>graph|>may take|>reading maps|>times slower|>peak memory|>may take|>whole census|",
    )
    for case in CASES:
        try:
            with processes(case) as pids:
                command = [sys.executable, __file__, *map(str, pids)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        except UsageError as error:
            found = {"missing": str(error)}
        if "missing" in found:
            console().print(f"rmaplab live: not measured: {found['missing']}")
            return
        good = found["graph_s"] <= case.wall_s and (case.bytes is None or found["peak_bytes"] <= case.bytes)
        table.add_row(
            case.name,
            f"{found['vmas']:,}",
            f"{found['chains']:,}",
            f"{found['graph_s'] * 1e3:,.0f} ms",
            f"{case.wall_s * 1e3:,.0f} ms",
            f"{found['maps_s'] * 1e3:,.0f} ms",
            f"{found['graph_s'] / found['maps_s']:.1f}",
            format_size(found["peak_bytes"]),
            format_size(case.bytes) if case.bytes is not None else "-",
            f"{found['whole_s'] * 1e3:,.0f} ms",
            "ok" if good else "not met",
        )
    console().print(table)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure([int(pid) for pid in sys.argv[1:]])))
    else:
        main()
