"""`rmaplab live` and `rmaplab live diff A B`."""

from pathlib import Path

import click

from rmaplab.cli.census_options import RowsAsked, filter_options, rows_asked, sort_option, top_option, tree_option
from rmaplab.cli.options import FILE, Output, Verbs, output_options
from rmaplab.errors import UsageError
from rmaplab.files import check_writable


@click.group("live", cls=Verbs, invoke_without_command=True)
@tree_option
@filter_options
@sort_option
@top_option
@click.option("--full", is_flag=True, help="Read all pages, however many; else a large machine's are a sample.")
@click.option(
    "--seed", metavar="N", type=click.IntRange(0), help="Draw the sample that N draws.  [default: another each time]"
)
@click.option("--save", **FILE, help="Save the census.")
@click.option("--anonymise", is_flag=True, help="With --save: numbers for the names of commands, files and cgroups.")
@click.option("--from", "source", **FILE, help="Read a saved census instead.")
@click.option(
    "--under",
    metavar="DESIGN,...",
    help="With --from: live through its fork trees in the model, and walk, under these.",
)
@click.option("--watch", is_flag=True, help="Look again and again, until interrupted; off a terminal, a line per look.")
@click.option("--interval", default=2.0, metavar="S", type=click.FloatRange(0), help="Seconds between looks.")
@click.option("--times", metavar="N", type=click.IntRange(1), help="With --watch: look N times, then end.")
@output_options
@rows_asked
@click.pass_context
def command(
    context: click.Context,
    asked: RowsAsked,
    save: Path | None,
    source: Path | None,
    under: str | None,
    interval: float,
    times: int | None,
    out: Output,
    seed: int | None,
    *,
    watch: bool,
    full: bool,
    anonymise: bool,
) -> None:
    """A census of this machine's reverse map: processes or fork trees, their walks, files, other designs.

    As root it shows everything; with less it says which rung of the ladder of privileges it stands on. Nothing is changed.

    `rmaplab live diff A B` compares two saved ones.
    """
    if context.invoked_subcommand is not None:
        return
    check_writable(out.path)
    check_writable(save, "--save")
    if under is not None and (source is None or save is not None):
        raise UsageError("--under lives through a saved census: --save one first, then give it with --from")
    if watch and (source is not None or out.path is not None or save is not None or out.form == "csv"):
        raise UsageError("--watch prints tables or JSON lines as it goes: leave --from, --save, --output and csv out")
    if anonymise and save is None:
        raise UsageError("--anonymise is for a census that is saved: add --save FILE, or leave it out")
    if source is not None and (full or seed is not None):
        raise UsageError(
            "--full and --seed say how to read this machine, and a saved census has been read: leave --from out"
        )
    if full and seed is not None:
        raise UsageError("--seed draws a sample, and --full reads everything: leave one of them out")
    if times is not None and not watch:
        raise UsageError("--times counts the looks of --watch: add --watch, or leave it out")
    if under is not None and source is not None:
        _under(source, under, asked, out)
        return
    from rmaplab.cli.work import live as work

    how = work.Reading(full, seed)
    if watch:
        work.watch(asked, how, interval, times, out.form)
    else:
        work.look(asked, how, source, save, out, anonymise=anonymise)


def _under(source: Path, designs: str, asked: RowsAsked, out: Output) -> None:
    """Apart from the rest, which does not need the model."""
    from rmaplab.cli.work.live_under import live_under

    live_under(source, designs.split(","), asked._replace(trees=True), out)


@command.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@tree_option
@filter_options
@sort_option
@top_option
@output_options
@rows_asked
def diff(before: Path, after: Path, asked: RowsAsked, out: Output) -> None:
    """What changed between two saved censuses."""
    check_writable(out.path)
    from rmaplab.cli.work.live import diff

    diff(before, after, asked, out)
