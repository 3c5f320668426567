"""The designs there are, as a table."""

from collections.abc import Iterable

from rich.table import Table

from rmaplab.errors import UsageError
from rmaplab.kernels.designs import DesignEntry, load_design
from rmaplab.report.tables import new_table


def design_list(entries: Iterable[DesignEntry]) -> Table:
    """One line per design. One that cannot be loaded is listed with the reason; the others do not suffer from it."""
    caption = (
        "rmaplab designs check NAME puts one to the test; KERNEL+NAME is a kernel with it, such as 2.6.5-rc1+anonmm"
    )
    table = new_table(None, "design|package|where|what it is", caption=caption)
    for entry in entries:
        try:
            about = ((load_design(entry.path).__doc__ or "").strip().splitlines() or [""])[0]
        except UsageError as error:
            about = f"broken: {error}"
        table.add_row(entry.name, entry.package, entry.path, about)
    return table
