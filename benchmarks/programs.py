"""`make bench-programs`: what it costs to run programs on a simulated kernel, as ratios: CPU time, this process's and its children's, medians of turns.

    forkbench 6        beside the host's own run of the same static binary
    a write fault      in a program, whole, beside a page of `Task.touch` by a Python program under the same scheduler
    a system call      getppid, beside a round trip of two host processes that wake each other by futex, on one CPU
    start              `rmaplab exec -- static true` beside `python -c 'import numba'`

Turns of the two sides alternate. Needs a C compiler that links statically.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from benchmarks.files import cpu_seconds

import rmaplab
from rmaplab.host.compiler import compile_kept
from rmaplab.kernels.system import boot
from rmaplab.report.tables import console, new_table

KERNEL, LEVELS, MIB = "2.6.5-rc1-aa1", 6, 512
PAGES, FEW = 20_000, 200
CALLS, SOME = 40_000, 400
ROUNDS = 40_000
TURNS = 5
FAULTS = """
#include <stdlib.h>
#include <sys/mman.h>
int main(int argc, char **argv)
{
	long nr = atol(argv[1]);
	volatile char *p = mmap(0, nr << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (long i = 0; i < nr; i++)
		p[i << 12] = 1;
	return 0;
}
"""
SYSCALLS = """
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(int argc, char **argv)
{
	long nr = atol(argv[1]);
	for (long i = 0; i < nr; i++)
		syscall(SYS_getppid);
	return 0;
}
"""
TRUE = "int main(void) { return 0; }"
PING_PONG = """
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void await(atomic_int *word, int value)
{
	int now;
	while ((now = *word) != value)
		syscall(SYS_futex, word, FUTEX_WAIT, now, 0, 0, 0);
}
static void tell(atomic_int *word, int value)
{
	*word = value;
	syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
}
int main(int argc, char **argv)
{
	int nr = atoi(argv[1]);
	atomic_int *words = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	if (!fork()) {
		for (int i = 1; i <= nr; i++) {
			await(words, i);
			tell(words + 64, i);
		}
		_exit(0);
	}
	for (int i = 1; i <= nr; i++) {
		tell(words, i);
		await(words + 64, i);
	}
	wait(0);
	return 0;
}
"""


class Row(NamedTuple):
    """One ratio: seconds of ours and of what it is compared with, for `unit`."""

    what: str
    ours: float
    theirs: float
    beside: str
    bar: float


def cpu_of(command: list[str]) -> float:
    """CPU seconds of a command and of all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_turns(ours: Callable[[], float], theirs: Callable[[], float], turns: int) -> tuple[float, float]:
    """The medians of both."""
    pairs = [(ours(), theirs()) for _ in range(turns)]
    return statistics.median(first for first, _ in pairs), statistics.median(second for _, second in pairs)


def on_kernel(program: Path, *arguments: str) -> list[str]:
    """The command that runs a program of a directory of its own on the simulated kernel."""
    code = "import sys; from rmaplab.cli import main; sys.exit(main())"
    return [
        sys.executable,
        "-c",
        code,
        "exec",
        "--kernel",
        KERNEL,
        "--root",
        str(program.parent),
        "--",
        f"/{program.name}",
        *arguments,
    ]


def touched(nr: int) -> float:
    """CPU seconds of a Python program that writes to `nr` fresh pages, one by one."""
    system = boot(KERNEL, paging="x86-64")

    def program(task: rmaplab.Task) -> int:
        start = task.mmap(nr << 12)
        for page in range(start, start + (nr << 12), 4096):
            task.touch(page, 4096, write=True)
        return 0

    system.spawn(program)
    return cpu_seconds(system.run)


def measure(directory: Path, turns: int, only: str | None) -> list[Row]:
    """All rows, or those whose name begins with `only`."""
    programs = {"faults": FAULTS, "syscalls": SYSCALLS, "true": TRUE, "pingpong": PING_PONG}
    sources = {name: text.encode() for name, text in programs.items()}
    sources["forkbench"] = (files("rmaplab.workloads") / "forkbench.c").read_bytes()
    built = {name: directory / name for name in sources}
    for name, source in sources.items():
        built[name].write_bytes(compile_kept(source, f"{name}.c", ["-O2", "-static"]).read_bytes())
        built[name].chmod(0o755)
    cpu_of(on_kernel(built["true"]))  # compiles what is not compiled yet
    rows = []

    def wanted(name: str) -> bool:
        return only is None or name.startswith(only)

    if wanted("start"):
        pair = in_turns(
            lambda: cpu_of(on_kernel(built["true"])), lambda: cpu_of([sys.executable, "-c", "import numba"]), turns
        )
        rows.append(Row("start: static true", *pair, "import numba", 4))
    if wanted("call"):

        def calls() -> float:
            long, short = (cpu_of(on_kernel(built["syscalls"], str(nr))) for nr in (CALLS, SOME))
            return (long - short) / (CALLS - SOME)

        pair = in_turns(calls, lambda: cpu_of([str(built["pingpong"]), str(ROUNDS)]) / ROUNDS, turns)
        rows.append(Row("call: getppid", *pair, "futex round trip, one CPU", 2))
    if wanted("fault"):

        def faults() -> float:
            long, short = (cpu_of(on_kernel(built["faults"], str(nr))) for nr in (PAGES, FEW))
            return (long - short) / (PAGES - FEW)

        touched(FEW)
        pair = in_turns(faults, lambda: (touched(PAGES) - touched(FEW)) / (PAGES - FEW), turns)
        rows.append(Row("fault: a fresh page", *pair, "Task.touch in a program", 3))
    if wanted("forkbench"):
        arguments = [str(LEVELS), str(MIB)]
        pair = in_turns(
            lambda: cpu_of(on_kernel(built["forkbench"], *arguments)),
            lambda: cpu_of([str(built["forkbench"]), *arguments]),
            min(turns, 3),
        )
        rows.append(Row(f"forkbench {LEVELS}, {MIB} MiB", *pair, "the host's run", 3))
    return rows


def main() -> None:
    """Measure, print the table; exit with 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description="programs on a simulated kernel, as ratios")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"of each pair (default {TURNS})")
    parser.add_argument("--only", choices=("start", "call", "fault", "forkbench"), help="one row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rmaplab-", dir="/var/tmp") as directory:
        rows = measure(Path(directory), options.turns, options.only)
    table = new_table(
        f"programs on {KERNEL}: CPU time, medians of {options.turns} turns, load {os.getloadavg()[0]:.1f}",
        "what|>ours|>beside||>ratio|>may be|",
    )
    for row in rows:
        ratio = row.ours / row.theirs
        table.add_row(
            row.what,
            _time(row.ours),
            _time(row.theirs),
            row.beside,
            f"{ratio:.2f}",
            f"{row.bar:g}",
            "" if ratio <= row.bar else "MISSED",
        )
    console().print(table)
    sys.exit(any(row.ours > row.bar * row.theirs for row in rows))


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds > 0.1 else f"{seconds * 1e6:.1f} us"


if __name__ == "__main__":
    main()
