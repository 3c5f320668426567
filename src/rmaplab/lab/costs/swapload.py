"""What it costs to live beyond RAM: swapload under several kernels, everything counted that reclaim does (beyond_ram.py).

`bursts`: whoever acts at once takes turns after a burst of work, of 32 page tables at most. With others beside it a row says what hangs on that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.lab.costs.beyond_ram import BeyondRow, boot_beyond, lived
from rmaplab.mm.kernel import BURST_TABLES
from rmaplab.units import PAGE_SHIFT
from rmaplab.workloads.swapload import PROCESSES, Swapload, usual_load

MOST_TABLES = 1024


@dataclass(frozen=True, kw_only=True)
class SwaploadRow(BeyondRow):
    """One kernel, with one burst."""

    working_set_bytes: int
    load_bytes: int
    """What of it is more than RAM."""
    forks: bool
    burst_tables: int
    file_bytes: int
    """What of the working set lies in files."""


def compare_swapload(
    kernels: Sequence[str],
    box: Box,
    load: int | None,
    seed: int,
    bursts: Sequence[int] = (BURST_TABLES,),
    *,
    forks: bool,
    files: bool = False,
) -> tuple[Iterator[SwaploadRow], int]:
    """Rows, and how many there will be: each kernel with each burst. `load` None: the usual one. What can be refused is refused before the first: UsageError."""
    for tables in bursts:
        if not 1 <= tables <= MOST_TABLES:
            raise UsageError(f"a burst of {tables} page tables: give 1 to {MOST_TABLES:,}, such as --bursts 1,8,32")
    for kernel in kernels:
        system = boot_beyond(kernel, box)
        load = usual_load(system.machine.hardware.ram_bytes) if load is None else load
        Swapload(system.machine.hardware.ram_bytes + load, seed, forks=forks, files=files)
        system.close()
    if load is None or load < 1:
        raise UsageError(f"a load of {load} bytes: give what the working set has more than RAM, such as --load 500M")
    return _rows(kernels, box, load, seed, bursts, forks=forks, files=files), len(kernels) * len(bursts)


def _rows(
    kernels: Sequence[str], box: Box, load: int, seed: int, bursts: Sequence[int], *, forks: bool, files: bool
) -> Iterator[SwaploadRow]:
    for kernel in kernels:
        for tables in bursts:
            yield run_swapload(kernel, box, load, seed, tables, forks=forks, files=files)


def run_swapload(
    kernel: str, box: Box, load: int, seed: int, burst_tables: int = BURST_TABLES, *, forks: bool, files: bool = False
) -> SwaploadRow:
    """To the end, whatever that is. Raises UsageError; running out of memory is an outcome."""
    system = boot_beyond(kernel, box)
    system.kernel.set_burst(burst_tables)
    size = system.machine.hardware.ram_bytes + load
    workload = Swapload(size, seed, forks=forks, files=files)
    columns = lived(workload, system, seed)
    return SwaploadRow(
        working_set_bytes=size,
        load_bytes=load,
        forks=forks,
        burst_tables=burst_tables,
        file_bytes=workload.file_pages * (PROCESSES + 1) << PAGE_SHIFT,
        **columns,
    )
