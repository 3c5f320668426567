"""What bench-against measures: the same work in every run, and the work that its name says."""

from collections.abc import Callable
from functools import partial
from mmap import PROT_READ

import pytest

import rmaplab
from benchmarks import calls

SMALL = {
    "fault from outside": partial(calls.fault_from_outside, 3, 4),
    "fault under the scheduler": partial(calls.fault_under_the_scheduler, 3, 4),
    "mmap + munmap, alone": partial(calls.map_unmap, PROT_READ, None, number=3, stretches=4),
    "mmap + munmap, merges": partial(
        calls.map_unmap, calls.READ_WRITE, calls.READ_WRITE, touched=True, number=3, stretches=4
    ),
    "who_maps": partial(calls.who_maps, 1, 2),
    "check()": partial(calls.check, 1, 2),
}


@pytest.mark.parametrize("measure", SMALL.values(), ids=SMALL)
def test_the_same_work_in_every_run(measure: Callable[[], calls.Measured]) -> None:
    """Two runs count the same; only their times differ."""
    first, second = measure(), measure()
    assert first.counts == second.counts
    assert first.seconds > 0


def test_a_forkbench_run_counts_what_forkbench_counts() -> None:
    """Level 1: one fork of 131,072 entries, nothing failed."""
    measured = calls.forkbench(calls.AA1, 1)
    assert measured.counts["pte_copy"] == 131_072
    assert measured.counts["failed"] == 0


@pytest.mark.parametrize("nr", [1, 511, 512, 1100])
def test_fresh_pages_have_a_table_and_nothing_in_it(nr: int) -> None:
    """Writing to them takes a page each, and no page table."""
    system = rmaplab.boot(calls.AA1, ram="128M")
    task = system.spawn()
    pages = calls.fresh_pages(task, nr)
    machine = system.kernel.machine
    tables, faults = machine.nr_tables_peak, machine.ledger.counts["anon_fault"]
    addresses = [next(pages) for _ in range(nr)]
    assert not any(system.who_maps(task, address) for address in addresses)
    for address in addresses:
        task.touch(address, 1, write=True)
    assert all(system.who_maps(task, address) for address in addresses)
    assert machine.nr_tables_peak == tables
    assert machine.ledger.counts["anon_fault"] == faults + nr


def test_who_maps_finds_all_sharers() -> None:
    """A hundred, as the call's name says."""
    assert calls.who_maps(1, 1).counts["mappings"] == calls.SHARERS == 100
