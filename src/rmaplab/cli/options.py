"""Options that several verbs share, and where their output goes. Light to import."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.lab.experiment import Box
    from rmaplab.report.export import Row

F = TypeVar("F", bound=Callable[..., Any])

_BOX = (
    click.option("--ram", default="1G", show_default=True, metavar="SIZE", help="RAM of the box, such as 512M or 2G."),
    click.option(
        "--swap",
        default="512M",
        show_default=True,
        metavar="SIZE",
        help="Swap; counts for overcommit, nothing is swapped yet.",
    ),
    click.option("--cpus", default=4, show_default=True, metavar="N", help="Number of CPUs."),
    click.option("--paging", default="i386-pae", show_default=True, metavar="FORMAT", help="i386, i386-pae or x86-64."),
    click.option(
        "--cache-line", default=128, show_default=True, metavar="BYTES", help="Cache line: 32, 64 or 128 (Pentium 4)."
    ),
    click.option(
        "--highpte/--no-highpte",
        default=True,
        show_default=True,
        help="Page tables in high memory: 8-byte chain slots under PAE.",
    ),
)
_OUTPUT = (
    click.option(
        "--format",
        "form",
        default="table",
        show_default=True,
        type=click.Choice(["table", "json", "csv"]),
        help="What to print.",
    ),
    click.option(
        "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write to a file instead of the terminal."
    ),
)


def box_options(function: F) -> F:
    """--ram, --swap, --cpus, --paging, --cache-line, --highpte; the default is the announcement's box."""
    return _apply(_BOX, function)


def output_options(function: F) -> F:
    """--format and --output."""
    return _apply(_OUTPUT, function)


def _apply(options: Sequence[Callable[[Any], Any]], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def make_box(ram: str, swap: str, cpus: int, paging: str, cache_line: int, highpte: bool) -> Box:
    """The box that the options describe."""
    from rmaplab.lab.experiment import Box  # noqa: PLC0415

    return Box(ram, swap, cpus, paging, cache_line, highpte)


def check_workload(name: str) -> None:
    """Raises UsageError for a workload there is not."""
    if name != "forkbench":
        raise UsageError(f"no workload {name!r}: there is forkbench")


def split_names(text: str, what: str) -> list[str]:
    """Split "a,b" into a list without doubles. Raises UsageError where nothing is left."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise UsageError(f"no {what} given: write them with commas, such as {_EXAMPLES[what]}")
    return names


def split_levels(text: str) -> list[int]:
    """Split "3,6,7" into numbers. Raises UsageError."""
    levels = []
    for part in split_names(text, "levels"):
        try:
            levels.append(int(part))
        except ValueError:
            raise UsageError(f"level {part!r} is not a number: write levels with commas, such as 3,6,7") from None
    return levels


_EXAMPLES = {"levels": "3,6,7", "kernels": "2.6.2,2.6.5-rc1-aa1"}


def check_output(path: Path | None) -> None:
    """Before any work: can the file be written? Raises UsageError."""
    if path is None:
        return
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(f"cannot write {path}: give --output a file in a directory that exists and is yours")


def emit(results: Sequence[Row], form: str, path: Path | None, table: Callable[[], object]) -> None:
    """Print results as table, JSON or CSV, or write them; a file appears whole or not at all."""
    from rmaplab.report.export import as_csv, as_json  # noqa: PLC0415
    from rmaplab.report.tables import console, plain  # noqa: PLC0415

    if form == "table" and path is None:
        console().print(table())
        return
    write(as_json(results) if form == "json" else as_csv(results) if form == "csv" else plain(table()), path)


def write(text: str, path: Path | None) -> None:
    """Print a text, or write it; a file appears whole or not at all. Raises UsageError."""
    if path is None:
        click.echo(text, nl=False)
        return
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UsageError(f"cannot write {path} ({error.strerror}): try another --output") from None
