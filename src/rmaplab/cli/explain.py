"""`rmaplab explain STORY`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import click

from rmaplab.cli.options import BoxOptions, box_options
from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.kernels.spec import KernelSpec
    from rmaplab.lab.explain import Scene
    from rmaplab.lab.explain.scenarios import Scenario

WIDTH = 108
ONE_BOX = ("kernel", "ram", "swap", "cpus", "paging", "cache_line", "highpte", "split", "boot_use", "overcommit", "ht")
"""Options that a historical bug has no use for."""
MARGIN = 13


@click.command("explain")
@click.argument("story", metavar="STORY")
@click.option("--kernel", default="2.6.5-rc1-aa1", show_default=True, metavar="K", help="A kernel, or KERNEL+DESIGN.")
@box_options
def command(
    story: str,
    kernel: str,
    box: BoxOptions,
) -> None:
    """Tell STORY from a running system, step by step: fork, cow, mremap or who.

    Every address, frame, count and object is read from the system at that step; the answers are compared with the judge,
    who reads all page tables.

    Or one of three historical bugs of anon_vma_chain, on 6.18, with the wrong rule and with the right one: double-reuse
    (CVE-2022-42703), adoption (2010), mremap-merge (2026).
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from rmaplab.kernels.catalogue import find_kernel  # noqa: PLC0415
    from rmaplab.lab.explain import explain  # noqa: PLC0415
    from rmaplab.lab.explain.picture import LEGEND  # noqa: PLC0415
    from rmaplab.lab.explain.scenarios import SCENARIOS  # noqa: PLC0415

    if story in SCENARIOS:
        for name in ONE_BOX:
            if click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise UsageError(f"{story} is told on 6.18 and its box alone: leave --{name.replace('_', '-')} out")
        click.echo("\n".join(scenario_lines(SCENARIOS[story])))
        return
    the_box = box.make([kernel])
    steps = explain(story, kernel, the_box)
    out = Console(highlight=False, soft_wrap=True)
    out.print(Text("\n".join(heading(story, find_kernel(kernel), the_box.paging)), "bold"))
    out.print(Text(LEGEND, "dim"))
    for nr, step in enumerate(steps, 1):
        out.print()
        out.print(Text(step_title(nr, step), "bold"))
        for style, line in step_lines(step):
            out.print(Text(line, style))


def scenario_lines(scenario: Scenario) -> list[str]:
    """A historical bug: its calls, then what each rule makes of them."""
    from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap  # noqa: PLC0415

    calls, right = scenario.run(AnonVmaChainMap)
    checked, broken = scenario.run(scenario.broken)
    unchecked, missed = scenario.run(scenario.broken, checked=False)
    rule = (scenario.broken.__doc__ or "").splitlines()[0]
    verdicts = (
        f"the wrong rule: {rule}",
        f"    check(), after call {len(checked)}: {broken}",
        f"    the judge alone, after call {len(unchecked)}: {missed}",
        "the rule of 6.18",
        f"    {right or f'check() and the judge, after each of the {len(calls)} calls: every page is found'}",
    )
    lines = [f"{scenario.name}: {scenario.about}", scenario.source, ""]
    lines += [f"{nr:3}  {call}" for nr, call in enumerate(calls, 1)]
    lines.append("")
    for verdict in verdicts:
        lines += textwrap.wrap(
            verdict, WIDTH, subsequent_indent="        ", initial_indent=" " * (len(verdict) - len(verdict.lstrip()))
        )
    return lines


def heading(story: str, spec: KernelSpec, paging: str) -> list[str]:
    """What is told, on what; and what the reverse map's own file says first of it."""
    design = spec.design_class()
    about = (sys.modules[design.__module__].__doc__ or design.name).strip().splitlines()[0]
    return [f"{story}: told by Linux {spec.name} on {paging}", *textwrap.wrap(about, WIDTH)]


def step_title(nr: int, step: Scene) -> str:
    """The call, on a rule; continued on the next line where it is long."""
    lines = textwrap.wrap(step.title, WIDTH - 8, subsequent_indent="       ")
    first = f"-- {nr}. {lines[0]} "
    return "\n".join([first + "-" * max(2, WIDTH - len(first)), *lines[1:]])


def step_lines(step: Scene) -> list[tuple[str, str]]:
    """A step's text below its title, line by line, each with its style."""
    lines = [("", line) for line in textwrap.wrap(" ".join(filter(None, step.said)), WIDTH)]
    drew = False
    for heading, body in step.sections:
        if drew or not heading:
            lines.append(("", ""))
        drew = not heading
        if drew:
            lines += [("cyan", f"  {line}".rstrip()) for line in body]
            continue
        for i, text in enumerate(body):
            first = f"{heading if i == 0 else '':<{MARGIN}}"
            wrapped = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * (MARGIN + 2))
            lines += [("", line) for line in wrapped]
    return lines
