"""Blocks that are repeated, sums in braces, expectations, and numbers for what has no word."""

import pytest

from rmaplab.calls.words import Length
from rmaplab.objects.flags import MADV_DONTNEED
from rmaplab.workloads.repeat import MOST_LINES, BadBlock, unrolled
from rmaplab.workloads.script import ScriptError, parse


def lines(text: str) -> list[str]:
    return [line for _, line in unrolled(text.splitlines())]


def test_a_block_is_done_as_often_as_it_says() -> None:
    assert lines("repeat 3 i\nA: mmap w+{2*i+1} {i % 2 + 1} rw\nend") == [
        "A: mmap w+1 1 rw",
        "A: mmap w+3 2 rw",
        "A: mmap w+5 1 rw",
    ]
    assert lines("repeat 2 i\nrepeat 2 j # inside\nx {10*i+j}\nend\ny {-i}\nend\nz") == [
        "x 0", "x 1", "y 0", "x 10", "x 11", "y -1", "z",
    ]  # fmt: skip
    assert lines("repeat 0 i\nx\nend") == []
    assert lines("repeat 2\nx {(7 - 1) // 4}\nend") == ["x 1", "x 1"]


def test_lines_keep_their_numbers() -> None:
    script = parse("repeat 2 i\n\nA: fork B{i}\nend\nA: wait")
    assert [op.line for op in script.ops] == [3, 3, 5]
    assert str(script) == "A: fork B0\nA: fork B1\nA: wait\n"
    assert str(parse(str(script))) == str(script)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("repeat 2 i\nx", 1, "an end behind this repeat"),
        ("x\nend", 2, "an end without its repeat"),
        ("repeat many\nx\nend", 1, "a block such as repeat 100 i"),
        ("repeat 2 i\nx {j}\nend", 2, "a sum of numbers and i in braces, found {j}"),
        ("x {1}\ny {i}", 2, "there is no counter here"),
        ("x {1/0}", 1, "found {1/0}"),
        ("x {1//0}", 1, "found {1//0}"),
        ("x {__import__('os')}", 1, "a sum of numbers"),
        ("x {9**9**9}", 1, "a sum of numbers"),
        ("x {True}", 1, "a sum of numbers"),
        ("repeat 999999 i\nx\nx\nend", 2, f"at most {MOST_LINES:,} operations"),
        ("repeat 999999 i\nrepeat 999999 j\nrepeat 0 k\nx\nend\nend\nend", 2, f"at most {MOST_LINES:,} turns"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(BadBlock, match=r"expected") as error:
        lines(text)
    assert (error.value.line, what in str(error.value)) == (line, True)
    with pytest.raises(ScriptError, match=f"f.script:{line}: expected"):
        parse(text, "f.script")


@pytest.mark.parametrize(
    ("expected", "result", "is_so"),
    [
        ("ok", "ok", True), ("ok", "w+0", True), ("ok", "#2 0", True), ("ok", "ENOMEM", False), ("ok", "#2 SIGSEGV w+1", False),
        ("ok", "-4088", False), ("ENOMEM", "ENOMEM", True), ("ENOMEM", "EINVAL", False), ("SIGSEGV", "SIGSEGV w+3", True),
        ("SIGSEGV w+3", "SIGSEGV w+3", True), ("SIGSEGV w+3", "SIGSEGV w+33", False), ("w+0", "w+0", True), ("#2", "#2 0", True),
    ],
)  # fmt: skip
def test_what_is_expected(expected: str, result: str, is_so: bool) -> None:
    (op,) = parse(f"A: read w+0 2 => {expected}").ops
    assert op.expected == expected
    assert op.is_as_expected(result) is is_so
    assert str(op) == f"A: read w+0 2 => {expected}"


def test_nothing_said_is_nothing_expected() -> None:
    (op,) = parse("A: wait").ops
    assert op.is_as_expected("ECHILD")
    with pytest.raises(ScriptError, match="x:1: expected what it comes to"):
        parse("A: wait =>", "x")
    with pytest.raises(ScriptError, match="x:1: expected a process and a colon"):
        parse("=> ok", "x")


def test_numbers_for_what_has_no_word() -> None:
    script = parse("A: madvise w+0 0xffffffffffffffffb 0x4d\nA: mmap w+0 1 rw STACK|0x1000000\nA: madvise w+0 1 0x4")
    assert script.ops[0]["length"] == Length((1 << 52) - 1, 4095)
    assert script.ops[0]["length"].nr_bytes == (1 << 64) - 1
    assert script.ops[0]["advice"] == 77
    assert script.ops[2]["advice"] == MADV_DONTNEED
    again = parse(str(script))
    assert [op.same() for op in again.ops] == [op.same() for op in script.ops]
    with pytest.raises(ScriptError, match="expected"):
        parse("A: limit 0x3 1")
