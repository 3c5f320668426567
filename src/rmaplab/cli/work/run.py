"""`rmaplab run`: the fork benchmark on one kernel."""

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.experiment import compare_forkbench
from rmaplab.report.emit import emit
from rmaplab.report.results import OneRun


def run(kernel: str, level: int, box: Box, out: Output) -> None:
    """Run it, and show everything that was counted."""
    the_box = with_paging(box, [kernel])
    emit(OneRun(list(compare_forkbench([kernel], [level], [the_box])), the_box), *out)
