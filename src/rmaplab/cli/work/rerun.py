"""`rmaplab rerun`: the command that a saved JSON file records, again, with nothing written but what it prints; then the comparison."""

import contextlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

import click

from rmaplab.errors import UsageError
from rmaplab.harmless import printable
from rmaplab.report.agreement import agreement
from rmaplab.report.emit import SCHEMA_VERSION, made_by

WRITING = ("--output", "--plot", "--save", "--record")
LOOKING = ("live", "who")


def rerun(path: Path) -> int:
    """The exit code. Raises UsageError: not a file of ours, or a command that cannot be run again."""
    then = _read(path)
    arguments = _arguments(path, then["made_by"])
    click.echo(f"{printable(str(path))}: {printable(shlex.join(['rmaplab', *arguments]))}", err=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        click.get_current_context().find_root().command.main(arguments, prog_name="rmaplab", standalone_mode=False)
    try:
        now = json.loads(printed.getvalue())
    except ValueError:
        raise UsageError(f"{path}: its command prints no JSON: make the file again, with --format json") from None
    before, after = (said.get("versions") for said in (then["made_by"], made_by()))
    if before != after:
        click.echo(printable(f"then {_versions(before)}; now {_versions(after)}"))
    found = agreement(then, now)
    for line in found.lines():
        click.echo(printable(line))
    return int(bool(found.differences))


def _read(path: Path) -> dict[str, Any]:
    """What was saved. Raises UsageError."""
    try:
        saved = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give a file made with --format json") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is no JSON: give a file made with --format json") from None
    made = saved.get("made_by") if isinstance(saved, dict) else None
    if not isinstance(made, dict):
        raise UsageError(f"{path} does not say which command made it: make it again, with --format json")
    if made.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema version {made.get('schema_version')}, this is {SCHEMA_VERSION}: make it again with this rmaplab"
        )
    return dict(saved)


def _arguments(path: Path, made: dict[str, Any]) -> list[str]:
    """What was typed, but for files to write. Raises UsageError for what cannot be run again."""
    command = made.get("command")
    if not (
        isinstance(command, list) and all(isinstance(word, str) for word in command) and command[:1] == ["rmaplab"]
    ):
        raise UsageError(f"{path} does not say which command made it: make it again, with --format json")
    words, kept = iter(command[1:]), list[str]()
    for word in words:
        if word in WRITING:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in WRITING)):
            kept.append(word)
    again = shlex.join(["rmaplab", *kept])
    if kept[:1] == ["rerun"]:
        raise UsageError(f"{path} was made by {again}: rerun the file that it names")
    if (
        kept[:1]
        and kept[0] in LOOKING
        and kept[1:2] != ["diff"]
        and not any(word.startswith("--from") for word in kept)
    ):
        raise UsageError(
            f"{path} is what this machine was like ({again}): that does not come again, save a census with --save"
        )
    if "-" in kept:
        raise UsageError(f"{path} was made from stdin ({again}): save the script, and check that")
    return kept


def _versions(said: object) -> str:
    return (
        ", ".join(f"{name} {version}" for name, version in said.items())
        if isinstance(said, dict)
        else "unknown versions"
    )
