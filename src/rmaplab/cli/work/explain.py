"""`rmaplab explain`: a story told, a historical bug shown, or rules and kernels compared."""

from rmaplab.cli.options import Output
from rmaplab.cli.work.box import with_paging
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.explain import COMPARED, explain
from rmaplab.lab.explain.scenarios import SCENARIOS
from rmaplab.report.emit import emit
from rmaplab.report.explain import Bug, BugReport, StoryReport, Told
from rmaplab.report.explain_compared import ComparedReport
from rmaplab.report.tables import console, show


def tell(story: str, kernel: str, box: Box, chosen: str | None, out: Output) -> None:
    """On stdout each step as soon as it is made. `chosen` is an option of kernel or box that was typed: only stories have a use for it."""
    if story in SCENARIOS or story in COMPARED:
        if chosen is not None:
            raise UsageError(f"{story} has kernels and a box of its own: leave {chosen} out")
        if story in SCENARIOS:
            emit(BugReport([Bug.of(SCENARIOS[story])]), *out)
        else:
            compared = COMPARED[story]
            emit(ComparedReport(list(compared.run()), compared), *out)
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
