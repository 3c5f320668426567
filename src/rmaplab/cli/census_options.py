"""Which rows of a census are asked for: options that `live` and `live diff` share. Light to import."""

from typing import NamedTuple

import click

from rmaplab.cli.options import F, gathered

SORTS = {
    "rmap": "rmap_bytes",
    "chains": "chains",
    "anon_vmas": "anon_vmas",
    "vmas": "vmas",
    "depth": "depth",
    "walk": "longest_walk",
    "page-tables": "page_tables_bytes",
    "private": "private_bytes",
    "shared": "shared_bytes",
    "pid": "pid",
}
tree_option = click.option("--tree", "trees", is_flag=True, help="A row per fork tree instead of one per process.")
sort_option = click.option(
    "--sort", type=click.Choice(list(SORTS)), help="What to sort by, the most first.  [default: rmap]"
)
top_option = click.option("--top", default=20, metavar="N", type=click.IntRange(0), help="Rows shown; 0 for all.")


class RowsAsked(NamedTuple):
    """Processes or trees, all or one or those of a name; in which order, and how many of them."""

    trees: bool
    sort: str | None
    top: int
    pid: int | None = None
    comm: str | None = None

    @property
    def figure(self) -> str | None:
        """The column to sort by; None if nothing was said."""
        return SORTS[self.sort] if self.sort else None


def rows_asked(function: F) -> F:
    """All of these options, passed on as one argument `asked`."""
    return gathered(function, "asked", RowsAsked._fields, RowsAsked)
