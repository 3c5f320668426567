"""Swap areas: which slot is next, whose turn it is, what a header says, and where the bytes are.

The judge of slots is written from the words of reclaim.md F.1 and F.2, in plain Python, and looks at every slot each time. That of turns keeps
a plain list of areas. What mkswap, swaplabel and blkid make of a header is asked of the host's own.
"""

import errno
import os
import random
import shutil
import struct
import subprocess
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmaplab.cache.area_store import AreaStore, FileAreaStore, MemoryAreaStore
from rmaplab.cache.swap_area import (
    MAX_BADPAGES,
    SWAP_MAP_BAD,
    SWAP_MAP_MAX,
    SwapArea,
    SwapHeader,
    read_header,
    write_header,
)
from rmaplab.cache.swap_areas import SwapAreas
from rmaplab.errors import DiskError, KernelBug, SyscallError, UsageError
from rmaplab.machine.arrays import I64, U8
from rmaplab.units import PAGE_SIZE

REQUIRE_ALL = bool(os.environ.get("RMAPLAB_REQUIRE_ALL"))


def slots_of(*slots: int) -> I64:
    return np.array(slots, np.int64)


# -- one area ----------------------------------------------------------------------------------------------------------


class PlainArea:
    """The words of F.1, one after another: free slots are a set, counts a dictionary."""

    def __init__(self, nr: int, bad: set[int]) -> None:
        self.nr = nr
        self.free = set(range(1, nr)) - bad
        self.uses: dict[int, int] = {}
        self.lowest, self.highest = 1, nr - 1
        self.cluster_next = self.cluster_nr = 0

    def find(self) -> int:
        if self.cluster_nr:
            for slot in range(self.cluster_next, self.highest + 1):
                if slot in self.free:
                    self.cluster_nr -= 1
                    return slot
            self.cluster_next = max(self.cluster_next, self.highest + 1)
        self.cluster_nr = 256
        for first in range(self.lowest, self.highest - 254):
            if all(slot in self.free for slot in range(first, first + 256)):
                return first
        for slot in range(self.lowest, self.highest + 1):
            if slot in self.free:
                self.lowest = slot + 1
                return slot
        return 0

    def take(self) -> int:
        slot = self.find()
        if slot:
            self.lowest += slot == self.lowest
            self.highest -= slot == self.highest
            self.free.remove(slot)
            self.uses[slot] = 1
            self.cluster_next = slot + 1
        if not slot or self.lowest > self.highest:
            self.lowest, self.highest = self.nr, 0
        return slot

    def duplicate(self, slot: int) -> bool:
        if slot not in self.uses:
            return False
        if self.uses[slot] < 0x7FFF:
            self.uses[slot] += 1
        return True

    def give(self, slot: int) -> int:
        if self.uses[slot] == 0x7FFF:
            return 0x7FFF
        self.uses[slot] -= 1
        if self.uses[slot]:
            return self.uses[slot]
        del self.uses[slot]
        self.free.add(slot)
        self.lowest = min(self.lowest, slot)
        self.highest = max(self.highest, slot)
        return 0

    @property
    def state(self) -> tuple[int, ...]:
        return self.lowest, self.highest, self.cluster_next, self.cluster_nr, len(self.free)


def state(area: SwapArea) -> tuple[int, ...]:
    return area.lowest_bit, area.highest_bit, area.cluster_next, area.cluster_nr, area.nr_free


def some_of(dice: random.Random, slots: list[int]) -> list[int]:
    """A stretch, a few at random, one, or all."""
    if not slots:
        return []
    kind = dice.randrange(8)
    if kind < 3:
        first = dice.randrange(len(slots))
        return slots[first : first + dice.choice((1, 5, 60, 300))]
    if kind < 7:
        return dice.sample(slots, dice.randint(1, min(len(slots), dice.choice((1, 8, 80)))))
    return dice.sample(slots, len(slots))


@pytest.mark.parametrize("seed", range(24))
def test_slot_for_slot_as_the_words_say(seed: int) -> None:
    """Areas of 2 to 2,000 slots, with bad ones; takes of 1 to 600, gives and duplicates, in turns."""
    dice = random.Random(seed)
    nr = dice.choice((2, 3, 5, 40, 257, 258, 259, 515, dice.randint(2, 2000), dice.randint(600, 2000), 2000))
    bad = set(dice.sample(range(1, nr), dice.choice((0, 0, min(nr - 1, 1), (nr - 1) // 50))))
    area, judge = SwapArea(nr, sorted(bad)), PlainArea(nr, bad)
    for step in range(60):
        match dice.randrange(6):
            case 0 | 1:
                count = dice.choice((1, 2, 17, 100, 257, 600))
                wanted = [slot for slot in (judge.take() for _ in range(count)) if slot]
                assert area.take_many(count).tolist() == wanted, f"step {step}"
            case 2:
                wanted = [judge.take() for _ in range(3)]
                assert [area.take() for _ in range(3)] == wanted, f"step {step}"
            case 3:
                twice = some_of(dice, [*sorted(judge.uses), -1, 0, nr, *bad])
                assert area.duplicate(slots_of(*twice)).tolist() == [judge.duplicate(slot) for slot in twice]
            case _:
                given_back = some_of(dice, sorted(judge.uses))
                assert area.give(slots_of(*given_back)).tolist() == [judge.give(slot) for slot in given_back]
        assert state(area) == judge.state, f"step {step}"
        assert {slot: int(area.users[slot]) for slot in np.flatnonzero(area.users) if area.users[slot] < 0x8000} == (
            judge.uses
        )
        area.check()


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 40), st.lists(st.integers(-20, 40), max_size=60))
def test_small_areas_take_by_take(nr: int, steps: list[int]) -> None:
    """A number below 0 takes so many, another gives or duplicates that slot."""
    area, judge = SwapArea(nr), PlainArea(nr, set())
    for step in steps:
        if step < 0:
            assert [area.take() for _ in range(-step)] == [judge.take() for _ in range(-step)]
        elif step in judge.uses and step % 3:
            assert area.give(slots_of(step)).tolist() == [judge.give(step)]
        else:
            assert area.duplicate(slots_of(step)).tolist() == [judge.duplicate(step)]
        assert state(area) == judge.state
        area.check()


def test_take_many_is_so_many_takes() -> None:
    """On two areas with the same holes, for every number, past the end."""
    for count in (0, 1, 2, 256, 257, 258, 700, 1100):
        one, many = SwapArea(1000, [5, 300]), SwapArea(1000, [5, 300])
        for area in (one, many):
            area.take_many(900)
            area.give(np.arange(301, 900)[np.arange(599) % 7 > 0])
        taken = [one.take() for _ in range(count)]
        assert many.take_many(count).tolist() == [slot for slot in taken if slot]
        assert state(one) == state(many)
        assert (one.users == many.users).all()


def test_a_cluster_is_257_slots() -> None:
    """The first is not counted. Then the next 256 free ones in a row open another, here at the area's begin again."""
    area = SwapArea(2000)
    assert area.take_many(257).tolist() == list(range(1, 258))
    assert (area.cluster_next, area.cluster_nr) == (258, 0)
    area.give(np.arange(1, 258))
    assert area.take() == 1
    area = SwapArea(2000)
    area.take_many(257)
    area.give(np.arange(2, 258))
    assert area.take() == 2


def test_a_cluster_begins_anywhere() -> None:
    """Behind slot 10, which is used: at 11, which is aligned to nothing."""
    area = SwapArea(2000, [10])
    assert area.take() == 11
    assert area.take_many(256).tolist() == list(range(12, 268))
    assert area.take() == 268  # the next 256 in a row
    short = SwapArea(265, [10])  # 11 to 264 are 254
    assert short.take_many(12).tolist() == [*range(1, 10), 11, 12, 13]


def test_what_a_cluster_has_passed_in_vain_it_does_not_look_at_again() -> None:
    """A search in vain has gone from 3 to 10: so 7, given back, is behind the cluster, and 2, the lowest, is taken first."""
    area = SwapArea(12)
    area.take_many(11)
    area.give(slots_of(2, 11))
    assert area.take_many(2).tolist() == [2, 11]
    area.give(slots_of(2))
    assert area.take() == 2
    assert state(area) == (3, 10, 3, 256, 0)  # full, and it does not know
    assert area.take() == 0
    assert state(area) == (12, 0, 11, 256, 0)
    area.give(slots_of(7, 2))
    assert area.take_many(2).tolist() == [2, 7]


def test_an_area_that_crosses_says_it_is_full() -> None:
    area = SwapArea(4)
    assert area.take_many(3).tolist() == [1, 2, 3]
    assert state(area) == (4, 0, 4, 254, 0)
    assert area.take() == 0
    assert state(area) == (4, 0, 4, 256, 0)
    assert area.give(slots_of(2)).tolist() == [0]
    assert (area.lowest_bit, area.highest_bit, area.nr_free) == (2, 2, 1)
    assert area.take_many(9).tolist() == [2]


def test_a_slot_that_is_used_too_often_stays_for_ever() -> None:
    area = SwapArea(4)
    many = np.full(SWAP_MAP_MAX - 2, area.take(), np.int64)
    assert area.duplicate(many).all()
    assert area.users[1] == SWAP_MAP_MAX - 1
    assert area.give(slots_of(1)).tolist() == [SWAP_MAP_MAX - 2]
    assert area.duplicate(slots_of(1, 1, 1)).all()
    assert area.users[1] == SWAP_MAP_MAX
    assert set(area.give(np.full(2 * SWAP_MAP_MAX, 1, np.int64)).tolist()) == {SWAP_MAP_MAX}
    area.check()
    assert (area.nr_free, area.pages) == (2, 3)


def test_bad_slots_are_nobodys() -> None:
    area = SwapArea(6, [2, 4])
    assert area.pages == area.nr_free == 3
    assert area.take_many(9).tolist() == [1, 3, 5]
    assert not area.duplicate(slots_of(0, 2, 4, 6, -1)).any()
    assert area.users.tolist() == [SWAP_MAP_BAD, 1, SWAP_MAP_BAD, 1, SWAP_MAP_BAD, 1]
    area.check()


@pytest.mark.parametrize("slot", [0, 1, 2, 3, 4, -1, 1 << 40])
def test_what_nobody_uses_nobody_gives(slot: int) -> None:
    """The header, one that is given already, a bad one, a free one, none; those before it in the batch are given."""
    area = SwapArea(4, [2])
    area.take()
    with pytest.raises(KernelBug, match=f"slot {slot} "):
        area.give(slots_of(1, slot))
    assert area.nr_free == 2
    area.check()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda area: area.users.__setitem__(3, 0),
        lambda area: area.users.__setitem__(9, 1),
        lambda area: area.users.__setitem__(3, -1),
        lambda area: area.users.__setitem__(3, SWAP_MAP_BAD + 1),
        lambda area: area.users.__setitem__(0, 1),
        lambda area: setattr(area, "nr_available", 5),
        lambda area: setattr(area, "pages", 10),
        lambda area: area._state.__setitem__(0, 9),
        lambda area: area._state.__setitem__(0, 0),
        lambda area: area._state.__setitem__(1, 8),
        lambda area: area._state.__setitem__(1, 10),
        lambda area: area._state.__setitem__(2, 11),
        lambda area: area._state.__setitem__(3, 257),
    ],
)
def test_check_sees_what_is_wrong(spoil: object) -> None:
    area = SwapArea(10)
    area.take_many(7)
    area.check()
    assert callable(spoil)
    spoil(area)
    with pytest.raises(KernelBug):
        area.check()


# -- the list ----------------------------------------------------------------------------------------------------------


class PlainList:
    """The areas' judges, highest priority first; `at` is the place of the one where searches begin."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, PlainArea]] = []  # priority, number, area
        self.at = self.least = 0

    def add(self, priority: int | None, nr: int) -> None:
        if priority is None:
            self.least -= 1
            priority = self.least
        place = sum(row[0] > priority for row in self.rows)
        self.at = self.at + 1 if place and place <= self.at else self.at if place else 0
        self.rows.insert(place, (priority, len(self.rows), PlainArea(nr, set())))

    @property
    def nr_free(self) -> int:
        return sum(len(area.free) for _, _, area in self.rows)

    def get(self) -> tuple[int, int] | None:
        """Asked are those from `at` on that have its priority, then all from the head. Nobody is if nobody has a slot."""
        if not self.nr_free:
            return None
        priorities = [priority for priority, _, _ in self.rows]
        same = [place for place in range(self.at, len(self.rows)) if priorities[place] == priorities[self.at]]
        for place in [*same, *range(len(self.rows))]:
            _, number, area = self.rows[place]
            if slot := area.take():
                self.at = place + 1 if priorities[place : place + 2] == [priorities[place]] * 2 else 0
                return number, slot
        raise AssertionError

    def give(self, number: int, slot: int) -> int:
        place = [each for _, each, _ in self.rows].index(number)
        if self.rows[place][0] > self.rows[self.at][0]:
            self.at = place
        return self.rows[place][2].give(slot)


@pytest.mark.parametrize("seed", range(30))
def test_turns_as_a_plain_list_has_them(seed: int) -> None:
    """Up to seven areas, many of equal priority, which come one after another; in between slots go and come back."""
    dice = random.Random(seed)
    areas, plain = SwapAreas(), PlainList()
    held: list[tuple[int, int]] = []
    for _ in range(120):
        roll = dice.randrange(10)
        if roll == 0 and len(plain.rows) < 7:
            nr, priority = dice.choice((2, 3, 9, 30, 300)), dice.choice((None, None, 0, 5, 5, 5, 32767))
            plain.add(priority, nr)
            assert areas.swapon(SwapArea(nr), priority) == len(plain.rows) - 1
        elif roll < 6:
            count = dice.choice((1, 1, 2, 7, 40, 200))
            wanted = [found for found in (plain.get() for _ in range(count)) if found]
            numbers, slots = areas.get(count)
            assert list(zip(numbers.tolist(), slots.tolist(), strict=True)) == wanted
            held += wanted
        else:
            gone = dice.sample(held, min(len(held), dice.choice((1, 1, 3, 20))))
            held = [each for each in held if each not in gone]
            left = areas.give(slots_of(*(number for number, _ in gone)), slots_of(*(slot for _, slot in gone)))
            assert left.tolist() == [plain.give(number, slot) for number, slot in gone]
        assert list(areas) == [number for _, number, _ in plain.rows]
        assert plain.rows == [] or areas.next == plain.rows[plain.at][1]
        assert [state(areas.areas[number]) for number in areas] == [area.state for _, _, area in plain.rows]
        assert areas.nr_swap_pages == plain.nr_free
        assert areas.total_swap_pages == sum(area.nr - 1 for _, _, area in plain.rows)
        areas.check()


@pytest.mark.parametrize("seed", range(10))
def test_many_at_once_are_as_many_one_by_one(seed: int) -> None:
    """The same areas twice, each state included: a search in vain leaves its traces in both. Some leave the list and come back."""
    dice = random.Random(seed)
    both = SwapAreas(), SwapAreas()
    for _ in range(5):
        nr, priority = dice.choice((2, 5, 40, 300, 700)), dice.choice((None, 3, 3, 4))
        for areas in both:
            areas.swapon(SwapArea(nr), priority)
    held: list[tuple[int, int]] = []
    for _ in range(25):
        count = dice.choice((1, 3, 50, 400))
        at_once = both[0].get(count)
        singly = [found for found in (both[1].take() for _ in range(count)) if found[1]]
        assert list(zip(at_once[0].tolist(), at_once[1].tolist(), strict=True)) == singly
        held += zip(at_once[0].tolist(), at_once[1].tolist(), strict=True)
        gone = dice.sample(held, dice.choice((0, len(held) // 3, len(held))))
        held = [each for each in held if each not in set(gone)]
        numbers, slots = (slots_of(*column) for column in (zip(*gone, strict=True) if gone else ((), ())))
        both[0].give(numbers, slots)
        for number, slot in gone:
            both[1].give(slots_of(number), slots_of(slot))
        number, listed = dice.randrange(5), list(both[0])
        if number not in listed or dice.random() < 0.3:
            for areas in both:
                (areas.leave if number in listed else areas.rejoin)(number)
        assert [state(area) for area in both[0].areas] == [state(area) for area in both[1].areas]
        assert (both[0].next, both[0].nr_swap_pages) == (both[1].next, both[1].nr_swap_pages)
        for areas in both:
            areas.check()


def test_priorities_that_nobody_gave_go_down() -> None:
    """-1, -2, ...: the first is used first. What is given has 15 bits."""
    areas = SwapAreas()
    for priority in (None, None, 0, 0x8000 | 7):
        areas.swapon(SwapArea(4), priority)
    assert [area.priority for area in areas.areas] == [-1, -2, 0, 7]
    assert list(areas) == [3, 2, 0, 1]
    assert areas.get(99)[0].tolist() == [3, 3, 3, 2, 2, 2, 0, 0, 0, 1, 1, 1]
    assert areas.get(1)[0].size == areas.nr_swap_pages == 0


def test_the_newest_of_equal_areas_is_first_and_they_take_turns() -> None:
    areas = SwapAreas()
    for _ in range(3):
        areas.swapon(SwapArea(4), 5)
    assert areas.get(8)[0].tolist() == [2, 1, 0, 2, 1, 0, 2, 1]


def test_a_slot_of_a_better_area_brings_the_search_back() -> None:
    """Two low areas in turn; looking up a slot of the high one, which is full, moves the pointer to it, and it is passed in vain."""
    areas = SwapAreas()
    for priority in (1, 1, 9):
        areas.swapon(SwapArea(4), priority)
    numbers, slots = areas.get(4)
    assert (numbers.tolist(), areas.next) == ([2, 2, 2, 1], 0)
    areas.duplicate(numbers[:1], slots[:1])
    assert areas.next == 0
    areas.give(numbers[3:], slots[3:])
    assert areas.next == 0
    assert areas.give(numbers[:1], slots[:1]).tolist() == [1]  # used by another still: looked up all the same
    assert areas.next == 2
    assert areas.get(1)[0].tolist() == [1]
    areas.check()


def test_swapoff_takes_an_area_off_the_list() -> None:
    """Its slots stay used, and count against what is free elsewhere, until they are given back. What looks them up is led to it in vain."""
    areas = SwapAreas()
    for priority in (5, 1):
        areas.swapon(SwapArea(4), priority)
    numbers, slots = areas.get(2)
    areas.leave(0)
    assert (list(areas), areas.next, areas.nr_swap_pages, areas.total_swap_pages) == ([1], 1, 1, 3)
    areas.check()
    areas.give(numbers[:1], slots[:1])
    assert (areas.next, areas.nr_swap_pages) == (0, 2)
    areas.check()
    assert areas.get(1)[0].tolist() == [1]
    with pytest.raises(KernelBug):
        areas.release(0)
    with pytest.raises(SyscallError, match="no swap area 0") as refused:
        areas.leave(0)
    assert refused.value.errno == errno.EINVAL
    areas.rejoin(0)
    assert (list(areas), areas.next, areas.nr_swap_pages) == ([0, 1], 0, 4)
    areas.leave(0)
    areas.give(numbers[1:], slots[1:])
    areas.release(0)
    areas.check()
    for call in (areas.release, areas.rejoin):
        with pytest.raises(KernelBug):
            call(0)
    with pytest.raises(KernelBug, match="no area 0"):
        areas.give(numbers[1:], slots[1:])
    assert areas.swapon(SwapArea(4), 0) == 0  # the number is another's
    assert list(areas) == [1, 0]
    areas.check()


def test_a_pointer_to_a_number_that_is_anothers_now() -> None:
    """Area 0 left while `next` was led to it; the new area 0 is the worst there is, and gives the next slot all the same. Once."""
    areas = SwapAreas()
    for priority in (5, 1):
        areas.swapon(SwapArea(4), priority)
    number, slot = areas.get(1)
    areas.leave(0)
    areas.give(number, slot)
    areas.release(0)
    areas.swapon(SwapArea(4), 0)
    assert areas.next == 0
    areas.check()
    assert areas.get(3)[0].tolist() == [0, 1, 1]


def test_there_are_32_areas_at_most() -> None:
    areas = SwapAreas()
    for _ in range(32):
        areas.swapon(SwapArea(2))
    with pytest.raises(SyscallError, match="32 swap areas") as refused:
        areas.swapon(SwapArea(2))
    assert refused.value.name == "EPERM"
    assert areas.areas[-1].priority == -32


def test_no_area_has_no_slot() -> None:
    areas = SwapAreas()
    assert areas.get(3)[1].size == 0
    areas.check()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda areas: setattr(areas, "nr_swap_pages", 3),
        lambda areas: setattr(areas, "total_swap_pages", 3),
        lambda areas: setattr(areas, "head", 0),
        lambda areas: setattr(areas, "next", 9),
        lambda areas: setattr(areas.areas[0], "next", 1),
        lambda areas: setattr(areas.areas[0], "writeok", False),
        lambda areas: setattr(areas.areas[0], "priority", 99),
        lambda areas: areas.areas[0].users.__setitem__(1, 1),
    ],
)
def test_check_of_the_list_sees_what_is_wrong(spoil: object) -> None:
    areas = SwapAreas()
    for priority in (1, 5):
        areas.swapon(SwapArea(4), priority)
    areas.check()
    assert callable(spoil)
    spoil(areas)
    with pytest.raises(KernelBug):
        areas.check()


# -- the header --------------------------------------------------------------------------------------------------------


def tool(name: str) -> str:
    """A program of the host, also where no account's PATH leads. Skips where there is none, unless everything is required."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None and not REQUIRE_ALL:
        pytest.skip(f"no {name}")
    return str(found)


def said_by(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


IDENT = uuid.UUID("12345678-9abc-def0-1122-334455667788")


@pytest.fixture
def area_file(tmp_path: Path) -> Path:
    """10 MiB, of which the host has none."""
    path = tmp_path / "area"
    path.touch(mode=0o600)
    os.truncate(path, 10 << 20)
    return path


def test_what_mkswap_writes_is_read(area_file: Path) -> None:
    said_by(tool("mkswap"), "-p", "4096", "-L", "exchange", "-U", str(IDENT), str(area_file))
    header = read_header(area_file.read_bytes()[:PAGE_SIZE])
    assert header == SwapHeader(last_page=2559, uuid=IDENT, label=b"exchange")
    old = SwapArea.of(header, device_pages=2560, on_a_file=True)
    new = SwapArea.of(header, device_pages=2560, on_a_file=True, uses_last=True)
    assert (old.max, old.pages, new.max, new.pages) == (2559, 2558, 2560, 2559)
    assert (old.take_many(9999)[-1], new.take_many(9999)[-1]) == (2558, 2559)


def test_what_is_written_is_read_by_others(area_file: Path) -> None:
    """swaplabel, blkid and mkswap itself: byte for byte what that writes, but for the boot code's place."""
    header = SwapHeader(last_page=2559, uuid=IDENT, label=b"exchange")
    area_file.write_bytes(write_header(header))
    os.truncate(area_file, 10 << 20)
    assert said_by(tool("swaplabel"), str(area_file)).split() == ["LABEL:", "exchange", "UUID:", str(IDENT)]
    seen = said_by(tool("blkid"), "--probe", "-o", "export", str(area_file)).splitlines()
    assert {"LABEL=exchange", f"UUID={IDENT}", "TYPE=swap", "VERSION=1"} <= set(seen)
    ours = area_file.read_bytes()[1024:PAGE_SIZE]
    said_by(tool("mkswap"), "-p", "4096", "-L", "exchange", "-U", str(IDENT), str(area_file))
    assert area_file.read_bytes()[1024:PAGE_SIZE] == ours


@given(
    st.integers(3, 0xFFFFFFFF),
    st.lists(st.integers(1, 2), max_size=MAX_BADPAGES),
    st.uuids(),
    st.binary(max_size=16).filter(lambda label: b"\0" not in label),
)
def test_a_header_comes_back_as_it_was(last_page: int, bad: list[int], ident: uuid.UUID, label: bytes) -> None:
    header = SwapHeader(last_page, tuple(bad), ident, label)
    assert read_header(write_header(header)) == header


def spoiled(at: int, *words: int) -> bytes:
    """A header of 100 pages with other words at a place."""
    page = bytearray(write_header(SwapHeader(99)))
    struct.pack_into(f"<{len(words)}I", page, at, *words)
    return bytes(page)


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (b"", "no swap-space signature"),
        (bytes(PAGE_SIZE), "no swap-space signature"),
        (write_header(SwapHeader(99))[:-1] + b"1", "no swap-space signature"),
        (write_header(SwapHeader(99))[:-10] + b"SWAP-SPACE", "version 0 swap"),
        (spoiled(1024, 2), "header version 2"),
        (spoiled(1024, 1 << 24), "header version 16777216"),
        (spoiled(1032, MAX_BADPAGES + 1), "638 bad pages"),
        (write_header(SwapHeader(99, (0,))), "bad page 0 is outside of 1 to 98"),
        (write_header(SwapHeader(99, (1, 98, 99))), "bad page 99 is outside of 1 to 98"),
        (write_header(SwapHeader(99, (0xFFFFFFFF,))), "bad page 4294967295"),
    ],
)
def test_headers_that_swapon_refuses(page: bytes, why: str) -> None:
    with pytest.raises(SyscallError, match=f"swapon: .*{why}") as refused:
        read_header(page)
    assert refused.value.name == "EINVAL"


def test_an_area_of_its_header_alone() -> None:
    """Up to 2.6.7 vmalloc(0) is NULL, which is ENOMEM; a last page 1 leaves nothing, later a slot."""
    with pytest.raises(SyscallError, match="empty") as refused:
        read_header(write_header(SwapHeader(0)))
    assert refused.value.name == "ENOMEM"
    for last_page, uses_last in ((1, False), (0, True)):
        header = read_header(write_header(SwapHeader(last_page)), uses_last=uses_last)
        with pytest.raises(SyscallError, match="empty") as refused:
            SwapArea.of(header, uses_last=uses_last)
        assert refused.value.name == "EINVAL"
    assert SwapArea.of(SwapHeader(1), uses_last=True).take_many(5).tolist() == [1]


def test_what_of_a_header_the_device_decides() -> None:
    """Its size, and whether it is a file: since 2.6.34 that has no bad pages. The last page is asked for since then only."""
    header = SwapHeader(99, (5, 7))
    assert SwapArea.of(header, device_pages=99, on_a_file=True).pages == 96
    with pytest.raises(SyscallError, match="has 98 pages, its header says 99"):
        SwapArea.of(header, device_pages=98)
    with pytest.raises(SyscallError, match="has 99 pages, its header says 100"):
        SwapArea.of(header, device_pages=99, uses_last=True)
    with pytest.raises(SyscallError, match="a file has no bad pages"):
        SwapArea.of(header, on_a_file=True, uses_last=True)
    last = read_header(write_header(SwapHeader(99, (99,))), uses_last=True)
    assert SwapArea.of(last, device_pages=100, uses_last=True).take_many(200).tolist() == list(range(1, 99))


def test_an_area_larger_than_entries_can_say() -> None:
    """Up to 2.6.7 the pages behind are counted as free, and a search finds the area full; later they are not."""
    header = SwapHeader(99, (90,))
    old = SwapArea.of(header, nr_offsets=64)
    assert (old.max, old.pages, old.nr_free, old.nr_available) == (62, 97, 97, 61)
    old.check()
    areas = SwapAreas()
    areas.swapon(old)
    assert areas.get(97)[1].tolist() == list(range(1, 62))
    assert (areas.nr_swap_pages, areas.get(1)[1].size) == (36, 0)
    areas.check()
    new = SwapArea.of(header, nr_offsets=64, uses_last=True)
    assert (new.max, new.pages) == (64, 63)


def test_a_bad_page_that_is_listed_twice_is_missing_twice() -> None:
    """Of slots 1 to 3 two are good, one is counted: the search ends while a slot is free."""
    area = SwapArea.of(SwapHeader(4, (2, 2)))
    assert (area.pages, area.nr_available) == (1, 2)
    areas = SwapAreas()
    areas.swapon(area)
    assert areas.get(5)[1].tolist() == [1]
    areas.check()


def test_what_does_not_fit_into_a_header_is_refused() -> None:
    with pytest.raises(UsageError, match="17 bytes"):
        write_header(SwapHeader(99, label=b"x" * 17))
    with pytest.raises(UsageError, match="638 bad pages"):
        write_header(SwapHeader(999, (1,) * 638))
    assert read_header(write_header(SwapHeader(99, label=b"x" * 16))).label == b"x" * 16


# -- bytes -------------------------------------------------------------------------------------------------------------


def pages_of(*numbers: int) -> U8:
    return np.repeat(np.array(numbers, np.uint8)[:, None], PAGE_SIZE, axis=1)


def opened(path: Path) -> FileAreaStore:
    return FileAreaStore(os.open(path, os.O_RDWR | os.O_CLOEXEC), str(path))


def write_many(store: AreaStore, slots: I64, pages: U8) -> None:
    for failure in store.write_pages(slots, pages, np.arange(slots.size)).values():
        raise failure


def read_many(store: AreaStore, slots: I64, out: U8) -> None:
    for failure in store.read_pages(slots, out, np.arange(slots.size)).values():
        raise failure


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AreaStore:
    """Of 20 slots."""
    if request.param == "memory":
        return MemoryAreaStore(20)
    (tmp_path / "area").write_bytes(bytes(20 * PAGE_SIZE))
    return opened(tmp_path / "area")


def test_bytes_go_to_their_slots_and_come_back(store: AreaStore) -> None:
    """Random batches, in any order, with repeats among those that are read."""
    dice, truth = random.Random(1), pages_of(*[0] * 20)
    for step in range(1, 60):
        slots = slots_of(*dice.sample(range(1, 20), dice.randint(0, 19)))
        if step % 2:
            slots.sort()
        pages = pages_of(*(dice.randrange(256) for _ in slots))
        write_many(store, slots, pages)
        truth[slots] = pages
        one = dice.randrange(1, 20)
        store.write(one, pages_of(step)[0])
        truth[one] = step
        wanted = slots_of(*(dice.randrange(1, 20) for _ in range(9)))
        out = pages_of(*[1] * 9)
        read_many(store, wanted, out)
        assert (out == truth[wanted]).all()
        assert (store.read(one) == step).all()


def test_of_a_slot_named_twice_the_last_row_counts(store: AreaStore) -> None:
    write_many(store, slots_of(3, 4, 3), pages_of(1, 2, 9))
    assert [int(store.read(slot)[0]) for slot in (3, 4)] == [9, 2]


def test_what_was_read_is_a_copy(store: AreaStore) -> None:
    page = store.read(3)
    page[:] = 7
    assert not store.read(3).any()


@pytest.mark.parametrize("slot", [-1, 0, 20, 21])
def test_the_header_and_what_is_no_slot_are_out_of_bounds(store: AreaStore, slot: int) -> None:
    out = pages_of(0, 0)
    with pytest.raises(KernelBug, match=f"slot {slot} "):
        read_many(store, slots_of(1, slot), out)
    with pytest.raises(KernelBug, match=f"slot {slot} "):
        store.write(slot, out[0])


def test_a_file_has_its_slots_where_linux_would_look(tmp_path: Path) -> None:
    path = tmp_path / "area"
    path.write_bytes(write_header(SwapHeader(9)).ljust(10 * PAGE_SIZE, b"\0"))
    store = opened(path)
    assert store.nr_slots == 10
    write_many(store, slots_of(7, 8, 2), pages_of(70, 80, 20))
    whole = path.read_bytes()
    assert [whole[slot * PAGE_SIZE] for slot in range(1, 10)] == [0, 20, 0, 0, 0, 0, 70, 80, 0]
    assert len(whole) == 10 * PAGE_SIZE
    assert read_header(whole).last_page == 9


def test_a_file_that_becomes_shorter_is_a_failing_disk(tmp_path: Path) -> None:
    """What is before the failing slot is done, and what is behind it too if that can be."""
    path = tmp_path / "area"
    path.write_bytes(bytes([5]) * 10 * PAGE_SIZE)
    store = opened(path)
    os.truncate(path, 4 * PAGE_SIZE + 100)
    out = pages_of(0, 0, 0)
    with pytest.raises(DiskError, match=r"slot 4 of .*area: it has become shorter"):
        read_many(store, slots_of(2, 3, 4), out)
    assert out[:2].min() == 5


@pytest.mark.parametrize("reading", [True, False])
def test_an_error_of_the_host_is_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: bool) -> None:
    """Whatever touches slot 3 behind its first bytes fails, and the host does no more than 4,192 bytes at once. So a run is tried, then each slot."""
    path = tmp_path / "area"
    path.write_bytes(bytes(10 * PAGE_SIZE))
    store, read, write = opened(path), os.preadv, os.pwrite
    asked: list[int] = []

    def failing(fd: int, data: Any, at: int) -> int:
        asked.append(at)
        if 3 * PAGE_SIZE < at < 4 * PAGE_SIZE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(fd, [data[0][:4192]], at) if reading else write(fd, data[:4192], at)

    monkeypatch.setattr(os, "preadv" if reading else "pwrite", failing)
    act, pages = store.read_pages if reading else store.write_pages, pages_of(1, 2, 3)
    assert act(slots_of(2, 4), pages, slots_of(0, 2)) == {}
    del asked[:]
    assert act(slots_of(2, 3, 4), pages, slots_of(0, 1, 2)) == {}, "slot by slot it can be done"
    monkeypatch.setattr(os, "preadv" if reading else "pwrite", lambda *args: min(failing(*args), 96))
    failures = act(slots_of(2, 3, 4), pages, slots_of(0, 1, 2))
    assert list(failures) == [1]
    assert "slot 3 of " in str(failures[1])
    assert "Input/output error" in str(failures[1])
    with pytest.raises(DiskError):
        store.read(3) if reading else store.write(3, pages[1])


def test_a_host_may_do_it_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """5,000 bytes at a time, of runs of three and one."""
    path = tmp_path / "area"
    path.write_bytes(bytes(10 * PAGE_SIZE))
    store, read, write = opened(path), os.preadv, os.pwrite
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: read(fd, [parts[0][:5000]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, part, at: write(fd, part[:5000], at))
    slots, out = slots_of(4, 5, 6, 2), pages_of(0, 0, 0, 0)
    pages = np.random.default_rng(1).integers(0, 256, out.shape, np.uint8)
    write_many(store, slots, pages)
    assert path.read_bytes()[4 * PAGE_SIZE : 7 * PAGE_SIZE] == pages[:3].tobytes()
    read_many(store, slots, out)
    assert (out == pages).all()


def test_devices_of_the_host_are_not_written_to() -> None:
    """And stay the caller's to close, as a file's descriptor is not."""
    fd = os.open("/dev/null", os.O_RDWR)
    with pytest.raises(UsageError, match="a null: slots are kept in regular files only"):
        FileAreaStore(fd, "a null")
    os.close(fd)


def test_the_descriptor_goes_with_the_store(tmp_path: Path) -> None:
    path = tmp_path / "area"
    path.write_bytes(bytes(2 * PAGE_SIZE))
    fd = os.open(path, os.O_RDWR)
    store = FileAreaStore(fd)
    store.write(1, pages_of(1)[0])
    del store
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_memory_is_committed_as_it_is_written() -> None:
    """16 GiB, of which two pages are touched."""
    store = MemoryAreaStore(4 << 20)
    store.write(3, pages_of(3)[0])
    store.write((4 << 20) - 1, pages_of(9)[0])
    assert (int(store.read(3)[0]), int(store.read((4 << 20) - 1)[5])) == (3, 9)
