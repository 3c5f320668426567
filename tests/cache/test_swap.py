"""Swap slots and their cache: uses are counted, nothing is freed while somebody names it, and check() recounts."""

import numpy as np
import pytest

from rmaplab.cache.area_store import AreaStore, MemoryAreaStore
from rmaplab.cache.swap import Swap
from rmaplab.cache.swap_area import SwapArea
from rmaplab.errors import KernelBug, SyscallError
from rmaplab.machine.arrays import I64, U8
from rmaplab.machine.disk import Disk
from rmaplab.machine.entries import ENCODINGS, EntryEra
from rmaplab.machine.frames import PG_SWAPCACHE, Frames
from rmaplab.machine.hardware import NO_TIME
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.ram import Ram
from rmaplab.machine.sched import Scheduler
from rmaplab.machine.sched_policy import SchedRules

ENCODING = ENCODINGS[EntryEra.LINUX_2_6]["i386"]
NONE: I64 = np.empty(0, np.int64)


def disk() -> tuple[Disk, Ledger]:
    """One that takes no time."""
    rules = SchedRules(10**6, 10**6, 10**6, 10**6, one_queue=False, child_first=True)
    ledger = Ledger(PriceList("none", "a test's", {}))
    return Disk(NO_TIME, Scheduler(rules, 1), ledger), ledger


@pytest.fixture
def swap() -> Swap:
    """Four frames, and an area of three slots behind its header."""
    swap = Swap(Ram(4), Frames(4), ENCODING, *disk())
    swap.swapon(SwapArea(4), MemoryAreaStore(4))
    return swap


def entries(swap: Swap, *slots: int) -> I64:
    return np.array([swap.entry(slot) for slot in slots], np.int64)


def test_slot_0_is_the_header_and_a_full_area_says_so(swap: Swap) -> None:
    assert [swap.get_slot() for _ in range(4)] == [1, 2, 3, 0]
    assert swap.nr_used == 3


def test_a_box_without_swap_has_no_slot() -> None:
    assert Swap(Ram(1), Frames(1), ENCODING, *disk()).get_slot() == 0


def test_bytes_go_out_and_come_back(swap: Swap) -> None:
    """Out of frame 1 by slot 1 into frame 2, though frame 1 holds something else by then."""
    frames, ram = swap._frames, swap._ram
    ram.bytes[1, :5] = list(b"bytes")
    swap.add(1, swap.get_slot())
    assert (frames.count[1], frames.private[1]) == (1, 1)
    swap.write(np.array([1]))
    swap.duplicate(entries(swap, 1))
    swap.delete(1)
    ram.bytes[1] = 0
    assert (frames.count[1], int(frames.flags[1] & PG_SWAPCACHE)) == (0, 0)
    swap.start_reading(np.array([1]), np.array([2]))
    assert not swap.is_locked(2)
    assert bytes(ram.bytes[2, :5]) == b"bytes" == bytes(swap.bytes_of(1)[:5])
    swap.check(entries(swap, 1))


def test_the_lowest_free_slot_is_taken_again(swap: Swap) -> None:
    for _ in range(3):
        swap.get_slot()
    swap.free(entries(swap, 2))
    assert swap.get_slot() == 2


def test_who_is_left_alone_in_the_cache_is_told(swap: Swap) -> None:
    """free_swap_and_cache: the last entry goes, and only the cache has the page; not while somebody else has it too."""
    swap.add(1, swap.get_slot())
    swap.duplicate(entries(swap, 1, 1))
    assert swap.free(entries(swap, 1)) == []
    swap._frames.count[1] += 1
    assert swap.free(entries(swap, 1)) == []
    swap.duplicate(entries(swap, 1))
    swap._frames.count[1] -= 1
    assert swap.free(entries(swap, 1)) == [1]


def test_what_no_slot_or_area_has_is_refused(swap: Swap) -> None:
    """A slot nobody uses, one beyond the end, another area."""
    for entry in (swap.entry(1), swap.entry(9), ENCODING.swap_entry(1, 1)):
        with pytest.raises(KernelBug, match="bad swap file entry"):
            swap.duplicate(np.array([entry], np.int64))


def test_check_recounts(swap: Swap) -> None:
    """One use too many, one too few, a page in the cache that does not say so."""
    swap.add(1, swap.get_slot())
    swap.check(NONE)
    swap.users[1] += 1
    with pytest.raises(KernelBug, match="slot 1 says 2 users, there are 1"):
        swap.check(NONE)
    swap.check(entries(swap, 1))
    swap._frames.flags[1] = 0
    with pytest.raises(KernelBug, match="disagree"):
        swap.check(entries(swap, 1))
    with pytest.raises(KernelBug, match="not in the cache"):
        swap.delete(2)


# -- several areas -----------------------------------------------------------------------------------------------------
#
#     users    | area 0: 0 1 2 3 | area 1: 0 1 2 ... 8 | area 2: 0 1 |            after area 1 has gone, one of 5 slots finds room there
#     base       0                 4                     13


@pytest.fixture
def three() -> Swap:
    """Areas of 3, 8 and 1 slots behind their headers, all of priority 5, and sixteen frames."""
    swap = Swap(Ram(16), Frames(16), ENCODING, *disk())
    for nr in (4, 9, 2):
        swap.swapon(SwapArea(nr), MemoryAreaStore(nr), 5)
    return swap


def test_every_slot_of_every_area_is_one_number(three: Swap) -> None:
    """They take turns, the newest first; the smallest is out of it when it is full. An entry says area and slot, and leads back."""
    slots = [three.get_slot() for _ in range(13)]
    found = [three.place(slot) for slot in slots[:-1]]
    assert found[:6] == [(2, 1), (1, 1), (0, 1), (1, 2), (0, 2), (1, 3)]
    assert sorted(found) == [(0, 1), (0, 2), (0, 3), *((1, n) for n in range(1, 9)), (2, 1)]
    assert slots[-1] == 0
    assert (three.nr_free, three.nr_used) == (0, 12)
    named = entries(three, *slots[:-1])
    assert [ENCODING.swap_slot(int(entry)) for entry in named] == found
    assert three.slots_of(named).tolist() == slots[:-1]


def test_uses_are_counted_in_their_own_area(three: Swap) -> None:
    """A batch of entries of all three, copied and freed at once."""
    slots = [three.get_slot() for _ in range(12)]
    three.duplicate(entries(three, *slots[:5], slots[0]))
    assert [int(three.users[slot]) for slot in slots] == [3, 2, 2, 2, 2, *[1] * 7]
    assert [int(three.areas.areas[number].users[own]) for number, own in map(three.place, slots[:3])] == [3, 2, 2]
    three.use(slots[11])
    three.free(entries(three, *slots, *slots[:5], slots[0], slots[11]))
    assert (three.nr_used, three.nr_free) == (0, 12)
    three.check(NONE)


def test_bytes_go_to_the_area_that_their_slot_is_of(three: Swap) -> None:
    """The same slot of three areas, and whoever stands before one of them sees its bytes go by."""
    seen: list[int] = []

    class Watched(AreaStore):
        def __init__(self, store: AreaStore) -> None:
            self.store = store

        def read(self, slot: int) -> U8:
            return self.store.read(slot)

        def write(self, slot: int, page: U8) -> None:
            seen.append(slot)
            self.store.write(slot, page)

    three.stores[1] = Watched(three.stores[1])
    slots = [three.get_slot() for _ in range(3)]
    for pfn, slot in enumerate(slots):
        three._ram.bytes[pfn] = 10 + pfn
        three.add(pfn, slot)
        three.write(np.array([pfn]))
        three.use(slot)
        three.delete(pfn)
    assert seen == [1]
    for pfn, slot in enumerate(slots):
        three.start_reading(np.array([slot]), np.array([9]))
        assert (three._ram.bytes[9] == 10 + pfn).all()
        assert (three.bytes_of(slot) == 10 + pfn).all()


def test_a_block_ends_where_its_area_does(three: Swap) -> None:
    """Blocks of 8 slots: of area 1 those from 1 to 7 and 8 alone, up to the first that is free. Area 0 has 3, whatever lies behind it."""
    for _ in range(12):
        three.get_slot()
    base = three.base_of(1)
    assert three.block_of(3, 8) == range(1, 4)
    assert three.block_of(base + 3, 8) == range(base + 1, base + 8)
    assert three.block_of(base + 8, 8) == range(base + 8, base + 9)
    three.free(entries(three, base + 5))
    assert three.block_of(base + 6, 8) == range(base + 1, base + 5)


def test_an_area_that_is_gone_leaves_its_place(three: Swap) -> None:
    """Its number and its place are the next one's that fits; entries that name it are bad; the others' numbers stay."""
    slots = [three.get_slot() for _ in range(12)]
    first = [slot for slot in slots if three.place(slot)[0] == 1]
    others = entries(three, *(slot for slot in slots if slot not in first))
    three.areas.leave(1)
    with pytest.raises(KernelBug, match="in use"):
        three.release(1)
    three.free(gone := entries(three, *first))
    three.release(1)
    with pytest.raises(KernelBug, match="bad swap file entry"):
        three.slots_of(gone[:1])
    three.check(others)
    assert three.swapon(SwapArea(5), MemoryAreaStore(5), 5) == 1
    assert three.base_of(1) == 4
    assert three.swapon(SwapArea(6), MemoryAreaStore(6), 5) == 3
    assert three.base_of(3) == 15
    assert [three.place(three.get_slot()) for _ in range(3)] == [(3, 1), (1, 1), (3, 2)]
    three.check(np.concatenate((others, entries(three, 16, 5, 17))))


def test_who_looks_at_a_page_of_a_better_area_brings_the_search_back() -> None:
    """can_share_swap_page asks for the slot's area (F.1): of a page that the cache and one more have, and where there is more than one area."""
    swap = Swap(Ram(4), Frames(4), ENCODING, *disk())
    for priority in (1, 1, 7):
        swap.swapon(SwapArea(3), MemoryAreaStore(3), priority)
    taken = [swap.get_slot() for _ in range(3)]
    assert [swap.place(slot)[0] for slot in taken] == [2, 2, 1]
    assert swap.areas.next == 0
    swap.add(1, taken[0])
    swap.look_up_pages(np.array([1, 2]))
    assert swap.areas.next == 0, "only the cache has it"
    swap._frames.count[1] += 1
    swap.look_up_pages(np.array([1, 2]))
    assert swap.areas.next == 2


def test_as_many_areas_as_an_entry_can_name() -> None:
    """6.18 has other uses for the types from 27 on."""
    swap = Swap(Ram(1), Frames(1), ENCODINGS[EntryEra.LINUX_6_18]["x86-64"], *disk())
    for _ in range(27):
        swap.swapon(SwapArea(2), MemoryAreaStore(2))
    with pytest.raises(SyscallError, match="27 swap areas"):
        swap.swapon(SwapArea(2), MemoryAreaStore(2))
