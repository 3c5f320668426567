"""The 4:4 slowdown, counted: two TLB flushes for each system call, fault and tick, where user and kernel share no page table."""

from __future__ import annotations

import json

import pytest

import rmaplab
from rmaplab.cli import main
from rmaplab.kernels.box import announced
from rmaplab.lab.announcement.experiment import run_forkbench
from rmaplab.lab.announcement.kernel_entries import KernelEntries, kernel_entries
from rmaplab.machine.paging import FORMATS, SPLITS, paging_format
from rmaplab.units import PAGE_SIZE

Capture = pytest.CaptureFixture[str]
SMALL = ("compare", "forkbench", "--levels", "1", "--kernels", "2.6.2,2.6.5-rc1-aa1")


def said(capsys: Capture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    assert done.value.code == 0
    return capsys.readouterr().out


def test_page_tables_are_switched_where_addresses_mean_two_things() -> None:
    """User space ends where the kernel begins, or the kernel has all addresses for itself: of the splits that is 4:4 alone."""
    assert [name for name, split in SPLITS.items() if split.overlaps] == ["4:4"]
    assert paging_format("i386", "4:4").switches_tables
    assert paging_format("i386-pae", "4:4").switches_tables
    assert not any(paging.switches_tables for paging in FORMATS.values())
    assert not paging_format("i386-pae", "2:2").switches_tables


@pytest.mark.parametrize("split", ["3:1", "2:2"])
def test_other_splits_have_none(split: str) -> None:
    """Nothing is counted, and nothing is in the JSON of a result."""
    system = rmaplab.boot("2.6.2", ram="64M", split=split)
    assert kernel_entries(system) is None


def test_each_entry_is_counted_once() -> None:
    """By hand: calls that return and one that does not, faults of each kind, page by page; reads of what is there are none."""
    system = rmaplab.boot("2.6.2", ram="64M", split="4:4", cpus=1)
    task = system.spawn()
    address = task.mmap(64 * PAGE_SIZE)  # a call
    task.touch(address, 10 * PAGE_SIZE)  # 10 faults: zeros
    task.touch(address, 20 * PAGE_SIZE, write=True)  # 20
    task.touch(address, 20 * PAGE_SIZE)
    child = task.fork()  # a call
    child.touch(address, 5 * PAGE_SIZE, write=True)  # 5: copies
    child.exit()  # a call
    task.touch(address, 20 * PAGE_SIZE, write=True)  # 20: reuses, or copies
    task.wait()  # a call
    task.munmap(address, 64 * PAGE_SIZE)  # a call
    found = kernel_entries(system)
    assert found is not None
    assert (found.system_calls, found.faults) == (5, 55)
    assert found.ticks == system.machine.sched.user_ns // 1_000_000  # HZ 1000
    assert found.flushes == 2 * found.nr == 2 * (60 + found.ticks)
    #   10 zero pages replaced, 5 copies, 20 reuses or copies, fork, exit, munmap
    assert found.flushes_unsplit == 35 + 3


def test_forkbench_is_mostly_faults() -> None:
    """Level L: a fault per page of the 512 MiB, 2^L exits, forks and waits; what it costs beside another split is there too."""
    split = run_forkbench("2.6.5-rc1-aa1", 3, announced(split="4:4"))
    found = split.kernel_entries
    assert found is not None
    assert found.faults == 131_072
    assert found.system_calls == 1 + 7 + 7 + 8  # mmap, forks, waits, exits
    assert found.flushes == 2 * found.nr
    other = run_forkbench("2.6.5-rc1-aa1", 3, announced(ram="2G", split="2:2"))
    assert other.kernel_entries is None
    assert other.ledger is not None
    #   8 exits of 131,072 pages and 256 page tables, 506 a time, and 7 forks; and some context switches
    assert other.ledger["tlb_flush_mm"] == 8 * 260 + 7
    assert found.flushes_unsplit >= 8 * 260 + 7 + 8
    assert found.flushes > 100 * other.ledger["tlb_flush_mm"]


def test_the_json_has_it_where_it_means_something(capsys: Capture) -> None:
    """A key of its own, and none of it elsewhere: the rows of other splits are as they were."""
    plain, split = (
        json.loads(said(capsys, *SMALL, "--format", "json", *more))["rows"] for more in ((), ("--split", "4:4"))
    )
    assert all("kernel_entries" not in row for row in plain)
    for row in split:
        entries = row["kernel_entries"]
        assert entries["tlb_flushes"] == 2 * (entries["system_calls"] + entries["faults"] + entries["ticks"])
        assert row.keys() - {"kernel_entries"} == plain[0].keys()


def test_the_table_has_it_where_it_means_something(capsys: Capture) -> None:
    """A table of its own below the others, which stay as they are; `run` has two lines more."""
    plain, split = (said(capsys, *SMALL, *more) for more in ((), ("--split", "4:4")))
    assert "TLB flushes" not in plain
    table = split[split.index("split 4:4: two TLB flushes per kernel entry") :]
    assert table.count("131,072") == 2
    one = ("run", "forkbench", "--kernel", "2.6.2", "--level", "1")
    assert "kernel entries" not in said(capsys, *one)
    split = said(capsys, *one, "--split", "4:4")
    assert "kernel entries" in split
    assert "TLB flushes, split 4:4" in split


def test_flushes_are_two_an_entry() -> None:
    """Whatever the entries are."""
    entries = KernelEntries(3, 5, 7, 1)
    assert (entries.nr, entries.flushes) == (15, 30)
    assert entries.as_json() == {
        "system_calls": 3,
        "faults": 5,
        "ticks": 7,
        "tlb_flushes": 30,
        "tlb_flushes_unsplit": 1,
    }
