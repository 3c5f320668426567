"""`rmaplab fit`: all fits that are shown, beside what a prediction that knows nothing is worth."""

import json
from collections.abc import Sequence
from pathlib import Path

from rmaplab.cli.options import Output
from rmaplab.cli.work.progress import WORDS_AND_BAR, gather
from rmaplab.files import write_text
from rmaplab.lab.announcement import baselines
from rmaplab.lab.announcement.baselines import PREDICTED_LEVEL, PricedFit
from rmaplab.lab.announcement.published import published_kernels
from rmaplab.report.emit import emit
from rmaplab.report.fit import FitReport


def fit(save: Path | None, out: Output) -> None:
    """Fit, show, and keep the price lists in `save`."""
    jobs = baselines.fits_to_show()
    runs = (job() for job in jobs)

    def show(fits: Sequence[PricedFit]) -> None:
        published = baselines.twice(PREDICTED_LEVEL, published_kernels(PREDICTED_LEVEL))
        emit(FitReport(fits, baselines.score("twice level 6", PREDICTED_LEVEL, published)), *out)
        if save is not None and len(fits) == len(jobs):
            write_text(save, "--save", _price_lists(fits))

    gather(runs, "fitting", len(jobs), lambda priced: priced.fit.book.name, show, WORDS_AND_BAR)


def _price_lists(fits: Sequence[PricedFit]) -> str:
    """As kernels/prices_2004.json has them."""
    books = [priced.fit.book for priced in fits]
    lists = {book.name: {"model": book.model.name, "parameters_ns": dict(book.parameters_ns)} for book in books}
    return json.dumps(lists, indent=1) + "\n"
