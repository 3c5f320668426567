"""`rmaplab claims`: four groups of claims, and the reach of a split."""

from itertools import chain

from rmaplab.cli.options import Output
from rmaplab.lab.announcement.claims import chain_claims, mem_map_claims, page_struct_claims, reaches, table_claims
from rmaplab.machine.paging import paging_format
from rmaplab.report.claims import ClaimsReport
from rmaplab.report.emit import emit


def check_claims(processes: int, split: str, out: Output) -> None:
    """All. Raises UsageError for a split there is not."""
    paging_format("i386-pae", split)
    groups = [list(make()) for make in (page_struct_claims, mem_map_claims, table_claims, chain_claims)]
    reach = list(reaches(processes, split))
    emit(ClaimsReport([*chain.from_iterable(groups), *reach], groups, reach), *out)
