"""The programs by which kernels of 2001 to 2004 were judged under pressure, qsbench and make -j: under several kernels, side by side (beyond_ram.py).

Nothing is fitted to what was published for them; docs/pressure.md lays both side by side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.experiment import Watch
from rmaplab.lab.costs.beyond_ram import BeyondRow, Workload, boot_beyond, lived


class Mix(Workload, Protocol):
    """Several processes that begin at once, or one."""

    ends_s: list[float]
    user_s: list[float]

    @property
    def asked(self) -> dict[str, int]:
        """How much of what; sizes in bytes."""


Make = Callable[[int], Mix]
"""A workload for a box with so many bytes of RAM. Raises UsageError."""


@dataclass(frozen=True, kw_only=True)
class MixRow(BeyondRow):
    """One kernel."""

    asked: dict[str, int]
    """What was to be done."""
    major_faults: int
    """That had to wait for the disk."""
    ends_s: list[float]
    """When each process had done what it had to, in simulated time."""
    user_s: list[float]
    """What each of them had had of the CPU by then."""


def compare_mix(kernels: Sequence[str], box: Box, seed: int, make: Make) -> tuple[Iterator[MixRow], int]:
    """Rows, and how many there will be. What can be refused is refused before the first: UsageError."""
    for kernel in kernels:
        system = boot_beyond(kernel, box)
        make(system.machine.hardware.ram_bytes)
        system.close()
    return (run_mix(kernel, box, seed, make) for kernel in kernels), len(kernels)


def run_mix(kernel: str, box: Box, seed: int, make: Make, watch: Watch | None = None) -> MixRow:
    """To the end, whatever that is. `watch` is given the system before it runs. Raises UsageError; running out of memory is an outcome."""
    system = boot_beyond(kernel, box)
    workload = make(system.machine.hardware.ram_bytes)
    counts = system.machine.ledger.counts
    columns = lived(workload, system, seed, watch)
    return MixRow(
        asked=workload.asked,
        major_faults=counts["pgmajfault"],
        ends_s=workload.ends_s,
        user_s=workload.user_s,
        **columns,
    )
