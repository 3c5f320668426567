"""What it costs to live beyond RAM: swapload under several kernels, everything counted that reclaim does (beyond_ram.py).

`crypt`: each kernel a second time, with its areas behind a loop device that encrypts (cache/cryptoloop.py), so that both stand beside each other; and what of the processes' pages can be
read where the areas lie. `bursts`: whoever acts at once takes turns after a burst of work, of 32 page tables at most. With others beside it a row says what hangs on that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product, starmap
from typing import Any

import numpy as np

from rmaplab.cache.area_store import AreaStore
from rmaplab.cache.loop_keys import OPERATION
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.swap_space import behind, parse_swap
from rmaplab.lab.announcement.experiment import NS
from rmaplab.lab.costs.beyond_ram import BeyondRow, boot_beyond, lived
from rmaplab.machine.arrays import U8
from rmaplab.mm.kernel import BURST_TABLES
from rmaplab.units import PAGE_SHIFT, PAGE_SIZE
from rmaplab.workloads.swapload import PROCESSES, Swapload, legible, usual_load

MOST_TABLES = 1024
AT_ONCE = 4096  # pages of an area that are looked at


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
    crypt: str | None
    """The form of the loop devices before its areas; None where they are plain."""
    crypt_s: float
    """Of simulated time, what ciphering has taken. Believed."""
    legible_pages: int | None
    """Pages of the areas, as they lie there at the end, in which a word of a process can be read; None where nobody has looked."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object; sizes in bytes, times in seconds."""
        return {**super().as_json(), "pages_per_s": self.pages_per_s}

    @property
    def area(self) -> str:
        """What it was swapped to."""
        return self.crypt or "plain"

    @property
    def pages_per_s(self) -> float | None:
        """Pages to and from swap by simulated second."""
        return self._moved / self.time_s["real"] if self.time_s["real"] else None

    @property
    def pages_per_wall_s(self) -> float | None:
        """The same by second of ours."""
        return self._moved / self.wall_s if self.wall_s else None

    @property
    def _moved(self) -> int:
        return sum(self.swap.values())


def compare_swapload(
    kernels: Sequence[str],
    box: Box,
    load: int | None,
    seed: int,
    bursts: Sequence[int] = (BURST_TABLES,),
    *,
    forks: bool,
    files: bool = False,
    crypt: str | None = None,
) -> tuple[Iterator[SwaploadRow], int]:
    """Rows, and how many there will be: each kernel with each burst, and with `crypt` on each kind of area. `load` None: the usual one. What can be refused is refused before the first: UsageError."""
    for tables in bursts:
        if not 1 <= tables <= MOST_TABLES:
            raise UsageError(f"a burst of {tables} page tables: give 1 to {MOST_TABLES:,}, such as --bursts 1,8,32")
    boxes = [box] if crypt is None else [box, replace(box, swap=behind(box.swap, crypt))]
    for kernel, each in product(kernels, boxes):
        system = boot_beyond(kernel, each)
        load = usual_load(system.machine.hardware.ram_bytes) if load is None else load
        Swapload(system.machine.hardware.ram_bytes + load, seed, forks=forks, files=files)
        system.close()
    if load is None or load < 1:
        raise UsageError(f"a load of {load} bytes: give what the working set has more than RAM, such as --load 500M")
    runs = (
        run_swapload(kernel, each, load, seed, tables, forks=forks, files=files, looks=crypt is not None)
        for kernel, each, tables in product(kernels, boxes, bursts)
    )
    return runs, len(kernels) * len(boxes) * len(bursts)


def run_swapload(
    kernel: str,
    box: Box,
    load: int,
    seed: int,
    burst_tables: int = BURST_TABLES,
    *,
    forks: bool,
    files: bool = False,
    looks: bool = False,
) -> SwaploadRow:
    """To the end, whatever that is. `looks`: at what lies in the areas then. Raises UsageError; running out of memory is an outcome."""
    system = boot_beyond(kernel, box)
    system.kernel.set_burst(burst_tables)
    size = system.machine.hardware.ram_bytes + load
    workload = Swapload(size, seed, forks=forks, files=files)
    areas = [
        (store, area.max) for store, area in zip(system.kernel.swap.stores, system.kernel.swap.areas.areas, strict=True)
    ]
    columns = lived(workload, system, seed)
    prices = system.machine.ledger.prices.ns
    forms = dict.fromkeys(area.loop.form.name for area in parse_swap(box.swap) if area.loop is not None)
    return SwaploadRow(
        working_set_bytes=size,
        load_bytes=load,
        forks=forks,
        burst_tables=burst_tables,
        file_bytes=workload.file_pages * (PROCESSES + 1) << PAGE_SHIFT,
        crypt=", ".join(forms) or None,
        crypt_s=columns["ledger"].get(OPERATION, 0) * prices.get(OPERATION, 0) / NS,
        legible_pages=sum(starmap(_legible, areas)) if looks else None,
        **columns,
    )


def _legible(store: AreaStore, nr_slots: int) -> int:
    """Pages of an area that could be read by who has its disk."""
    found, disk = 0, store.on_disk
    for first in range(1, nr_slots, AT_ONCE):
        slots = np.arange(first, min(first + AT_ONCE, nr_slots))
        pages: U8 = np.empty((slots.size, PAGE_SIZE), np.uint8)
        disk.read_pages(slots, pages, np.arange(slots.size))
        found += legible(pages)
    return found
