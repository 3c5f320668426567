"""The command line: a module per verb says what may be typed and is imported when it is asked for.

Exit codes (EXIT_CODES, also below `rmaplab --help`):

    0      done; also if the reader of a pipe has gone
    1      a difference: check, designs check and rerun have found one
    2      a request that makes no sense, or that this machine cannot meet (a full disk, no memory): one line says what to try next
    70     a bug of ours
    129, 130, 143    ended by SIGHUP, Ctrl-C, SIGTERM: children are ended, and what was finished by then is shown
"""

import atexit
import contextlib
import errno
import gc
import os
import sys
from importlib import import_module
from typing import Any

import click

from rmaplab import __version__
from rmaplab.cli.options import Verbs
from rmaplab.cli.sorting import sort_without_slow_instructions
from rmaplab.cli.streams import Ended, Unwritable, ended_by_signal, let_go, prepare
from rmaplab.errors import RmaplabError, SyscallError, UsageError
from rmaplab.harmless import printable

VERBS = {
    "compare": "Run a workload on several kernels, side by side.",
    "run": "Run a workload on one kernel.",
    "exec": "Run an unmodified Linux program on a kernel of your choice.",
    "sweep": "Measure over a range of sizes: memory, over children and VMAs.",
    "boundary": "Map the boxes on which the announcement's outcome follows.",
    "claims": "Check the announcement's claims about memory: arithmetic, and what machines say.",
    "fit": "Fit the price list to the seconds that were published of level 6, and judge it by level 7.",
    "check": "Run the same script of memory operations on the model and on the real kernel.",
    "explain": "Tell a story from a running system, drawn step by step: fork, cow, mremap, who, or one of three bugs.",
    "who": "Who maps this page of the running machine?",
    "live": "Take a census of this machine's own reverse map: who holds it, how long its walks are.",
    "record": "Run a command for real and write down its calls of memory, files and processes: for replay.",
    "replay": "Make the calls of a recorded program again, on kernels of your choice.",
    "kernels": "List the kernels, or show what one consists of.",
    "designs": "List the reverse-mapping designs, or put one to the test: designs check NAME.",
    "rerun": "Run the command again that a saved JSON file records, and compare the results.",
}
EXIT_CODES = (
    "Exit codes: 0 done; 1 a difference was found; 2 a request that makes no sense or that this machine cannot meet, "
    "one line says what to try next; 70 a bug of ours; 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM."
)
THE_MACHINES = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EFBIG,
    errno.EMFILE,
    errno.ENFILE,
}
"""Errors that are neither the user's nor ours: the disk is full, or broken."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


class Stopped(BaseException):
    """KeyboardInterrupt, which is its cause."""


class _AllVerbs(Verbs):
    """Loads a verb's module when it is asked for."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> click.Context:
        """Our version and what was typed are kept: JSON says them."""
        typed = tuple(args)
        context = super().make_context(info_name, args, *more, **extra)
        context.obj = (__version__, typed)
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Past click, which would write an empty line for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Stopped from stop

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"rmaplab.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_AllVerbs, context_settings=CONTEXT, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="rmaplab")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Linux's reverse mapping, executable: who maps this page, and what does it cost to know?

    \b
    rmaplab compare forkbench --levels 3,6,7 --kernels 2.6.2,2.6.5-rc1-aa1
    """  # noqa: D301
    del debug


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    prepare()
    _start_light()
    try:
        with ended_by_signal():
            code = cli.main(arguments, prog_name="rmaplab", standalone_mode=False)
            sys.stdout.flush()
    except BaseException as error:
        if debug:
            raise
        code = _report(error, arguments)
    let_go()
    sys.exit(code if isinstance(code, int) else 0)


def _start_light() -> None:
    """What libraries do for long programs, and most of ours are over in a fraction of a second; and what NumPy must know before it is imported.

    NumPy's OpenBLAS begins with a thread per CPU, which waits busily for matrices; ours are tiny, and where somebody has set a number it stays.
    And at the end the collector would look once more for garbage among all that is there and goes with us anyway.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sort_without_slow_instructions()
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _report(error: BaseException, arguments: list[str]) -> int:
    """Say what went wrong in one line; the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, Stopped | KeyboardInterrupt | click.Abort):
        cause = error.__cause__ if isinstance(error, Stopped) else error
        return _say(f"ended by {cause}", cause.code) if isinstance(cause, Ended) else _say("interrupted", 130)
    if isinstance(error, BrokenPipeError):
        return 0
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return 2
    if isinstance(error, click.UsageError):
        verb = [each for each in arguments[:1] if each in VERBS]  # click's parser does not say where it was
        where = error.ctx.command_path if error.ctx else " ".join(("rmaplab", *verb))
        return _say(f"{error.format_message().rstrip('.')} (see: {where} --help)", 2)
    if isinstance(error, UsageError):
        return _say(str(error), 2)
    if (
        isinstance(error, OSError | MemoryError)
        and not isinstance(error, SyscallError)
        and (said := _of_the_machine(error))
    ):
        return _say(said, 2)
    name = type(error).__name__
    what = f"{name} in {error}" if isinstance(error, RmaplabError) else f"{name}: {error}"
    return _say(f"{what}; this is a bug of ours: run again with --debug and report it", 70)


def _of_the_machine(error: OSError | MemoryError) -> str:
    """What is wrong with stdout, the disk or memory; "" if it is none of them."""
    if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
        said = str(error) if isinstance(error, MemoryError) else error.strerror
        return f"out of memory ({said or 'on this machine'}): ask for less at once"
    if isinstance(error, Unwritable):
        return f"cannot write to standard output ({error.strerror}): send it elsewhere, or give --output a file"
    if error.errno not in THE_MACHINES:
        return ""
    where = f" with {error.filename}" if error.filename else ""
    return f"{error.strerror}{where}: make room on this machine (TMPDIR says where temporary files go), and try again"


def _say(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody can be told
        click.echo(f"rmaplab: {printable(message)}", err=True)
    return code
