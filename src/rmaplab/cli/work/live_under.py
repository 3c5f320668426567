"""`rmaplab live --from FILE --under DESIGN,...`: a saved census, lived through again."""

from collections.abc import Sequence
from pathlib import Path

from rmaplab.cli.census_options import RowsAsked
from rmaplab.cli.options import Output
from rmaplab.cli.work.progress import WORDS_AND_BAR, progress
from rmaplab.kernels.designs import find_design
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.file import load
from rmaplab.lab.census.rebuild import check_census, live_through
from rmaplab.report.emit import emit
from rmaplab.report.relived import RelivedReport


def live_under(source: Path, names: Sequence[str], asked: RowsAsked, out: Output) -> None:
    """The trees asked for, under each design. Raises UsageError before anything takes long; a tree that fails is a line of the report."""
    census = Census(load(source))
    designs = [find_design(name.strip()).name for name in dict.fromkeys(names)]
    check_census(census, str(source))
    rows, _ = census.select(**asked.choice, where=str(source))
    heads = [row.pid for row in rows]
    with progress("reading", 2 * len(designs) * census.graph.nr_mms, WORDS_AND_BAR) as done:
        found = live_through(census, heads, designs, asked.top, lambda design, what: done(f"{design}: {what}"))
    emit(RelivedReport([found.was, *found.found], census, found), *out)
