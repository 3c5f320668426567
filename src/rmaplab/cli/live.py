"""`rmaplab live` and `rmaplab live diff A B`."""

from pathlib import Path

import click

from rmaplab.cli.census_options import RowsAsked, rows_asked, sort_option, top_option, tree_option
from rmaplab.cli.options import FILE, Output, Verbs, output_options
from rmaplab.errors import UsageError
from rmaplab.files import check_writable


@click.group("live", cls=Verbs, invoke_without_command=True)
@tree_option
@click.option("--pid", type=click.IntRange(1), metavar="PID", help="Only this process, or its tree.")
@click.option("--comm", metavar="NAME", help="Only processes of this name, * and ? allowed, or their trees.")
@sort_option
@top_option
@click.option("--save", **FILE, help="Save the census.")
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
    *,
    watch: bool,
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
    if times is not None and not watch:
        raise UsageError("--times counts the looks of --watch: add --watch, or leave it out")
    if under is not None and source is not None:
        _under(source, under, asked, out)
        return
    from rmaplab.cli.work import live as work

    if watch:
        work.watch(asked, interval, times, out.form)
    else:
        work.look(asked, source, save, out)


def _under(source: Path, designs: str, asked: RowsAsked, out: Output) -> None:
    """Apart from the rest, which does not need the model."""
    from rmaplab.cli.work.live_under import live_under

    live_under(source, designs.split(","), asked._replace(trees=True), out)


@command.command("diff")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@tree_option
@sort_option
@top_option
@output_options
@rows_asked
def diff(before: Path, after: Path, asked: RowsAsked, out: Output) -> None:
    """What changed between two saved censuses."""
    check_writable(out.path)
    from rmaplab.cli.work.live import diff

    diff(before, after, asked, out)
