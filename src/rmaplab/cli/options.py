"""Options that several verbs share, and where their output goes. Light to import."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.lab.announcement.experiment import Box
    from rmaplab.report.export import JsonRow

F = TypeVar("F", bound=Callable[..., Any])

_CPUS = click.option("--cpus", default=4, show_default=True, metavar="N", help="Number of CPUs.")
_BOX = (
    click.option("--ram", default="1G", show_default=True, metavar="SIZE", help="RAM of the box, such as 512M or 2G."),
    click.option(
        "--swap",
        default="512M",
        show_default=True,
        metavar="SIZE",
        help="Swap; counts for overcommit, nothing is swapped yet.",
    ),
    click.option(
        "--paging",
        default=None,
        metavar="FORMAT",
        help="i386, i386-pae or x86-64.  [default: the first on which all these kernels run; in 2004 i386-pae]",
    ),
    click.option(
        "--cache-line", default=128, show_default=True, metavar="BYTES", help="Cache line: 32, 64 or 128 (Pentium 4)."
    ),
    click.option(
        "--highpte/--no-highpte",
        default=True,
        show_default=True,
        help="Page tables in high memory: 8-byte chain slots under PAE.",
    ),
    click.option(
        "--split",
        default=None,
        metavar="U:K",
        help="Addresses of user and kernel on i386: 3:1 (the default), 2:2 or 4:4.",
    ),
    click.option(
        "--boot-use",
        default=None,
        metavar="SIZE",
        help="What is in use after boot besides mem_map.  [default: the kernel's own figures, 38M]",
    ),
    click.option("--overcommit", default=0, show_default=True, metavar="MODE", help="0 heuristic, 1 always, 2 strict."),
)
_TIME = (
    click.option(
        "--ht",
        default="off",
        show_default=True,
        metavar="HOW",
        help="Hyper-threading, two CPUs to a core: off, on (known to the scheduler as the kernel's is), aware, blind.",
    ),
)
_PRICES = click.option(
    "--prices", metavar="NAME", help="Price list of simulated time.  [default: 2004, with --ht 2004-ht]"
)
_PLOT = click.option(
    "--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw it too, as .png or .svg (needs matplotlib)."
)
PLOTS = ("png", "svg")
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


@dataclass(frozen=True)
class BoxOptions:
    """What was typed about the box. make() builds it, once everything cheaper has been checked."""

    ram: str
    swap: str
    paging: str | None
    cache_line: int
    highpte: bool
    split: str | None
    boot_use: str | None
    overcommit: int
    ht: str = "off"
    prices: str | None = None
    cpus: int = 4

    def make(self, kernels: Sequence[str]) -> Box:
        """The box, for these kernels. What it cannot be, boot() says. Raises UsageError for a kernel there is not."""
        from rmaplab.lab.announcement.experiment import Box  # noqa: PLC0415

        return Box(
            self.ram,
            self.swap,
            self.cpus,
            self.paging or _common_format(kernels),
            self.cache_line,
            self.highpte,
            split=self.split,
            boot_use=self.boot_use,
            overcommit=self.overcommit,
            ht=self.ht,
            prices=self.prices,
        )


def _common_format(kernels: Sequence[str]) -> str:
    """The first format of the first kernel on which all of them run; its first if there is none, and boot() says the rest."""
    from rmaplab.kernels.catalogue import find_kernel  # noqa: PLC0415

    first, *others = [find_kernel(name).architectures for name in kernels]
    return next((name for name in first if all(name in formats for formats in others)), first[0])


def box_options(function: F) -> F:
    """The options that describe a box, passed on as one argument `box`; the default is the announcement's."""
    return _CPUS(box_options_but_cpus(function))


def box_options_but_cpus(function: F) -> F:
    """The same for a verb that has a --cpus of its own."""

    @functools.wraps(function)
    def with_box(**options: Any) -> Any:
        typed = {entry.name: options.pop(entry.name) for entry in fields(BoxOptions) if entry.name in options}
        return function(box=BoxOptions(**typed), **options)

    return _apply(_BOX, with_box)  # type: ignore[return-value]


def time_options(function: F) -> F:
    """--ht and --prices, for the box; above box_options."""
    return _apply(_TIME, prices_option(function))


def prices_option(function: F) -> F:
    """--prices, for the box."""
    return _PRICES(function)


def plot_option(function: F) -> F:
    """--plot."""
    return _PLOT(function)


def output_options(function: F) -> F:
    """--format and --output."""
    return _apply(_OUTPUT, function)


def _apply(options: Sequence[Callable[[Any], Any]], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def check_workload(name: str, known: Iterable[str] = ("forkbench",)) -> None:
    """Raises UsageError for a workload there is not."""
    if name not in known:
        raise UsageError(f"no workload {name!r}: there is {' and '.join(known)}")


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


_EXAMPLES = {
    "levels": "3,6,7",
    "ht": "blind,aware",
    "kernels": "2.6.2,2.6.5-rc1-aa1",
    "boot use": "20M,38M",
    "highpte": "yes,no",
    "lines": "64,128",
    "overcommit": "0,2",
    "schedulers": "own,one-queue",
}


def split_counts(text: str, option: str, example: str = "1,10,100") -> list[int]:
    """Split "1,10,100" into numbers, ascending. Raises UsageError."""
    numbers = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isdecimal() or not int(part):
            raise UsageError(
                f"--{option} {part!r} is not a number from 1 on: write them with commas, such as {example}"
            )
        numbers.add(int(part))
    if not numbers:
        raise UsageError(f"--{option} names no number: write them with commas, such as {example}")
    return sorted(numbers)


def check_output(path: Path | None, option: str = "--output") -> None:
    """Before any work: can the file be written? Raises UsageError."""
    if path is None:
        return
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(f"cannot write {path}: give {option} a file in a directory that exists and is yours")


def emit(results: Sequence[JsonRow], form: str, path: Path | None, table: Callable[[], object]) -> None:
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


def check_plot(path: Path | None, output: Path | None) -> None:
    """Before any work: can the plot be drawn and written? Raises UsageError."""
    if path is None:
        return
    if path.suffix.lower().lstrip(".") not in PLOTS:
        raise UsageError(f"cannot draw {path}: give --plot a file that ends in .png or .svg")
    if path == output:
        raise UsageError(f"--plot and --output are both {path}: give them two files")
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UsageError(f"cannot write {path}: give --plot a file in a directory that exists and is yours")
    try:
        import rmaplab.report.plots  # noqa: F401, PLC0415
    except ImportError:
        raise UsageError("--plot needs matplotlib: install it with pip install 'rmaplab[plot]'") from None


def write_plot(path: Path, draw: Callable[[Path, str], None]) -> None:
    """Have `draw(file, "png" or "svg")` write the plot; the file appears whole or not at all. Raises UsageError."""
    part = path.with_name(path.name + ".part")
    try:
        draw(part, path.suffix.lower().lstrip("."))
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UsageError(f"cannot write {path} ({error.strerror}): try another --plot") from None
