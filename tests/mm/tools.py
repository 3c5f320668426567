"""What several tests of mm/ ask: of a task's page tables, and of a box that is too small."""

from collections.abc import Callable

import rmaplab
from rmaplab.lab.conformance.pressure_run import PressureRun
from rmaplab.machine.table_reader import read_page_tables


def page_at(system: rmaplab.System, task: rmaplab.Task, at: int) -> int:
    """The PFN that the task's entry at `at` maps."""
    assert task.mm is not None
    present = read_page_tables(system.machine, task.mm.pgd)[0]
    return int(present.pfns[present.addresses == at][0])


class LookedAt(PressureRun):
    """A PressureRun where `look` is asked after each call too, when all has been recounted."""

    look: Callable[[rmaplab.System], None]

    def verify(self) -> None:
        super().verify()
        self.look(self.system)


def pressure(kernel: str, seed: int, nr_calls: int, look: Callable[[rmaplab.System], None]) -> None:
    """So many random calls on a box that is too small for them."""
    run = LookedAt(kernel, seed)
    run.look = look
    run.run(nr_calls)
