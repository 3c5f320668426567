"""How fast the running machine's reverse map is read: the join over pagemap. Needs root, for PFNs.

The best of some turns: what the code takes when nobody disturbs it.
"""

from __future__ import annotations

import mmap
import os
import platform
import signal
import timeit
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from rmaplab.host import pagemap, procfs
from rmaplab.host.who import who_maps_pfn
from rmaplab.report.tables import console, new_table

SHARED_BYTES = 256 << 20
NR_PROCESSES = 4
TURNS = 7
JOIN_S = 0.150


@contextmanager
def family() -> Iterator[list[int]]:
    """Four processes that share 256 MiB since a fork, in pages of 4 KiB: a GiB of page-table entries."""
    memory = mmap.mmap(-1, SHARED_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE] = 1
    children: list[int] = []
    try:
        for _ in range(NR_PROCESSES):
            child = os.fork()
            if not child:
                signal.pause()
            children.append(child)
        yield children
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def main() -> None:
    """Measure, print the table, or the reason where PFNs are hidden. A bound that is not met is said and fails nothing."""
    if not pagemap.can_see_pfns():
        print("the join over pagemap was not measured: PFNs need CAP_SYS_ADMIN (run as root)")
        return
    with family() as pids:
        join = pagemap.join(pids)
        pfn = int(join.pfns[join.counts().argmax()])
        took = min(timeit.repeat(lambda: pagemap.join(pids), number=1, repeat=TURNS))
        table = new_table(
            f"reading this machine: {platform.machine()}, Linux {platform.release()}; the best of {TURNS} turns",
            "what|>pages|>entries|>took|>may take|",
        )
        good = took <= JOIN_S
        row = (f"{len(join.pfns):,}", f"{len(join.pids):,}", f"{took * 1e3:.0f} ms", f"{JOIN_S * 1e3:.0f} ms")
        table.add_row("1 GiB of entries joined by page", *row, "ok" if good else "not met")
        for name in ("kpagecount", "kpageflags"):
            took = min(timeit.repeat(lambda name=name: pagemap.read_per_pfn(name, join.pfns), number=1, repeat=TURNS))  # type: ignore[misc]
            table.add_row(f"{name} of its pages", f"{len(join.pfns):,}", "", f"{took * 1e3:.0f} ms", "", "")
        took = min(timeit.repeat(lambda: who_maps_pfn(pfn), number=1, repeat=TURNS))
        nr = f"{len(procfs.processes()):,} processes"
        table.add_row("who --pfn, one page, all processes", "1", nr, f"{took * 1e3:.0f} ms", "", "")
    console().print(table)


if __name__ == "__main__":
    main()
