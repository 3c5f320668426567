"""A story as lines: each step a rule, what is said, and drawings; or a historical bug, under the wrong rule and the right one."""

import sys
import textwrap

from rmaplab.kernels.spec import KernelSpec
from rmaplab.lab.explain import Scene
from rmaplab.lab.explain.scenarios import Scenario
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap

WIDTH = 108
MARGIN = 13


def scenario_lines(scenario: Scenario) -> list[str]:
    """A historical bug: its calls, then what each rule makes of them."""
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


def heading(story: str, spec: KernelSpec, paging: str | None) -> list[str]:
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
