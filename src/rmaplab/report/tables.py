"""Terminal tables. Plain text where the output is not a terminal, wide enough that no line breaks."""

import io

from rich import box as borders
from rich.console import Console, RenderableType
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from rmaplab.harmless import harmless, printable

DASH = "-"
WIDTH = 200


def console() -> Console:
    """Where tables go: stdout, plain if it is no terminal; wide enough for every table, since a cut figure is none."""
    out = Console(highlight=False)
    out.width = max(out.width, WIDTH)
    return out


def plain(renderable: object) -> str:
    """The text of a table, or of lines as they are, for a file."""
    out = Console(highlight=False, width=WIDTH, file=io.StringIO(), color_system=None)
    out.print(renderable, soft_wrap=isinstance(renderable, Text))
    return "\n".join(line.rstrip() for line in out.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


class PlainTable(Table):
    """A table whose cells are text: a string in it is never markup, and obeyed by nobody (harmless.py)."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """A row, cell by cell."""
        shown = (Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, style=style, end_section=end_section)


def new_table(title: str | None, columns: str, *, caption: str | None = None) -> Table:
    """A table whose columns are named in one string; those that begin with ">" are right-aligned."""
    table = PlainTable(
        title=None if title is None else Text(harmless(title), "table.title"),
        caption=None if caption is None else Text(harmless(caption), "table.caption"),
        box=borders.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
        collapse_padding=True,
    )
    for name in columns.split("|"):
        table.add_column(
            name.strip().lstrip(">"), justify="right" if name.strip().startswith(">") else "left", no_wrap=True
        )
    return table
