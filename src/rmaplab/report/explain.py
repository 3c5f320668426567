"""A story as lines: each step a rule, what is said, and drawings; or a historical bug, under the wrong rule and the right one."""

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from rmaplab.kernels.spec import KernelSpec
from rmaplab.lab.explain import Scene
from rmaplab.lab.explain.picture import LEGEND
from rmaplab.lab.explain.scenarios import Scenario
from rmaplab.report.emit import Report
from rmaplab.report.tables import terminal_width, text_width
from rmaplab.rmap.anon_vma_chain import AnonVmaChainMap

WIDTH = 108  # where the terminal has it
MARGIN = 13
POINTER = re.compile(r".*?(-> |\+-- )(\d+  )?")
"""In a drawing, all before the words that an arrow or a branch leads to."""


@dataclass(frozen=True)
class Bug:
    """A historical bug: its calls, and what each rule makes of them. `right` is "" if the rule of 6.18 is."""

    name: str
    about: str
    source: str
    calls: Sequence[str]
    wrong_rule: str
    check: str
    checked_calls: int
    judge: str
    judged_calls: int
    right: str

    @classmethod
    def of(cls, scenario: Scenario) -> "Bug":
        """Run it, three times."""
        calls, right = scenario.run(AnonVmaChainMap)
        checked, broken = scenario.run(scenario.broken)
        unchecked, missed = scenario.run(scenario.broken, checked=False)
        rule = (scenario.broken.__doc__ or "").splitlines()[0]
        found = (rule, broken, len(checked), missed, len(unchecked), right)
        return cls(scenario.name, scenario.about, scenario.source, calls, *found)

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


class BugReport(Report[Bug]):
    """What `explain` says of a historical bug."""

    def text(self) -> str:
        """Its calls, then the verdicts."""
        (bug,) = self.rows
        verdicts = (
            f"the wrong rule: {bug.wrong_rule}",
            f"    check(), after call {bug.checked_calls}: {bug.check}",
            f"    the judge alone, after call {bug.judged_calls}: {bug.judge}",
            "the rule of 6.18",
            f"    {bug.right or f'check() and the judge, after each of the {len(bug.calls)} calls: every page is found'}",
        )
        said = [
            f"{bug.name}: {bug.about}",
            bug.source,
            "",
            *(f"{nr:3}  {call}" for nr, call in enumerate(bug.calls, 1)),
        ]
        lines = list(_as_wide_as_it_takes(said))
        lines.append("")
        for verdict in verdicts:
            indent = " " * (len(verdict) - len(verdict.lstrip()))
            lines += textwrap.wrap(verdict, text_width(WIDTH), subsequent_indent="        ", initial_indent=indent)
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Told:
    """A step of a story."""

    nr: int
    scene: Scene

    def as_json(self) -> dict[str, Any]:
        """A JSON object: the call, what is said, the drawings, and who maps each page that the story follows."""
        scene = self.scene
        return {
            "step": self.nr,
            "call": scene.title,
            "said": list(filter(None, scene.said)),
            "sections": [{"heading": heading, "lines": list(lines)} for heading, lines in scene.sections],
            "who_maps": [
                {"page": page, "mappings": [{"pid": each.mm.pid, "address": each.address} for each in mappings]}
                for page, mappings in scene.answers.items()
            ],
        }

    def lines(self) -> Iterator[Text]:
        """A blank line, the call on a rule, then the rest, each line with its style."""
        yield Text()
        yield from (Text(line, "bold") for line in _title(self.nr, self.scene))
        for style, line in _lines(self.scene):
            yield Text(line, style)


@dataclass(frozen=True)
class StoryReport(Report[Told]):
    """What `explain` tells: a story, on a kernel."""

    story: str
    spec: KernelSpec
    paging: str | None

    def heading(self) -> Iterator[Text]:
        """What is told, on what; what the reverse map's own file says first of it; what the drawings mean."""
        design = self.spec.design_class()
        about = (sys.modules[design.__module__].__doc__ or design.name).strip().splitlines()[0]
        yield Text(f"{self.story}: told by Linux {self.spec.name} on {self.paging}", "bold")
        yield from (Text(line, "bold") for line in textwrap.wrap(about, text_width(WIDTH)))
        yield from (Text(line, "dim") for line in _as_wide_as_it_takes(LEGEND.split("\n")))

    def text(self) -> Text:
        """All of it."""
        lines = [*self.heading(), *(line for step in self.rows for line in step.lines())]
        return Text("\n").join(lines)


def _as_wide_as_it_takes(lines: Sequence[str]) -> Iterator[str]:
    """Broken only where the terminal ends."""
    for line in lines:
        yield from textwrap.wrap(line, terminal_width() or len(line) + 1) or [""]


def _drawn(line: str) -> list[str]:
    """A line of a drawing: where the terminal is too narrow, what an arrow points to goes on below where it begins."""
    pointed = POINTER.match(line)
    indent = " " * (len(pointed[0]) if pointed else len(line) - len(line.lstrip()) + 2)
    if line.startswith("  |"):  # the box goes on
        indent = "  |" + indent[3:]
    width = terminal_width() or len(line) + 1
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _title(nr: int, step: Scene) -> list[str]:
    """The call, on a rule; continued on the next line where it is long."""
    width = text_width(WIDTH)
    lines = textwrap.wrap(step.title, width - 12, subsequent_indent="       ")
    first = f"-- {nr}. {lines[0]} "
    return [first + "-" * max(2, width - len(first)), *lines[1:]]


def _lines(step: Scene) -> list[tuple[str, str]]:
    """A step's text below its title, line by line, each with its style."""
    width = text_width(WIDTH)
    lines = [("", line) for line in textwrap.wrap(" ".join(filter(None, step.said)), width)]
    drew = False
    for heading, body in step.sections:
        if drew or not heading:
            lines.append(("", ""))
        drew = not heading
        if drew:
            lines += [("cyan", part) for line in body for part in _drawn(f"  {line}".rstrip())]
            continue
        for i, text in enumerate(body):
            first = f"{heading if i == 0 else '':<{MARGIN}}"
            wrapped = textwrap.wrap(text, width, initial_indent=first, subsequent_indent=" " * (MARGIN + 2))
            lines += [("", line) for line in wrapped]
    return lines
