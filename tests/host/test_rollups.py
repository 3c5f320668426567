"""Texts of smaps_rollup, parsed together: what each says by itself."""

import os

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rmaplab.host import rollups
from rmaplab.host.procfs import read_proc
from rmaplab.host.rollups import parse_rollups, read_rollups

NAMES = (b"Rss", b"Pss", b"Swap", b"Private_Clean")
HEADS = st.sampled_from(["1000-7fff ---p 00000000 00:00 0 [rollup]", "55aa00-7fff ---p 00000000 00:00 0 [rollup]"])
TEXTS = st.tuples(
    HEADS,
    st.lists(
        st.tuples(
            st.sampled_from(["Rss", "Pss", "Pss_Dirty", "Swap", "SwapPss", "Locked"]),
            st.one_of(st.integers(0, 99), st.integers(0, 10**15)),
        ),
        max_size=5,
        unique_by=lambda pair: pair[0],
    ),
)


def by_itself(text: bytes) -> dict[bytes, int]:
    """Word by word."""
    lines = [line.split() for line in text.splitlines()[1:]]
    return {name[:-1]: int(number) for name, number, _ in lines if name[:-1] in NAMES}


@given(st.lists(TEXTS, min_size=1, max_size=20))
def test_texts_parsed_together_say_what_each_says(parts: list[tuple[str, list[tuple[str, int]]]]) -> None:
    """Of any heads, figures that are there or not, and numbers wider than their column."""
    texts = ["".join([f"{head}\n", *(f"{name + ':':16}{nr:8} kB\n" for name, nr in lines)]) for head, lines in parts]
    encoded = [text.encode() for text in texts]
    found: dict[int, dict[bytes, int]] = {}
    for length in {len(text) for text in encoded}:
        which = [i for i, text in enumerate(encoded) if len(text) == length]
        table = np.frombuffer(b"".join(encoded[i] for i in which), np.uint8).reshape(len(which), length)
        for told in parse_rollups(table, NAMES):
            for row, place in enumerate(told.places.tolist()):
                assert which[place] not in found
                found[which[place]] = {name: int(column[row]) for name, column in told.figures.items()}
    assert [found[i] for i in range(len(encoded))] == [by_itself(text) for text in encoded]


def test_many_are_read_as_one_is() -> None:
    """Ourselves, more often than fit into the buffer, and somebody who never was between them."""
    pids = ([os.getpid()] * 3 + [1 << 30]) * rollups._AT_ONCE
    text = read_proc(f"{os.getpid()}/smaps_rollup")
    assert isinstance(text, bytes)
    told = list(read_rollups(pids, NAMES))
    places = np.concatenate([each.places for each in told])
    assert sorted(places.tolist()) == [i for i, pid in enumerate(pids) if pid == os.getpid()]
    assert all(each.figures.keys() == by_itself(text).keys() for each in told)
    resident = np.concatenate([each.figures[b"Rss"] for each in told])
    assert abs(resident - by_itself(text)[b"Rss"]).max() < 100_000  # we grow meanwhile
