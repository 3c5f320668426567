"""`rmaplab claims`."""

from __future__ import annotations

from pathlib import Path

import click

from rmaplab.cli.options import check_output, emit, output_options
from rmaplab.errors import UsageError


@click.command("claims")
@click.option("--processes", default=512, show_default=True, metavar="N", help="For the reach of the split: all alive.")
@click.option("--split", default="3:1", show_default=True, metavar="U:K", help="For the reach: 3:1, 2:2 or 4:4.")
@output_options
def command(processes: int, split: str, form: str, output: Path | None) -> None:
    """Check the announcement's claims about memory: the arithmetic, and what booted machines say. Some ten seconds."""
    from rmaplab.machine.paging import paging_format  # noqa: PLC0415

    check_output(output)
    if not 1 <= processes <= 2000:
        raise UsageError(f"--processes {processes}: give 1 to 2000")
    paging_format("i386-pae", split)

    from rmaplab.lab.announcement import claims  # noqa: PLC0415
    from rmaplab.report.claims import claims_tables  # noqa: PLC0415

    groups = [
        list(make())
        for make in (claims.page_struct_claims, claims.mem_map_claims, claims.table_claims, claims.chain_claims)
    ]
    reach = list(claims.reaches(processes, split))
    rows = [claim for group in groups for claim in group]
    emit([*rows, *reach], form, output, lambda: claims_tables(groups[0], groups[1], groups[2], groups[3], reach))
