"""swapload on areas that lie encrypted, beside the same on plain ones: all bytes come back, and who has the disk can read none of them.

2 MiB of RAM, 3.25 MiB of pages      plain      hundreds of pages of the area hold words of a process
                                     twofish    none does; each page that passes has cost its price
"""

from dataclasses import replace

import numpy as np
import pytest

from rmaplab.cache.loop_keys import FORMS
from rmaplab.errors import UsageError
from rmaplab.kernels.box import Box
from rmaplab.kernels.prices import GIVEN
from rmaplab.kernels.swap_space import behind, parse_swap
from rmaplab.lab.costs.swapload import SwaploadRow, compare_swapload
from rmaplab.report.swapload import SwaploadReport
from rmaplab.report.tables import Room, within
from rmaplab.report.tables import plain as as_text
from rmaplab.workloads.swapload import contents, legible

KERNEL = "2.6.5-rc1-aa1"
BOX = Box(ram="2M", swap="8M", boot_use=0, pages_min=8, overcommit=1, paging="i386")
LOAD = 1280 << 10


@pytest.fixture(scope="module")
def rows() -> list[SwaploadRow]:
    found, total = compare_swapload([KERNEL], BOX, LOAD, 1, forks=True, crypt="twofish")
    rows = list(found)
    assert len(rows) == total == 2
    return rows


def test_all_bytes_come_back_and_none_can_be_read(rows: list[SwaploadRow]) -> None:
    """The area has none of the patterns that a plain one is full of."""
    plain, crypt = rows
    assert [(row.area, row.crypt, row.outcome, row.why) for row in rows] == [
        ("plain", None, "ok", None),
        ("twofish", "twofish", "ok", None),
    ]
    for row in rows:
        assert row.verified_bytes == row.written_bytes > row.working_set_bytes == (2 << 20) + LOAD
        assert row.swap["pages_out"] > 300
        assert row.swap["pages_in"] > 300
    assert (plain.legible_pages or 0) > 300
    assert crypt.legible_pages == 0


def test_what_it_costs(rows: list[SwaploadRow]) -> None:
    """Each page once each way, at the price of the list; a throughput of each."""
    plain, crypt = rows
    pages = sum(crypt.swap.values())
    assert crypt.ledger["twofish_page"] == pages
    assert crypt.crypt_s == pytest.approx(pages * GIVEN["twofish_page"].ns / 1e9)
    assert plain.crypt_s == plain.ledger.get("twofish_page", 0) == 0
    for row in rows:
        assert row.pages_per_s == row.as_json()["pages_per_s"] == sum(row.swap.values()) / row.time_s["real"]
        assert (row.pages_per_wall_s or 0) > 0
    assert crypt.time_s["sys"] > plain.time_s["sys"]


def test_both_stand_beside_each_other(rows: list[SwaploadRow]) -> None:
    """With what is believed said; a plain comparison has none of these columns."""
    text = as_text(SwaploadReport(rows).text())
    for word in ("area", "pages per s", "per real s", "cipher s, believed", "legible pages", " plain ", " twofish "):
        assert word in text
    with within(Room(80)):
        narrow = as_text(SwaploadReport(rows).text()).splitlines()
    head = next(line for line in narrow if line.startswith(" kernel"))
    for word in ("area", "outcome", "pages per s", "legible pages"):  # what the comparison is for, on any terminal
        assert word in head
    plain = as_text(SwaploadReport([replace(rows[0], legible_pages=None)]).text())
    assert not [word for word in ("area ", "pages per s", "legible", "cipher") if word in plain]
    several = as_text(SwaploadReport([*rows, *(replace(row, burst_tables=1) for row in rows)]).text())
    assert f"{KERNEL} behind twofish" in several


def test_a_page_that_can_be_read_is_one_of_a_process() -> None:
    """Any two neighbouring words give it away; zeros, noise and text do not."""
    written = np.frombuffer(contents(np.array((1, 3)), np.array((77, 1 << 20)), np.array((0, 9))), np.uint8)
    pages = written.reshape(2, -1).copy()
    assert legible(pages) == 2
    pages[0, :2048] = pages[0, 2064:] = 0
    assert legible(pages) == 2
    pages[0, 2056] ^= 1
    assert legible(pages) == 1
    assert legible(np.random.default_rng(3).integers(0, 256, (200, 4096), np.uint8)) == 0
    assert legible(np.full((1, 4096), 0x41, np.uint8)) == 0


def test_the_same_areas_behind_a_loop_device() -> None:
    assert behind("64K@5,1M", "twofish256") == ["65536@5,crypt=twofish256", "1048576,crypt=twofish256"]
    assert [area.loop and area.loop.form for area in parse_swap(behind("1M", "twofish"))] == [FORMS["twofish"]]
    for words in ("1M,crypt=twofish", "./area"):
        with pytest.raises(UsageError, match="plain areas and crypt=twofish beside each other: give sizes alone"):
            behind(words, "twofish")


@pytest.mark.parametrize(
    ("kernel", "crypt", "why"),
    [
        (KERNEL, "rot13", "crypt=rot13 is not here"),
        ("2.6.2", "twofish-compat", "crypt=twofish-compat is loop_fish2's, which this kernel has not"),
    ],
)
def test_refused_before_the_first_run(kernel: str, crypt: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        compare_swapload([KERNEL, kernel], BOX, LOAD, 1, forks=True, crypt=crypt)
