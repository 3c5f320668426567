"""Swap slots and their cache: uses are counted, nothing is freed while somebody names it, and check() recounts."""

import numpy as np
import pytest

from rmaplab.cache.swap import Swap
from rmaplab.errors import KernelBug
from rmaplab.machine.arrays import I64
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


def no_disk() -> Disk:
    """One that takes no time."""
    rules = SchedRules(10**6, 10**6, 10**6, 10**6, one_queue=False, child_first=True)
    return Disk(NO_TIME, Scheduler(rules, 1), Ledger(PriceList("none", "a test's", {})))


@pytest.fixture
def swap() -> Swap:
    """Four frames, and an area of three slots behind its header."""
    return Swap(Ram(4), Frames(4), ENCODING, 4, no_disk())


def entries(swap: Swap, *slots: int) -> I64:
    return np.array([swap.entry(slot) for slot in slots], np.int64)


def test_slot_0_is_the_header_and_a_full_area_says_so(swap: Swap) -> None:
    assert [swap.get_slot() for _ in range(4)] == [1, 2, 3, 0]
    assert swap.nr_used == 3


def test_a_box_without_swap_has_no_slot() -> None:
    assert Swap(Ram(1), Frames(1), ENCODING, 0, no_disk()).get_slot() == 0


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
