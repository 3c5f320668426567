"""`rmaplab record`: strace writes, and where the log lies is said."""

from collections.abc import Sequence
from pathlib import Path

import click

from rmaplab.files import write_whole
from rmaplab.harmless import printable
from rmaplab.host.strace import check_command, find_strace
from rmaplab.host.strace import record as record_calls


def record(path: Path, command: Sequence[str]) -> int:
    """Record it: the exit status of the command. Raises UsageError."""
    find_strace()
    check_command(command)
    statuses: list[int] = []
    packed = path.suffix == ".gz"
    write_whole(path, "-o", lambda part: statuses.append(record_calls(command, part, packed=packed)))
    click.echo(f"rmaplab: recorded in {printable(str(path))}; next: rmaplab replay {printable(str(path))}", err=True)
    return statuses[0]
