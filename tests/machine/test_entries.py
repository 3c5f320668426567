"""Entries: what is put into one comes out again, in every era's and format's bits; what nothing can be is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.errors import KernelBug
from rmaplab.machine.entries import ENCODINGS, PRESENT, Encoding, EntryEra, EntryKind
from rmaplab.machine.paging import FORMATS

ALL = {f"{era.name}-{paging}": encoding for era, by in ENCODINGS.items() for paging, encoding in by.items()}
encodings = pytest.mark.parametrize("encoding", ALL.values(), ids=ALL)
ENTRY_BITS = {name: 8 * paging.entry_bytes for name, paging in FORMATS.items()}


def unsigned(entry: int) -> int:
    return entry & (1 << 64) - 1


@encodings
@given(data=st.data())
def test_a_swap_entry_says_area_and_slot(encoding: Encoding, data: st.DataObject) -> None:
    """And is neither nothing nor a page, whatever the slot: neither PRESENT nor the bit that hides a page is set."""
    area = data.draw(st.integers(0, (1 << encoding.type.nr) - 1).filter(lambda nr: nr != encoding.marker))
    slot = data.draw(st.integers(1, (1 << encoding.offset.nr) - 2))  # inverted, the last one of area 0 would be nothing
    entry = encoding.swap_entry(area, slot)
    assert encoding.kind(entry) is EntryKind.SWAP
    assert encoding.swap_slot(entry) == (area, slot)
    assert not entry & encoding.mapped
    assert entry


@encodings
def test_many_entries_are_as_one_by_one(encoding: Encoding) -> None:
    """To the last slot of the last area; and none for a slot that no entry can say."""
    last = (1 << encoding.offset.nr) - 1
    slots = np.array([1, 77, last // 3, last - 1], np.int64)
    areas = [area for area in (0, 1, 5, 26, (1 << encoding.type.nr) - 1) if area != encoding.marker]
    for area in areas:
        entries = encoding.swap_entries(area, slots)
        assert entries.tolist() == [encoding.swap_entry(area, slot) for slot in slots.tolist()]
        mask, wanted = encoding.swap_bits(area)
        assert [other for other in areas if encoding.swap_entry(other, 77) & mask == wanted] == [area]
    mixed = encoding.swap_entries(np.array(areas[:4]), slots)
    assert [encoding.swap_slot(entry) for entry in mixed.tolist()] == list(zip(areas, slots.tolist(), strict=False))
    if encoding.offset.nr < 56:
        with pytest.raises(KernelBug, match="does not fit"):
            encoding.swap_entries(0, np.array([1, last + 1]))


@pytest.mark.parametrize("name", [name for name, encoding in ALL.items() if encoding.file])
@given(data=st.data())
def test_a_file_entry_says_its_page(name: str, data: st.DataObject) -> None:
    """As many pages of a file as there are bits for (29 on i386: files.md B6), and no more."""
    encoding = ALL[name]
    bits = sum(field.nr for field in encoding.pgoff)
    pgoff = data.draw(st.integers(0, (1 << bits) - 1))
    entry = encoding.file_entry(pgoff)
    assert encoding.kind(entry) is EntryKind.FILE
    assert encoding.file_pgoff(entry) == pgoff
    with pytest.raises(KernelBug, match="has no entry"):
        encoding.file_entry(1 << bits)
    if "i386-pae" not in name and "i386" in name:
        assert bits == 29


def test_the_bits_are_those_of_the_headers() -> None:
    """Worked by hand: i386 of 2.6.2, slot 77 of area 3; x86-64 of 6.18, whose offset is inverted below the type (L1TF)."""
    old = ENCODINGS[EntryEra.LINUX_2_6]["i386"]
    assert old.swap_entry(3, 77) == (77 << 8) | (3 << 1)
    assert old.file_entry(0x25) == (1 << 8) | (5 << 1) | 0x40
    assert ENCODINGS[EntryEra.LINUX_2_6]["i386-pae"].file_entry(7) == (7 << 32) | 0x40
    new = ENCODINGS[EntryEra.LINUX_6_18]["x86-64"]
    assert unsigned(new.swap_entry(0, 1)) == ((1 << 50) - 2) << 9
    assert unsigned(new.swap_entry(5, 0)) == (5 << 59) | ((1 << 50) - 1) << 9
    assert new.kind(new.swap_entry(new.marker, 1)) is EntryKind.MARKER


@pytest.mark.parametrize("name", ALL)
def test_an_entry_fits_into_its_words(name: str) -> None:
    """The largest slot of the last area, in the bits that an entry of the format has."""
    encoding, paging = ALL[name], name.split("-", 1)[1]
    entry = encoding.swap_entry((1 << encoding.type.nr) - 1, (1 << encoding.offset.nr) - 1)
    assert unsigned(entry) >> ENTRY_BITS[paging] == 0


@encodings
def test_what_nothing_can_be_is_refused(encoding: Encoding) -> None:
    """Bits that belong to no field of any kind."""
    known = encoding.type.mask | encoding.offset.mask | encoding.file | encoding.mapped
    strange = next((1 << bit for bit in range(1, 64) if not known >> bit & 1), None)
    if strange is not None:
        with pytest.raises(KernelBug, match="no kind of entry has these bits"):
            encoding.kind(strange | encoding.swap_entry(0, 1))
    assert encoding.kind(0) is EntryKind.NONE
    assert encoding.kind(0x1000 | PRESENT) is EntryKind.PAGE
    assert encoding.kind(0x1000 | encoding.hidden) is EntryKind.HIDDEN
