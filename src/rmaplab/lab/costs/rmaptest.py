"""What very many VMAs of one file cost whoever makes room: rmap-test under several kernels and indexes, all that is counted (beyond_ram.py).

manyvmas.py walks from pages of such files by itself, where nothing is short; here reclaim does, as often as it must.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rmaplab.kernels.box import Box
from rmaplab.kernels.file_indexes import load_file_index
from rmaplab.lab.costs.beyond_ram import BeyondRow, boot_beyond, lived
from rmaplab.workloads.rmaptest import RmapTest


@dataclass(frozen=True, kw_only=True)
class RmapTestRow(BeyondRow):
    """One kernel, with one index."""

    index: str
    """What finds a page's VMAs; a design's name where that does it, and asks no index."""
    vmas: int
    """Of each of the two processes."""
    file_bytes: int

    @property
    def visits_per_freed(self) -> float | None:
        """None where nothing was freed."""
        return self.visits["all"] / self.freed if self.freed else None

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**super().as_json(), "visits_per_freed": self.visits_per_freed}


def compare_rmap_test(kernels: Sequence[str], indexes: Sequence[str], box: Box) -> tuple[Iterator[RmapTestRow], int]:
    """Rows, and how many there will be: each kernel with each index, or its own. What can be refused is refused before the first: UsageError."""
    for index in indexes:
        load_file_index(index)
    pairs = list[tuple[str, str | None]]()
    for kernel in kernels:
        system = boot_beyond(kernel, box)
        RmapTest(system.machine.hardware.ram_bytes)
        pairs += [
            (kernel, index) for index in (indexes if indexes and not system.kernel.design.covers_files else (None,))
        ]
        system.close()
    return (run_rmap_test(kernel, index, box) for kernel, index in pairs), len(pairs)


def run_rmap_test(kernel: str, index: str | None, box: Box) -> RmapTestRow:
    """To the end, whatever that is. Raises UsageError; running out of memory is an outcome."""
    system = boot_beyond(kernel, replace(box, file_index=index))
    workload = RmapTest(system.machine.hardware.ram_bytes)
    design = system.kernel.design
    probe = system.new_file(size=0)
    columns = lived(workload, system, 0)
    return RmapTestRow(
        index=design.name if design.covers_files else probe.i_mmap.name,
        vmas=workload.vmas,
        file_bytes=workload.file_bytes,
        **columns,
    )
