"""The command line: a module per verb says what may be typed and is imported when it is asked for.

Exit codes: 0 done, 1 a bug of ours, 2 a request that makes no sense (one line says what to try next), 130 interrupted.
"""

import os
import sys
from importlib import import_module

import click

from rmaplab import __version__
from rmaplab.errors import RmaplabError, UsageError
from rmaplab.harmless import printable

VERBS = {
    "compare": "Run a workload on several kernels, side by side.",
    "run": "Run a workload on one kernel.",
    "sweep": "Measure over a range of sizes: memory, over children and VMAs.",
    "boundary": "Map the boxes on which the announcement's outcome follows.",
    "claims": "Check the announcement's claims about memory: arithmetic, and what machines say.",
    "fit": "Fit the price list to the seconds that were published of level 6, and judge it by level 7.",
    "check": "Run the same script of memory operations on the model and on the real kernel.",
    "explain": "Tell a story from a running system, drawn step by step: fork, cow, mremap, who, or one of three bugs.",
    "who": "Who maps this page of the running machine?",
    "live": "Take a census of this machine's own reverse map: who holds it, how long its walks are.",
    "kernels": "List the kernels, or show what one consists of.",
    "designs": "List the reverse-mapping designs, or put one to the test: designs check NAME.",
}
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}


class _Verbs(click.Group):
    """Loads a verb's module when it is asked for."""

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


@click.group(cls=_Verbs, context_settings=CONTEXT)
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
    try:
        code = cli.main(arguments, prog_name="rmaplab", standalone_mode=False)
    except BaseException as error:
        if debug:
            raise
        code = _report(error)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Say what went wrong in one line; the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _say("interrupted", 130)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return 2
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "rmaplab"
        return _say(f"{error.format_message().rstrip('.')} (see: {where} --help)", 2)
    if isinstance(error, UsageError):
        return _say(str(error), 2)
    if isinstance(error, RmaplabError):
        return _say(
            f"{type(error).__name__} in {error}; this is a bug of ours: run again with --debug and report it", 1
        )
    return _say(f"{type(error).__name__}: {error}; this is a bug of ours: run again with --debug and report it", 1)


def _say(message: str, code: int) -> int:
    click.echo(f"rmaplab: {printable(message)}", err=True)
    return code
