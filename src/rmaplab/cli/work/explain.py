"""`rmaplab explain`: a story told, or a historical bug shown."""

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.explain import explain
from rmaplab.lab.explain.scenarios import SCENARIOS
from rmaplab.report.emit import emit
from rmaplab.report.explain import Bug, BugReport, StoryReport, Told
from rmaplab.report.tables import console, show


def tell(story: str, kernel: str, box: Box, chosen: str | None, out: Output) -> None:
    """On stdout each step as soon as it is made. `chosen` is an option of kernel or box that was typed: a bug has no use for it."""
    if story in SCENARIOS:
        if chosen is not None:
            raise UsageError(f"{story} is told on 6.18 and its box alone: leave {chosen} out")
        emit(BugReport([Bug.of(SCENARIOS[story])]), *out)
        return
    the_box = with_paging(box, [kernel])
    steps = (Told(nr, scene) for nr, scene in enumerate(explain(story, kernel, the_box), 1))
    told = StoryReport([], story, find_kernel(kernel), the_box.paging)
    if out.form != "table" or out.path is not None:
        emit(StoryReport(list(steps), story, told.spec, told.paging), *out)
        return
    terminal = console()
    for line in told.heading():
        show(terminal, line)
    for step in steps:
        for line in step.lines():
            show(terminal, line)
