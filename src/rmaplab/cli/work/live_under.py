"""`rmaplab live --from FILE --under DESIGN,...`: a saved census, lived through again."""

from collections.abc import Sequence
from pathlib import Path

from rmaplab.cli.census_options import RowsAsked
from rmaplab.cli.options import Output
from rmaplab.kernels.designs import find_design
from rmaplab.lab.census.census import Census
from rmaplab.lab.census.file import load
from rmaplab.lab.census.rebuild import check_census, choose, on_the_machine, walk_under
from rmaplab.report.emit import emit
from rmaplab.report.relived import RelivedReport


def live_under(source: Path, names: Sequence[str], asked: RowsAsked, out: Output) -> None:
    """The trees asked for, under each design. Raises UsageError before anything takes long."""
    census = Census(load(source))
    designs = [find_design(name.strip()).name for name in dict.fromkeys(names)]
    check_census(census, str(source))
    rows, _ = census.select(**asked.choice, where=str(source))
    chosen, history, pages = choose(census, [row.pid for row in rows], asked.top)
    was = on_the_machine(census, chosen, history, pages)
    found = [walk_under(design, census, chosen, history, pages) for design in designs]
    emit(RelivedReport([was, *found], census, chosen), *out)
