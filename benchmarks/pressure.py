"""`make pressure`: random calls on boxes that are too small for them, on every kernel that reclaims: everything recounted after each call.

Seeds 0, 1, 2 ... until a kernel has its calls (10^5, or `--calls N`), in turns on anonymous memory, with files, and with files and shared memory; kernels share the CPUs. What is wrong is told by its
seed. How many pages went to swap and came back is in the table: without that nothing was tested; and how many tasks died of a page fault that got no memory, as on 2.4 they may.
`--kernels` makes some of them again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.conformance.file_pressure_run import FilePressureRun
from rmaplab.lab.conformance.pressure_run import PressureRun
from rmaplab.lab.conformance.shared_pressure_run import SharedPressureRun
from rmaplab.report.tables import console, new_table

KERNELS = (
    "2.4.21",
    "2.4.21+pte_chain",
    "2.6.2",
    "2.6.5-rc1",
    "2.6.5-rc1+00100",
    "2.6.5-rc1-aa1",
    "2.6.5-rc1+anonmm",
    "2.6.5-rc1+anon_vma_interval_tree",
    "2.6.7",
)
KINDS = (PressureRun, FilePressureRun, SharedPressureRun)
CALLS = 200  # a seed


class Pressed(NamedTuple):
    """What one kernel did."""

    kernel: str
    calls: int
    seeds: int
    outs: int
    ins: int
    moved: int
    killed: int
    wall_s: float
    failure: str


def pressed(kernel: str, calls: int, first: int) -> Pressed:
    """Run seeds from `first` on until `calls` are done or something fails."""
    began, formats = time.perf_counter(), find_kernel(kernel).architectures
    seed, failure, outs, ins, moved, killed = first, "", 0, 0, 0, 0
    while (seed - first) * CALLS < calls and not failure:
        kind, paging = KINDS[seed % len(KINDS)], formats[seed // len(KINDS) % len(formats)]
        run = kind(kernel, seed, paging=paging)
        try:
            run.run(CALLS)
        except Exception as error:  # noqa: BLE001
            how = f"{kind.__name__}({kernel!r}, {seed}, paging={paging!r}).run({CALLS})"
            failure = f"{how}: {type(error).__name__}: {error}"
        counts = run.system.machine.ledger.counts
        outs, ins, moved = outs + counts["pswpout"], ins + counts["pswpin"], moved + counts["shmem_swap_in"]
        killed += run.killed
        seed += 1
    nr = seed - first
    return Pressed(kernel, nr * CALLS, nr, outs, ins, moved, killed, time.perf_counter() - began, failure)


def main() -> None:
    """All kernels; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description="random system calls on boxes that are too small for them")
    parser.add_argument("--calls", type=int, default=100_000, help="calls per kernel (default 100000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--kernels", nargs="+", choices=KERNELS, default=KERNELS, help="some of them (default all)")
    options = parser.parse_args()
    table = new_table(
        f"{options.calls:,} calls per kernel under pressure",
        "kernel|>calls|>seeds|>out|>in|>of shared memory|>killed|>wall|outcome",
    )
    results = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for job in as_completed(
            [pool.submit(pressed, kernel, options.calls, options.first) for kernel in options.kernels]
        ):
            results.append(job.result())
            print(f"{results[-1].kernel}: {results[-1].failure or 'ok'}", file=sys.stderr, flush=True)
    for done in sorted(results, key=lambda r: KERNELS.index(r.kernel)):
        numbers = (f"{nr:,}" for nr in (done.calls, done.seeds, done.outs, done.ins, done.moved, done.killed))
        table.add_row(done.kernel, *numbers, f"{done.wall_s:.0f} s", "FAILED" if done.failure else "ok")
    console().print(table)
    sys.exit(any(done.failure for done in results))


if __name__ == "__main__":
    main()
