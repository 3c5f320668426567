"""`rmaplab rerun FILE`."""

from pathlib import Path

import click


@click.command("rerun")
@click.argument("saved", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_context
def command(context: click.Context, saved: Path) -> None:
    """Run the command again that made FILE, a JSON file of any verb (--format json), and compare the results.

    Files that the command wrote are not written again. Running times are not compared. Scripts and censuses that it read are
    looked for where they were then, seen from here.

    Exit codes: 0 the results agree, 1 they differ, 2 there is nothing to run again.
    """
    from rmaplab.cli.work.rerun import rerun

    context.exit(rerun(saved))
