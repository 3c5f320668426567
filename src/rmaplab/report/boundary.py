"""The boundary as maps for the terminal: boot use downwards, swap to the right, a letter for what happens."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Group
from rich.text import Text

from rmaplab.kernels.box import Box
from rmaplab.lab.announcement.boundary import FAILS, LETTERS, NEW, OLD, OTHERWISE, PASSES, REACHES, BoundaryRow, Panel
from rmaplab.lab.announcement.experiment import HUNG, KILLED
from rmaplab.report.emit import Report
from rmaplab.report.tables import Prose
from rmaplab.units import PAGE_SIZE, format_size

STYLES = {"#": "green", "7": "red", "8": "blue", "9": "magenta"}
STYLES |= {LETTERS[letter]: f"{style} dim" for letter, style in STYLES.items()} | {"#": "bold green", "+": "green"}
STYLES |= dict.fromkeys(OTHERWISE.values(), "yellow")
MEANING = {
    "#": f"as published: {OLD} passes {PASSES} and gets ENOMEM in fork at {FAILS}; {NEW} gets none at {REACHES}",
    "7": f"{OLD} gets ENOMEM in fork at level {PASSES} already",
    "8": f"{OLD} passes level {FAILS}",
    "9": f"{NEW} gets ENOMEM in fork at level {REACHES}",
}
MIB = 1 << 20
BY_RUNS = {
    OTHERWISE[KILLED]: "at the first of these levels that goes otherwise, somebody is killed for memory",
    OTHERWISE[HUNG]: "... nobody gets on for a minute, and nobody is killed",
}
NOTES = (
    "The second letter of each: if swapping out moves pages and changes nothing else. A run comes to that where RAM is full.",
    "boot use: beside mem_map. as published: the swap from which and up to which a row has # or +.",
)


@dataclass(frozen=True)
class BoundaryReport(Report[BoundaryRow]):
    """What `boundary` found. `swaps` in bytes, ascending; `box` is what all rows have in common."""

    swaps: Sequence[int]
    box: Box

    def text(self) -> Group:
        """All maps, a legend, and what the runs behind them needed."""
        box = self.box
        parts: list[Text | Prose] = [
            Prose(
                f"Where the announcement's outcome holds: {box.paging}, {box.ram} RAM, {box.cpus} CPUs; swap to the right",
                "bold",
            )
        ]
        for panel, group in groupby(self.rows, key=lambda row: row.panel):
            parts += [Text(), Text(describe(panel)), _ruler(self.swaps)]
            parts += [_line(row, self.swaps) for row in group]
        parts.append(Text())
        for letter, meaning in MEANING.items():
            parts.append(
                Text.assemble((letter, STYLES[letter]), " ", (LETTERS[letter], STYLES[LETTERS[letter]]), f"  {meaning}")
            )
        ran = [cell for row in self.rows for cell in row.seen.values()]
        if ran:
            parts += [Text.assemble((letter, STYLES[letter]), f"    {meaning}") for letter, meaning in BY_RUNS.items()]
            parts += [
                Text(),
                Prose(
                    f"{len(ran)} of these cells were run to the end where they had to swap; --format json has what came of each run."
                ),
            ]
        parts += [Text(), *map(Prose, NOTES)]
        return Group(*parts)


def describe(panel: Panel) -> str:
    """A panel in words."""
    return (
        f"{'HIGHPTE' if panel.highpte else 'no HIGHPTE'}, {panel.line}-byte lines, "
        f"scheduler {panel.scheduler}, overcommit {int(panel.overcommit)} ({panel.overcommit.name.lower()})"
    )


def _ruler(swaps: Sequence[int]) -> Text:
    """Numbers above the columns they stand for, as many as fit."""
    text = [" "] * (len(swaps) + 8)
    free = 0
    for i, swap in enumerate(swaps):
        label = f"{swap // MIB}"
        if i >= free and i + len(label) <= len(text) and (i == 0 or swap % (128 * MIB) == 0):
            text[i : i + len(label)] = label
            free = i + len(label) + 1
    return Text(f"  {'boot use':>9}  {''.join(text).rstrip()} MiB of swap", "dim")


def _line(row: BoundaryRow, swaps: Sequence[int]) -> Text:
    text = Text(f"  {format_size(row.boot_use_bytes):>9}  ")
    for swap in swaps:
        letter = row.cell(swap // PAGE_SIZE)
        text.append(letter, STYLES[letter])
    return text.append(f"  {holds(row)}")


def holds(row: BoundaryRow) -> str:
    """The window of a row in words."""
    window = row.window()
    if window is None:
        return "as published nowhere"
    first, end = window
    inferred = "inferred: " if row.seen else ""
    if end is None:
        return f"{inferred}as published from {format_size(first * PAGE_SIZE)}"
    return f"{inferred}as published from {format_size(first * PAGE_SIZE)} to {format_size(end * PAGE_SIZE)}"
