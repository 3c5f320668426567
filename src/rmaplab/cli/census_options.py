"""Which rows of a census are asked for: options that `live` and `live diff` share. Light to import."""

from typing import Any, NamedTuple

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
    "pss": "pss_bytes",
    "swap": "swap_bytes",
    "hugetlb": "hugetlb_bytes",
    "ksm": "ksm_bytes",
    "pid": "pid",
}
tree_option = click.option("--tree", "trees", is_flag=True, help="A row per fork tree instead of one per process.")
sort_option = click.option(
    "--sort", type=click.Choice(list(SORTS)), help="What to sort by, the most first.  [default: rmap]"
)
top_option = click.option(
    "--top", default=20, metavar="N", type=click.IntRange(0), help="Rows shown, in every format; 0 for all."
)
_FILTERS = (
    click.option("--pid", type=click.IntRange(1), metavar="PID", help="Only this process, or its tree."),
    click.option("--comm", metavar="NAME", help="Only processes of this name, * and ? allowed, or their trees."),
    click.option(
        "--cgroup",
        metavar="PATH",
        help="Only processes of this cgroup and those below it, * and ? allowed, or their trees.",
    ),
)


def filter_options(function: F) -> F:
    """--pid, --comm and --cgroup: whom to look at. Nothing of others is read."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


class RowsAsked(NamedTuple):
    """Processes or trees, all or one or those of a name or a cgroup; in which order, and how many of them."""

    trees: bool
    sort: str | None
    top: int
    pid: int | None = None
    comm: str | None = None
    cgroup: str | None = None

    @property
    def figure(self) -> str | None:
        """The column to sort by; None if nothing was said."""
        return SORTS[self.sort] if self.sort else None

    @property
    def choice(self) -> dict[str, Any]:
        """What Census.select() is told."""
        whom = {"pid": self.pid, "comm": self.comm, "cgroup": self.cgroup}
        return {**whom, "trees": self.trees, "sort": self.figure}


def rows_asked(function: F) -> F:
    """All of these options, passed on as one argument `asked`."""
    return gathered(function, "asked", RowsAsked._fields, RowsAsked)
