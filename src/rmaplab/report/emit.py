"""What a verb has found, in the form that was asked for, and where it goes.

Report    rows      for programs: as JSON, a list of objects, or as CSV, nested keys joined by dots
          text()    for a person: a text, or what rich can print
emit()    makes one of the three of it, and prints or writes that
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import click
from rich.text import Text

from rmaplab.errors import UsageError
from rmaplab.files import write_text
from rmaplab.harmless import harmless, printable
from rmaplab.report.tables import console, plain


class Row(Protocol):
    """What an experiment yields."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Report(ABC, Generic[R]):
    """What a verb has found."""

    rows: Sequence[R]

    @abstractmethod
    def text(self) -> object:
        """For a person: a str or a Text, lines that are never broken, or tables."""

    def as_json(self) -> Any:
        """What is written as JSON: an object per row, if nothing stands beside the rows."""
        return [row.as_json() for row in self.rows]

    def stamp(self) -> dict[str, Any]:
        """Columns of CSV before those of a row, the same in all rows."""
        return {}


def emit(report: Report[Any], form: str, path: Path | None = None) -> None:
    """Print a report as `form`, "json", "csv" or "table", or write it. Raises UsageError for a file that cannot be written."""
    if form == "json":
        shown: object = json.dumps(report.as_json(), indent=2) + "\n"
    else:
        shown = _as_csv(report) if form == "csv" else report.text()
    if path is None and not isinstance(shown, str):
        console().print(shown, soft_wrap=isinstance(shown, Text))
        return
    text = harmless(shown if isinstance(shown, str) else plain(shown))
    if path is None:
        click.echo(text, nl=False)
    else:
        try:
            write_text(path, "--output", text)
        except UsageError:
            click.echo(text, nl=False)  # what was found is not lost
            raise


def _as_csv(report: Report[Any]) -> str:
    """A header and a line per row; a key that a row does not have is empty."""
    rows = [dict(_flatten("", {**report.stamp(), **row.as_json()})) for row in report.rows]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: printable(v) if isinstance(v, str) else v for key, v in row.items()} for row in rows)
    return text.getvalue()


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
    return [(prefix, value)] if value is not None else []
