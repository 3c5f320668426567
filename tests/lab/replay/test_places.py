"""Which region an address of the host belongs to: as a list of pages would say."""

from __future__ import annotations

import random

import pytest

from rmaplab.errors import UsageError
from rmaplab.lab.replay import places
from rmaplab.lab.replay.places import HostSpace, Image, ProgramPart, RegionPiece
from rmaplab.units import PAGE_SIZE

PAGES = 64


def pages_of(pieces: list[RegionPiece] | None) -> list[tuple[int, int]] | None:
    """(region, page of it) of each page."""
    if pieces is None:
        return None
    return [
        (piece.region, piece.offset // PAGE_SIZE + page)
        for piece in pieces
        for page in range(piece.length // PAGE_SIZE)
    ]


def test_a_space_is_what_a_list_of_pages_is() -> None:
    """After any calls, for any range; and a child's is a copy."""
    for seed in range(40):
        dice = random.Random(seed)
        space, pages = HostSpace(None), dict[int, tuple[int, int]]()
        for region in range(40):
            first, last = sorted((dice.randrange(PAGES), dice.randrange(1, PAGES + 1)))
            if dice.random() < 0.6:
                space.put(first * PAGE_SIZE, last * PAGE_SIZE, region)
                pages |= {page: (region, page - first) for page in range(first, last)}
            else:
                space.cut(first * PAGE_SIZE, last * PAGE_SIZE)
                pages = {page: where for page, where in pages.items() if not first <= page < last}
            if dice.random() < 0.1:
                before, space = space, space.copy()
                before.cut(0, PAGES * PAGE_SIZE)
            for low, high in [sorted(dice.sample(range(PAGES + 1), 2)) for _ in range(20)]:
                expected = (
                    [pages[page] for page in range(low, high)] if all(p in pages for p in range(low, high)) else None
                )
                assert pages_of(space.pieces(low * PAGE_SIZE, high * PAGE_SIZE)) == expected
            assert space.nr_stretches <= len(pages)


def test_neighbours_of_one_region_are_one_piece() -> None:
    """A hole that was filled with another region stays a border."""
    space = HostSpace(None)
    space.put(0x1000, 0x9000, 1)
    space.put(0x3000, 0x4000, 2)
    assert space.pieces(0x1000, 0x9000) == [
        RegionPiece(1, 0, 0x2000),
        RegionPiece(2, 0, 0x1000),
        RegionPiece(1, 0x3000, 0x5000),
    ]
    space.put(0x3000, 0x4000, 1, 0x1000)
    assert space.pieces(0x1000, 0x9000) == [RegionPiece(1, 0, 0x8000)]
    assert space.behind(0x9000) == RegionPiece(1, 0x8000, 0)
    assert space.behind(0x8000) is None
    assert space.begins(0x1000) == RegionPiece(1, 0, 0x2000)  # the first stretch of it


def image() -> Image:
    return Image(None, None, ProgramPart(10), ProgramPart(11), ProgramPart(12))


def test_what_nobody_has_mapped_is_the_programs_the_loaders_or_the_stacks() -> None:
    """By where it lies: below the heap, right above what was mapped, far above it."""
    program = image()
    space = HostSpace(program)
    space.heap = 0x5560_0010_0000
    space.put(0x7F00_0000_0000, 0x7F00_0001_0000, 1)
    assert space.pieces(0x5560_0000_5000, 0x5560_0000_6000) == [RegionPiece(10, 0, 0x1000)]
    assert space.pieces(0x5560_0000_3000, 0x5560_0000_4000) == [RegionPiece(10, -0x2000, 0x1000)]
    assert space.pieces(0x7F00_0002_0000, 0x7F00_0002_1000) == [RegionPiece(11, 0, 0x1000)]
    assert space.pieces(0x7FFF_0000_0123, 0x7FFF_0000_0124) == [RegionPiece(12, 0x123, 1)]
    assert space.pieces(0x2000, 0x3000) is None
    assert (program.program.low, program.program.high) == (-0x2000, 0x1000)


def test_a_part_is_not_believed_to_be_of_any_size() -> None:
    space = HostSpace(image())
    space.heap = 0x5560_0000_0000
    assert space.pieces(0x555F_F000_0000, 0x555F_F000_1000) is not None
    assert space.pieces(0x555F_E000_0000, 0x555F_E000_1000) is None


def test_stretches_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_STRETCHES", 5)
    space = HostSpace(None)
    for region in range(5):
        space.put(region * 0x2000, region * 0x2000 + 0x1000, region)
    with pytest.raises(UsageError, match="record less at once"):
        space.put(0x20000, 0x21000, 9)
