"""The same calls under several rules and kernels, as a table with what comes of it."""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from rmaplab.lab.explain import SideBySide, Trial
from rmaplab.report.emit import Report
from rmaplab.report.tables import Table, new_table, text_width

WIDTH = 108  # where the terminal has it


@dataclass(frozen=True)
class ComparedReport(Report[Trial]):
    """What `explain` says of calls that were made under several rules or kernels."""

    compared: SideBySide

    def text(self) -> Group:
        """The calls, a row per trial, why, and what is to be said of all."""
        compared = self.compared
        calls = [f"{nr:3}  {call}" for nr, call in enumerate(compared.calls, 1)]
        head = [f"{compared.name}: {compared.about}", compared.source, "", *calls]
        parts = [
            self._table([row for row in self.rows if row.part == part])
            for part in dict.fromkeys(row.part for row in self.rows)
        ]
        return Group(_prose(head), *parts, *_prose_if(self._why()), _prose(compared.said(self.rows)))

    def _table(self, rows: list[Trial]) -> Table:
        names = dict.fromkeys(name for row in rows for name in row.found)
        numbers = {name for name in names if all(isinstance(row.found.get(name, 0), int) for row in rows)}
        columns = "|".join(f">{name}" if name in numbers else name for name in names)
        several = len({row.kernel for row in rows}) > 1
        table = new_table(rows[0].part or self.compared.title, f"{'kernel|' if several else ''}_rule|{columns}")
        for row in rows:
            cells = [row.found.get(name, "-") for name in names]
            whose = (row.kernel, row.rule) if several else (row.rule,)
            table.add_row(*whose, *(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells))
        return table

    def _why(self) -> Iterator[str]:
        """Each note once, with all whose it is."""
        for note in dict.fromkeys(note for row in self.rows for note in row.notes):
            whose = (f"{row.kernel}, {row.rule}" for row in self.rows if note in row.notes)
            yield f"{'; '.join(whose)}: {note}"


def _prose(lines: Iterable[str]) -> Text:
    """Lines that are broken where the terminal ends, or at WIDTH; and a blank one."""
    width = text_width(WIDTH)
    parts = [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="     ") or [""]]
    return Text("\n".join([*parts, ""]), no_wrap=True, overflow="ignore")


def _prose_if(lines: Iterable[str]) -> list[Text]:
    said = list(lines)
    return [_prose(said)] if said else []
