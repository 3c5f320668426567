"""What a verb has found, in the form that was asked for, and where it goes.

Report     rows      for programs: as JSON, or as CSV, nested keys joined by dots, lists as JSON
           text()    for a person: a text, or what rich can print
as_json    an object for JSON: {"made_by": ..., "rows": [...]}, or made_by before the keys of a report that is an object itself
in_json    its text
emit()     makes one of the three of it, and prints or writes that

made_by says how to make it again (`rmaplab rerun`): schema_version, command, seed if there is one, date, versions.
"""

import io
import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import click

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.files import write_text
from rmaplab.harmless import harmless, printable
from rmaplab.report.tables import Room, console, new_table, plain, show, terminal_width, within

SCHEMA_VERSION = 1


class Row(Protocol):
    """What an experiment yields."""

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Report(ABC, Generic[R]):
    """What a verb has found."""

    columns: ClassVar[str] = ""
    """All that its tables may have, as new_table takes them, but for those that a number names; "" where its rows decide."""
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


def emit(
    report: Report[Any], form: str, path: Path | None = None, columns: Sequence[str] = (), every: bool = False
) -> None:
    """Print a report as `form`, "json", "csv" or "table", or write it.

    Of tables `columns` are shown (none: as many as the terminal has room for, or `every`; all in a pipe or a file). Raises UsageError
    for a file that cannot be written, and for a column there is not: everything is shown before it is raised.
    """
    room = Room(None if every or path is not None else terminal_width(), columns)
    text = in_json(report, indent=2) + "\n" if form == "json" else _as_csv(report) if form == "csv" else None
    with within(room):
        shown, drawn = _drawn(report) if text is None else (text, harmless(text))
    wrong = [name for name in columns if name not in room.found]
    if wrong:
        emit(report, form, path)
        raise _no_column(wrong[0], room)
    if path is not None:
        try:
            write_text(path, "--output", drawn)
        except UsageError:
            click.echo(drawn, nl=False)  # what was found is not lost
            raise
    elif isinstance(shown, str) or not console().is_terminal:
        click.echo(drawn, nl=False)
    else:
        with within(room):
            show(console(), shown)


def in_text(
    report: Report[Any], form: str, path: Path | None = None, columns: Sequence[str] = (), every: bool = False
) -> str:
    """A report as `form`, for a stream that is not stdout."""
    if form != "table":
        return in_json(report, indent=2) + "\n" if form == "json" else _as_csv(report)
    with within(Room(None if every else terminal_width(), columns)):
        return _drawn(report)[1]


def check_columns(kind: type[Report[Any]], columns: Sequence[str]) -> None:
    """Before anything is run for such a report. Raises UsageError for a column that none of its tables can have."""
    room = Room(None, columns)
    room.asked([column.name for column in new_table(None, kind.columns).columns])
    for name in columns if kind.columns else ():
        if name not in room.found and not name[:1].isdigit():
            raise _no_column(name, room)


def _drawn(report: Report[Any]) -> tuple[object, str]:
    """(What it shows on a terminal, the same as it goes to a pipe or a file.)"""
    shown = report.text()
    return shown, harmless(shown if isinstance(shown, str) else plain(shown))


def _no_column(wrong: str, room: Room) -> UsageError:
    between = "; " if any("," in name for name in room.known) else ", "
    return UsageError(f"no column {wrong!r}{did_you_mean(wrong, room.known)}: there are {between.join(room.known)}")


def in_json(report: Report[Any], indent: int | None = None) -> str:
    """That as a text, in one line if nothing is said."""
    import json  # noqa: PLC0415  (a table needs none)

    return json.dumps(as_json(report), indent=indent)


def as_json(report: Report[Any]) -> dict[str, Any]:
    """What is written as JSON: how it was made, then what was found."""
    found = report.as_json()
    return {"made_by": made_by()} | (found if isinstance(found, dict) else {"rows": found})


def made_by() -> dict[str, Any]:
    """The command that is running, and what with: cli/ keeps our version and what was typed in click's context.

    The seed is that of its --seed.
    """
    context = click.get_current_context(silent=True)
    version, typed = (context.find_root().obj or (None, ())) if context else (None, ())
    seed = context.params.get("seed") if context else None
    return {
        "schema_version": SCHEMA_VERSION,
        "command": ["rmaplab", *typed] if version else None,
        **({} if seed is None else {"seed": seed}),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {"rmaplab": version, "Python": platform.python_version(), "kernel": os.uname().release},
    }


def _as_csv(report: Report[Any]) -> str:
    """A header and a line per row; a key that a row does not have is empty."""
    import csv  # noqa: PLC0415

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
    if isinstance(value, list | tuple):
        import json  # noqa: PLC0415

        value = json.dumps(value)  # a list has no columns of its own
    return [(prefix, value)] if value is not None else []
