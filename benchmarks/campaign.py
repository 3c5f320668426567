"""`make campaign`: the conformance kit for long: 10^5 calls per kernel, everything checked after every call.

Every kernel runs on all page-table formats it has, seed after seed, until its calls are done; kernels share the CPUs. A failure
prints the smallest script that shows it, with its seed. `--calls N` makes it shorter, `--only files` half of it. Of three seeds one has a tiny box, where memory is out again
and again, and one a thief, who takes pages to swap whenever somebody sleeps for memory or takes a lock; `--thief` gives all of them one.

Then as many calls on files, shared memory and their mappings (lab/conformance/holes_run.py), every third seed beside a thief, on the kernel's own index of VMAs or
another.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.conformance import EVERY_KIND
from rmaplab.lab.conformance.holes_run import HolesRun
from rmaplab.lab.conformance.kit import conformance
from rmaplab.lab.conformance.nonlinear_run import NonlinearRun
from rmaplab.report.tables import console, new_table

SCRIPTS = 100
FILE_CALLS = 200  # a seed
INDEXES = ("list", "rbtree", "prio_tree", "prio_tree_mended", "interval_tree", None)
KERNELS = (*EVERY_KIND, "2.6.5-rc2-aa2")
"""And one that walks nonlinear VMAs whole."""
TINY, TINY_6 = 32, 72  # frames; slabs of eight pages and stacks of four need more


class Share(NamedTuple):
    """What one kernel did on one format; `failure` is a script and its error, or empty."""

    kernel: str
    paging: str
    scripts: int
    calls: int
    seeds: int
    wall_s: float
    failure: str


def share(kernel: str, paging: str, calls: int, first: int, thief: bool) -> Share:
    """Run seeds from `first` on until `calls` are done or something fails."""
    began = time.perf_counter()
    nr_scripts = nr_calls = 0
    seed = first
    failure = ""
    while nr_calls < calls and not failure:
        tiny = TINY_6 if find_kernel(kernel).figure("slub", 8) else TINY
        frames = tiny if seed % 3 == 2 and not thief else None
        report = conformance(
            kernel, paging=paging, examples=SCRIPTS, steps=60, seed=seed, frames=frames, thief=thief or seed % 3 == 1
        )
        nr_scripts += report.scripts
        nr_calls += report.calls
        if report.counterexample is not None:
            failure = f"{report.counterexample.source}# seed {seed}: {report.counterexample.message}"
        seed += 1
    return Share(kernel, paging, nr_scripts, nr_calls, seed - first, time.perf_counter() - began, failure)


def share_files(kernel: str, paging: str, calls: int, first: int, thief: bool) -> Share:
    """The same of files. What is wrong is told by its seed."""
    began = time.perf_counter()
    seed = first
    failure = ""
    while (seed - first) * FILE_CALLS < calls and not failure:
        index = (None, *INDEXES)[seed % 7]  # of every three seeds one has a thief: each index has one in turn
        beside = thief or seed % 3 == 1
        kind = NonlinearRun if seed % 4 == 3 and find_kernel(kernel).figure("remap_pages", 4) else HolesRun
        try:
            kind(kernel, seed, index=index, paging=paging, thief=beside).run(FILE_CALLS)
        except Exception as error:  # noqa: BLE001
            how = f"{kernel!r}, {seed}, index={index!r}, paging={paging!r}, thief={beside}"
            failure = f"{kind.__name__}({how}).run({FILE_CALLS}): {type(error).__name__}: {error}"
        seed += 1
    nr = seed - first
    return Share(f"{kernel}, files", paging, nr, nr * FILE_CALLS, nr, time.perf_counter() - began, failure)


def main() -> None:
    """All kernels; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description="random system calls on all kernels, checked after every call")
    parser.add_argument("--calls", type=int, default=100_000, help="calls per kernel (default 100000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--only", choices=("memory", "files"), help="one half of it")
    parser.add_argument("--thief", action="store_true", help="all seeds with a thief")
    options = parser.parse_args()
    calls = options.calls
    formats = {kernel: find_kernel(kernel).architectures for kernel in KERNELS}
    table = new_table(
        f"{calls:,} calls per kernel, check() after every one", "kernel|format|>scripts|>calls|>seeds|>wall|outcome"
    )
    shares = []
    halves = {None: (share, share_files), "memory": (share,), "files": (share_files,)}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(do, kernel, paging, -(-calls // len(formats[kernel])), options.first, options.thief)
            for do in halves[options.only]
            for kernel in KERNELS
            for paging in formats[kernel]
        ]
        for job in as_completed(jobs):
            done = job.result()
            shares.append(done)
            print(f"{done.kernel} on {done.paging}: {done.failure or 'ok'}", file=sys.stderr, flush=True)
    for done in sorted(shares, key=lambda s: (KERNELS.index(s.kernel.partition(",")[0]), s.kernel, s.paging)):
        outcome = "FAILED" if done.failure else "ok"
        row = (
            done.kernel,
            done.paging,
            f"{done.scripts:,}",
            f"{done.calls:,}",
            f"{done.seeds}",
            f"{done.wall_s:.0f} s",
        )
        table.add_row(*row, outcome)
    console().print(table)
    sys.exit(any(done.failure for done in shares))


if __name__ == "__main__":
    main()
