"""`rmaplab check SCRIPT...`: the same script on the model and on the real kernel."""

from typing import Any

import click

from rmaplab.cli.options import first_typed, form_option
from rmaplab.errors import UsageError
from rmaplab.files import check_writable

MOST_JOBS = 256  # each is a process of some 150 MB
FILE: dict[str, Any] = {"metavar": "FILE", "type": click.Path(dir_okay=False)}


@click.command("check")
@click.argument("scripts", nargs=-1, metavar="SCRIPT...")
@click.option("--kernel", default="6.18", metavar="K", help="The model's kernel.")
@click.option("--fuzz", type=click.IntRange(1), metavar="N", help="Make N random scripts instead.")
@click.option("--seed", default=0, metavar="S", help="Of --fuzz: another seed, other scripts.")
@click.option(
    "--habits", metavar="NAME", help="Of --fuzz: how they are written: steps (the default), many, stripes ..., or all."
)
@click.option(
    "--jobs", type=click.IntRange(1, MOST_JOBS), default=1, metavar="N", help="Of --fuzz: how many scripts at a time."
)
@click.option("--save", **FILE, help="Where --fuzz puts a failing script, made small.")
@click.option("--record", **FILE, help="Only run the scripts on the host, and keep its results.")
@click.option("--against", **FILE, help="Compare the model with recorded results, not with the host.")
@click.option("--show", is_flag=True, help="Print what each line came to.")
@click.option("--junit", **FILE, help="Write what was found as JUnit XML, too.")
@form_option
@click.pass_context
def command(
    context: click.Context,
    scripts: tuple[str, ...],
    kernel: str,
    fuzz: int | None,
    seed: int,
    habits: str | None,
    jobs: int,
    save: str | None,
    record: str | None,
    against: str | None,
    junit: str | None,
    form: str,
    *,
    show: bool,
) -> None:
    """Run scripts of memory operations on the model and on this machine's kernel, and show the first difference.

    A SCRIPT that is a directory stands for all files in it that end in .script; then every one is run, whatever came before.

    \b
    A: mmap w+0 8 rw                          one operation a line, by processes A, B ...
    A: write w+2                              pages of a window where nothing else is mapped
    A: fork B
    B: mremap w+0 4 4 MAYMOVE|FIXED w+16      docs/scripts.md lists all calls; - reads a script from stdin

    Exit codes: 0 no difference, 1 a difference, 2 bad input or a host that cannot run it.
    """  # noqa: D301
    given = [bool(scripts), fuzz is not None, against is not None]
    if sum(given) != 1:
        raise UsageError("give scripts, or --fuzz N, or --against FILE: one of them (see: rmaplab check --help)")
    if record is not None and against is not None:
        raise UsageError("--record keeps what the host does and --against leaves the host out: give one of them")
    if record is not None and form != "table":
        raise UsageError("--record writes JSON to its own file: leave --format out")
    if scripts.count("-") > 1:
        raise UsageError("- is stdin, which is there once: give it once")
    if save is not None and fuzz is None:
        raise UsageError("--save keeps what --fuzz finds: give --fuzz N, or leave it out")
    if fuzz is None and first_typed(["seed"]):
        raise UsageError("--seed says which scripts --fuzz makes: give --fuzz N, or leave it out")
    if habits is not None and fuzz is None:
        raise UsageError("--habits says how --fuzz makes scripts: give --fuzz N, or leave it out")
    if first_typed(["jobs"]) and (fuzz is None or record is not None):
        raise UsageError(
            "--jobs says how many scripts --fuzz compares at a time: give --fuzz N without --record, or leave it out"
        )
    if (show or junit is not None) and not (scripts and record is None):
        raise UsageError("--show and --junit tell of scripts: give some, and neither --record nor --against nor --fuzz")
    check_writable(save, "--save")
    check_writable(junit, "--junit")
    check_writable(record, "--record")
    from rmaplab.cli.work import check as work

    paths = work.in_directories(scripts)
    if record is not None:
        context.exit(work.record(record, paths, fuzz, seed, habits or "steps"))
    if scripts:
        context.exit(work.scripts(paths, kernel, form, junit, goes_on=paths != scripts, show=show))
    context.exit(work.check(kernel, fuzz, seed, habits or "steps", jobs, save, against, form))
