"""What several tests of mm/ ask of a task's page tables."""

import rmaplab
from rmaplab.machine.table_reader import read_page_tables


def page_at(system: rmaplab.System, task: rmaplab.Task, at: int) -> int:
    """The PFN that the task's entry at `at` maps."""
    assert task.mm is not None
    present = read_page_tables(system.machine, task.mm.pgd)[0]
    return int(present.pfns[present.addresses == at][0])
