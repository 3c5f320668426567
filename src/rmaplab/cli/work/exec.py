"""`rmaplab exec`: a program on one kernel, or on several."""

import os
import select
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, NamedTuple

import click

from rmaplab.cli.options import COULD_NOT_END, Output
from rmaplab.cli.work.gdb import Debugging
from rmaplab.cpu.start import NOT_SHOWN
from rmaplab.cpu.userland import Bounds, Userland
from rmaplab.errors import UsageError
from rmaplab.harmless import harmless, printable
from rmaplab.kernels.box import Box
from rmaplab.kernels.catalogue import find_kernel
from rmaplab.kernels.system import System
from rmaplab.lab.announcement.experiment import OK
from rmaplab.lab.programs.executed import Asked, Executed, execute, width_of
from rmaplab.lab.programs.trace import Trace
from rmaplab.report.emit import emit, in_text
from rmaplab.report.executed import ProgramCosts
from rmaplab.units import parse_size

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HERE = {"PATH": DEFAULT_PATH, "HOME": "/root", "LANG": "C.UTF-8", "SHELL": "/bin/sh", "USER": "root"}
PASSED_ON = ("TERM", "COLUMNS", "LINES")
QUIET = ("SIGINT", "SIGPIPE", "SIGTERM")
"""Ends that a shell does not speak of."""
PATIENCE_S = 1


class TypedBounds(NamedTuple):
    """What ends a run, as it was typed."""

    output: str
    processes: int
    blocks: str
    seconds: int


class Seen(NamedTuple):
    """What of the host a program sees, as it was typed."""

    root: str
    scratch: str | None
    env: Sequence[str]
    date: str
    seed: int
    limits: TypedBounds


def run(
    program: Sequence[str],
    kernels: Sequence[str],
    box: Box,
    out: Output,
    seen: Seen,
    *,
    stats: bool,
    compared: bool,
    timeline: Path | None,
    gdb: tuple[str, int] | None = None,
) -> int:
    """Run it on each kernel: the exit status, the first kernel's. Raises UsageError."""
    asked = _asked(program, seen)
    boxes = [_with_tables(box, kernel, asked) for kernel in kernels]
    rows, outputs = list[Executed](), list[bytes]()
    traces, debugging = list[Trace](), Debugging(gdb, "task")

    def watch(system: System, userland: Userland) -> None:
        if timeline is not None:
            traces.append(Trace(system, userland))
        debugging.begin(system)

    if len(kernels) == 1:
        try:
            rows.append(execute(kernels[0], boxes[0], asked, watch=watch))
        finally:
            debugging.end(_status(rows))
    else:
        given = _all_input()
        for kernel, its_box in zip(kernels, boxes, strict=True):
            row, output = _captured(kernel, its_box, asked, given, shown=not rows)
            rows.append(row)
            outputs.append(output)
    if timeline is not None:
        traces[0].write(timeline)
    _tell(rows, outputs)
    if stats or compared or out.path is not None or out.form != "table":
        if out.path is not None:
            emit(ProgramCosts(rows), *out)
        else:
            click.echo(in_text(ProgramCosts(rows), *out), err=True, nl=False)
    return _status(rows)


def _status(rows: Sequence[Executed]) -> int:
    """The exit status, for the shell and for gdb."""
    status = rows[0].status if rows else None
    return COULD_NOT_END if status is None else status


def _asked(program: Sequence[str], seen: Seen) -> Asked:
    environment = dict(HERE) | {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for each in seen.env:
        name, is_said, value = each.partition("=")
        if not name:
            raise UsageError(f"--env {printable(each)}: give NAME=VALUE, or NAME")
        if not is_said and name not in os.environ:
            raise UsageError(f"--env {printable(name)}: there is no such variable here: give NAME=VALUE")
        environment[name] = value if is_said else os.environ[name]
    if seen.scratch is not None and Path(seen.scratch).exists() and not os.access(seen.scratch, os.W_OK | os.X_OK):
        raise UsageError(f"--scratch {printable(seen.scratch)}: give a directory that can be written to")
    if seen.scratch is not None and Path(seen.scratch).exists() and not Path(seen.scratch).is_dir():
        raise UsageError(f"--scratch {printable(seen.scratch)}: give a directory, not a file")
    root = os.path.realpath(seen.root)
    here = os.path.realpath(".")
    cwd = "/" + os.path.relpath(here, root) if os.path.commonpath((root, here)) == root else "/"
    if f"{os.path.normpath(cwd)}/".startswith(NOT_SHOWN):
        click.echo(
            harmless(
                f"rmaplab: nothing of {cwd} is shown to programs, so this one works in /: cd elsewhere, or give --root\n"
            ),
            err=True,
            nl=False,
        )
        cwd = "/"
    limits = seen.limits
    bounds = Bounds(
        output_bytes=_positive(limits.output, "--output-limit"),
        blocks=_positive(limits.blocks, "--blocks"),
        processes=limits.processes,
        simulated_s=limits.seconds,
    )
    words = tuple(os.fsencode(word) for word in program)
    strings = tuple(
        os.fsencode(f"{name}={value}") for name, value in {**environment, "PWD": os.path.normpath(cwd)}.items()
    )
    return Asked(words, strings, seen.root, os.path.normpath(cwd), seen.scratch, bounds, seen.seed, _boot_ns(seen.date))


def _boot_ns(day: str) -> int:
    """The beginning of a day, in UTC, or now. Raises UsageError."""
    if day == "now":
        return int(time.time()) * 10**9
    try:
        found = date.fromisoformat(day)
    except ValueError:
        raise UsageError(f"--date {printable(day)}: give YYYY-MM-DD, or now") from None
    return int(datetime.combine(found, datetime.min.time(), UTC).timestamp()) * 10**9


def _positive(text: str, option: str) -> int:
    value = parse_size(text)
    if value <= 0:
        raise UsageError(f"{option} {printable(text)}: give more than 0")
    return value


def _with_tables(box: Box, kernel: str, asked: Asked) -> Box:
    """The box, with page tables that this program can run on. Raises UsageError: there are none."""
    spec = find_kernel(kernel)
    if box.paging:
        return box
    bits = width_of(asked, kernel)
    formats = [name for name in spec.architectures if (name == "x86-64") == (bits == 64)]
    if not formats:
        raise UsageError(
            f"{kernel} has no tables here for programs of {bits} bits: try one of the kernels of 2004, or a program of 64 bits"
        )
    return replace(box, paging=formats[0])


def _captured(kernel: str, box: Box, asked: Asked, given: bytes, *, shown: bool) -> tuple[Executed, bytes]:
    """One of several runs: its stdin is what all of them are given, its output is shown if it is the first."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(given)
        stdin.seek(0)
        with Path(os.devnull).open("wb") as nowhere:
            row = execute(kernel, box, asked, (stdin.fileno(), stdout.fileno(), 2 if shown else nowhere.fileno()))
        stdout.seek(0)
        output = stdout.read()
    if shown:
        _write(sys.stdout.buffer, output)
    return row, output


def _write(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
    stream.flush()


def _all_input() -> bytes:
    """What all kernels are given: read to its end before the first begins."""
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode) and not select.select([sys.stdin], [], [], PATIENCE_S)[0]:
        click.echo(
            "rmaplab: stdin is read to its end first, since every kernel is given it; </dev/null gives none", err=True
        )
    return sys.stdin.buffer.read()


def _tell(rows: Sequence[Executed], outputs: Sequence[bytes]) -> None:
    """What is to be said beside the program's own words."""
    for row in rows:
        who = f"{row.kernel}: " if len(rows) > 1 else ""
        if row.status is None:
            click.echo(harmless(f"rmaplab: {who}{row.outcome}: {row.why}\n"), err=True, nl=False)
        if row.unknown_calls:
            told = ", ".join(f"{name} ({nr:,})" for name, nr in row.unknown_calls.items())
            click.echo(harmless(f"rmaplab: {who}answered with ENOSYS: {told}\n"), err=True, nl=False)
        for name, why in row.not_modelled.items():
            click.echo(harmless(f"rmaplab: {who}{name}: {why}\n"), err=True, nl=False)
        if row.left_out:
            click.echo(
                f"rmaplab: {who}not written out: {', '.join(row.left_out[:5])}{' ...' if len(row.left_out) > 5 else ''}",
                err=True,
            )
        if row.outcome not in (OK, *QUIET) and row.status is not None:
            click.echo(f"rmaplab: {who}ended by {row.outcome}", err=True)
    for row, output in zip(rows[1:], outputs[1:], strict=True):
        if output != outputs[0] or row.status != rows[0].status:
            click.echo(
                f"rmaplab: the output or the exit status on {row.kernel} differs from {rows[0].kernel}'s", err=True
            )
