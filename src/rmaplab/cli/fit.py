"""`rmaplab fit`."""

from pathlib import Path

import click

from rmaplab.cli.options import FILE, Output, output_options
from rmaplab.files import check_writable


@click.command("fit")
@click.option("--save", **FILE, help="Write the price lists, as the package keeps them.")
@output_options
def command(save: Path | None, out: Output) -> None:
    """Fit the price list to level 6 of the announcement, and show what each way to price a pte_chain makes of level 7.

    On both boxes that the announcement may mean: four CPUs, and two with two threads each. About half a minute.
    """
    check_writable(out.path)
    check_writable(save, "--save")
    from rmaplab.cli.work.fit import fit

    fit(save, out)
