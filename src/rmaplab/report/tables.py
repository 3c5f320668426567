"""Tables: as wide as they must be in a pipe or a file; on a terminal, as many columns as it has room for.

    new_table("title", "level|kernel|>wall|_what it is", leave_out="wall")

Names of columns are separated by "|". ">" right-aligned; "_" words, which are broken over lines before a column goes. Where the
terminal is too narrow columns go in the order of `leave_out`, then the others from the right; the first always stays. What is
left out is said below the table, and what a legend says of columns stands there only as far as they do. No line ends with blanks, and no figure is ever cut.

A Room says how wide that is and which columns were asked for; it holds for all tables that are drawn in a `with within(room)`.

Rich is there for colours, and for what is not of here: plain() draws a Table or a Prose without it, to the same letters.
"""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from rmaplab.harmless import harmless, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

DASH = "-"
GAP = 2  # blanks between columns
LEAST_WORDS = 24  # a column of words is not made narrower than that
UNLIMITED = 1 << 20  # columns; Rich wants a number

Legend = Sequence[Sequence[tuple[str, str]]]
"""Lines below a table, each of parts: ("names|of|columns", what to say if one of them is shown)."""
Line = Sequence[tuple[str, str]]
"""A line as it is drawn: texts, and the style of each, "" for none."""
_EMPTY: Line = [("", "")]


@dataclass
class Room:
    """Room for `width` columns of characters (None: as many as it takes), and the names of columns to show (none: all that fit).

    `known` are the columns of all tables drawn so far, `found` the names asked for that meant one of them.
    """

    width: int | None = None
    columns: Sequence[str] = ()
    known: dict[str, None] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)

    def asked(self, names: Sequence[str]) -> list[int]:
        """Places of the columns asked for: the first, and those that are named, or whose names begin so if none is. "s" is enough for "s, believed"."""
        self.known |= dict.fromkeys(filter(None, names))
        there, places = [name.casefold() for name in names], set[int]()
        for typed in _rejoined(self.columns, there):
            wanted = typed.casefold()
            hits = [i for i, name in enumerate(there) if name == wanted]
            hits = hits or [i for i, name in enumerate(there) if name.partition(",")[0] == wanted]
            hits = hits or [i for i, name in enumerate(there) if name.startswith(wanted)]
            if hits:
                self.found |= {*typed.split(", ")}
            places |= {*hits}
        return sorted(places | {0}) if places else []


def _rejoined(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Words as they were typed: a name that has a comma was split at it."""
    typed: list[str] = []
    for word in words:
        if typed and f"{typed[-1]}, {word}".casefold() in names:
            typed[-1] += f", {word}"
        else:
            typed.append(word)
    return typed


_ROOM: ContextVar[Room | None] = ContextVar("room", default=None)


@contextmanager
def within(room: Room) -> Iterator[Room]:
    """All tables within are drawn so."""
    token = _ROOM.set(room)
    try:
        yield room
    finally:
        _ROOM.reset(token)


def terminal_width() -> int | None:
    """Characters in a line of the terminal that stdout is; None if it is none. A COLUMNS that is no width is ignored."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    import shutil  # noqa: PLC0415  (it brings every compression there is)

    return shutil.get_terminal_size().columns


def text_width(most: int) -> int:
    """Characters in a line of running text: `most`, or what the terminal has."""
    return min(most, terminal_width() or most)


def console() -> Console:
    """Stdout: in colours, if it is a terminal that has some. Lines of a Text are broken where the Room says."""
    return _console(sys.stdout)


def plain(renderable: object) -> str:
    """The text of a table, or of lines as they are: for a file, or as part of a longer text."""
    if isinstance(renderable, Table | Prose):
        lines = ["".join(text for text, _ in line) for line in renderable.lines()]
    else:
        text = io.StringIO()
        show(_console(text, color_system=None), renderable)
        lines = text.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def show(out: Console, renderable: object) -> None:
    """Print it; a table's lines, and a Text by itself, are never broken or cut."""
    from rich.text import Text  # noqa: PLC0415

    out.print(renderable, soft_wrap=isinstance(renderable, Text), crop=False)


def _console(file: IO[str], **more: Any) -> Console:
    from rich.console import Console  # noqa: PLC0415  (as long as NumPy takes a quarter of; a pipe needs none)

    width = (_ROOM.get() or Room()).width or UNLIMITED
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False, **more)


@dataclass
class Prose:
    """Lines of running text: words move to the next line where the terminal ends."""

    text: str
    style: str = ""

    def lines(self) -> Iterator[Line]:
        """As many as there is room for."""
        return ([(line, self.style)] for line in _broken(self.text, (_ROOM.get() or Room()).width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Line by line."""
        return map(_coloured, self.lines())


@dataclass
class Column:
    """A column: its name, how it is aligned, and whether its words may be broken over lines."""

    name: str
    right: bool
    words: bool


@dataclass
class Table:
    """Rows of text. A string in a cell is never markup, and obeyed by nobody (harmless.py)."""

    title: str | None
    columns: Sequence[Column]
    caption: str | None
    leave_out: Sequence[str]
    legend: Legend = ()
    rows: list[list[str]] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)  # rows behind which a group of rows ends

    def add_row(self, *cells: str, end_section: bool = False) -> None:
        """A row, cell by cell; cells that are not given are empty."""
        self.rows.append([*map(printable, cells), *[""] * (len(self.columns) - len(cells))])
        if end_section:
            self.add_section()

    def add_section(self) -> None:
        """A group of rows ends here."""
        self.ends.add(len(self.rows))

    def lines(self) -> Iterator[Line]:
        """Title, head, rows, caption; nothing if none of its columns was asked for. O(cells)."""
        room = _ROOM.get() or Room()
        asked = room.asked([column.name for column in self.columns])
        if room.columns and not asked:
            return
        shown, widths, left_out = self._fit(asked, None if room.columns else room.width)
        if self.title is not None:
            yield from Prose(self.title, "table.title").lines()
        yield _EMPTY
        yield from self._body(shown, widths)
        yield _EMPTY
        there = {self.columns[i].name for i in shown}
        for entries in self.legend:
            said = " ".join(text for names, text in entries if there.intersection(names.split("|")))
            if said:
                yield from Prose(said, "table.caption").lines()
        if self.caption is not None:
            yield from Prose(self.caption, "table.caption").lines()
        if left_out:
            said = f"not shown for width: {', '.join(left_out)}: --columns or --all"
            yield from Prose(said, "table.caption").lines()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The same in colours."""
        return map(_coloured, self.lines())

    def _body(self, shown: Sequence[int], widths: Sequence[int]) -> Iterator[Line]:
        """The names of the columns, a rule, the rows; a blank line between groups of rows."""
        yield self._drawn([self.columns[i].name for i in shown], shown, widths, "table.header")
        yield [(" " + "─" * (sum(widths) + GAP * (len(widths) - 1)), "")]
        for nr, cells in enumerate(self.rows, 1):
            stacks = [
                _stack(cells[i], width) if self.columns[i].words else [cells[i]]
                for i, width in zip(shown, widths, strict=True)
            ]
            for level in range(max(map(len, stacks))):
                parts = [stack[level] if level < len(stack) else "" for stack in stacks]
                yield self._drawn(parts, shown, widths)
            if nr in self.ends and nr < len(self.rows):
                yield _EMPTY

    def _drawn(self, cells: Sequence[str], shown: Sequence[int], widths: Sequence[int], style: str = "") -> Line:
        line = [(" ", "")]
        for place, (i, width, cell) in enumerate(zip(shown, widths, cells, strict=True)):
            blanks, gap = " " * (width - cell_len(cell)), " " * GAP if place else ""
            before, behind = (gap + blanks, "") if self.columns[i].right else (gap, blanks)
            line += [(before, ""), (cell, style), (behind, "")]
        while line and not line[-1][0].strip():
            line.pop()
        return [*line[:-1], (line[-1][0].rstrip(), line[-1][1])] if line else _EMPTY

    def _fit(self, asked: Sequence[int], room: int | None) -> tuple[list[int], list[int], list[str]]:
        """(places of the columns shown, their widths, names of those that there is no room for)."""
        cells = [[column.name, *(row[i] for row in self.rows)] for i, column in enumerate(self.columns)]
        widths = [max(map(cell_len, column)) for column in cells]
        shown = list(asked or range(len(self.columns)))
        if room is None:
            return shown, [widths[i] for i in shown], []
        least = [min(w, LEAST_WORDS) if column.words else w for w, column in zip(widths, self.columns, strict=True)]
        names = [column.name for column in self.columns]
        going = dict.fromkeys([*self.leave_out, *(names[i] for i in reversed(shown))])
        gone: list[str] = []
        for name in going:
            left = [i for i in shown if names[i] != name or i == 0]
            if _wide(shown, least) > room and left != shown:
                shown = left
                gone.append(name)
        spare = max(0, room - _wide(shown, least))
        for i in shown:
            more = min(spare, widths[i] - least[i])
            least[i] += more
            spare -= more
        return shown, [least[i] for i in shown], [name for name in dict.fromkeys(names) if name in gone and name]


def _wide(shown: Sequence[int], widths: Sequence[int]) -> int:
    return 1 + sum(widths[i] for i in shown) + GAP * (len(shown) - 1)


def cell_len(text: str) -> int:
    """Columns that a text takes: letters of some scripts take two, marks none."""
    if text.isascii():
        return len(text)
    from rich import cells  # noqa: PLC0415

    return cells.cell_len(text)


def _coloured(line: Line) -> Text:
    """A line that is neither broken nor cut."""
    from rich.text import Text  # noqa: PLC0415

    (text, style), *more = line
    drawn = Text(text, style, no_wrap=True, overflow="ignore")
    for part in more:
        drawn.append(*part)
    return drawn


def _stack(cell: str, width: int) -> list[str]:
    """Words over lines of `width`."""
    if cell_len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width) or [""]


def _broken(text: str, width: int | None) -> list[str]:
    """Lines of a text, words moved to the next line where the terminal ends."""
    lines = harmless(text).split("\n")
    if width is None:
        return lines
    return [part for line in lines for part in _broken_line(line, width)]


def _broken_line(line: str, width: int) -> list[str]:
    """What follows is indented as the line is."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, width, subsequent_indent=indent) or [""]


def new_table(
    title: str | None, columns: str, *, caption: str | None = None, leave_out: str = "", legend: Legend = ()
) -> Table:
    """A table whose columns are named in one string, as above; `leave_out` names those that go first, the first before all others.

    Columns of one name go together. The `legend` comes before the caption.
    """
    names = map(str.strip, columns.split("|"))
    made = [Column(name.lstrip(">_"), name.startswith(">"), name.startswith("_")) for name in names]
    return Table(title, made, caption, leave_out.split("|") if leave_out else (), legend)
