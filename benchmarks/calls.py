"""What `make bench-against` measures: one call in a process of its own, on whatever rmaplab PYTHONPATH names.

    python benchmarks/calls.py "mmap + munmap, read-write"      {"seconds": 1.8e-05, "counts": {...}}

A revision under test may be old, so only what is public and lasts is used here: boot, spawn, run, who_maps, check, what a task
can call, and the Forkbench workload. Every call does the same work in every run; so its counts (the ledger, and what came of
it) tell whether two revisions still agree.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from functools import partial
from mmap import PROT_READ, PROT_WRITE
from pathlib import Path
from typing import NamedTuple

import rmaplab
from rmaplab.workloads.forkbench import Forkbench

AA1 = "2.6.5-rc1-aa1"
PAGE_BYTES = 4096
TABLE_BYTES = 2 << 20
"""What one leaf table of the default box (i386-pae) maps."""
MAPPED_BYTES = 4 * PAGE_BYTES
READ_WRITE = PROT_READ | PROT_WRITE
SHARERS = 100


class Measured(NamedTuple):
    """Seconds of one call, and what must be the same whenever the same work is done."""

    seconds: float
    counts: dict[str, int]


def forkbench(kernel: str, level: int) -> Measured:
    """A whole run at one level, once, with its loops compiled before."""
    Forkbench(2).run(rmaplab.boot(kernel, ram="2G"))
    system = rmaplab.boot(kernel, ram="2G", swap="0")
    workload = Forkbench(level)
    gc.collect()  # one is due on either side sooner or later: not within what is measured
    began = time.perf_counter()
    workload.run(system)
    seconds = time.perf_counter() - began
    return Measured(seconds, counts(system) | {"failed": 0 if workload.failed is None else 1})


def fault_from_outside(number: int = 300, stretches: int = 60) -> Measured:
    """The first write to one page after the other; page tables are there."""
    system = rmaplab.boot(AA1, ram="1G")
    task = system.spawn()
    return Measured(_faults(task, number, stretches), counts(system))


def fault_under_the_scheduler(number: int = 300, stretches: int = 60) -> Measured:
    """The same from a program, alone on the box: each fault ends a burst, and the scheduler is asked who is next."""
    system = rmaplab.boot(AA1, ram="1G")
    took: list[float] = []
    system.spawn(lambda task: took.append(_faults(task, number, stretches)))
    system.run()
    return Measured(took[0], counts(system))


def map_unmap(
    prot: int, neighbour: int | None, *, touched: bool = False, number: int = 300, stretches: int = 60
) -> Measured:
    """Four pages that nobody touches: mmap + munmap.

    With a neighbour, a VMA of that protection lies beside them: munmap then leaves the page tables alone. If it has the same
    protection, the four pages become part of it and are cut off again. If it was `touched`, there are page tables to look at.
    """
    system = rmaplab.boot(AA1, ram="1G")
    task = system.spawn()
    if neighbour is not None:
        address = task.mmap("512M", neighbour)
        if touched:
            task.touch(address, "512M", write=True)

    def call() -> None:
        task.munmap(task.mmap(MAPPED_BYTES, prot), MAPPED_BYTES)

    return Measured(_best(call, number, stretches), counts(system))


def who_maps(number: int = 20, stretches: int = 40) -> Measured:
    """Who maps a page that a hundred processes share."""
    system = rmaplab.boot(AA1, ram="1G")
    parent = system.spawn()
    address = parent.mmap(MAPPED_BYTES, READ_WRITE)
    parent.touch(address, MAPPED_BYTES, write=True)
    for _ in range(SHARERS - 1):
        parent.fork()
    seconds = _best(lambda: system.who_maps(parent, address), number, stretches)
    return Measured(seconds, counts(system) | {"mappings": len(system.who_maps(parent, address))})


def check(number: int = 5, stretches: int = 40) -> Measured:
    """check() on a small system: 1 MiB that four processes share in part."""
    system = rmaplab.boot(AA1, ram="128M")
    parent = system.spawn()
    address = parent.mmap("1M", READ_WRITE)
    parent.touch(address, "1M", write=True)
    for i in range(3):
        parent.fork().touch(address + i * MAPPED_BYTES, MAPPED_BYTES, write=True)
    return Measured(_best(system.check, number, stretches), counts(system))


CALLS: dict[str, Callable[[], Measured]] = {
    f"forkbench level 9, {AA1}": partial(forkbench, AA1, 9),
    "forkbench level 7, 2.6.2": partial(forkbench, "2.6.2", 7),
    "fault from outside": fault_from_outside,
    "fault under the scheduler": fault_under_the_scheduler,
    "mmap + munmap, read-only, alone": partial(map_unmap, PROT_READ, None),
    "mmap + munmap, read-only, neighbour": partial(map_unmap, PROT_READ, READ_WRITE),
    "mmap + munmap, read-write, merges": partial(map_unmap, READ_WRITE, READ_WRITE),
    "mmap + munmap, read-only, touched neighbour": partial(map_unmap, PROT_READ, READ_WRITE, touched=True),
    f"who_maps, {SHARERS} mappings": who_maps,
    "check() of a small system": check,
}


def counts(system: rmaplab.System) -> dict[str, int]:
    """Everything that was counted, and the simulated time."""
    machine = system.kernel.machine
    counted = {name: int(nr) for name, nr in sorted(machine.ledger.counts.items()) if nr}
    return counted | {"simulated_ns": int(machine.sched.now_ns)}


def fresh_pages(task: rmaplab.Task, nr: int) -> Iterator[int]:
    """Addresses of `nr` pages that have a page table and nothing in it: in each table another page was written first."""
    per_table = TABLE_BYTES // PAGE_BYTES - 1
    nr_tables = -(-nr // per_table)
    start = task.mmap(nr_tables * TABLE_BYTES, READ_WRITE)
    tables = range(start, start + nr_tables * TABLE_BYTES, TABLE_BYTES)
    for table in tables:
        task.touch(table, 1, write=True)
    return (page for table in tables for page in range(table + PAGE_BYTES, table + TABLE_BYTES, PAGE_BYTES))


def _faults(task: rmaplab.Task, number: int, stretches: int) -> float:
    page = fresh_pages(task, number * stretches)
    return _best(lambda: task.touch(next(page), 1, write=True), number, stretches)


def _best(call: Callable[[], object], number: int, stretches: int) -> float:
    """Seconds of a call in the best of many short stretches: what the code takes when nobody disturbs it."""
    return min(timeit.repeat(call, number=number, repeat=stretches)) / number


def main(name: str) -> None:
    """Measure one call and print it as JSON, if rmaplab is the one that PYTHONPATH names: an installed one is easily found instead."""
    source, wanted = Path(rmaplab.__file__).parent.parent, os.environ.get("PYTHONPATH")
    if wanted is not None and source != Path(wanted).resolve():
        sys.exit(f"Python found another rmaplab, in {source}")
    print(json.dumps(CALLS[name]()._asdict()))


if __name__ == "__main__":
    main(sys.argv[1])
