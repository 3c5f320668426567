"""Both address spaces, one above the other: exactly as they are shown."""

import numpy as np

from rmaplab.lab.differential.compare import Coverage, compare
from rmaplab.lab.differential.obey import obey
from rmaplab.report.differences import WIDTH, coverage_lines, draw_difference, draw_states
from rmaplab.workloads.script import parse
from rmaplab.workloads.world import EVERYTHING, State
from rmaplab.workloads.world_text import StateText, letters, state_of, vma_text


def state(vmas: list[str], pages: list[str], tables: int | None = 3) -> State:
    """In words."""
    return state_of(StateText(tuple(vmas), tuple(pages), tables))


def test_a_picture() -> None:
    """Borders, frames by the same letters on both sides, marks under what differs, a gap where nothing is mapped."""
    host = state(
        ["w+0..w+3 rw- account", "w+8..w+9 r--"],
        ["w+0 frame a x2 #2", "w+1 frame b x1 exclusive #2.1", "w+8 zero page 0"],
    )
    model = state(
        ["w+0..w+2 rw- account", "w+2..w+3 rw- locked account", "w+8..w+9 r--"],
        ["w+0 frame a x1 exclusive #2", "w+1 frame b x1 exclusive #2.1", "w+8 zero page 0"],
    )
    lines = draw_states("B", host, model, "host", "model", EVERYTHING)
    host_rows, model_rows, marks = lines[1:4], lines[4:7], lines[7]
    assert [row[:11].strip() for row in (*host_rows, *model_rows)] == ["host", "", "", "model", "", ""]
    column = lines[0].index("w+8") - 1
    assert host_rows[0][column:] == model_rows[0][column:] == "|r-- |"
    assert host_rows[1][column:] == "|0   |"
    assert marks[column:].strip() == ""
    first = lines[0].index("w+0") - 1
    assert (host_rows[1][first : first + 3], model_rows[1][first : first + 4]) == ("|a2", "|a1!")
    assert marks[first] == "^"
    third = lines[0].index("w+2") - 1
    assert model_rows[0][third:].startswith("|rw- lo ac |")
    assert marks[third] == "^"


def test_long_runs_are_one_column_and_long_lines_are_bands() -> None:
    """A mapping of 1,000 pages is drawn as one; 100 different pages take several bands, none wider than the terminal."""
    wide = state(["w+0..w+1000 rw- account"], [])
    lines = draw_states("A", wide, wide, "host", "model", EVERYTHING)
    assert any(". x 1000" in line for line in lines)
    pages = [f"w+{page} frame {letters(page + 1)} x1 #2.{page}" for page in range(0, 60, 2)]
    many = state(["w+0..w+60 rw- account"], pages)
    lines = draw_states("A", many, many, "host", "model", EVERYTHING)
    assert sum("process A" in line for line in lines) > 1
    assert max(map(len, lines)) <= WIDTH + 40  # a single column may be wider


def test_a_long_mapping_is_drawn_to_its_end() -> None:
    """Its length is told, and what differs far in it is marked."""
    vmas = ["w+0..w+200000 rw- account"]
    host, model = state(vmas, ["w+150000 frame a x1 #2"]), state(vmas, ["w+150000 frame a x2 #2"])
    lines = draw_states("A", host, model, "host", "model", EVERYTHING)
    drawn = "\n".join(lines)
    assert drawn.count(". x 150000") == drawn.count(". x 49999") == 2
    column = lines[2].index("a1")
    assert lines[5].index("a2") == column
    assert lines[7].strip("^ ") == ""
    assert "^" in lines[7][column - 1 : column + 2]
    assert lines[7].count("^") < 8


def test_flagless_mremap_is_counted_as_none() -> None:
    """A 0 before the numbers would read as one of them."""
    coverage = Coverage()
    coverage.add(obey(parse("A: mmap w+0 2 rw\nA: mremap w+0 2 1\nA: mremap w+9 1 1"), "6.18"))
    assert any("mremap: 1 ok, 1 EFAULT (none 1/2)" in line for line in coverage_lines(coverage))


def test_page_tables_are_told() -> None:
    """They are no picture."""
    one, other = state(["w+0..w+1 rw-"], [], 3), state(["w+0..w+1 rw-"], [], 4)
    assert draw_states("A", one, other, "host", "model", EVERYTHING)[-1] == (
        "  page tables of the script's memory: 3 on the host, 4 on the model"
    )


def test_a_model_that_breaks_down_and_a_process_too_many_are_told() -> None:
    """There is no address space to compare then."""
    script = parse("A: mmap w+0 1 rw\nA: fork B\nB: exit", "x")
    one, other = obey(script, "6.18"), obey(script, "6.18")
    other.worlds[2] = {**other.worlds[2], "B": other.worlds[1]["B"]}
    difference = compare(one, other)
    assert difference is not None
    assert draw_difference(difference, "host", "model")[-1] == "alive on the host: A; on the model: A, B"
    del other.results[1:], other.worlds[1:]
    other.error = ValueError("no such luck")
    difference = compare(one, other)
    assert difference is not None
    lines = draw_difference(difference, "host", "model")
    assert lines[0] == "x:2: A: fork B"
    assert "  model  ValueError: no such luck" in lines
    assert lines[-1] == "The model breaks down: that is a bug of ours."


def test_coverage_counts_by_kind_and_result() -> None:
    """Calls with the flags that make them another one, results in a word."""
    coverage = Coverage()
    script = parse(
        "A: mmap w+0 1 rw\nA: fork B\nB: fork C\nC: mremap w+4 1 1 MAYMOVE|FIXED w+8\nA: fork D\nD: write w+3\nD: write w+0"
    )
    coverage.add(obey(script, "6.18"))
    text = "\n".join(coverage_lines(coverage))
    assert text.startswith("covered: 7 operations in 1 script; in brackets: succeeded/tried\n")
    assert "\n  mremap: 1 EFAULT (MAYMOVE|FIXED 0/1)\n" in text
    assert "\n  write: 1 SIGSEGV, 1 ok\n" in text
    assert text.endswith("fork trees: 1 script, 1 of 4 processes or more, 1 of three generations or more")


def test_words_of_worlds_are_read_again() -> None:
    """state_of and state_text are inverse on what a model can show (tests/lab/differential/test_compare.py has random ones)."""
    one = state(["w+0..w+1 r-x growsdown noreserve"], ["w+0 frame ab copied x3 exclusive 0xdead"])
    assert one.pages.tolist() == [[1 << 40, 28, 1, 3, 1, 0xDEAD]]
    assert np.array_equal(one.vmas, np.array([[1 << 40, (1 << 40) + 4096, 0x20_0105, 0, 0]]))
    text = ["w+0..w+1 rw- shared file aa+3", "w+1..w+2 r-- mayshare file b+0"]
    two = state(text, [])
    assert two.vmas[:, 2:].tolist() == [[0x8B, 27, 3 * 4096], [0x81, 2, 0]]
    assert [vma_text(*vma) for vma in two.vmas.tolist()] == text
