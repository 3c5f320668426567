"""How long reclaim takes to clear young bits, through one mapper and through sixteen, beside a bare loop over the same page tables.

The loop is what a data plane alone would do: for each page and each process that maps it, down to the entry, test, clear, count. Ours asks the design where
the pages are mapped, heeds VMAs, locks and flags, and charges every visit. Both in turns on the same machine; a ratio below 1 is what all that costs.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import numpy as np

from rmaplab.calls.task import Task
from rmaplab.kernels.system import System, boot
from rmaplab.machine.arrays import I64, Words
from rmaplab.machine.entries import ACCESSED, PRESENT
from rmaplab.machine.jit import kernel
from rmaplab.machine.pagetable import leaf
from rmaplab.machine.pagetable_edit import read_entries
from rmaplab.report.tables import console, new_table
from rmaplab.rmap.queries import referenced
from rmaplab.units import PAGE_SIZE

KERNELS = ("2.6.2", "2.6.5-rc1-aa1", "2.6.5-rc1+anonmm", "2.6.7")
PAGES = 1 << 15
MAPPERS = (1, 16)
TURNS = 5
BAR = 0.4


@kernel
def clear(words: Words, levels: int, bits: int, pgds: I64, start: int, nr: int) -> int:
    """Young entries of `nr` pages from `start` on, which each of `pgds` maps there."""
    young = 0
    for i in range(nr):
        address = start + (i << 12)
        for j in range(pgds.size):
            table = leaf(words, levels, bits, pgds[j], address)
            at = (table >> (12 - bits)) + ((address >> 12) & ((1 << bits) - 1))
            entry = np.int64(words[at])
            if entry & ACCESSED:
                words[at] = entry & ~np.int64(ACCESSED)
                young += 1
    return young


def family(kernel_name: str, mappers: int) -> tuple[System, list[Task], int, I64]:
    """So many processes that map the same pages at the same place, from which on, and which pages."""
    system = boot(kernel_name, ram="512M", overcommit=1)
    tasks = [system.spawn()]
    start = tasks[0].mmap(PAGES * PAGE_SIZE)
    tasks[0].touch(start, PAGES * PAGE_SIZE, write=True)
    tasks += [tasks[0].fork() for _ in range(mappers - 1)]
    system.kernel.lru_add.drain_all()
    mm = tasks[0].mm
    assert mm is not None
    pfns = np.empty(PAGES, np.int64)
    read_entries(*system.machine.geometry, mm.pgd, PRESENT, start, pfns)
    return system, tasks, start, pfns


def least(work: Callable[[], object], before: Callable[[], object]) -> float:
    """Seconds, the least of some turns; each begins with all entries young."""
    return min(timeit.repeat(work, before, number=1, repeat=TURNS))


def main() -> None:
    """Measure, print the table. A bar that is not met is said and fails nothing."""
    table = new_table(
        f"young bits of {PAGES:,} pages cleared, pages per second; best of {TURNS}",
        "kernel|>mappers|>loop alone|>page_referenced|>ratio|bar",
    )
    for name in KERNELS:
        for mappers in MAPPERS:
            system, tasks, start, pfns = family(name, mappers)
            pgds = np.array([task.mm.pgd for task in tasks if task.mm is not None], np.int64)
            words, levels, bits = system.machine.geometry

            def touch(tasks: list[Task] = tasks, start: int = start) -> None:
                for task in tasks:
                    task.touch(start, PAGES * PAGE_SIZE)

            loop = least(lambda: clear(words, levels, bits, pgds, start, PAGES), touch)  # noqa: B023
            ours = least(lambda: referenced(system.kernel.rmap, pfns), touch)  # noqa: B023
            touch()
            if referenced(system.kernel.rmap, pfns).nr.sum() < PAGES * mappers:
                raise AssertionError(f"{name}: not all of {mappers} x {PAGES} young entries were found")
            ratio = loop / ours
            table.add_row(
                name,
                str(mappers),
                f"{PAGES / loop / 1e6:.1f} M",
                f"{PAGES / ours / 1e6:.1f} M",
                f"{ratio:.2f}",
                "met" if ratio >= BAR else f"below {BAR}",
            )
    console().print(table)


if __name__ == "__main__":
    main()
