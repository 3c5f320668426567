"""Strings from strangers: no output obeys them, and nothing of them is lost to a reader.

prctl(PR_SET_NAME, "[/x]")       a markup error once         ESC ] 0 ; x BEL       the terminal's title once
"""

import contextlib
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rmaplab.harmless import harmless, printable
from rmaplab.host.candidates import Visit
from rmaplab.host.procfs import HostVma
from rmaplab.host.who import Answer
from rmaplab.report.emit import Report, emit
from rmaplab.report.tables import console, new_table, plain
from rmaplab.report.who import WhoReport

names = st.one_of(st.text(max_size=20), st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
HOSTILE = (
    "[/x]",
    "[bold]x[/bold]",
    "\x1b]0;x\x07",
    "\x1b[2J",
    "a\nb",
    "\r",
    "\u202ex",
    "\udcff",
    "\x9b31m",
    "\u2028",
    ":smile:",
)


@dataclass(frozen=True)
class Named:
    name: str

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "nr": 1}


@dataclass(frozen=True)
class Names(Report[Named]):
    """A report as any: names in a table, and in lines."""

    rows: Sequence[Named]

    def text(self) -> str:
        table = new_table(f"of {self.rows[0].name}", "name|>nr", caption=self.rows[0].name)
        for row in self.rows:
            table.add_row(row.name, "1")
        return plain(table)


def shown(report: Report[Any], form: str, tmp_path: Path) -> str:
    """What is printed, and that the file says the same."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        emit(report, form)
    emit(report, form, tmp_path / "file")
    written = (tmp_path / "file").read_text(encoding="utf-8")
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [line.rstrip() for line in written.splitlines()]
    return out.getvalue()


def obeyed(text: str) -> list[str]:
    return [c for c in text if not c.isprintable() and c != "\n"]


@given(name=names)
@example(name="[/x]")
@example(name="\x1b]0;x\x07")
def test_printable(name: str) -> None:
    """One line, all of it printable; what was printable is as it was; encodable."""
    text = printable(name)
    assert text.isprintable()
    text.encode("utf-8")
    assert text == name or not name.isprintable()
    assert harmless(f"{name}\n{name}").count("\n") == 2 * name.count("\n") + 1


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@given(name=names)
@example(name=HOSTILE[0])
@example(name=HOSTILE[2])
def test_a_report_obeys_no_name(tmp_path_factory: pytest.TempPathFactory, form: str, name: str) -> None:
    text = shown(Names([Named(name), Named("ordinary")]), form, tmp_path_factory.mktemp("names"))
    assert not obeyed(text)
    if form == "json":
        assert [row["name"] for row in json.loads(text)["rows"]] == [name, "ordinary"], "a program gets it as it is"
    elif form == "csv":
        assert [row["name"] for row in csv.DictReader(io.StringIO(text))] == [printable(name), "ordinary"]
    else:
        assert printable(name).strip() in text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_on_a_terminal(name: str) -> None:
    """Rich's own colours are its own: of the name nothing is obeyed, not even markup or an emoji."""
    table = new_table("names", "name")
    table.add_row(name)
    out = console()
    with out.capture() as caught:
        out.print(table)
    assert printable(name).strip() in caught.get()


@given(name=names, path=names)
@example(name="[/x]", path="/tmp/\x1b[2Ja\nb")
def test_who_obeys_no_name(tmp_path_factory: pytest.TempPathFactory, name: str, path: str) -> None:
    vma = HostVma(0x400000, 0x500000, "rw-p", 0, "00:00", 0, path)
    visit = Visit(10, name, 0x401000, vma)
    answer = Answer(1, "file", mapcount=1, mappers=[visit], candidates=[visit], notes=[name], absent=name)
    report = WhoReport([answer], f"pid 10 ({name}) at 401000")
    lines = shown(report, "table", tmp_path_factory.mktemp("who")).splitlines()
    assert not obeyed("".join(lines))
    assert any(line.startswith("    └── 10 ") and printable(str(vma)).rstrip() in line for line in lines)
