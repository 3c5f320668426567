"""`rmaplab run`: the fork benchmark on one kernel."""

from typing import Any

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import make_box
from rmaplab.lab.announcement.experiment import compare_forkbench
from rmaplab.report.emit import emit
from rmaplab.report.results import OneRun


def run(kernel: str, level: int, box: dict[str, Any], out: Output) -> None:
    """Run it, and show everything that was counted."""
    the_box = make_box(box, [kernel])
    emit(OneRun(list(compare_forkbench([kernel], [level], [the_box])), the_box), *out)
