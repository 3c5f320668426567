"""`rmaplab explain`: a story told, or a historical bug shown."""

import click
from rich.console import Console
from rich.text import Text

from rmaplab.cli.work.box import with_paging
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.lab.explain import explain
from rmaplab.lab.explain.picture import LEGEND
from rmaplab.lab.explain.scenarios import SCENARIOS
from rmaplab.report.explain import heading, scenario_lines, step_lines, step_title


def tell(story: str, kernel: str, box: Box, chosen: str | None) -> None:
    """Each step as soon as it is made. `chosen` is an option of kernel or box that was typed: a historical bug has no use for it."""
    if story in SCENARIOS:
        if chosen is not None:
            raise UsageError(f"{story} is told on 6.18 and its box alone: leave {chosen} out")
        click.echo("\n".join(scenario_lines(SCENARIOS[story])))
        return
    the_box = with_paging(box, [kernel])
    steps = explain(story, kernel, the_box)
    out = Console(highlight=False, soft_wrap=True)
    out.print(Text("\n".join(heading(story, find_kernel(kernel), the_box.paging)), "bold"))
    out.print(Text(LEGEND, "dim"))
    for nr, step in enumerate(steps, 1):
        out.print()
        out.print(Text(step_title(nr, step), "bold"))
        for style, line in step_lines(step):
            out.print(Text(line, style))
