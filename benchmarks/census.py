"""`make bench-census`: what a census takes beside what nobody can do without, in turns: `smaps_rollup` read, the graph dumped.

    5,000 small processes      smaps_rollup of each | the kernel's part of a full read | pages and memory of all, in this process
                               `live --full` | `live --pid` of a stranger
    1 M VMAs, 2 M chains       the BPF dump as rows | the graph of them, checked | the same by an interpreter of its own | `live`

Commands are processes of their own: the interpreter and all imports are in their figures, compiled before, as users have them. CPU seconds are user and system; a ratio is
one of least CPU seconds, which others on the machine disturb least. It all happens in a PID namespace of its own (unshare), so that nobody else's processes are
read along, and as any verb it asks NumPy to sort as this processor sorts fast. Needs root, BPF and a C compiler; 3 GB.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.live import Case, processes

from rmaplab.cli.sorting import sort_without_slow_instructions
from rmaplab.errors import UsageError
from rmaplab.host.procfs import read_proc
from rmaplab.host.snapshot import CensusTaker, Rung
from rmaplab.host.vmas import VmaDumper
from rmaplab.host.wanted import Wanted
from rmaplab.report.tables import console, new_table

TURNS, ALONE = 3, "--alone"
MANY = Case("5,000 small processes", 20, 5000, 0, 0.0, None, write=True)
DUMP = "from rmaplab.host.vmas import VmaDumper; VmaDumper().dump()"
LARGE = Case("1 M VMAs, 2 M chains", 1000, 1000, 0, 0.0, None)


class Took(NamedTuple):
    """CPU and wall seconds of one turn."""

    cpu: float
    wall: float


class Bar(NamedTuple):
    """`what` may take so many times the CPU seconds of `beside`; without that, so many."""

    what: str
    beside: str | None
    most: float


def here(call: Callable[[], object]) -> Took:
    """In this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Took(time.process_time() - cpu, time.perf_counter() - wall)


def command(*arguments: str) -> Took:
    """`rmaplab`, from its start to its end."""
    return python("-m", "rmaplab", *arguments)


def python(*arguments: str) -> Took:
    """An interpreter, from its start to its end."""
    began = time.perf_counter()
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=own)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise UsageError(f"python {' '.join(arguments)} has failed: try it by itself")
    return Took(used.ru_utime + used.ru_stime, time.perf_counter() - began)


@contextmanager
def stranger() -> Iterator[int]:
    """A process that has nothing to do with the others."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid
        child.kill()


def measure(ways: Mapping[str, Callable[[], Took]], bars: list[Bar], title: str) -> None:
    """All ways in turns, one unmeasured turn before; the table, and which bars are met. A bar that is not met fails nothing."""
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            found = way()
            took[name] += [found] if turn else []
    table = new_table(title, "|>CPU s, least|>median|>most|>wall s, least|>median|>most")
    for name, turns in took.items():
        columns = zip(*turns, strict=True)
        figures = [f"{of(each):.2f}" for each in columns for of in (min, statistics.median, max)]
        table.add_row(name, *figures)
    console().print(table)
    least = {name: min(turn.cpu for turn in turns) for name, turns in took.items()}
    for what, beside, most in bars:
        ratio = least[what] / (least[beside] if beside else 1)
        unit = f"times {beside}" if beside else "CPU s"
        console().print(f"{what}: {ratio:.2f} {unit}, may be {most}: {'met' if ratio <= most else 'not met'}")


def many() -> None:
    """5,000 processes, and somebody beside them."""
    with processes(MANY) as pids, stranger() as pid, CensusTaker() as taker:
        if taker.rung != Rung.EVERYTHING:
            raise UsageError("; ".join(taker.missing))
        rollup, kernel, look = "smaps_rollup", "the kernel's part", "pages and memory"
        full, one = "live --full", "live --pid"
        ways = {
            rollup: lambda: here(lambda: [read_proc(f"{pid}/smaps_rollup") for pid in pids]),
            kernel: lambda: here(taker.read_rows),
            look: lambda: here(lambda: taker.look(full=True)),
            full: lambda: command("live", "--full"),
            "a look at one": lambda: here(lambda: _look_at(pid)),
            one: lambda: command("live", "--pid", str(pid)),
            "rmaplab --version": lambda: command("--version"),
        }
        measure(ways, [Bar(look, rollup, 3), Bar(full, rollup, 3), Bar(one, None, 0.3)], _title(MANY))


def _look_at(pid: int) -> None:
    with CensusTaker() as taker:
        taker.look(Wanted(pid))


def large() -> None:
    """1 M VMAs."""
    with processes(LARGE), VmaDumper() as dumper:
        rows, graph, fresh = "the dump's rows", "the graph of them", "the dump alone"
        ways = {
            rows: lambda: here(dumper.rows),
            graph: lambda: here(dumper.dump),
            fresh: lambda: python("-c", DUMP),
            "live": lambda: command("live"),
        }
        measure(ways, [Bar("live", fresh, 1.5), Bar("live", graph, 1.5), Bar("live", rows, 1.5)], _title(LARGE))


def _title(case: Case) -> str:
    return f"{case.name}; Linux {platform.release()}, {TURNS} turns"


def main() -> None:
    """Both cases, among processes of our own only."""
    unshare = shutil.which("unshare")
    if ALONE not in sys.argv and unshare is not None and os.geteuid() == 0:
        sort_without_slow_instructions()
        command = [unshare, "--pid", "--fork", "--mount-proc", sys.executable, "-m", "benchmarks.census", ALONE]
        sys.exit(subprocess.run(command, check=False).returncode)
    try:
        many()
        large()
    except UsageError as error:
        console().print(f"not measured: {error}")


if __name__ == "__main__":
    main()
