"""A script's box: what is written is read again, and what is none says what was expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.workloads.box import HOST, BadBox, ScriptBox, parse_box
from rmaplab.workloads.script import ScriptError, parse

SIZES = st.none() | st.integers(0, 1 << 50)
BOXES = st.builds(
    ScriptBox, SIZES, SIZES, st.none() | st.integers(0, 2), st.none() | st.integers(0, 10**6), st.none() | st.integers(0, 10**6)
)  # fmt: skip


@given(BOXES)
def test_what_is_written_is_read_again(box: ScriptBox) -> None:
    assert parse_box(str(box)) == box


@given(BOXES)
def test_a_script_keeps_its_box(box: ScriptBox) -> None:
    """str() of a script is its inverse, box and all."""
    script = parse(f"# a comment\n{box}  # another\nA: mmap w+0 1 rw\nA: wait")
    assert script.box == box
    again = parse(str(script))
    assert (again.box, [op.same() for op in again.ops]) == (box, [op.same() for op in script.ops])


def test_words_mean_what_they_say() -> None:
    """Bytes and numbers; what is not said is the host's."""
    box = parse_box("box ram=1.5G swap=0 overcommit=2")
    assert box == ScriptBox(ram=3 << 29, swap=0, overcommit=2)
    assert str(box) == "box ram=1536M swap=0 overcommit=2"
    assert parse_box("box host") == HOST == ScriptBox()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("box", "expected words such as ram=512M"),
        ("box ram", "expected a size such as ram=512M, found ''"),
        ("box ram=big", "expected a size such as ram=512M, found 'big'"),
        ("box overcommit=3", "expected 0 (heuristic), 1 (always) or 2 (strict) for overcommit, found '3'"),
        ("box ratio=-1", "expected a number for ratio, found '-1'"),
        ("box cpus=4", "each once, found 'cpus=4'"),
        ("box ratio=1 ratio=2", "each once, found 'ratio=2'"),
        ("box host ram=1G", "each once, found 'host'"),
    ],
)
def test_a_wrong_box_says_what_was_expected(line: str, message: str) -> None:
    """With file and line, from a script."""
    with pytest.raises(BadBox) as caught:
        parse_box(line)
    assert message in str(caught.value)
    with pytest.raises(ScriptError) as told:
        parse(f"# one\n{line}\nA: wait", "f")
    assert str(told.value) == f"f:2: {caught.value}"


@pytest.mark.parametrize("text", ["A: wait\nbox ram=1G", "box ram=1G\nbox swap=0\nA: wait", "repeat 2\nbox host\nA: wait\nend"])  # fmt: skip
def test_a_box_comes_first_and_once(text: str) -> None:
    with pytest.raises(ScriptError, match="expected the box before all operations, and once"):
        parse(text)
