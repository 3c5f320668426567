"""What a program consists of gets into a log and out of it again; what no program consists of is refused."""

from __future__ import annotations

import pytest

from rmaplab.workloads.program_image import ProgramImage, ProgramSegment, from_line, to_line
from rmaplab.workloads.strace_words import BadWord

TEXT = ProgramSegment(0, 0x1668, 0x1668, 0, 5)
DATA = ProgramSegment(0x9A50, 0x700, 0x5B0, 0x8A50, 6)


def test_a_line_says_it_all() -> None:
    """Whatever the names are made of."""
    for image in (
        ProgramImage((TEXT, DATA), (0x9A50, 0x5B0), b"/lib64/ld.so"),
        ProgramImage((TEXT,)),
        ProgramImage((DATA,), None, b'"\n, \xff'),
    ):
        assert image.is_sound()
        assert from_line(to_line(b'/a "b"\n\xe2\x80\xae', image)) == (b'/a "b"\n\xe2\x80\xae', image)


def test_relro_is_whole_pages() -> None:
    """Where it begins rounded down, and so where it ends: glibc protects no page that it shares."""
    image = ProgramImage((TEXT, DATA), (0x9A50, 0x5B0))
    assert image.relro_pages() == (0x9000, 0x1000)
    assert ProgramImage((TEXT, DATA), (0x9A50, 0x5AF)).relro_pages() is None


@pytest.mark.parametrize(
    "loads",
    [
        (),
        (DATA, TEXT),
        (TEXT, TEXT),
        (TEXT._replace(filed=0x2000),),
        (TEXT._replace(memory=0),),
        (TEXT._replace(offset=1),),
        (TEXT, DATA._replace(address=1 << 33, offset=0)),
        (TEXT._replace(address=1 << 47),),
        tuple(TEXT._replace(address=i << 16) for i in range(65)),
    ],
)
def test_what_nobody_could_map_is_refused(loads: tuple[ProgramSegment, ...]) -> None:
    image = ProgramImage(loads)
    assert loads == () or not image.is_sound()
    with pytest.raises(BadWord):
        from_line(to_line(b"/a", image))
