"""`rmaplab record -o LOG -- COMMAND`."""

from pathlib import Path

import click

from rmaplab.errors import UsageError
from rmaplab.files import STDOUT, check_writable


@click.command("record", context_settings={"allow_interspersed_args": False})
@click.option(
    "-o",
    "--output",
    "path",
    required=True,
    metavar="LOG",
    type=click.Path(path_type=Path),
    help="The log; compressed if it ends in .gz.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def command(path: Path, command: tuple[str, ...]) -> None:
    """Run COMMAND for real, and write down its calls of memory, files and processes: for rmaplab replay.

    strace does it, and follows all children. Streams and exit status are COMMAND's. The log has names of files and arguments of programs in it, not
    what is read, written, sent or received. It is written whole when COMMAND has ended, by Ctrl-C too.

    \b
    rmaplab record -o build.log.gz -- make -j4
    rmaplab replay build.log.gz --kernels 2.6.2,2.6.7,6.18
    """  # noqa: D301
    if not command:
        raise UsageError(
            "record what? Write the command behind --, such as: rmaplab record -o LOG -- python3 server.py"
        )
    if str(path) in STDOUT:
        raise UsageError("standard output is the command's: give -o a file")
    check_writable(path, "-o")
    from rmaplab.cli.work.record import record

    code = record(path, command)
    if code:
        click.get_current_context().exit(code)
