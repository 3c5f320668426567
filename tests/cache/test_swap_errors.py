"""What is lost by an error of a disk, and to whom: only then, and each slot once.

slot 5    cannot be read --> mapped: a loss, seen
                         --> written with what was not read: others will see that too
                         --> dropped, read again: nothing
          cannot be written --> freed while entries name it: a loss, seen when it comes in
                            --> written again, or nobody names it: nothing
"""

import pytest

from rmaplab.cache.swap_errors import SwapErrors
from rmaplab.errors import DiskError
from rmaplab.machine.ledger import Ledger, PriceList

AT = 0x4000_0000
FAILURE = DiskError("EIO")


@pytest.fixture
def errors() -> SwapErrors:
    return SwapErrors(Ledger(PriceList("none", "a test's", {})))


def seen(errors: SwapErrors) -> list[list[tuple[int, int]]]:
    assert errors._ledger.counts["swap_lost"] == len(errors.lost)
    return [loss.seen for loss in errors.lost]


def test_a_page_that_was_not_read_is_lost_to_who_maps_it(errors: SwapErrors) -> None:
    errors.cannot_read(5, (1, 2), FAILURE)
    assert errors.any
    assert not errors.is_uptodate(5)
    assert errors.is_uptodate(6)
    errors.mapped(6, 1, AT)
    assert seen(errors) == []
    errors.mapped(5, 1, AT)
    errors.mapped(5, 2, AT)
    assert seen(errors) == [[(1, AT), (2, AT)]]
    assert str(errors.lost[0]) == (
        "slot 2 of area 1 was not read, and its page was mapped (EIO); who has seen it: pid 1 at 0x40000000, pid 2 at 0x40000000"
    )


def test_dropped_and_read_again_it_is_what_it_was(errors: SwapErrors) -> None:
    errors.cannot_read(5, (0, 5), FAILURE)
    errors.leaves_cache(5, is_named=True)
    assert errors.is_uptodate(5)
    errors.mapped(5, 1, AT)
    assert seen(errors) == []


def test_what_was_not_read_and_is_written_is_lost_to_all(errors: SwapErrors) -> None:
    errors.cannot_read(5, (0, 5), FAILURE)
    errors.mapped(5, 1, AT)
    errors.written([5])
    errors.leaves_cache(5, is_named=True)
    errors.mapped(5, 2, AT)
    assert seen(errors) == [[(1, AT), (2, AT)]]


@pytest.mark.parametrize("is_named", [True, False])
def test_a_page_that_was_not_written_is_lost_when_it_goes(errors: SwapErrors, is_named: bool) -> None:
    """If entries name its slot still: before, its bytes are in the cache."""
    errors.cannot_write(5, (0, 5), FAILURE)
    errors.mapped(5, 1, AT)
    assert seen(errors) == []
    errors.leaves_cache(5, is_named=is_named)
    assert seen(errors) == ([[]] if is_named else [])
    errors.mapped(5, 1, AT)
    assert seen(errors) == ([[(1, AT)]] if is_named else [])


def test_written_after_all(errors: SwapErrors) -> None:
    errors.cannot_write(5, (0, 5), FAILURE)
    errors.written([5])
    errors.leaves_cache(5, is_named=True)
    assert seen(errors) == []


def test_a_slot_that_was_free_is_somebody_elses(errors: SwapErrors) -> None:
    errors.cannot_write(5, (0, 5), FAILURE)
    errors.leaves_cache(5, is_named=True)
    errors.freed([4, 5])
    errors.mapped(5, 1, AT)
    assert seen(errors) == [[]]
