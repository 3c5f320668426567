"""What kernels made of a recorded program: a table, what differs from the host, what was not understood, and how it went over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group

from rmaplab.harmless import printable
from rmaplab.lab.replay.plan import Plan
from rmaplab.lab.replay.run import OK, ReplayResult
from rmaplab.report.emit import Report
from rmaplab.report.tables import DASH, Prose, Table, new_table
from rmaplab.units import format_number, format_size

MOST_NAMES = 12
"""Names in a line of those that are counted; all of them are in the JSON."""
CAPTION = (
    "calls: of the program, made here. differ: came to something else than on the host. lost: need what an earlier call that failed here should have made.\n"
    "VMAs: of all processes, at most and at the end. merges, splits: of VMAs. reverse map: the design's objects and what it adds to VMAs and mms, at most."
)


@dataclass(frozen=True)
class ReplayReport(Report[ReplayResult]):
    """What `replay` found of the log called `name`."""

    plan: Plan
    name: str
    shows_samples: bool = False

    def text(self) -> Group:
        """Tables and lines."""
        parts: list[object] = [_table(self.rows, self.name, self.plan)]
        if self.shows_samples:
            parts += [Prose(""), _over_time(self.rows)]
        said = ["", *_outcomes(self.rows), *_differences(self.rows), *_misunderstood(self.plan)]
        return Group(*parts, Prose("\n".join(said)))  # type: ignore[arg-type]

    def as_json(self) -> dict[str, Any]:
        """The log, then a row for each kernel."""
        plan = self.plan
        log = {
            "name": printable(self.name),
            "lines": plan.nr_lines,
            "calls": plan.nr_calls,
            "processes": plan.nr_processes,
            "passed_over": dict(sorted(plan.passed.items())),
            "not_understood": dict(sorted(plan.misunderstood.items())),
        }
        return {"log": log, "rows": [row.as_json() for row in self.rows]}

    def stamp(self) -> dict[str, Any]:
        """Plan CSV: the log's name, and how much of it was not understood."""
        return {"log": self.name, "not_understood": self.plan.misunderstood.total()}


def _table(rows: Sequence[ReplayResult], name: str, plan: Plan) -> Table:
    first = rows[0]
    ram, arch = format_size(first.hardware["ram_bytes"]), first.hardware["arch"]
    calls, who = format_number(plan.nr_calls, "call"), format_number(plan.nr_processes, "process")
    if any(plan.threads):
        who = f"{plan.nr_processes:,} processes and threads"
    table = new_table(
        f"{printable(name)}: {calls} of {who}, on {arch} with {ram} of RAM; touched: {first.touch}",
        "kernel|design|>calls|>differ|>lost|>forks|>faults|>processes|>VMAs|>at the end|>merges|>splits|>page tables|>reverse map|_objects|>wall",
        caption=CAPTION,
        leave_out="wall|at the end|objects|splits|lost|processes|design",
    )
    for row in rows:
        table.add_row(
            row.kernel,
            row.design,
            f"{row.nr_calls:,}",
            f"{sum(each['times'] for each in row.differs):,}",
            f"{sum(row.lost.values()):,}",
            f"{row.forks:,}",
            f"{row.faults:,}",
            f"{row.processes_peak:,}",
            f"{row.vmas_peak:,}",
            f"{row.vmas:,}",
            f"{row.merges:,}",
            f"{row.splits:,}",
            format_size(row.page_tables_peak_bytes),
            format_size(row.rmap_peak_bytes),
            ", ".join(f"{nr:,} {name}" for name, nr in row.objects_peak.items()) or DASH,
            f"{row.wall_s:.2f} s",
        )
    return table


def _over_time(rows: Sequence[ReplayResult]) -> Table:
    table = new_table(
        "over the log's calls",
        ">calls|kernel|>line|>processes|>VMAs|>merges|>page tables|>reverse map|>faults",
        leave_out="line|faults|processes",
    )
    for row in rows:
        for sample in row.over_time:
            table.add_row(
                f"{sample.calls:,}",
                row.kernel,
                f"{sample.line:,}",
                f"{sample.processes:,}",
                f"{sample.vmas:,}",
                f"{sample.merges:,}",
                format_size(sample.page_tables_bytes),
                format_size(sample.rmap_bytes),
                f"{sample.faults:,}",
            )
        table.add_section()
    return table


def _outcomes(rows: Sequence[ReplayResult]) -> list[str]:
    return [
        f"{row.kernel}: {row.outcome} at line {row.line:,} of the log: the rest was not played; try --ram with more, or --touch used"
        for row in rows
        if row.outcome != OK
    ]


def _differences(rows: Sequence[ReplayResult]) -> list[str]:
    """Which calls have come to something else, and on which kernels; what a kernel's model refuses; what was lost."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        for each in row.differs:
            said = f"{each['call']}: {each['host']} on the host, {each['here']} here ({_times(each['times'])})"
            lines.setdefault(said, []).append(row.kernel)
        for call, times in row.not_modelled.items():
            lines.setdefault(f"{call}: not modelled ({_times(times)})", []).append(row.kernel)
        for call, times in row.lost.items():
            lines.setdefault(f"{call}: lost, it is about what is not there ({_times(times)})", []).append(row.kernel)
    return [f"{', '.join(kernels)}: {said}" for said, kernels in lines.items()]


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times:,} times"


def _misunderstood(plan: Plan) -> list[str]:
    """One line of what the log says and nobody understands, and how much was passed over."""
    lines = []
    if plan.misunderstood:
        lines.append(f"not understood: {_counted(plan.misunderstood.most_common())}")
    if plan.passed:
        lines.append(
            f"passed over, nobody's memory: {format_number(plan.passed.total(), 'call')} ({_counted(plan.passed.most_common(), 5)})"
        )
    return lines


def _counted(pairs: Sequence[tuple[str, int]], most: int = MOST_NAMES) -> str:
    said = ", ".join(f"{printable(name)} {times:,}" for name, times in pairs[:most])
    return said if len(pairs) <= most else f"{said} and {len(pairs) - most:,} more names"
