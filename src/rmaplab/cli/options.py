"""Options that several verbs share, and what is typed for them: gathered, taken apart, checked. Light to import."""

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from math import nan
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from rmaplab.errors import UsageError, did_you_mean
from rmaplab.files import STDOUT, check_writable
from rmaplab.harmless import printable

LONGEST = 1e9  # seconds
GDB_PORT = "1234"
COULD_NOT_END = 125
"""The exit status of a run that has not come to its end."""
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

FILE: dict[str, Any] = {"metavar": "FILE", "type": click.Path(path_type=Path)}
plot_option = click.option("--plot", **FILE, help="Draw it too, as .png or .svg (needs matplotlib).")
paging_option = click.option(
    "--paging", metavar="FORMAT", help="i386, i386-pae or x86-64; the kernel's own if not given."
)
form_option = click.option(
    "--format", "form", default="table", type=click.Choice(["table", "json", "csv"]), help="What to print."
)
vmstat_option = click.option(
    "--vmstat",
    metavar="SECONDS",
    help="A line of vmstat(8) every so many simulated seconds; with --format json or csv on stderr.",
)


def _gdb(context: click.Context, parameter: click.Parameter, typed: str | None) -> tuple[str, int] | None:
    """Where to listen for gdb. Raises UsageError."""
    if typed is None:
        return None
    host, _, port = typed.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise UsageError(
            f"--gdb {printable(typed)}: give a port, such as {GDB_PORT}, HOST:PORT, or nothing (and -- before a program)"
        )
    return host.strip("[]") or "127.0.0.1", int(port)


gdb_option = click.option(
    "--gdb",
    is_flag=False,
    flag_value=GDB_PORT,
    metavar="[PORT]",
    callback=_gdb,
    help=f"Wait for gdb (target remote :PORT), on 127.0.0.1 unless HOST:PORT says otherwise; 0: any. Before a PROGRAM write --.  [{GDB_PORT} if none is said]",
)
_OUTPUT = (form_option, click.option("--output", "path", **FILE, help="Write to a file instead of the terminal."))
_TABLES = (
    click.option(
        "--columns", metavar="NAME,...", help="Columns of tables, besides the first.  [default: all that fit]"
    ),
    click.option("--all", "every", is_flag=True, help="All columns, however narrow the terminal is."),
)


class Verbs(click.Group):
    """A group that knows what a mistyped command may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it. Raises click.UsageError, for a command there is not with the one that is like it."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}{did_you_mean(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)


# -- several options as one argument -------------------------------------------------------------------------------------


class Output(NamedTuple):
    """What to print, and where: into a file, or on the terminal (None); of tables these columns (none: all that fit), or `every`."""

    form: str
    path: Path | None = None
    columns: Sequence[str] = ()
    every: bool = False


def _output(form: str, path: Path | None, columns: str | None = None, *, every: bool = False) -> Output:
    """Raises UsageError for columns where there is no table, or that are no choice."""
    if form != "table" and (columns is not None or every):
        raise UsageError(
            f"--columns and --all are for tables: leave them out with --format {form}, which has everything"
        )
    if columns is not None and every:
        raise UsageError("--columns and --all: give one of them")
    path = None if str(path) in STDOUT else path
    return Output(form, path, () if columns is None else split_names(columns, "columns"), every)


def output_options(function: F) -> F:
    """--format, --output, --columns and --all, passed on as one argument `out`."""
    return applied(_TABLES, output_options_without_tables(function))


def output_options_without_tables(function: F) -> F:
    """The same for a verb that shows no tables: --format and --output."""
    return applied(_OUTPUT, gathered(function, "out", Output._fields, _output))


def gathered(function: F, argument: str, names: Sequence[str], record: Callable[..., object]) -> F:
    """`function` with the options of these names, as far as it has them, passed on as one `argument`, a `record`."""

    @functools.wraps(function)
    def with_record(**options: Any) -> Any:
        typed = {name: options.pop(name) for name in names if name in options}
        return function(**{argument: record(**typed)}, **options)

    return with_record  # type: ignore[return-value]


def applied(options: Sequence[Callable[[Any], Any]], function: F) -> F:
    """`function` with these options, in this order in its help."""
    for option in reversed(options):
        function = option(function)
    return function


# -- what was typed ------------------------------------------------------------------------------------------------------


def first_typed(names: Iterable[str]) -> str | None:
    """The first option of these that stands on the command line, as it is typed there; None if none does."""
    context = click.get_current_context()
    written = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            return written[name]
    return None


def check_workload(name: str, known: Iterable[str] = ("forkbench",)) -> None:
    """Raises UsageError for a workload there is not."""
    if name not in known:
        raise UsageError(f"no workload {name!r}{did_you_mean(name, known)}: choose from {', '.join(known)}")


def check_files(output: Path | None, path: Path | None) -> None:
    """Before any work: can --output be written, and --plot be drawn and written? Raises UsageError."""
    check_writable(output)
    if path is None:
        return
    if path.suffix.lower().lstrip(".") not in ("png", "svg"):
        raise UsageError(f"cannot draw {path}: give --plot a file that ends in .png or .svg")
    if path == output:
        raise UsageError(f"--plot and --output are both {path}: give them two files")
    check_writable(path, "--plot")
    try:
        import_module("rmaplab.report.plots")
    except ImportError:
        raise UsageError("--plot needs matplotlib: install it with pip install 'rmaplab[plot]'") from None


def nanoseconds(text: str, option: str) -> int:
    """Seconds, as many nanoseconds. Raises UsageError for what is no time, or none that passes."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not 1e-9 <= seconds <= LONGEST:
        raise UsageError(f"--{option} {text!r}: give a number of seconds above 0, such as 1 or 0.1")
    return round(seconds * 10**9)


_EXAMPLES = {
    "columns": "kernel,wall",
    "levels": "3,6,7",
    "ht": "blind,aware",
    "kernels": "2.6.2,2.6.5-rc1-aa1",
    "boot use": "20M,38M",
    "highpte": "yes,no",
    "lines": "64,128",
    "overcommit": "0,2",
    "schedulers": "own,one-queue",
    "tests": "rmap-test-1,test-mmap",
    "indexes": "list,prio_tree",
    "ram": "8G,16G",
    "split": "3:1,4:4",
}


def split_names(text: str, what: str) -> list[str]:
    """Split "a,b" into a list without doubles. Raises UsageError where nothing is left."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise UsageError(f"no {what} given: write them with commas, such as {_EXAMPLES[what]}")
    return names


def split_choices(text: str, option: str, choices: dict[str, T]) -> list[T]:
    """Split "a,b" into what these words mean. Raises UsageError for another word."""
    names = split_names(text, option)
    for name in names:
        if name not in choices:
            raise UsageError(f"--{option} {name!r}: choose from {', '.join(choices)}")
    return [choices[name] for name in names]


def split_levels(text: str) -> list[int]:
    """Split "3,6,7" into numbers. Raises UsageError."""
    levels = []
    for part in split_names(text, "levels"):
        try:
            levels.append(int(part))
        except ValueError:
            raise UsageError(f"level {part!r} is not a number: write levels with commas, such as 3,6,7") from None
    return levels


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
