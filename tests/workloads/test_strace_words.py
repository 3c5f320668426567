"""The words of a logged call: what was written is what is read, and what is none is refused."""

from __future__ import annotations

import random

import pytest

from rmaplab.workloads.strace_words import BadWord, field, fields, number, signed, split, text


def test_arguments_come_apart_as_they_were_put_together() -> None:
    """Whatever stands in brackets or quotes is one word."""
    dice = random.Random(7)
    words = [
        "0x22",
        '"\\x2c\\x20"',
        "{a=1, b=[2, 3], c={d=4}}",
        "[{iov_base=0x1, iov_len=2}, {x=3}]",
        "NULL",
        "-1",
        "f(1, 2)",
    ]
    for _ in range(200):
        chosen = [dice.choice(words[:-1]) for _ in range(dice.randrange(1, 7))]
        assert split(", ".join(chosen)) == chosen
    assert split("") == []


@pytest.mark.parametrize("value", [0, 1, 8, 0o755, 4096, 0x7F832A1C1000, (1 << 64) - 1])
def test_a_number_is_read_in_every_base(value: int) -> None:
    """As strace writes it: hex, decimal, octal."""
    assert number(hex(value)) == number(str(value)) == number(f"0{value:o}") == value


def test_parts_of_a_number_come_together() -> None:
    """Flags that strace takes apart: clone's signal."""
    assert number("0x1200000|17") == 0x1200011
    assert number("0x7fff16384560 /* 35 vars */") == 0x7FFF16384560
    assert number("NULL") == 0


@pytest.mark.parametrize(
    "word", ["", "x", "MAP_FIXED", "0x", "1" * 5000, "0x1" + "0" * 16, "-0x1" + "0" * 16, "1|x", "{", "09"]
)
def test_what_is_no_number_is_refused(word: str) -> None:
    """Or one of more than 64 bits."""
    with pytest.raises(BadWord):
        number(word)


def test_descriptors_have_signs() -> None:
    """Raw words are unsigned."""
    assert [signed(word) for word in ("-100", "0xffffff9c", "0xffffffffffffffff", "3")] == [-100, -100, -1, 3]


def test_a_string_is_its_bytes() -> None:
    """All of them."""
    every = bytes(range(256))
    assert text('"' + "".join(f"\\x{byte:02x}" for byte in every) + '"') == every
    assert text('"\\x2f"...') == b"/"


@pytest.mark.parametrize("word", ["3", '"', '"\\n"', '"\\x2"', "NULL"])
def test_what_is_no_string_is_refused(word: str) -> None:
    """Such as one with escapes of its own."""
    with pytest.raises(BadWord):
        text(word)


def test_fields_are_found_by_name() -> None:
    """In a structure, within another, and among arguments."""
    word = "{flags=0x3d0f00, parent_tid=0x7f, set={n=3}, stack_size=0x7fff80} => {parent_tid=[16]}"
    assert field(word, "flags") == 0x3D0F00
    assert field(word, "n") == 3
    assert field("child_stack=NULL, flags=0x1200000|17", "child_stack") == 0
    assert "nothing" not in fields(word)
    with pytest.raises(BadWord):
        field(word, "nothing")
