"""The machine put together: struct page columns, the ledger, page-table frames, the smallest box there can be."""

from collections import Counter

import numpy as np
import pytest

from rmaplab.errors import KernelBug, UsageError
from rmaplab.machine.allocator import Layout
from rmaplab.machine.entries import ENCODINGS, EntryEra
from rmaplab.machine.frames import Frames, clear_frames, copy_frames, put_pages
from rmaplab.machine.hardware import Hardware
from rmaplab.machine.ledger import Ledger, PriceList
from rmaplab.machine.machine import Machine
from rmaplab.machine.paging import FORMATS, paging_format
from rmaplab.machine.ram import Ram
from rmaplab.machine.sched_policy import SchedRules
from rmaplab.machine.watermarks import WatermarkRule

from .tools import due_ns

PRICES = PriceList("test", "made up for this test", {"table_alloc": 7, "walk": 3})
RULES = SchedRules(100, 200, 1, 200, one_queue=False, child_first=True)
MIB = 1 << 20


LAYOUT = Layout(lowmem_bytes=896 * MIB, image=1024, mem_map=0, rule=WatermarkRule.SUMMED, per_cpu_lists=False)


ENCODING = ENCODINGS[EntryEra.LINUX_2_6]["i386"]


def machine() -> Machine:
    """16 MiB, the first four of them the kernel's."""
    return Machine(Hardware(16 * MIB, 0, 2, FORMATS["i386"], 128, highpte=False), PRICES, RULES, LAYOUT, ENCODING)


def test_a_page_is_freed_by_whoever_drops_its_last_reference() -> None:
    """put_pages tells which pages nobody has any more, in order, also when a page is put more than once."""
    count = np.array([9, 2, 1, 2, 1], np.int32)
    freed = np.empty(4, np.int64)
    nr = put_pages(count, np.array([3, 2, 1, 3], np.int64), freed)
    assert freed[:nr].tolist() == [2, 3]
    assert count.tolist() == [9, 1, 0, 0, 1]


def test_copies_and_clearing_touch_only_what_was_written() -> None:
    """A copy has the bytes of its original and is marked as written; where nothing was written nothing is copied or cleared."""
    ram, frames = Ram(8), Frames(8)
    ram.bytes[1] = np.arange(4096) % 251
    frames.scribbled[1] = 1
    copy_frames(ram.bytes, frames.scribbled, np.array([1, 2], np.int64), np.array([5, 6], np.int64))
    np.testing.assert_array_equal(ram.bytes[5], ram.bytes[1])
    assert not ram.bytes[6].any()
    assert np.flatnonzero(frames.scribbled).tolist() == [1, 5]
    clear_frames(ram.bytes, frames.scribbled, np.array([5, 6], np.int64))
    assert not ram.bytes[5].any()
    assert np.flatnonzero(frames.scribbled).tolist() == [1]


def test_the_ledger_counts_everything_and_prices_what_has_a_price() -> None:
    """Counts and time add up; time is taken once; looking leaves no trace."""
    ledger = Ledger(PRICES)
    ledger.charge("walk", 5)
    ledger.charge("walk")
    ledger.charge("unpriced", 1000)
    assert ledger.counts == Counter(walk=6, unpriced=1000)
    assert (due_ns(ledger), due_ns(ledger)) == (18, 0)
    ledger.charge("walk", 2)
    before = ledger.snapshot()
    ledger.charge("walk", 100)
    ledger.restore(before)
    assert ledger.counts == Counter(walk=8, unpriced=1000)
    assert due_ns(ledger) == 6


def test_page_tables_are_counted_priced_and_zero() -> None:
    """A table is a zeroed frame; their number and peak are kept, their price is due, and check() sees a lost one."""
    box = machine()
    free = box.allocator.nr_free
    box.ram.bytes[1024:, 3] = 0xFF  # all frames that the kernel has not reserved
    box.frames.scribbled[1024:] = 1
    tables = box.alloc_tables(5)
    assert not box.ram.bytes[tables].any()
    assert (box.nr_tables, free - box.allocator.nr_free) == (5, 5)
    box.end_burst()
    assert (box.sched.now_ns, box.sched.system_ns, box.sched.user_ns) == (35, 35, 0)
    box.check()
    box.free_tables(tables[:2])
    assert (box.nr_tables, box.nr_tables_peak, free - box.allocator.nr_free) == (3, 5, 3)
    box.check()
    box.nr_tables -= 1
    with pytest.raises(KernelBug, match="nr_page_table_pages"):
        box.check()


def test_a_cache_is_made_once() -> None:
    """Two caches of one name cannot be told apart in slabinfo."""
    box = machine()
    box.cache("anon_vma", 12)
    with pytest.raises(KernelBug, match="anon_vma"):
        box.cache("anon_vma", 24)


def test_an_unknown_page_table_format_is_refused_with_those_there_are() -> None:
    """One line with the names to choose from."""
    assert paging_format("i386-pae") is FORMATS["i386-pae"]
    with pytest.raises(UsageError, match="i386, i386-pae, x86-64"):
        paging_format("sparc")
