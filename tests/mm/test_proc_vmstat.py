"""/proc/vmstat: names of the day, and events that agree with each other and with what there is.

given to the page allocator (pgfree, boot's share too) = taken from it (pgalloc) + free + on a CPU's list
"""

from __future__ import annotations

import pytest

import rmaplab
from rmaplab.kernels.system import System
from rmaplab.lab.conformance.pressure_run import install
from rmaplab.machine.allocator import Gfp
from rmaplab.machine.frames import PG_WRITEBACK
from rmaplab.objects.flags import MAP_ANONYMOUS, MAP_SHARED
from rmaplab.reclaim.direct import DirectReclaim
from rmaplab.reclaim.shrink import Scan
from rmaplab.units import PAGE_SIZE

from .tools import pressure

SWAPPING = [("2.6.2", 3), ("2.6.5-rc1", 4), ("2.6.5-rc1-aa1", 5), ("2.6.7", 6)]
ZONES = ("high", "normal", "dma")
CALLS = 60


def over_zones(found: dict[str, int], event: str) -> int:
    """The sum of what is by zone, or the one number."""
    return found[event] if event in found else sum(found[f"{event}_{zone}"] for zone in ZONES)


def test_the_names_of_2_6_2_and_of_2_6_7() -> None:
    """vmstat_text; since 11 March 2004 by zone (HT:927e073cd0)."""
    early, late = (list(rmaplab.boot(kernel, ram="64M").vmstat()) for kernel in ("2.6.2", "2.6.7"))
    assert early == [
        "nr_dirty", "nr_writeback", "nr_unstable", "nr_page_table_pages", "nr_mapped", "nr_slab", "pgpgin", "pgpgout", "pswpin", "pswpout",
        "pgalloc", "pgfree", "pgactivate", "pgdeactivate", "pgfault", "pgmajfault", "pgscan", "pgrefill", "pgsteal", "pginodesteal",
        "kswapd_steal", "kswapd_inodesteal", "pageoutrun", "allocstall", "pgrotated",
    ]  # fmt: skip
    assert late[:10] == early[:10]
    assert late[10:] == [
        "pgalloc_high", "pgalloc_normal", "pgalloc_dma", "pgfree", "pgactivate", "pgdeactivate", "pgfault", "pgmajfault",
        "pgrefill_high", "pgrefill_normal", "pgrefill_dma", "pgsteal_high", "pgsteal_normal", "pgsteal_dma",
        "pgscan_kswapd_high", "pgscan_kswapd_normal", "pgscan_kswapd_dma", "pgscan_direct_high", "pgscan_direct_normal", "pgscan_direct_dma",
        "pginodesteal", "slabs_scanned", "kswapd_steal", "kswapd_inodesteal", "pageoutrun", "allocstall", "pgrotated",
    ]  # fmt: skip
    for kernel in ("2.6.5-rc1", "2.6.5-rc1-aa1", "2.6.5-rc3-aa3"):
        assert list(rmaplab.boot(kernel, ram="64M").vmstat()) == late


def test_2_4_has_two_lines_of_proc_stat() -> None:
    """KiB and pages."""
    system = rmaplab.boot("2.4.21", ram="64M")
    read(system, 6)
    assert system.vmstat() == {"pgpgin": 24, "pgpgout": 0, "pswpin": 0, "pswpout": 0}
    assert system.proc_vmstat() == "page 24 0\nswap 0 0\n"


def test_a_line_has_a_name_and_a_number() -> None:
    lines = rmaplab.boot("2.6.7", ram="64M").proc_vmstat().splitlines()
    assert lines[0] == "nr_dirty 0"
    assert all(len(line.split(" ")) == 2 for line in lines)


@pytest.mark.parametrize(("kernel", "seed"), SWAPPING)
def test_events_under_pressure(kernel: str, seed: int) -> None:
    """After each of many calls. pswpout is what the disk was given to write, also in KiB; a page is looked at before it is stolen; one major fault reads a page or more."""
    before = dict[str, int]()

    def look(system: System) -> None:
        machine, found = system.machine, system.vmstat()
        counts = machine.ledger.counts
        assert (found["pgpgin"], found["pgpgout"]) == (4 * found["pswpin"], 4 * found["pswpout"])
        assert (found["pswpin"], found["pswpout"]) == (counts["swap_read"], counts["swap_write"])
        assert over_zones(found, "pgfree") == over_zones(found, "pgalloc") + machine.allocator.nr_unused
        scanned = over_zones(found, "pgscan" if "pgscan" in found else "pgscan_direct")
        assert (scanned, over_zones(found, "pgrefill")) == (counts["pgscan"], counts["pgrefill"])
        assert over_zones(found, "pgsteal") <= scanned
        assert found["pgdeactivate"] <= over_zones(found, "pgrefill")
        assert found["pgmajfault"] <= min(found["pgfault"], found["pswpin"])
        assert found["pgrotated"] <= found["pswpout"]
        assert found["nr_writeback"] == int((machine.frames.flags & PG_WRITEBACK != 0).sum())
        assert all(found[name] >= nr for name, nr in before.items() if not name.startswith("nr_"))
        before.update(found)

    pressure(kernel, seed, CALLS, look)
    assert before["pswpout"]
    assert before["allocstall"]
    assert before["pgmajfault"]


def test_what_reclaim_does_is_counted_where_it_does_it() -> None:
    """17 MiB: DMA, and 256 pages of NORMAL behind it. Five active ones are looked at; three that are made inactive too, and counted as four."""
    system = rmaplab.boot("2.6.7", ram="17M", swap="4M", boot_use=0, pages_min=4, paging="i386")
    reclaim = install(system)
    assert isinstance(reclaim, DirectReclaim)
    task = system.spawn()
    at = task.mmap(200 * PAGE_SIZE)
    task.touch(at, 200 * PAGE_SIZE, write=True)
    normal = [zone.name for zone in system.machine.allocator.zones].index("NORMAL")
    reclaim.shrinker.refill_inactive_zone(normal, 5, 0)
    lists = reclaim.shrinker.lists
    lists.add(lists.take(normal, 3, active=True), active=False)
    reclaim.shrinker.shrink_cache(normal, 3, 3, Scan())
    found = system.vmstat()
    assert [found[f"pgrefill_{zone}"] for zone in ZONES] == [0, 5, 0]
    assert [found[f"pgscan_direct_{zone}"] for zone in ZONES] == [0, 4, 0]
    assert found["pgalloc_normal"] >= 160


def test_what_fails_was_never_taken() -> None:
    """A request for more than there is leaves pgalloc as it was, although pages were taken for it and given back."""
    system = rmaplab.boot("2.6.2", ram="64M", boot_use="4M", paging="i386")
    allocator = system.machine.allocator
    before = system.vmstat()
    for order in (0, 4):
        assert allocator.take(allocator.nr_free + 100, Gfp.HIGHUSER, order, zeroed=False) is None
    assert {name: system.vmstat()[name] for name in ("pgalloc", "pgfree")} == {
        name: before[name] for name in ("pgalloc", "pgfree")
    }


@pytest.mark.parametrize("kernel", ["2.6.2", "2.6.7", "6.18"])
def test_faults_are_counted_one_by_one(kernel: str) -> None:
    """8 first writes, 8 copies after a fork, 8 reads of the zero page: in one go as one by one."""
    found = []
    for step in (8, 1):
        system = rmaplab.boot(kernel, ram="64M", boot_use="4M", paging="x86-64")
        task = system.spawn()
        at = task.mmap(16 * PAGE_SIZE)
        for start, write in ((0, True), (8, False)):
            for page in range(start, start + 8, step):
                task.touch(at + page * PAGE_SIZE, step * PAGE_SIZE, write=write)
        child = task.fork()
        for page in range(0, 8, step):
            child.touch(at + page * PAGE_SIZE, step * PAGE_SIZE, write=True)
        found.append(system.vmstat()["pgfault"])
    assert found == [24, 24]


def read(system: System, nr: int) -> None:
    """A file of so many pages on the disk is read with read(2)."""
    task = system.spawn()
    task.pread(task.open(system.new_file(b"x" * nr * PAGE_SIZE)), nr * PAGE_SIZE, 0)


@pytest.mark.parametrize(("kernel", "expected"), [("2.6.2", 1), ("2.6.7", 1), ("6.18", 1)])
def test_a_fault_that_must_read_is_a_major_one(kernel: str, expected: int) -> None:
    """The first touch of a mapped file; its neighbours came with it, and a second task finds all of it."""
    system = rmaplab.boot(kernel, ram="64M", boot_use="4M", paging="x86-64")
    file = system.new_file(b"x" * 4 * PAGE_SIZE)
    for _ in range(2):
        task = system.spawn()
        at = task.mmap(4 * PAGE_SIZE, flags=MAP_SHARED, file=task.open(file, writable=True))
        for page in range(4):
            task.touch(at + page * PAGE_SIZE, PAGE_SIZE)
        assert system.vmstat()["pgmajfault"] == expected
    assert system.vmstat()["pgpgin"] == 16


def test_tmpfs_is_read_from_no_disk() -> None:
    """No major fault, and nothing dirty that a disk should have."""
    system = rmaplab.boot("2.6.7", ram="64M", boot_use="4M", paging="x86-64")
    task = system.spawn()
    at = task.mmap(4 * PAGE_SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)
    task.touch(at, 4 * PAGE_SIZE, write=True)
    task.munmap(at, 4 * PAGE_SIZE)
    found = system.vmstat()
    assert (found["pgmajfault"], found["nr_dirty"], found["pgpgout"]) == (0, 0, 0)


def test_what_is_written_to_a_file_is_on_its_way_and_then_is_not() -> None:
    """Three pages, fsync: dirty, then written, 12 KiB."""
    system = rmaplab.boot("2.6.7", ram="64M", boot_use="4M", paging="x86-64")
    task = system.spawn()
    fd = task.open(system.new_file(b"x" * 3 * PAGE_SIZE), writable=True)
    task.pwrite(fd, b"y" * 3 * PAGE_SIZE, 0)
    assert system.vmstat()["nr_dirty"] == 3
    task.fsync(fd)
    found = system.vmstat()
    assert (found["nr_dirty"], found["nr_writeback"], found["pgpgout"]) == (0, 0, 12)
