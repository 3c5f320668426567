"""What becomes of a box on which a user shows himself a file in any order: who finds his pages, kernel by kernel (beyond_ram.py).

Beside each such row stands one of the same user with the file shown in order. Where nobody finds pages they stay until he ends, as if they were locked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rmaplab.kernels.box import Box
from rmaplab.lab.costs.beyond_ram import BeyondRow, boot_beyond, lived
from rmaplab.units import PAGE_SHIFT
from rmaplab.workloads.nonlinear_user import BLOCK, NonlinearUser

IN_ORDER, REMAPPED = "in order", "remapped"


@dataclass(frozen=True, kw_only=True)
class NonlinearUserRow(BeyondRow):
    """One kernel, with one kind of window."""

    window: str
    """in order, or remapped."""
    window_bytes: int
    bystander_bytes: int
    most_mapped_bytes: int
    """Of the window, at once."""
    passes: int
    """Of the user over it: 2 if he came to the end."""
    rounds: int
    """Of the bystander."""
    slowest_round_s: float | None
    """Simulated."""


def compare_nonlinear_user(kernels: Sequence[str], box: Box) -> tuple[Iterator[NonlinearUserRow], int]:
    """Rows, and how many there will be: each kernel with both kinds. What can be refused is refused before the first: UsageError."""
    for kernel in kernels:
        system = boot_beyond(kernel, box)
        NonlinearUser(system.machine.hardware.ram_bytes, remapped=True)
        system.close()
    both = ((kernel, remapped) for kernel in kernels for remapped in (False, True))
    return (run_nonlinear_user(kernel, box, remapped=remapped) for kernel, remapped in both), 2 * len(kernels)


def run_nonlinear_user(kernel: str, box: Box, *, remapped: bool, window: int | None = None) -> NonlinearUserRow:
    """To the end, whatever that is. `window` in bytes: as long as RAM if not given. Raises UsageError; that nobody gets on is an outcome."""
    system = boot_beyond(kernel, box)
    workload = NonlinearUser(window or system.machine.hardware.ram_bytes, remapped=remapped)
    columns = lived(workload, system, 0)
    return NonlinearUserRow(
        window=REMAPPED if remapped else IN_ORDER,
        window_bytes=workload.nr_blocks * BLOCK << PAGE_SHIFT,
        bystander_bytes=workload.bystanders_pages << PAGE_SHIFT,
        most_mapped_bytes=workload.most_mapped << PAGE_SHIFT,
        passes=workload.passes,
        rounds=len(workload.rounds_s),
        slowest_round_s=max(workload.rounds_s, default=None),
        **columns,
    )
