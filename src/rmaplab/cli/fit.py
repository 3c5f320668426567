"""`rmaplab fit`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmaplab.cli.options import check_output, emit, output_options
from rmaplab.errors import UsageError

if TYPE_CHECKING:
    from rmaplab.lab.announcement.baselines import PricedFit


@click.command("fit")
@click.option(
    "--save", metavar="FILE", type=click.Path(path_type=Path), help="Write the price lists, as the package keeps them."
)
@output_options
def command(save: Path | None, form: str, output: Path | None) -> None:
    """Fit the price list to level 6 of the announcement, and show what each way to price a pte_chain makes of level 7.

    On both boxes that the announcement may mean: four CPUs, and two with two threads each. About half a minute.
    """
    check_output(output)
    check_output(save, "--save")

    from rich.console import Console, Group  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    from rmaplab.lab.announcement.baselines import PREDICTED_LEVEL, fits_to_show, score, twice  # noqa: PLC0415
    from rmaplab.lab.announcement.published import published_kernels  # noqa: PLC0415
    from rmaplab.report.fit import fit_tables  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn())
    jobs = fits_to_show()
    fits: list[PricedFit] = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("fitting", total=len(jobs))
        for job in jobs:
            fits.append(job())
            progress.update(bar, advance=1, description=fits[-1].fit.book.name)
    baseline = score("twice level 6", PREDICTED_LEVEL, twice(PREDICTED_LEVEL, published_kernels(PREDICTED_LEVEL)))
    emit(fits, form, output, lambda: Group(*fit_tables(fits, baseline)))
    if save is not None:
        _save(fits, save)


def _save(fits: list[PricedFit], path: Path) -> None:
    books = {
        priced.fit.book.name: {
            "model": priced.fit.book.model.name,
            "parameters_ns": dict(priced.fit.book.parameters_ns),
        }
        for priced in fits
    }
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(books, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UsageError(f"cannot write {path} ({error.strerror}): try another --save") from None
