"""Tables fit the terminal by leaving columns out, and say so; in a pipe everything is there."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.cli.options import split_names
from rmaplab.report.tables import Prose, Room, _console, new_table, plain, show, within

figures = st.integers(0, 10**12).map(lambda n: f"{n:,} MiB")
rows = st.lists(st.tuples(st.sampled_from(["a", "kernel"]), figures, figures, figures), min_size=1, max_size=5)
COLUMNS = ("name", "first", "second", "third")


def drawn(
    cells: Sequence[tuple[str, ...]], width: int | None, columns: tuple[str, ...] = (), leave_out: str = ""
) -> str:
    table = new_table("title", "name|>first|>second|>third", caption="words " * 30, leave_out=leave_out)
    for row in cells:
        table.add_row(*row)
    with within(Room(width, columns)):
        return plain(table)


def left_out(text: str) -> list[str]:
    found = re.search(r"not shown for width: (.*?): --columns or --all", " ".join(text.split()))
    return found[1].split(", ") if found else []


@given(cells=rows, width=st.integers(20, 120))
def test_it_fits_and_every_column_is_shown_whole_or_named(cells: Sequence[tuple[str, ...]], width: int) -> None:
    text = drawn(cells, width)
    gone = left_out(text)
    lines = text.splitlines()
    assert not [line for line in lines if line != line.rstrip()]
    assert all(len(line) <= width for line in lines) or gone == ["first", "second", "third"]
    head = next(line for line in lines if line.startswith(" name")).split()
    assert sorted([*head, *gone]) == sorted(COLUMNS)
    body = [line for line in lines if line.startswith((" a", " kernel"))]
    for row, line in zip(cells, body, strict=True):
        kept = [cell for name, cell in zip(COLUMNS, row, strict=True) if name not in gone]
        assert re.sub(r" {2,}", "  ", line.strip()) == "  ".join(kept), "no figure loses its unit"


@given(cells=rows)
def test_where_there_is_no_width_nothing_is_cut(cells: Sequence[tuple[str, ...]]) -> None:
    text = drawn(cells, None)
    assert left_out(text) == []
    assert all(cell in text for row in cells for cell in row)
    assert ("words " * 30).strip() in text.splitlines(), "not even broken"


LEGEND = ((("first", "one."), ("second|third", "two.")), (("third", "three."),))


@given(width=st.none() | st.integers(20, 120), asked=st.lists(st.sampled_from(COLUMNS), unique=True, max_size=3))
def test_a_legend_says_only_what_its_table_shows(width: int | None, asked: list[str]) -> None:
    """A line as far as one of its columns is there, and none where none is."""
    table = new_table("title", "name|>first|>second|>third", caption="words", legend=LEGEND, leave_out="second")
    table.add_row("a", "1" * 15, "2" * 15, "3" * 15)
    with within(Room(width, asked)):
        lines = plain(table).splitlines()
    head = next(line for line in lines if line.startswith(" name")).split()
    says = {"one.": "first" in head, "two.": {"second", "third"} & {*head}, "three.": "third" in head}
    assert [word for word, there in says.items() if there] == " ".join(lines[5 : lines.index("words")]).split()


def test_the_order_in_which_columns_go() -> None:
    """As the table says, then from the right; a column that is needed no more has gone for nothing and stays."""
    cells = [("a", "1" * 20, "2" * 20, "3" * 20)]
    assert left_out(drawn(cells, 60)) == ["third"]
    assert left_out(drawn(cells, 60, leave_out="first|third")) == ["first"]
    assert left_out(drawn(cells, 40, leave_out="first|third")) == ["first", "third"]


def test_columns_are_named_in_any_case_and_by_their_beginning() -> None:
    """The first comes along; a name that means nothing is reported, and is not taken for one that begins so."""
    cells = [("a", "1", "2", "3")]
    assert drawn(cells, 10, ("SECOND",)).splitlines()[2].split() == ["name", "second"]
    room = Room(None, ("sec", "thirdly"))
    with within(room):
        table = new_table(None, "name|>first|>second|>third")
        plain(table)
    assert room.found == {"sec"}
    assert list(room.known) == list(COLUMNS)


@pytest.mark.parametrize(
    ("asked", "shown", "unknown"),
    [
        ("s", "s, believed", ""),
        ("s, believed", "s, believed", ""),
        ("walks s,believed", "walks s, believed", ""),
        ("SCANNED,S, believed", "s, believed|scanned", ""),
        ("us", "us", ""),
        ("us, predicted", "us, predicted", ""),
        ("w", "walks s, believed", ""),
        ("us, predicted,s", "s, believed|us, predicted", ""),
        ("ci,r", "cipher|cipher, rest|rest", ""),
        ("cipher, rest", "cipher, rest", ""),
        ("believed", "", "believed"),
    ],
)
def test_a_comma_in_a_name_is_no_end_of_it(asked: str, shown: str, unknown: str) -> None:
    """The option has commas between names. What stands before a name's own is enough, and the whole of it is right too."""
    room = Room(None, split_names(asked, "columns"))
    names = [
        "name",
        "s, believed",
        "walks s, believed",
        "scanned",
        "us",
        "us, predicted",
        "cipher",
        "cipher, rest",
        "rest",
    ]
    there = [names[i] for i in room.asked(names)]
    assert there == (["name", *shown.split("|")] if shown else [])
    assert set(room.columns) - room.found == ({unknown} if unknown else set())


def test_columns_of_one_name_go_together() -> None:
    table = new_table(None, "level|>real|>off by|>user|>off by", leave_out="off by")
    table.add_row("1", "2.00 s", "0.5 %", "3.00 s", "0.25 %")
    with within(Room(24, ())):
        text = plain(table)
    assert text.splitlines()[1].split() == ["level", "real", "user"]
    assert left_out(text) == ["off by"]


def test_words_are_broken_before_a_column_goes() -> None:
    table = new_table(None, "name|_about|>nr", leave_out="nr")
    table.add_row("a", "one two three four five six seven eight nine ten", "7")
    with within(Room(44, ())):
        text = plain(table)
    assert left_out(text) == []
    assert max(map(len, text.splitlines())) <= 44
    assert " ".join(re.findall(r"[a-z]{3,}", text.partition("7")[0] + text.partition("7")[2])).endswith("nine ten")
    with within(Room(None, ())):
        assert "one two three four five six seven eight nine ten" in plain(table)


@pytest.mark.parametrize("width", [None, 30])
def test_wide_letters_count_twice(width: int | None) -> None:
    table = new_table(None, "name|>nr")
    table.add_row("漢字", "1")
    table.add_row("abcd", "1")
    with within(Room(width, ())):
        one, two = plain(table).splitlines()[3:5]
    assert one == " 漢字   1"
    assert two == " abcd   1"


texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "漢字", "e\u0301", "  a  b ", "\t", "some words to be broken over lines"]),
)


@given(
    cells=st.lists(st.lists(texts, max_size=4), max_size=4),
    title=st.none() | texts,
    caption=st.none() | texts,
    width=st.none() | st.integers(8, 60),
)
def test_what_is_drawn_without_rich_is_what_rich_draws(
    cells: list[list[str]], title: str | None, caption: str | None, width: int | None
) -> None:
    """To the letter, but for blanks that nobody sees."""
    table = new_table(title, "name|>first|_words|last", caption=caption, leave_out="last")
    for row in cells:
        table.add_row(*row, end_section=len(row) % 2 == 1)
    with within(Room(width)):
        for each in (table, Prose(title or "", "bold")):
            out = io.StringIO()
            show(_console(out, color_system=None), each)
            lines = [line.rstrip() for line in out.getvalue().splitlines()]
            assert plain(each) == "\n".join(lines) + "\n"
