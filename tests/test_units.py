"""Sizes as people type and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.errors import UsageError
from rmaplab.units import PAGE_SIZE, format_number, format_size, page_align, parse_size, typed_size

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@pytest.mark.parametrize(
    ("text", "nr_bytes"),
    [
        *[("0", 0), ("4096", 4096), (4096, 4096), ("512M", 512 << 20), ("1.5G", 3 << 29), ("1T", 1 << 40)],
        *[("512 MiB", 512 << 20), ("80 KB", 80 << 10), ("17 B", 17), (" 2g ", 2 << 30), ("64k", 64 << 10)],
    ],
)
def test_people_write_sizes_in_many_ways(text: str | int, nr_bytes: int) -> None:
    """A number with K, M, G or T, large or small, with or without B or iB, with or without a space; always binary."""
    assert parse_size(text) == nr_bytes


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "-1M", "1.G", ".5G", "1,5G", "1P", "12 parsecs", "1M2", "0x10", "1 M B", "nan"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    """Anything else is a UsageError of one line that repeats the input and shows how to write it."""
    with pytest.raises(UsageError, match="512M") as refusal:
        parse_size(text)
    assert repr(text) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(st.integers(0, 1 << 20), st.sampled_from(sorted(UNITS)))
def test_whole_numbers_of_a_unit_are_exact(number: int, unit: str) -> None:
    """parse_size of a whole number of units is that number times the unit, exactly."""
    assert parse_size(f"{number}{unit}") == number * UNITS[unit]


@pytest.mark.parametrize(
    ("nr_bytes", "text"),
    [
        *[(0, "0 B"), (512, "512 B"), (1023, "1023 B"), (1024, "1 KiB"), (80 << 10, "80 KiB"), (3 << 29, "1.5 GiB")],
        *[(1 << 40, "1 TiB"), (1 << 52, "4096 TiB"), (-(1 << 20), "-1 MiB"), (1100, "1.1 KiB")],
    ],
)
def test_a_reader_sees_at_most_one_decimal(nr_bytes: int, text: str) -> None:
    """The largest unit that leaves at least one, one decimal, none where it would be zero."""
    assert format_size(nr_bytes) == text


@given(st.integers(0, 1 << 50))
def test_what_is_written_can_be_read_again(nr_bytes: int) -> None:
    """parse_size(format_size(n)) is n to within what one decimal can say: a twentieth of the unit."""
    text = format_size(nr_bytes)
    unit = UNITS[text.split()[1].removesuffix("B").removesuffix("i")]
    assert abs(parse_size(text) - nr_bytes) <= unit / 20 + 1


def test_a_number_that_rounds_up_to_a_unit_is_written_in_it() -> None:
    """One byte less than a MiB is, to one decimal, 1 MiB."""
    assert format_size((1 << 20) - 1) == "1 MiB"


@given(st.integers(0, 1 << 50))
def test_page_align_rounds_up_to_whole_pages(nr_bytes: int) -> None:
    """The smallest multiple of a page that is not less."""
    aligned = page_align(nr_bytes)
    assert aligned % PAGE_SIZE == 0
    assert 0 <= aligned - nr_bytes < PAGE_SIZE


@given(st.integers(0, 1 << 50), st.integers(0, 40))
def test_what_is_to_be_typed_is_exact_and_short(number: int, shift: int) -> None:
    """In the largest unit that has it whole."""
    typed = typed_size(number << shift)
    assert parse_size(typed) == number << shift
    assert not typed.endswith("M") or (number << shift) % (1 << 30)


def test_typed_sizes() -> None:
    assert [typed_size(nr) for nr in (0, 17, 4096, 512 << 20, 1536 << 20, 4 << 30)] == [
        "0",
        "17",
        "4K",
        "512M",
        "1536M",
        "4G",
    ]


def test_one_is_no_plural() -> None:
    said = [format_number(nr, noun) for nr in (0, 1, 1200) for noun in ("call", "process", "entry")]
    assert said == [
        "0 calls", "0 processes", "0 entries", "1 call", "1 process", "1 entry", "1,200 calls", "1,200 processes", "1,200 entries",
    ]  # fmt: skip
