"""`rmaplab claims`."""

import click

from rmaplab.cli.options import Output, output_options
from rmaplab.errors import UsageError
from rmaplab.files import check_writable


@click.command("claims")
@click.option("--processes", default=512, metavar="N", help="For the reach of the split: all alive.")
@click.option("--split", default="3:1", metavar="U:K", help="For the reach: 3:1, 2:2 or 4:4.")
@output_options
def command(processes: int, split: str, out: Output) -> None:
    """Check the announcement's claims about memory: the arithmetic, and what booted machines say. Some ten seconds."""
    check_writable(out.path)
    if not 1 <= processes <= 2000:
        raise UsageError(f"--processes {processes}: give 1 to 2000")
    from rmaplab.cli.work.claims import check_claims

    check_claims(processes, split, out)
